package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/mx"
)

// Probe limits: hosts of a probe, and how long each has to answer.
const (
	probeHosts   = 8
	probeTimeout = 10 * time.Second
)

// Prober asks whether the way out to port 25 is open, for poczta check. It goes to no
// host but those of the domains it is given.
type Prober struct {
	MX   MX
	Dial DialFunc // nil is the system's network
	Port uint16   // 0 is 25
}

// Reach is what a probe of one host found.
type Reach struct {
	Domain address.Domain
	Host   string // as in "mx.example.com [192.0.2.25]"; "" when DNS named none
	Err    error  // nil: it took the connection
	Silent bool   // it did not answer at all
}

// Finding is what a probe found.
type Finding struct {
	Hosts []Reach
	// Blocked: DNS works, and not one of several hosts answered, as where a provider
	// drops connections to port 25.
	Blocked bool
}

// String says it in a sentence, with what to do.
func (f Finding) String() string {
	answered, silent := 0, 0
	for _, r := range f.Hosts {
		switch {
		case r.Err == nil:
			answered++
		case r.Silent:
			silent++
		}
	}
	switch {
	case f.Blocked:
		return fmt.Sprintf("port 25 outward seems blocked by your provider: none of %d mail hosts answers; ask the provider to open it, or send through a smart host ([[relay.route]])", silent)
	case answered > 0:
		return fmt.Sprintf("port 25 outward is open: %d of %d mail hosts answer", answered, len(f.Hosts))
	case len(f.Hosts) == 0:
		return "port 25 outward was not tried: no domain was named"
	}
	return fmt.Sprintf("none of %d mail hosts took a connection: %v", len(f.Hosts), f.Hosts[0].Err)
}

// Probe connects to one host of each domain, at most eight, and closes at once without a
// word. It takes ten seconds at most beyond the look-ups.
func (p *Prober) Probe(ctx context.Context, domains []address.Domain) Finding {
	domains = domains[:min(len(domains), probeHosts)]
	f := Finding{Hosts: make([]Reach, len(domains))}
	var group sync.WaitGroup
	for i, d := range domains {
		group.Go(func() { f.Hosts[i] = p.reach(ctx, d) })
	}
	group.Wait()
	silent := make(map[netip.Prefix]bool)
	for _, r := range f.Hosts {
		if r.Err == nil || r.Host != "" && !r.Silent {
			return f // somebody answered, if only by a refusal
		}
		if r.Silent {
			silent[p.networkOf(r)] = true
		}
	}
	f.Blocked = len(silent) > 1
	return f
}

func (p *Prober) networkOf(r Reach) netip.Prefix {
	for i := range len(r.Host) {
		if r.Host[i] == '[' {
			a, err := netip.ParseAddr(r.Host[i+1 : len(r.Host)-1])
			if err == nil {
				return network(a)
			}
		}
	}
	return netip.Prefix{}
}

// reach tries the first host of a domain.
func (p *Prober) reach(ctx context.Context, d address.Domain) Reach {
	r := Reach{Domain: d}
	route, err := p.MX.Hosts(ctx, d)
	if err != nil {
		r.Err = err
		return r
	}
	h := first4(route)
	port := p.Port
	orElse(&port, 25)
	r.Host = h.host.Name.String() + " [" + h.addr.Addr().String() + "]"
	dial := p.Dial
	if dial == nil {
		dial = dialSystem
	}
	limit, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	c, err := dial(limit, "tcp", netip.AddrPortFrom(h.addr.Addr(), port).String(), netip.Addr{})
	if err != nil {
		r.Err, r.Silent = err, isTimeout(err) || errors.Is(err, syscall.EHOSTUNREACH)
		return r
	}
	_ = c.Close()
	return r
}

// first4 is the first host with an IPv4 address, or the first: IPv6 may be missing here for
// reasons of its own.
func first4(route mx.Route) candidate {
	for _, h := range route.Hosts {
		for _, a := range h.Addrs {
			if a.Is4() {
				return candidate{h, netip.AddrPortFrom(a, 0)}
			}
		}
	}
	h := route.Hosts[0]
	return candidate{h, netip.AddrPortFrom(h.Addrs[0], 0)}
}
