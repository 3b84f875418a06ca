package queue_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post/posttest"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

// onPostgres opens a house on PostgreSQL.
func onPostgres(t *testing.T) *posttest.House {
	t.Helper()
	t.Parallel()
	d := dbtest.Postgres(t)
	if err := db.Migrate(t.Context(), d, posttest.Components()); err != nil {
		t.Fatal(err)
	}
	return posttest.Open(t, d, posttest.Options{})
}

// pause makes the lease of all nodes over, as if they had slept.
func pause(t *testing.T, h *posttest.House) {
	t.Helper()
	run(t, h, "UPDATE node SET until = 1")
}

func TestThreeNodesShareTheWork(t *testing.T) {
	h := onPostgres(t)
	for i := range 30 {
		accept(t, h, fmt.Sprintf("a@d%02d.example", i))
	}
	houses := []*posttest.House{h, beside(t, h), beside(t, h)}
	var mu sync.Mutex
	var all []string
	var wg sync.WaitGroup
	for i, h := range houses {
		n := join(t, h, fmt.Sprint("node", i))
		claim(t, n, 0)
		wg.Go(func() {
			for range 30 {
				claims, _, err := n.Claim(t.Context(), 1)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				for _, c := range claims {
					all = append(all, c.Destination)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(all)
	if n := len(slices.Compact(slices.Clone(all))); len(all) != 30 || n != 30 {
		t.Errorf("%d claims of %d destinations, want 30 of 30", len(all), n)
	}
}

func TestPausedNodeChangesNothingTwice(t *testing.T) {
	h := onPostgres(t)
	id := accept(t, h, "relayed@a.example", "deferred@a.example", "returned@a.example")
	slow := join(t, h, "slow")
	c := claim(t, slow, 1)[0]
	late := take(t, slow, c, 10)
	other := beside(t, h)
	quick := join(t, other, "quick")
	if got := claimed(t, quick, 10); got != "" {
		t.Fatalf("claimed what another has: %q", got)
	}
	pause(t, h)
	if err := quick.Renew(t.Context()); !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("renewed a lease that was over: %v", err)
	}
	quick = join(t, other, "quick") // sees that slow's lease is over
	claims := claim(t, quick, 10)
	if len(claims) != 1 {
		t.Fatalf("claims %+v", claims)
	}
	jobs := take(t, quick, claims[0], 10)
	r := results(h, queue.Relayed, jobs...)
	r[1].Outcome = queue.Deferred
	r[1].Status = "451 the quick one's"
	settle(t, quick, r[:2])
	before := fates(t, h, id)

	if err := slow.Renew(t.Context()); !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("renewed: %v", err)
	}
	if slow.Valid() {
		t.Error("valid after its lease was lost")
	}
	if _, err := slow.Take(t.Context(), c, 1); !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("taken: %v", err)
	}
	if _, _, err := slow.Claim(t.Context(), 1); !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("claimed: %v", err)
	}
	r = results(h, queue.Relayed, late...)
	r[1].Outcome, r[2].Outcome = queue.Deferred, queue.Returned
	settle(t, slow, r)
	release(t, slow, c)
	if diff := cmp.Diff(before, fates(t, h, id)); diff != "" {
		t.Errorf("fates after the late results (-before +after):\n%s", diff)
	}
	m, err := h.Queue.Show(t.Context(), id)
	if err != nil || len(m.Recipients) != 2 || m.Recipients[0].Attempts != 1 || m.Recipients[0].LastStatus != "451 the quick one's" || m.Recipients[1].Attempts != 0 {
		t.Errorf("left %+v, %v", m.Recipients, err)
	}
	settle(t, quick, results(h, queue.Relayed, jobs...)[2:])
	release(t, quick, claims...)
	h.Clock.Advance(time.Hour)
	if got := work(t, other, quick, queue.Relayed); got != "deferred@a.example" {
		t.Errorf("at last taken: %q", got)
	}
	if got := number(t, h, "SELECT COUNT(*) FROM queued_message"); got != 0 {
		t.Errorf("%d messages left", got)
	}
	// What the slow one sent nevertheless is on the trace.
	events, err := h.Trace.Events(t.Context(), trace.Viewer{Operator: true}, id)
	if err != nil || len(events) != 2 {
		t.Errorf("events %+v, %v; want the deferral and the late delivery", events, err)
	}
}

// TestLateRelayedCounts has a paused node deliver what nobody else has settled yet.
func TestLateRelayedCounts(t *testing.T) {
	h := onPostgres(t)
	id := accept(t, h, "a@a.example")
	slow := join(t, h, "slow")
	late := take(t, slow, claim(t, slow, 1)[0], 10)
	pause(t, h)
	other := beside(t, h)
	quick := join(t, other, "quick")
	jobs := take(t, quick, claim(t, quick, 1)[0], 10)
	settle(t, slow, results(h, queue.Relayed, late...))
	settle(t, quick, results(h, queue.Returned, jobs...))
	if got := fates(t, h, id); !strings.HasPrefix(got, "relayed") {
		t.Errorf("fate %q", got)
	}
}

// TestKilledNode kills a process after it has accepted mail and taken some, without
// a word to the others.
func TestKilledNode(t *testing.T) {
	h := onPostgres(t)
	other := beside(t, h)
	quick := join(t, other, "quick")
	accept(t, h, "taken@a.example", "claimed@b.example")
	killed := join(t, h, "killed")
	for _, c := range claim(t, killed, 2) {
		if c.Destination == "a.example" {
			take(t, killed, c, 1)
		}
	}
	accept(t, h, "unannounced@c.example", "b@a.example")
	if got := work(t, other, quick, queue.Relayed); got != "" {
		t.Errorf("delivered while the other lives: %q", got)
	}
	run(t, h, "UPDATE node SET until = 1 WHERE name = 'killed'")
	if err := quick.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := quick.Upkeep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := work(t, other, quick, queue.Relayed); got != "b@a.example claimed@b.example taken@a.example unannounced@c.example" {
		t.Errorf("delivered: %q", got)
	}
	if got := number(t, h, "SELECT COUNT(*) FROM queued_message"); got != 0 {
		t.Errorf("%d messages left", got)
	}
}

func TestLeaveGivesBack(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		accept(t, h, "a@a.example")
		n := join(t, h, "one")
		take(t, n, claim(t, n, 1)[0], 1)
		accept(t, h, "b@b.example") // not announced yet
		if err := n.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n.Valid() {
			t.Error("valid after it left")
		}
		if got := number(t, h, "SELECT COUNT(*) FROM node"); got != 0 {
			t.Errorf("%d nodes left", got)
		}
		next := beside(t, h)
		if got := work(t, next, join(t, next, "two"), queue.Relayed); got != "a@a.example b@b.example" {
			t.Errorf("the next one delivered %q", got)
		}
	})
}

// TestRestartOnSQLite: what the process before had on lease, and what it had not announced, is due at once.
func TestRestartOnSQLite(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, posttest.Components()); err != nil {
		t.Fatal(err)
	}
	h := posttest.Open(t, d, posttest.Options{})
	accept(t, h, "a@a.example")
	old := join(t, h, "one")
	take(t, old, claim(t, old, 1)[0], 1)
	accept(t, h, "b@b.example")
	after := beside(t, h)
	n := join(t, after, "one")
	if err := n.Upkeep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := work(t, after, n, queue.Relayed); got != "a@a.example b@b.example" {
		t.Errorf("delivered %q", got)
	}
	if err := old.Renew(t.Context()); !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("the old incarnation renewed: %v", err)
	}
}

// TestValidEndsBeforeTheLease checks the margin by the monotonic clock.
func TestValidEndsBeforeTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, err := queue.New(queue.Config{DB: aloneDB{}})
		if err != nil {
			t.Fatal(err)
		}
		n, err := q.Join(t.Context(), "one")
		if err != nil {
			t.Fatal(err)
		}
		wait := func(d time.Duration) { <-time.After(d) }
		wait(24 * time.Second)
		if !n.Valid() {
			t.Error("not valid after 24 s")
		}
		if err := n.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(24 * time.Second)
		if !n.Valid() {
			t.Error("not valid 24 s after it was renewed")
		}
		wait(time.Second)
		if n.Valid() {
			t.Error("valid 25 s after it was renewed: no time is left for the final dot")
		}
	})
}

func TestShardsOfALargeDestination(t *testing.T) {
	h := onPostgres(t)
	shards := func(h *posttest.House) *posttest.House {
		return posttest.Open(t, h.DB, posttest.Options{Body: h.Body, Clock: h.Clock, Queue: func(c *queue.Config) { c.ShardOver = 10 }})
	}
	h, other := shards(h), shards(h)
	accept(t, h, "a@small.example")
	var ids []message.ID
	for range 60 {
		ids = append(ids, accept(t, h, "a@large.example", "b@large.example"))
	}
	one, two := join(t, h, "one"), join(t, other, "two")
	mine := claim(t, one, 4)
	theirs := claim(t, two, 20)
	if len(mine) != 4 || len(theirs) < 3 {
		t.Fatalf("claims %+v and %+v", mine, theirs)
	}
	seen := make(map[string]int)
	for _, w := range []struct {
		n *queue.Node
		c []queue.Claim
	}{{one, mine}, {two, theirs}} {
		for _, c := range w.c {
			for _, j := range take(t, w.n, c, 500) {
				for _, r := range j.Recipients {
					seen[fmt.Sprint(j.Message.ID, r.N)]++
					if r.Shard != c.Shard {
						t.Errorf("recipient of shard %d taken by the claim of %d", r.Shard, c.Shard)
					}
				}
			}
		}
	}
	if len(seen) != 121 {
		t.Errorf("%d recipients taken, want 121", len(seen))
	}
	if list, err := h.Queue.Destinations(t.Context(), queue.DestinationPage{}); err != nil || len(list) != 2 || list[0].Waiting != 120 || !slices.Equal(list[0].Nodes, []string{"one", "two"}) || !list[0].Oldest.Equal(ids[0].Time()) {
		t.Errorf("destinations %+v, %v", list, err)
	}
}
