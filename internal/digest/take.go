package digest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/quarantine"
)

// Message is a mail that came to Config.Release.
type Message struct {
	// Account is the authenticated account that submitted it, 0 for none.
	Account envelope.AccountID
	// From is the address in its From field if that is proven, by DMARC or by aligned SPF or DKIM;
	// zero when it is not.
	From   address.Address
	Header []byte // as received
	Text   string // the visible text; content.Content's
}

// Errors of Take; any other is temporary.
var (
	ErrNothing  = errors.New("the mail names no message: its subject must be as the digest's link makes it")
	ErrNotTheir = errors.New("the mail is not proven to be from the account that the digest went to")
	ErrToken    = fmt.Errorf("nothing is released: %w", errToken)
)

// command is a line by which a mail releases; only such lines at the top of the text count, and
// the subject, since below them programs quote the digest with all its tokens.
var command = regexp.MustCompile(`(?i)^(?:\s*(?:re|odp)\s*:)*\s*(release|stop|zwolnij)\s+([0-9a-v]{72})\s*$`)

// maxCommands bounds those of one mail.
const maxCommands = 20

// verb is a command as read.
type verb struct {
	stop  bool
	token string
}

// verbs reads the commands of a mail.
func verbs(header []byte, text string) []verb {
	var all []verb
	take := func(s string) bool {
		m := command.FindStringSubmatch(s)
		if m == nil || len(all) == maxCommands {
			return false
		}
		all = append(all, verb{strings.EqualFold(m[1], "stop"), m[2]})
		return true
	}
	subject, _ := message.Get(header, "Subject")
	take(mime.DecodeWords(subject))
	for s := range strings.Lines(text) {
		if strings.TrimSpace(s) != "" && !take(strings.TrimSpace(s)) {
			break
		}
	}
	return all
}

// Take does what a mail to Config.Release asks for: "release TOKEN" or "stop TOKEN" in the subject
// or in the first lines. Token and sender must both fit. It returns how many messages it released;
// that one was released before is no error. Automatic mail does nothing (RFC 3834 §2).
func (d *Digest) Take(ctx context.Context, m Message) (released int, err error) {
	if v, ok := message.Get(m.Header, "Auto-Submitted"); ok && !strings.EqualFold(strings.TrimSpace(v), "no") {
		return 0, ErrNothing
	}
	all := verbs(m.Header, m.Text)
	if len(all) == 0 {
		return 0, ErrNothing
	}
	key, err := d.secret(ctx)
	if err != nil {
		return 0, err
	}
	for _, v := range all {
		want := forMail
		if v.stop {
			want = forStop
		}
		t, err := parseToken(v.token, key, d.cfg.Now(), want)
		if err != nil {
			d.refused()
			return released, ErrToken
		}
		if err := d.theirs(ctx, t.account, m); err != nil {
			return released, err
		}
		if v.stop {
			err = d.stop(ctx, t.account)
		} else {
			var n int
			n, err = d.release(ctx, t, "mail")
			released += n
		}
		if err != nil {
			return released, err
		}
	}
	return released, nil
}

// theirs checks that a mail is from the account.
func (d *Digest) theirs(ctx context.Context, id envelope.AccountID, m Message) error {
	if m.Account != 0 {
		if m.Account != id {
			return ErrNotTheir
		}
		return nil
	}
	if m.From.IsZero() {
		return ErrNotTheir
	}
	acc, err := d.cfg.People.ByID(ctx, id)
	if errors.Is(err, account.ErrNotFound) || err == nil && acc.State != account.Active {
		return ErrNotTheir
	}
	if err != nil {
		return err
	}
	for _, own := range append(acc.Addresses, acc.Address) {
		if own.Key() == m.From.Key() {
			return nil
		}
	}
	return ErrNotTheir
}

func (d *Digest) refused() {
	if d.cfg.Hooks.Refused != nil {
		d.cfg.Hooks.Refused()
	}
}

func (d *Digest) did(what string) {
	if d.cfg.Hooks.Action != nil {
		d.cfg.Hooks.Action(what)
	}
}

// release releases a token's message unless only an operator may; 0 when it is gone.
func (d *Digest) release(ctx context.Context, t token, by string) (int, error) {
	it, err := d.cfg.Quarantine.Show(ctx, t.account, t.id)
	if errors.Is(err, quarantine.ErrNotFound) || err == nil && dangerous(it.Rule) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := d.cfg.Quarantine.Release(ctx, quarantine.Filter{Account: t.account, ID: t.id}, "the recipient, by "+by)
	if n > 0 {
		d.did("release")
	}
	return n, err
}

// stop ends an account's digests.
func (d *Digest) stop(ctx context.Context, id envelope.AccountID) error {
	stopped := false
	_, err := d.cfg.Wishes.Change(ctx, id, func(s preference.Settings) preference.Settings {
		stopped = s.Digest != preference.No
		s.Digest = preference.No
		return s
	})
	if err != nil || !stopped {
		return err
	}
	d.did("stop")
	return nil
}
