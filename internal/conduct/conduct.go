// Package conduct watches what accounts send, to catch a stolen password early: many
// recipients never written to before, measured against the account's own habit, many refused
// recipients, messages that look like spam, logins from many networks. Who goes too far is
// slowed, held or refused until an operator has looked, or a time is over.
//
// Counts wait in memory for some seconds, so a crash loses as much; several nodes on one
// database add up. That a rule has struck is stored at once.
package conduct

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/memo"
)

// Component is this package's tables, for db.Migrate. conduct_slot counts what an account
// sent within ten minutes (numbered since 1970); conduct_network is from where it logged in;
// conduct_habit is the day's busiest hour, void when a rule struck on that day; conduct_trip is
// the rule that struck last. Times are µs, days since 1970.
func Component() db.Component {
	return db.Component{Name: "conduct", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE conduct_slot (
	account {int} NOT NULL, slot {int} NOT NULL, messages {int} NOT NULL, recipients {int} NOT NULL,
	fresh {int} NOT NULL, refused {int} NOT NULL, spam {int} NOT NULL, PRIMARY KEY (account, slot)) {rowid};
CREATE INDEX conduct_slot_slot ON conduct_slot (slot);
CREATE TABLE conduct_network (
	account {int} NOT NULL, network {int} NOT NULL, seen {int} NOT NULL, PRIMARY KEY (account, network)) {rowid};
CREATE INDEX conduct_network_seen ON conduct_network (seen);
CREATE TABLE conduct_habit (
	account {int} NOT NULL, day {int} NOT NULL, messages {int} NOT NULL, recipients {int} NOT NULL, fresh {int} NOT NULL,
	void {int} NOT NULL, PRIMARY KEY (account, day)) {rowid};
CREATE INDEX conduct_habit_day ON conduct_habit (day);
CREATE TABLE conduct_trip (
	account {int} NOT NULL PRIMARY KEY, rule {text} NOT NULL, detail {text} NOT NULL, action {int} NOT NULL,
	since {int} NOT NULL, until {int} NOT NULL, quiet {int} NOT NULL) {rowid};
CREATE INDEX conduct_trip_until ON conduct_trip (until)`}}}
}

// Hooks are optional functions. They must return at once.
type Hooks struct {
	// Tripped is called when a rule strikes, once, on the node that stored it: an operator is
	// to be told.
	Tripped func(Trip)
	// Judged is called for each decision.
	Judged func(Action)
	// Dropped is called for what found no room in memory.
	Dropped func()
}

// Config builds a Watch. DB is required.
type Config struct {
	DB    db.Database
	Rules Rules
	// Networks groups the addresses of logins; zero fields are 24 for IPv4 and 48 for IPv6.
	Networks limit.Networks
	Hooks    Hooks
	Logger   *slog.Logger     // nil discards
	Now      func() time.Time // nil is time.Now
}

// Bounds of memory and time.
const (
	slotSeconds = 600
	hourSlots   = 6  // the hour is between 50 and 60 minutes long
	habitDays   = 14 // from which the habit is learned
	maxPending  = 20_000
	maxCached   = 20_000
	cachedFor   = 10 * time.Second
	writeEvery  = 5 * time.Second
	sweepEvery  = 10 * time.Minute
	batchRows   = 100 // of one transaction; each brings two statements
	leastQuiet  = time.Minute
)

// Sent is what an account sends.
type Sent struct {
	Messages   int64
	Recipients int64
	Fresh      int64 // recipients it never wrote to and never heard from
	Refused    int64 // recipients that other servers refused for good
	Spam       int64 // messages that the filters called spam
}

func (s Sent) plus(o Sent) Sent {
	return Sent{s.Messages + o.Messages, s.Recipients + o.Recipients, s.Fresh + o.Fresh, s.Refused + o.Refused, s.Spam + o.Spam}
}

type slotKey struct {
	account envelope.AccountID
	slot    int64
}

type networkKey struct {
	account envelope.AccountID
	network int64
}

// Watch is the room. Safe for concurrent use.
type Watch struct {
	cfg    Config
	salt   []byte
	cached *memo.Memo[envelope.AccountID, view]
	logins *memo.Memo[networkKey, struct{}] // lately noted
	kick   chan struct{}

	// flushing is held while counts go from memory to the database, so that Judge sees each
	// of them once.
	flushing sync.RWMutex
	mu       sync.Mutex // of what follows
	sent     map[slotKey]Sent
	networks map[networkKey]int64 // µs
}

// New returns a Watch; it does no I/O.
func New(c Config) (*Watch, error) {
	if c.DB == nil {
		return nil, errors.New("conduct: DB is required")
	}
	if err := errors.Join(c.Networks.Validate(), c.Rules.Validate()); err != nil {
		return nil, fmt.Errorf("conduct: %w", err)
	}
	if c.Networks.IPv6Bits == 0 {
		c.Networks.IPv6Bits = 48
	}
	c.Rules = c.Rules.withDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Watch{
		cfg: c, salt: []byte("conduct " + c.DB.StoreID() + " "), kick: make(chan struct{}, 1),
		cached: memo.New[envelope.AccountID, view](maxCached, cachedFor), logins: memo.New[networkKey, struct{}](maxCached, 10*time.Minute),
		sent: map[slotKey]Sent{}, networks: map[networkKey]int64{},
	}, nil
}

func slot(t time.Time) int64 { return t.Unix() / slotSeconds }
func day(t time.Time) int64  { return t.Unix() / 86400 }

// Count adds to what an account sent in this hour. It only touches memory; Run writes.
func (w *Watch) Count(_ context.Context, account envelope.AccountID, s Sent) {
	if account == 0 || s == (Sent{}) {
		return
	}
	k := slotKey{account, slot(w.cfg.Now())}
	w.mu.Lock()
	defer w.mu.Unlock()
	was, ok := w.sent[k]
	if !ok && len(w.sent) >= maxPending {
		w.dropped()
		return
	}
	w.sent[k] = was.plus(s)
	w.wake(len(w.sent))
}

// Login notes from where an account logged in. It only touches memory; Run writes.
func (w *Watch) Login(_ context.Context, account envelope.AccountID, peer netip.Addr) {
	peer = peer.Unmap().WithZone("")
	if account == 0 || !peer.IsValid() || peer.IsLoopback() {
		return
	}
	sum := sha256.Sum256(append(append([]byte(nil), w.salt...), w.cfg.Networks.Of(peer).String()...))
	k, now := networkKey{account, int64(binary.BigEndian.Uint64(sum[:8]))}, w.cfg.Now()
	if _, fresh := w.logins.Get(k, now); fresh {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.networks[k]; !ok && len(w.networks) >= maxPending {
		w.dropped()
		return
	}
	w.networks[k] = db.Micros(now)
	w.logins.Put(k, struct{}{}, now)
	w.wake(len(w.networks))
}

func (w *Watch) dropped() {
	if w.cfg.Hooks.Dropped != nil {
		w.cfg.Hooks.Dropped()
	}
}

func (w *Watch) wake(waiting int) {
	if waiting < maxPending/4 {
		return
	}
	select {
	case w.kick <- struct{}{}:
	default:
	}
}
