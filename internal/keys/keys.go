// Package keys keeps the DKIM keys of our domains and changes them in stages, so
// that a signature can always be checked: a key signs only once its record is in
// DNS, and its record stays there as long as mail it signed may be on its way
// (RFC 6376 §6.1.2, Appendix B). It is the only room that sees private keys; what
// it lists has none.
package keys

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dkim"
)

// Errors that callers branch on; test with errors.Is.
var (
	ErrNoKey = errors.New("domain has no signing key")
	// ErrBusy: others changed the domain's keys again and again meanwhile.
	ErrBusy = errors.New("the keys are being changed by another command; try again")
)

// Algorithm is the kind of a key.
type Algorithm string

// The values of Algorithm, as they are stored and configured.
const (
	Ed25519 Algorithm = "ed25519" // RFC 8463
	RSA     Algorithm = "rsa"     // of 2048 bits (RFC 8301 §3.2)
)

// Stage is where a key is in its life.
type Stage int64

// The values of Stage; numbers are stored. Only Active keys sign.
const (
	Prepared  Stage = 1 // its record is to be added to DNS
	Published Stage = 2 // DNS shows its record
	Active    Stage = 3 // it signs
	Retired   Stage = 4 // it signs no more; its record stays for mail on the way
	Removed   Stage = 5 // its record is to be deleted from DNS
)

// String is the stage as lists spell it.
func (s Stage) String() string {
	switch s {
	case Prepared:
		return "prepared"
	case Published:
		return "published"
	case Active:
		return "active"
	case Retired:
		return "retired"
	case Removed:
		return "removed"
	}
	return "unknown"
}

// Key is a key as lists show it: its public side.
type Key struct {
	Domain    address.Domain
	Selector  string
	Algorithm Algorithm
	Stage     Stage
	Record    string // for DNS, as one string
	Created   time.Time
	Published time.Time // when DNS showed it first; zero before, and when that was not waited for
	Activated time.Time // zero before
	Retired   time.Time // zero before
	Removed   time.Time // zero before
}

// Name is where the record lies in DNS.
func (k Key) Name() string { return dkim.KeyName(k.Selector, k.Domain) }

// Hooks are called as things happen; nil functions are skipped. They must be
// quick and safe for concurrent use.
type Hooks struct {
	// Moved is called after keys of a domain came to a stage.
	Moved func(to Stage, keys int)
}

// Config is what New needs. DB is required; zero fields are the defaults told here.
type Config struct {
	DB db.Database // migrated with Schema
	// Records asks DNS, without a cache. Nil knows nothing: then stages advance
	// only by force and by time.
	Records    dkim.Records
	Algorithms []Algorithm   // of new keys; default Ed25519 and RSA
	Settle     time.Duration // from Published to Active; default 1 h, for secondary name servers
	Keep       time.Duration // from Retired to Removed; default 7 days, of which 5 may pass in a queue
	Look       time.Duration // how often Run looks at DNS; default 10 min
	Fresh      time.Duration // how long Signer believes its cache, in face of other nodes; default 5 s
	Logger     *slog.Logger  // nil discards
	Now        func() time.Time
	Random     io.Reader // of selectors; default crypto/rand
	Hooks      Hooks
}

// Defaults of Config.
const (
	defaultSettle = time.Hour
	defaultKeep   = 7 * 24 * time.Hour
	defaultLook   = 10 * time.Minute
	defaultFresh  = 5 * time.Second
)

// Keys is the store of keys. Safe for concurrent use.
type Keys struct {
	c     Config
	mu    sync.Mutex
	cache map[address.Domain]*cached
}

// New checks the configuration and fills in defaults; it does no I/O.
func New(c Config) (*Keys, error) {
	var errs []error
	if c.DB == nil {
		errs = append(errs, errors.New("keys: DB is required"))
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = []Algorithm{Ed25519, RSA}
	}
	for _, a := range c.Algorithms {
		if !slices.Contains([]Algorithm{Ed25519, RSA}, a) {
			errs = append(errs, errors.New("keys: algorithm "+string(a)+" is unknown: there are ed25519 and rsa"))
		}
	}
	if c.Settle < 0 || c.Keep < 0 || c.Look < 0 || c.Fresh < 0 {
		errs = append(errs, errors.New("keys: a time is negative"))
	}
	for _, d := range []struct {
		of *time.Duration
		is time.Duration
	}{{&c.Settle, defaultSettle}, {&c.Keep, defaultKeep}, {&c.Look, defaultLook}, {&c.Fresh, defaultFresh}} {
		if *d.of == 0 {
			*d.of = d.is
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Keys{c: c, cache: map[address.Domain]*cached{}}, errors.Join(errs...)
}
