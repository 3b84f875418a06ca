// Package tlspolicy says what TLS a destination demands, and remembers what it
// has shown: MTA-STS policies (RFC 8461) in a lasting cache, DANE (RFC 7672), the
// operator's policies for single domains, REQUIRETLS (RFC 8689), the level of TLS
// each host has had before, and the counts for reports (RFC 8460).
package tlspolicy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mtasts"
	"poczta.example/poczta/internal/resolver"
)

// Level is how much TLS is demanded, or was shown. Higher is stronger.
type Level uint8

// The levels. What a session has shown is None, Encrypt, Verify or DANE.
const (
	None          Level = iota // no TLS
	Opportunistic              // TLS if it is offered and works
	Encrypt                    // TLS, whoever the peer is
	Verify                     // and a certificate that an authority vouches for, with a name of Requirement.Names
	STS                        // the same, demanded by MTA-STS
	DANE                       // and a certificate that TLSA records vouch for
)

var levelNames = [...]string{"none", "opportunistic", "encrypt", "verify", "sts", "dane"}

// String returns the level as configuration and traces write it.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("Level(%d)", uint8(l))
}

// ParseLevel reads a level.
func ParseLevel(s string) (Level, error) {
	for i, n := range levelNames {
		if s == n {
			return Level(i), nil
		}
	}
	return None, fmt.Errorf("TLS level %q: want none, opportunistic, encrypt, verify or dane", s)
}

// Override is the operator's policy for a domain. None and Opportunistic take the
// place of what the domain publishes. Encrypt and Verify are the least that is
// demanded where DANE and MTA-STS demand nothing stronger. DANE leaves out hosts
// without TLSA records.
type Override struct {
	Level Level
	// Names are the names that a certificate may have, for Verify: mx.example.net, or
	// .example.net for all below. Empty: the name of the MX host, which is worth
	// as much as the DNS answer that named it.
	Names []string
}

// Fetcher gets MTA-STS policies. *mtasts.Fetcher is one.
type Fetcher interface {
	Fetch(ctx context.Context, domain address.Domain) (mtasts.Policy, error)
}

// Config is what a Store works with.
type Config struct {
	DB       db.Database       // required; with the tables of Schema
	Resolver resolver.Resolver // required
	Fetcher  Fetcher           // nil: MTA-STS is off
	NoDANE   bool
	// Overrides are by domain: example.org, or .example.org for all below it; the
	// longest that fits counts.
	Overrides map[string]Override
	// Default is the override of all other domains: None, Opportunistic, Encrypt or
	// Verify. None is Opportunistic.
	Default Level
	Port    uint16         // of the TLSA records; 0 is 25
	Roots   *x509.CertPool // authorities that are trusted; nil: those of the system

	// Refuse is the level below which a host may not fall once it has shown more:
	// Encrypt refuses plaintext where there was TLS before, Verify also a certificate
	// that no longer verifies. None notices only.
	Refuse Level
	// Forget is after how long of a lower level that becomes what is expected; 0 is
	// 7 days.
	Forget time.Duration

	NoReports bool             // count nothing for reports of RFC 8460
	Now       func() time.Time // nil is time.Now
	Logger    *slog.Logger     // nil discards
	Hooks     Hooks
}

// Hooks are called, where set, while a Store works. They must return at once.
type Hooks struct {
	Fetched   func(ok bool)                                          // an MTA-STS policy was fetched, or could not be
	Session   func(shown Level, ok bool)                             // a session's TLS was judged
	Downgrade func(domain, host address.Domain, before, shown Level) // a host shows less than before; once for each time
}

// Store decides about TLS. Safe for concurrent use.
type Store struct {
	cfg Config

	mu      sync.Mutex
	flights map[string]*flight      // MTA-STS policies being fetched, by domain
	counts  map[Count]*tally        // not yet written
	seen    map[memoryKey]sight     // not yet written
	noticed map[memoryKey]time.Time // downgrades that were told of
	told    map[string]time.Time    // refreshes that failed, by domain
	kick    chan struct{}           // wakes Run when much is to be written
}

// New makes a Store. It does no work until Run, which writes what Note has noted.
func New(c Config) (*Store, error) {
	var errs []error
	if c.DB == nil || c.Resolver == nil {
		errs = append(errs, errors.New("tlspolicy: DB and Resolver are needed"))
	}
	overrides := make(map[string]Override, len(c.Overrides))
	for name, o := range c.Overrides {
		d, err := address.ParseDomain(strings.TrimPrefix(name, "."))
		if err != nil || o.Level == STS || o.Level > DANE {
			errs = append(errs, fmt.Errorf("TLS policy of %q: want a domain and none, opportunistic, encrypt, verify or dane", name))
			continue
		}
		key := d.String()
		if strings.HasPrefix(name, ".") {
			key = "." + key
		}
		overrides[key] = o
	}
	if c.Default > Verify {
		errs = append(errs, fmt.Errorf("TLS policy of all domains: %s can't be the default", c.Default))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.Overrides = overrides
	if c.Port == 0 {
		c.Port = 25
	}
	if c.Forget <= 0 {
		c.Forget = 7 * 24 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Store{
		cfg: c, flights: map[string]*flight{}, counts: map[Count]*tally{}, seen: map[memoryKey]sight{},
		noticed: map[memoryKey]time.Time{}, told: map[string]time.Time{}, kick: make(chan struct{}, 1),
	}, nil
}

// override is the operator's policy for a domain.
func (s *Store) override(d address.Domain) (Override, bool) {
	if o, ok := s.cfg.Overrides[d.String()]; ok {
		return o, true
	}
	for rest := d.String(); ; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			return Override{Level: s.cfg.Default}, s.cfg.Default > Opportunistic
		}
		if o, ok := s.cfg.Overrides[rest[i:]]; ok {
			return o, true
		}
		rest = rest[i+1:]
	}
}
