package queue_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

// verb is one of the operator's.
func verb(t *testing.T, want int, do func() (int, error)) {
	t.Helper()
	if got, err := do(); got != want || err != nil {
		t.Errorf("changed %d, %v; want %d", got, err, want)
	}
}

func TestHoldReleaseRetry(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		ctx := t.Context()
		id := accept(t, h, "a@a.example", "b@b.example")
		n := join(t, h, "one")
		for _, do := range []func(queue.Filter) (int, error){
			func(f queue.Filter) (int, error) { return h.Queue.Retry(ctx, f) },
			func(f queue.Filter) (int, error) { return h.Queue.Hold(ctx, f, "") },
			func(f queue.Filter) (int, error) { return h.Queue.Release(ctx, f) },
			func(f queue.Filter) (int, error) { return h.Queue.Bounce(ctx, f, "") },
		} {
			if n, err := do(queue.Filter{}); n != 0 || err != queue.ErrEmptyFilter {
				t.Errorf("an empty filter changed %d, %v", n, err)
			}
		}
		a := queue.Filter{ForwardPath: "A@a.example"}
		verb(t, 1, func() (int, error) { return h.Queue.Hold(ctx, a, "looks odd") })
		verb(t, 0, func() (int, error) { return h.Queue.Hold(ctx, a, "looks odd") })
		if got := fates(t, h, id); got != "held looks odd | queued" {
			t.Errorf("fates %q", got)
		}
		verb(t, 0, func() (int, error) { return h.Queue.Retry(ctx, a) })
		if got := work(t, h, n, queue.Deferred); got != "b@b.example" {
			t.Errorf("tried %q", got)
		}
		verb(t, 1, func() (int, error) { return h.Queue.Release(ctx, a) })
		if got := work(t, h, n, queue.Deferred); got != "a@a.example" {
			t.Errorf("tried after the release: %q", got)
		}
		if got := work(t, h, n, queue.Deferred); got != "" {
			t.Errorf("tried before its time: %q", got)
		}
		verb(t, 2, func() (int, error) { return h.Queue.Retry(ctx, queue.Filter{All: true}) })
		if got := work(t, h, n, queue.Relayed); got != "a@a.example b@b.example" {
			t.Errorf("tried again: %q", got)
		}
		events, err := h.Trace.Events(ctx, trace.Viewer{Operator: true}, id)
		var kinds []string
		for _, e := range events {
			kinds = append(kinds, fmt.Sprint(e.Kind, e.N))
		}
		if got := strings.Join(kinds, " "); got != "attempt0 hold0 release0 attempt1" || err != nil {
			t.Errorf("events %s, %v", got, err)
		}
	})
}

func TestRetryResetsTheHostsClock(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		accept(t, h, "a@a.example")
		n := join(t, h, "one")
		c := claim(t, n, 1)[0]
		if err := n.HostDown(t.Context(), c, h.Clock.Now().Add(time.Hour), "no route"); err != nil {
			t.Fatal(err)
		}
		release(t, n, c)
		if list, err := h.Queue.Destinations(t.Context(), queue.DestinationPage{}); err != nil || len(list) != 1 || list[0].LastError != "no route" || list[0].Failures != 1 || !list[0].NextDue.Equal(h.Clock.Now().Add(time.Hour)) {
			t.Errorf("destinations %+v, %v", list, err)
		}
		if got := claimed(t, n, 1); got != "" {
			t.Errorf("claimed %q", got)
		}
		verb(t, 1, func() (int, error) { return h.Queue.Retry(t.Context(), queue.Filter{Destination: "a.example"}) })
		if got := claim(t, n, 1); len(got) != 1 || got[0].Failures != 0 {
			t.Errorf("claims %+v", got)
		}
	})
}

func TestRetryLeavesWhatItsSenderHoldsBack(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		d := h.Delivery(t, posttest.Text("later"), nil, "a@a.example")
		d.Envelope.HoldUntil = h.Clock.Now().Add(time.Hour)
		if err := h.Post.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		n := join(t, h, "one")
		verb(t, 0, func() (int, error) { return h.Queue.Retry(t.Context(), queue.Filter{All: true}) })
		if got := claimed(t, n, 1); got != "" {
			t.Errorf("claimed %q before its time", got)
		}
		h.Clock.Advance(time.Hour)
		verb(t, 1, func() (int, error) { return h.Queue.Retry(t.Context(), queue.Filter{All: true}) })
	})
}

func TestBounceGoesPastHostAndSuspension(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		id := accept(t, h, "a@a.example", "b@a.example")
		verb(t, 1, func() (int, error) {
			return h.Queue.Hold(t.Context(), queue.Filter{ForwardPath: "b@a.example"}, "")
		})
		n := join(t, h, "one")
		if err := h.Queue.Suspend(t.Context(), "a.example", "closed"); err != nil {
			t.Fatal(err)
		}
		if got := claimed(t, n, 1); got != "" {
			t.Errorf("claimed %q", got)
		}
		verb(t, 2, func() (int, error) {
			return h.Queue.Bounce(t.Context(), queue.Filter{ID: id}, "the firm is gone")
		})
		verb(t, 0, func() (int, error) { return h.Queue.Bounce(t.Context(), queue.Filter{ID: id}, "") })
		c := claim(t, n, 1)
		if len(c) != 1 || !c[0].ReturnOnly {
			t.Fatalf("claims %+v", c)
		}
		jobs := take(t, n, c[0], 10)
		if len(jobs) != 1 || len(jobs[0].Recipients) != 2 {
			t.Fatalf("jobs %+v", jobs)
		}
		for _, r := range jobs[0].Recipients {
			if r.State != queue.Returning || r.Reason != "the firm is gone" {
				t.Errorf("recipient %+v", r)
			}
		}
		settle(t, n, results(h, queue.Returned, jobs...))
		release(t, n, c...)
		if got := number(t, h, "SELECT COUNT(*) FROM queued_message"); got != 0 {
			t.Errorf("%d messages left", got)
		}
	})
}

// TestClockJumps moves the wall clock by five days, forth and back.
func TestClockJumps(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		accept(t, h, "a@a.example", "b@b.example")
		acceptAs(t, h, func(d *post.Delivery) { d.Envelope.HoldUntil = h.Clock.Now().Add(6 * 24 * time.Hour) }, "held@a.example")
		n := join(t, h, "one")
		work(t, h, n, queue.Deferred)
		h.Clock.Advance(5*24*time.Hour + time.Hour)
		if !n.Valid() {
			t.Error("the lease depends on the wall clock")
		}
		// All is due, and nobody is given up without an attempt: they come as jobs.
		if got := work(t, h, n, queue.Deferred); got != "a@a.example b@b.example" {
			t.Errorf("after the jump: %q", got)
		}
		c := queue.Claim{}
		h.Clock.Advance(time.Hour)
		for _, c = range claim(t, n, 2) {
			if err := n.HostDown(t.Context(), c, h.Clock.Now().Add(time.Hour), "down"); err != nil {
				t.Fatal(err)
			}
			release(t, n, c)
		}
		h.Clock.Advance(-5*24*time.Hour - 2*time.Hour)
		accept(t, h, "new@c.example")
		if got := work(t, h, n, queue.Relayed); got != "new@c.example" {
			t.Errorf("after the clock was set back: %q", got)
		}
		verb(t, 2, func() (int, error) { return h.Queue.Earlier(t.Context(), h.Clock.Now().Add(time.Hour)) })
		if got := work(t, h, n, queue.Relayed); got != "" {
			t.Errorf("tried at once: %q", got)
		}
		h.Clock.Advance(time.Hour)
		if got := work(t, h, n, queue.Relayed); got != "a@a.example b@b.example" {
			t.Errorf("tried after an hour: %q", got)
		}
		if got := number(t, h, "SELECT COUNT(*) FROM queued_recipient"); got != 1 {
			t.Errorf("%d recipients left, want the one that is to wait", got)
		}
	})
}

// TestTurns has one destination of many recipients and many of one take turns.
func TestTurns(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		for range 4 {
			accept(t, h, many(50, "large.example")...)
		}
		n := join(t, h, "one")
		claim(t, n, 0)
		for i := range 20 {
			h.Clock.Advance(time.Millisecond)
			accept(t, h, fmt.Sprintf("a@s%02d.example", i))
		}
		var order []string
		for range 24 {
			h.Clock.Advance(time.Millisecond)
			for _, c := range claim(t, n, 1) {
				settle(t, n, results(h, queue.Relayed, take(t, n, c, 10)...))
				release(t, n, c)
				order = append(order, strings.TrimSuffix(c.Destination, ".example"))
			}
		}
		want := "large s00 s01 s02 s03 s04 s05 s06 s07 s08 s09 s10 s11 s12 s13 s14 s15 s16 s17 s18 s19 large large large"
		if diff := cmp.Diff(want, strings.Join(order, " ")); diff != "" {
			t.Errorf("turns (-want +got):\n%s", diff)
		}
	})
}

func TestSweepLeavesWhatIsNeeded(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		accept(t, h, "a@full.example", "a@empty.example", "a@down.example")
		n := join(t, h, "one")
		for _, c := range claim(t, n, 3) {
			for_ := time.Minute
			if c.Destination == "down.example" {
				for_ = 24 * time.Hour
			}
			if err := n.HostDown(t.Context(), c, h.Clock.Now().Add(for_), "down"); err != nil {
				t.Fatal(err)
			}
			release(t, n, c)
		}
		if err := h.Queue.Suspend(t.Context(), "idle.example", ""); err != nil {
			t.Fatal(err)
		}
		verb(t, 1, func() (int, error) {
			return h.Queue.Remove(t.Context(), queue.Filter{Destination: "empty.example"}, "")
		})
		verb(t, 1, func() (int, error) { return h.Queue.Remove(t.Context(), queue.Filter{Destination: "down.example"}, "") })
		h.Clock.Advance(2 * time.Hour)
		if err := n.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		list, err := h.Queue.Destinations(t.Context(), queue.DestinationPage{})
		if err != nil || len(list) != 2 || list[0].Name != "full.example" || list[1].Name != "idle.example" {
			t.Errorf("destinations %+v, %v", list, err)
		}
		if got := number(t, h, "SELECT COUNT(*) FROM destination"); got != 3 {
			t.Errorf("%d rows left, want full, idle and down", got)
		}
		if got := work(t, h, n, queue.Relayed); got != "a@full.example" {
			t.Errorf("delivered %q", got)
		}
	})
}
