// Package greylist asks suspicious strangers to come again: mail servers do, most senders of
// spam don't (RFC 6647). The caller decides who is suspicious; this package remembers who came
// when. A first try and a network that came again are rows, written before the reply leaves and
// shared by all nodes on one database.
package greylist

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/memo"
	"poczta.example/poczta/internal/verdict"
)

// Component is this package's tables, for db.Migrate: first tries under a keyed hash of
// network, reverse-path and recipient's domain, and the networks that came again. Times are µs.
func Component() db.Component {
	return db.Component{Name: "greylist", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE greylist_try (
	hash {int} NOT NULL PRIMARY KEY, network {int} NOT NULL, first {int} NOT NULL) {rowid};
CREATE INDEX greylist_try_network ON greylist_try (network, first);
CREATE INDEX greylist_try_first ON greylist_try (first);
CREATE TABLE greylist_known (
	network {int} NOT NULL PRIMARY KEY, seen {int} NOT NULL) {rowid};
CREATE INDEX greylist_known_seen ON greylist_known (seen)`}}}
}

// Hooks are optional functions for metrics. They must return at once.
type Hooks struct {
	Decided func(Decision)
	// Dropped is called with the number of first tries that had to leave for others.
	Dropped func(n int64)
}

// Config builds a List. DB is required; zero fields are the defaults named.
type Config struct {
	DB db.Database
	// Delay is how long a stranger must wait: 3 minutes.
	Delay time.Duration
	// Window is until when it must have come again: 2 days.
	Window time.Duration
	// Keep is how long a network that came again is known, since it was last seen: 36 days.
	Keep time.Duration
	// Networks groups addresses, so that the hosts of a large sender's pool count as one;
	// zero fields are 24 for IPv4 and 64 for IPv6.
	Networks limit.Networks
	// MaxTries bounds the first tries that are kept: 200,000. The oldest leave.
	MaxTries int64
	// MaxPerNetwork bounds those of one network: 200. The oldest leave.
	MaxPerNetwork int64
	Hooks         Hooks
	Logger        *slog.Logger     // nil discards
	Now           func() time.Time // nil is time.Now
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.Delay, 3 * time.Minute}, {&c.Window, 48 * time.Hour}, {&c.Keep, 36 * 24 * time.Hour}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.MaxTries <= 0 {
		c.MaxTries = 200_000
	}
	if c.MaxPerNetwork <= 0 {
		c.MaxPerNetwork = 200
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Bounds of memory and time.
const (
	maxCached    = 20_000
	cachedFor    = 10 * time.Minute
	refreshEvery = 24 * time.Hour // a known network that is seen again is written so often
	writeEvery   = 10 * time.Second
	sweepEvery   = 10 * time.Minute
	dropRows     = 100 // that leave at once when there is no room
)

// List is the memory of strangers. Safe for concurrent use.
type List struct {
	cfg   Config
	salt  []byte
	known *memo.Memo[int64, int64] // network: when it was last seen, as the row says
	tries atomic.Int64             // about how many rows of first tries there are

	mu      sync.Mutex
	refresh map[int64]int64 // networks to be written anew
}

// New returns a List; it does no I/O.
func New(c Config) (*List, error) {
	if c.DB == nil {
		return nil, errors.New("greylist: DB is required")
	}
	if err := c.Networks.Validate(); err != nil {
		return nil, fmt.Errorf("greylist: %w", err)
	}
	c = c.withDefaults()
	if c.Delay < 0 || c.Window <= c.Delay || c.Keep <= 0 {
		return nil, fmt.Errorf("greylist: a delay of %v, a window of %v, known for %v: the window must be longer than the delay, and all above zero", c.Delay, c.Window, c.Keep)
	}
	return &List{cfg: c, salt: []byte("greylist " + c.DB.StoreID() + " "), known: memo.New[int64, int64](maxCached, cachedFor), refresh: map[int64]int64{}}, nil
}

// Try is an attempt to deliver.
type Try struct {
	Peer        netip.Addr
	ReversePath address.ReversePath
	Domain      address.Domain // the recipient's
}

// Action is what becomes of a Try.
type Action uint8

// The actions.
const (
	Pass Action = iota
	Wait        // refuse for now: 451 4.7.1
)

// String is the action's word.
func (a Action) String() string {
	if a == Wait {
		return "wait"
	}
	return "pass"
}

// Decision is what becomes of a Try and why.
type Decision struct {
	Action Action
	// After is how long the stranger must still wait.
	After time.Duration
	// First says that the stranger was not here before, or not in time.
	First bool
	// Known says that the network has come again before; waited is false for it.
	Known bool
	// Waited is how long after its first try the stranger came again, when that was just now.
	Waited time.Duration
}

// Items is the evidence of a stranger that came again.
func (d Decision) Items() []verdict.Item {
	if d.Action != Pass || d.Waited == 0 {
		return nil
	}
	return []verdict.Item{{Name: verdict.Greylisted, Detail: "the host came again after " + d.Waited.Truncate(time.Second).String()}}
}

func (l *List) hash(parts ...string) int64 {
	b := make([]byte, 0, 256)
	b = append(b, l.salt...)
	for _, p := range parts {
		b = append(append(b, p...), 0)
	}
	sum := sha256.Sum256(b)
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// Check decides about a suspicious stranger. The first try of a network is stored durably; one
// of a known network costs at most a small read. A peer without an address, or of loopback,
// passes. An error says that nothing is known and nothing was stored; Decision is then Pass.
func (l *List) Check(ctx context.Context, t Try) (Decision, error) {
	peer := t.Peer.Unmap().WithZone("")
	if !peer.IsValid() || peer.IsLoopback() { // a UNIX socket has no address
		return l.decided(Decision{Known: true}), nil
	}
	name := l.cfg.Networks.Of(peer).String()
	network := l.hash(name)
	now := l.cfg.Now()
	if seen, fresh := l.known.Get(network, now); fresh && now.Sub(db.FromMicros(seen)) < l.cfg.Keep {
		l.seen(network, seen, now)
		return l.decided(Decision{Known: true}), nil
	}
	path := "<>"
	if !t.ReversePath.IsNull() {
		path = t.ReversePath.Address().Key()
	}
	d, err := l.look(ctx, network, l.hash(name, path, t.Domain.String()), now)
	if err != nil {
		return Decision{}, fmt.Errorf("greylist %s: %w", name, err)
	}
	return l.decided(d), nil
}

func (l *List) decided(d Decision) Decision {
	if l.cfg.Hooks.Decided != nil {
		l.cfg.Hooks.Decided(d)
	}
	return d
}

// look reads what the database knows and writes what is new.
func (l *List) look(ctx context.Context, network, hash int64, now time.Time) (Decision, error) {
	var seen, first int64
	err := l.cfg.DB.View(ctx, func(tx db.Tx) error {
		err := tx.QueryRow(`SELECT seen FROM greylist_known WHERE network = ?`, network).Scan(&seen)
		if errors.Is(err, db.ErrNotFound) {
			seen = 0
		} else if err != nil || now.Sub(db.FromMicros(seen)) < l.cfg.Keep {
			return err
		}
		err = tx.QueryRow(`SELECT first FROM greylist_try WHERE hash = ?`, hash).Scan(&first)
		if errors.Is(err, db.ErrNotFound) {
			first, err = 0, nil
		}
		return err
	})
	if err != nil {
		return Decision{}, err
	}
	if seen > 0 && now.Sub(db.FromMicros(seen)) < l.cfg.Keep {
		l.known.Put(network, seen, now)
		l.seen(network, seen, now)
		return Decision{Known: true}, nil
	}
	if first == 0 || now.Sub(db.FromMicros(first)) > l.cfg.Window {
		if first, err = l.begin(ctx, network, hash, now); err != nil {
			return Decision{}, err
		}
	}
	age := now.Sub(db.FromMicros(first))
	if age < l.cfg.Delay {
		return Decision{Action: Wait, After: l.cfg.Delay - max(age, 0), First: age <= 0}, nil
	}
	return Decision{Waited: age}, l.learn(ctx, network, hash, now)
}

// begin stores a first try and returns when it was: earlier, when another node was quicker.
func (l *List) begin(ctx context.Context, network, hash int64, now time.Time) (first int64, err error) {
	var dropped int64
	full := l.tries.Load() >= l.cfg.MaxTries
	err = l.cfg.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO greylist_try (hash, network, first) VALUES (?, ?, ?)
			ON CONFLICT (hash) DO UPDATE SET first = excluded.first WHERE greylist_try.first < ?`,
			hash, network, db.Micros(now), db.Micros(now.Add(-l.cfg.Window)))
		if err != nil {
			return err
		}
		if dropped, err = l.makeRoom(tx, network, full); err != nil {
			return err
		}
		err = tx.QueryRow(`SELECT first FROM greylist_try WHERE hash = ?`, hash).Scan(&first)
		if errors.Is(err, db.ErrNotFound) { // it was the oldest itself: the clocks of nodes differ
			first, err = db.Micros(now), nil
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	l.tries.Add(1 - dropped)
	if dropped > 0 && l.cfg.Hooks.Dropped != nil {
		l.cfg.Hooks.Dropped(dropped)
	}
	return first, nil
}

// makeRoom drops the oldest tries of the network beyond its bound, and some of all when full.
func (l *List) makeRoom(tx db.Tx, network int64, full bool) (dropped int64, err error) {
	var rows int64
	if err := tx.QueryRow(`SELECT COUNT(*) FROM greylist_try WHERE network = ?`, network).Scan(&rows); err != nil {
		return 0, err
	}
	if rows > l.cfg.MaxPerNetwork {
		dropped, err = tx.Exec(`DELETE FROM greylist_try WHERE hash IN (SELECT hash FROM greylist_try WHERE network = ? ORDER BY first LIMIT ?)`,
			network, rows-l.cfg.MaxPerNetwork)
	} else if full {
		dropped, err = tx.Exec(`DELETE FROM greylist_try WHERE hash IN (SELECT hash FROM greylist_try ORDER BY first LIMIT ?)`, int64(dropRows))
	}
	return dropped, err
}

// learn makes a network known and ends the try.
func (l *List) learn(ctx context.Context, network, hash int64, now time.Time) error {
	err := l.cfg.DB.Update(ctx, func(tx db.Tx) error {
		if err := writeKnown(tx, network, db.Micros(now)); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM greylist_try WHERE hash = ?`, hash)
		return err
	})
	if err != nil {
		return err
	}
	l.tries.Add(-1)
	l.known.Put(network, db.Micros(now), now)
	return nil
}

func writeKnown(tx db.Tx, network, seen int64) error {
	_, err := tx.Exec(`INSERT INTO greylist_known (network, seen) VALUES (?, ?)
		ON CONFLICT (network) DO UPDATE SET seen = excluded.seen WHERE greylist_known.seen < excluded.seen`, network, seen)
	return err
}
