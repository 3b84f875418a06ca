// Package relaydomain knows the domains that mail of strangers is relayed for, as
// backup MX or as a gateway in front of another host (RFC 5321 §3.6.2): which of
// their recipients may be written to, so that none has to be bounced, and whose
// clients may have their queue run (RFC 1985).
package relaydomain

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/limit"
)

// Recipients says how a domain's recipients are verified.
type Recipients uint8

// The ways. Any takes every recipient: those that the domain's host refuses later
// are bounced, to reverse-paths that are mostly forged.
const (
	Call Recipients = iota // ask the domain's host by RCPT
	List
	Any
)

// Domain is one domain that we relay for.
type Domain struct {
	Name address.Domain
	// Host is where its mail goes, as host name or address with a port; "" is its MX
	// hosts of a better preference than ours.
	Host       string
	Recipients Recipients
	List       []address.Address // with Recipients List
	// AcceptWhenDown takes recipients, with Recipients Call, while the host can't be
	// asked; otherwise they are told to come again.
	AcceptWhenDown bool
	// ETRN are the networks whose clients may have its queue run.
	ETRN []netip.Prefix
}

// Hooks are called as things happen; nil functions are skipped. They must be
// quick and safe for concurrent use.
type Hooks struct {
	// Asked is called after a domain's host was asked, with what came of it: one of
	// "good", "unknown", "deferred", "unreachable".
	Asked func(outcome string, took time.Duration)
}

// Config is what Domains needs. Hello, and with a domain that is verified by Call
// Finder, are required.
type Config struct {
	Domains []Domain
	Hello   string // our name in EHLO
	Finder  Finder
	Dialer  Dialer // default a net.Dialer
	Queue   Queue  // nil offers no ETRN

	Calls   int           // questions to one domain's host at a time; default 5
	Timeout time.Duration // for one question, and as much for waiting for its turn; default 30 s
	Entries int           // answers of each kind that are remembered; default 20,000
	Fresh   time.Duration // how long a good answer is not asked for again; default 24 h
	Keep    time.Duration // and how long it counts while the host can't be asked; default 7 d
	Unknown time.Duration // how long a refusal is remembered; default 2 h
	Pause   time.Duration // how long a host that can't be reached is left alone; default 30 s

	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // nil discards
	Hooks  Hooks
}

// Domains are the relay domains. Safe for concurrent use.
type Domains struct {
	c      Config
	byName map[address.Domain]*domain
	cache  cache
	starts *limit.Buckets[address.Domain]
}

// domain is a Domain with its state.
type domain struct {
	Domain

	list map[string]bool // keys of Domain.List
	host host
}

// New checks the configuration, all of it, and fills in defaults. It does no I/O.
func New(c Config) (*Domains, error) {
	setDefault(&c.Calls, 5)
	setDefault(&c.Timeout, 30*time.Second)
	setDefault(&c.Entries, 20000)
	setDefault(&c.Fresh, 24*time.Hour)
	setDefault(&c.Keep, 7*24*time.Hour)
	setDefault(&c.Unknown, 2*time.Hour)
	setDefault(&c.Pause, 30*time.Second)
	if c.Dialer == nil {
		c.Dialer = &net.Dialer{}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if c.Calls < 0 || c.Entries < 0 || min(c.Timeout, c.Fresh, c.Keep, c.Unknown, c.Pause) < 0 {
		errs = append(errs, errors.New("relaydomain: a limit or a time is negative"))
	}
	d := &Domains{c: c, byName: make(map[address.Domain]*domain, len(c.Domains))}
	d.cache.most = c.Entries
	for i := range c.Domains {
		errs = append(errs, d.add(&c.Domains[i]))
	}
	var err error
	if d.starts, err = limit.NewBuckets[address.Domain](startRate, len(c.Domains)*bucketsPerDomain); err != nil {
		errs = append(errs, fmt.Errorf("relaydomain: %w", err))
	}
	return d, errors.Join(errs...)
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// add checks one domain and takes it.
func (d *Domains) add(in *Domain) error {
	name := in.Name.Unicode()
	switch {
	case in.Name.IsZero() || in.Name.IsLiteral():
		return fmt.Errorf("relaydomain: %q is no domain", name)
	case d.byName[in.Name] != nil:
		return fmt.Errorf("relaydomain: domain %s is named twice", name)
	case in.Recipients > Any:
		return fmt.Errorf("relaydomain: domain %s has no way to verify recipients", name)
	case in.Recipients == Call && (d.c.Finder == nil || d.c.Hello == ""):
		return fmt.Errorf("relaydomain: the host of domain %s is to be asked, which needs Finder and Hello", name)
	}
	one := &domain{Domain: *in, list: make(map[string]bool, len(in.List))}
	one.host.turns = make(chan struct{}, d.c.Calls)
	one.host.asking = map[string]*question{}
	for _, a := range in.List {
		if a.Domain() != in.Name {
			return fmt.Errorf("relaydomain: %s in the list of domain %s is of another domain", a.Unicode(), name)
		}
		one.list[a.Key()] = true
	}
	one.List = nil
	d.byName[in.Name] = one
	return nil
}
