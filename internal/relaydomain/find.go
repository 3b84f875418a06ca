package relaydomain

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/mx"
)

// Finder finds the host that keeps a domain's mailboxes; *MX is one.
type Finder interface {
	// Find returns addresses in the order of trial, at least one; host is Domain.Host.
	Find(ctx context.Context, domain address.Domain, host string) ([]netip.AddrPort, error)
}

// Lookup finds routes; *mx.Lookup is one. It must know this host's own names or
// addresses, so that a backup MX does not find itself.
type Lookup interface {
	Hosts(ctx context.Context, domain address.Domain) (mx.Route, error)
	Addrs(ctx context.Context, host address.Domain) (mx.Route, error)
}

// MX finds hosts by DNS, or as they are named.
type MX struct {
	Lookup Lookup
	Port   uint16 // of hosts found by MX
}

// Find implements Finder.
func (m *MX) Find(ctx context.Context, domain address.Domain, host string) ([]netip.AddrPort, error) {
	if host == "" {
		route, err := m.Lookup.Hosts(ctx, domain)
		return addrPorts(route, m.Port), err
	}
	name, port, err := splitHost(host)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(name); err == nil { // the operator's word: no rule bars it
		return []netip.AddrPort{netip.AddrPortFrom(ip, port)}, nil
	}
	d, err := address.ParseDomain(name)
	if err != nil {
		return nil, fmt.Errorf("host %s of domain %s: %w", host, domain, err)
	}
	route, err := m.Lookup.Addrs(ctx, d)
	return addrPorts(route, port), err
}

// splitHost parts host and port.
func splitHost(s string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, fmt.Errorf("host %q must be a name or address with a port: %w", s, err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("host %q has no valid port", s)
	}
	return host, uint16(n), nil
}

func addrPorts(r mx.Route, port uint16) []netip.AddrPort {
	var list []netip.AddrPort
	for _, h := range r.Hosts {
		for _, a := range h.Addrs {
			list = append(list, netip.AddrPortFrom(a, port))
		}
	}
	return list
}
