package relay

import (
	"net/netip"
	"sync"
	"time"
)

// Port 25 counts as blocked once so many different networks have not answered,
// nobody has since, and this went on for so long.
const (
	blockedNetworks = 4
	blockedFor      = 2 * time.Minute
	blockedProbe    = 10 * time.Minute // how often the direct way is tried nevertheless
)

// blockage notices that the way out to port 25 is closed: connections to hosts of
// different networks all time out, as where a provider drops them. Safe for concurrent use.
type blockage struct {
	mu     sync.Mutex
	silent map[netip.Prefix]bool // networks that did not answer since the last that did; bounded
	since  time.Time
	probed time.Time
	told   bool
}

// network is what hosts of one provider have in common.
func network(a netip.Addr) netip.Prefix {
	bits := 16
	if a.Is6() {
		bits = 32
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// answered notes a host that could be reached, or refused a connection: the way is open.
func (b *blockage) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.silent)
	b.since, b.told = time.Time{}, false
}

// timedOut notes a host that did not answer; first reports that this made the
// way count as blocked.
func (b *blockage) timedOut(a netip.Addr, now time.Time) (first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.silent == nil {
		b.silent = make(map[netip.Prefix]bool)
	}
	if len(b.silent) == 0 {
		b.since = now
	}
	if len(b.silent) < blockedNetworks {
		b.silent[network(a)] = true
	}
	first = b.blockedLocked(now) && !b.told
	b.told = b.told || first
	return first
}

func (b *blockage) blockedLocked(now time.Time) bool {
	return len(b.silent) >= blockedNetworks && now.Sub(b.since) >= blockedFor
}

// blocked reports whether the way counts as blocked.
func (b *blockage) blocked(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.blockedLocked(now)
}

// avoid reports whether the fallback should be taken instead of the direct way; now
// and then it says no, so that an end of the blockage is seen.
func (b *blockage) avoid(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.blockedLocked(now) {
		return false
	}
	if now.Sub(b.probed) >= blockedProbe {
		b.probed = now
		return false
	}
	return true
}
