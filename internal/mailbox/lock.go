package mailbox

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// locker gives RFC 1939's lock of a maildrop.
type locker interface {
	// acquire returns ErrInUse while another holder is in use.
	acquire(ctx context.Context, account envelope.AccountID) (lease, error)
}

// lease is a lock that is held as long as it is used.
type lease interface {
	// touch says that the holder lives; ErrInUse when another has taken the lock.
	touch(ctx context.Context) error
	// guard is touch inside of a transaction, which fails if the lock is lost.
	guard(tx db.Tx) error
	release(ctx context.Context)
}

// Lock takes RFC 1939's lock of an account's maildrop, or returns ErrInUse. A
// holder that did not use it for Config.LockIdle loses it to the next who asks,
// so that the session of a dead peer locks nobody out; what it does afterwards
// fails with ErrInUse.
func (s *Store) Lock(ctx context.Context, account envelope.AccountID) (release func(), err error) {
	l, err := s.locks.acquire(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("lock maildrop of account %d: %w", account, err)
	}
	return func() { l.release(ctx) }, nil
}

// memoryLocks are the locks of a process that is alone.
type memoryLocks struct {
	idle time.Duration
	now  func() time.Time

	mu   sync.Mutex
	held map[envelope.AccountID]*memoryLease
}

func newMemoryLocks(idle time.Duration, now func() time.Time) *memoryLocks {
	return &memoryLocks{idle: idle, now: now, held: make(map[envelope.AccountID]*memoryLease)}
}

type memoryLease struct {
	locks   *memoryLocks
	account envelope.AccountID
	used    time.Time // under locks.mu
}

func (m *memoryLocks) acquire(_ context.Context, account envelope.AccountID) (lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if l := m.held[account]; l != nil && now.Sub(l.used) < m.idle {
		return nil, ErrInUse
	}
	l := &memoryLease{locks: m, account: account, used: now}
	m.held[account] = l
	return l, nil
}

func (l *memoryLease) touch(context.Context) error { return l.renew() }

func (l *memoryLease) renew() error {
	l.locks.mu.Lock()
	defer l.locks.mu.Unlock()
	if l.locks.held[l.account] != l {
		return ErrInUse
	}
	l.used = l.locks.now()
	return nil
}

func (l *memoryLease) guard(db.Tx) error { return l.renew() }

func (l *memoryLease) release(context.Context) {
	l.locks.mu.Lock()
	defer l.locks.mu.Unlock()
	if l.locks.held[l.account] == l {
		delete(l.locks.held, l.account)
	}
}

// rowLocks are locks in the database, for several nodes. Their clocks must agree
// within a part of the idle time.
type rowLocks struct {
	db   db.Database
	idle time.Duration
	now  func() time.Time
	rand io.Reader
}

// rowLease is renewed when a third of the idle time has passed.
type rowLease struct {
	locks   *rowLocks
	account envelope.AccountID
	token   []byte
	renewed time.Time // used by the one session that holds it
}

func (r *rowLocks) acquire(ctx context.Context, account envelope.AccountID) (lease, error) {
	l := &rowLease{locks: r, account: account, token: make([]byte, 16), renewed: r.now()}
	if _, err := io.ReadFull(r.rand, l.token); err != nil {
		return nil, fmt.Errorf("read randomness for a lock: %w", err)
	}
	err := r.db.Update(ctx, func(tx db.Tx) error {
		n, err := tx.Exec(`INSERT INTO maildrop_lock (account, token, expires) VALUES (?, ?, ?) ON CONFLICT (account) DO UPDATE SET token = excluded.token, expires = excluded.expires WHERE maildrop_lock.expires <= ?`,
			int64(account), l.token, db.Micros(l.renewed.Add(r.idle)), db.Micros(l.renewed))
		if err == nil && n == 0 {
			err = ErrInUse
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (l *rowLease) touch(ctx context.Context) error {
	if l.locks.now().Sub(l.renewed) < l.locks.idle/3 {
		return nil
	}
	return l.locks.db.Update(ctx, l.guard)
}

func (l *rowLease) guard(tx db.Tx) error {
	now := l.locks.now()
	n, err := tx.Exec(`UPDATE maildrop_lock SET expires = ? WHERE account = ? AND token = ?`,
		db.Micros(now.Add(l.locks.idle)), int64(l.account), l.token)
	if err == nil && n == 0 {
		return ErrInUse
	}
	if err == nil {
		l.renewed = now
	}
	return err
}

// releaseTimeout bounds how long a session's end waits for the database; a lock
// that could not be released falls by itself.
const releaseTimeout = 5 * time.Second

func (l *rowLease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_ = l.locks.db.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`DELETE FROM maildrop_lock WHERE account = ? AND token = ?`, int64(l.account), l.token)
		return err
	})
}
