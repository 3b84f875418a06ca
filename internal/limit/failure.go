package limit

import (
	"errors"
	"net/netip"
	"time"
)

// FailuresConfig is how many failures a peer may make. Zero rates are the
// defaults: 20 at once and one each 30 s for an address, 100 and one each 6 s
// for a network, 2,000 and ten each second for loopback, where one gateway or
// web page may speak for everybody.
type FailuresConfig struct {
	Address  Rate
	Network  Rate
	Loopback Rate
	Networks Networks
	MaxKeys  int // of each table; 0 is DefaultMaxKeys
}

func (c FailuresConfig) withDefaults() FailuresConfig {
	if c.Address.IsZero() {
		c.Address = Rate{Burst: 20, Every: 30 * time.Second}
	}
	if c.Network.IsZero() {
		c.Network = Rate{Burst: 100, Every: 6 * time.Second}
	}
	if c.Loopback.IsZero() {
		c.Loopback = Rate{Burst: 2000, Every: 100 * time.Millisecond}
	}
	return c
}

// Failures throttles peers that fail too often. An attempt takes a token before
// its outcome is known and gets it back when it turns out well, so a hundred
// attempts at once can't slip through before the first has failed. Safe for
// concurrent use.
type Failures struct {
	networks  Networks
	addresses *Buckets[netip.Addr]
	nets      *Buckets[netip.Prefix]
	loopback  *Buckets[netip.Addr]
}

// NewFailures makes the tables. Its errors wrap ErrConfig.
func NewFailures(c FailuresConfig) (*Failures, error) {
	c = c.withDefaults()
	a, err1 := NewBuckets[netip.Addr](c.Address, c.MaxKeys)
	n, err2 := NewBuckets[netip.Prefix](c.Network, c.MaxKeys)
	l, err3 := NewBuckets[netip.Addr](c.Loopback, c.MaxKeys)
	if err := errors.Join(err1, err2, err3, c.Networks.Validate()); err != nil {
		return nil, err
	}
	return &Failures{networks: c.Networks, addresses: a, nets: n, loopback: l}, nil
}

// Begin reports whether addr may make an attempt now, and if so counts it as a
// failure until Forgive.
func (f *Failures) Begin(addr netip.Addr, now time.Time) bool {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || addr.IsLoopback() { // a UNIX socket has no address
		return f.loopback.Allow(addr, now)
	}
	if !f.addresses.Allow(addr, now) {
		return false
	}
	if !f.nets.Allow(f.networks.Of(addr), now) {
		f.addresses.Refund(addr, now)
		return false
	}
	return true
}

// Forgive gives back what Begin took: the attempt was not the peer's failure.
func (f *Failures) Forgive(addr netip.Addr, now time.Time) {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || addr.IsLoopback() { // a UNIX socket has no address
		f.loopback.Refund(addr, now)
		return
	}
	f.addresses.Refund(addr, now)
	f.nets.Refund(f.networks.Of(addr), now)
}
