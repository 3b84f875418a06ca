package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
)

// MaxCount is how many recipients of one destination are looked at; more are told as
// that many.
const MaxCount = 100_000

// Destination is a destination as operators see it.
type Destination struct {
	Name      string
	Waiting   int64 // recipients; the sum of the three is at most MaxCount
	Held      int64
	Returning int64
	Oldest    time.Time // when the oldest of their messages came, to the millisecond
	NextDue   time.Time // by the recipients' and the host's clock; zero when nothing waits or it is suspended
	Failures  int       // attempts in a row that found the host down
	LastError string    // the last of them, or else what a recipient that was put off was told
	Suspended bool
	Reason    string   // of the suspension
	Nodes     []string // that have a shard on lease
}

// DestinationPage is a piece of the list: what follows After in order of name, at
// most Limit (0 is 100, at most MaxPage).
type DestinationPage struct {
	After string
	Limit int
}

// Destinations lists the destinations that have recipients or are suspended, in order of name.
func (q *Queue) Destinations(ctx context.Context, p DestinationPage) ([]Destination, error) {
	if p.Limit <= 0 {
		p.Limit = defaultPage
	}
	p.Limit = min(p.Limit, MaxPage)
	var all []Destination
	for after := strings.ToLower(p.After); len(all) < p.Limit; {
		d, err := q.destination(ctx, after)
		if errors.Is(err, db.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list destinations: %w", err)
		}
		all, after = append(all, d), d.Name
	}
	return all, nil
}

// destination reads the one that follows a name, or ErrNotFound of db. Each part is a view of its own:
// none may take long.
func (q *Queue) destination(ctx context.Context, after string) (Destination, error) {
	var d Destination
	for _, part := range []func(db.Tx) error{
		func(tx db.Tx) (err error) {
			d = Destination{}
			d.Name, err = nextDestination(tx, after)
			return err
		},
		func(tx db.Tx) error { return d.count(tx) },
		func(tx db.Tx) error { return d.age(tx) },
		func(tx db.Tx) error { return d.host(tx) },
		func(tx db.Tx) error { return d.nodes(tx) },
	} {
		if err := q.cfg.DB.View(ctx, part); err != nil {
			return d, err
		}
	}
	return d, nil
}

// nextDestination is the name that follows another.
func nextDestination(tx db.Tx, after string) (string, error) {
	var name, idle string
	err := tx.QueryRow(`SELECT destination FROM queued_recipient WHERE destination > ? ORDER BY destination LIMIT 1`, after).Scan(&name)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return "", err
	}
	found := err == nil
	err = tx.QueryRow(`SELECT name FROM destination WHERE name > ? AND suspended <> 0 ORDER BY name LIMIT 1`, after).Scan(&idle)
	switch {
	case err == nil && (!found || idle < name):
		return idle, nil
	case err != nil && !errors.Is(err, db.ErrNotFound):
		return "", err
	case !found:
		return "", db.ErrNotFound
	}
	return name, nil
}

// count counts recipients by state and finds when the first is due.
func (d *Destination) count(tx db.Tx) error {
	d.Waiting, d.Held, d.Returning, d.NextDue = 0, 0, 0, time.Time{}
	rows, err := tx.Query(`SELECT state, COUNT(*), MIN(next_attempt) FROM (SELECT state, next_attempt FROM queued_recipient WHERE destination = ? LIMIT ?) AS r GROUP BY state`, d.Name, MaxCount)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var state, count, next int64
		if err := rows.Scan(&state, &count, &next); err != nil {
			return err
		}
		switch State(state) {
		case Waiting:
			d.Waiting, d.NextDue = count, db.FromMicros(next)
		case Held:
			d.Held = count
		case Returning:
			d.Returning = count
		}
	}
	return rows.Err()
}

// age finds the oldest message: ids begin with the time.
func (d *Destination) age(tx db.Tx) error {
	var raw []byte
	err := tx.QueryRow(`SELECT id FROM (SELECT id FROM queued_recipient WHERE destination = ? LIMIT ?) AS r ORDER BY id LIMIT 1`, d.Name, MaxCount).Scan(&raw)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	id, err := messageID(raw)
	if err == nil {
		d.Oldest = id.Time().UTC()
	}
	return err
}

// host adds what is known of the host, or else of a recipient that was put off.
func (d *Destination) host(tx db.Tx) error {
	h := hostState{}
	var failures int64
	err := tx.QueryRow(`SELECT next_due, suspended, failures, status, reason FROM destination WHERE name = ?`, d.Name).Scan(&h.next, &d.Suspended, &failures, &d.LastError, &d.Reason)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return err
	}
	d.Failures = int(failures)
	if next := db.FromMicros(h.next); next.After(d.NextDue) && d.Waiting > 0 {
		d.NextDue = next
	}
	if d.Suspended {
		d.NextDue = time.Time{}
	}
	if d.LastError != "" {
		return nil
	}
	var shard, priority int64
	err = tx.QueryRow(`SELECT shard, priority FROM queued_recipient WHERE destination = ? LIMIT 1`, d.Name).Scan(&shard, &priority)
	if err == nil {
		err = tx.QueryRow(`SELECT last_status FROM queued_recipient WHERE destination = ? AND shard = ? AND state = ? AND priority = ? ORDER BY next_attempt DESC LIMIT 1`,
			d.Name, shard, int64(Waiting), priority).Scan(&d.LastError)
	}
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	return err
}

// nodes names those that have a part on lease.
func (d *Destination) nodes(tx db.Tx) error {
	d.Nodes = nil
	rows, err := tx.Query(`SELECT DISTINCT n.name FROM queued_shard s JOIN node n ON n.incarnation = s.incarnation WHERE s.destination = ? AND s.incarnation <> 0 ORDER BY n.name`, d.Name)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		d.Nodes = append(d.Nodes, name)
	}
	return rows.Err()
}
