package mailbox

import (
	"container/list"
	"context"
	"sync"

	"poczta.example/poczta/internal/envelope"
)

// slotOctets is what a slot costs besides its listing's chunks.
const slotOctets = 512

// slotKey names a mailbox, or with an empty name an account's usage.
type slotKey struct {
	account envelope.AccountID
	name    string
}

// slot is what is known of a mailbox or an account. It exists while somebody
// reads it from the database or the cache holds a value. All but loading is
// under the cache's lock.
type slot struct {
	key     slotKey
	loading chan struct{} // one token: who holds it reads from the database
	users   int
	gen     uint64 // changes with every change that this process makes
	listing *Listing
	usage   *Usage
	valueAt uint64        // gen that the value was read under
	elem    *list.Element // in lru while it holds a value
}

// cache holds listings and usages in memory under a budget. What a change has
// touched since its reading began is not fresh: touch is called after every
// transaction, before its caller answers anybody.
type cache struct {
	mu     sync.Mutex
	slots  map[slotKey]*slot
	lru    *list.List // of *slot, most recently used first
	budget int64
	total  int64 // octets of cached values and listings in use
	gauge  func(int64)
	last   uint64 // the last gen given
}

func newCache(budget int64, gauge func(int64)) *cache {
	return &cache{slots: make(map[slotKey]*slot), lru: list.New(), budget: budget, gauge: gauge}
}

// touch tells that a transaction of this process may have changed a mailbox.
func (c *cache) touch(account envelope.AccountID, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range [...]slotKey{{account, name}, {account, ""}} {
		if s := c.slots[key]; s != nil {
			c.last++
			s.gen = c.last
		}
	}
}

// touchAll is touch for every mailbox of an account.
func (c *cache) touchAll(account envelope.AccountID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, s := range c.slots {
		if key.account == account {
			c.last++
			s.gen = c.last
		}
	}
}

// fresh returns the listing of a mailbox, held for the caller, if no change
// touched it since it was read; else nil.
func (c *cache) fresh(key slotKey) *Listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[key]
	if s == nil || s.listing == nil || s.valueAt != s.gen {
		return nil
	}
	c.lru.MoveToFront(s.elem)
	s.listing.refs++
	return s.listing
}

// freshUsage is fresh for an account's usage.
func (c *cache) freshUsage(account envelope.AccountID) (Usage, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[slotKey{account, ""}]
	if s == nil || s.usage == nil || s.valueAt != s.gen {
		return Usage{}, false
	}
	c.lru.MoveToFront(s.elem)
	return *s.usage, true
}

// enter returns the slot for a reader and the gen its reading begins under;
// leave must follow. With exclusive, at most one reader is inside.
func (c *cache) enter(ctx context.Context, key slotKey, exclusive bool) (*slot, error) {
	c.mu.Lock()
	s := c.slots[key]
	if s == nil {
		c.last++
		s = &slot{key: key, gen: c.last, loading: make(chan struct{}, 1)}
		c.slots[key] = s
	}
	s.users++
	c.mu.Unlock()
	if !exclusive {
		return s, nil
	}
	select {
	case s.loading <- struct{}{}:
		return s, nil
	case <-ctx.Done():
		c.leave(s, false)
		return nil, ctx.Err()
	}
}

// leave ends what enter began.
func (c *cache) leave(s *slot, exclusive bool) {
	if exclusive {
		<-s.loading
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.users--
	c.forget(s)
}

// forget drops a slot that nobody needs.
func (c *cache) forget(s *slot) {
	if s.users == 0 && s.elem == nil {
		delete(c.slots, s.key)
	}
}

// now returns the slot's gen and its listing, which may be stale, held for the
// caller; nil when there is none.
func (c *cache) now(s *slot) (gen uint64, stale *Listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.listing != nil {
		s.listing.refs++
	}
	return s.gen, s.listing
}

// confirm says that the slot's listing is still right, as read under gen.
func (c *cache) confirm(s *slot, gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.listing != nil {
		s.valueAt = gen
		c.use(s)
	}
}

// put makes l, read under gen, the slot's listing and holds it for the caller.
// ErrBudget when there is no room even after all that is not in use was dropped.
func (c *cache) put(s *slot, gen uint64, l *Listing) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.refs = 1
	c.charge(l)
	c.dropListing(s) // stale; chunks that l shares stay
	c.shrink(s)
	if c.total > c.budget {
		l.refs = 0
		c.discharge(l)
		c.retire(s)
		c.report()
		return ErrBudget
	}
	s.listing, s.valueAt, l.cached = l, gen, true
	c.use(s)
	c.report()
	return nil
}

// putUsage makes u, read under gen, the slot's usage.
func (c *cache) putUsage(s *slot, gen uint64, u Usage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.usage, s.valueAt = &u, gen
	c.use(s)
	c.shrink(s)
	c.report()
}

// use moves the slot to the front of lru.
func (c *cache) use(s *slot) {
	if s.elem != nil {
		c.lru.MoveToFront(s.elem)
		return
	}
	s.elem = c.lru.PushFront(s)
	c.total += slotOctets
}

// release gives back a listing that fresh, now or put held for a session.
func (c *cache) release(l *Listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.refs--
	if l.refs == 0 && !l.cached {
		c.discharge(l)
		c.report()
	}
}

// shrink drops the values used longest ago, except those in use and that of keep,
// until the budget holds.
func (c *cache) shrink(keep *slot) {
	for e := c.lru.Back(); e != nil && c.total > c.budget; {
		s, prev := e.Value.(*slot), e.Prev()
		if s != keep && (s.listing == nil || s.listing.refs == 0) {
			c.dropListing(s)
			c.retire(s)
			c.forget(s)
		}
		e = prev
	}
}

// retire takes a slot without a listing out of lru.
func (c *cache) retire(s *slot) {
	s.usage = nil
	if s.elem != nil {
		c.lru.Remove(s.elem)
		s.elem = nil
		c.total -= slotOctets
	}
}

// dropListing takes the slot's listing out of the cache.
func (c *cache) dropListing(s *slot) {
	l := s.listing
	if l == nil {
		return
	}
	s.listing, l.cached = nil, false
	if l.refs == 0 {
		c.discharge(l)
	}
}

// charge counts the chunks of a listing; those shared with another count once.
func (c *cache) charge(l *Listing) {
	for _, ch := range l.chunks {
		if ch.refs == 0 {
			c.total += ch.cost()
		}
		ch.refs++
	}
}

func (c *cache) discharge(l *Listing) {
	for _, ch := range l.chunks {
		ch.refs--
		if ch.refs == 0 {
			c.total -= ch.cost()
		}
	}
}

// room reports whether octets more would fit if all that is not in use went.
func (c *cache) room(octets int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total+octets <= c.budget {
		return true
	}
	free := c.budget - c.total
	for e := c.lru.Back(); e != nil && free < octets; e = e.Prev() {
		if s := e.Value.(*slot); s.listing != nil && s.listing.refs == 0 {
			for _, ch := range s.listing.chunks {
				if ch.refs == 1 {
					free += ch.cost()
				}
			}
		}
	}
	return free >= octets
}

func (c *cache) report() {
	if c.gauge != nil {
		c.gauge(c.total)
	}
}
