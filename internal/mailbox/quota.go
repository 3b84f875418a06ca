package mailbox

import (
	"context"
	"fmt"
	"sync"

	"poczta.example/poczta/internal/envelope"
)

// reservations are the octets that accepted RCPTs of this process may bring.
type reservations struct {
	mu     sync.Mutex
	octets map[envelope.AccountID]int64
}

func newReservations() *reservations {
	return &reservations{octets: make(map[envelope.AccountID]int64)}
}

// take adds size if used, what is in flight and size fit the quota.
func (r *reservations) take(account envelope.AccountID, quota, used, size int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	flying := r.octets[account]
	if quota > 0 && (used+flying >= quota || size > quota-used-flying) {
		return false
	}
	r.octets[account] = flying + size
	return true
}

func (r *reservations) give(account envelope.AccountID, size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.octets[account] -= size; r.octets[account] <= 0 {
		delete(r.octets, account)
	}
}

// Reserve decides at RCPT whether a message of size octets (0 when not declared)
// fits the quota (0 for none), counting octets in flight in this process. It
// returns ErrOverQuota, or a release to be called once the transaction has
// ended; calling it twice is harmless. A mailbox that is full takes nothing,
// whatever the size; a message whose size was not declared may exceed the quota once.
func (s *Store) Reserve(ctx context.Context, account envelope.AccountID, quota, size int64) (release func(), err error) {
	size = max(size, 0)
	if quota <= 0 {
		return func() {}, nil
	}
	used, err := s.Usage(ctx, account)
	if err != nil {
		return nil, err
	}
	if counted := used.Counted(quota); !s.inflight.take(account, quota, counted, size) {
		return nil, fmt.Errorf("account %d has %d of %d octets: %w", account, counted, quota, ErrOverQuota)
	}
	var once sync.Once
	return func() { once.Do(func() { s.inflight.give(account, size) }) }, nil
}
