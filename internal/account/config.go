package account

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/limit"
)

// Config is what New needs. Zero fields take the defaults told here.
type Config struct {
	DB     db.Database  // required, migrated with Component
	Logger *slog.Logger // nil discards
	Hooks  Hooks
	Now    func() time.Time // nil is time.Now
	Rand   io.Reader        // nil is crypto/rand

	// Separator parts a local-part from its subaddress: one octet, "" is "+",
	// "none" switches subaddresses off.
	Separator string
	// Postmaster gets mail for the bare <Postmaster> and for domains without
	// accounts. Zero is the store's first account.
	Postmaster address.Address

	// Iterations of a person's password; 0 is DefaultIterations. Below 200,000
	// is for tests; below 4,096 is refused.
	Iterations int
	// HashWorkers is how many passwords are hashed at once (0: one for each
	// processor), HashQueue how many wait (0: 64 for each worker).
	HashWorkers int
	HashQueue   int
	// FailureDelay is the least time a failed login takes, so that time tells
	// nothing: 0 is 400 ms, negative none.
	FailureDelay time.Duration
	// Failures throttles peers.
	Failures limit.FailuresConfig
	// CacheEntries bounds each cache (routes, credentials, successes): 0 is
	// 32,768 entries of some 300 octets. Only what exists is kept, and of up to 4,096
	// domains whether they are ours.
	CacheEntries int
}

// Hooks are called on events, for metrics; nil ones are left out. They must
// return quickly and be safe for concurrent use.
type Hooks struct {
	// Login is called once for each login: mechanism is "plain", "scram" or
	// "external", result "ok", "cached", "failed", "throttled" or "unavailable".
	Login func(protocol, mechanism, result string)
	// Hashed is called after each derivation with the time it took and waited.
	Hashed func(waited, took time.Duration)
	// Derived is called for each derivation with its iterations.
	Derived func(iterations int)
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	switch c.Separator {
	case "":
		c.Separator = "+"
	case "none":
		c.Separator = ""
	}
	if c.Iterations == 0 {
		c.Iterations = DefaultIterations
	}
	if c.HashWorkers == 0 {
		c.HashWorkers = runtime.GOMAXPROCS(0)
	}
	if c.HashQueue == 0 {
		c.HashQueue = 64 * c.HashWorkers
	}
	if c.FailureDelay == 0 {
		c.FailureDelay = 400 * time.Millisecond
	}
	if c.CacheEntries == 0 {
		c.CacheEntries = 1 << 15
	}
	return c
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	complain := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("account: "+format, args...))
		}
	}
	complain(c.DB == nil, "DB is missing")
	complain(len(c.Separator) > 1 || strings.ContainsAny(c.Separator, "@. ") || c.Separator > "~",
		"separator %q must be one printable ASCII character other than @, dot and space, or \"none\"", c.Separator)
	complain(c.Iterations < minimumIterations || c.Iterations > maximumIterations,
		"%d iterations: give %d to %d", c.Iterations, minimumIterations, maximumIterations)
	complain(c.HashWorkers < 0 || c.HashQueue < 0 || c.CacheEntries < 0, "workers, queue and cache sizes must not be negative")
	return errors.Join(errs...)
}
