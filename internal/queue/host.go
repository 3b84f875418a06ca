package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
)

// HostDown sets the host's clock of a claim's destination: nothing is tried before until,
// whatever the recipients' own clocks say, and none of their rows is written. It counts one failure; a
// host that another shard's node has found down already stays as it is. The claim is then
// released, after Expired was asked. status is the last error as text.
func (n *Node) HostDown(ctx context.Context, c Claim, until time.Time, status string) error {
	now := n.q.micros()
	err := n.q.cfg.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO destination (name, next_due, concurrency, rate, suspended, tls, node, incarnation, failures, status, reason, changed)
			VALUES (?, ?, 0, 0, 0, '', 0, 0, 1, ?, '', ?) ON CONFLICT (name) DO UPDATE SET next_due = excluded.next_due, failures = destination.failures + 1,
			status = excluded.status, changed = excluded.changed WHERE destination.next_due <= excluded.changed`, c.Destination, db.Micros(until), db.Text(status), now)
		return err
	})
	if err != nil {
		return fmt.Errorf("put off destination %s: %w", c.Destination, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.held[c.unit()]; h != nil {
		h.trouble = true
	}
	return nil
}

// HostUp resets the host's clock: a session to the host was opened. Its recipients are due by their own
// clocks again, in all shards. It costs nothing when the host was not known to be down.
func (n *Node) HostUp(ctx context.Context, c Claim) error {
	n.mu.Lock()
	h := n.held[c.unit()]
	trouble := h == nil || h.trouble
	n.mu.Unlock()
	if !trouble {
		return nil
	}
	err := n.q.cfg.DB.Update(ctx, func(tx db.Tx) error {
		changed, err := tx.Exec(`UPDATE destination SET next_due = 0, failures = 0, status = '', changed = ? WHERE name = ? AND (failures > 0 OR next_due > 0)`, n.q.micros(), c.Destination)
		if err != nil || changed == 0 {
			return err
		}
		return wakeDestination(tx, c.Destination, n.q.micros())
	})
	if err != nil {
		return fmt.Errorf("reset clock of destination %s: %w", c.Destination, err)
	}
	if h != nil {
		n.mu.Lock()
		h.trouble = false
		n.mu.Unlock()
	}
	n.q.signal()
	return nil
}

// wakeDestination makes the shards of a destination due that nobody has. A Claim looks at each once.
// All rows are written: PostgreSQL would not wait for one that is put off or given back by another transaction,
// which has not seen yet that the host's clock was reset.
func wakeDestination(tx db.Tx, name string, now int64) error {
	_, err := tx.Exec(`UPDATE queued_shard SET due = CASE WHEN incarnation = 0 AND due > ? THEN ? ELSE due END WHERE destination = ?`, now, now, name)
	return err
}

// ErrBadDestination is returned for a name that can't be a destination.
var ErrBadDestination = errors.New("name a destination: a domain, or an address literal in brackets")

// Suspend stops delivery to a destination until Resume, from the next Take on; mail goes on to be
// accepted for it, and nothing expires. reason is for people.
func (q *Queue) Suspend(ctx context.Context, destination, reason string) error {
	destination = db.Text(strings.ToLower(destination))
	if destination == "" {
		return ErrBadDestination
	}
	err := q.cfg.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO destination (name, next_due, concurrency, rate, suspended, tls, node, incarnation, failures, status, reason, changed)
			VALUES (?, 0, 0, 0, 1, '', 0, 0, 0, '', ?, ?) ON CONFLICT (name) DO UPDATE SET suspended = 1, reason = excluded.reason, changed = excluded.changed`,
			destination, db.Text(reason), q.micros())
		return err
	})
	if err != nil {
		return fmt.Errorf("suspend destination %s: %w", destination, err)
	}
	return nil
}

// Resume ends a suspension and resets the host's clock, and reports whether the destination was suspended.
func (q *Queue) Resume(ctx context.Context, destination string) (bool, error) {
	destination = db.Text(strings.ToLower(destination))
	var changed int64
	err := q.cfg.DB.Update(ctx, func(tx db.Tx) (err error) {
		changed, err = tx.Exec(`UPDATE destination SET suspended = 0, reason = '', next_due = 0, failures = 0, changed = ? WHERE name = ? AND suspended <> 0`, q.micros(), destination)
		if err != nil || changed == 0 {
			return err
		}
		return wakeDestination(tx, destination, q.micros())
	})
	if err != nil {
		return false, fmt.Errorf("resume destination %s: %w", destination, err)
	}
	q.signal()
	return changed > 0, nil
}
