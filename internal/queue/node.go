package queue

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// ErrLeaseLost is returned to a node whose incarnation has ended, because it could not
// renew its lease in time or because another process took the database over, and
// for a claim that it does not have. A node that gets it from Renew ends its
// sessions and joins again.
var ErrLeaseLost = errors.New("the lease of the queue is lost")

// leaseMargin is which part of a lease a node does not use: the final dot must be
// on its way before others may begin.
const leaseMargin = 6

// Node is one incarnation of a process that works the queue: everything it has on
// lease, it has until the incarnation ends. Safe for concurrent use.
type Node struct {
	q           *Queue
	name        string
	incarnation int64

	claiming sync.Mutex // one Claim, or one look for lost claims, at a time

	mu        sync.Mutex
	renewed   time.Time // start of the last renewal that succeeded
	lost      bool
	first     bool // of the living nodes: it does what one must do
	held      map[unit]*held
	releasing map[unit]bool
	inFlight  map[rowKey]flight
	quiet     map[unit]time.Time // until when nobody of a shard expires
	delays    delays

	all       bool      // upkeep looks at all shards next
	lookedAll time.Time // when it did
}

// held is a claim on this node.
type held struct {
	flying  int             // its rows in flight
	taking  int             // calls that read its rows now
	settled map[rowKey]bool // rows settled meanwhile, which those calls may still see
	trouble bool            // its destination has a row
	look    look            // for recipients whose time is over
}

// rowKey names a recipient.
type rowKey struct {
	id message.ID
	n  int
}

// flight is what is known of a recipient that was taken.
type flight struct {
	unit
	attempts int
	fate     int
}

// Join begins an incarnation. name is for people (a host's name). On SQLite, where the folder's lock
// admits one process, all older incarnations end at once; on PostgreSQL
// they end when they have not renewed their lease.
func (q *Queue) Join(ctx context.Context, name string) (*Node, error) {
	var raw [8]byte
	rand.Read(raw[:]) // never fails
	n := &Node{q: q, name: name, incarnation: int64(binary.BigEndian.Uint64(raw[:])>>1 | 1), renewed: time.Now(), all: true,
		held: make(map[unit]*held), releasing: make(map[unit]bool), inFlight: make(map[rowKey]flight), quiet: make(map[unit]time.Time)}
	err := q.cfg.DB.Update(ctx, func(tx db.Tx) error {
		if q.alone() {
			if _, err := tx.Exec(`DELETE FROM node`); err != nil {
				return err
			}
			if _, err := tx.Exec(`UPDATE queued_shard SET incarnation = 0, due = ? WHERE incarnation > 0`, q.micros()); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`INSERT INTO node (node, incarnation, until, name) VALUES (?, ?, `+db.ClockSQL(q.cfg.DB)+` + ?, ?)`,
			n.incarnation, n.incarnation, q.cfg.LeaseFor.Microseconds(), db.Text(name))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("join queue as %s: %w", name, err)
	}
	return n, n.look(ctx)
}

// alone reports whether the engine admits one process only.
func (q *Queue) alone() bool { return q.cfg.DB.Engine() == "sqlite" }

// micros is now as stored.
func (q *Queue) micros() int64 { return db.Micros(q.cfg.Now()) }

// Renew makes the lease last for Config.LeaseFor from now by the database's clock, and ends
// incarnations whose lease is over: what they had is due again. ErrLeaseLost when this one has ended;
// after any other error the lease goes on until it is over, and Renew may be called again.
func (n *Node) Renew(ctx context.Context) error {
	start := time.Now()
	if err := n.prolong(ctx); err != nil {
		if errors.Is(err, ErrLeaseLost) {
			n.mu.Lock()
			n.lost = true
			n.mu.Unlock()
		}
		return fmt.Errorf("renew lease of node %s: %w", n.name, err)
	}
	n.mu.Lock()
	if start.After(n.renewed) {
		n.renewed = start
	}
	n.mu.Unlock()
	if err := n.look(ctx); err != nil {
		return fmt.Errorf("look for other nodes: %w", err)
	}
	return nil
}

// prolong writes the new end of the lease. SQLite needs no write: nobody else can be there.
func (n *Node) prolong(ctx context.Context) error {
	if n.q.alone() {
		return n.q.cfg.DB.View(ctx, func(tx db.Tx) error {
			var there int64
			if err := tx.QueryRow(`SELECT COUNT(*) FROM node WHERE incarnation = ?`, n.incarnation).Scan(&there); err != nil || there > 0 {
				return err
			}
			return ErrLeaseLost
		})
	}
	clock := db.ClockSQL(n.q.cfg.DB)
	return n.q.cfg.DB.Update(ctx, func(tx db.Tx) error {
		changed, err := tx.Exec(`UPDATE node SET until = `+clock+` + ? WHERE node = ? AND until > `+clock, n.q.cfg.LeaseFor.Microseconds(), n.incarnation)
		if err == nil && changed == 0 {
			err = ErrLeaseLost
		}
		return err
	})
}

// look reads who lives, and ends those whose lease is over.
func (n *Node) look(ctx context.Context) error {
	var dead []int64
	lowest := n.incarnation
	err := n.q.cfg.DB.View(ctx, func(tx db.Tx) error {
		dead, lowest = nil, n.incarnation
		rows, err := tx.Query(`SELECT incarnation, CASE WHEN until < ` + db.ClockSQL(n.q.cfg.DB) + ` THEN 1 ELSE 0 END FROM node ORDER BY incarnation`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var incarnation int64
			var over bool
			if err := rows.Scan(&incarnation, &over); err != nil {
				return err
			}
			switch {
			case incarnation == n.incarnation:
			case over && !n.q.alone():
				dead = append(dead, incarnation)
			default:
				lowest = min(lowest, incarnation)
			}
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.first = lowest == n.incarnation
	n.mu.Unlock()
	for _, incarnation := range dead {
		if err := n.bury(ctx, incarnation); err != nil {
			return err
		}
	}
	return nil
}

// bury ends an incarnation whose lease is over, unless it renewed it meanwhile or
// another node was quicker.
func (n *Node) bury(ctx context.Context, incarnation int64) error {
	var over int64
	err := n.q.cfg.DB.Update(ctx, func(tx db.Tx) (err error) {
		over, err = tx.Exec(`DELETE FROM node WHERE node = ? AND until < `+db.ClockSQL(n.q.cfg.DB), incarnation)
		if err != nil || over == 0 {
			return err
		}
		_, err = tx.Exec(`UPDATE queued_shard SET incarnation = 0, due = ? WHERE incarnation = ?`, n.q.micros(), incarnation)
		return err
	})
	if err == nil && over > 0 {
		n.mu.Lock()
		n.all = true // it may have died before it told of what it enqueued
		n.mu.Unlock()
		n.q.cfg.Logger.Warn("a node's lease is over, its destinations are taken over", "incarnation", incarnation)
		n.q.signal()
	}
	return err
}

// Valid reports whether the lease surely stands: the last renewal that succeeded
// began less than five sixths of Config.LeaseFor ago by this machine's monotonic
// clock. It asks no database; it is called immediately before the final dot.
func (n *Node) Valid() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.lost && time.Since(n.renewed) < n.q.cfg.LeaseFor-n.q.cfg.LeaseFor/leaseMargin
}

// Leave ends the incarnation: all that it has on lease is due for others at once.
// The caller has ended its deliveries.
func (n *Node) Leave(ctx context.Context) error {
	n.mu.Lock()
	n.lost = true
	n.mu.Unlock()
	if err := n.q.flush(ctx, func(unit) bool { return false }); err != nil {
		n.q.cfg.Logger.Warn("shards of the queue stay unannounced until upkeep", "error", err)
	}
	err := n.q.cfg.DB.Update(ctx, func(tx db.Tx) error {
		if _, err := tx.Exec(`DELETE FROM node WHERE node = ?`, n.incarnation); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE queued_shard SET incarnation = 0, due = ? WHERE incarnation = ?`, n.q.micros(), n.incarnation)
		return err
	})
	if err != nil {
		return fmt.Errorf("leave queue: %w", err)
	}
	n.mu.Lock()
	clear(n.held)
	clear(n.inFlight)
	n.mu.Unlock()
	return nil
}

// Run renews the lease every Config.RenewEvery and does the queue's upkeep, until ctx ends (nil) or
// the lease is lost (ErrLeaseLost). It does not Leave.
func (n *Node) Run(ctx context.Context) error {
	renew := time.NewTicker(n.q.cfg.RenewEvery)
	defer renew.Stop()
	for {
		if err := n.Upkeep(ctx); err != nil && ctx.Err() == nil {
			n.q.cfg.Logger.Error("upkeep of the queue failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-renew.C:
		}
		err := n.Renew(ctx)
		if errors.Is(err, ErrLeaseLost) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			n.q.cfg.Logger.Error("lease of the queue not renewed", "valid", n.Valid(), "error", err)
		}
	}
}
