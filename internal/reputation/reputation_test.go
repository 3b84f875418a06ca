package reputation_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/verdict"
)

var start = time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC)

// clock is a time that tests move.
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

func addr(t testing.TB, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func subject(t testing.TB, peer, from string) reputation.Subject {
	t.Helper()
	sub := reputation.Subject{}
	if peer != "" {
		sub.Peer = netip.MustParseAddr(peer)
	}
	if from != "" {
		sub.Address = addr(t, from)
		sub.Domain = sub.Address.Domain()
	}
	return sub
}

func open(t testing.TB, d db.Database, c *clock, change func(*reputation.Config)) *reputation.Store {
	t.Helper()
	cfg := reputation.Config{DB: d, Now: c.Now}
	if change != nil {
		change(&cfg)
	}
	s, err := reputation.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func flush(t testing.TB, s *reputation.Store) {
	t.Helper()
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func each(t *testing.T, fn func(t *testing.T, d db.Database)) {
	dbtest.Each(t, []db.Component{reputation.Component()}, fn)
}

// names are the items as "name scale".
func names(items []verdict.Item) []string {
	var out []string
	for _, it := range items {
		out = append(out, fmt.Sprintf("%s %.2f", it.Name, it.Scale))
	}
	return out
}

func TestSeen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		good, bad int
		want      []string
	}{
		{"never", 0, 0, nil},
		{"too seldom", 4, 0, nil},
		{"too seldom for bad", 0, 4, nil},
		{"good, a little", 5, 0, []string{"reputation_network_good 0.17", "reputation_domain_good 0.17", "reputation_sender_good 0.17"}},
		{"good", 100, 0, []string{"reputation_network_good 0.95", "reputation_domain_good 0.95", "reputation_sender_good 0.95"}},
		{"good with a slip", 99, 1, []string{"reputation_network_good 0.87", "reputation_domain_good 0.87", "reputation_sender_good 0.87"}},
		{"some of both", 60, 40, nil},
		{"bad, a little", 0, 5, []string{"reputation_network_bad 0.67", "reputation_domain_bad 0.67", "reputation_sender_bad 0.67"}},
		{"bad", 5, 95, []string{"reputation_network_bad 0.85", "reputation_domain_bad 0.85", "reputation_sender_bad 0.85"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := dbtest.SQLite(t)
			if err := db.Migrate(t.Context(), d, []db.Component{reputation.Component()}); err != nil {
				t.Fatal(err)
			}
			s := open(t, d, &clock{now: start}, nil)
			sub := subject(t, "192.0.2.1", "jan@example.net")
			for range tt.good {
				s.Note(t.Context(), sub, false, 1)
			}
			for range tt.bad {
				s.Note(t.Context(), sub, true, 1)
			}
			for _, when := range []string{"noted", "written"} {
				got, err := s.Seen(t.Context(), sub)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, names(got)); diff != "" {
					t.Errorf("%s: %s", when, diff)
				}
				for _, it := range got {
					if len(it.Detail) > verdict.MaxDetailOctets || !strings.Contains(it.Detail, fmt.Sprint(tt.good)) {
						t.Errorf("detail %q", it.Detail)
					}
				}
				flush(t, s)
			}
		})
	}
}

func TestWhoIsCounted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		c := &clock{now: start}
		s := open(t, d, c, func(cfg *reputation.Config) { cfg.Ignore = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/25")} })
		for range 20 {
			s.Note(ctx, subject(t, "192.0.2.1", "jan@example.net"), true, 1)
			s.Note(ctx, subject(t, "2001:db8:7:1::1", ""), true, 1)
			s.Note(ctx, subject(t, "127.0.0.1", ""), true, 1)
			s.Note(ctx, subject(t, "198.51.100.5", ""), true, 1)
			s.Note(ctx, subject(t, "", "x@[203.0.113.9]"), true, 1)
		}
		flush(t, s)
		for _, tt := range []struct {
			name, peer, from string
			want             int
		}{
			{"neighbour", "192.0.2.200", "", 1},
			{"the next network", "192.0.3.1", "", 0},
			{"IPv4 in IPv6", "::ffff:192.0.2.7", "", 1},
			{"the same /48", "2001:db8:7:ffff::9", "", 1},
			{"another /48", "2001:db8:8::9", "", 0},
			{"loopback", "127.0.0.1", "", 0},
			{"ignored", "198.51.100.5", "", 0},
			{"another address of the domain", "", "ola@example.net", 1},
			{"the address in capitals", "", "JAN@EXAMPLE.net", 2},
			{"another domain", "", "jan@example.org", 0},
			{"an address literal has no domain's reputation", "", "x@[203.0.113.9]", 1},
		} {
			got, err := s.Seen(ctx, subject(t, tt.peer, tt.from))
			if err != nil || len(got) != tt.want {
				t.Errorf("%s: %v, %v, want %d items", tt.name, got, err, tt.want)
			}
		}
	})
}

// TestCountsFade compares rows that two nodes add to with sums of floating-point numbers.
func TestCountsFade(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		c := &clock{now: start}
		nodes := []*reputation.Store{open(t, d, c, nil), open(t, d, c, nil)}
		sub := subject(t, "192.0.2.1", "")
		rnd := rand.New(rand.NewPCG(1, 2))
		var good, bad float64
		for i := range 300 {
			n := nodes[rnd.IntN(2)]
			spam, weight := rnd.IntN(3) == 0, float64(1+rnd.IntN(3))
			n.Note(ctx, sub, spam, weight)
			if spam {
				bad += weight
			} else {
				good += weight
			}
			if rnd.IntN(10) == 0 || i == 299 {
				flush(t, nodes[0])
				flush(t, nodes[1])
			}
			gone := time.Duration(rnd.IntN(48)) * time.Hour
			if rnd.IntN(60) == 0 {
				gone += 40 * 24 * time.Hour // past a whole period
			}
			if i == 299 {
				gone = 2 * time.Minute // so that no node answers from memory
			}
			c.add(gone)
			f := math.Exp2(-gone.Hours() / (30 * 24))
			good, bad = good*f, bad*f
		}
		for i, n := range nodes {
			st, err := n.Look(ctx, sub)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(st[0].Good-good) > 0.01*good || math.Abs(st[0].Bad-bad) > 0.01*bad {
				t.Errorf("node %d: %.3f good and %.3f bad, want %.3f and %.3f", i, st[0].Good, st[0].Bad, good, bad)
			}
		}
	})
}

func TestCorrect(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		c := &clock{now: start}
		s := open(t, d, c, nil)
		sub := subject(t, "", "jan@example.net")
		s.Note(ctx, sub, false, 10)
		flush(t, s)
		s.Correct(ctx, sub, true)
		flush(t, s)
		check := func(what string, good, bad float64) {
			t.Helper()
			st, err := s.Look(ctx, sub)
			if err != nil || math.Abs(st[0].Good-good) > 0.01 || math.Abs(st[0].Bad-bad) > 0.01 {
				t.Errorf("%s: %+v, %v, want %v and %v", what, st, err, good, bad)
			}
		}
		check("one marked as spam", 9, reputation.CorrectionWeight)
		for range 10 {
			s.Correct(ctx, sub, false)
			flush(t, s)
		}
		check("counts don't fall below zero", 9+10*reputation.CorrectionWeight, 0)
	})
}

func TestTrap(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		c := &clock{now: start}
		s, other := open(t, d, c, nil), open(t, d, c, nil)
		spammer, provider := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.1")
		s.Note(ctx, reputation.Subject{Peer: provider}, false, 500)
		s.NoteTrap(ctx, spammer)
		s.NoteTrap(ctx, provider)
		flush(t, s)
		check := func(what string, peer netip.Addr, want bool) {
			t.Helper()
			for _, n := range []*reputation.Store{s, other} {
				items, err := n.Seen(ctx, reputation.Subject{Peer: peer})
				got := false
				for _, it := range items {
					got = got || it.Name == verdict.SpamTrap
				}
				if err != nil || got != want {
					t.Errorf("%s: %v, %v, want %v", what, items, err, want)
				}
			}
		}
		check("a neighbour at once", netip.MustParseAddr("192.0.2.2"), true)
		check("a provider with much good mail", provider, false)
		check("another network", netip.MustParseAddr("192.0.3.2"), false)
		c.add(23 * time.Hour)
		check("within a day", spammer, true)
		c.add(2 * time.Hour)
		check("after a day", spammer, false)
	})
}

func TestCorrespondents(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		c := &clock{now: start}
		s, other := open(t, d, c, nil), open(t, d, c, nil)
		jan, ola, eva := addr(t, "jan@example.net"), addr(t, "ola@example.net"), addr(t, "eva@example.net")
		check := func(what string, who address.Address, wrote, received bool, want ...string) {
			t.Helper()
			for i, n := range []*reputation.Store{s, other} {
				a, err := n.Knows(ctx, 1, who)
				if err != nil || a.Wrote != wrote || a.Received != received {
					t.Errorf("%s: node %d: %+v, %v", what, i, a, err)
				}
				if diff := cmp.Diff(want, append(names(a.Items(true)), names(a.Items(false))...)); diff != "" {
					t.Errorf("%s: %s", what, diff)
				}
			}
		}
		check("nobody", eva, false, false, "sender_first_time 0.00", "sender_first_time 0.00")
		s.Wrote(ctx, 1, jan, addr(t, "JAN@Example.net"))
		s.Received(ctx, 1, ola)
		if a, err := s.Knows(ctx, 1, jan); err != nil || !a.Wrote {
			t.Errorf("known before it is written: %+v, %v", a, err)
		}
		flush(t, s)
		check("written to", jan, true, false, "correspondent 0.00")
		check("heard from", ola, false, true)
		s.Wrote(ctx, 1, ola)
		flush(t, s)
		c.add(2 * time.Minute)
		check("both", ola, true, true, "correspondent 0.00")
		if a, err := s.Knows(ctx, 2, jan); err != nil || a.Wrote || a.Received {
			t.Errorf("another account: %+v, %v", a, err)
		}
		if n, err := other.Strangers(ctx, 1, []address.Address{jan, ola, eva}); err != nil || n != 1 {
			t.Errorf("%d strangers, %v", n, err)
		}
		c.add(200 * 24 * time.Hour)
		check("half a year later", ola, true, false, "correspondent 0.00")
		c.add(600 * 24 * time.Hour)
		check("two years later", jan, false, false, "sender_first_time 0.00", "sender_first_time 0.00")
		if err := s.Sweep(ctx); err != nil || count(t, d, "correspondent") != 0 {
			t.Errorf("%d rows are left, %v", count(t, d, "correspondent"), err)
		}
		s.Wrote(ctx, 1, jan)
		s.Wrote(ctx, 2, jan)
		flush(t, s)
		s.Wrote(ctx, 1, eva)
		if err := d.Update(ctx, func(tx db.Tx) error { return s.Purge(tx, 1) }); err != nil {
			t.Fatal(err)
		}
		s.Forget(1)
		flush(t, s)
		if n := count(t, d, "correspondent"); n != 1 {
			t.Errorf("%d rows after one of two accounts was removed", n)
		}
	})
}

func count(t testing.TB, d db.Database, table string) (n int64) {
	t.Helper()
	if err := d.View(context.Background(), func(tx db.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM ` + table).Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSweep(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		c := &clock{now: start}
		s := open(t, d, c, func(cfg *reputation.Config) { cfg.MaxRows, cfg.MaxCorrespondents = 30, 10 })
		note := func(n int, from string) {
			for i := range n {
				s.Note(ctx, reputation.Subject{Address: addr(t, fmt.Sprintf("%s%d@example.net", from, i))}, false, 1)
			}
			flush(t, s)
		}
		sweep := func(what string, want int64) {
			t.Helper()
			if err := s.Sweep(ctx); err != nil || count(t, d, "reputation") != want {
				t.Errorf("%s: %d rows, %v, want %d", what, count(t, d, "reputation"), err, want)
			}
		}
		note(20, "a")
		sweep("below the bound", 20)
		c.add(24 * time.Hour)
		note(11, "b")
		sweep("one beyond the bound", 30)
		c.add(24 * time.Hour)
		note(25, "c")
		sweep("beyond the bound", 30)
		if st, err := s.Look(ctx, reputation.Subject{Address: addr(t, "c7@example.net")}); err != nil || st[0].Good == 0 {
			t.Errorf("the newest left: %+v, %v", st, err)
		}
		c.add(91 * 24 * time.Hour)
		sweep("after three months", 0)
		for i := range 15 {
			s.Wrote(ctx, 1, addr(t, fmt.Sprintf("u%d@example.net", i)))
			s.Wrote(ctx, 2, addr(t, fmt.Sprintf("u%d@example.net", i%5)))
		}
		flush(t, s)
		if err := s.Sweep(ctx); err != nil || count(t, d, "correspondent") != 15 {
			t.Errorf("%d correspondents, %v, want 10 and 5", count(t, d, "correspondent"), err)
		}
	})
}

// TestBrokenDatabase: what could not be written is written later, and asking tells the error.
func TestBrokenDatabase(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	s := open(t, d, &clock{now: start}, nil)
	sub := subject(t, "192.0.2.1", "jan@example.net")
	s.Note(t.Context(), sub, true, 7)
	s.Wrote(t.Context(), 1, sub.Address)
	if err := s.Flush(t.Context()); err == nil { // there are no tables yet
		t.Fatal("no error without tables")
	}
	if _, err := s.Seen(t.Context(), sub); err == nil {
		t.Error("Seen hides that the database fails")
	}
	if err := db.Migrate(t.Context(), d, []db.Component{reputation.Component()}); err != nil {
		t.Fatal(err)
	}
	flush(t, s)
	if r, c := count(t, d, "reputation"), count(t, d, "correspondent"); r != 3 || c != 1 {
		t.Errorf("%d and %d rows were written later, want 3 and 1", r, c)
	}
}

func TestRunWritesAtTheEnd(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{reputation.Component()}); err != nil {
		t.Fatal(err)
	}
	s := open(t, d, &clock{now: start}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.Note(ctx, subject(t, "192.0.2.1", ""), true, 1)
	cancel()
	if err := <-done; err != nil || count(t, d, "reputation") != 1 {
		t.Errorf("%v, %d rows", err, count(t, d, "reputation"))
	}
}

// TestMemoryIsBounded: a flood of names finds no room and does not harm those that have it.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{reputation.Component()}); err != nil {
		t.Fatal(err)
	}
	dropped := 0
	s := open(t, d, &clock{now: start}, func(c *reputation.Config) { c.Hooks.Dropped = func() { dropped++ } })
	for i := range 20_500 {
		s.Note(t.Context(), reputation.Subject{Address: addr(t, fmt.Sprintf("u%d@example.net", i))}, true, 1)
	}
	flush(t, s)
	if n := count(t, d, "reputation"); n != 20_000 || dropped != 500 {
		t.Errorf("%d rows and %d dropped", n, dropped)
	}
}

func BenchmarkSeen(b *testing.B) {
	d := dbtest.SQLite(b)
	if err := db.Migrate(b.Context(), d, []db.Component{reputation.Component()}); err != nil {
		b.Fatal(err)
	}
	s := open(b, d, &clock{now: start}, nil)
	sub := subject(b, "192.0.2.1", "jan@example.net")
	s.Note(b.Context(), sub, false, 100)
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Seen(b.Context(), sub); err != nil {
				b.Fatal(err)
			}
			s.Note(b.Context(), sub, false, 1)
		}
	})
	b.Run("strangers", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			sub := reputation.Subject{Peer: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Address: addr(b, fmt.Sprintf("u%d@example.net", i))}
			if _, err := s.Seen(b.Context(), sub); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// slow is a database whose low lane waits.
type slow struct {
	db.Database
	begun, go_ chan struct{}
}

func (d *slow) UpdateLow(ctx context.Context, fn func(db.Tx) error) error {
	d.begun <- struct{}{}
	<-d.go_
	return d.Database.UpdateLow(ctx, fn)
}

// TestSeenWhileWritten: what is on its way to the database counts meanwhile.
func TestSeenWhileWritten(t *testing.T) {
	t.Parallel()
	d := &slow{dbtest.SQLite(t), make(chan struct{}), make(chan struct{})}
	if err := db.Migrate(t.Context(), d.Database, []db.Component{reputation.Component()}); err != nil {
		t.Fatal(err)
	}
	s := open(t, d, &clock{now: start}, nil)
	sub := subject(t, "", "jan@example.net")
	check := func(when string) {
		t.Helper()
		items, err := s.Seen(t.Context(), sub)
		if diff := cmp.Diff([]string{"reputation_domain_bad 0.67", "reputation_sender_bad 0.67"}, names(items)); err != nil || diff != "" {
			t.Errorf("%s: %v %s", when, err, diff)
		}
		if a, err := s.Knows(t.Context(), 1, sub.Address); err != nil || !a.Wrote {
			t.Errorf("%s: %+v, %v", when, a, err)
		}
	}
	s.Note(t.Context(), sub, true, 5)
	s.Wrote(t.Context(), 1, sub.Address)
	check("before")
	done := make(chan error, 1)
	go func() { done <- s.Flush(t.Context()) }()
	<-d.begun
	check("meanwhile")
	close(d.go_)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	check("after")
}

// TestFlushEnds: mail that keeps coming does not keep Flush writing, a few rows at a time.
func TestFlushEnds(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{reputation.Component()}); err != nil {
		t.Fatal(err)
	}
	sub := subject(t, "192.0.2.1", "jan@good.test")
	var written []int
	var s *reputation.Store
	s = open(t, d, &clock{now: start}, func(c *reputation.Config) {
		c.Hooks.Written = func(rows int, _ time.Duration) {
			if written = append(written, rows); len(written) < 100 {
				s.Note(t.Context(), sub, false, 1)
			}
		}
	})
	s.Note(t.Context(), sub, false, 1)
	flush(t, s)
	if diff := cmp.Diff([]int{3}, written); diff != "" {
		t.Errorf("rows of each transaction (-want +got):\n%s", diff)
	}
	for i := range 500 {
		s.Note(t.Context(), subject(t, fmt.Sprintf("198.18.%d.1", i%250), fmt.Sprintf("p%d@good.test", i)), false, 1)
	}
	written = make([]int, 0, 100)
	flush(t, s)
	left := 0
	for _, rows := range written {
		left += rows
	}
	if len(written) > 5 || left < 750 {
		t.Errorf("751 rows were written in pieces of %v", written)
	}
}

// TestSeenWhileSwept has somebody write again while another node sweeps who was not seen for long: what is known of
// them stays.
func TestSeenWhileSwept(t *testing.T) {
	t.Parallel()
	d := dbtest.Postgres(t)
	if err := db.Migrate(t.Context(), d, []db.Component{reputation.Component()}); err != nil {
		t.Fatal(err)
	}
	m := &dbtest.Meanwhile{Database: d}
	c := &clock{now: start}
	s, other := open(t, m, c, nil), open(t, d, c, nil)
	sub, friend := subject(t, "192.0.2.1", ""), addr(t, "jan@example.net")
	end := func() {}
	sweep := func() { end = dbtest.Begin(t, d, func() error { return other.Sweep(t.Context()) }) }

	s.Note(t.Context(), sub, true, 1)
	flush(t, s)
	c.add(200 * 24 * time.Hour)
	s.Note(t.Context(), sub, true, 1)
	s.Received(t.Context(), 1, friend)
	m.Arm("INSERT INTO correspondent", sweep)
	flush(t, s)
	end()
	if all, err := other.Look(t.Context(), sub); err != nil || all[0].Bad < 0.9 {
		t.Errorf("the network is known as %+v, %v", all, err)
	}

	c.add(200 * 24 * time.Hour)
	s.Received(t.Context(), 1, friend)
	s.Received(t.Context(), 2, friend) // is written behind the other
	m.Arm("INSERT INTO correspondent", func() { m.Arm("INSERT INTO correspondent", sweep) })
	flush(t, s)
	end()
	if got, err := other.Knows(t.Context(), 1, friend); err != nil || !got.Received {
		t.Errorf("the friend is known as %+v, %v", got, err)
	}
}
