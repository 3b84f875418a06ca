package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtp"
)

// Config says how a Server behaves. Zero values mean the defaults named here;
// Hostname and Service are required.
type Config struct {
	// Hostname stands in the greeting and in the replies to EHLO and QUIT.
	Hostname string
	// Service decides about mail.
	Service Service
	// TLS enables STARTTLS, or with ImplicitTLS serves TLS from the first octet
	// (RFC 8314). Whether session tickets are sent is the configuration's matter.
	TLS         *tls.Config
	ImplicitTLS bool
	// RequireTLS answers 530 5.7.0 to everything but EHLO, HELO, LHLO, NOOP, RSET,
	// HELP, STARTTLS and QUIT until TLS runs (RFC 3207 §4). Not for port 25.
	RequireTLS bool
	// LMTP speaks LMTP instead of SMTP: LHLO, and a reply for each recipient (RFC 2033).
	LMTP bool
	// Auth offers authentication (RFC 4954); without a Verifier it is not offered.
	Auth Auth
	// Extensions are offered beside those that every session gets.
	Extensions Extensions
	// Strict names what mail data may not hold; by default it is taken as it comes.
	Strict Strict
	// Limits bound sessions.
	Limits Limits
	// ProxyFrom names the peers that begin with a PROXY protocol header, version 1
	// or 2; from them it is demanded, from others it is not understood.
	ProxyFrom []netip.Prefix
	// XClientFrom names the clients, judged after PROXY, that may use XCLIENT.
	XClientFrom []netip.Prefix
	// LoginIdentity finds the identity of XCLIENT's LOGIN attribute; when nil the
	// attribute is not offered.
	LoginIdentity func(ctx context.Context, login string) (sasl.Identity, error)
	// Admit decides whether a client, known after PROXY, may have a session; release is
	// called when it ends. An *smtp.Error is the reply, other errors say 421 4.7.0. XCLIENT
	// does not ask again. Nil admits everybody. It must not block. An invalid AddrPort is a
	// peer without an address (a UNIX socket, an in-memory pair).
	Admit func(client netip.AddrPort) (release func(), err error)
	// Hooks observe; Logger logs (nil discards).
	Hooks  Hooks
	Logger *slog.Logger
}

// Auth is the authentication a Server offers.
type Auth struct {
	// Verifier knows the credentials.
	Verifier sasl.Verifier
	// Mechanisms narrows what package sasl offers, in this order; empty is all.
	Mechanisms []string
	// PlaintextFrom names the clients that may use PLAIN and LOGIN without TLS.
	PlaintextFrom []netip.Prefix
	// RequireTLS refuses every mechanism without TLS, PlaintextFrom apart.
	RequireTLS bool
	// Protocol is what a Verifier reads as sasl.Peer.Protocol; default "smtp".
	Protocol string
}

// Strict is what is refused in mail data after the final dot, beside a bare CR or
// LF, which always is. The zero value refuses nothing.
type Strict struct {
	LongLines      bool // lines of more than smtp.MaxTextLine octets: 550 5.6.0
	NUL            bool // NUL octets: 550 5.6.0 (RFC 5321 §2.3.7)
	Undeclared8Bit bool // octets from 0x80 without BODY=8BITMIME or SMTPUTF8 at MAIL: 550 5.6.3 (RFC 6152 §3)
}

// Limits bound a session in octets, counts and time. Zero is the default; there
// is no "unlimited".
type Limits struct {
	Message      int64 // octets of a message, offered as SIZE; default 50 MiB
	Recipients   int   // of a transaction, at least 100 (RFC 5321 §4.5.3.1.8), offered as RCPTMAX; default 1000
	Transactions int   // of a session, offered as MAILMAX; default 1000
	Errors       int   // bad commands before 421; default 20
	Refusals     int   // refused MAIL and RCPT since the last accepted message before 421; default 200
	Idle         int   // commands that move nothing (NOOP, RSET, VRFY …) since the last accepted message before each counts as an error; default 100
	AuthFailures int   // failed AUTH before 421; default 5
	Rate         int   // octets a second that mail data must reach after DataGrace; default 256

	Greeting  time.Duration // PROXY header and implicit TLS handshake; default 30 s
	Handshake time.Duration // STARTTLS handshake; default 60 s
	Command   time.Duration // waiting for a whole command line; default 5 min (RFC 5321 §4.5.3.2.7)
	Data      time.Duration // waiting for the next octets of mail data; default 3 min (RFC 5321 §4.5.3.2.5)
	DataGrace time.Duration // time in which mail data may be slower than Rate; default 10 min
	Write     time.Duration // a peer taking replies; default 1 min
	Linger    time.Duration // waiting for a peer to read the reply that ends its session; default 2 s
}

// Hooks are called as things happen, from the session's goroutine; they must be
// quick and safe for concurrent use. Nil functions are skipped.
type Hooks struct {
	// Opened is called when a session begins, Closed when it ended.
	Opened func()
	Closed func(lasted time.Duration)
	// Refused is called when Admit, PROXY or a handshake refused a connection; why
	// is one of "admit", "proxy", "tls", "http", "shutdown".
	Refused func(why string)
	// Replied is called for each command with its verb ("unknown" for others) and the reply's code.
	Replied func(verb smtp.Verb, code int)
	// Secured is called after a TLS handshake.
	Secured func(version uint16, took time.Duration)
	// Authenticated is called after each AUTH exchange; err is nil on success.
	Authenticated func(mechanism string, err error)
	// Message is called after mail data, with its octets and the reply's code (the
	// first recipient's with LMTP).
	Message func(octets int64, code int, took time.Duration)
}

// fill puts the defaults in place of zero values.
func (c *Config) fill() {
	l := &c.Limits
	setDefault(&l.Message, 50<<20)
	setDefault(&l.Recipients, 1000)
	setDefault(&l.Transactions, 1000)
	setDefault(&l.Errors, 20)
	setDefault(&l.Refusals, 200)
	setDefault(&l.Idle, 100)
	setDefault(&l.AuthFailures, 5)
	setDefault(&l.Rate, 256)
	setDefault(&l.Greeting, 30*time.Second)
	setDefault(&l.Handshake, time.Minute)
	setDefault(&l.Command, smtp.CommandTimeout)
	setDefault(&l.Data, smtp.DataBlockTimeout)
	setDefault(&l.DataGrace, 10*time.Minute)
	setDefault(&l.Write, time.Minute)
	setDefault(&l.Linger, 2*time.Second)
	setDefault(&c.Auth.Protocol, "smtp")
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate reports everything that is wrong with c.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := address.ParseDomain(c.Hostname); err != nil {
		wrong("smtpserver: hostname %q: %w", c.Hostname, err)
	}
	if c.Service == nil {
		wrong("smtpserver: a Service is required")
	}
	if c.TLS == nil && (c.ImplicitTLS || c.RequireTLS) {
		wrong("smtpserver: implicit or required TLS needs a TLS configuration")
	}
	c.Extensions.validate(wrong)
	l := c.Limits
	if l.Recipients != 0 && l.Recipients < smtp.MinRecipients {
		wrong("smtpserver: limit of recipients is %d; RFC 5321 asks for at least %d", l.Recipients, smtp.MinRecipients)
	}
	if l.Message < 0 || l.Recipients < 0 || l.Transactions < 0 || l.Errors < 0 || l.Refusals < 0 || l.Idle < 0 || l.AuthFailures < 0 || l.Rate < 0 {
		wrong("smtpserver: limits must not be negative")
	}
	for _, d := range []time.Duration{l.Greeting, l.Handshake, l.Command, l.Data, l.DataGrace, l.Write, l.Linger} {
		if d < 0 {
			wrong("smtpserver: timeout %v is negative", d)
		}
	}
	return errors.Join(errs...)
}
