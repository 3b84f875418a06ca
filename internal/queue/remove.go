package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// removeRecipients is how many recipients one low-priority transaction removes,
// at three rows each, and removePage how many messages are looked at for them.
const (
	removeRecipients = 160
	removePage       = 100
)

// target is a recipient to be removed.
type target struct {
	id message.ID
	n  int
}

// Remove takes the matching recipients from the queue without sending anything
// to anybody, settles their fates as removed with reason as the detail, and
// releases bodies no longer needed. It works in chunks and returns how many
// recipients it removed, also with an error.
func (q *Queue) Remove(ctx context.Context, f Filter, reason string) (int, error) {
	if f.isZero() && !f.All {
		return 0, ErrEmptyFilter
	}
	total := 0
	for p := (Page{Limit: removePage}); ; {
		all, err := q.List(ctx, f, p)
		if err != nil {
			return total, err
		}
		var chunk []target
		for i := range all {
			for _, r := range all[i].Recipients {
				chunk = append(chunk, target{all[i].ID, r.N})
			}
		}
		for part := range slices.Chunk(chunk, removeRecipients) {
			n, err := q.removeChunk(ctx, part, reason)
			total += n
			if err != nil {
				return total, fmt.Errorf("remove from queue: %w", err)
			}
		}
		if len(all) < removePage {
			return total, nil
		}
		p.After = all[len(all)-1].ID
	}
}

// removal is what one transaction of Remove has done.
type removal struct {
	recipients     int
	finished, dead []message.ID
}

// removeChunk removes some recipients in one transaction.
func (q *Queue) removeChunk(ctx context.Context, chunk []target, reason string) (int, error) {
	var done removal
	err := q.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
		done = removal{}
		for _, t := range chunk {
			if err := q.removeRow(tx, t, reason, &done); err != nil {
				return fmt.Errorf("recipient %d of message %s: %w", t.n, t.id, err)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if len(done.finished) > 0 {
		q.cfg.Finished(done.finished, done.dead)
	}
	if q.cfg.Hooks.Removed != nil {
		q.cfg.Hooks.Removed(done.recipients)
	}
	return done.recipients, nil
}

// removeRow removes one recipient, and with the last one its message.
func (q *Queue) removeRow(tx db.Tx, t target, reason string, done *removal) error {
	var fate int64
	err := tx.QueryRow(`DELETE FROM queued_recipient WHERE id = ? AND n = ? RETURNING fate`, t.id[:], int64(t.n)).Scan(&fate)
	if errors.Is(err, db.ErrNotFound) {
		return nil // settled meanwhile
	}
	if err != nil {
		return err
	}
	done.recipients++
	if err := q.cfg.Settle(tx, t.id, int(fate), reason, q.cfg.Now()); err != nil {
		return err
	}
	var left int64
	err = tx.QueryRow(`UPDATE queued_message SET recipients = recipients - 1 WHERE id = ? RETURNING recipients`, t.id[:]).Scan(&left)
	if err != nil || left > 0 {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM queued_message WHERE id = ?`, t.id[:]); err != nil {
		return err
	}
	last, err := body.Release(tx, t.id)
	if err != nil {
		return err
	}
	done.finished = append(done.finished, t.id)
	if last {
		done.dead = append(done.dead, t.id)
	}
	return nil
}
