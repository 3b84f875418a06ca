package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/smtp"
)

// gate admits connections: all together, by address and by network. A reload
// replaces the limits; connections that are open keep counting in the old ones.
type gate struct {
	open  atomic.Int64
	rules atomic.Pointer[rules]
	files int64 // that may be open; 0 when it is not known
	// gateways are peers that carry the sessions of others and name them (PROXY, XCLIENT);
	// the limits by address spare them, and they hide nobody.
	gateways []netip.Prefix
	crowd    crowd
}

// crowd counts where connections come from, to find out whether all of them seem
// to come through one gateway, which makes limits by address useless.
type crowd struct {
	mu    sync.Mutex
	total int64
	most  map[netip.Addr]int64 // at most maxCrowd addresses
}

const (
	maxCrowd    = 256
	crowdSample = 200 // connections before anything is said
	crowdShare  = 0.95
)

// note counts a connection. Old counts fade: they are halved now and then.
func (c *crowd) note(a netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most == nil {
		c.most = map[netip.Addr]int64{}
	}
	if _, ok := c.most[a]; ok || len(c.most) < maxCrowd {
		c.most[a]++
	}
	if c.total++; c.total >= 100*crowdSample {
		c.total /= 2
		for k, n := range c.most {
			if n /= 2; n == 0 {
				delete(c.most, k)
			} else {
				c.most[k] = n
			}
		}
	}
}

// gateway returns the address that nearly all connections come from, if it is
// one of a private network or of this host, as a container's gateway is.
func (c *crowd) gateway() (netip.Addr, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a, n := range c.most {
		if c.total >= crowdSample && float64(n) >= crowdShare*float64(c.total) && (a.IsPrivate() || a.IsLoopback()) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

type rules struct {
	most  int64
	peers *limit.Peers
}

var errFull = errors.New("the server has as many connections as it may")

// set takes the limits of a configuration.
func (g *gate) set(l config.Limits) error {
	peers, err := limit.NewPeers(limit.PeersConfig{PerAddress: l.ConnectionsPerAddress, PerNetwork: l.ConnectionsPerNetwork,
		AddressRate: perMinute(l.ConnectionRate), NetworkRate: perMinute(l.ConnectionRateNetwork), Exempt: g.gateways})
	if err != nil {
		return fmt.Errorf("set connection limits: %w", err)
	}
	most := int64(l.Connections)
	if g.files > 0 {
		most = min(most, connectionsWithin(g.files))
	}
	g.rules.Store(&rules{most: most, peers: peers})
	return nil
}

// perMinute is the rate of n a minute, all of which may come at once.
func perMinute(n int) limit.Rate {
	return limit.Rate{Burst: n, Every: time.Minute / time.Duration(n)}
}

// Open files that connections leave for the work: those of the database, of
// segments being read, of listeners and commands; and a part of the rest, up to
// mostLarge, for large messages that come in into files of their own.
const (
	filesForWork = 256
	mostLarge    = 1000
	leastFiles   = filesForWork + 64
)

// connectionsWithin is how many connections may be open when files may.
func connectionsWithin(files int64) int64 {
	return max(0, files-filesForWork-min(files/8, mostLarge))
}

// admit counts a connection until release is called.
func (g *gate) admit(client netip.AddrPort) (release func(), err error) {
	r := g.rules.Load()
	if a := client.Addr().Unmap(); a.IsValid() && !g.isGateway(a) {
		g.crowd.note(a)
	}
	if g.open.Add(1) > r.most {
		g.open.Add(-1)
		return nil, errFull
	}
	done, err := r.peers.Acquire(client.Addr(), time.Now())
	if err != nil {
		g.open.Add(-1)
		return nil, err
	}
	return sync.OnceFunc(func() { done(); g.open.Add(-1) }), nil
}

func (g *gate) isGateway(a netip.Addr) bool {
	for _, p := range g.gateways {
		if p.Contains(a.WithZone("")) {
			return true
		}
	}
	return false
}

// smtp is admit for SMTP, with its reply (RFC 5321 §3.8: 421).
func (g *gate) smtp(client netip.AddrPort) (func(), error) {
	release, err := g.admit(client)
	if err != nil {
		return nil, smtp.Refuse(421, 7, 0, refusalText(err))
	}
	return release, nil
}

// lmtp is smtp for peers on this host and the networks given.
func (g *gate) lmtp(from []netip.Prefix) func(netip.AddrPort) (func(), error) {
	return func(client netip.AddrPort) (func(), error) {
		a := client.Addr().Unmap()
		ok := !a.IsValid() || a.IsLoopback() // a UNIX socket has no address
		for _, p := range from {
			ok = ok || p.Contains(a)
		}
		if !ok {
			return nil, smtp.Refuse(421, 7, 1, "LMTP is not open to this address; listen.lmtp_from names those that may use it")
		}
		return g.smtp(client)
	}
}

// pop3 is admit for POP3.
func (g *gate) pop3(client netip.AddrPort) (func(), error) {
	release, err := g.admit(client)
	if err != nil {
		return nil, &pop3.Error{Code: pop3.CodeSysTemp, Text: refusalText(err), Err: err}
	}
	return release, nil
}

func refusalText(err error) string {
	switch {
	case errors.Is(err, limit.ErrConnections):
		return "Too many connections from your address; try again later"
	case errors.Is(err, limit.ErrRate):
		return "Connections from your address come too quickly; try again later"
	}
	return "The server is busy; try again later"
}
