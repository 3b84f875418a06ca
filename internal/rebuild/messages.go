package rebuild

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

// tally is what one page has changed; it counts once the page is committed.
type tally struct {
	restored, recovered, lost int64
	journal                   []body.Event
}

// decided is a letter with what becomes of it.
type decided struct {
	letter
	puts   []put
	meta   body.Meta
	queued bool
}

// messages decides on every body that the log names.
func (b *builder) messages(ctx context.Context) error {
	var after message.ID
	var done int64
	for {
		page, err := b.page(ctx, after)
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1].id
		all := make([]decided, len(page))
		for i := range page {
			all[i].letter = page[i]
			if l := &all[i]; !l.known && l.loc.Segment != "" {
				if l.puts, l.meta, l.queued, err = b.owners(ctx, &l.letter); err != nil {
					return err
				}
			}
		}
		var t tally
		err = b.db.Update(ctx, func(tx db.Tx) error {
			t = tally{}
			for i := range all {
				if err := b.apply(tx, &all[i], &t); err != nil {
					return fmt.Errorf("message %s: %w", all[i].id, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		b.report.Restored += t.restored
		b.report.Recovered += t.recovered
		b.report.Lost += t.lost
		b.segments.Append(t.journal...)
		done += int64(len(page))
		b.c.Progress(Progress{Step: "messages", Done: done})
	}
}

// apply brings the database to what the log says of one body.
func (b *builder) apply(tx db.Tx, l *decided, t *tally) error {
	switch {
	case l.known:
		return b.replay(tx, l, t)
	case l.loc.Segment == "":
		for i := range l.events { // what the base knew to be purged is no loss
			if e := &l.events[i]; e.state != purged && e.late {
				t.lost++
			}
		}
		return nil
	}
	refs := len(l.puts)
	if l.queued {
		refs++
	}
	if refs == 0 {
		return nil
	}
	if err := body.Insert(tx, l.id, l.loc, refs); err != nil {
		return fmt.Errorf("insert body: %w", err)
	}
	for i := range l.puts {
		if err := b.putBack(tx, &l.puts[i], l.loc.SHA256, t); err != nil {
			return err
		}
	}
	if l.queued {
		if err := b.queue.Enqueue(tx, queued(l)); err != nil {
			return err
		}
	}
	t.restored++
	return b.record(tx, l)
}

// putBack stores one entry. What the log does not say of it, the journal will.
func (b *builder) putBack(tx db.Tx, p *put, sum [32]byte, t *tally) error {
	e := p.entry // fn may run again
	if err := b.mailboxes.PutBack(tx, &e, p.removed, sum); err != nil {
		return err
	}
	if p.recovered {
		t.recovered++
	}
	if e.UID == p.eventUID {
		return nil
	}
	j := body.Event{Kind: body.EventDelivered, ID: e.Body, Account: int64(e.Account), Mailbox: e.Mailbox, UID: uint32(e.UID),
		UniqueID: e.UniqueID, Flags: uint32(e.Flags), Time: b.c.Now()}
	t.journal = append(t.journal, j)
	if !p.removed.IsZero() {
		j.Kind, j.Time = body.EventRemoved, p.removed
		t.journal = append(t.journal, j)
	}
	return nil
}

// replay does to a body of the base what happened since.
func (b *builder) replay(tx db.Tx, l *decided, t *tally) error {
	if l.loc.Segment != "" && (l.loc.Segment != l.home.Segment || l.loc.Offset != l.home.Offset) {
		if _, err := tx.Exec(`UPDATE body SET segment = ?, start = ? WHERE id = ?`, l.loc.Segment, l.loc.Offset, l.id[:]); err != nil {
			return err
		}
	}
	// Additions first: they are made after entries that may go.
	for _, add := range []bool{true, false} {
		for i := range l.events {
			if err := b.replayEvent(tx, l, &l.events[i], add); err != nil {
				return err
			}
		}
	}
	if l.finished {
		there, err := b.queue.Forget(tx, l.id)
		if err == nil && there {
			_, err = body.Release(tx, l.id)
		}
		if err != nil {
			return err
		}
	}
	var left int64
	if err := tx.QueryRow(`SELECT COUNT(*) FROM body WHERE id = ?`, l.id[:]).Scan(&left); err != nil {
		return err
	}
	if left > 0 && l.loc.Segment == "" && l.home.Segment != "" {
		t.lost++ // its row stays, so that store check names it
	}
	return nil
}

// replayEvent brings one entry of the base to its state: it adds a missing one,
// or changes one that is there.
func (b *builder) replayEvent(tx db.Tx, l *decided, e *event, add bool) error {
	place, err := b.mailboxes.Find(tx, e.account, e.mailbox, e.uid, l.id)
	if err != nil {
		return err
	}
	switch {
	case add != (place == mailbox.Absent):
	case add && e.late && e.state != purged:
		return b.putSibling(tx, l, e)
	case place == mailbox.InMailbox && e.state == removed:
		return b.mailboxes.Retain(tx, e.account, e.mailbox, e.uid, b.keep(e.happened))
	case !add && e.state == purged:
		if err := b.mailboxes.Forget(tx, e.account, e.mailbox, e.uid); err != nil {
			return err
		}
		_, err := body.Release(tx, l.id)
		return err
	}
	return nil
}

// putSibling puts back an entry that came to be after the snapshot, of a body that
// was there before, as a restore makes one: with the prefix and sizes of its sibling.
func (b *builder) putSibling(tx db.Tx, l *decided, e *event) error {
	entry := b.entry(&l.letter, time.Time{}, e.account, e.mailbox, e.uniqueID, e.flags)
	entry.UID = e.uid
	var received int64
	err := tx.QueryRow(`SELECT octets, surrogate, received, prefix FROM (
		SELECT account, octets, surrogate, received, prefix, body FROM entry WHERE account = ? UNION ALL
		SELECT account, octets, surrogate, received, prefix, body FROM retained WHERE account = ?) WHERE body = ? LIMIT 1`,
		int64(e.account), int64(e.account), l.id[:]).Scan(&entry.Octets, &entry.Surrogate, &received, &entry.Prefix)
	switch {
	case errors.Is(err, db.ErrNotFound):
		entry.Octets = l.home.Octets
	case err != nil:
		return fmt.Errorf("find another entry of account %d: %w", e.account, err)
	default:
		entry.Received = db.FromMicros(received)
	}
	when := time.Time{}
	if e.state == removed {
		when = b.keep(e.happened)
	}
	if err := b.mailboxes.PutBack(tx, &entry, when, l.home.SHA256); err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE body SET refs = refs + 1 WHERE id = ?`, l.id[:])
	return err
}

// queued is the queued message of a letter. Options of the envelope are not in the log.
func queued(l *decided) *queue.Message {
	m := &queue.Message{ID: l.id, Queued: received(l), ReversePath: l.meta.ReversePath, Octets: l.loc.Octets,
		SMTPUTF8: message.NeedsUTF8([]byte(l.meta.ReversePath + strings.Join(l.meta.Queued, "")))}
	for i, path := range l.meta.Queued {
		m.Recipients = append(m.Recipients, queue.Recipient{N: i, Fate: len(l.puts) + i, ForwardPath: path})
	}
	return m
}

func received(l *decided) time.Time {
	if l.meta.Received.IsZero() {
		return l.id.Time()
	}
	return l.meta.Received
}

// record writes the trace of a letter that the base had none of.
func (b *builder) record(tx db.Tx, l *decided) error {
	var n int64
	if err := tx.QueryRow(`SELECT COUNT(*) FROM trace WHERE id = ?`, l.id[:]).Scan(&n); err != nil || n > 0 {
		return err
	}
	r := trace.Record{ID: l.id, Accepted: received(l), ReversePath: l.meta.ReversePath, Octets: l.loc.Octets, SHA256: l.loc.SHA256}
	logins := make(map[int64]string)
	for i := range l.meta.Owners {
		logins[l.meta.Owners[i].Account] = l.meta.Owners[i].Login
	}
	for i := range l.puts {
		e := &l.puts[i].entry
		r.Fates = append(r.Fates, trace.Fate{N: len(r.Fates), Recipient: logins[int64(e.Account)], Account: e.Account, State: trace.Delivered,
			Changed: b.c.Now(), Detail: e.Mailbox + ", by store rebuild"})
	}
	if l.queued {
		for _, path := range l.meta.Queued {
			r.Fates = append(r.Fates, trace.Fate{N: len(r.Fates), Recipient: path, State: trace.Held, Changed: b.c.Now(), Detail: "held by store rebuild"})
		}
	}
	return b.trace.Record(tx, &r)
}

// settle counts, puts the queue on hold and removes the scratch tables.
func (b *builder) settle(ctx context.Context) error {
	var err error
	if b.report.Messages, b.report.Retained, err = b.mailboxes.Recount(ctx); err != nil {
		return err
	}
	return b.db.Update(ctx, func(tx db.Tx) error {
		if _, err := b.queue.HoldAll(tx); err != nil {
			return err
		}
		if err := tx.QueryRow(`SELECT COUNT(*) FROM queued_recipient WHERE state = ?`, int64(queue.Held)).Scan(&b.report.Held); err != nil {
			return err
		}
		// Bodies that the base knows and the log does not, not even by an event.
		var gone int64
		err := tx.QueryRow(`SELECT COUNT(*) FROM body b WHERE b.segment <> '' AND NOT EXISTS (SELECT 1 FROM rebuild_body r WHERE r.id = b.id)`).Scan(&gone)
		if err != nil {
			return err
		}
		b.report.Lost += gone
		for _, table := range scratchTables {
			if _, err := tx.Exec(`DROP TABLE ` + table); err != nil {
				return err
			}
		}
		return nil
	})
}
