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

// How many acquaintances are remembered, and for how long since the last success.
const (
	acquaintances = 1 << 15
	acquaintedFor = 30 * 24 * time.Hour
)

// acquaintance is a login that has succeeded from an address.
type acquaintance struct {
	addr  netip.Addr
	login string
}

// Failures throttles peers that fail too often. An attempt takes a token before
// its outcome is known and gets it back when it turns out well, so a hundred
// attempts at once can't slip through before the first has failed.
//
// A login that has succeeded from an address before has a bucket of its own there,
// as large as an address': so neither a stranger behind the same router nor a
// neighbour in the network locks a person out, and a device with an old password
// does not lock out the office. Safe for concurrent use.
type Failures struct {
	networks  Networks
	addresses *Buckets[netip.Addr]
	nets      *Buckets[netip.Prefix]
	loopback  *Buckets[netip.Addr]
	own       *Buckets[acquaintance]
	known     *Buckets[acquaintance] // a bucket of one token that is empty for acquaintedFor: kept means known
}

// NewFailures makes the tables. Its errors wrap ErrConfig.
func NewFailures(c FailuresConfig) (*Failures, error) {
	c = c.withDefaults()
	a, err1 := NewBuckets[netip.Addr](c.Address, c.MaxKeys)
	n, err2 := NewBuckets[netip.Prefix](c.Network, c.MaxKeys)
	l, err3 := NewBuckets[netip.Addr](c.Loopback, c.MaxKeys)
	o, err4 := NewBuckets[acquaintance](c.Address, c.MaxKeys)
	k, err5 := NewBuckets[acquaintance](Rate{Burst: 1, Every: acquaintedFor}, acquaintances)
	if err := errors.Join(err1, err2, err3, err4, err5, c.Networks.Validate()); err != nil {
		return nil, err
	}
	return &Failures{networks: c.Networks, addresses: a, nets: n, loopback: l, own: o, known: k}, nil
}

// Know notes that login, in its compared form, has succeeded from addr.
func (f *Failures) Know(addr netip.Addr, login string, now time.Time) {
	if a := acquaint(addr, login); login != "" {
		f.known.Refund(a, now) // so that the time begins anew
		f.known.Allow(a, now)
	}
}

func acquaint(addr netip.Addr, login string) acquaintance {
	return acquaintance{addr.Unmap().WithZone(""), login}
}

// knows reports whether login has succeeded from addr before. Loopback, where one
// gateway may speak for everybody, has none: whoever guesses through the gateway
// would use up the bucket of the person who comes through it.
func (f *Failures) knows(a acquaintance, now time.Time) bool {
	return a.login != "" && a.addr.IsValid() && !a.addr.IsLoopback() && !f.known.Peek(a, now)
}

// Begin reports whether addr may make an attempt as login now, and if so counts it
// as a failure until Forgive. login is in its compared form, "" when unknown.
func (f *Failures) Begin(addr netip.Addr, login string, now time.Time) bool {
	if a := acquaint(addr, login); f.knows(a, now) {
		return f.own.Allow(a, now)
	}
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
func (f *Failures) Forgive(addr netip.Addr, login string, now time.Time) {
	if a := acquaint(addr, login); f.knows(a, now) {
		f.own.Refund(a, now)
		return
	}
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || addr.IsLoopback() { // a UNIX socket has no address
		f.loopback.Refund(addr, now)
		return
	}
	f.addresses.Refund(addr, now)
	f.nets.Refund(f.networks.Of(addr), now)
}
