package conduct_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/verdict"
)

var start = time.Date(2026, 11, 23, 12, 5, 0, 0, time.UTC)

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is two nodes on one database.
type world struct {
	t     testing.TB
	d     db.Database
	c     *clock
	nodes [2]*conduct.Watch

	mu   sync.Mutex
	told []conduct.Trip
}

func open(t testing.TB, d db.Database, rules conduct.Rules) *world {
	t.Helper()
	w := &world{t: t, d: d, c: &clock{now: start}}
	for i := range w.nodes {
		var err error
		w.nodes[i], err = conduct.New(conduct.Config{DB: d, Rules: rules, Now: w.c.Now, Hooks: conduct.Hooks{Tripped: func(x conduct.Trip) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, x)
		}}})
		must(t, err)
	}
	return w
}

func each(t *testing.T, rules conduct.Rules, fn func(t *testing.T, w *world)) {
	dbtest.Each(t, []db.Component{conduct.Component()}, func(t *testing.T, d db.Database) { fn(t, open(t, d, rules)) })
}

// send judges and counts on a node, as submission does.
func (w *world) send(node int, account envelope.AccountID, s conduct.Sent) conduct.Decision {
	w.t.Helper()
	d, err := w.nodes[node].Judge(context.Background(), account, s)
	must(w.t, err)
	if d.Action != conduct.Slow && d.Action != conduct.Refuse {
		w.nodes[node].Count(context.Background(), account, s)
	}
	return d
}

func (w *world) flush() {
	w.t.Helper()
	for _, n := range w.nodes {
		must(w.t, n.Flush(context.Background()))
	}
	w.c.add(11 * time.Second) // so that no node answers from memory
}

func (w *world) tolds() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.told)
}

func mail(recipients, fresh int64) conduct.Sent {
	return conduct.Sent{Messages: 1, Recipients: recipients, Fresh: fresh}
}

func TestRules(t *testing.T) {
	t.Parallel()
	type step struct {
		sent conduct.Sent
		want conduct.Action
	}
	for _, tt := range []struct {
		name  string
		rules conduct.Rules
		steps []step
		rule  string
	}{
		{"a quiet day", conduct.Rules{}, []step{{mail(3, 1), conduct.Allow}, {mail(200, 0), conduct.Allow}}, ""},
		{"new recipients, up to the limit", conduct.Rules{}, []step{{mail(50, 50), conduct.Allow}, {mail(5, 0), conduct.Allow}}, ""},
		{"new recipients, in many messages", conduct.Rules{}, []step{{mail(30, 30), conduct.Allow}, {mail(20, 20), conduct.Allow}, {mail(1, 1), conduct.Hold}, {mail(1, 0), conduct.Hold}}, conduct.RuleFresh},
		{"new recipients, at once", conduct.Rules{}, []step{{mail(500, 500), conduct.Hold}}, conduct.RuleFresh},
		{"new recipients, refused", conduct.Rules{Fresh: conduct.Rule{Limit: 10, Action: conduct.Refuse}}, []step{{mail(11, 11), conduct.Refuse}}, conduct.RuleFresh},
		{"new recipients, off", conduct.Rules{Fresh: conduct.Rule{Limit: -1}}, []step{{mail(5000, 5000), conduct.Allow}}, ""},
		{"few refused", conduct.Rules{}, []step{{conduct.Sent{Recipients: 20, Refused: 19}, conduct.Allow}, {mail(1, 0), conduct.Allow}}, ""},
		{"many refused", conduct.Rules{}, []step{{conduct.Sent{Recipients: 60, Refused: 20}, conduct.Hold}}, conduct.RuleRefused},
		{"many refused of a great many", conduct.Rules{}, []step{{conduct.Sent{Recipients: 1000, Refused: 200}, conduct.Allow}, {mail(1, 0), conduct.Allow}}, ""},
		{"refused of what was sent before", conduct.Rules{}, []step{{conduct.Sent{Refused: 20}, conduct.Hold}}, conduct.RuleRefused},
		{"spam", conduct.Rules{}, []step{{conduct.Sent{Messages: 4, Recipients: 4, Spam: 4}, conduct.Allow}, {conduct.Sent{Messages: 1, Recipients: 1, Spam: 1}, conduct.Hold}}, conduct.RuleSpam},
		{"the severest counts", conduct.Rules{Spam: conduct.Rule{Limit: 1, Action: conduct.Refuse}}, []step{{conduct.Sent{Messages: 1, Recipients: 100, Fresh: 100, Spam: 1}, conduct.Refuse}}, conduct.RuleSpam},
		{"a severer rule later", conduct.Rules{Fresh: conduct.Rule{Limit: 5, Action: conduct.Slow}, Spam: conduct.Rule{Limit: 1}}, []step{{mail(6, 6), conduct.Slow}, {conduct.Sent{Messages: 1, Spam: 1}, conduct.Hold}}, conduct.RuleSpam},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := dbtest.SQLite(t)
			must(t, db.Migrate(t.Context(), d, []db.Component{conduct.Component()}))
			w := open(t, d, tt.rules)
			var last conduct.Decision
			for i, s := range tt.steps {
				if last = w.send(0, 1, s.sent); last.Action != s.want {
					t.Errorf("step %d: %v (%s), want %v", i, last.Action, last.Trip.Detail, s.want)
				}
				if i%2 == 0 {
					w.flush()
				}
				if other := w.send(0, 2, mail(1, 1)); other.Action != conduct.Allow {
					t.Errorf("step %d: another account: %+v", i, other)
				}
			}
			if last.Trip.Rule != tt.rule {
				t.Errorf("rule %q, want %q", last.Trip.Rule, tt.rule)
			}
			demand := map[conduct.Action]verdict.Action{conduct.Slow: verdict.Defer, conduct.Hold: verdict.Quarantine, conduct.Refuse: verdict.Refuse}
			want := []verdict.Item{{Name: verdict.OutOfHabit, Detail: last.Trip.Detail, Demand: demand[last.Action]}}
			if last.Action == conduct.Allow {
				want = nil
			}
			if diff := cmp.Diff(want, last.Items()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNodesAddUp: what two nodes count is one sum, the operator is told once, and all nodes
// hold and release.
func TestNodesAddUp(t *testing.T) {
	t.Parallel()
	each(t, conduct.Rules{}, func(t *testing.T, w *world) {
		ctx := context.Background()
		for i := range 50 {
			if d := w.send(i%2, 1, mail(1, 1)); d.Action != conduct.Allow {
				t.Fatalf("message %d: %+v", i, d)
			}
		}
		w.flush()
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				d, err := w.nodes[i%2].Judge(ctx, 1, mail(1, 1))
				if err != nil || d.Action != conduct.Hold || d.Trip.Rule != conduct.RuleFresh {
					t.Errorf("%+v, %v", d, err)
				}
			})
		}
		group.Wait()
		if n := w.tolds(); n != 1 {
			t.Errorf("the operator was told %d times", n)
		}
		trips, err := w.nodes[1].List(ctx, 0)
		if err != nil || len(trips) != 1 || trips[0].Account != 1 || trips[0].Action != conduct.Hold || !trips[0].Until.Equal(trips[0].Since.Add(7*24*time.Hour)) {
			t.Errorf("%+v, %v", trips, err)
		}
		again := open(t, w.d, conduct.Rules{}) // as after a restart
		again.c.now = w.c.Now().Add(6 * 24 * time.Hour)
		if d := again.send(0, 1, mail(1, 0)); d.Action != conduct.Hold {
			t.Errorf("after a restart: %+v", d)
		}
		must(t, w.nodes[0].Release(ctx, 1, 0))
		if d := w.send(0, 1, mail(1, 1)); d.Action != conduct.Allow {
			t.Errorf("after the release: %+v", d)
		}
		w.flush()
		for i := range w.nodes {
			if d := w.send(i, 1, mail(1, 1)); d.Action != conduct.Allow {
				t.Errorf("node %d eleven seconds after the release: %+v", i, d)
			}
		}
		if trips, err := w.nodes[1].List(ctx, 0); err != nil || len(trips) != 0 {
			t.Errorf("%+v, %v", trips, err)
		}
		if n := w.tolds(); n != 1 {
			t.Errorf("the operator was told %d times", n)
		}
		w.c.add(2 * time.Minute)
		if d := w.send(0, 1, mail(60, 60)); d.Action != conduct.Hold || w.tolds() != 2 {
			t.Errorf("again: %+v, told %d times", d, w.tolds())
		}
	})
}

// TestHourSlides: what was sent more than an hour ago counts no more.
func TestHourSlides(t *testing.T) {
	t.Parallel()
	each(t, conduct.Rules{}, func(t *testing.T, w *world) {
		for i := range 24 {
			if d := w.send(0, 1, mail(8, 8)); d.Action != conduct.Allow { // 48 an hour
				t.Fatalf("after %d0 minutes: %+v", i, d)
			}
			w.flush()
			w.c.add(10*time.Minute - 11*time.Second)
		}
		if d := w.send(0, 1, mail(20, 20)); d.Action != conduct.Hold {
			t.Errorf("20 more: %+v", d)
		}
	})
}

// TestHabit: who is used to many new recipients may have twice as many, but what was held is
// no habit unless an operator says so.
func TestHabit(t *testing.T) {
	t.Parallel()
	each(t, conduct.Rules{}, func(t *testing.T, w *world) {
		ctx := context.Background()
		usual := func(account envelope.AccountID) int64 {
			t.Helper()
			h, err := w.nodes[1].Habit(ctx, account)
			must(t, err)
			return h.Fresh
		}
		day := func(account envelope.AccountID, fresh int64, want conduct.Action) {
			t.Helper()
			if d := w.send(0, account, mail(fresh, fresh)); d.Action != want {
				t.Errorf("%d new recipients: %+v, want %v", fresh, d, want)
			}
			w.flush()
		}
		const night = 24 * time.Hour
		day(1, 45, conduct.Allow)
		if got := usual(1); got != 50 {
			t.Errorf("today teaches today: %d", got)
		}
		w.c.add(night)
		day(1, 85, conduct.Allow)
		w.c.add(night)
		if got := usual(1); got != 170 {
			t.Errorf("%d are allowed, want 170", got)
		}
		day(1, 400, conduct.Hold)
		w.c.add(night)
		if got := usual(1); got != 170 {
			t.Errorf("%d are allowed after a day that was held, want 170", got)
		}
		must(t, w.nodes[0].Release(ctx, 1, 0))
		w.c.add(time.Minute)
		if got := usual(1); got != 800 {
			t.Errorf("%d are allowed after the operator released it, want 800", got)
		}
		w.c.add(15 * night)
		if got := usual(1); got != 50 {
			t.Errorf("%d are allowed after a fortnight of silence, want 50", got)
		}
		must(t, w.nodes[0].Release(ctx, 2, 6*time.Hour)) // a newsletter that was announced
		day(2, 5000, conduct.Allow)
		w.c.add(night)
		if got := usual(2); got != 2000 {
			t.Errorf("%d are allowed, want the most, 2000", got)
		}
		day(2, 2001, conduct.Hold)
	})
}

func TestSlowEnds(t *testing.T) {
	t.Parallel()
	each(t, conduct.Rules{}, func(t *testing.T, w *world) {
		ctx := context.Background()
		for i := range 11 {
			for _, peer := range []string{fmt.Sprintf("10.0.%d.1", i), fmt.Sprintf("10.0.%d.2", i), "127.0.0.1"} {
				w.nodes[i%2].Login(ctx, 1, netip.MustParseAddr(peer))
			}
			w.nodes[0].Login(ctx, 2, netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", i)))
			if i == 9 {
				w.flush()
				if d := w.send(0, 1, mail(1, 0)); d.Action != conduct.Allow {
					t.Errorf("ten networks: %+v", d)
				}
			}
		}
		w.flush()
		if d := w.send(1, 1, mail(1, 0)); d.Action != conduct.Slow || d.Trip.Rule != conduct.RuleNetworks {
			t.Errorf("eleven networks: %+v", d)
		}
		if d := w.send(1, 2, mail(1, 0)); d.Action != conduct.Allow {
			t.Errorf("one network: %+v", d)
		}
		w.c.add(61 * time.Minute)
		if d := w.send(1, 1, mail(1, 0)); d.Action != conduct.Allow {
			t.Errorf("an hour later: %+v", d)
		}
	})
}

// TestStruckWhileSwept has a rule strike an account anew while another node sweeps what is left of the time before:
// it stays struck.
func TestStruckWhileSwept(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t)
	must(t, db.Migrate(t.Context(), d, []db.Component{conduct.Component()}))
	m := &dbtest.Meanwhile{Database: d}
	w := open(t, m, conduct.Rules{})
	w.send(0, 1, mail(60, 60))
	w.flush()
	w.c.add(60 * 24 * time.Hour)
	end := func() {}
	m.Arm("SELECT rule", func() { end = dbtest.Begin(t, d, func() error { return w.nodes[1].Sweep(t.Context()) }) })
	if got := w.send(0, 1, mail(60, 60)); got.Action != conduct.Hold {
		t.Errorf("decided %+v", got)
	}
	end()
	if trips, err := w.nodes[1].List(t.Context(), 0); len(trips) != 1 || err != nil {
		t.Errorf("held back: %v, %v", trips, err)
	}
}

func TestSweepAndPurge(t *testing.T) {
	t.Parallel()
	each(t, conduct.Rules{}, func(t *testing.T, w *world) {
		ctx := context.Background()
		rows := func() (out [4]int64) {
			t.Helper()
			must(t, w.d.View(ctx, func(tx db.Tx) error {
				for i, table := range []string{"conduct_slot", "conduct_network", "conduct_habit", "conduct_trip"} {
					if err := tx.QueryRow(`SELECT COUNT(*) FROM ` + table).Scan(&out[i]); err != nil {
						return err
					}
				}
				return nil
			}))
			return out
		}
		check := func(what string, want [4]int64) {
			t.Helper()
			must(t, w.nodes[0].Sweep(ctx))
			if diff := cmp.Diff(want, rows()); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
		}
		for id := range envelope.AccountID(2) {
			w.send(0, id+1, mail(60, 60))
			w.nodes[0].Login(ctx, id+1, netip.MustParseAddr("192.0.2.1"))
		}
		w.flush()
		check("all is young", [4]int64{2, 2, 2, 2})
		w.nodes[0].Count(ctx, 2, mail(1, 1))
		must(t, w.d.Update(ctx, func(tx db.Tx) error { return w.nodes[0].Purge(tx, 2) }))
		w.nodes[0].Forget(2)
		w.flush()
		check("an account was removed", [4]int64{1, 1, 1, 1})
		w.c.add(3 * time.Hour)
		check("hours later", [4]int64{0, 0, 1, 1})
		w.c.add(16 * 24 * time.Hour)
		check("weeks later", [4]int64{0, 0, 0, 1})
		w.c.add(16 * 24 * time.Hour)
		check("a month later", [4]int64{0, 0, 0, 0})
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	w := open(t, d, conduct.Rules{})
	if got, err := w.nodes[0].Judge(t.Context(), 1, mail(1, 1)); err == nil || got.Action != conduct.Allow {
		t.Errorf("without tables: %+v, %v", got, err)
	}
	w.nodes[0].Count(t.Context(), 1, mail(7, 7))
	if err := w.nodes[0].Flush(t.Context()); err == nil {
		t.Error("no error without tables")
	}
	must(t, db.Migrate(t.Context(), d, []db.Component{conduct.Component()}))
	w.flush()
	if h, err := w.nodes[1].Habit(t.Context(), 1); err != nil || h.Sent != mail(7, 7) {
		t.Errorf("what could not be written was lost: %+v, %v", h, err)
	}
	for _, r := range []conduct.Rules{{RefusedPercent: 101}, {FreshFactor: -1}, {For: -1}} {
		if _, err := conduct.New(conduct.Config{DB: d, Rules: r}); err == nil {
			t.Errorf("%+v is taken", r)
		}
	}
	for a := conduct.Slow; a <= conduct.Refuse; a++ {
		if got, err := conduct.ParseAction(a.String()); err != nil || got != a {
			t.Errorf("%v: %v, %v", a, got, err)
		}
	}
	if _, err := conduct.ParseAction("allow"); err == nil {
		t.Error("allow is taken for a rule's action")
	}
}

func BenchmarkJudge(b *testing.B) {
	d := dbtest.SQLite(b)
	must(b, db.Migrate(b.Context(), d, []db.Component{conduct.Component()}))
	w := open(b, d, conduct.Rules{})
	b.ReportAllocs()
	for b.Loop() {
		if d := w.send(0, 1, mail(1, 0)); d.Action != conduct.Allow {
			b.Fatal(d)
		}
	}
}

// TestEachCountsOnce: while counts are written, by both nodes, an account still has exactly
// what it is allowed.
func TestEachCountsOnce(t *testing.T) {
	t.Parallel()
	each(t, conduct.Rules{}, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(context.Background())
		var group sync.WaitGroup
		group.Go(func() {
			for ctx.Err() == nil {
				if err := w.nodes[0].Flush(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
		for id := range envelope.AccountID(5) {
			for i := range 51 {
				want := conduct.Allow
				if i == 50 {
					want = conduct.Hold
				}
				if d := w.send(0, id+1, mail(1, 1)); d.Action != want {
					t.Errorf("account %d, message %d: %+v", id+1, i+1, d)
				}
			}
		}
		cancel()
		group.Wait()
	})
}
