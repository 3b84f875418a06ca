package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/db"
)

// Limits of upkeep.
const (
	allEvery  = 5 * time.Minute // between two looks at all shards
	allUnits  = 200             // shards that one view looks at
	sweepRows = 200             // destinations that one transaction looks at
	sweepAge  = time.Hour       // a host's row stays this long after its last change
)

// Upkeep does what is due of the queue's housekeeping: shards that nobody was told of,
// leases that this node does not know to have, and rows of destinations that nobody
// needs. Run calls it; it is cheap when nothing is due.
func (n *Node) Upkeep(ctx context.Context) error {
	if !n.Valid() {
		return ErrLeaseLost
	}
	n.q.mu.Lock()
	missed := n.q.missed
	n.q.missed = false
	n.q.mu.Unlock()
	n.mu.Lock()
	due := n.all || missed || time.Since(n.lookedAll) >= allEvery
	if due {
		n.all, n.lookedAll = false, time.Now()
	}
	n.mu.Unlock()
	if !due {
		return nil
	}
	err := n.lookAtAll(ctx)
	if err != nil {
		n.mu.Lock()
		n.all = true
		n.mu.Unlock()
		err = fmt.Errorf("look at all shards: %w", err)
	}
	return errors.Join(err, n.freeLost(ctx), n.Sweep(ctx))
}

// lookAtAll wakes shards whose row is missing or too late. It walks from shard to
// shard in the recipients' index, so a large one costs no more than a small one.
func (n *Node) lookAtAll(ctx context.Context) error {
	for at, more := (unit{shard: -1}), true; more; {
		var late []wake
		err := n.q.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
			from := at
			late, more = nil, true
			for range allUnits {
				if more, err = nextUnit(tx, &from); err != nil || !more {
					return err
				}
				w, ok, err := n.late(tx, from)
				if err != nil {
					return err
				}
				if ok {
					late = append(late, w)
				}
			}
			at = from
			return nil
		})
		if err != nil {
			return err
		}
		if len(late) == 0 {
			continue
		}
		if err := n.q.cfg.DB.Update(ctx, func(tx db.Tx) error { return wakeAll(tx, late) }); err != nil {
			return err
		}
		n.q.signal()
	}
	return nil
}

// nextUnit moves to the shard that follows; false at the end. One comparison of the pair would not
// do: SQLite then steps through all rows that are equal to it.
func nextUnit(tx db.Tx, u *unit) (bool, error) {
	next := *u
	err := tx.QueryRow(`SELECT shard FROM queued_recipient WHERE destination = ? AND shard > ? ORDER BY shard LIMIT 1`, u.destination, u.shard).Scan(&next.shard)
	if errors.Is(err, db.ErrNotFound) {
		err = tx.QueryRow(`SELECT destination, shard FROM queued_recipient WHERE destination > ? ORDER BY destination, shard LIMIT 1`, u.destination).Scan(&next.destination, &next.shard)
	}
	if errors.Is(err, db.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		*u = next
	}
	return err == nil, err
}

// late reports whether somebody should look at u sooner than its row says.
func (n *Node) late(tx db.Tx, u unit) (wake, bool, error) {
	due, waiting, err := earliest(tx, u)
	if err != nil || !waiting {
		return wake{}, false, err
	}
	var stored, incarnation int64
	err = tx.QueryRow(`SELECT due, incarnation FROM queued_shard WHERE destination = ? AND shard = ?`, u.destination, u.shard).Scan(&stored, &incarnation)
	if errors.Is(err, db.ErrNotFound) {
		return wake{u, max(due, n.q.micros())}, true, nil
	}
	if err != nil || incarnation != 0 {
		return wake{}, false, err
	}
	if due > 0 { // else an operator has recipients returned, whatever the host does
		h, err := readHost(tx, u.destination)
		if err != nil {
			return wake{}, false, err
		}
		due = h.due(due)
	}
	due = max(due, n.q.micros())
	return wake{u, due}, due < stored, nil
}

// freeLost gives back what this incarnation has on lease without knowing it, after a commit of
// unknown outcome.
func (n *Node) freeLost(ctx context.Context) error {
	n.claiming.Lock()
	defer n.claiming.Unlock()
	var lost []unit
	err := n.q.cfg.DB.View(ctx, func(tx db.Tx) error {
		lost = nil
		rows, err := tx.Query(`SELECT destination, shard FROM queued_shard WHERE incarnation = ?`, n.incarnation)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var u unit
			if err := rows.Scan(&u.destination, &u.shard); err != nil {
				return err
			}
			if !n.known(u) {
				lost = append(lost, u)
			}
		}
		return rows.Err()
	})
	if err != nil || len(lost) == 0 {
		return err
	}
	return n.q.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
		for _, u := range lost[:min(len(lost), maxClaim)] {
			if n.known(u) {
				continue
			}
			if err := n.giveBackOne(tx, u); err != nil {
				return err
			}
		}
		return nil
	})
}

// Sweep removes the rows of destinations that have no recipients, are not
// suspended and whose host is not down, an hour after their last change. Claim needs no such row, so
// one that goes while mail comes in costs nothing but the count of failures.
func (n *Node) Sweep(ctx context.Context) error {
	for after, more := "", true; more; {
		var names []string
		err := n.q.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
			names, err = idleHosts(tx, after, n.q.micros())
			return err
		})
		if err == nil && len(names) > 0 {
			after = names[len(names)-1]
			err = n.q.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error { return n.sweep(tx, names) })
		}
		if err != nil {
			return fmt.Errorf("sweep destinations: %w", err)
		}
		more = len(names) == sweepRows
	}
	return nil
}

// sweep removes the rows of some destinations, if nobody needs them.
func (n *Node) sweep(tx db.Tx, names []string) error {
	now := n.q.micros()
	for _, name := range names {
		_, err := tx.Exec(`DELETE FROM destination WHERE name = ? AND suspended = 0 AND next_due <= ? AND changed < ? AND NOT EXISTS (SELECT 1 FROM queued_recipient r WHERE r.destination = ?)`,
			name, now, now-sweepAge.Microseconds(), name)
		if err != nil {
			return err
		}
	}
	return nil
}

// idleHosts reads names of destinations that follow another and are neither suspended nor down.
func idleHosts(tx db.Tx, after string, now int64) ([]string, error) {
	rows, err := tx.Query(`SELECT name FROM destination WHERE name > ? AND suspended = 0 AND next_due <= ? AND changed < ? ORDER BY name LIMIT ?`,
		after, now, now-sweepAge.Microseconds(), sweepRows)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}
