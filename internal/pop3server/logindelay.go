package pop3server

import (
	"sync"
	"time"

	"poczta.example/poczta/internal/envelope"
)

// loginTimes enforces LOGIN-DELAY (RFC 2449 §6.5). It remembers only logins
// younger than delay, so its size is bounded by the logins of one delay.
type loginTimes struct {
	delay time.Duration

	mu    sync.Mutex
	last  map[envelope.AccountID]time.Time
	sweep int // size at which old entries are dropped
}

// early reports whether a login of account now comes too soon.
func (t *loginTimes) early(account envelope.AccountID, now time.Time) bool {
	if t.delay <= 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	last, ok := t.last[account]
	return ok && now.Sub(last) < t.delay
}

// note records a login.
func (t *loginTimes) note(account envelope.AccountID, now time.Time) {
	if t.delay <= 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = make(map[envelope.AccountID]time.Time)
		t.sweep = 1024
	}
	if len(t.last) >= t.sweep {
		for a, last := range t.last {
			if now.Sub(last) >= t.delay {
				delete(t.last, a)
			}
		}
		t.sweep = max(1024, 2*len(t.last))
	}
	t.last[account] = now
}
