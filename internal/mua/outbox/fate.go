package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mua/store"
)

// Fate is what became of one recipient's copy of a letter that was sent from here.
type Fate struct {
	Outgoing ID `json:"outgoing"`
	Recipient
	// Reports are what came back about it. Nobody vouches for them: anyone who knows the letter
	// can write one.
	Reports []Report `json:"reports,omitempty"`
}

// Report is what a delivery status notification says of a recipient.
type Report struct {
	Letter     store.LetterID `json:"letter"` // the notification
	Action     dsn.Action     `json:"action"` // failed, delayed, delivered, relayed, expanded
	Status     string         `json:"status,omitempty"`
	Diagnostic string         `json:"diagnostic,omitempty"`
	At         time.Time      `json:"at"` // when it came
}

// Fates says what became of the letter with this Message-ID (with its angle brackets): each
// recipient with the server's reply, and the reports that came back. None is no error.
func (o *Outbox) Fates(ctx context.Context, messageID string) ([]Fate, error) {
	if err := o.reports(ctx); err != nil {
		return nil, err
	}
	if messageID == "" {
		return nil, nil
	}
	rows, err := o.table.rows(ctx, `message_id = ? ORDER BY id`, messageID)
	if err != nil {
		return nil, err
	}
	var all []Fate
	for i := range rows {
		told, err := o.table.reportsOf(ctx, rows[i].id)
		if err != nil {
			return nil, err
		}
		for k, p := range o.item(&rows[i]).Recipients {
			all = append(all, Fate{Outgoing: rows[i].id, Recipient: p, Reports: told[key(rows[i].recipients[k].path)]})
		}
	}
	return all, nil
}

// key is an address for comparison.
func key(s string) string {
	if a, err := address.Parse(s); err == nil {
		return a.Key()
	}
	return strings.ToLower(s)
}

// reportsOf are the reports about an entry, by recipient.
func (t table) reportsOf(ctx context.Context, id ID) (map[string][]Report, error) {
	all := map[string][]Report{}
	err := t.db.View(ctx, func(tx db.Tx) error {
		clear(all)
		rows, err := tx.Query(`SELECT letter, recipient, action, status, diagnostic, at FROM outgoing_report WHERE outgoing = ? ORDER BY at, letter LIMIT 10000`, int64(id))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r Report
			var recipient string
			var at int64
			if err := rows.Scan(&r.Letter, &recipient, &r.Action, &r.Status, &r.Diagnostic, &at); err != nil {
				return err
			}
			r.At = db.FromMicros(at)
			all[recipient] = append(all[recipient], r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read reports: %w", err)
	}
	return all, nil
}

// newLetters is how many letters are looked at in one step; some of those before are looked at once
// more, since letters do not become visible quite in the order of their ids.
const (
	newLetters = 1000
	lookBack   = 500
)

// reports looks at the letters that came since it last did, and notes what reports among them say.
func (o *Outbox) reports(ctx context.Context) error {
	for {
		seen, began, err := o.seen(ctx)
		if err != nil || !began {
			return err
		}
		letters, err := o.c.Store.Since(ctx, seen, 1)
		if err != nil || len(letters) == 0 {
			return err
		}
		if letters, err = o.c.Store.Since(ctx, max(0, seen-lookBack), newLetters); err != nil {
			return err
		}
		for _, m := range letters {
			if mayReport(&m) {
				if err := o.report(ctx, &m); err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
			}
			seen = max(seen, m.ID)
		}
		err = o.table.db.Update(ctx, func(tx db.Tx) error {
			_, err := tx.Exec(`UPDATE outgoing_seen SET letter = ? WHERE letter < ?`, int64(seen), int64(seen))
			return err
		})
		if err != nil {
			return fmt.Errorf("note reports: %w", err)
		}
	}
}

// seen is the last letter that was looked at; began is false while nothing was ever sent.
func (o *Outbox) seen(ctx context.Context) (last store.LetterID, began bool, err error) {
	err = o.table.db.View(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT letter FROM outgoing_seen`).Scan(&last)
	})
	if errors.Is(err, db.ErrNotFound) {
		return 0, false, nil
	}
	return last, err == nil, err
}

// mayReport reports a letter that a mail system may have written (RFC 3464 §2: from its postmaster).
func mayReport(m *store.Summary) bool {
	if m.Folder == Folder || m.Folder == store.Sent || m.Folder == store.Drafts || m.Partial {
		return false
	}
	for _, p := range m.From {
		local, _, _ := strings.Cut(strings.ToLower(p.Address), "@")
		for _, name := range []string{"mailer-daemon", "postmaster", "mail-daemon", "mdaemon", "bounce", "noreply", "no-reply"} {
			if strings.HasPrefix(local, name) {
				return true
			}
		}
	}
	subject := strings.ToLower(m.Subject)
	for _, word := range []string{"deliver", "undeliver", "returned", "failure", "status notification", "doręcz", "zwrot"} {
		if strings.Contains(subject, word) {
			return true
		}
	}
	return false
}

// report notes what one letter says about one of ours, if it does.
func (o *Outbox) report(ctx context.Context, m *store.Summary) error {
	octets, size, err := o.c.Store.Octets(ctx, m.ID)
	if err != nil {
		return err
	}
	if closer, ok := octets.(io.Closer); ok {
		defer closer.Close()
	}
	told, err := dsn.Parse(io.NewSectionReader(octets, 0, size))
	if errors.Is(err, dsn.ErrNoReport) {
		return nil
	}
	if err != nil {
		return err
	}
	about, err := o.about(ctx, told)
	if err != nil || about == nil {
		return err
	}
	return o.table.db.Update(ctx, func(tx db.Tx) error {
		for _, p := range told.Recipients {
			k, ours := match(about, &p)
			if !ours {
				continue
			}
			status := ""
			if p.Status != (dsn.Status{}) {
				status = p.Status.String()
			}
			if _, err := tx.Exec(`INSERT INTO outgoing_report (letter, outgoing, recipient, action, status, diagnostic, at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				int64(m.ID), int64(about.id), k, string(p.Action), status, db.Text(cut(p.Diagnostic, 1000)), db.Micros(m.Received)); err != nil {
				return fmt.Errorf("note reports: %w", err)
			}
		}
		return nil
	})
}

// about finds the letter that a report is about: by its envelope id (RFC 3461 §4.4), else by the
// Message-ID of what was returned.
func (o *Outbox) about(ctx context.Context, told *dsn.Returned) (*row, error) {
	if told.EnvelopeID != "" {
		if rows, err := o.table.rows(ctx, `envelope_id = ? ORDER BY id DESC`, db.Text(told.EnvelopeID)); err != nil || len(rows) > 0 {
			return first(rows), err
		}
	}
	v, _ := message.Get(told.Header, "Message-ID")
	id := db.Text(messageID(v))
	if id == "" {
		return nil, nil
	}
	rows, err := o.table.rows(ctx, `message_id = ? ORDER BY id DESC`, id)
	return first(rows), err
}

func first(rows []row) *row {
	if len(rows) == 0 {
		return nil
	}
	return &rows[0]
}

// match finds which of a letter's recipients a report speaks of; the only one, whatever they are
// called there (an alias' target).
func match(r *row, p *dsn.ReturnedRecipient) (string, bool) {
	for _, name := range []string{p.Original, p.Final} {
		for _, c := range r.recipients {
			if k := key(c.path); name != "" && k == key(name) {
				return k, true
			}
		}
	}
	if len(r.recipients) == 1 {
		return key(r.recipients[0].path), true
	}
	return "", false
}
