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
}

type rules struct {
	most  int64
	peers *limit.Peers
}

var errFull = errors.New("the server has as many connections as it may")

// set takes the limits of a configuration.
func (g *gate) set(l config.Limits) error {
	peers, err := limit.NewPeers(limit.PeersConfig{PerAddress: l.ConnectionsPerAddress, PerNetwork: l.ConnectionsPerNetwork,
		AddressRate: limit.Rate{Burst: l.ConnectionRate, Every: time.Minute / time.Duration(l.ConnectionRate)}})
	if err != nil {
		return fmt.Errorf("set connection limits: %w", err)
	}
	g.rules.Store(&rules{most: int64(l.Connections), peers: peers})
	return nil
}

// admit counts a connection until release is called.
func (g *gate) admit(client netip.AddrPort) (release func(), err error) {
	r := g.rules.Load()
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
