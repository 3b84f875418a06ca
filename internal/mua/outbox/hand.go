package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mua/profile"
)

// ErrAccount means that no account fits what a program hands in.
var ErrAccount = errors.New("no account of yours may write from this address")

// Handed is what a program hands in, as to sendmail.
type Handed struct {
	// Recipients are addresses, or bare names of the account's own domain.
	Recipients []string
	// FromFields takes the recipients from To, Cc and Bcc too (sendmail -t); those in Recipients
	// are added to them.
	FromFields bool
	From       string // the reverse-path (-f); "" is the From field's, or the account's address
	Name       string // for a From field that is added (-F)
	// Account names an account; "" is the one that owns From, or else the only or first one.
	Account    string
	Notify     envelope.Notify
	Return     envelope.Return
	EnvelopeID string
}

// Hand takes a letter from a program: it finds the account by who writes, adds the fields that are
// missing, and puts it. ErrAccount, ErrRecipients, ErrAddress.
func (o *Outbox) Hand(ctx context.Context, h Handed, r io.Reader) (ID, error) {
	t, err := open(r)
	if err != nil {
		return 0, err
	}
	t.strip(message.IsMboxLine)
	author := firstAddress(t.get("From"))
	a, err := o.owner(ctx, h, author)
	if err != nil {
		return 0, err
	}
	l := Letter{Account: a.ID, Notify: h.Notify, Return: h.Return, EnvelopeID: h.EnvelopeID, ReversePath: h.From}
	if l.ReversePath != "" && l.ReversePath != "<>" {
		l.ReversePath = qualified(strings.Trim(h.From, "<>"), &a)
	}
	if l.ReversePath == "" && author != "" && a.Owns(author) {
		l.ReversePath = author
	}
	if l.ReversePath != "" && l.ReversePath != "<>" && !a.Owns(l.ReversePath) { // as cron's user@host: the server would refuse it
		l.ReversePath = ""
	}
	if l.Recipients, err = recipients(t, &h, &a); err != nil {
		return 0, err
	}
	t.author(&h, &a, author)
	if len(keysOf(t.head, "To", "Cc")) == 0 && t.get("To") == "" && t.get("Cc") == "" {
		t.add("To", "undisclosed-recipients:;")
	}
	return o.put(ctx, l, t)
}

// owner finds the account that writes.
func (o *Outbox) owner(ctx context.Context, h Handed, author string) (profile.Account, error) {
	all, err := o.c.Accounts.List(ctx)
	if err != nil {
		return profile.Account{}, fmt.Errorf("read accounts: %w", err)
	}
	if a, err := profile.ChooseServed(all, h.Account); h.Account != "" && errors.Is(err, profile.ErrArchive) {
		return a, fmt.Errorf("%w: %w", ErrAccount, err)
	}
	all = profile.Served(all)
	if h.Account != "" {
		for _, a := range all {
			if a.Owns(h.Account) || fmt.Sprint(a.ID) == h.Account {
				return a, nil
			}
		}
		return profile.Account{}, fmt.Errorf("%w: there is no account %s; see poczta mail accounts", ErrAccount, h.Account)
	}
	for _, from := range []string{author, strings.Trim(h.From, "<>")} {
		for _, a := range all {
			if from != "" && a.Owns(from) {
				return a, nil
			}
		}
	}
	// A program of this computer that writes as user@host, as cron does: the first account sends it.
	if len(all) > 0 && local(author) && local(strings.Trim(h.From, "<>")) {
		return all[0], nil
	}
	if len(all) == 0 {
		return profile.Account{}, fmt.Errorf("%w: there is none yet; add one: poczta mail add ADDRESS", ErrAccount)
	}
	return profile.Account{}, fmt.Errorf("%w: %s; name an account with --account, or add the address to one", ErrAccount, author)
}

// local reports an author who is none, or a user of this computer rather than of the Internet.
func local(author string) bool {
	a, err := address.Parse(author)
	if author == "" || err != nil {
		return true
	}
	d := a.Domain().String()
	return !strings.Contains(d, ".") || strings.HasSuffix(d, ".localdomain") || strings.HasSuffix(d, ".local") || d == "localhost.localdomain"
}

// firstAddress is the first address of a field; what can't be read is "".
func firstAddress(value string) string {
	if list, err := message.ParseAddressList(value); err == nil && len(list) > 0 {
		return list[0].Address.String()
	}
	return strings.Trim(value, "<> \t") // a bare name
}

// qualified gives a bare name the account's domain.
func qualified(name string, a *profile.Account) string {
	if name = strings.TrimSpace(name); strings.Contains(name, "@") || name == "" {
		return name
	}
	_, domain, _ := strings.Cut(a.Address, "@")
	return name + "@" + domain
}

// recipients are who gets the letter.
func recipients(t *letterText, h *Handed, a *profile.Account) ([]string, error) {
	var all []string
	for _, s := range h.Recipients {
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.Trim(strings.TrimSpace(part), "<>"); part != "" {
				all = append(all, qualified(part, a))
			}
		}
	}
	if !h.FromFields {
		return all, nil
	}
	for f := range message.Fields(t.head) {
		if !f.Is("To") && !f.Is("Cc") && !f.Is("Bcc") || strings.TrimSpace(f.Value()) == "" {
			continue
		}
		list, err := message.ParseAddressList(f.Value())
		if err != nil {
			if name := strings.TrimSpace(f.Value()); !strings.ContainsAny(name, " ,<>@:;\"") { // "To: root"
				all = append(all, qualified(name, a))
				continue
			}
			return nil, fmt.Errorf("%w: %s: %q", ErrAddress, f.Name(), db.Text(f.Value()))
		}
		for _, m := range list {
			all = append(all, m.Address.String())
		}
	}
	return all, nil
}

// author sees to a From field that the server takes.
func (t *letterText) author(h *Handed, a *profile.Account, given string) {
	first := true
	t.strip(func(f message.Field) bool { // one is enough (RFC 5322 §3.6)
		again := f.Is("From") && !first
		first = first && !f.Is("From")
		return again
	})
	name := h.Name
	if list, err := message.ParseAddressList(t.get("From")); err == nil && len(list) > 0 {
		if a.Owns(given) || !local(given) {
			return
		}
		name = list[0].Name
	} else if name == "" {
		name = a.Name
	}
	t.strip(func(f message.Field) bool { return f.Is("From") })
	t.head = append(t.head, fromField(name, a.Address)...)
}

// fromField writes From.
func fromField(name, addr string) []byte {
	name = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`"\`, r) {
			return ' '
		}
		return r
	}, name)), " ")
	if name == "" {
		return message.AppendField(nil, "From", addr)
	}
	b := message.AppendField(nil, "From", `"`+name+`" <`+addr+`>`)
	if message.NeedsUTF8(b) {
		return message.Downgrade(b)
	}
	return b
}
