package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Dialer connects to hosts whose addresses a Resolver gives, for clients of HTTP
// that must ask the same servers as everything else.
type Dialer struct {
	Resolver Resolver
	Barred   func(addr netip.Addr) string // says why we connect to no host at addr, or ""; nil bars none
	Timeout  time.Duration                // for each address; 0 is 15 s
}

// dialAddrs is how many addresses of one host are tried.
const dialAddrs = 10

// Dial connects to a name or address with a port, at the first of at most ten
// addresses that answers. It suits http.Transport.DialContext.
func (d Dialer) Dial(ctx context.Context, network, hostport string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else if addrs, err = Addrs(ctx, d.Resolver, host); err != nil {
		return nil, err
	}
	timeout := d.Timeout
	if timeout <= 0 {
		timeout = 15 * time.Second
	}
	failed := fmt.Errorf("connect to %s: it has no address", host)
	for _, a := range addrs[:min(len(addrs), dialAddrs)] {
		if d.Barred != nil {
			if why := d.Barred(a); why != "" {
				failed = errors.New("connect to " + host + ": " + why)
				continue
			}
		}
		nd := net.Dialer{Timeout: timeout}
		conn, err := nd.DialContext(ctx, network, net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		failed = err
	}
	return nil, failed
}
