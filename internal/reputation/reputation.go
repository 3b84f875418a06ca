// Package reputation remembers how mail from a network, a proven domain and a proven address
// turned out, whom accounts write to and hear from, and which hosts write to spam traps or ask
// for recipients that don't exist. It makes evidence of that; package verdict weighs it.
//
// Counts fade with a half-life of 30 days. Names that nothing proves are never counted, so
// nobody can spoil or borrow another's name. What is noted waits in memory for some seconds:
// a crash loses as much. Several nodes on one database add up.
package reputation

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
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/memo"
	"poczta.example/poczta/internal/verdict"
)

// Kind is what a reputation is of; numbers are stored.
type Kind uint8

// The kinds.
const (
	Network Kind = 1 + iota // of the host that delivers: /24 of IPv4, /48 of IPv6
	Domain                  // proven by SPF, DKIM or DMARC
	Address                 // in From, its domain proven
)

// String is the kind's word.
func (k Kind) String() string {
	switch k {
	case Network:
		return "network"
	case Domain:
		return "domain"
	case Address:
		return "address"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Subject is whom a message comes from. Zero fields are left out; Domain and Address must be
// proven.
type Subject struct {
	Peer    netip.Addr
	Domain  address.Domain
	Address address.Address
}

// Hooks are optional functions for metrics. They must return at once.
type Hooks struct {
	// Looked is called by Seen and Knows: whether memory had all that was asked.
	Looked func(cached bool)
	// Written is called after each transaction of Flush with its rows.
	Written func(rows int, took time.Duration)
	// Dropped is called for what found no room in memory.
	Dropped func()
}

// Config builds a Store. DB is required.
type Config struct {
	DB db.Database
	// Networks groups addresses; zero fields are 24 for IPv4 and 48 for IPv6: a /64 is one
	// customer's or one host's, and whoever rents a /48 has 65,536 of them.
	Networks limit.Networks
	// Ignore is networks that have no reputation, such as those of one's own gateways;
	// loopback is among them always.
	Ignore []netip.Prefix
	// MaxRows bounds the subjects that are kept, 0: 1,000,000; those not seen for longest leave.
	MaxRows int64
	// MaxCorrespondents bounds those of one account, 0: 20,000.
	MaxCorrespondents int64
	Hooks             Hooks
	Logger            *slog.Logger     // nil discards
	Now               func() time.Time // nil is time.Now
}

// Bounds of memory and time.
const (
	maxPending = 20_000 // subjects, and correspondents, that wait to be written
	maxCached  = 20_000 // subjects, and correspondents, that are known
	cachedFor  = time.Minute
	writeEvery = 5 * time.Second
	sweepEvery = time.Hour
	batchRows  = 200 // of one transaction
)

// Store is the memory of what was seen. Safe for concurrent use.
type Store struct {
	cfg    Config
	salt   []byte // of hashes, so that nobody outside can find two names that meet
	cached *memo.Memo[key, record]
	known  *memo.Memo[pair, mark]
	kick   chan struct{}

	flushing sync.Mutex    // one Flush at a time
	flushes  atomic.Uint64 // rises with each batch: what was read before is then not kept

	mu      sync.Mutex
	noted   map[key]record
	met     map[pair]mark
	flying  flight                          // the batch that Flush writes just now; asking still sees it
	touched map[envelope.AccountID]struct{} // accounts with new correspondents since the last sweep
}

// New returns a Store; it does no I/O.
func New(c Config) (*Store, error) {
	if c.DB == nil {
		return nil, errors.New("reputation: DB is required")
	}
	if err := c.Networks.Validate(); err != nil {
		return nil, fmt.Errorf("reputation: %w", err)
	}
	if c.Networks.IPv6Bits == 0 {
		c.Networks.IPv6Bits = 48
	}
	if c.MaxRows <= 0 {
		c.MaxRows = 1_000_000
	}
	if c.MaxCorrespondents <= 0 {
		c.MaxCorrespondents = 20_000
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Store{
		cfg: c, salt: []byte("reputation " + c.DB.StoreID() + " "),
		cached: memo.New[key, record](maxCached, cachedFor), known: memo.New[pair, mark](maxCached, cachedFor),
		kick:  make(chan struct{}, 1),
		noted: map[key]record{}, met: map[pair]mark{}, touched: map[envelope.AccountID]struct{}{},
	}, nil
}

// key names a row: a kind and the hash of a name.
type key struct {
	kind Kind
	hash int64
}

func (s *Store) hash(kind Kind, name string) int64 {
	b := make([]byte, 0, 128)
	b = append(append(b, s.salt...), byte(kind))
	sum := sha256.Sum256(append(b, name...))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// named is a part of a Subject.
type named struct {
	key  key
	name string // for people
}

// parts are the names of a Subject that count, at most three.
func (s *Store) parts(sub Subject) []named {
	out := make([]named, 0, 3)
	add := func(kind Kind, name string) { out = append(out, named{key{kind, s.hash(kind, name)}, name}) }
	if p, ok := s.network(sub.Peer); ok {
		add(Network, p)
	}
	if !sub.Domain.IsZero() && !sub.Domain.IsLiteral() {
		add(Domain, sub.Domain.String())
	}
	if !sub.Address.IsZero() {
		add(Address, sub.Address.Key())
	}
	return out
}

// network is the network of a peer, unless it is to be ignored.
func (s *Store) network(peer netip.Addr) (string, bool) {
	peer = peer.Unmap().WithZone("")
	if !peer.IsValid() || peer.IsLoopback() { // a UNIX socket has no address
		return "", false
	}
	for _, p := range s.cfg.Ignore {
		if p.Contains(peer) {
			return "", false
		}
	}
	return s.cfg.Networks.Of(peer).String(), true
}

// Standing is what is known of a part of a Subject.
type Standing struct {
	Kind      Kind
	Name      string    // network, domain or address
	Good, Bad float64   // messages, faded
	Trap      time.Time // when the network last wrote to a spam trap; zero is never
}

// Look tells what is known of a Subject, a Standing for each of its parts. It reads the
// database at most once, and what was asked within a minute not at all.
func (s *Store) Look(ctx context.Context, sub Subject) ([]Standing, error) {
	parts := s.parts(sub)
	records, err := s.read(ctx, parts)
	if err != nil {
		return nil, fmt.Errorf("read reputation: %w", err)
	}
	now := s.cfg.Now()
	out := make([]Standing, len(parts))
	for i, p := range parts {
		out[i] = Standing{Kind: p.key.kind, Name: p.name, Trap: db.FromMicros(records[i].trap)}
		out[i].Good, out[i].Bad = records[i].counts(now)
	}
	return out, nil
}

// Seen makes evidence of what is known of a Subject: of a network, domain or address that was
// seen often enough, and of a network that has written to a spam trap within a day. Cost as Look.
func (s *Store) Seen(ctx context.Context, sub Subject) ([]verdict.Item, error) {
	all, err := s.Look(ctx, sub)
	if err != nil {
		return nil, err
	}
	var items []verdict.Item
	now := s.cfg.Now()
	for _, st := range all {
		items = append(items, st.items(now)...)
	}
	return items, nil
}

// read returns the records of parts, with what is not written yet.
func (s *Store) read(ctx context.Context, parts []named) ([]record, error) {
	now := s.cfg.Now()
	out := make([]record, len(parts))
	var missing []int
	for i, p := range parts {
		r, fresh := s.cached.Get(p.key, now)
		if out[i] = r; !fresh {
			missing = append(missing, i)
		}
	}
	if s.cfg.Hooks.Looked != nil {
		s.cfg.Hooks.Looked(len(missing) == 0)
	}
	if len(missing) > 0 {
		flushes := s.flushes.Load()
		err := s.cfg.DB.View(ctx, func(tx db.Tx) error {
			for _, i := range missing {
				r := record{}
				err := tx.QueryRow(`SELECT period, good, bad, trap FROM reputation WHERE kind = ? AND hash = ?`, int64(parts[i].key.kind), parts[i].key.hash).
					Scan(&r.period, &r.good, &r.bad, &r.trap)
				if err != nil && !errors.Is(err, db.ErrNotFound) {
					return err
				}
				out[i] = r
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, i := range missing {
			if s.cached.Put(parts[i].key, out[i], now); s.flushes.Load() != flushes {
				s.cached.Forget(parts[i].key)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range parts {
		for _, d := range [...]record{s.flying.noted[p.key], s.noted[p.key]} {
			if d != (record{}) {
				out[i] = out[i].plus(d)
			}
		}
	}
	return out, nil
}

// CorrectionWeight is how many messages a person's word counts for, see Correct.
const CorrectionWeight = 3

// trapWeight is how many bad messages one to a spam trap counts for.
const trapWeight = 3

// Note counts the verdict on a message: weight messages (1 is usual, a negative one takes
// back) that were spam or not. It only touches memory; Run writes.
func (s *Store) Note(_ context.Context, sub Subject, spam bool, weight float64) {
	s.note(s.parts(sub), spam, weight, 0)
}

// Correct counts the word of a person who marks a message that Note counted the other way: it
// takes that back and counts CorrectionWeight messages.
func (s *Store) Correct(ctx context.Context, sub Subject, spam bool) {
	s.Note(ctx, sub, !spam, -1)
	s.Note(ctx, sub, spam, CorrectionWeight)
}

// NoteTrap counts that a host wrote to a spam trap.
func (s *Store) NoteTrap(_ context.Context, peer netip.Addr) {
	s.note(s.parts(Subject{Peer: peer}), true, trapWeight, db.Micros(s.cfg.Now()))
}

func (s *Store) note(parts []named, spam bool, weight float64, trap int64) {
	now := s.cfg.Now()
	d := newRecord(now, spam, weight)
	d.trap = trap
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range parts {
		was, ok := s.noted[p.key]
		if !ok && len(s.noted) >= maxPending {
			s.dropped()
			continue
		}
		s.noted[p.key] = was.plus(d)
	}
	s.wake(len(s.noted))
}

// dropped tells of what found no room; wake asks Run to write when much waits.
func (s *Store) dropped() {
	if s.cfg.Hooks.Dropped != nil {
		s.cfg.Hooks.Dropped()
	}
}

func (s *Store) wake(waiting int) {
	if waiting < maxPending/4 {
		return
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
}
