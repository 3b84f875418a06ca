package queue_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
)

// disturbed is a second process on the database of h, in whose transactions something can happen.
func disturbed(t *testing.T, h *posttest.House) (*posttest.House, *dbtest.Meanwhile) {
	t.Helper()
	m := &dbtest.Meanwhile{}
	return posttest.Open(t, h.DB, posttest.Options{Body: h.Body, Clock: h.Clock, DB: func(d db.Database) db.Database {
		m.Database = d
		return m
	}}), m
}

// TestEndedWhileClaiming has a node's lease end before and in the midst of the transaction that leases a shard to it:
// another gets the shard all the same.
func TestEndedWhileClaiming(t *testing.T) {
	h := onPostgres(t)
	accept(t, h, "a@a.example")
	quick := join(t, h, "quick")
	claim(t, quick, 0) // announces
	slowly, m := disturbed(t, h)
	for _, begin := range []string{"", "UPDATE queued_shard"} {
		slow := join(t, slowly, "slow")
		run(t, h, "UPDATE node SET until = 1 WHERE name = 'slow'")
		end := func() {}
		m.Arm(begin, func() { end = dbtest.Begin(t, h.DB, func() error { return quick.Renew(t.Context()) }) })
		_, _, err := slow.Claim(t.Context(), 1)
		if err != nil && !errors.Is(err, queue.ErrLeaseLost) {
			t.Fatal(err)
		}
		end()
		claims := claim(t, quick, 1)
		if len(claims) != 1 {
			t.Fatalf("before %q: %d claims of what a node that has ended got, want 1", begin, len(claims))
		}
		release(t, quick, claims...)
	}
}

// TestResumedMeanwhile resumes a destination while one of its shards is put off or given back because it is
// suspended: the shard is due.
func TestResumedMeanwhile(t *testing.T) {
	h := onPostgres(t)
	accept(t, h, "a@a.example")
	slowly, m := disturbed(t, h)
	n := join(t, slowly, "node")
	claim(t, join(t, h, "other"), 0) // announces
	putOff := func() {
		if got := claimed(t, n, 2); got != "" {
			t.Errorf("claimed %q of what was suspended", got)
		}
	}
	giveBack := func() { release(t, n, queue.Claim{Destination: "a.example"}) }
	for i, leave := range []func(){putOff, giveBack} {
		claim(t, n, i) // what is to be given back
		if err := h.Queue.Suspend(t.Context(), "a.example", "quiet"); err != nil {
			t.Fatal(err)
		}
		end := func() {}
		m.Arm("UPDATE queued_shard SET due", func() {
			end = dbtest.Begin(t, h.DB, func() error {
				_, err := h.Queue.Resume(t.Context(), "a.example")
				return err
			})
		})
		leave()
		end()
		claims := claim(t, n, 1)
		if len(claims) != 1 {
			t.Fatalf("%d: %d claims of what was resumed, want 1", i, len(claims))
		}
		release(t, n, claims...)
	}
}

// TestReleasedMeanwhile releases a recipient while all that are held are removed: it stays.
func TestReleasedMeanwhile(t *testing.T) {
	h := onPostgres(t)
	id := accept(t, h, "a@a.example")
	if n, err := h.Queue.Hold(t.Context(), queue.Filter{ID: id}, "look at it"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	slowly, m := disturbed(t, h)
	m.Arm("", func() {
		if n, err := h.Queue.Release(t.Context(), queue.Filter{ID: id}); n != 1 || err != nil {
			t.Error(n, err)
		}
	})
	if n, err := slowly.Queue.Remove(t.Context(), queue.Filter{ID: id, State: queue.Held}, "old"); n != 0 || err != nil {
		t.Errorf("removed %d recipients that are not held, %v", n, err)
	}
	if got := fates(t, h, id); got != "queued" {
		t.Errorf("the fate is %q", got)
	}
	if n, err := slowly.Queue.Remove(t.Context(), queue.Filter{ID: id}, "old"); n != 1 || err != nil {
		t.Errorf("removed %d recipients, %v", n, err)
	}
}

// failing is a database of which some Views fail.
type failing struct {
	db.Database
	views atomic.Int64 // that succeed before one fails
}

func (f *failing) View(ctx context.Context, fn func(db.Tx) error) error {
	if f.views.Add(-1) == 0 {
		return errors.New("the disk is tired")
	}
	return f.Database.View(ctx, fn)
}

// TestExpiredFails has the database fail in each View of a look for recipients whose time is over: the next look
// finds them.
func TestExpiredFails(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		accept(t, h, "a@a.example")
		h.Clock.Advance(6 * 24 * time.Hour)
		f := &failing{}
		tired := posttest.Open(t, h.DB, posttest.Options{Body: h.Body, Clock: h.Clock, DB: func(d db.Database) db.Database {
			f.Database = d
			return f
		}})
		claim(t, join(t, h, "other"), 0) // announces
		n := join(t, tired, "node")
		c := claim(t, n, 1)[0]
		for view := int64(1); ; view++ {
			f.views.Store(view)
			jobs, err := n.Expired(t.Context(), c, 10)
			if err == nil {
				if words(jobs) != "a@a.example" || view < 3 {
					t.Errorf("after %d failures: %q", view-1, words(jobs))
				}
				return
			}
		}
	})
}
