package greylist_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/greylist"
	"poczta.example/poczta/internal/verdict"
)

var start = time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC)

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

func try(t testing.TB, peer, from, domain string) greylist.Try {
	t.Helper()
	d, err := address.ParseDomain(domain)
	if err != nil {
		t.Fatal(err)
	}
	out := greylist.Try{Domain: d}
	if peer != "" {
		out.Peer = netip.MustParseAddr(peer)
	}
	if from != "" {
		a, err := address.Parse(from)
		if err != nil {
			t.Fatal(err)
		}
		out.ReversePath = address.NewReversePath(a)
	}
	return out
}

func open(t testing.TB, d db.Database, c *clock, change func(*greylist.Config)) *greylist.List {
	t.Helper()
	cfg := greylist.Config{DB: d, Now: c.Now}
	if change != nil {
		change(&cfg)
	}
	l, err := greylist.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func each(t *testing.T, fn func(t *testing.T, d db.Database)) {
	dbtest.Each(t, []db.Component{greylist.Component()}, fn)
}

func count(t testing.TB, d db.Database, table string) (n int64) {
	t.Helper()
	if err := d.View(context.Background(), func(tx db.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM ` + table).Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStranger follows a host through its days; odd steps are asked of another node.
func TestStranger(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		c := &clock{now: start}
		nodes := []*greylist.List{open(t, d, c, nil), open(t, d, c, nil)}
		const day = 24 * time.Hour
		for i, tt := range []struct {
			name               string
			at                 time.Duration
			peer, from, domain string
			want               greylist.Decision
		}{
			{"first", 0, "192.0.2.1", "jan@example.net", "example.org", greylist.Decision{Action: greylist.Wait, After: 3 * time.Minute, First: true}},
			{"too soon", time.Minute, "192.0.2.1", "jan@example.net", "example.org", greylist.Decision{Action: greylist.Wait, After: 2 * time.Minute}},
			{"another sender", 2 * time.Minute, "192.0.2.1", "ola@example.net", "example.org", greylist.Decision{Action: greylist.Wait, After: 3 * time.Minute, First: true}},
			{"another domain", 3 * time.Minute, "192.0.2.1", "jan@example.net", "example.com", greylist.Decision{Action: greylist.Wait, After: 3 * time.Minute, First: true}},
			{"another network", 3 * time.Minute, "192.0.3.1", "jan@example.net", "example.org", greylist.Decision{Action: greylist.Wait, After: 3 * time.Minute, First: true}},
			{"null reverse-path", 3 * time.Minute, "192.0.4.1", "", "example.org", greylist.Decision{Action: greylist.Wait, After: 3 * time.Minute, First: true}},
			{"again from the pool", 4 * time.Minute, "192.0.2.99", "JAN@example.net", "example.org", greylist.Decision{Waited: 4 * time.Minute}},
			{"known", 5 * time.Minute, "192.0.2.1", "new@example.net", "example.com", greylist.Decision{Known: true}},
			{"known to both nodes", 5 * time.Minute, "::ffff:192.0.2.1", "new@example.net", "example.com", greylist.Decision{Known: true}},
			{"IPv6", 5 * time.Minute, "2001:db8::1", "jan@example.net", "example.org", greylist.Decision{Action: greylist.Wait, After: 3 * time.Minute, First: true}},
			{"IPv6, same /64", 9 * time.Minute, "2001:db8::2:3", "jan@example.net", "example.org", greylist.Decision{Waited: 4 * time.Minute}},
			{"too late", 3*time.Minute + 2*day + time.Second, "192.0.3.1", "jan@example.net", "example.org", greylist.Decision{Action: greylist.Wait, After: 3 * time.Minute, First: true}},
			{"known for long", 35 * day, "192.0.2.1", "x@example.net", "example.org", greylist.Decision{Known: true}},
			{"known for long to both", 35 * day, "192.0.2.1", "x@example.net", "example.org", greylist.Decision{Known: true}},
			{"known anew", 70 * day, "192.0.2.1", "x@example.net", "example.org", greylist.Decision{Known: true}},
			{"no longer known", 107 * day, "192.0.2.1", "x@example.net", "example.org", greylist.Decision{Action: greylist.Wait, After: 3 * time.Minute, First: true}},
			{"loopback", 107 * day, "127.0.0.1", "x@example.net", "example.org", greylist.Decision{Known: true}},
			{"no address", 107 * day, "", "x@example.net", "example.org", greylist.Decision{Known: true}},
		} {
			c.set(start.Add(tt.at))
			got, err := nodes[i%2].Check(ctx, try(t, tt.peer, tt.from, tt.domain))
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s: %s", tt.name, diff)
			}
			if items := got.Items(); (len(items) == 1 && items[0].Name == verdict.Greylisted) != (tt.want.Waited > 0) {
				t.Errorf("%s: items %v", tt.name, items)
			}
			for _, n := range nodes {
				if err := n.Flush(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := nodes[0].Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if tries, known := count(t, d, "greylist_try"), count(t, d, "greylist_known"); tries != 1 || known != 0 {
			t.Errorf("%d tries and %d networks are left", tries, known)
		}
	})
}

// TestKnownNetworksAreNotWritten: for each message of a known network nothing is written, and
// the refresh is one row a day.
func TestKnownNetworksAreNotWritten(t *testing.T) {
	t.Parallel()
	d := &counting{Database: dbtest.SQLite(t)}
	if err := db.Migrate(t.Context(), d.Database, []db.Component{greylist.Component()}); err != nil {
		t.Fatal(err)
	}
	c := &clock{now: start}
	l := open(t, d, c, nil)
	check := func() {
		t.Helper()
		if _, err := l.Check(t.Context(), try(t, "192.0.2.1", "jan@example.net", "example.org")); err != nil {
			t.Fatal(err)
		}
	}
	check()
	c.set(start.Add(5 * time.Minute))
	check()
	if d.updates != 2 {
		t.Errorf("%d writes for a first try and its return, want 2", d.updates)
	}
	d.updates, d.views = 0, 0
	for i := range 100 {
		c.set(start.Add(5*time.Minute + time.Duration(i)*time.Second))
		check()
	}
	if err := l.Flush(t.Context()); err != nil || d.updates != 0 || d.views != 0 {
		t.Errorf("%d writes and %d reads for 100 messages of a known network, %v", d.updates, d.views, err)
	}
	c.set(start.Add(25 * time.Hour))
	for range 100 {
		check()
	}
	if err := l.Flush(t.Context()); err != nil || d.updates != 1 {
		t.Errorf("%d writes a day later, %v, want 1", d.updates, err)
	}
}

// counting counts transactions.
type counting struct {
	db.Database
	updates, views int
}

func (d *counting) Update(ctx context.Context, fn func(db.Tx) error) error {
	d.updates++
	return d.Database.Update(ctx, fn)
}

func (d *counting) UpdateLow(ctx context.Context, fn func(db.Tx) error) error {
	d.updates++
	return d.Database.UpdateLow(ctx, fn)
}

func (d *counting) View(ctx context.Context, fn func(db.Tx) error) error {
	d.views++
	return d.Database.View(ctx, fn)
}

// TestFlood: a flood of first tries is bounded, and one network can't push out others.
func TestFlood(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		c := &clock{now: start}
		var dropped int64
		l := open(t, d, c, func(cfg *greylist.Config) {
			cfg.MaxTries, cfg.MaxPerNetwork = 250, 20
			cfg.Hooks.Dropped = func(n int64) { dropped += n }
		})
		check := func(peer, from string) greylist.Decision {
			t.Helper()
			got, err := l.Check(ctx, try(t, peer, from, "example.org"))
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		check("192.0.2.1", "jan@example.net")
		for i := range 300 {
			c.set(start.Add(time.Duration(i) * time.Millisecond))
			check("203.0.113.7", fmt.Sprintf("u%d@example.net", i))
		}
		if n := count(t, d, "greylist_try"); n != 21 || dropped != 280 {
			t.Errorf("%d tries are kept of a flood from one network, %d dropped", n, dropped)
		}
		c.set(start.Add(4 * time.Minute))
		if got := check("192.0.2.1", "jan@example.net"); got.Waited != 4*time.Minute {
			t.Errorf("another network suffers from the flood: %+v", got)
		}
		for i := range 400 {
			c.set(start.Add(5*time.Minute + time.Duration(i)*time.Millisecond))
			check(fmt.Sprintf("10.%d.%d.1", i/200, i%200), "x@example.net")
		}
		if n := count(t, d, "greylist_try"); n > 250+1 || n < 150 {
			t.Errorf("%d tries are kept of a flood from many networks", n)
		}
	})
}

// TestAtOnce: of tries at the same time on two nodes all wait by one clock.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		c := &clock{now: start}
		nodes := []*greylist.List{open(t, d, c, nil), open(t, d, c, nil)}
		var group sync.WaitGroup
		x := try(t, "192.0.2.1", "jan@example.net", "example.org")
		for i := range 8 {
			group.Go(func() {
				if got, err := nodes[i%2].Check(context.Background(), x); err != nil || got.Action != greylist.Wait {
					t.Errorf("%+v, %v", got, err)
				}
			})
		}
		group.Wait()
		c.set(start.Add(3 * time.Minute))
		for i := range 8 {
			group.Go(func() {
				if got, err := nodes[i%2].Check(context.Background(), x); err != nil || got.Action != greylist.Pass {
					t.Errorf("three minutes later: %+v, %v", got, err)
				}
			})
		}
		group.Wait()
		if tries, known := count(t, d, "greylist_try"), count(t, d, "greylist_known"); tries != 0 || known != 1 {
			t.Errorf("%d tries and %d networks", tries, known)
		}
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	l := open(t, d, &clock{now: start}, nil)
	got, err := l.Check(t.Context(), try(t, "192.0.2.1", "jan@example.net", "example.org"))
	if err == nil || got.Action != greylist.Pass {
		t.Errorf("without tables: %+v, %v", got, err)
	}
	for _, c := range []greylist.Config{{}, {DB: d, Delay: time.Hour, Window: time.Minute}, {DB: d, Delay: -1}} {
		if _, err := greylist.New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// TestBegunWhileSwept has a stranger begin anew while another node sweeps first tries that are too old: it need not
// begin a third time.
func TestBegunWhileSwept(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t)
	if err := db.Migrate(t.Context(), d, []db.Component{greylist.Component()}); err != nil {
		t.Fatal(err)
	}
	m := &dbtest.Meanwhile{Database: d}
	c := &clock{now: start}
	l, other := open(t, m, c, nil), open(t, d, c, nil)
	check := func(want greylist.Action) {
		t.Helper()
		if got, err := l.Check(t.Context(), try(t, "192.0.2.1", "jan@example.net", "example.org")); got.Action != want || err != nil {
			t.Errorf("%+v, %v, want %v", got, err, want)
		}
	}
	check(greylist.Wait)
	c.set(start.Add(3 * 24 * time.Hour))
	end := func() {}
	m.Arm("SELECT COUNT(*)", func() { end = dbtest.Begin(t, d, func() error { return other.Sweep(t.Context()) }) })
	check(greylist.Wait)
	end()
	c.set(start.Add(3*24*time.Hour + 5*time.Minute))
	check(greylist.Pass)
}
