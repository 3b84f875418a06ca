package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
)

// List returns what is not settled, and what was refused and still lies in Outbox, oldest first; at
// most 1,000.
func (o *Outbox) List(ctx context.Context) ([]Item, error) {
	rows, err := o.table.rows(ctx, `state IN (1, 3, 5) OR state = 2 AND NOT EXISTS (SELECT 1 FROM outgoing_recipient p WHERE p.outgoing = outgoing.id AND p.state = 3) ORDER BY id`)
	if err != nil {
		return nil, err
	}
	all := make([]Item, 0, len(rows))
	for i := range rows {
		if rows[i].state == settled {
			here, err := o.lies(ctx, &rows[i])
			if err != nil {
				return nil, err
			}
			if !here { // the person has put it away
				if err := o.dismiss(ctx, rows[i].id); err != nil {
					return nil, err
				}
				continue
			}
		}
		all = append(all, o.item(&rows[i]))
	}
	return all, nil
}

// lies reports whether a letter lies in Outbox.
func (o *Outbox) lies(ctx context.Context, r *row) (bool, error) {
	at, err := o.c.Store.Summary(ctx, r.letter)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && at.Folder == Folder && at.Removed.IsZero(), err
}

// stays reports whether nobody has put the letter away: it lies in Outbox, or in Sent when others
// have got it already.
func (o *Outbox) stays(ctx context.Context, r *row) (bool, error) {
	if here, err := o.lies(ctx, r); err != nil || here {
		return here, err
	}
	at, err := o.c.Store.Summary(ctx, r.letter)
	if err != nil || at.Folder != store.Sent || !at.Removed.IsZero() {
		return false, ignoreGone(err)
	}
	return slices.ContainsFunc(r.recipients, func(p copyRow) bool { return p.state == isSent }), nil
}

// ignoreGone passes errors on but store.ErrNotFound.
func ignoreGone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// dismiss takes a refused letter off the list.
func (o *Outbox) dismiss(ctx context.Context, id ID) error {
	return o.table.db.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`UPDATE outgoing SET state = 6 WHERE id = ? AND state = 2`, int64(id))
		return err
	})
}

// Item returns one entry, also one that is settled. ErrNotFound.
func (o *Outbox) Item(ctx context.Context, id ID) (Item, error) {
	r, err := o.table.read(ctx, id)
	if err != nil {
		return Item{}, err
	}
	return o.item(&r), nil
}

// Undo keeps a letter from leaving and makes it a draft again, in Drafts; until the instant its
// last octets leave. Who waits is given up if others have got it already or perhaps: then the error
// is ErrLeft, and nothing comes back. It returns the letter.
func (o *Outbox) Undo(ctx context.Context, id ID) (store.LetterID, error) {
	var letter store.LetterID
	var late bool
	err := o.table.db.Update(ctx, func(tx db.Tx) error {
		r, err := readRow(tx, id)
		if err != nil {
			return err
		}
		letter, late = r.letter, false
		for i := range r.recipients {
			switch p := &r.recipients[i]; {
			case p.state == isLeaving || p.state == isSent || p.state == isPerhaps || p.again:
				late = true
			case p.state == isWaiting:
				p.state, p.reply = isRefused, "It was stopped before it left."
			}
		}
		if r.state == undone {
			return nil
		}
		if !late {
			_, err = tx.Exec(`UPDATE outgoing SET state = 4, filed = 0, settled = ?, reason = '' WHERE id = ?`, o.micros(), int64(id))
			return err
		}
		if err := putCopies(tx, id, r.recipients); err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE outgoing SET state = ? WHERE id = ?`, standing(r.recipients), int64(id))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("undo: %w", err)
	}
	defer o.c.Changed(id)
	if late {
		o.Wake()
		return 0, fmt.Errorf("undo: %w", ErrLeft)
	}
	if err := o.finish(ctx); err != nil {
		return 0, fmt.Errorf("undo: %w", err)
	}
	return letter, nil
}

// Retry tries a letter at once that waits or is held; those who were refused are tried too,
// whatever DNS says of their domains.
func (o *Outbox) Retry(ctx context.Context, id ID) error {
	return o.change(ctx, id, func(r *row) error {
		for i := range r.recipients {
			if p := &r.recipients[i]; p.state == isRefused {
				p.state, p.code, p.status, p.reply = isWaiting, 0, "", ""
			}
		}
		r.unchecked = true
		if r.state == undone || standing(r.recipients) != active {
			return fmt.Errorf("try again: %w", ErrUndecided)
		}
		return nil
	})
}

// Decision is what a person says of a letter that was perhaps sent.
type Decision uint8

// The decisions.
const (
	Done  Decision = iota // it has arrived, or need not
	Again                 // send it again, though somebody may get it twice
)

// Decide says what becomes of the copies that were perhaps sent. ErrUndecided when there are none.
func (o *Outbox) Decide(ctx context.Context, id ID, d Decision) error {
	return o.change(ctx, id, func(r *row) error {
		n := 0
		for i := range r.recipients {
			p := &r.recipients[i]
			if p.state != isPerhaps {
				continue
			}
			n++
			if p.state = isSent; d == Again {
				p.state, p.code, p.status, p.reply = isWaiting, 0, "", ""
			}
		}
		if n == 0 {
			return ErrUndecided
		}
		return nil
	})
}

// Hold keeps everything that waits until Retry: after a backup was restored, for what waited then
// may have been sent since.
func (o *Outbox) Hold(ctx context.Context, reason string) error {
	if err := o.recover(ctx); err != nil {
		return err
	}
	return o.table.db.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`UPDATE outgoing SET state = 5, reason = ? WHERE state = 1`, db.Text(reason))
		return err
	})
}

// change has fn change an entry's recipients, makes it due, and wakes who sends.
func (o *Outbox) change(ctx context.Context, id ID, fn func(*row) error) error {
	err := o.table.db.Update(ctx, func(tx db.Tx) error {
		r, err := readRow(tx, id)
		if err != nil {
			return err
		}
		if err := fn(&r); err != nil {
			return err
		}
		state, settledAt := standing(r.recipients), int64(0)
		if state != active {
			settledAt = o.micros()
		}
		if _, err := tx.Exec(`UPDATE outgoing SET state = ?, next = ?, failures = 0, settled = ?, filed = 0, unchecked = ?, reason = '' WHERE id = ?`,
			state, max(o.micros(), r.sendAt), settledAt, r.unchecked, int64(id)); err != nil {
			return err
		}
		return putCopies(tx, id, r.recipients)
	})
	if err != nil {
		return err
	}
	o.c.Changed(id)
	o.Wake()
	return nil
}

// draft makes an undone letter a draft: the recipients whom it does not name come back as Bcc.
func (o *Outbox) draft(ctx context.Context, r *row) error {
	s := o.c.Store
	if here, err := o.lies(ctx, r); err != nil || !here {
		return err
	}
	octets, size, err := s.Octets(ctx, r.letter)
	if err != nil {
		return err
	}
	if closer, ok := octets.(io.Closer); ok {
		defer closer.Close()
	}
	t, err := open(io.NewSectionReader(octets, 0, size))
	if err != nil {
		return err
	}
	if bcc := blind(t.head, r); bcc != "" {
		staged, err := s.Body().Stage(ctx, size+int64(len(bcc)))
		if err != nil {
			return err
		}
		defer staged.Discard()
		t.add("Bcc", bcc)
		if _, err := io.Copy(staged, io.MultiReader(bytes.NewReader(t.head), t.rest)); err != nil {
			return err
		}
		if err := s.Complete(ctx, r.letter, staged, nil); err != nil {
			return err
		}
	}
	if _, err := s.SetFlags(ctx, []store.LetterID{r.letter}, mailbox.Draft|mailbox.Seen, 0); err != nil {
		return err
	}
	_, err = s.Move(ctx, []store.LetterID{r.letter}, store.Drafts)
	return err
}

// blind are the recipients that no field names.
func blind(head []byte, r *row) string {
	named := keysOf(head, "To", "Cc", "Bcc")
	var all []string
	for _, p := range r.recipients {
		if a, err := address.Parse(p.path); err == nil && !named[a.Key()] {
			all = append(all, p.path)
		}
	}
	return strings.Join(all, ", ")
}
