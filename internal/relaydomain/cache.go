package relaydomain

import (
	"hash/maphash"
	"sync"
	"time"
)

// answer is what was learned of a recipient.
type answer struct {
	outcome         outcome
	subject, detail uint16 // of the enhanced status, unless good
	at              time.Time

	// The following are not remembered.
	lasting bool  // a refusal that may be
	busy    bool  // unreachable because too much is being asked
	err     error // for the log
}

// cache remembers answers. Good ones and refusals have tables of their own, so that
// who tries many names can't push out what is known of those that exist. Each
// table has two generations: when the younger is full it becomes the older, and
// what the older held is forgotten, unless it was asked for since. Safe for
// concurrent use.
type cache struct {
	most int
	seed maphash.Seed
	once sync.Once

	mu     sync.Mutex
	tables [2]table // by outcome: good, unknown
}

type table struct{ young, old map[uint64]entry }

// entry is a remembered answer, in few octets.
type entry struct {
	at              int64 // µs since 1970
	subject, detail uint16
}

// key is what an address is remembered by. The seed is secret, so nobody can make
// two addresses meet.
func (c *cache) key(address string) uint64 {
	c.once.Do(func() { c.seed = maphash.MakeSeed() })
	return maphash.String(c.seed, address)
}

// get returns what is known, however old.
func (c *cache) get(key uint64) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for o := range c.tables {
		t := &c.tables[o]
		e, ok := t.young[key]
		if !ok {
			if e, ok = t.old[key]; ok {
				t.set(key, e, c.most)
			}
		}
		if ok {
			return answer{outcome: outcome(o), subject: e.subject, detail: e.detail, at: time.UnixMicro(e.at)}, true
		}
	}
	return answer{}, false
}

// put remembers a, whose outcome is good or unknown, in place of what was known.
func (c *cache) put(key uint64, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	other := &c.tables[unknown-a.outcome]
	delete(other.young, key)
	delete(other.old, key)
	c.tables[a.outcome].set(key, entry{a.at.UnixMicro(), a.subject, a.detail}, c.most)
}

// set puts e among the young.
func (t *table) set(key uint64, e entry, most int) {
	if _, there := t.young[key]; !there && 2*len(t.young) >= most || t.young == nil {
		t.young, t.old = map[uint64]entry{}, t.young
	}
	t.young[key] = e
}
