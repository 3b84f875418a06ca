package queue_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

func TestTakeByPriorityAndTimeGroupedByMessage(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		accept(t, h, "a@far.example", "b@far.example", "x@other.example")
		h.Clock.Advance(time.Second)
		accept(t, h, "c@far.example")
		acceptAs(t, h, func(d *post.Delivery) { d.Envelope.Priority = 4 }, "urgent@far.example")
		acceptAs(t, h, func(d *post.Delivery) { d.Envelope.Priority = -2 }, "slow@far.example")
		acceptAs(t, h, func(d *post.Delivery) { d.Envelope.HoldUntil = h.Clock.Now().Add(time.Hour) }, "tomorrow@far.example")
		n := join(t, h, "one")
		if got := claimed(t, n, 0); got != "" {
			t.Errorf("claimed %q with a limit of nothing", got)
		}
		claims := claim(t, n, 10)
		if len(claims) != 2 || claims[0].Destination != "far.example" || claims[1].Destination != "other.example" {
			t.Fatalf("claims %+v", claims)
		}
		if got := claimed(t, n, 10); got != "" {
			t.Errorf("claimed twice: %q", got)
		}
		first := take(t, n, claims[0], 2)
		if got := words(first); got != "urgent@far.example a@far.example" {
			t.Errorf("first %q", got)
		}
		if m := first[1].Message; m.ReversePath != "sender@origin.example" || m.Account != 7 || len(m.Recipients) != 0 || m.Expires != h.Clock.Now().Add(queue.DefaultLifetime-time.Second).UTC() {
			t.Errorf("message %+v", m)
		}
		rest := take(t, n, claims[0], 10)
		if got := words(rest); got != "b@far.example c@far.example slow@far.example" {
			t.Errorf("then %q", got)
		}
		n.Return(first...)
		if got := words(take(t, n, claims[0], 10)); got != "urgent@far.example a@far.example" {
			t.Errorf("after Return %q", got)
		}
		if err := n.Release(t.Context(), claims[0]); err == nil {
			t.Error("a claim was released with recipients in flight")
		}
		if _, err := n.Take(t.Context(), queue.Claim{Destination: "nobody.example"}, 1); !errors.Is(err, queue.ErrLeaseLost) {
			t.Errorf("taken without a claim: %v", err)
		}
	})
}

func TestOutcomes(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		id := accept(t, h, "relayed@a.example", "returned@a.example", "dropped@a.example", "deferred@a.example")
		n := join(t, h, "one")
		c := claim(t, n, 1)[0]
		jobs := take(t, n, c, 10)
		r := results(h, queue.Relayed, jobs...)
		for i, o := range []queue.Outcome{queue.Relayed, queue.Returned, queue.Dropped, queue.Deferred} {
			r[i].Outcome = o
		}
		r[3].Dialogue = trace.PackDialogue([]byte("S: 451 later"))
		settle(t, n, r)
		settle(t, n, r) // again: nothing happens
		via := "mx.far.example [192.0.2.1] (TLS1.3): 451 4.3.0 later"
		want := strings.Join([]string{"relayed " + via, "bounced " + via, "discarded " + via, "queued"}, " | ")
		if diff := cmp.Diff(want, fates(t, h, id)); diff != "" {
			t.Errorf("fates (-want +got):\n%s", diff)
		}
		m, err := h.Queue.Show(t.Context(), id)
		if err != nil || len(m.Recipients) != 1 || m.Recipients[0].Attempts != 1 || m.Recipients[0].LastStatus != "451 4.3.0 later" || m.Recipients[0].NextAttempt != r[3].Next.UTC() {
			t.Errorf("left %+v, %v", m, err)
		}
		events, err := h.Trace.Events(t.Context(), trace.Viewer{Operator: true}, id)
		if err != nil || len(events) != 1 || events[0].Kind != trace.KindAttempt || events[0].N != 3 || events[0].Detail != via {
			t.Errorf("events %+v, %v", events, err)
		}
		said, err := h.Trace.Dialogues(t.Context(), trace.Viewer{Operator: true}, id)
		if err != nil || len(said) != 1 || said[0].Text != "S: 451 later" {
			t.Errorf("dialogues %+v, %v", said, err)
		}
		if got := words(take(t, n, c, 10)); got != "" {
			t.Errorf("taken before its time: %q", got)
		}
		release(t, n, c)
		if _, next, err := n.Claim(t.Context(), 1); err != nil || next != r[3].Next.UTC() {
			t.Errorf("next %v, %v; want %v", next, err, r[3].Next)
		}
		h.Clock.Advance(10 * time.Minute)
		if got := work(t, h, n, queue.Relayed); got != "deferred@a.example" {
			t.Errorf("later taken: %q", got)
		}
		for _, table := range []string{"queued_message", "queued_recipient", "queued_shard", "destination", "body"} {
			if got := number(t, h, "SELECT COUNT(*) FROM "+table); got != 0 {
				t.Errorf("%d rows of %s are left", got, table)
			}
		}
	})
}

func TestFinishedAndMetrics(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		var finished, dead []message.ID
		settled := make(map[queue.Outcome]int)
		h = posttest.Open(t, h.DB, posttest.Options{Body: h.Body, Clock: h.Clock, Queue: func(c *queue.Config) {
			c.Finished = func(f, d []message.ID) { finished, dead = append(finished, f...), append(dead, d...) }
			c.Hooks.Settled = func(o queue.Outcome, n int) { settled[o] += n }
		}})
		id := accept(t, h, many(3, "a.example")...)
		d := h.Delivery(t, posttest.Text("x"), []envelope.AccountID{1}, "b@a.example")
		if err := h.Post.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		work(t, h, join(t, h, "one"), queue.Relayed)
		if diff := cmp.Diff([]message.ID{id}, dead); diff != "" {
			t.Errorf("dead bodies (-want +got):\n%s", diff)
		}
		if len(finished) != 2 || settled[queue.Relayed] != 4 || len(settled) != 1 {
			t.Errorf("finished %v, settled %v", finished, settled)
		}
	})
}

func TestReportAndSettlementAreOneStep(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		id := accept(t, h, "a@a.example", "b@a.example")
		n := join(t, h, "one")
		jobs := take(t, n, claim(t, n, 1)[0], 10)
		r := results(h, queue.Returned, jobs...)
		report := func() error {
			d := h.Delivery(t, posttest.Text("report"), []envelope.AccountID{1})
			var after func()
			d.Within = func(tx db.Tx) (err error) {
				after, err = n.SettleTx(tx, r)
				return err
			}
			err := h.Post.Accept(t.Context(), d)
			if err == nil {
				after()
			}
			return err
		}
		run(t, h, "DELETE FROM queued_recipient WHERE n = 1") // settled by somebody else
		var gone *queue.NotAppliedError
		if err := report(); !errors.As(err, &gone) || len(gone.Results) != 1 || gone.Results[0].N != 1 {
			t.Fatalf("report of a recipient that is gone: %v", err)
		}
		if got := fates(t, h, id); got != "queued | queued" {
			t.Errorf("fates after a report that was not made: %s", got)
		}
		r = r[:1]
		if err := report(); err != nil {
			t.Fatal(err)
		}
		if got := fates(t, h, id); !strings.HasPrefix(got, "bounced") {
			t.Errorf("fates %s", got)
		}
		if err := report(); !errors.As(err, &gone) {
			t.Errorf("the report was made twice: %v", err)
		}
		if got := number(t, h, "SELECT COUNT(*) FROM entry"); got != 1 {
			t.Errorf("%d reports, want 1", got)
		}
	})
}

func TestHostClock(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		accept(t, h, "a@down.example", "b@down.example")
		n := join(t, h, "one")
		down := func(for_ time.Duration) queue.Claim {
			t.Helper()
			c := claim(t, n, 10)
			if len(c) != 1 {
				t.Fatalf("claims %+v", c)
			}
			jobs := take(t, n, c[0], 1)
			if len(jobs) != 1 {
				t.Fatalf("jobs %+v", jobs)
			}
			n.Return(jobs...)
			if err := n.HostDown(t.Context(), c[0], h.Clock.Now().Add(for_), "connection refused"); err != nil {
				t.Fatal(err)
			}
			if got := words(take(t, n, c[0], 10)); got != "" {
				t.Errorf("taken for a host that is down: %q", got)
			}
			release(t, n, c[0])
			return c[0]
		}
		down(5 * time.Minute)
		h.Clock.Advance(time.Millisecond)
		accept(t, h, "c@down.example") // comes in meanwhile
		if _, next, err := n.Claim(t.Context(), 10); err != nil || !next.Equal(h.Clock.Now()) && !next.Equal(h.Clock.Now().Add(5*time.Minute-time.Millisecond)) {
			t.Errorf("next %v, %v", next, err)
		}
		if got := claimed(t, n, 10); got != "" {
			t.Errorf("claimed while the host is down: %q", got)
		}
		h.Clock.Advance(5 * time.Minute)
		if c := down(10 * time.Minute); c.Failures != 1 || c.Status != "connection refused" {
			t.Errorf("second claim %+v", c)
		}
		if got := number(t, h, "SELECT SUM(attempts) FROM queued_recipient"); got != 0 {
			t.Errorf("rows of recipients were written: %d attempts", got)
		}
		h.Clock.Advance(10 * time.Minute)
		c := claim(t, n, 10)
		if len(c) != 1 || c[0].Failures != 2 {
			t.Fatalf("claims %+v", c)
		}
		if err := n.HostUp(t.Context(), c[0]); err != nil {
			t.Fatal(err)
		}
		if got := words(take(t, n, c[0], 10)); got != "a@down.example+b@down.example c@down.example" {
			t.Errorf("taken %q", got)
		}
		if got := number(t, h, "SELECT failures + next_due FROM destination"); got != 0 {
			t.Error("the host's clock was not reset")
		}
	})
}

func TestSuspended(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		accept(t, h, "a@a.example", "b@a.example")
		accept(t, h, "c@b.example")
		n := join(t, h, "one")
		c := claim(t, n, 1)[0]
		n.Return(take(t, n, c, 1)...)
		if err := h.Queue.Suspend(t.Context(), "A.example", "they asked"); err != nil {
			t.Fatal(err)
		}
		if got := words(take(t, n, c, 1)); got != "" {
			t.Errorf("taken of a suspended destination: %q", got)
		}
		release(t, n, c)
		h.Clock.Advance(time.Millisecond)
		accept(t, h, "d@a.example")
		if got := work(t, h, n, queue.Relayed); got != "c@b.example" {
			t.Errorf("delivered: %q", got)
		}
		list, err := h.Queue.Destinations(t.Context(), queue.DestinationPage{})
		if err != nil || len(list) != 1 || !list[0].Suspended || list[0].Reason != "they asked" || list[0].Waiting != 3 || !list[0].NextDue.IsZero() {
			t.Errorf("destinations %+v, %v", list, err)
		}
		if was, err := h.Queue.Resume(t.Context(), "a.example"); !was || err != nil {
			t.Errorf("resumed %v, %v", was, err)
		}
		if was, err := h.Queue.Resume(t.Context(), "a.example"); was || err != nil {
			t.Errorf("resumed again %v, %v", was, err)
		}
		if got := work(t, h, n, queue.Relayed); got != "a@a.example b@a.example d@a.example" {
			t.Errorf("delivered after: %q", got)
		}
	})
}

func TestExpiredOnlyWhenAsked(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		accept(t, h, many(5, "a.example")...)
		h.Clock.Advance(time.Hour)
		accept(t, h, "young@a.example")
		n := join(t, h, "one")
		c := claim(t, n, 1)[0]
		settle(t, n, results(h, queue.Deferred, take(t, n, c, 2)...))
		if jobs, err := n.Expired(t.Context(), c, 10); err != nil || len(jobs) != 0 {
			t.Errorf("expired at once: %q, %v", words(jobs), err)
		}
		release(t, n, c)
		h.Clock.Advance(queue.DefaultLifetime - time.Minute)
		c = claim(t, n, 1)[0]
		var got []string
		for range 4 {
			jobs, err := n.Expired(t.Context(), c, 2)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, words(jobs))
			settle(t, n, results(h, queue.Returned, jobs...))
		}
		if diff := cmp.Diff([]string{"r002@a.example+r003@a.example", "r004@a.example+r000@a.example", "r001@a.example", ""}, got); diff != "" {
			t.Errorf("expired (-want +got):\n%s", diff)
		}
		release(t, n, c)
		h.Clock.Advance(2 * time.Minute)
		c = claim(t, n, 1)[0]
		if jobs, err := n.Expired(t.Context(), c, 2); err != nil || words(jobs) != "young@a.example" {
			t.Errorf("expired later: %q, %v", words(jobs), err)
		}
	})
}

func TestOverdueOnce(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		accept(t, h, "a@a.example", "b@b.example")
		acceptAs(t, h, func(d *post.Delivery) { d.Envelope.Origin.Account = 0 }, "foreign@a.example")
		acceptAs(t, h, func(d *post.Delivery) { d.Envelope.Recipients[0].Notify = envelope.NotifyFailure }, "quiet@a.example")
		h.Clock.Advance(time.Millisecond)
		acceptAs(t, h, func(d *post.Delivery) { d.Envelope.Recipients[0].Notify = envelope.NotifyDelay }, "asked@a.example")
		acceptAs(t, h, func(d *post.Delivery) { d.Envelope.HoldUntil = h.Clock.Now().Add(24 * time.Hour) }, "held@a.example")
		h.Clock.Advance(time.Minute)
		accept(t, h, "young@a.example")
		n := join(t, h, "one")
		look := func() (all []queue.Job) {
			t.Helper()
			for range 5 {
				jobs, err := n.Overdue(t.Context(), h.Clock.Now().Add(-4*time.Hour), 2)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, jobs...)
			}
			return all
		}
		h.Clock.Advance(4*time.Hour - time.Second)
		jobs := look()
		if got := words(jobs); got != "a@a.example+b@b.example asked@a.example" {
			t.Errorf("overdue %q", got)
		}
		settle(t, n, results(h, queue.Warned, jobs[0]))
		h.Clock.Advance(2 * time.Hour)
		if got := words(look()); got != "asked@a.example young@a.example" { // that was not warned of comes again
			t.Errorf("overdue later %q", got)
		}
		err := h.DB.Update(t.Context(), func(tx db.Tx) error {
			_, err := n.SettleTx(tx, results(h, queue.Warned, jobs[0]))
			return err
		})
		var gone *queue.NotAppliedError
		if !errors.As(err, &gone) {
			t.Errorf("warned twice: %v", err)
		}
	})
}

// TestDeferredOnce applies a result again whose commit was not heard of.
func TestDeferredOnce(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		accept(t, h, "a@a.example")
		n := join(t, h, "one")
		r := results(h, queue.Deferred, take(t, n, claim(t, n, 1)[0], 1)...)
		err := h.DB.Update(t.Context(), func(tx db.Tx) error {
			_, err := n.SettleTx(tx, r)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		settle(t, n, r) // nobody has called after
		if got := number(t, h, "SELECT attempts FROM queued_recipient"); got != 1 {
			t.Errorf("%d attempts, want 1", got)
		}
	})
}
