package limit

import (
	"sync"
	"time"
)

// Buckets is a table of token buckets by key. A bucket is kept as one moment:
// when it will be full again; a key whose bucket is full is not kept at all.
//
// When MaxKeys buckets are in use the one among a few that is nearest to full
// makes room: under a flood of keys limits become laxer for some, memory never
// grows. Safe for concurrent use.
type Buckets[K comparable] struct {
	rate   Rate
	perMax int
	hash   hasher[K]
	shards [shardCount]bucketShard[K]
}

type bucketShard[K comparable] struct {
	mu   sync.Mutex
	full map[K]int64 // nanoseconds since 1970 at which the bucket is full
	_    [40]byte    // keeps neighbours' locks off one cache line
}

// NewBuckets makes a table for rate with at most maxKeys keys (0:
// DefaultMaxKeys). The zero Rate makes a table that allows everything.
func NewBuckets[K comparable](rate Rate, maxKeys int) (*Buckets[K], error) {
	if err := rate.Validate(); err != nil {
		return nil, err
	}
	b := &Buckets[K]{rate: rate, perMax: perShard(maxKeys), hash: newHasher[K]()}
	for i := range b.shards {
		b.shards[i].full = make(map[K]int64)
	}
	return b, nil
}

func perShard(maxKeys int) int {
	if maxKeys <= 0 {
		maxKeys = DefaultMaxKeys
	}
	return max(1, maxKeys/shardCount)
}

// Allow takes a token of key's bucket and reports whether there was one.
func (b *Buckets[K]) Allow(key K, now time.Time) bool { return b.AllowN(key, 1, now) }

// AllowN takes n tokens, all or none. It refuses n above the burst and takes
// nothing for n below one.
func (b *Buckets[K]) AllowN(key K, n int, now time.Time) bool {
	if b.rate.IsZero() || n <= 0 {
		return true
	}
	if n > b.rate.Burst {
		return false
	}
	t := now.UnixNano()
	s := &b.shards[b.hash.shard(key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	full, kept := s.full[key]
	full = max(full, t) + int64(n)*int64(b.rate.Every)
	if full > t+int64(b.rate.Burst)*int64(b.rate.Every) {
		return false
	}
	if !kept && len(s.full) >= b.perMax {
		s.evict(t)
	}
	s.full[key] = full
	return true
}

// Peek reports whether Allow would succeed, taking nothing.
func (b *Buckets[K]) Peek(key K, now time.Time) bool { return b.Wait(key, now) == 0 }

// Wait returns how long key must wait for its next token; zero is now.
func (b *Buckets[K]) Wait(key K, now time.Time) time.Duration {
	if b.rate.IsZero() {
		return 0
	}
	t := now.UnixNano()
	s := &b.shards[b.hash.shard(key)]
	s.mu.Lock()
	full := max(s.full[key], t)
	s.mu.Unlock()
	return time.Duration(max(0, full-t-int64(b.rate.Burst-1)*int64(b.rate.Every)))
}

// Refund gives a token back, as for an attempt that turned out well.
func (b *Buckets[K]) Refund(key K, now time.Time) {
	if b.rate.IsZero() {
		return
	}
	s := &b.shards[b.hash.shard(key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	full, kept := s.full[key]
	if !kept {
		return
	}
	if full -= int64(b.rate.Every); full > now.UnixNano() {
		s.full[key] = full
	} else {
		delete(s.full, key)
	}
}

// Len returns how many keys are held; for metrics.
func (b *Buckets[K]) Len() int {
	n := 0
	for i := range b.shards {
		b.shards[i].mu.Lock()
		n += len(b.shards[i].full)
		b.shards[i].mu.Unlock()
	}
	return n
}

// evictLook is how many keys eviction looks at: full buckets among them go, and
// if there was none, the one that is full first.
const evictLook = 8

func (s *bucketShard[K]) evict(now int64) {
	var first K
	firstFull, looked, freed := int64(0), 0, false
	for k, full := range s.full {
		if full <= now {
			delete(s.full, k)
			freed = true
		} else if looked == 0 || (!freed && full < firstFull) {
			first, firstFull = k, full
		}
		if looked++; looked >= evictLook {
			break
		}
	}
	if !freed {
		delete(s.full, first)
	}
}
