package power_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/post/posttest"
)

// faulty is a run of the script during which one thing fails.
type faulty struct {
	runner
	errs []error // of the steps that failed
}

// runFaulty runs the script to its end: a step that failed must have changed
// nothing, and those after it work without a restart.
func runFaulty(t *testing.T, fsys disk.FS, wrap func(db.Database) db.Database) *faulty {
	t.Helper()
	d, _ := openDB(t)
	f := &faulty{}
	f.runner = *newRunner(t, fsys, wrap(d))
	f.failed = func(what string, err error) error {
		f.errs = append(f.errs, fmt.Errorf("%s: %w", what, err))
		if what == "open" { // the service manager starts the server again
			return f.open()
		}
		return nil
	}
	if err := f.script(); err != nil {
		t.Fatal(err)
	}
	// The next start finds what was acknowledged, and nothing else.
	h, s, err := openHouse(t, fsys, d, f.clock)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := look(context.Background(), h)
	if err != nil {
		t.Fatal(err)
	}
	if diff := f.now.differs(got); diff != "" {
		t.Errorf("after %v: %s", f.errs, diff)
	}
	if err := whole(context.Background(), s); err != nil {
		t.Errorf("after %v: %v", f.errs, err)
	}
	return f
}

func same(d db.Database) db.Database { return d }

// eachCall runs the script with each call of a kind failing, or in short tests some,
// and has check look at how Accept failed.
func eachCall(t *testing.T, kind disk.Op, cause error, check func(error) bool) {
	t.Helper()
	stride, refused := 1, 0
	if testing.Short() {
		stride = 9
	}
	for k := 1; ; k += stride {
		fsys := disk.NewFault(uint64(k))
		calls := 0
		counted := &watchedFS{Fault: fsys, before: func(what string) {
			if what == kind.String() {
				calls++
			}
		}}
		fsys.FailAt(kind, k, cause)
		f := runFaulty(t, counted, same)
		for _, err := range f.errs {
			if !strings.HasPrefix(err.Error(), "accept") {
				continue
			}
			if refused++; !check(err) {
				t.Errorf("call %d of %s fails: %v", k, kind, err)
			}
		}
		if calls < k {
			if k < 20 || refused < 15/stride {
				t.Errorf("the script makes %d calls of %s and %d Accepts failed", k-1, kind, refused)
			}
			return
		}
		if t.Failed() {
			t.Fatalf("with call %d of %s failing", k, kind)
		}
	}
}

// TestDiskFullAtEveryWrite has each write to the segments fail for want of space:
// Accept answers ErrFull (452 4.3.1), nothing is half stored, and what comes next works.
func TestDiskFullAtEveryWrite(t *testing.T) {
	t.Parallel()
	eachCall(t, disk.OpWrite, syscall.ENOSPC, func(err error) bool { return errors.Is(err, post.ErrFull) })
}

// TestFailedSyncAtEveryCall has each fsync of the segments fail: Accept answers a
// temporary error, the file is never used again, and what comes next works.
func TestFailedSyncAtEveryCall(t *testing.T) {
	t.Parallel()
	eachCall(t, disk.OpSync, syscall.EIO, func(err error) bool { return errors.Is(err, body.ErrFailed) && !errors.Is(err, post.ErrFull) })
}

// fullDB has one commit find no space.
type fullDB struct {
	db.Database
	at, n int
}

func (f *fullDB) run(update func(context.Context, func(db.Tx) error) error, ctx context.Context, fn func(db.Tx) error) error {
	f.n++
	if f.n == f.at {
		// All is done and rolled back, as by a commit that finds no space.
		return update(ctx, func(tx db.Tx) error { return errors.Join(fn(tx), db.ErrFull) })
	}
	return update(ctx, fn)
}

func (f *fullDB) Update(ctx context.Context, fn func(db.Tx) error) error {
	return f.run(f.Database.Update, ctx, fn)
}

func (f *fullDB) UpdateLow(ctx context.Context, fn func(db.Tx) error) error {
	return f.run(f.Database.UpdateLow, ctx, fn)
}

// TestDatabaseFullAtEveryCommit has each commit of the database fail for want of space.
func TestDatabaseFullAtEveryCommit(t *testing.T) {
	t.Parallel()
	stride := 1
	if testing.Short() {
		stride = 7
	}
	for at := 1; ; at += stride {
		full := &fullDB{at: at}
		f := runFaulty(t, disk.NewFault(uint64(at)), func(d db.Database) db.Database { full.Database = d; return full })
		if full.n < at {
			if at < 25 {
				t.Errorf("the script makes %d commits only", full.n)
			}
			return
		}
		if len(f.errs) != 1 {
			t.Errorf("commit %d fails: %v, want one failed act", at, f.errs)
		}
		for _, err := range f.errs {
			if strings.HasPrefix(err.Error(), "accept") && !errors.Is(err, post.ErrFull) {
				t.Errorf("commit %d fails: %v, want ErrFull", at, err)
			}
		}
		if t.Failed() {
			t.Fatalf("with commit %d failing", at)
		}
	}
}

// TestPowerCutUnderLoad cuts the power while eight writers share groups and commits:
// every message whose Accept returned nil is there, once for each recipient.
func TestPowerCutUnderLoad(t *testing.T) {
	t.Parallel()
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		seed := rand.Uint64()
		if err := loaded(t, seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func loaded(t *testing.T, seed uint64) error {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 0))
	d, _ := openDB(t)
	fsys := disk.NewFault(seed)
	clock := posttest.NewClock()
	h, s, err := openHouse(t, fsys, d, clock)
	if err != nil {
		return err
	}
	fsys.CutAt(fsys.Calls() + 5 + rnd.IntN(80))
	var mu sync.Mutex
	var accepted atomic.Int64
	promised := newState()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				text := posttest.Text(fmt.Sprintf("writer %d letter %d", w, i)) + strings.Repeat("x\r\n", 50*(i%7))
				to := envelope.AccountID(1 + (w+i)%accounts)
				dl := h.Delivery(t, text, []envelope.AccountID{to})
				if h.Post.Accept(context.Background(), dl) != nil {
					return
				}
				accepted.Add(1)
				mu.Lock()
				promised.inbox[to][text] = dl.ID.String()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	_ = s.Close() // the power is off
	after, s, err := openHouse(t, fsys.Reopen(rnd.Uint64()), d, clock)
	if err != nil {
		return err
	}
	defer s.Close()
	got, err := look(context.Background(), after)
	if err != nil {
		return err
	}
	if diff := promised.differs(got); diff != "" {
		return fmt.Errorf("of %d messages: %s", accepted.Load(), diff)
	}
	return whole(context.Background(), s)
}
