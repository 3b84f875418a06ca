package reputation

import (
	"fmt"
	"net/netip"
	"time"

	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/verdict"
)

// ProbingConfig is how many unknown recipients a peer may ask for. Zero rates are the
// defaults: 20 at once and 20 an hour for an address, 100 for a network.
type ProbingConfig struct {
	Address  limit.Rate
	Network  limit.Rate
	Networks limit.Networks // zero fields: 24 for IPv4, 64 for IPv6
	Exempt   []netip.Prefix // peers that are not limited; loopback always is among them
	MaxKeys  int            // of each table; 0 is limit.DefaultMaxKeys
}

// Probing finds peers that guess recipients: it counts the unknown ones they ask for. It
// lives in memory, of bounded size, and reads no clock. Safe for concurrent use.
type Probing struct {
	cfg       ProbingConfig
	addresses *limit.Buckets[netip.Addr]
	networks  *limit.Buckets[netip.Prefix]
}

// NewProbing makes the tables. Its errors wrap limit.ErrConfig.
func NewProbing(c ProbingConfig) (*Probing, error) {
	if c.Address.IsZero() {
		c.Address = limit.PerHour(20)
	}
	if c.Network.IsZero() {
		c.Network = limit.PerHour(100)
	}
	a, err := limit.NewBuckets[netip.Addr](c.Address, c.MaxKeys)
	if err != nil {
		return nil, fmt.Errorf("probing, an address: %w", err)
	}
	n, err := limit.NewBuckets[netip.Prefix](c.Network, c.MaxKeys)
	if err != nil {
		return nil, fmt.Errorf("probing, a network: %w", err)
	}
	if err := c.Networks.Validate(); err != nil {
		return nil, fmt.Errorf("probing: %w", err)
	}
	return &Probing{c, a, n}, nil
}

func (p *Probing) peer(addr netip.Addr) (_ netip.Addr, exempt bool) {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || addr.IsLoopback() { // a UNIX socket has no address
		return addr, true
	}
	for _, e := range p.cfg.Exempt {
		if e.Contains(addr) {
			return addr, true
		}
	}
	return addr, false
}

// Unknown counts a recipient that does not exist here. Beyond its own bound an address does not
// count for its network any more, so that its neighbours don't pay for it.
func (p *Probing) Unknown(addr netip.Addr, now time.Time) {
	if addr, exempt := p.peer(addr); !exempt && p.addresses.Allow(addr, now) {
		p.networks.Allow(p.cfg.Networks.Of(addr), now)
	}
}

// Forgive takes one count back: the peer has delivered a message that was no spam, so that a
// large provider, whose users mistype addresses, is not taken for a spy.
func (p *Probing) Forgive(addr netip.Addr, now time.Time) {
	if addr, exempt := p.peer(addr); !exempt {
		p.addresses.Refund(addr, now)
		p.networks.Refund(p.cfg.Networks.Of(addr), now)
	}
}

// Over reports whether the peer has asked for too many. Further RCPT commands are then to be
// put off, known recipients or not (450 4.7.1, or 421 4.7.0 to end the session), so that
// the reply tells nothing.
func (p *Probing) Over(addr netip.Addr, now time.Time) bool {
	addr, exempt := p.peer(addr)
	return !exempt && (!p.addresses.Peek(addr, now) || !p.networks.Peek(p.cfg.Networks.Of(addr), now))
}

// Items is the evidence for a message of a peer that is over.
func (p *Probing) Items(addr netip.Addr, now time.Time) []verdict.Item {
	if !p.Over(addr, now) {
		return nil
	}
	return []verdict.Item{{Name: verdict.Probing, Detail: addr.Unmap().WithZone("").String() + " or its network asked for many recipients that do not exist here"}}
}
