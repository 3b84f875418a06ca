package relay

import (
	"context"
	"sync"
)

// quota bounds something shared. Safe for concurrent use.
type quota struct {
	mu      sync.Mutex
	free    int
	waiting int
	freed   chan struct{} // closed and replaced when something is given back
}

func newQuota(n int) *quota { return &quota{free: n, freed: make(chan struct{})} }

// take takes at least one and at most want, waiting until there is one; zero when
// ctx has ended.
func (q *quota) take(ctx context.Context, want int) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.free == 0 {
		freed := q.freed
		q.waiting++
		q.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-freed:
		}
		q.mu.Lock()
		q.waiting--
		if ctx.Err() != nil {
			return 0
		}
	}
	n := min(want, q.free)
	q.free -= n
	return n
}

// try takes one if one is free and nobody waits.
func (q *quota) try() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free == 0 || q.waiting > 0 {
		return false
	}
	q.free--
	return true
}

// give gives n back.
func (q *quota) give(n int) {
	if n == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free += n
	if q.waiting > 0 {
		close(q.freed)
		q.freed = make(chan struct{})
	}
}

// contended reports whether somebody waits.
func (q *quota) contended() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting > 0
}

// siteNames bounds the names of sites in metrics.
type siteNames struct {
	mu   sync.Mutex
	most int
	seen map[string]bool
}

// of returns name while there is room for it, else "other".
func (s *siteNames) of(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[name] {
		return name
	}
	if len(s.seen) >= s.most {
		return "other"
	}
	if s.seen == nil {
		s.seen = make(map[string]bool)
	}
	s.seen[name] = true
	return name
}
