package limit

import "sync"

// Gauge counts what is going on at once by key: connections of an address,
// transfers of an account. Only keys in use are held, so its memory is bounded
// by what it counts; MaxKeys bounds it once more. Safe for concurrent use.
type Gauge[K comparable] struct {
	limit  int
	perMax int
	hash   hasher[K]
	shards [shardCount]gaugeShard[K]
}

type gaugeShard[K comparable] struct {
	mu    sync.Mutex
	count map[K]int
	_     [40]byte
}

// NewGauge makes a gauge that admits limit at once for each key (0: no limit)
// and knows at most maxKeys keys (0: DefaultMaxKeys); a key beyond them is
// refused.
func NewGauge[K comparable](limit, maxKeys int) *Gauge[K] {
	g := &Gauge[K]{limit: limit, perMax: perShard(maxKeys), hash: newHasher[K]()}
	for i := range g.shards {
		g.shards[i].count = make(map[K]int)
	}
	return g
}

// Acquire counts one more of key and reports whether it was admitted. Each
// admitted one is given back by one Release.
func (g *Gauge[K]) Acquire(key K) bool {
	s := &g.shards[g.hash.shard(key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	n, kept := s.count[key]
	if g.limit > 0 && n >= g.limit || !kept && len(s.count) >= g.perMax {
		return false
	}
	s.count[key] = n + 1
	return true
}

// Release gives one of key back. It panics when none was acquired: the caller's
// accounts are broken.
func (g *Gauge[K]) Release(key K) {
	s := &g.shards[g.hash.shard(key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	switch n := s.count[key]; {
	case n > 1:
		s.count[key] = n - 1
	case n == 1:
		delete(s.count, key)
	default:
		panic("limit: Release without Acquire")
	}
}

// Count returns how many of key are going on.
func (g *Gauge[K]) Count(key K) int {
	s := &g.shards[g.hash.shard(key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[key]
}
