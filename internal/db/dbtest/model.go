package dbtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"poczta.example/poczta/internal/db"
)

// account is one row of the model: names of one goroutine belong to it alone, so
// that it knows what every operation must do, while all share one counter.
type account struct {
	size int64
	data string
}

// errModel is returned by functions that are to be rolled back.
var errModel = errors.New("rolled back on purpose")

// testModel runs random operations in several goroutines and compares what each
// says, and what is there at the end, with a model in memory.
func testModel(t *testing.T, d db.Database) {
	const workers, steps = 8, 120
	update(t, d, "INSERT INTO parent (name, size) VALUES ('total', 0)")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	models := make([]map[string]account, workers)
	committed := make([]int64, workers)
	var wg sync.WaitGroup
	for w := range workers {
		models[w] = make(map[string]account)
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for range steps {
				added, err := operation(d, r, w, models[w])
				if err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
				committed[w] += added
			}
		})
	}
	wg.Wait()
	rows, total := 0, int64(0)
	for w, m := range models {
		total += committed[w]
		rows += len(m)
		for name, want := range m {
			var got account
			err := read(d, []any{&got.size, &got.data}, "SELECT size, data FROM parent WHERE name = ?", name)
			if err != nil || got != want {
				t.Errorf("row %s: got %v, %v; want %v", name, got, err, want)
			}
		}
	}
	if n := count(t, d, "SELECT COUNT(*) FROM parent WHERE name <> 'total'"); n != int64(rows) {
		t.Errorf("got %d rows, want %d", n, rows)
	}
	if n := count(t, d, "SELECT size FROM parent WHERE name = 'total'"); n != total {
		t.Errorf("got a total of %d, want %d", n, total)
	}
}

// operation does one thing and returns what it added to the common counter.
func operation(d db.Database, r *rand.Rand, w int, m map[string]account) (int64, error) {
	name := fmt.Sprintf("w%d-%d", w, r.IntN(10))
	next := account{size: r.Int64N(1000), data: fmt.Sprint(r.Uint64())}
	_, there := m[name]
	ctx := context.Background()
	var fn func(db.Tx) error
	var want error
	add := next.size
	var after func()
	switch choice := r.IntN(10); {
	case choice < 5:
		fn = func(tx db.Tx) error { return insertAndAdd(tx, name, next) }
		if there {
			want = db.ErrConflict
		}
		after = func() { m[name] = next }
	case choice < 7:
		fn = func(tx db.Tx) error { return removeAndAdd(tx, name, there, add) }
		after = func() { delete(m, name) }
	case choice < 8:
		want = errModel
		fn = func(tx db.Tx) error { return errors.Join(replaceAndAdd(tx, name, next), errModel) }
	default:
		fn = func(tx db.Tx) error { return replaceAndAdd(tx, name, next) }
		after = func() { m[name] = next }
	}
	do := d.Update
	if r.IntN(4) == 0 {
		do = d.UpdateLow
	}
	if err := do(ctx, fn); !errors.Is(err, want) {
		return 0, fmt.Errorf("%s: got %w, want %w", name, err, want)
	}
	if want != nil {
		return 0, nil
	}
	after()
	return add, nil
}

func addTotal(tx db.Tx, n int64) error {
	_, err := tx.Exec("UPDATE parent SET size = size + ? WHERE name = 'total'", n)
	return err
}

func insertAndAdd(tx db.Tx, name string, a account) error {
	if err := addTotal(tx, a.size); err != nil {
		return err
	}
	_, err := tx.Exec("INSERT INTO parent (name, size, data) VALUES (?, ?, ?)", name, a.size, []byte(a.data))
	return err
}

func removeAndAdd(tx db.Tx, name string, there bool, add int64) error {
	n, err := tx.Exec("DELETE FROM parent WHERE name = ?", name)
	if err != nil {
		return err
	}
	if (n == 1) != there {
		return fmt.Errorf("deleted %d rows, one was there: %v", n, there)
	}
	return addTotal(tx, add)
}

func replaceAndAdd(tx db.Tx, name string, a account) error {
	_, err := tx.Exec("INSERT INTO parent (name, size, data) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET size = excluded.size, data = excluded.data",
		name, a.size, []byte(a.data))
	if err != nil {
		return err
	}
	return addTotal(tx, a.size)
}
