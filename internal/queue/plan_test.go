package queue_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
)

// spy notes the statements that pass.
type spy struct {
	db.Database

	mu   sync.Mutex
	seen map[string]int // statement → parameters
	runs int            // of statements that write

	before func(query string) // when not nil
}

func (s *spy) note(query string, args []any) {
	if s.before != nil {
		s.before(query)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[query] = len(args)
	if !strings.HasPrefix(query, "SELECT") {
		s.runs++
	}
}

func (s *spy) Update(ctx context.Context, fn func(db.Tx) error) error {
	return s.Database.Update(ctx, func(tx db.Tx) error { return fn(&spyTx{tx, s}) })
}

func (s *spy) UpdateLow(ctx context.Context, fn func(db.Tx) error) error {
	return s.Database.UpdateLow(ctx, func(tx db.Tx) error { return fn(&spyTx{tx, s}) })
}

func (s *spy) View(ctx context.Context, fn func(db.Tx) error) error {
	return s.Database.View(ctx, func(tx db.Tx) error { return fn(&spyTx{tx, s}) })
}

type spyTx struct {
	db.Tx
	s *spy
}

func (t *spyTx) Exec(query string, args ...any) (int64, error) {
	t.s.note(query, args)
	return t.Tx.Exec(query, args...)
}

func (t *spyTx) QueryRow(query string, args ...any) db.Row {
	t.s.note(query, args)
	return t.Tx.QueryRow(query, args...)
}

func (t *spyTx) Query(query string, args ...any) (db.Rows, error) {
	t.s.note(query, args)
	return t.Tx.Query(query, args...)
}

// spied opens a house on SQLite whose statements are noted.
func spied(t testing.TB) (*posttest.House, *spy) {
	t.Helper()
	d := dbtest.SQLite(t)
	if err := db.Migrate(context.Background(), d, posttest.Components()); err != nil {
		t.Fatal(err)
	}
	s := &spy{seen: make(map[string]int)}
	return posttest.Open(t, d, posttest.Options{DB: func(d db.Database) db.Database {
		s.Database = d
		return s
	}}), s
}

// TestStatementsUseIndexes asks SQLite how it runs every statement of a relay's life: none may walk
// through the large tables, nor sort what it finds there.
func TestStatementsUseIndexes(t *testing.T) {
	t.Parallel()
	h, s := spied(t)
	accept(t, h, "a@a.example", "b@b.example", "c@c.example")
	n := join(t, h, "one")
	if err := n.Upkeep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range claim(t, n, 10) {
		jobs := take(t, n, c, 1)
		o := queue.Deferred
		switch c.Destination {
		case "a.example":
			o = queue.Relayed
		case "b.example":
			n.Return(jobs...)
			if err := n.HostDown(t.Context(), c, h.Clock.Now().Add(time.Minute), "down"); err != nil {
				t.Fatal(err)
			}
			h.Clock.Advance(6 * 24 * time.Hour)
			var err error
			if jobs, err = n.Expired(t.Context(), c, 10); err != nil || len(jobs) != 1 {
				t.Fatalf("%v, %v", jobs, err)
			}
			o = queue.Returned
		}
		settle(t, n, results(h, o, jobs...))
		if err := n.HostUp(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		release(t, n, c)
	}
	jobs, err := n.Overdue(t.Context(), h.Clock.Now().Add(-time.Hour), 10)
	if err != nil || len(jobs) != 1 {
		t.Fatalf("overdue %v, %v", jobs, err)
	}
	settle(t, n, results(h, queue.Warned, jobs...))
	if err := h.Queue.Suspend(t.Context(), "c.example", ""); err != nil {
		t.Fatal(err)
	}
	claim(t, n, 10)
	if err := n.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, query := range slices.Sorted(maps.Keys(s.seen)) {
		if strings.HasPrefix(query, "INSERT") || strings.HasPrefix(query, "SELECT COUNT") || !strings.Contains(query, "queued_") && !strings.Contains(query, "destination") {
			continue
		}
		plan := explain(t, h, query, s.seen[query])
		for _, line := range plan {
			walks := strings.HasPrefix(line, "SCAN") && !strings.Contains(line, "CONSTANT") && !idleScan(query, line)
			if walks || strings.Contains(line, "TEMP B-TREE") {
				t.Errorf("%s\n\tis run as: %s", query, strings.Join(plan, "; "))
				break
			}
		}
	}
}

// idleScan reports a walk that is meant: by the primary key, a page at a time, of the small table of hosts.
func idleScan(query, _ string) bool {
	return strings.Contains(query, "FROM destination WHERE name > ?")
}

// explain returns how SQLite runs a statement.
func explain(t *testing.T, h *posttest.House, query string, params int) (plan []string) {
	t.Helper()
	args := make([]any, params)
	for i := range args {
		args[i] = int64(1)
	}
	err := h.DB.View(t.Context(), func(tx db.Tx) error {
		plan = nil
		rows, err := tx.Query("EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused int64
			var line string
			if err := rows.Scan(&id, &parent, &unused, &line); err != nil {
				return err
			}
			plan = append(plan, line)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return plan
}

// TestWritesOfARecipient counts the statements that write for a recipient delivered at the first attempt,
// alone in its message: its row, its fate, the message and the reference to the body.
func TestWritesOfARecipient(t *testing.T) {
	t.Parallel()
	h, s := spied(t)
	const messages = 50
	for range messages {
		accept(t, h, "a@a.example")
	}
	n := join(t, h, "one")
	s.runs = 0
	work(t, h, n, queue.Relayed)
	// Claim announces, leases; Release writes twice.
	if got, want := s.runs, 4*messages+4; got != want {
		t.Errorf("%d statements for %d recipients, want %d", got, messages, want)
	}
}

// TestTakeDuringSettle settles a recipient while a Take reads that began before: the Take
// sees the row as it was and must not give it out.
func TestTakeDuringSettle(t *testing.T) {
	t.Parallel()
	h, s := spied(t)
	accept(t, h, "a@a.example")
	n := join(t, h, "one")
	c := claim(t, n, 1)[0]
	jobs := take(t, n, c, 10)
	once := false
	s.before = func(query string) {
		if !once && strings.HasPrefix(query, "SELECT next_due") { // the snapshot stands, the rows are not read
			once = true
			settle(t, n, results(h, queue.Relayed, jobs...))
		}
	}
	if got := words(take(t, n, c, 10)); !once || got != "" {
		t.Errorf("taken %q, settled meanwhile: %v", got, once)
	}
}
