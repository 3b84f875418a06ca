package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"poczta.example/poczta/internal/db"
)

// maxClaim is how many shards one transaction leases or gives back.
const maxClaim = 100

// Claim is a shard of a destination on lease. A large destination has several; its
// sessions, its limits and the host's clock are common to them.
type Claim struct {
	Destination string
	Shard       int
	Failures    int    // attempts in a row that found the host down; > 0: the next one is a probe
	Status      string // how the last of them ended
	// ReturnOnly: the host is down or the destination suspended, and Take gives
	// only recipients that an operator has returned.
	ReturnOnly bool
}

func (c *Claim) unit() unit { return unit{c.Destination, c.Shard} }

// hostState is what a destination's row says; the zero value when there is none.
type hostState struct {
	there     bool
	next      int64
	suspended bool
	failures  int
	status    string
}

// blocked reports whether nothing may be sent to the host now.
func (h *hostState) blocked(now int64) bool { return h.suspended || h.next > now }

func readHost(tx db.Tx, name string) (hostState, error) {
	h := hostState{there: true}
	var failures int64
	err := tx.QueryRow(`SELECT next_due, suspended, failures, status FROM destination WHERE name = ?`, name).Scan(&h.next, &h.suspended, &failures, &h.status)
	h.failures = int(failures)
	if errors.Is(err, db.ErrNotFound) {
		return hostState{}, nil
	}
	return h, err
}

// Claim leases shards of destinations that have due recipients, whose host's clock allows it,
// which are not suspended and which nobody has: those waiting longest since they
// were last served come first. next is when the next one could become due, or the zero time; it is
// not later than the truth except for what others enqueue meanwhile. At most
// limit claims; with a limit of zero it only announces what this process
// has enqueued. ErrLeaseLost when the lease is not valid.
func (n *Node) Claim(ctx context.Context, limit int) (claims []Claim, next time.Time, err error) {
	if !n.Valid() {
		return nil, time.Time{}, ErrLeaseLost
	}
	n.claiming.Lock()
	defer n.claiming.Unlock()
	if err := n.q.flush(ctx, n.has); err != nil {
		return nil, time.Time{}, fmt.Errorf("announce work in the queue: %w", err)
	}
	for len(claims) < limit {
		some, full, err := n.claimSome(ctx, min(limit-len(claims), maxClaim))
		if err != nil {
			return claims, time.Time{}, fmt.Errorf("claim destinations: %w", err)
		}
		n.keep(some)
		claims = append(claims, some...)
		if !full {
			break
		}
	}
	next, err = n.next(ctx)
	if err != nil {
		return claims, next, fmt.Errorf("claim destinations: %w", err)
	}
	return claims, next, nil
}

// has reports whether u is on lease here.
func (n *Node) has(u unit) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.held[u] != nil
}

// known is has, or u is being released.
func (n *Node) known(u unit) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.held[u] != nil || n.releasing[u]
}

// keep remembers claims.
func (n *Node) keep(claims []Claim) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range claims {
		n.held[claims[i].unit()] = &held{trouble: claims[i].Failures > 0 || claims[i].ReturnOnly}
	}
}

// claimSome looks at limit shards that are due and leases those that may go; full reports
// that there may be more. It writes nothing when nothing is due.
func (n *Node) claimSome(ctx context.Context, limit int) (claims []Claim, full bool, err error) {
	now := n.q.micros()
	var due []unit
	err = n.q.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
		due, err = dueUnits(tx, now, 1, "")
		return err
	})
	if err != nil || len(due) == 0 {
		return nil, false, err
	}
	err = n.q.cfg.DB.Update(ctx, func(tx db.Tx) error {
		claims = claims[:0]
		if err := n.stand(tx); err != nil {
			return err
		}
		if due, err = dueUnits(tx, now, limit, db.SkipLockedSQL(n.q.cfg.DB, "s")); err != nil {
			return err
		}
		for _, u := range due {
			c, ok, err := n.claimOne(tx, u, now)
			if err != nil {
				return err
			}
			if ok {
				claims = append(claims, c)
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return claims, len(due) == limit, nil
}

// stand keeps others from ending the incarnation until tx has committed, and tells if they have. What
// would be leased to one that has ended, nobody would ever take over. On SQLite there are no others.
func (n *Node) stand(tx db.Tx) error {
	if n.q.alone() {
		return nil
	}
	there, err := tx.Exec(`UPDATE node SET name = name WHERE node = ?`, n.incarnation)
	if err == nil && there == 0 {
		err = ErrLeaseLost
	}
	return err
}

// dueUnits reads shards that are due, those waiting longest first. What is on lease is never due.
func dueUnits(tx db.Tx, now int64, limit int, lock string) ([]unit, error) {
	rows, err := tx.Query(`SELECT s.destination, s.shard FROM queued_shard s WHERE s.due <= ? ORDER BY s.due LIMIT ?`+lock, now, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []unit
	for rows.Next() {
		var u unit
		if err := rows.Scan(&u.destination, &u.shard); err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, rows.Err()
}

// claimOne leases a shard whose row this transaction has, or puts it off until its host may be tried.
func (n *Node) claimOne(tx db.Tx, u unit, now int64) (Claim, bool, error) {
	h, err := readHost(tx, u.destination) // after the lock: what Resume and HostUp have done before is seen
	if err != nil {
		return Claim{}, false, err
	}
	c := Claim{Destination: u.destination, Shard: u.shard, Failures: h.failures, Status: h.status, ReturnOnly: h.blocked(now)}
	if c.ReturnOnly {
		returning, err := anyReturning(tx, u)
		if err != nil {
			return c, false, err
		}
		if !returning {
			_, err = tx.Exec(`UPDATE queued_shard SET due = ? WHERE destination = ? AND shard = ?`, h.due(now), u.destination, u.shard)
			return c, false, err
		}
	}
	changed, err := tx.Exec(`UPDATE queued_shard SET incarnation = ?, due = ? WHERE destination = ? AND shard = ? AND incarnation = 0`,
		n.incarnation, never, u.destination, u.shard)
	return c, changed > 0, err
}

// due is when the host may be tried, as a shard's due.
func (h *hostState) due(at int64) int64 {
	if h.suspended {
		return never
	}
	return max(h.next, at)
}

// anyReturning reports whether u has a recipient that an operator has returned.
func anyReturning(tx db.Tx, u unit) (bool, error) {
	var id []byte
	err := tx.QueryRow(`SELECT id FROM queued_recipient WHERE destination = ? AND shard = ? AND state = ? LIMIT 1`, u.destination, u.shard, int64(Returning)).Scan(&id)
	if errors.Is(err, db.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// earliest is when the first recipient of u may go, by the recipients' clocks; false when none waits.
func earliest(tx db.Tx, u unit) (due int64, ok bool, err error) {
	if returning, err := anyReturning(tx, u); err != nil || returning {
		return 0, returning, err
	}
	for most := 127; ; {
		priority, more, err := nextPriority(tx, u, Waiting, most)
		if err != nil || !more {
			return due, ok, err
		}
		var at int64
		err = tx.QueryRow(`SELECT next_attempt FROM queued_recipient WHERE destination = ? AND shard = ? AND state = ? AND priority = ? ORDER BY next_attempt LIMIT 1`,
			u.destination, u.shard, int64(Waiting), int64(priority)).Scan(&at)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return 0, false, err
		}
		if err == nil && (!ok || at < due) {
			due, ok = at, true
		}
		most = priority - 1
	}
}

// nextPriority is the highest priority of u's recipients in a state that is at most the given one.
func nextPriority(tx db.Tx, u unit, state State, most int) (int, bool, error) {
	var p int64
	err := tx.QueryRow(`SELECT priority FROM queued_recipient WHERE destination = ? AND shard = ? AND state = ? AND priority <= ? ORDER BY priority DESC LIMIT 1`,
		u.destination, u.shard, int64(state), int64(most)).Scan(&p)
	if errors.Is(err, db.ErrNotFound) {
		return 0, false, nil
	}
	return int(p), err == nil, err
}

// next is when the first shard that nobody has becomes due.
func (n *Node) next(ctx context.Context) (time.Time, error) {
	var due int64
	err := n.q.cfg.DB.View(ctx, func(tx db.Tx) error {
		due = 0
		err := tx.QueryRow(`SELECT due FROM queued_shard WHERE due < ? ORDER BY due LIMIT 1`, never).Scan(&due)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil || due == 0 {
		return time.Time{}, err
	}
	return db.FromMicros(due), nil
}

// Release gives claims back: each is due again when its next recipient and its host's clock allow,
// but not before those that wait already. The claim's jobs must have been settled or returned: one
// with recipients in flight stays on lease, and the error says so. A claim that is lost is no error.
func (n *Node) Release(ctx context.Context, claims ...Claim) error {
	units := make([]unit, len(claims))
	for i := range claims {
		units[i] = claims[i].unit()
	}
	slices.SortFunc(units, compareUnits)
	units = slices.Compact(units)
	flying := 0
	for part := range slices.Chunk(units, maxClaim) {
		kept, busy := n.drop(part)
		flying += busy
		err := n.giveBack(ctx, kept)
		for try := 0; try < 3 && errors.Is(err, db.ErrUnknownOutcome); try++ {
			err = n.giveBack(ctx, kept) // what is given back already is not ours and passed over
		}
		n.dropped(kept, err)
		if err != nil {
			return fmt.Errorf("release destinations: %w", err)
		}
	}
	if flying > 0 {
		return fmt.Errorf("release destinations: %d of them have recipients in flight: settle or return these first", flying)
	}
	return nil
}

// drop takes units from those on lease, in memory. It comes before the transaction: what is enqueued
// from now on is announced, what was before is seen by the transaction.
func (n *Node) drop(units []unit) (dropped map[unit]*held, busy int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	dropped = make(map[unit]*held, len(units))
	for _, u := range units {
		switch h := n.held[u]; {
		case h == nil:
		case h.flying > 0:
			busy++
		default:
			dropped[u] = h
			delete(n.held, u)
			n.releasing[u] = true
		}
	}
	return dropped, busy
}

// dropped ends what drop began: err says whether the lease stays.
func (n *Node) dropped(units map[unit]*held, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for u, h := range units {
		delete(n.releasing, u)
		if err != nil && n.held[u] == nil {
			n.held[u] = h
		}
	}
}

// giveBack writes the new due of shards, or removes those that have nobody left.
func (n *Node) giveBack(ctx context.Context, dropped map[unit]*held) error {
	if len(dropped) == 0 {
		return nil
	}
	units := make([]unit, 0, len(dropped))
	for u := range dropped {
		units = append(units, u)
	}
	slices.SortFunc(units, compareUnits)
	return n.q.cfg.DB.Update(ctx, func(tx db.Tx) error {
		for _, u := range units {
			if err := n.giveBackOne(tx, u); err != nil {
				return err
			}
		}
		return nil
	})
}

func (n *Node) giveBackOne(tx db.Tx, u unit) error {
	// This locks the row; what follows sees all whose announcement came before.
	changed, err := tx.Exec(`UPDATE queued_shard SET incarnation = 0 WHERE destination = ? AND shard = ? AND incarnation = ?`, u.destination, u.shard, n.incarnation)
	if err != nil || changed == 0 {
		return err
	}
	due, waiting, err := earliest(tx, u)
	if err != nil {
		return err
	}
	if !waiting {
		_, err = tx.Exec(`DELETE FROM queued_shard WHERE destination = ? AND shard = ? AND incarnation = 0`, u.destination, u.shard)
		return err
	}
	now := n.q.micros()
	if due > 0 {
		h, err := readHost(tx, u.destination)
		if err != nil {
			return err
		}
		due = h.due(due)
	}
	_, err = tx.Exec(`UPDATE queued_shard SET due = ? WHERE destination = ? AND shard = ?`, max(due, now), u.destination, u.shard)
	return err
}
