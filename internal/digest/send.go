package digest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/report"
)

// lookEvery is how often Run looks whether it is time.
const lookEvery = 10 * time.Minute

// acceptTime is longer than an Accept takes: what was set apart less long ago waits for the next
// digest, since some of it may not be committed yet and would count as told.
const acceptTime = 10 * time.Minute

// errSent ends the transaction of a digest that another node has sent.
var errSent = errors.New("the digest was sent by another node")

// Run sends digests once a day from Config.At on, until ctx ends. What fails is logged and tried
// again some minutes later.
func (d *Digest) Run(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		if sent, err := d.Send(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Logger.Warn("digests could not all be sent", "sent", sent, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// today is the number of the local day, and whether it is late enough for digests.
func (d *Digest) today() (day int64, due bool) {
	now := d.cfg.Now().In(d.cfg.Location)
	y, m, dd := now.Date()
	return time.Date(y, m, dd, 0, 0, 0, 0, time.UTC).Unix() / 86400,
		time.Duration(now.Hour())*time.Hour+time.Duration(now.Minute())*time.Minute >= d.cfg.At
}

// Send sends the digests of this day that are due, and returns how many went; an error about one
// keeps nobody from theirs. What lies apart from people who want no digest counts as told.
func (d *Digest) Send(ctx context.Context) (sent int, failed error) {
	day, due := d.today()
	if !due {
		return 0, nil
	}
	for after := envelope.AccountID(0); ; {
		accounts, err := d.cfg.Quarantine.Owing(ctx, after, 100)
		if err != nil || len(accounts) == 0 {
			return sent, errors.Join(failed, err)
		}
		for _, id := range accounts {
			ok, err := d.send(ctx, id, day)
			if err != nil {
				failed = fmt.Errorf("digest of account %d: %w", id, err)
			}
			if ok {
				sent++
			}
			if ctx.Err() != nil {
				return sent, ctx.Err()
			}
			after = id
		}
	}
}

// send sends one account's digest of a day, unless it had it.
func (d *Digest) send(ctx context.Context, id envelope.AccountID, day int64) (bool, error) {
	if had, err := d.had(ctx, id, day); err != nil || had {
		return false, err
	}
	now := d.cfg.Now()
	acc, err := d.cfg.People.ByID(ctx, id)
	if errors.Is(err, account.ErrNotFound) || err == nil && acc.State != account.Active {
		return false, d.tell(ctx, id, now)
	}
	if err != nil {
		return false, err
	}
	wishes, err := d.cfg.Wishes.Settings(ctx, id)
	if err != nil {
		return false, err
	}
	if !wishes.Digest.Or(!d.cfg.Off) {
		return false, d.tell(ctx, id, now)
	}
	items, total, err := d.cfg.Quarantine.Untold(ctx, id, now.Add(-acceptTime), MaxItems)
	if err != nil {
		return false, err
	}
	if len(items) == 0 { // its owner has dealt with all of it, or it is too new
		return false, d.tell(ctx, id, now)
	}
	l := languageOf(acc.Language)
	if wishes.Language != "" {
		l = languageOf(wishes.Language)
	}
	s, err := d.sheet(ctx, id, items, total, l)
	if err != nil {
		return false, err
	}
	return d.post(ctx, &acc, s, day, now)
}

// post hands a digest over; that it was sent is noted in the transaction that accepts it.
func (d *Digest) post(ctx context.Context, acc *account.Account, s *sheet, day int64, now time.Time) (bool, error) {
	sent, err := d.cfg.Letters.SendLetter(ctx, report.Letter{
		From: d.cfg.From, To: acc.Address, UTF8: !acc.Address.IsASCII() || !d.cfg.From.IsASCII() || !d.cfg.Release.IsASCII(),
		Write: func(w io.Writer, id message.ID) error { return d.write(w, id, acc, s, now) },
		Within: func(tx db.Tx) error {
			n, err := tx.Exec(`INSERT INTO digest_sent (account, day) VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET day = excluded.day WHERE digest_sent.day < excluded.day`, int64(acc.ID), day)
			if err == nil && n == 0 {
				err = errSent
			}
			if err == nil {
				_, err = d.cfg.Quarantine.Tell(tx, acc.ID, now.Add(-acceptTime), now)
			}
			return err
		},
	})
	if errors.Is(err, errSent) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !sent {
		return false, d.tell(ctx, acc.ID, now)
	}
	if d.cfg.Hooks.Sent != nil {
		d.cfg.Hooks.Sent(len(s.Items))
	}
	d.cfg.Logger.Info("digest sent", "account", acc.Login, "items", len(s.Items))
	return true, nil
}

func (d *Digest) had(ctx context.Context, id envelope.AccountID, day int64) (had bool, err error) {
	err = d.cfg.DB.View(ctx, func(tx db.Tx) error {
		var last int64
		err := tx.QueryRow(`SELECT day FROM digest_sent WHERE account = ?`, int64(id)).Scan(&last)
		if errors.Is(err, db.ErrNotFound) {
			had = false
			return nil
		}
		had = last >= day
		return err
	})
	return had, err
}

func (d *Digest) tell(ctx context.Context, id envelope.AccountID, now time.Time) error {
	return d.cfg.DB.Update(ctx, func(tx db.Tx) error {
		_, err := d.cfg.Quarantine.Tell(tx, id, now.Add(-acceptTime), now)
		return err
	})
}

// Purge removes what is kept of an account within tx, as when it is removed.
func Purge(tx db.Tx, id envelope.AccountID) error {
	_, err := tx.Exec(`DELETE FROM digest_sent WHERE account = ?`, int64(id))
	return err
}

// sheet is a digest's content.
type sheet struct {
	*language
	Items    []entry
	Rest     int64 // items that are not listed
	StopWeb  string
	StopMail string
}

// entry is one item of it.
type entry struct {
	facts
	Web, Mail string // links; "" when there is none
}

// sheet reads the items. One that can't be read is named all the same.
func (d *Digest) sheet(ctx context.Context, id envelope.AccountID, items []quarantine.Item, total int64, l *language) (*sheet, error) {
	key, err := d.secret(ctx)
	if err != nil {
		return nil, err
	}
	s := &sheet{language: l, Rest: total - int64(len(items))}
	stop := token{forStop, id, message.ID{}, d.expiry()}.text(key)
	s.StopWeb, s.StopMail = d.web(stop), d.mailto("stop", stop)
	for _, it := range items {
		f, err := d.read(ctx, it, l)
		if err != nil {
			d.cfg.Logger.Warn("message of a digest can't be read", "id", it.ID.String(), "error", err)
			f = d.factsOf(it, nil, l)
		}
		e := entry{facts: f, Web: d.web(token{forWeb, id, it.ID, d.expiry()}.text(key))}
		if !f.Operator {
			e.Mail = d.mailto("release", token{forMail, id, it.ID, d.expiry()}.text(key))
		}
		s.Items = append(s.Items, e)
	}
	return s, nil
}

func (d *Digest) web(token string) string {
	if d.cfg.Web == nil {
		return ""
	}
	return d.cfg.Web.JoinPath(token).String()
}

func (d *Digest) mailto(verb, token string) string {
	if d.cfg.Release.IsZero() {
		return ""
	}
	return "mailto:" + d.cfg.Release.String() + "?subject=" + verb + "%20" + token
}
