// Package greeting judges what a host says of itself before the message: its name in HELO, its reverse name
// and the reverse-path's domain.
package greeting

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/verdict"
)

// Config is what a Checker works with.
type Config struct {
	Resolver resolver.Resolver // required; put a cache before it
	// Names are our host names, and Addrs our addresses: no other host is called so.
	Names []address.Domain
	Addrs []netip.Addr
	// Own reports whether a domain is one of ours, for greetings in the name of a mail domain; nil: none is.
	Own     func(ctx context.Context, d address.Domain) (bool, error)
	Timeout time.Duration // for the look-ups of one call; 0: 5 s
}

// Checker judges greetings. Safe for concurrent use.
type Checker struct{ cfg Config }

// New makes a Checker.
func New(c Config) (*Checker, error) {
	if c.Resolver == nil {
		return nil, errors.New("greeting: Resolver is missing")
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	return &Checker{cfg: c}, nil
}

// Helo judges the argument of EHLO or HELO of a host at ip. There is at most one item: HeloOurs before
// HeloBad before HeloUnknown. A host on this machine or with one of our addresses may greet as it
// likes. When DNS fails it is not held against the host.
func (c *Checker) Helo(ctx context.Context, helo string, ip netip.Addr) []verdict.Item {
	ip = ip.Unmap().WithZone("")
	if ip.IsLoopback() || slices.Contains(c.cfg.Addrs, ip) {
		return nil
	}
	item := func(n verdict.Name, words string) []verdict.Item {
		return []verdict.Item{{Name: n, Detail: words}}
	}
	shown := show(helo)
	if addr, bracketed, ok := literal(helo); ok {
		switch {
		case slices.Contains(c.cfg.Addrs, addr):
			return item(verdict.HeloOurs, "greets with our address "+shown)
		case !bracketed:
			return item(verdict.HeloBad, "greets with the bare address "+shown) // RFC 5321 §4.1.3 wants brackets
		case addr != ip:
			return item(verdict.HeloBad, "greets with "+shown+", but is "+ip.String())
		}
		return nil
	}
	d, err := address.ParseDomain(strings.TrimSuffix(helo, "."))
	if err != nil && strings.Contains(helo, "_") { // no host name, and yet usual among office servers
		d, err = address.ParseDomain(strings.ReplaceAll(strings.TrimSuffix(helo, "."), "_", "-"))
		if err == nil && full(d.String()) {
			return c.known(ctx, strings.TrimSuffix(helo, "."), shown)
		}
	}
	if err != nil || d.IsLiteral() {
		return item(verdict.HeloBad, "greets with "+shown+", which is no host name")
	}
	if c.ours(ctx, d) {
		return item(verdict.HeloOurs, "greets with our name "+shown)
	}
	if !full(d.String()) {
		return item(verdict.HeloBad, "greets with "+shown+", which is no full host name") // RFC 5321 §2.3.5
	}
	return c.known(ctx, d.String(), shown)
}

// ours reports whether a name is one of our hosts or domains.
func (c *Checker) ours(ctx context.Context, d address.Domain) bool {
	if slices.Contains(c.cfg.Names, d) {
		return true
	}
	if c.cfg.Own == nil {
		return false
	}
	own, err := c.cfg.Own(ctx, d)
	return err == nil && own
}

// known looks for the name's addresses.
func (c *Checker) known(ctx context.Context, name, shown string) []verdict.Item {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	_, err := resolver.Addrs(ctx, c.cfg.Resolver, name)
	if errors.Is(err, resolver.ErrNotFound) || errors.Is(err, resolver.ErrName) {
		return []verdict.Item{{Name: verdict.HeloUnknown, Detail: "greets with " + shown + ", which has no address in DNS"}}
	}
	return nil
}

// Reachable says NoReply when nothing in DNS takes mail for a reverse-path's domain: it has neither MX records nor an
// address (RFC 5321 §5.1), has a null MX (RFC 7505 §4.2), or its MX records lead to no host. When DNS fails, it says nothing.
func (c *Checker) Reachable(ctx context.Context, d address.Domain) []verdict.Item {
	if d.IsZero() || d.IsLiteral() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	item := func(words string) []verdict.Item {
		return []verdict.Item{{Name: verdict.NoReply, Detail: d.String() + " " + words}}
	}
	mxs, err := resolver.Exchangers(ctx, c.cfg.Resolver, d.String())
	switch {
	case errors.Is(err, resolver.ErrNotFound):
		if _, err := resolver.Addrs(ctx, c.cfg.Resolver, d.String()); errors.Is(err, resolver.ErrNotFound) {
			return item("has neither MX records nor an address")
		}
		return nil
	case err != nil:
		return nil
	}
	if len(mxs) == 1 && mxs[0].Host == "" {
		return item("says that it takes no mail (null MX)")
	}
	for _, mx := range mxs[:min(len(mxs), maxHosts)] {
		if mx.Host == "" {
			continue
		}
		addrs, err := resolver.Addrs(ctx, c.cfg.Resolver, mx.Host)
		if err != nil && !errors.Is(err, resolver.ErrNotFound) && !errors.Is(err, resolver.ErrName) {
			return nil // DNS failed
		}
		if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !a.IsLoopback() && !a.IsUnspecified() }) {
			return nil
		}
	}
	if len(mxs) > maxHosts {
		return nil
	}
	return item("has MX records that lead to no host")
}

// maxHosts bounds the hosts of a domain whose addresses are asked for.
const maxHosts = 5

// literal reads an address, as an address literal or bare.
func literal(helo string) (addr netip.Addr, bracketed, ok bool) {
	s := helo
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bracketed = true
		s = s[1 : len(s)-1]
		if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
			s = s[5:]
		}
	}
	addr, err := netip.ParseAddr(s)
	return addr.Unmap(), bracketed, err == nil
}

// full reports whether a name could be in public DNS: of several labels, under no domain that is for private networks.
func full(name string) bool {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return false
	}
	switch strings.ToLower(name[i+1:]) {
	case "localdomain", "localhost", "local", "lan", "home", "internal", "intranet", "corp", "private", "invalid", "workgroup", "arpa":
		return false
	}
	return true
}

// show makes a host's words fit to be shown.
func show(s string) string {
	if s == "" {
		return "nothing"
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), 80)])
	return s
}
