package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// Limits of looking for recipients whose time is over.
const (
	expiredRows  = 2000      // of one view
	expiredAgain = time.Hour // a whole look that found nobody is good for this long at most
	maxQuiet     = 10_000    // shards whose look is remembered
)

// look is how far a claim's look for expired recipients has come.
type look struct {
	priority, next, n int64
	id                message.ID
	began, done       bool
	first             int64 // when the first of those seen will expire; 0 is never
}

// Expired returns at most limit (and MaxTake) waiting recipients of a claim whose message's
// time is over, whatever their next attempt is, as jobs in flight. It is asked after an attempt
// to reach the host has failed, never otherwise. When it returns none, it has seen all of the
// claim. A look that found nobody is remembered: until the first will expire, but an hour at
// most, the next claims of this shard are answered at once.
func (n *Node) Expired(ctx context.Context, c Claim, limit int) ([]Job, error) {
	h, _, room, err := n.begin(c)
	if err != nil {
		return nil, err
	}
	n.end(c, h, nil, 0)
	now := n.q.cfg.Now()
	n.mu.Lock()
	l, quiet := h.look, n.quietAt(c.unit(), now)
	n.mu.Unlock()
	limit = min(limit, MaxTake, room)
	if quiet && !l.began || l.done || limit <= 0 {
		return nil, nil
	}
	l.began = true
	var found []rowKey
	for !l.done && len(found) < limit {
		some, err := n.lookOn(ctx, c, &l, db.Micros(now), limit-len(found))
		if err != nil {
			return nil, fmt.Errorf("look for expired recipients of %s: %w", c.Destination, err)
		}
		found = append(found, some...)
	}
	var jobs []Job
	if len(found) > 0 {
		jobs, err = n.read(ctx, c, limit, func(tx db.Tx, _ int) ([]taken, error) { return waitingRows(tx, c.unit(), found) })
		if err != nil {
			return nil, err
		}
	}
	n.looked(c, h, l, now) // not before: who was found and could not be read is to be found again
	return jobs, nil
}

// quietAt reports whether a look has found that nobody of u expires until now. The caller has the lock.
func (n *Node) quietAt(u unit, now time.Time) bool {
	left := n.quiet[u].Sub(now)
	return left > 0 && left <= expiredAgain // else the clock was set back
}

// looked remembers how far the look has come.
func (n *Node) looked(c Claim, h *held, l look, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h.look = l
	if !l.done {
		return
	}
	until := now.Add(expiredAgain)
	if first := db.FromMicros(l.first); l.first > 0 && first.Before(until) {
		until = first
	}
	if len(n.quiet) >= maxQuiet {
		clear(n.quiet)
	}
	n.quiet[c.unit()] = until
}

// lookOn looks through some more rows of a claim.
func (n *Node) lookOn(ctx context.Context, c Claim, l *look, now int64, want int) (found []rowKey, err error) {
	err = n.q.cfg.DB.View(ctx, func(tx db.Tx) error {
		at := *l
		found = nil
		if at.id.IsZero() {
			at.priority, at.next = -128, -never
		}
		rows, err := tx.Query(`SELECT r.id, r.n, r.priority, r.next_attempt, m.expires FROM queued_recipient r JOIN queued_message m ON m.id = r.id
			WHERE r.destination = ? AND r.shard = ? AND r.state = ? AND (r.priority, r.next_attempt, r.id, r.n) > (?, ?, ?, ?)
			ORDER BY r.priority, r.next_attempt, r.id, r.n LIMIT ?`, c.Destination, c.Shard, int64(Waiting), at.priority, at.next, at.id[:], at.n, expiredRows)
		if err != nil {
			return err
		}
		defer rows.Close()
		seen := 0
		for len(found) < want && rows.Next() {
			var raw []byte
			var expires int64
			if err := rows.Scan(&raw, &at.n, &at.priority, &at.next, &expires); err != nil {
				return err
			}
			if at.id, err = messageID(raw); err != nil {
				return err
			}
			seen++
			switch {
			case expires <= now:
				found = append(found, rowKey{at.id, int(at.n)})
			case at.first == 0 || expires < at.first:
				at.first = expires
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		at.done = seen < expiredRows && len(found) < want
		*l = at
		return nil
	})
	return found, err
}

// waitingRows reads recipients of u that still wait.
func waitingRows(tx db.Tx, u unit, keys []rowKey) ([]taken, error) {
	var all []taken
	for _, key := range keys {
		rows, err := tx.Query(`SELECT `+recipientColumns+` FROM queued_recipient r WHERE r.id = ? AND r.n = ? AND r.state = ? AND r.destination = ? AND r.shard = ?`,
			key.id[:], key.n, int64(Waiting), u.destination, u.shard)
		if err != nil {
			return nil, err
		}
		if all, err = scanTaken(rows, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Limits of Overdue.
const (
	delayRows  = 2000      // of one view
	delayViews = 25        // of one call
	delayAgain = time.Hour // it begins anew this long after it came to the end
)

// delays is how far Overdue has come.
type delays struct {
	at    rowKey
	ended time.Time // when it came to the end; zero while it is on its way
}

// Overdue returns recipients that have waited since before a moment and were not warned
// of: of mail that is ours or that somebody here submitted (all mail with Config.WarnAll), with
// a reverse-path, whose NOTIFY does not exclude it (RFC 3461 §4.1). They are not in flight: they may be tried
// meanwhile. The caller reports them and gives Settle their results as Warned. It walks through the queue over several
// calls and, an hour after it came to the end, again; so a recipient that was not
// warned of is returned again then. Only one of the living nodes gets any.
func (n *Node) Overdue(ctx context.Context, before time.Time, limit int) ([]Job, error) {
	if !n.Valid() {
		return nil, ErrLeaseLost
	}
	limit = min(limit, MaxTake)
	n.mu.Lock()
	d, first := n.delays, n.first
	n.mu.Unlock()
	now := n.q.cfg.Now()
	if !d.ended.IsZero() {
		if now.Sub(d.ended).Abs() < delayAgain {
			return nil, nil
		}
		d = delays{}
	}
	if !first {
		return nil, nil
	}
	var jobs []Job
	for views := 0; len(jobs) == 0 && d.ended.IsZero() && views < delayViews; views++ {
		var err error
		if jobs, err = n.overdue(ctx, &d, before, limit); err != nil {
			return nil, fmt.Errorf("look for delayed recipients: %w", err)
		}
	}
	n.mu.Lock()
	n.delays = d
	n.mu.Unlock()
	return jobs, nil
}

// overdue looks through one view's rows.
func (n *Node) overdue(ctx context.Context, d *delays, before time.Time, limit int) (jobs []Job, err error) {
	err = n.q.cfg.DB.View(ctx, func(tx db.Tx) error {
		at := *d
		keys, err := n.delayed(tx, &at, before, limit)
		if err != nil {
			return err
		}
		var all []taken
		for _, key := range keys {
			rows, err := tx.Query(`SELECT `+recipientColumns+` FROM queued_recipient r WHERE r.id = ? AND r.n = ?`, key.id[:], key.n)
			if err != nil {
				return err
			}
			if all, err = scanTaken(rows, all); err != nil {
				return err
			}
		}
		facts := make(map[message.ID]Message)
		if err := readFacts(tx, all, facts); err != nil {
			return err
		}
		jobs = group("", all, facts)
		*d = at
		return nil
	})
	return jobs, err
}

// delayed reads the keys of delayed recipients that follow a place, and moves it.
func (n *Node) delayed(tx db.Tx, d *delays, before time.Time, limit int) ([]rowKey, error) {
	rows, err := tx.Query(`SELECT r.id, r.n, CASE WHEN r.state = ? AND r.warned = 0 AND m.reverse_path <> '' AND (m.ours <> 0 OR m.account <> 0 OR ? <> 0) AND m.hold_until < ?
		AND r.notify IN (0, 8, 10, 12, 14) THEN 1 ELSE 0 END FROM queued_recipient r JOIN queued_message m ON m.id = r.id
		WHERE (r.id, r.n) > (?, ?) AND r.id < ? ORDER BY r.id, r.n LIMIT ?`,
		int64(Waiting), n.q.cfg.WarnAll, db.Micros(before), d.at.id[:], d.at.n, floorID(before), delayRows)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []rowKey
	seen := 0
	for len(keys) < limit && rows.Next() {
		var raw []byte
		var number int64
		var late bool
		if err := rows.Scan(&raw, &number, &late); err != nil {
			return nil, err
		}
		id, err := messageID(raw)
		if err != nil {
			return nil, err
		}
		seen++
		d.at = rowKey{id, int(number)}
		if late {
			keys = append(keys, d.at)
		}
	}
	if seen < delayRows && len(keys) < limit {
		d.ended = n.q.cfg.Now()
	}
	return keys, rows.Err()
}

// floorID is less than every id made from at on.
func floorID(at time.Time) []byte {
	id, err := message.NewID(at, zeros{})
	if err != nil {
		panic(errors.Join(errors.New("zeros have no end"), err))
	}
	return id[:]
}

// zeros is a reader of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
