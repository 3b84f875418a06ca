package db_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
)

// together makes the functions share a batch: the first holds the writer until
// the others wait, in the order given. It returns what each Update returned.
func together(t *testing.T, d *db.SQLite, fns ...func(db.Tx) error) []error {
	t.Helper()
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	wg.Go(func() {
		d.Update(context.Background(), func(tx db.Tx) error {
			once.Do(func() {
				close(begun)
				<-release
			})
			return nil
		})
	})
	<-begun
	errs := make([]error, len(fns))
	for i, fn := range fns {
		before := d.Waiting()
		wg.Go(func() {
			errs[i] = errors.New("the goroutine ended inside Update")
			defer func() {
				if p := recover(); p != nil {
					errs[i] = fmt.Errorf("panic: %v", p)
				}
			}()
			errs[i] = d.Update(context.Background(), fn)
		})
		for d.Waiting() == before {
			runtime.Gosched()
		}
	}
	close(release)
	wg.Wait()
	return errs
}

// insert is a function that adds one row.
func insert(id int) func(db.Tx) error {
	return func(tx db.Tx) error {
		_, err := tx.Exec("INSERT INTO t (id) VALUES (?)", id)
		return err
	}
}

// maxBatchTime is how long a batch takes more callers in.
const maxBatchTime = 5 * time.Millisecond

// openTable is a database with the table t, and a count of its batches that ended before their
// time: nobody waited any more.
func openTable(t *testing.T) (*db.SQLite, *atomic.Int64) {
	t.Helper()
	batches := new(atomic.Int64)
	d := openSQLite(t, db.SQLiteConfig{Hooks: db.SQLiteHooks{Batch: func(_ int, run, _ time.Duration) {
		if run < maxBatchTime {
			batches.Add(1)
		}
	}}})
	exec(t, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB) STRICT")
	batches.Store(0)
	return d, batches
}

// wantRows fails the test unless the table holds n rows.
func wantRows(t *testing.T, d db.Database, n int64) {
	t.Helper()
	if got := number(t, d, "SELECT COUNT(*) FROM t"); got != n {
		t.Errorf("got %d rows, want %d", got, n)
	}
}

func TestCallersShareABatch(t *testing.T) {
	t.Parallel()
	d, batches := openTable(t)
	var fns []func(db.Tx) error
	for i := range 100 {
		fns = append(fns, insert(i))
	}
	for i, err := range together(t, d, fns...) {
		if err != nil {
			t.Errorf("caller %d: %v", i, err)
		}
	}
	wantRows(t, d, 100)
	if n := batches.Load(); n > 3 { // the table's own may be counted late
		t.Errorf("%d transactions ended before their time though 100 callers waited", n)
	}
}

func TestConflictStaysItsCallersOwn(t *testing.T) {
	t.Parallel()
	d, _ := openTable(t)
	mine := errors.New("mine")
	errs := together(t, d, insert(1), insert(1), insert(2),
		func(tx db.Tx) error { return errors.Join(insert(3)(tx), mine) }, insert(3))
	for i, want := range []error{nil, db.ErrConflict, nil, mine, nil} {
		if !errors.Is(errs[i], want) {
			t.Errorf("caller %d: got %v, want %v", i, errs[i], want)
		}
	}
	wantRows(t, d, 3)
}

func TestPanicStaysItsCallersOwn(t *testing.T) {
	t.Parallel()
	d, _ := openTable(t)
	errs := together(t, d, insert(1), func(tx db.Tx) error {
		insert(2)(tx)
		panic("mine")
	}, insert(3), func(tx db.Tx) error {
		insert(4)(tx)
		runtime.Goexit()
		return nil
	}, insert(5))
	for i, want := range []string{"<nil>", "panic: mine", "<nil>", "the goroutine ended inside Update", "<nil>"} {
		if got := fmt.Sprint(errs[i]); got != want {
			t.Errorf("caller %d: got %s, want %s", i, got, want)
		}
	}
	wantRows(t, d, 3)
	if n := number(t, d, "SELECT SUM(id) FROM t"); n != 9 {
		t.Errorf("got ids with the sum %d, want 1, 3 and 5", n)
	}
}

func TestFunctionThatEndsTheTransaction(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"ROLLBACK", "COMMIT", "  begin", "-- a\nRELEASE s", "/* b */ END;", "savepoint x"} {
		d, _ := openTable(t)
		errs := together(t, d, insert(1), func(tx db.Tx) error {
			if _, err := tx.Exec(how); err != nil {
				return err
			}
			return insert(2)(tx)
		}, insert(3))
		if errs[0] != nil || errs[1] == nil || errs[2] != nil {
			t.Errorf("%q in a function: got %v, want an error for its caller alone", how, errs)
		}
		wantRows(t, d, 2)
	}
}

func TestCancelledCallerLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	d, _ := openTable(t)
	ctx, cancel := context.WithCancel(context.Background())
	begun, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	var first, second, third error
	wg.Go(func() {
		first = d.Update(ctx, func(tx db.Tx) error { // runs while it is cancelled
			close(begun)
			<-release
			return insert(1)(tx)
		})
	})
	<-begun
	waiting := func(n int) {
		for d.Waiting() < n {
			runtime.Gosched()
		}
	}
	wg.Go(func() { second = d.Update(ctx, insert(2)) }) // waits while it is cancelled
	waiting(1)
	wg.Go(func() { third = d.Update(context.Background(), insert(3)) })
	waiting(2)
	cancel()
	if err := d.Update(ctx, insert(4)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: got %v", err)
	}
	close(release)
	wg.Wait()
	if first != nil || third != nil {
		t.Errorf("got %v and %v, want both done", first, third)
	}
	if second != nil && !errors.Is(second, context.Canceled) {
		t.Errorf("cancelled while waiting: got %v", second)
	}
	want := int64(2)
	if second == nil {
		want = 3 // it ran before its caller saw the end of the context
	}
	wantRows(t, d, want)
}

func TestLowLaneYields(t *testing.T) {
	t.Parallel()
	d, _ := openTable(t)
	var order []string // written by the engine's goroutine alone
	note := func(name string) func(db.Tx) error {
		return func(db.Tx) error {
			order = append(order, name)
			return nil
		}
	}
	begun, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		d.Update(context.Background(), func(db.Tx) error {
			close(begun)
			<-release
			return nil
		})
	})
	<-begun
	for range 5 {
		wg.Go(func() { d.UpdateLow(context.Background(), note("low")) })
	}
	for i := range 20 {
		wg.Go(func() { d.Update(context.Background(), note("high")) })
		for d.Waiting() <= i {
			runtime.Gosched()
		}
	}
	close(release)
	wg.Wait()
	for i, name := range order {
		if want := map[bool]string{true: "high", false: "low"}[i < 20]; name != want {
			t.Fatalf("order %v: want every Update before any UpdateLow", order)
		}
	}
}

func TestCloseAnswersWaitingCallers(t *testing.T) {
	t.Parallel()
	d, _ := openTable(t)
	begun, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	var running error
	wg.Go(func() {
		running = d.Update(context.Background(), func(tx db.Tx) error {
			close(begun)
			<-release
			return insert(1)(tx)
		})
	})
	<-begun
	wg.Go(func() { d.Close() })
	close(release)
	wg.Wait()
	if running != nil {
		t.Errorf("the caller at work got %v", running)
	}
	if err := d.Update(context.Background(), insert(2)); !errors.Is(err, db.ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}
}
