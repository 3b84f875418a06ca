// Package mx finds the hosts that take a domain's mail (RFC 5321 §5): MX records
// in order of trial, the domain itself where there are none, their addresses, and
// how much of that DNSSEC vouches for. It connects to nobody.
package mx

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/smtp"
)

// Config is what a Lookup works with.
type Config struct {
	Resolver resolver.Resolver // required

	// Names and Addrs are our own. A domain's hosts at and below the preference of
	// one that is us are left out (RFC 5321 §5.1).
	Names []address.Domain
	Addrs []netip.Addr

	NoIPv4, NoIPv6 bool // this host has no way out by that family
	// AllowLoopback lets mail go to loopback addresses and to hosts named localhost,
	// for laboratories. Else no stranger's record leads to this machine's own services.
	AllowLoopback bool

	MaxHosts int           // hosts of a route; 0 is 30
	MaxAddrs int           // addresses of a route; 0 is 60
	Timeout  time.Duration // for all questions about one domain; 0 is 60 s
	// Shuffle changes the order of hosts with equal preferences, and of a host's
	// addresses within a family. nil is rand.Shuffle.
	Shuffle func(n int, swap func(i, j int))
}

// Host is one host to try. Its addresses are in order of trial, families
// alternating, and never empty.
type Host struct {
	Name       address.Domain // zero for an address literal
	Preference uint16         // of its MX record; 0 without one
	Addrs      []netip.Addr
	// Expanded is the name that holds the addresses, after CNAMEs. It is Name unless
	// Name is an alias.
	Expanded string
	// Secure tells that DNSSEC vouches for the way from the domain to Addrs: the
	// MX answer and the address answers.
	Secure bool
	// Bases are the names whose TLSA records speak for this host, in order; none
	// if DANE does not apply (RFC 7672 §2.2.2).
	Bases []string
}

// Route is where mail for a domain goes.
type Route struct {
	Domain address.Domain
	Hosts  []Host // in order of trial; never empty
	// Secure tells that DNSSEC vouches for the MX answer, or for its absence.
	Secure   bool
	Implicit bool // there is no MX record: the domain is its own host (RFC 5321 §5.1)
	// CanonicalName is the name the domain is an alias of; "" if it is none.
	CanonicalName string
	// Skipped says for each host that was left out why, for the trace; at most MaxHosts.
	Skipped []string
}

// Error says why there is no route. The class of Reply's code says whether that
// is for good. Reports carry Reply as it is.
type Error struct {
	Domain address.Domain
	Reply  smtp.Reply
	Err    error // the cause, for the log; may be nil
}

// Error returns the reply with the cause.
func (e *Error) Error() string {
	s := "route mail for " + e.Domain.String() + ": " + e.Reply.String()
	if e.Err != nil {
		s += " (" + e.Err.Error() + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent reports whether trying again is of no use.
func (e *Error) Permanent() bool { return e.Reply.Code >= 500 }

// Lookup finds routes. Safe for concurrent use.
type Lookup struct{ cfg Config }

// New makes a Lookup.
func New(c Config) (*Lookup, error) {
	if c.Resolver == nil {
		return nil, errors.New("mx: Resolver is missing")
	}
	if c.NoIPv4 && c.NoIPv6 {
		return nil, errors.New("mx: both IPv4 and IPv6 are off: leave one on")
	}
	if c.MaxHosts <= 0 {
		c.MaxHosts = 30
	}
	if c.MaxAddrs <= 0 {
		c.MaxAddrs = 60
	}
	if c.Timeout <= 0 {
		c.Timeout = time.Minute
	}
	if c.Shuffle == nil {
		c.Shuffle = rand.Shuffle
	}
	return &Lookup{cfg: c}, nil
}

// Hosts finds the route of a domain or address literal. The error is an *Error:
// 556 5.1.10 where the domain says that it takes no mail (RFC 7505), 550 5.1.2
// where it does not exist, 550 5.4.4 where no host of it has an address we can go
// to, 550 5.4.6 where we are the best host ourselves, and 451 4.4.3 where DNS
// gives no answer now.
func (l *Lookup) Hosts(ctx context.Context, domain address.Domain) (Route, error) {
	if domain.IsZero() {
		return Route{}, refuse(domain, 550, 1, 2, "no domain is given", nil)
	}
	if domain.IsLiteral() {
		return l.literal(domain)
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	route, list, err := l.exchangers(ctx, domain)
	if err != nil {
		return Route{}, err
	}
	list, err = l.cut(domain, list)
	if err != nil {
		return Route{}, err
	}
	found := l.addresses(ctx, list)
	return l.assemble(route, list, found)
}

// Addrs finds the addresses of a host named by our own configuration (a smart
// host, a fixed route), which needs no MX record: the route has this one host.
// It may be on loopback, or this very host. Errors are as those of Hosts, but temporary:
// what is wrong in a configuration can be put right.
func (l *Lookup) Addrs(ctx context.Context, host address.Domain) (Route, error) {
	own := *l
	own.cfg.AllowLoopback, own.cfg.Addrs, own.cfg.Names = true, nil, nil // the operator may mean this machine
	r, err := own.addrs(ctx, host)
	if e, ok := errors.AsType[*Error](err); ok {
		e.Reply.Code = 451 // a slip of the pen in the configuration must not cost mail
	}
	return r, err
}

func (l *Lookup) addrs(ctx context.Context, host address.Domain) (Route, error) {
	if host.IsLiteral() {
		return l.literal(host)
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	list := []exchanger{{name: host.String(), domain: host, secure: true}}
	return l.assemble(Route{Domain: host, Secure: true}, list, l.addresses(ctx, list))
}

// literal is the route to an address literal (RFC 5321 §5.1).
func (l *Lookup) literal(domain address.Domain) (Route, error) {
	addr, ok := domain.LiteralAddr()
	if !ok {
		return Route{}, refuse(domain, 550, 1, 2, "the address literal is malformed", nil)
	}
	addr = addr.Unmap()
	if slices.Contains(l.cfg.Addrs, addr) {
		return Route{}, refuse(domain, 550, 4, 6, "mail for "+domain.String()+" would come back to this host", nil)
	}
	if why := l.Barred(addr); why != "" {
		return Route{}, refuse(domain, 550, 4, 4, "no mail can go to "+domain.String()+": "+why, nil)
	}
	return Route{Domain: domain, Hosts: []Host{{Addrs: []netip.Addr{addr}}}}, nil
}

// Barred says why we connect to no host at addr, or "".
func (l *Lookup) Barred(addr netip.Addr) string {
	addr = addr.Unmap()
	if why := l.misplaced(addr); why != "" {
		return why
	}
	if inner := embedded(addr); inner.IsValid() && l.misplaced(inner) != "" {
		return fmt.Sprintf("%s leads to %s", addr, l.misplaced(inner))
	}
	switch {
	case addr.Is4() && l.cfg.NoIPv4:
		return "IPv4 is off here"
	case addr.Is6() && l.cfg.NoIPv6:
		return "IPv6 is off here"
	}
	return ""
}

// BarredURL is Barred for URLs that strangers name: they lead to no host of our own
// networks either, where an HTTPS request might do something. In a laboratory
// (AllowLoopback) they do.
func (l *Lookup) BarredURL(addr netip.Addr) string {
	addr = addr.Unmap()
	why := l.Barred(addr)
	if why != "" || l.cfg.AllowLoopback {
		return why
	}
	for _, a := range []netip.Addr{addr, embedded(addr)} {
		switch {
		case l.own(a):
			return fmt.Sprintf("%s is this host's own address", a)
		case a.IsPrivate(), shared.Contains(a):
			return fmt.Sprintf("%s is an address of a private network", a)
		}
	}
	return ""
}

// misplaced says why addr is nobody's whom mail could be for, whatever its family.
func (l *Lookup) misplaced(addr netip.Addr) string {
	switch {
	case !addr.IsValid(), addr.IsUnspecified(), addr.Is4() && addr.As4()[0] == 0:
		return fmt.Sprintf("%s is no host's address", addr)
	case addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Sprintf("%s is a multicast address", addr)
	case addr.IsLoopback() && !l.cfg.AllowLoopback:
		return fmt.Sprintf("%s is a loopback address", addr)
	case addr.IsLinkLocalUnicast():
		return fmt.Sprintf("%s is a link-local address", addr)
	}
	return ""
}

// shared is the network between providers and their customers' routers.
var shared = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10)

// embedded is the IPv4 address behind an IPv6 address of a translator or a tunnel:
// NAT64 (64:ff9b::/96), 6to4 (2002::/16) and IPv4-compatible (::/96); else the invalid one.
func embedded(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return netip.Addr{}
	}
	b := a.As16()
	switch {
	case b[0] == 0x20 && b[1] == 0x02:
		return netip.AddrFrom4([4]byte(b[2:6]))
	case [12]byte(b[:12]) == [12]byte{1: 0x64, 2: 0xff, 3: 0x9b}, [12]byte(b[:12]) == [12]byte{} && !a.IsLoopback():
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.Addr{}
}

func refuse(domain address.Domain, code, subject, detail int, text string, err error) *Error {
	return &Error{Domain: domain, Reply: smtp.Reply{Code: code, Subject: subject, Detail: detail, Text: text}, Err: err}
}
