package outbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mua/line"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
)

// waits are how long a letter waits after its first, second … failed attempt.
var waits = [...]time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour}

// refusedWait is how long a letter waits whose server does not let us in: what refuses passwords may
// lock people out.
const refusedWait = 6 * time.Hour

func wait(failures int64) time.Duration { return waits[min(max(0, failures-1), int64(len(waits)-1))] }

// settle writes what became of the recipients, and when those who wait are tried again. It does so
// even when ctx has ended.
func (o *Outbox) settle(ctx context.Context, r *row, reason string) error {
	ctx = context.WithoutCancel(ctx)
	now := o.micros()
	var all []copyRow
	err := o.table.db.Update(ctx, func(tx db.Tx) (err error) {
		if all, err = merge(tx, r); err != nil {
			return err
		}
		state, next, settledAt, failures := standing(all), r.next, int64(0), r.failures
		switch {
		case state != active:
			settledAt = now
		case reason != "":
			failures++
			next = later(now, wait(failures))
		}
		// An entry that was undone, or held while somebody waits, stays so.
		if _, err := tx.Exec(`UPDATE outgoing SET state = CASE WHEN state IN (4, 6) OR state = 5 AND ? = 1 THEN state ELSE ? END, next = ?, failures = ?, settled = ?,
			reason = CASE WHEN state = 5 AND ? = 1 THEN reason ELSE ? END WHERE id = ?`,
			state, state, next, failures, settledAt, state, db.Text(reason), int64(r.id)); err != nil {
			return err
		}
		return putCopies(tx, r.id, all)
	})
	if err != nil {
		return fmt.Errorf("note what became of a letter: %w", err)
	}
	r.took(all)
	return nil
}

// putOff has letters wait whose server could not be reached or does not let us in.
func (o *Outbox) putOff(ctx context.Context, ids []ID, cause error) error {
	ctx = context.WithoutCancel(ctx)
	now := o.micros()
	return o.table.db.Update(ctx, func(tx db.Tx) error {
		for _, id := range ids {
			r, err := readRow(tx, id)
			if err != nil || r.state != active {
				continue
			}
			d := wait(r.failures + 1)
			if barred(cause) {
				d = refusedWait
			}
			if _, err := tx.Exec(`UPDATE outgoing SET failures = failures + 1, next = ?, reason = ? WHERE id = ? AND state = 1`, later(now, d), db.Text(sentence(cause)), int64(id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// barred reports that trying again soon will not help: a password, or a certificate.
func barred(err error) bool {
	var e *smtpclient.Error
	var c *line.CertificateError
	return errors.As(err, &c) || errors.As(err, &e) && e.Stage == smtpclient.StageAuth && e.Permanent()
}

// hold keeps letters until a person says otherwise.
func (o *Outbox) hold(ctx context.Context, ids []ID, reason string) error {
	return o.table.db.Update(ctx, func(tx db.Tx) error {
		for _, id := range ids {
			if _, err := tx.Exec(`UPDATE outgoing SET state = 5, reason = ? WHERE id = ? AND state = 1`, reason, int64(id)); err != nil {
				return fmt.Errorf("hold letters: %w", err)
			}
		}
		return nil
	})
}

// taken settles a letter that somebody took out of the folder Outbox.
func (o *Outbox) taken(ctx context.Context, r *row) error {
	for i := range r.recipients {
		if p := &r.recipients[i]; p.state == isWaiting && !p.again {
			p.state, p.reply = isRefused, "The letter was taken out of the folder "+Folder+"."
		} else if p.state == isWaiting {
			p.state, p.again = isPerhaps, false
		}
	}
	if err := o.settle(ctx, r, ""); err != nil {
		return err
	}
	return o.table.db.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`UPDATE outgoing SET filed = 1, state = CASE WHEN EXISTS (SELECT 1 FROM outgoing_recipient WHERE outgoing = outgoing.id AND state IN (3, 5)) THEN state ELSE 4 END WHERE id = ?`, int64(r.id))
		return err
	})
}

// settleDamaged settles a letter whose octets can't be read.
func (o *Outbox) settleDamaged(ctx context.Context, r *row, cause error) error {
	if !errors.Is(cause, body.ErrDamaged) {
		return errors.Join(cause, o.putOff(ctx, []ID{r.id}, cause))
	}
	return errors.Join(cause, o.hold(ctx, []ID{r.id}, "The letter is damaged on this computer's disk and can't be sent."))
}

// recover finds what an ended process, or a disk that failed, left in the air.
func (o *Outbox) recover(ctx context.Context) error {
	rows, err := o.table.rows(ctx, `id IN (SELECT outgoing FROM outgoing_recipient WHERE state = 2) ORDER BY id`)
	if err != nil {
		return err
	}
	now := o.micros()
	for i := range rows {
		r := &rows[i]
		reason := ""
		for k := range r.recipients {
			p := &r.recipients[k]
			if p.state != isLeaving {
				continue
			}
			p.state, p.again = isPerhaps, false
			if p.server != "" && p.keep > 0 && now < p.left+p.keep-margin(p.keep) {
				p.state, p.again = isWaiting, true
				reason = "The program ended while the letter left; the server will recognise it."
			}
		}
		if err := o.settle(ctx, r, reason); err != nil {
			return err
		}
		if reason != "" { // at once
			if err := o.due(ctx, r.id); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *Outbox) due(ctx context.Context, id ID) error {
	return o.table.db.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`UPDATE outgoing SET next = ? WHERE id = ?`, o.micros(), int64(id))
		return err
	})
}

// finish does what follows a letter's end: its draft goes, what was sent is filed under Sent, what
// was undone becomes a draft. It can be repeated.
func (o *Outbox) finish(ctx context.Context) error {
	drafts, err := o.table.rows(ctx, `draft <> 0 ORDER BY id`)
	if err != nil {
		return err
	}
	var errs []error // one letter that can't be filed keeps no other
	for i := range drafts {
		if err := o.dropDraft(ctx, &drafts[i]); err != nil {
			errs = append(errs, fmt.Errorf("remove the draft of letter %d: %w", drafts[i].id, err))
		}
	}
	ended, err := o.table.rows(ctx, `filed = 0 AND state IN (2, 4) ORDER BY id`)
	for i := range ended {
		if err := o.file(ctx, &ended[i]); err != nil {
			errs = append(errs, fmt.Errorf("file letter %d: %w", ended[i].id, err))
		}
	}
	return errors.Join(append(errs, err)...)
}

// file puts a letter that is settled where it belongs. One that all refused stays in Outbox.
func (o *Outbox) file(ctx context.Context, r *row) error {
	sent := 0
	for _, p := range r.recipients {
		if p.state == isSent {
			sent++
		}
	}
	var err error
	switch {
	case r.state == undone:
		err = o.draft(ctx, r)
	case sent > 0:
		err = o.fileSent(ctx, r)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return o.table.db.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`UPDATE outgoing SET filed = 1 WHERE id = ? AND state = ?`, int64(r.id), r.state)
		return err
	})
}

// fileSent moves a letter to Sent, and marks the one that it answers or passes on.
func (o *Outbox) fileSent(ctx context.Context, r *row) error {
	s := o.c.Store
	if here, err := o.lies(ctx, r); err != nil || !here {
		return err
	}
	if _, err := s.Move(ctx, []store.LetterID{r.letter}, store.Sent); err != nil {
		return err
	}
	about, flag := r.answers, mailbox.Answered
	if about == "" {
		about, flag = o.passedOn(ctx, r), mailbox.Forwarded
	}
	if about == "" {
		return nil
	}
	found, err := s.ByMessageID(ctx, about)
	if err != nil {
		return err
	}
	var ids []store.LetterID
	for _, m := range found {
		if m.Account == r.account {
			ids = append(ids, m.ID)
		}
	}
	_, err = s.SetFlags(ctx, ids, flag, 0)
	return err
}

// passedOn is the Message-ID of the letter that a letter without In-Reply-To is of one conversation
// with, as compose.Forward writes it: the last of References. A letter that can't be read names none.
func (o *Outbox) passedOn(ctx context.Context, r *row) string {
	l, err := o.c.Store.Letter(ctx, r.letter)
	if err != nil {
		return ""
	}
	defer l.Close()
	all, _ := message.Get(l.Root.Header, "References")
	return db.Text(messageID(all[max(0, strings.LastIndex(all, "<")):]))
}

// status is the enhanced status code of a reply, "" when it has none.
func status(r smtp.Reply) string {
	if r.Plain {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", r.Code/100, r.Subject, r.Detail)
}

// sentence is an error as a reason that people read.
func sentence(err error) string {
	if err == nil {
		return "The server said nothing about it."
	}
	var dns *net.DNSError
	var op *net.OpError
	text := err.Error()
	switch {
	case errors.As(err, &dns), errors.As(err, &op) && op.Op == "dial":
		text = "The server can't be reached; is this computer on the network? (" + text + ")"
	case barred(err):
		text = "The server does not let us in: " + text
	}
	if text = strings.TrimSpace(text); text != "" {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	return cut(text, 1000)
}
