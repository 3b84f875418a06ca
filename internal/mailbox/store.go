package mailbox

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// Hooks are optional functions for metrics.
type Hooks struct {
	ListingHit   func()              // a listing came from memory
	ListingLoad  func(rows int)      // rows read for a listing
	ListingBytes func(octets int64)  // octets that cached listings take now
	Removed      func(messages int)  // into retention
	Purged       func(messages int)  // for ever
	Sweep        func(time.Duration) // one round of the sweeper
}

// Config builds a Store. DB and Body are required; zero means default.
type Config struct {
	DB      db.Database
	Body    body.Store
	Journal body.Journal // nil discards
	// Downgrade makes the surrogate of a header section (RFC 6856 §2); it must give the
	// same octets for the same input for ever. Nil is message.Downgrade.
	Downgrade func(header []byte) []byte
	// Retention is how long removed mail stays recoverable; NoRetention is one hour.
	Retention time.Duration
	// Quota returns an account's quota in octets, 0 for none; it bounds what is
	// retained. Nil bounds nothing.
	Quota func(ctx context.Context, account envelope.AccountID) (int64, error)
	// ListingBudget bounds the octets of listings in memory, those in use included.
	ListingBudget int64
	SweepEvery    time.Duration
	// Exclusive makes Open take RFC 1939's lock.
	Exclusive bool
	// LockIdle is after what time without use a lock may be taken by another session.
	LockIdle time.Duration
	Now      func() time.Time
	Rand     io.Reader
	Logger   *slog.Logger
	Hooks    Hooks
}

// Store is the mailboxes of all accounts. Safe for concurrent use.
type Store struct {
	cfg      Config
	openAt   body.OpenerAt // nil when the body store has none
	single   bool          // this process alone writes the database
	listings *cache
	inflight *reservations
	locks    locker
}

// New returns a Store; it does no I/O. On SQLite exactly one Store may write to
// a database at a time: its listings are trusted without asking the database.
func New(cfg Config) (*Store, error) {
	if cfg.DB == nil {
		return nil, errors.New("mailbox needs a database (Config.DB)")
	}
	if cfg.Body == nil {
		return nil, errors.New("mailbox needs a body store (Config.Body)")
	}
	cfg.fill()
	s := &Store{cfg: cfg, single: cfg.DB.Engine() == "sqlite"}
	s.openAt, _ = cfg.Body.(body.OpenerAt)
	s.listings = newCache(cfg.ListingBudget, cfg.Hooks.ListingBytes)
	s.inflight = newReservations()
	if s.single {
		s.locks = newMemoryLocks(cfg.LockIdle, cfg.Now)
	} else {
		s.locks = &rowLocks{db: cfg.DB, idle: cfg.LockIdle, now: cfg.Now, rand: cfg.Rand}
	}
	return s, nil
}

// fill puts in the defaults.
func (c *Config) fill() {
	if c.Journal == nil {
		c.Journal = noJournal{}
	}
	if c.Downgrade == nil {
		c.Downgrade = message.Downgrade
	}
	switch {
	case c.Retention == 0:
		c.Retention = DefaultRetention
	case c.Retention < MinRetention:
		c.Retention = MinRetention
	}
	if c.ListingBudget <= 0 {
		c.ListingBudget = DefaultListingBudget
	}
	if c.SweepEvery <= 0 {
		c.SweepEvery = DefaultSweepEvery
	}
	if c.LockIdle <= 0 {
		c.LockIdle = DefaultLockIdle
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// noJournal is the journal of body stores without segments.
type noJournal struct{}

func (noJournal) Append(...body.Event) {}
