package account

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const cacheShards = 16

// cache holds answers read from the database under a generation: a write makes
// all of them stale at once. Reader and writer keep one rule: the generation is
// read before the database, and raised after the commit. A cache with max 0
// holds nothing. Safe for concurrent use.
type cache[K comparable, V any] struct {
	max        int // entries of one shard
	seed       maphash.Seed
	generation atomic.Uint64
	shards     [cacheShards]cacheShard[K, V]
}

type cacheShard[K comparable, V any] struct {
	mu      sync.RWMutex
	entries map[K]cacheEntry[V]
	_       [32]byte
}

type cacheEntry[V any] struct {
	generation uint64
	value      V
}

func newCache[K comparable, V any](entries int) *cache[K, V] {
	c := &cache[K, V]{seed: maphash.MakeSeed()}
	if entries > 0 {
		c.max = max(1, entries/cacheShards)
	}
	for i := range c.shards {
		c.shards[i].entries = make(map[K]cacheEntry[V])
	}
	return c
}

func (c *cache[K, V]) shard(key K) *cacheShard[K, V] {
	return &c.shards[maphash.Comparable(c.seed, key)%cacheShards]
}

// get returns the answer under the present generation.
func (c *cache[K, V]) get(key K) (value V, ok bool) {
	if c.max == 0 {
		return value, false
	}
	generation := c.generation.Load()
	s := c.shard(key)
	s.mu.RLock()
	e, ok := s.entries[key]
	s.mu.RUnlock()
	if !ok || e.generation != generation {
		return value, false
	}
	return e.value, true
}

// put keeps an answer read under generation. In a full shard it takes the place
// of stale entries, or of any.
func (c *cache[K, V]) put(key K, generation uint64, value V) {
	if c.max == 0 || generation != c.generation.Load() {
		return
	}
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, kept := s.entries[key]; !kept && len(s.entries) >= c.max {
		s.evict(generation)
	}
	s.entries[key] = cacheEntry[V]{generation, value}
}

// evict removes up to eight stale entries, or one that map order chooses.
func (s *cacheShard[K, V]) evict(generation uint64) {
	looked, freed := 0, false
	var any K
	for k, e := range s.entries {
		any = k
		if e.generation != generation {
			delete(s.entries, k)
			freed = true
		}
		if looked++; looked >= 8 {
			break
		}
	}
	if !freed {
		delete(s.entries, any)
	}
}

// bump makes every entry stale.
func (c *cache[K, V]) bump() { c.generation.Add(1) }
