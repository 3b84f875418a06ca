package pop3server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/sasl"
)

// Defaults and bounds of Config.
const (
	DefaultIdleTimeout      = 10 * time.Minute // RFC 1939 §3: at least 10 minutes
	DefaultWriteTimeout     = 5 * time.Minute
	DefaultHandshakeTimeout = 30 * time.Second
	DefaultProxyTimeout     = 10 * time.Second
	DefaultErrorDelay       = time.Second
	DefaultMaxErrors        = 20
	DefaultMaxLoginFailures = 4
	// StandingFor is how long an identity counts that was proved, or found to stand:
	// the first command after it asks again, and a QUIT that deletes always does.
	StandingFor = 2 * time.Second
	freeErrors  = 3 // bad commands answered without delay
)

// Config of a Server. Zero values mean the default where one is named.
type Config struct {
	Maildrops  Maildrops     // required
	Verifier   sasl.Verifier // required
	Hostname   string        // told in the greeting; required
	Mechanisms []string      // narrows the SASL mechanisms that package sasl offers, in this order; empty is all

	TLS *tls.Config // nil: no STLS, and ServeTLS fails
	// Identities is asked whether who has logged in still may be; nil asks nobody.
	Identities Identities

	PlaintextFrom []netip.Prefix // peers that may send passwords without TLS
	ProxyFrom     []netip.Prefix // peers that must begin with a PROXY protocol header (v1 or v2)

	IdleTimeout      time.Duration // autologout, ≥ 10 min; DefaultIdleTimeout
	WriteTimeout     time.Duration // how long one block may wait for the peer; DefaultWriteTimeout
	HandshakeTimeout time.Duration // DefaultHandshakeTimeout
	ProxyTimeout     time.Duration // DefaultProxyTimeout
	ErrorDelay       time.Duration // before the reply to a failed login and to each bad command after the third; DefaultErrorDelay
	MaxErrors        int           // bad commands until the session is ended; DefaultMaxErrors
	MaxLoginFailures int           // failed logins until the session is ended; DefaultMaxLoginFailures

	LoginDelay     time.Duration // least time between two logins of an account (RFC 2449 §6.5); 0 is none
	Expire         time.Duration // policy told by CAPA; 0 is NEVER
	Implementation string        // told by CAPA; "" leaves the line out
	Language       string        // language tag of "LANG *"; "" is en

	// Admit decides whether a connection is taken. peer is the client's address,
	// after PROXY. release is called when the session has ended. A *pop3.Error is
	// sent as it is, another error as [SYS/TEMP]. It must not block. An invalid
	// AddrPort is a peer without an address (an in-memory pair). nil admits all.
	Admit func(peer netip.AddrPort) (release func(), err error)

	Logger *slog.Logger // nil discards
	Hooks  Hooks
}

// Identities knows whether an identity that was proved before still stands: the
// account is active, and its credentials are the same. Package account implements
// it. Safe for concurrent use.
type Identities interface {
	Stands(ctx context.Context, id sasl.Identity) (bool, error)
}

// Hooks are called as things happen, for metrics. Each may be nil; calls come
// from many goroutines and must not block.
type Hooks struct {
	SessionBegin func()                                                 // admitted
	SessionEnd   func(d time.Duration, octetsIn, octetsOut int64)       //
	Refused      func(reason string)                                    // "admit", "proxy", "tls"
	TLS          func(version, cipher uint16)                           // handshake done
	Login        func(mechanism string, result string, d time.Duration) // "ok", "credentials", "disabled", "throttled", "unavailable", "malformed", "delay", "maildrop"
	Command      func(verb pop3.Verb, ok bool, d time.Duration)         // VerbNone for unknown ones
	Retrieved    func(octets int64, d time.Duration)                    // a whole RETR or TOP was written
	Removed      func(messages int, err error)                          // QUIT in TRANSACTION with deletions
}

// New makes a Server. It opens nothing. The error names all that is wrong with c.
func New(c Config) (*Server, error) {
	c = c.withDefaults()
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configure POP3 server: %w", err)
	}
	return newServer(c), nil
}

// Validate reports every problem of c, joined.
func (c Config) Validate() error {
	var errs []error
	bad := func(wrong bool, text string) {
		if wrong {
			errs = append(errs, errors.New(text))
		}
	}
	bad(c.Maildrops == nil, "Maildrops is missing")
	bad(c.Verifier == nil, "Verifier is missing")
	bad(c.Hostname == "", "Hostname is missing: give the server's name")
	bad(c.IdleTimeout != 0 && c.IdleTimeout < DefaultIdleTimeout, "IdleTimeout is under 10 minutes, which RFC 1939 §3 forbids")
	bad(c.WriteTimeout < 0 || c.HandshakeTimeout < 0 || c.ProxyTimeout < 0 || c.ErrorDelay < 0 || c.LoginDelay < 0 || c.Expire < 0, "a duration is negative")
	bad(c.MaxErrors < 0 || c.MaxLoginFailures < 0, "a limit is negative")
	if _, _, ok := pop3.MatchLanguage(c.Language); c.Language != "" && !ok {
		errs = append(errs, fmt.Errorf("no texts in Language %q: use one of en, pl", c.Language))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	duration := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	duration(&c.IdleTimeout, DefaultIdleTimeout)
	duration(&c.WriteTimeout, DefaultWriteTimeout)
	duration(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	duration(&c.ProxyTimeout, DefaultProxyTimeout)
	duration(&c.ErrorDelay, DefaultErrorDelay)
	if c.MaxErrors == 0 {
		c.MaxErrors = DefaultMaxErrors
	}
	if c.MaxLoginFailures == 0 {
		c.MaxLoginFailures = DefaultMaxLoginFailures
	}
	if c.Language == "" {
		c.Language = "en"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
