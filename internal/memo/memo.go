// Package memo keeps answers in memory for a while, in bounded number. It does no input or
// output and reads no clock: callers pass the time.
package memo

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	shardCount = 16 // locks the table is spread over
	evictLook  = 8  // entries that making room looks at
)

// Memo is a table of answers that each hold for a time. When it is full, entries whose time is
// over make room, or any one. Safe for concurrent use.
type Memo[K comparable, V any] struct {
	keep   time.Duration
	perMax int
	seed   maphash.Seed
	shards [shardCount]shard[K, V]
}

type shard[K comparable, V any] struct {
	mu      sync.RWMutex
	entries map[K]entry[V]
	_       [32]byte // keeps neighbours' locks off one cache line
}

type entry[V any] struct {
	until int64 // nanoseconds since 1970
	value V
}

// New makes a table of some max entries (at least one a shard), each of which holds for keep.
func New[K comparable, V any](max int, keep time.Duration) *Memo[K, V] {
	m := &Memo[K, V]{keep: keep, perMax: (max + shardCount - 1) / shardCount, seed: maphash.MakeSeed()}
	if m.perMax < 1 {
		m.perMax = 1
	}
	for i := range m.shards {
		m.shards[i].entries = make(map[K]entry[V])
	}
	return m
}

func (m *Memo[K, V]) shard(key K) *shard[K, V] {
	return &m.shards[maphash.Comparable(m.seed, key)%shardCount]
}

// Get returns the answer for key. fresh is false when its time is over or there is none; then
// value is what was last put, or zero.
func (m *Memo[K, V]) Get(key K, now time.Time) (value V, fresh bool) {
	s := m.shard(key)
	s.mu.RLock()
	e, ok := s.entries[key]
	s.mu.RUnlock()
	return e.value, ok && now.UnixNano() < e.until
}

// Put keeps an answer, or keeps it anew.
func (m *Memo[K, V]) Put(key K, value V, now time.Time) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, kept := s.entries[key]; !kept && len(s.entries) >= m.perMax {
		s.evict(now.UnixNano())
	}
	s.entries[key] = entry[V]{now.Add(m.keep).UnixNano(), value}
}

// Forget drops the answer for key.
func (m *Memo[K, V]) Forget(key K) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, key)
}

// ForgetAll drops every answer that match names.
func (m *Memo[K, V]) ForgetAll(match func(K) bool) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		for k := range s.entries {
			if match(k) {
				delete(s.entries, k)
			}
		}
		s.mu.Unlock()
	}
}

// Len returns how many answers are held; for metrics.
func (m *Memo[K, V]) Len() (n int) {
	for i := range m.shards {
		m.shards[i].mu.RLock()
		n += len(m.shards[i].entries)
		m.shards[i].mu.RUnlock()
	}
	return n
}

func (s *shard[K, V]) evict(now int64) {
	looked, freed := 0, false
	var any K
	for k, e := range s.entries {
		any = k
		if e.until <= now {
			delete(s.entries, k)
			freed = true
		}
		if looked++; looked >= evictLook {
			break
		}
	}
	if !freed {
		delete(s.entries, any)
	}
}
