package dbtest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"poczta.example/poczta/internal/db"
)

// Meanwhile is a database on which something happens in the midst of a transaction that writes.
type Meanwhile struct {
	db.Database
	mu    sync.Mutex
	begin string
	do    func()
}

// Arm has do happen once, in front of the first statement that begins so.
func (m *Meanwhile) Arm(begin string, do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin, m.do = begin, do
}

// Update implements db.Database.
func (m *Meanwhile) Update(ctx context.Context, fn func(db.Tx) error) error {
	return m.Database.Update(ctx, func(tx db.Tx) error { return fn(meanwhileTx{tx, m}) })
}

// UpdateLow implements db.Database.
func (m *Meanwhile) UpdateLow(ctx context.Context, fn func(db.Tx) error) error {
	return m.Database.UpdateLow(ctx, func(tx db.Tx) error { return fn(meanwhileTx{tx, m}) })
}

func (m *Meanwhile) look(query string) {
	m.mu.Lock()
	do := m.do
	if do != nil && strings.HasPrefix(query, m.begin) {
		m.do = nil
	} else {
		do = nil
	}
	m.mu.Unlock()
	if do != nil {
		do()
	}
}

// meanwhileTx looks at each statement.
type meanwhileTx struct {
	db.Tx
	m *Meanwhile
}

func (t meanwhileTx) Exec(query string, args ...any) (int64, error) {
	t.m.look(query)
	return t.Tx.Exec(query, args...)
}

func (t meanwhileTx) Query(query string, args ...any) (db.Rows, error) {
	t.m.look(query)
	return t.Tx.Query(query, args...)
}

func (t meanwhileTx) QueryRow(query string, args ...any) db.Row {
	t.m.look(query)
	return t.Tx.QueryRow(query, args...)
}

// Begin starts do on a PostgreSQL, and waits until it has ended or waits for a lock. The function that
// is returned waits for its end.
func Begin(t testing.TB, d db.Database, do func() error) (wait func()) {
	t.Helper()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = do()
	}()
	for stands := false; !stands; {
		select {
		case <-done:
			stands = true
		default:
			var n int64
			if err := d.View(context.Background(), func(tx db.Tx) error {
				return tx.QueryRow(`SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n)
			}); err != nil {
				t.Fatal(err)
			}
			stands = n > 0
		}
	}
	return func() {
		t.Helper()
		if <-done; err != nil {
			t.Error(err)
		}
	}
}
