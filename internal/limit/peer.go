package limit

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Errors of Peers.Acquire.
var (
	ErrConnections = errors.New("too many connections at once")
	ErrRate        = errors.New("connections come too quickly")
)

// Networks says how addresses are grouped into networks: the leading bits that
// count. Zero fields are 24 for IPv4 and 64 for IPv6.
type Networks struct {
	IPv4Bits int
	IPv6Bits int
}

// Validate reports bits that no address has.
func (n Networks) Validate() error {
	if n.IPv4Bits < 0 || n.IPv4Bits > 32 || n.IPv6Bits < 0 || n.IPv6Bits > 128 {
		return fmt.Errorf("%w: networks of /%d and /%d: IPv4 has 1 to 32 bits, IPv6 1 to 128", ErrConfig, n.IPv4Bits, n.IPv6Bits)
	}
	return nil
}

// Of returns addr's network. An IPv4 address written as IPv6 counts as IPv4; a
// zone is left off.
func (n Networks) Of(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := n.IPv6Bits
	if bits == 0 {
		bits = 64
	}
	if addr.Is4() {
		if bits = n.IPv4Bits; bits == 0 {
			bits = 24
		}
	}
	p, err := addr.Prefix(bits)
	if err != nil { // the zero Addr: all unknown peers share one network
		return netip.Prefix{}
	}
	return p
}

// PeersConfig is the limits of Peers. Zero limits nothing.
type PeersConfig struct {
	PerAddress  int // connections at once
	PerNetwork  int
	AddressRate Rate // new connections
	NetworkRate Rate
	Networks    Networks
	Exempt      []netip.Prefix // peers that are not limited; loopback always is among them
	MaxKeys     int            // of each table; 0 is DefaultMaxKeys
}

// Peers limits connections by the peer's address and by its network. Safe for
// concurrent use.
type Peers struct {
	config      PeersConfig
	addresses   *Gauge[netip.Addr]
	networks    *Gauge[netip.Prefix]
	addressRate *Buckets[netip.Addr]
	networkRate *Buckets[netip.Prefix]
}

// NewPeers makes the tables. Its errors wrap ErrConfig.
func NewPeers(c PeersConfig) (*Peers, error) {
	ar, err1 := NewBuckets[netip.Addr](c.AddressRate, c.MaxKeys)
	nr, err2 := NewBuckets[netip.Prefix](c.NetworkRate, c.MaxKeys)
	if err := errors.Join(err1, err2, c.Networks.Validate()); err != nil {
		return nil, err
	}
	return &Peers{
		config:      c,
		addresses:   NewGauge[netip.Addr](c.PerAddress, c.MaxKeys),
		networks:    NewGauge[netip.Prefix](c.PerNetwork, c.MaxKeys),
		addressRate: ar,
		networkRate: nr,
	}, nil
}

// Acquire counts a new connection of addr. Its release must be called when the
// connection ends and is harmless twice. The error is ErrConnections or ErrRate
// (421 4.7.0 / -ERR [SYS/TEMP]); then release is nil.
func (p *Peers) Acquire(addr netip.Addr, now time.Time) (release func(), err error) {
	addr = addr.Unmap().WithZone("")
	if p.exempt(addr) {
		return func() {}, nil
	}
	network := p.config.Networks.Of(addr)
	if !p.addresses.Acquire(addr) {
		return nil, ErrConnections
	}
	if !p.networks.Acquire(network) {
		p.addresses.Release(addr)
		return nil, ErrConnections
	}
	release = sync.OnceFunc(func() {
		p.networks.Release(network)
		p.addresses.Release(addr)
	})
	if !p.addressRate.Allow(addr, now) {
		release()
		return nil, ErrRate
	}
	if !p.networkRate.Allow(network, now) {
		p.addressRate.Refund(addr, now)
		release()
		return nil, ErrRate
	}
	return release, nil
}

func (p *Peers) exempt(addr netip.Addr) bool {
	if !addr.IsValid() || addr.IsLoopback() { // a UNIX socket has no address
		return true
	}
	for _, e := range p.config.Exempt {
		if e.Contains(addr) {
			return true
		}
	}
	return false
}
