package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/trace"
)

// verbRecipients is how many recipients one low-priority transaction of an operator's verb
// changes, at three rows each, and verbPage how many messages are looked at for them.
const (
	verbRecipients = 160
	verbPage       = 32
)

// target is a recipient that an operator means.
type target struct {
	id message.ID
	r  Recipient
}

// effects are what a verb's transaction has to others.
type effects struct {
	woken   []wake // shards that have work now
	removal removal
}

// wake notes that t's shard has work.
func (e *effects) wake(t *target, due int64) {
	e.woken = append(e.woken, wake{unit{t.r.Destination, t.r.Shard}, due})
}

// verb changes one recipient and reports whether it was in a state for that.
type verb func(tx db.Tx, t *target, e *effects) (bool, error)

// each applies a verb to the matching recipients, chunk by chunk, and returns how many it changed, also with an error.
func (q *Queue) each(ctx context.Context, f Filter, do verb, after func(tx db.Tx, t []target) error) (int, error) {
	if f.isZero() && !f.All {
		return 0, ErrEmptyFilter
	}
	total := 0
	for p := (Page{Limit: verbPage}); ; {
		all, err := q.List(ctx, f, p)
		if err != nil {
			return total, err
		}
		var chunk []target
		for i := range all {
			for _, r := range all[i].Recipients {
				chunk = append(chunk, target{all[i].ID, r})
			}
		}
		for part := range slices.Chunk(chunk, verbRecipients) {
			n, err := q.chunk(ctx, part, do, after)
			total += n
			if err != nil {
				return total, err
			}
		}
		if len(all) < verbPage {
			return total, nil
		}
		p.After = all[len(all)-1].ID
	}
}

// chunk applies a verb in one transaction. The shards are woken last: a Release in
// progress elsewhere either sees the change, or is done when its shard is woken.
func (q *Queue) chunk(ctx context.Context, part []target, do verb, after func(tx db.Tx, t []target) error) (int, error) {
	changed := 0
	var e effects
	err := q.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
		changed, e = 0, effects{}
		for i := range part {
			ok, err := do(tx, &part[i], &e)
			if err != nil {
				return fmt.Errorf("recipient %d of message %s: %w", part[i].r.N, part[i].id, err)
			}
			if ok {
				changed++
			}
		}
		if after != nil {
			if err := after(tx, part); err != nil {
				return err
			}
		}
		slices.SortFunc(e.woken, func(a, b wake) int { return compareUnits(a.unit, b.unit) })
		return wakeAll(tx, slices.CompactFunc(e.woken, func(a, b wake) bool { return a.unit == b.unit }))
	})
	if err != nil {
		return 0, err
	}
	if changed > 0 {
		q.signal()
	}
	q.left(&e.removal)
	if q.cfg.Hooks.Removed != nil && e.removal.recipients > 0 {
		q.cfg.Hooks.Removed(e.removal.recipients)
	}
	return changed, nil
}

// Retry makes the matching waiting recipients due now and resets the clocks of their
// hosts. What its sender holds back until later stays (RFC 4865). Suspended destinations stay suspended. It returns how many it changed, also with an error.
func (q *Queue) Retry(ctx context.Context, f Filter) (int, error) {
	now := q.micros()
	n, err := q.each(ctx, f, func(tx db.Tx, t *target, e *effects) (bool, error) {
		changed, err := tx.Exec(`UPDATE queued_recipient SET next_attempt = ? WHERE id = ? AND n = ? AND state = ? AND NOT EXISTS (SELECT 1 FROM queued_message m WHERE m.id = ? AND m.hold_until > ?)`,
			now, t.id[:], t.r.N, int64(Waiting), t.id[:], now)
		if err != nil || changed == 0 {
			return false, err
		}
		e.wake(t, now)
		return true, nil
	}, func(tx db.Tx, part []target) error {
		for _, name := range destinationsOf(part) {
			changed, err := tx.Exec(`UPDATE destination SET next_due = 0, failures = 0, changed = ? WHERE name = ? AND (next_due > 0 OR failures > 0)`, now, name)
			if err != nil {
				return err
			}
			if changed > 0 {
				if err := wakeDestination(tx, name, now); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return n, wrapVerb("retry", err)
}

// destinationsOf is the names in order, each once.
func destinationsOf(part []target) []string {
	var names []string
	for i := range part {
		names = append(names, part[i].r.Destination)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Hold stops the matching waiting recipients until Release; one whose attempt is under way may still be delivered. reason is for people.
func (q *Queue) Hold(ctx context.Context, f Filter, reason string) (int, error) {
	n, err := q.each(ctx, f, func(tx db.Tx, t *target, _ *effects) (bool, error) {
		return q.move(tx, t, change{from: Waiting, to: Held, reason: reason, fate: trace.Held, kind: "hold"})
	}, nil)
	return n, wrapVerb("hold", err)
}

// Release makes the matching held recipients wait again, due at once.
func (q *Queue) Release(ctx context.Context, f Filter) (int, error) {
	now := q.micros()
	n, err := q.each(ctx, f, func(tx db.Tx, t *target, e *effects) (bool, error) {
		e.wake(t, now)
		return q.move(tx, t, change{from: Held, to: Waiting, fate: trace.Queued, kind: "release", due: now})
	}, nil)
	return n, wrapVerb("release", err)
}

// Bounce marks the matching recipients, waiting or held, so that relay returns them to the
// reverse-path with reason, without trying them again. A host that is down or a destination that is
// suspended does not delay that.
func (q *Queue) Bounce(ctx context.Context, f Filter, reason string) (int, error) {
	now := q.micros()
	n, err := q.each(ctx, f, func(tx db.Tx, t *target, e *effects) (bool, error) {
		e.wake(t, now)
		return q.move(tx, t, change{from: t.r.State, to: Returning, reason: reason, fate: trace.Queued, kind: "bounce", due: now})
	}, nil)
	return n, wrapVerb("bounce", err)
}

// change is from which state to which, and what the trace is told.
type change struct {
	from, to State
	reason   string
	fate     trace.State
	kind     string
	due      int64 // next_attempt; 0 leaves it
}

// move changes a recipient's state if it is as it was listed.
func (q *Queue) move(tx db.Tx, t *target, c change) (bool, error) {
	if c.from == c.to {
		return false, nil
	}
	due := "next_attempt"
	args := []any{int64(c.to), db.Text(c.reason)}
	if c.due > 0 {
		due, args = "?", append(args, c.due)
	}
	changed, err := tx.Exec(`UPDATE queued_recipient SET state = ?, reason = ?, next_attempt = `+due+` WHERE id = ? AND n = ? AND state = ?`,
		append(args, t.id[:], t.r.N, int64(c.from))...)
	if err != nil || changed == 0 || q.cfg.Trace == nil {
		return changed > 0, err
	}
	now := q.cfg.Now()
	if err := q.settleFate(tx, t.id, t.r.Fate, c.fate, c.reason, now); err != nil {
		return false, err
	}
	return true, q.cfg.Trace.Note(tx, t.id, trace.Event{At: now, N: t.r.Fate, Kind: c.kind, Detail: c.reason})
}

// Remove takes the matching recipients from the queue without sending anything
// to anybody, settles their fates as removed with reason as the detail, and
// releases bodies no longer needed. It works in chunks and returns how many
// recipients it removed, also with an error.
func (q *Queue) Remove(ctx context.Context, f Filter, reason string) (int, error) {
	n, err := q.each(ctx, f, func(tx db.Tx, t *target, e *effects) (bool, error) {
		query, args := `DELETE FROM queued_recipient WHERE id = ? AND n = ?`, []any{t.id[:], t.r.N}
		if f.State != 0 {
			query, args = query+` AND state = ?`, append(args, int64(f.State))
		}
		changed, err := tx.Exec(query, args...)
		if err != nil || changed == 0 {
			return false, err // settled meanwhile, or not in that state any more
		}
		if err := q.settleFate(tx, t.id, t.r.Fate, trace.Removed, reason, q.cfg.Now()); err != nil {
			return false, err
		}
		return true, leave(tx, t.id, 1, &e.removal)
	}, nil)
	return n, wrapVerb("remove", err)
}

// Earlier makes the waiting recipients whose next attempt lies after latest due at that moment,
// except those that wait by FUTURERELEASE (RFC 4865), and the hosts' clocks with them. It is for a clock that was set back: what was put off while it
// was ahead would wait until then.
func (q *Queue) Earlier(ctx context.Context, latest time.Time) (int, error) {
	at := db.Micros(latest)
	err := q.cfg.DB.Update(ctx, func(tx db.Tx) error {
		if _, err := tx.Exec(`UPDATE destination SET next_due = ? WHERE next_due > ?`, at, at); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE queued_shard SET due = ? WHERE due > ? AND due < ? AND incarnation = 0`, at, at, never)
		return err
	})
	if err != nil {
		return 0, wrapVerb("reschedule", err)
	}
	n, err := q.each(ctx, Filter{All: true, nextAfter: latest}, func(tx db.Tx, t *target, e *effects) (bool, error) {
		changed, err := tx.Exec(`UPDATE queued_recipient SET next_attempt = ? WHERE id = ? AND n = ? AND state = ? AND next_attempt > ?
			AND NOT EXISTS (SELECT 1 FROM queued_message m WHERE m.id = queued_recipient.id AND m.hold_until > ?)`, at, t.id[:], t.r.N, int64(Waiting), at, at)
		if err != nil || changed == 0 {
			return false, err
		}
		e.wake(t, at)
		return true, nil
	}, nil)
	return n, wrapVerb("reschedule", err)
}

func wrapVerb(what string, err error) error {
	if err == nil || errors.Is(err, ErrEmptyFilter) {
		return err
	}
	return fmt.Errorf("%s queued recipients: %w", what, err)
}
