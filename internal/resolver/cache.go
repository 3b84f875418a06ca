package resolver

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// CacheConfig is what a Cache works with. Zero values are the defaults.
type CacheConfig struct {
	Resolver   Resolver         // whom it asks; required
	MaxEntries int              // answers kept; 0 is 50,000
	MaxOctets  int              // memory for them, about; 0 is 16 MiB
	MinTTL     time.Duration    // an answer is kept at least so long; 0 is 1 s
	MaxTTL     time.Duration    // and at most so long; 0 is 24 h
	MaxAbsent  time.Duration    // that something is not there, at most; 0 is 3 h (RFC 2308 §5)
	Failure    time.Duration    // that nobody answered; 0 is 5 s, at most 5 min (RFC 2308 §7.1)
	Now        func() time.Time // nil is time.Now
	Hooks      CacheHooks
}

// CacheHooks are called, where set, while a Cache works. They must return at once.
type CacheHooks struct {
	Lookup func(hit bool) // a question was answered from memory, or had to be asked
}

// Cache is a Resolver that remembers what another one answered, within bounds of
// memory, for as long as the answers say (RFC 1035 §3.2.1, RFC 2308). Identical
// questions that are asked at once are put once; that one of the askers gives up
// does not end it for the others. A name of which nothing is known costs nothing:
// there is no goroutine while nobody asks. Safe for concurrent use.
type Cache struct {
	cfg CacheConfig

	mu      sync.Mutex
	entries map[key]*list.Element // of *entry
	used    *list.List            // front: used last
	octets  int
	flights map[key]*flight
}

// key is a name, in lower case and with its final dot, and a type.
type key struct {
	name string
	t    Type
}

type entry struct {
	q      key
	ans    Answer
	err    error
	stored time.Time
	until  time.Time
	octets int
}

// flight is a question that is being asked.
type flight struct {
	done    chan struct{} // closed when ans and err are there
	ans     Answer
	err     error
	askers  int
	abandon context.CancelFunc
}

// NewCache makes a Cache.
func NewCache(c CacheConfig) (*Cache, error) {
	if c.Resolver == nil {
		return nil, errors.New("resolver cache: Resolver is missing")
	}
	if c.MaxEntries <= 0 {
		c.MaxEntries = 50_000
	}
	if c.MaxOctets <= 0 {
		c.MaxOctets = 16 << 20
	}
	orDefault(&c.MinTTL, time.Second)
	orDefault(&c.MaxTTL, 24*time.Hour)
	orDefault(&c.MaxAbsent, 3*time.Hour)
	orDefault(&c.Failure, 5*time.Second)
	c.Failure = min(c.Failure, 5*time.Minute)
	c.MinTTL = min(c.MinTTL, c.MaxTTL)
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Cache{cfg: c, entries: map[key]*list.Element{}, used: list.New(), flights: map[key]*flight{}}, nil
}

func orDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Lookup implements Resolver. The TTLs of records from memory are what is left
// of them. The caller owns the answer's slice of records, not the octets in it.
func (c *Cache) Lookup(ctx context.Context, name string, t Type) (Answer, error) {
	fqdn, err := question(name)
	if err != nil {
		return Answer{}, err
	}
	q := key{fqdn, t}
	c.mu.Lock()
	if ans, err, ok := c.recall(q); ok {
		c.mu.Unlock()
		c.report(true)
		return ans, err
	}
	f := c.flights[q]
	if f == nil {
		f = c.depart(ctx, q)
	}
	f.askers++
	c.mu.Unlock()
	c.report(false)
	return c.await(ctx, q, f)
}

func (c *Cache) report(hit bool) {
	if c.cfg.Hooks.Lookup != nil {
		c.cfg.Hooks.Lookup(hit)
	}
}

// depart asks in a goroutine that ends with the answer, or soon after the last
// asker has left, who waits for it. The caller holds mu.
func (c *Cache) depart(ctx context.Context, q key) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), abandon: cancel}
	c.flights[q] = f
	go func() {
		defer cancel()
		ans, err := c.cfg.Resolver.Lookup(ctx, strings.TrimSuffix(q.name, "."), q.t)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.flights[q] == f { // else everybody has left: what came of it is of no worth
			delete(c.flights, q)
			c.keep(q, ans, err)
		}
		f.ans, f.err = ans, err
		close(f.done)
	}()
	return f
}

// await waits for a flight's end or the asker's.
func (c *Cache) await(ctx context.Context, q key, f *flight) (Answer, error) {
	select {
	case <-f.done:
		c.leave(q, f)
		ans := f.ans
		ans.Records = slices.Clone(ans.Records)
		return ans, f.err
	case <-ctx.Done():
		if c.leave(q, f) {
			f.abandon()
			<-f.done
		}
		return Answer{}, fmt.Errorf("look up %s: %w: %w", strings.TrimSuffix(q.name, "."), ErrTemporary, ctx.Err())
	}
}

// leave reports whether nobody waits for the flight any more.
func (c *Cache) leave(q key, f *flight) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.askers--
	if f.askers > 0 {
		return false
	}
	if c.flights[q] == f {
		delete(c.flights, q) // who comes now asks anew
	}
	return true
}

// recall looks the question up in memory. The caller holds mu.
func (c *Cache) recall(q key) (Answer, error, bool) {
	el := c.entries[q]
	if el == nil {
		return Answer{}, nil, false
	}
	e := el.Value.(*entry)
	now := c.cfg.Now()
	if !now.Before(e.until) || now.Before(e.stored) { // expired, or the clock went back
		c.forget(el)
		return Answer{}, nil, false
	}
	c.used.MoveToFront(el)
	age := now.Sub(e.stored)
	if absent, ok := errors.AsType[*Absent](e.err); ok {
		left := *absent
		left.TTL = max(0, left.TTL-age)
		return Answer{}, &left, true
	}
	ans := e.ans
	ans.Records = slices.Clone(ans.Records)
	for i := range ans.Records {
		ans.Records[i].TTL = max(0, ans.Records[i].TTL-age)
	}
	return ans, e.err, true
}

// keep remembers an answer. The caller holds mu.
func (c *Cache) keep(q key, ans Answer, err error) {
	ttl := c.lifetime(ans, err)
	if ttl <= 0 {
		return
	}
	if el := c.entries[q]; el != nil {
		c.forget(el)
	}
	now := c.cfg.Now()
	e := &entry{q: q, ans: ans, err: err, stored: now, until: now.Add(ttl), octets: weight(q, ans)}
	if e.octets > c.cfg.MaxOctets/16 {
		return // one giant must not drive out everything else
	}
	e.ans.Records = slices.Clone(ans.Records)
	c.entries[q] = c.used.PushFront(e)
	c.octets += e.octets
	for c.used.Len() > c.cfg.MaxEntries || c.octets > c.cfg.MaxOctets {
		c.forget(c.used.Back())
	}
}

// lifetime is how long an answer may be kept; 0: not at all.
func (c *Cache) lifetime(ans Answer, err error) time.Duration {
	if absent, ok := errors.AsType[*Absent](err); ok {
		if absent.TTL <= 0 {
			return 0 // RFC 2308 §5: no SOA, no caching
		}
		return min(max(absent.TTL, c.cfg.MinTTL), c.cfg.MaxAbsent)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return 0
	case errors.Is(err, ErrTemporary):
		return c.cfg.Failure
	case err != nil || len(ans.Records) == 0:
		return 0
	}
	ttl := c.cfg.MaxTTL
	for _, r := range ans.Records {
		ttl = min(ttl, r.TTL)
	}
	return max(ttl, c.cfg.MinTTL)
}

func (c *Cache) forget(el *list.Element) {
	e := c.used.Remove(el).(*entry)
	delete(c.entries, e.q)
	c.octets -= e.octets
}

// weight is about what an entry takes in memory, in octets.
func weight(q key, ans Answer) int {
	n := 400 + 2*len(q.name) + len(ans.Name)
	for _, r := range ans.Records {
		n += 160 + len(r.Host) + len(r.Text) + len(r.Data)
	}
	return n
}

// Len returns the number of answers in memory and about how many octets they take.
func (c *Cache) Len() (entries, octets int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used.Len(), c.octets
}
