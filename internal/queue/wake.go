package queue

import (
	"context"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
)

// Waking. An Accept writes the rows of its recipients and nothing else, so that
// messages for one large domain never wait for each other. Once it has committed,
// Enqueued notes in memory that the shard has work; the next Claim of this process
// writes all that was noted, once for each shard, as a conditional upsert.
//
// Why nothing is lost: the upsert comes after the commit, and it locks the shard's
// row, as Release does before it looks for what is left. So either Release sees the
// recipients, or the upsert comes after it and sees the later due, or no row at all. A
// process that dies in between leaves a shard that nobody was told of: upkeep
// finds it at the next start, and on other nodes when the death is noticed.

// maxWakes bounds the shards noted in memory; beyond it upkeep looks at all.
const maxWakes = 1 << 16

// wakeRows is how many shards one transaction wakes.
const wakeRows = 200

// never is a due that does not come.
const never = int64(1) << 62

// unit names a shard of a destination.
type unit struct {
	destination string
	shard       int
}

// wake is a shard to be woken.
type wake struct {
	unit
	due int64 // microseconds
}

// note remembers that u has work from due on.
func (q *Queue) note(u unit, due int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	old, there := q.wakes[u]
	if !there && len(q.wakes) >= maxWakes {
		q.missed = true
		return
	}
	if !there || due < old {
		q.wakes[u] = due
	}
}

// Wake returns a channel that holds one token when this process has enqueued
// something, or an operator changed something, since the last receive.
func (q *Queue) Wake() <-chan struct{} { return q.woken }

func (q *Queue) signal() {
	select {
	case q.woken <- struct{}{}:
	default:
	}
}

// flush writes what was noted, except for shards that held says are on lease here:
// whoever has them sees the recipients anyway.
func (q *Queue) flush(ctx context.Context, held func(unit) bool) error {
	q.mu.Lock()
	noted := q.wakes
	if len(noted) == 0 {
		q.mu.Unlock()
		return nil
	}
	q.wakes = make(map[unit]int64)
	q.mu.Unlock()
	var all []wake
	for u, due := range noted {
		if !held(u) {
			all = append(all, wake{u, due})
		}
	}
	slices.SortFunc(all, func(a, b wake) int { return compareUnits(a.unit, b.unit) })
	for len(all) > 0 {
		part := all[:min(len(all), wakeRows)]
		if err := q.cfg.DB.Update(ctx, func(tx db.Tx) error { return wakeAll(tx, part) }); err != nil {
			for _, w := range all {
				q.note(w.unit, w.due)
			}
			return err
		}
		all = all[len(part):]
	}
	return nil
}

// wakeAll makes shards due, unless they are sooner or on lease. They stand in order.
func wakeAll(tx db.Tx, all []wake) error {
	for _, w := range all {
		_, err := tx.Exec(`INSERT INTO queued_shard (destination, shard, due, incarnation) VALUES (?, ?, ?, 0)
			ON CONFLICT (destination, shard) DO UPDATE SET due = excluded.due WHERE queued_shard.due > excluded.due AND queued_shard.incarnation = 0`,
			w.destination, w.shard, w.due)
		if err != nil {
			return err
		}
	}
	return nil
}

func compareUnits(a, b unit) int {
	if c := strings.Compare(a.destination, b.destination); c != 0 {
		return c
	}
	return a.shard - b.shard
}

// Sharding. A destination has one shard, 0, until this process has enqueued more
// than Config.ShardOver recipients for it within countFor; then its recipients are
// spread, so that several nodes can work for it.

// Limits of counting.
const (
	countFor = 10 * time.Minute
	maxCount = 4096 // destinations; more than these are not large
)

// shardOf chooses the shard of recipient n of a message.
func (q *Queue) shardOf(m *Message, r *Recipient) int {
	if q.cfg.Shards <= 1 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := q.cfg.Now(); now.Sub(q.counted).Abs() > countFor || len(q.counts) > maxCount {
		for name, n := range q.counts { // what was large stays so for one more period
			if n <= q.cfg.ShardOver {
				delete(q.counts, name)
			} else {
				q.counts[name] = q.cfg.ShardOver / 2
			}
		}
		if len(q.counts) > maxCount {
			clear(q.counts)
		}
		q.counted = now
	}
	q.counts[r.Destination]++
	if q.counts[r.Destination] <= q.cfg.ShardOver {
		return 0
	}
	// Recipients of one message stay together by the hundred: one transaction each.
	return (int(m.ID[15]) + r.N/100) % q.cfg.Shards
}
