package preference

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/verdict"
)

// maxPatternOctets is longer than any address.
const maxPatternOctets = 1024

// ParsePattern reads whom an entry names and returns the form that is stored and compared: an
// address, a domain, ".domain" for all below a domain, and for the server also an address or
// network of hosts (192.0.2.7, 2001:db8::/32). "@domain" is taken for the domain. Errors wrap
// ErrInvalid.
func ParsePattern(s string, common bool) (string, error) {
	s = strings.TrimSpace(s)
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("%q %w: %s", s, ErrInvalid, why)
	}
	if len(s) > maxPatternOctets {
		return "", fmt.Errorf("pattern of %d octets %w: write an address, a domain or .domain", len(s), ErrInvalid)
	}
	if p, ok := parseNetwork(s); ok {
		if !common {
			return bad("networks stand in the server's list alone")
		}
		if p.Bits() == 0 {
			return bad("a network of all addresses names everybody")
		}
		return p.String(), nil
	}
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		a, err := address.Parse(s)
		if err != nil {
			return bad("write an address, a domain or .domain")
		}
		return a.Key(), nil
	}
	name, below := strings.CutPrefix(strings.TrimPrefix(s, "@"), ".")
	d, err := address.ParseDomain(name)
	if err != nil || d.IsLiteral() {
		return bad("write an address, a domain or .domain")
	}
	if below {
		return "." + d.String(), nil
	}
	return d.String(), nil
}

// parseNetwork reads an IP address or network in its masked form.
func parseNetwork(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return netip.Prefix{}, false
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}

// lists are an account's entries, made for look-ups.
type lists struct {
	names    map[string]bool // pattern: allowed
	networks map[netip.Prefix]bool
	lengths  []int // of networks, the longest first
}

func (l *lists) add(pattern string, allow bool) {
	p, ok := parseNetwork(pattern)
	if !ok {
		if l.names == nil {
			l.names = map[string]bool{}
		}
		l.names[pattern] = allow
		return
	}
	if l.networks == nil {
		l.networks = map[netip.Prefix]bool{}
	}
	l.networks[p] = allow
	if !slices.Contains(l.lengths, p.Bits()) {
		l.lengths = append(l.lengths, p.Bits())
		slices.SortFunc(l.lengths, func(a, b int) int { return b - a })
	}
}

// match is an entry that names a sender.
type match struct {
	pattern string
	found   bool
	allow   bool
}

// address finds the most particular entry for an address: itself, its domain, a domain above.
func (l *lists) address(a address.Address) match {
	if a.IsZero() || len(l.names) == 0 {
		return match{}
	}
	look := func(pattern string) match {
		allow, ok := l.names[pattern]
		return match{pattern, ok, allow}
	}
	if m := look(a.Key()); m.found {
		return m
	}
	name := a.Domain().String()
	if m := look(name); m.found || a.Domain().IsLiteral() {
		return m
	}
	for {
		i := strings.IndexByte(name, '.')
		if i < 0 {
			return match{}
		}
		if m := look(name[i:]); m.found {
			return m
		}
		name = name[i+1:]
	}
}

// network finds the smallest network that names a peer.
func (l *lists) network(peer netip.Addr) match {
	peer = peer.Unmap().WithZone("")
	if !peer.IsValid() {
		return match{}
	}
	for _, bits := range l.lengths {
		p, err := peer.Prefix(bits)
		if err != nil {
			continue
		}
		if allow, ok := l.networks[p]; ok {
			return match{p.String(), true, allow}
		}
	}
	return match{}
}

// Sender is who a message claims to come from, and what of that is proven.
type Sender struct {
	From        address.Address
	ReversePath address.ReversePath
	Peer        netip.Addr
	FromProven  bool // DMARC passes for From's domain, or a trusted forwarder vouches for it
	PathProven  bool // SPF passes for the reverse-path's domain, or a signature of that domain holds
}

// items is the evidence of the lists, one item at most. Of the entries that name a sender the
// most particular one counts, for From and for the reverse-path each. A proven allowed sender
// is allowed; else one who is blocked is blocked, which needs no proof; else an allowed one
// whom nothing proves is unsure.
func (l *lists) items(s Sender, allowed, blocked verdict.Name) []verdict.Item {
	if len(l.names) == 0 && len(l.networks) == 0 {
		return nil
	}
	item := func(name verdict.Name, m match) []verdict.Item {
		words := "names"
		if name == verdict.AllowedUnsure {
			words = "names, without proof that it is them,"
		}
		pattern := m.pattern
		if len(pattern) > 120 {
			pattern = pattern[:120] + "…"
		}
		return []verdict.Item{{Name: name, Detail: "the list " + words + " " + pattern}}
	}
	matches := [...]match{l.network(s.Peer), l.address(s.From), l.address(s.ReversePath.Address())}
	proven := [...]bool{true, s.FromProven, s.PathProven}
	for i, m := range matches {
		if m.found && m.allow && proven[i] {
			return item(allowed, m)
		}
	}
	for _, m := range matches {
		if m.found && !m.allow {
			return item(blocked, m)
		}
	}
	for _, m := range matches {
		if m.found {
			return item(verdict.AllowedUnsure, m)
		}
	}
	return nil
}
