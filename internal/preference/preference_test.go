package preference_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/preference"
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

func open(t testing.TB, d db.Database, c *clock) *preference.Preferences {
	t.Helper()
	p, err := preference.New(preference.Config{DB: d, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func each(t *testing.T, fn func(t *testing.T, d db.Database)) {
	dbtest.Each(t, []db.Component{preference.Component()}, fn)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestParsePattern(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, own, common string }{ // "" is refused
		{"address", "Jan@Example.NET", "jan@example.net", "jan@example.net"},
		{"domain", "Example.net", "example.net", "example.net"},
		{"domain with an at-sign", "@example.net", "example.net", "example.net"},
		{"below a domain", ".example.net", ".example.net", ".example.net"},
		{"below a domain with an at-sign", "@.example.net", ".example.net", ".example.net"},
		{"in U-labels", "jan@żółw.example", "jan@xn--w-uga1v8h.example", "jan@xn--w-uga1v8h.example"},
		{"top-level domain", ".xyz", ".xyz", ".xyz"},
		{"host", "192.0.2.7", "", "192.0.2.7/32"},
		{"network", "192.0.2.7/24", "", "192.0.2.0/24"},
		{"IPv4 in IPv6", "::ffff:192.0.2.7", "", "192.0.2.7/32"},
		{"IPv4 network in IPv6", "::ffff:192.0.2.7/120", "", "192.0.2.0/24"},
		{"IPv6", "2001:db8::1/32", "", "2001:db8::/32"},
		{"everybody", "0.0.0.0/0", "", ""},
		{"nothing", "", "", ""},
		{"a dot", ".", "", ""},
		{"a star", "*", "", ""},
		{"a star in a domain", "*.example.net", "", ""},
		{"two at-signs", "a@b@example.net", "", ""},
		{"address literal", "[192.0.2.1]", "", ""},
		{"spaces", " jan@example.net ", "jan@example.net", "jan@example.net"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for common, want := range map[bool]string{false: tt.own, true: tt.common} {
				got, err := preference.ParsePattern(tt.in, common)
				if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, preference.ErrInvalid) {
					t.Errorf("common %v: %q, %v, want %q", common, got, err, want)
				}
			}
		})
	}
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{"jan@example.net", ".example.net", "192.0.2.0/24", "::ffff:1.2.3.4/100", `"a b"@x.example`, "@żółw.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		own, err := preference.ParsePattern(s, false)
		if err != nil {
			return
		}
		if _, err := netip.ParsePrefix(own); err == nil || own == "" || len(own) > 1024 {
			t.Fatalf("%q is read as %q", s, own)
		}
		if common, err := preference.ParsePattern(s, true); err != nil || common != own {
			t.Fatalf("%q is %q for an account and %q, %v, for the server", s, own, common, err)
		}
		if again, err := preference.ParsePattern(own, false); err == nil && again != own && !strings.Contains(s, `"`) {
			t.Fatalf("%q is read as %q, and that as %q", s, own, again)
		}
	})
}

func TestMatch(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		p := open(t, d, &clock{now: start})
		must(t, p.Add(ctx, 1,
			preference.Entry{Pattern: "jan@example.net", Allow: true}, preference.Entry{Pattern: "example.net"}, preference.Entry{Pattern: ".example.net", Allow: true},
			preference.Entry{Pattern: "mail.example.net"}, preference.Entry{Pattern: "bad@example.com"}, preference.Entry{Pattern: ".xyz"}))
		must(t, p.Add(ctx, preference.Common,
			preference.Entry{Pattern: "192.0.2.0/24"}, preference.Entry{Pattern: "192.0.2.128/25", Allow: true}, preference.Entry{Pattern: "2001:db8::/32"},
			preference.Entry{Pattern: "partner.example", Allow: true}, preference.Entry{Pattern: "worst.example"}))
		for _, tt := range []struct {
			name, from, path, peer string
			proven                 string // f, p
			want                   []verdict.Name
		}{
			{"nobody", "x@y.example", "x@y.example", "203.0.113.1", "fp", nil},
			{"allowed and proven", "Jan@Example.net", "", "203.0.113.1", "f", []verdict.Name{verdict.Allowed}},
			{"allowed, nothing proves it", "jan@example.net", "x@y.example", "203.0.113.1", "p", []verdict.Name{verdict.AllowedUnsure}},
			{"allowed by the reverse-path", "x@y.example", "jan@example.net", "203.0.113.1", "p", []verdict.Name{verdict.Allowed}},
			{"the reverse-path is not proven", "x@y.example", "jan@example.net", "203.0.113.1", "f", []verdict.Name{verdict.AllowedUnsure}},
			{"his domain", "ola@example.net", "", "", "fp", []verdict.Name{verdict.Blocked}},
			{"below his domain", "ola@a.b.example.net", "", "", "fp", []verdict.Name{verdict.Allowed}},
			{"the nearer entry counts", "ola@mail.example.net", "", "", "fp", []verdict.Name{verdict.Blocked}},
			{"below the nearer entry", "ola@x.mail.example.net", "", "", "fp", []verdict.Name{verdict.Allowed}},
			{"a domain that ends alike", "ola@notexample.net", "", "", "fp", nil},
			{"blocked without proof", "bad@example.com", "", "", "", []verdict.Name{verdict.Blocked}},
			{"blocked by the reverse-path", "x@y.example", "bad@example.com", "", "", []verdict.Name{verdict.Blocked}},
			{"a forged friend of a blocked reverse-path", "jan@example.net", "bad@example.com", "", "p", []verdict.Name{verdict.Blocked}},
			{"a real friend of a blocked reverse-path", "jan@example.net", "bad@example.com", "", "fp", []verdict.Name{verdict.Allowed}},
			{"top-level domain", "a@b.c.xyz", "", "", "fp", []verdict.Name{verdict.Blocked}},
			{"blocked host", "x@y.example", "", "192.0.2.1", "", []verdict.Name{verdict.BlockedCommon}},
			{"blocked host, IPv4 in IPv6", "x@y.example", "", "::ffff:192.0.2.1", "", []verdict.Name{verdict.BlockedCommon}},
			{"the smaller network counts", "x@y.example", "", "192.0.2.129", "", []verdict.Name{verdict.AllowedCommon}},
			{"IPv6", "x@y.example", "", "2001:db8:7::1", "", []verdict.Name{verdict.BlockedCommon}},
			{"a domain of the server's list", "x@partner.example", "", "", "f", []verdict.Name{verdict.AllowedCommon}},
			{"the server's and the account's", "jan@example.net", "x@worst.example", "203.0.113.1", "f", []verdict.Name{verdict.BlockedCommon, verdict.Allowed}},
			{"null reverse-path, no From", "", "", "", "", nil},
		} {
			s := preference.Sender{FromProven: strings.Contains(tt.proven, "f"), PathProven: strings.Contains(tt.proven, "p")}
			if tt.from != "" {
				s.From = addr(t, tt.from)
			}
			if tt.path != "" {
				s.ReversePath = address.NewReversePath(addr(t, tt.path))
			}
			if tt.peer != "" {
				s.Peer = netip.MustParseAddr(tt.peer)
			}
			items, err := p.Match(ctx, 1, s)
			var got []verdict.Name
			for _, it := range items {
				got = append(got, it.Name)
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%s: %v, %v, want %v", tt.name, items, err, tt.want)
			}
			for _, it := range items {
				if slices.Contains([]verdict.Name{verdict.Allowed, verdict.Blocked, verdict.AllowedUnsure}, it.Name) {
					if other, err := p.Match(ctx, 2, s); err != nil || slices.Contains(other, it) {
						t.Errorf("%s: the list of account 1 counts for account 2: %v, %v", tt.name, other, err)
					}
				}
			}
		}
	})
}

// TestEffect: a change counts at once through one object, and within two seconds on another node.
func TestEffect(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		c := &clock{now: start}
		p, other := open(t, d, c), open(t, d, c)
		jan := preference.Sender{From: addr(t, "jan@example.net"), FromProven: true}
		count := func(n *preference.Preferences) int {
			t.Helper()
			items, err := n.Match(ctx, 1, jan)
			must(t, err)
			return len(items)
		}
		check := func(what string, here, there int) {
			t.Helper()
			if a, b := count(p), count(other); a != here || b != there {
				t.Errorf("%s: %d here and %d there, want %d and %d", what, a, b, here, there)
			}
		}
		check("nothing", 0, 0)
		must(t, p.Add(ctx, 1, preference.Entry{Pattern: "jan@example.net"}))
		check("just added", 1, 0)
		c.add(2 * time.Second)
		check("two seconds later", 1, 1)
		must(t, p.Remove(ctx, 1, "JAN@example.net"))
		check("just removed", 0, 1)
		c.add(2 * time.Second)
		check("two seconds later", 0, 0)
		must(t, p.Add(ctx, preference.Common, preference.Entry{Pattern: "example.net"}))
		check("added for all", 1, 0)
		must(t, d.Update(ctx, func(tx db.Tx) error { return p.Purge(tx, preference.Common) }))
		c.add(2 * time.Second)
		check("purged", 0, 0)
		must(t, p.Add(ctx, 1, preference.Entry{Pattern: "example.net"}))
		c.add(2 * time.Second)
		check("added", 1, 1)
		must(t, d.Update(ctx, func(tx db.Tx) error { return p.Purge(tx, 1) }))
		must(t, p.Add(ctx, 1, preference.Entry{Pattern: "example.com"}))
		c.add(2 * time.Second)
		check("purged and made anew", 0, 0)
	})
}

func TestSettings(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		c := &clock{now: start}
		p, other := open(t, d, c), open(t, d, c)
		if got, err := p.Settings(ctx, 1); err != nil || got != (preference.Settings{}) {
			t.Errorf("of an account that said nothing: %+v, %v", got, err)
		}
		want := preference.Settings{Level: preference.Strict, Wish: preference.WishQuarantine, Digest: preference.No, Language: "pl", Bulk: preference.No}
		must(t, p.Set(ctx, 1, want))
		must(t, p.Add(ctx, 1, preference.Entry{Pattern: "example.net"}))
		for _, n := range []*preference.Preferences{p, other} {
			if got, err := n.Settings(ctx, 1); err != nil || got != want {
				t.Errorf("%+v, %v", got, err)
			}
		}
		for _, bad := range []preference.Settings{{Level: "x"}, {Wish: "x"}, {Digest: "x"}, {Bulk: "x"}, {Language: "de"}} {
			if err := p.Set(ctx, 1, bad); !errors.Is(err, preference.ErrInvalid) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	})
	server := verdict.Thresholds{Tag: 3, Grey: 4, Junk: 6, Quarantine: 10, Refuse: 15, Second: 3}
	for _, tt := range []struct {
		name string
		s    preference.Settings
		want verdict.Thresholds
	}{
		{"nothing said", preference.Settings{}, server},
		{"lenient", preference.Settings{Level: preference.Lenient}, verdict.Thresholds{Tag: 4.5, Grey: 6, Junk: 9, Quarantine: 15, Refuse: 22.5, Second: 3}},
		{"off", preference.Settings{Level: preference.Off, Wish: preference.WishTag}, verdict.Thresholds{Second: 3}},
		{"junk", preference.Settings{Wish: preference.WishJunk}, verdict.Thresholds{Tag: 3, Grey: 4, Junk: 6, Refuse: 15, Second: 3}},
		{"quarantine", preference.Settings{Wish: preference.WishQuarantine}, verdict.Thresholds{Tag: 3, Grey: 4, Quarantine: 6, Refuse: 15, Second: 3}},
		{"tag", preference.Settings{Wish: preference.WishTag}, verdict.Thresholds{Tag: 3, Grey: 4, Refuse: 15, Second: 3}},
		{"deliver", preference.Settings{Wish: preference.WishDeliver}, verdict.Thresholds{Grey: 4, Refuse: 15, Second: 3}},
	} {
		if diff := cmp.Diff(tt.want, tt.s.Thresholds(server)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	if !preference.Choice("").Or(true) || preference.Choice("").Or(false) || preference.No.Or(true) || !preference.Yes.Or(false) {
		t.Error("Or")
	}
}

// TestWishes: what becomes of scores under each wish, by package verdict itself.
func TestWishes(t *testing.T) {
	t.Parallel()
	const weight = 7.0 // of classifier_spam
	for _, tt := range []struct {
		s    preference.Settings
		want string // for scores 5, 8, 12, 20
	}{
		{preference.Settings{}, "tag junk quarantine refuse"},
		{preference.Settings{Level: preference.Strict}, "junk quarantine refuse refuse"},
		{preference.Settings{Level: preference.Off}, "deliver deliver deliver deliver"},
		{preference.Settings{Wish: preference.WishJunk}, "tag junk junk refuse"},
		{preference.Settings{Wish: preference.WishQuarantine}, "tag quarantine quarantine refuse"},
		{preference.Settings{Wish: preference.WishTag}, "tag tag tag refuse"},
		{preference.Settings{Wish: preference.WishDeliver}, "deliver deliver deliver refuse"},
	} {
		var got []string
		for _, score := range []float64{5, 8, 12, 20} {
			v := verdict.Decide([]verdict.Item{{Name: verdict.ClassSpam, Scale: score / weight}}, verdict.Settings{Thresholds: tt.s.Thresholds(verdict.DefaultThresholds())})
			got = append(got, v.Action.String())
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%+v: %s, want %s", tt.s, s, tt.want)
		}
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		p := open(t, d, &clock{now: start})
		must(t, p.Add(ctx, 1, preference.Entry{Pattern: "b.example", Note: "a\x00note"}, preference.Entry{Pattern: `"a b"@x.example`, Allow: true}))
		must(t, p.Add(ctx, 1, preference.Entry{Pattern: "B.example", Allow: true}))
		got, err := p.List(ctx, 1, "")
		want := []preference.Entry{{Pattern: "a b@x.example", Allow: true, Added: start}, {Pattern: "b.example", Allow: true, Added: start}}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		must(t, p.Remove(ctx, 1, got[0].Pattern)) // as List shows it, which is no address to write
		if got, err := p.List(ctx, 1, "a"); err != nil || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
		for _, tt := range []struct {
			name string
			err  error
			want error
		}{
			{"remove what is not there", p.Remove(ctx, 1, "c.example"), preference.ErrNotFound},
			{"remove what can't be", p.Remove(ctx, 1, "c@@"), preference.ErrInvalid},
			{"add what can't be", p.Add(ctx, 1, preference.Entry{Pattern: "ok.example"}, preference.Entry{Pattern: "192.0.2.1"}), preference.ErrInvalid},
			{"a long note", p.Add(ctx, 1, preference.Entry{Pattern: "ok.example", Note: strings.Repeat("x", 201)}), preference.ErrInvalid},
			{"no such trap", p.RemoveTrap(ctx, "x@example.org"), preference.ErrNotFound},
		} {
			if !errors.Is(tt.err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, tt.err, tt.want)
			}
		}
		many := make([]preference.Entry, preference.MaxEntries)
		for i := range many {
			many[i].Pattern = fmt.Sprintf("d%d.example", i)
		}
		if err := p.Add(ctx, 1, many...); !errors.Is(err, preference.ErrFull) { // with the one that is there
			t.Errorf("one too many: %v", err)
		}
		must(t, p.Add(ctx, 1, many[1:]...))
		if err := p.Add(ctx, 1, preference.Entry{Pattern: "more.example"}); !errors.Is(err, preference.ErrFull) {
			t.Errorf("one more: %v", err)
		}
		n := 0
		for after := ""; ; {
			page, err := p.List(ctx, 1, after)
			must(t, err)
			if n += len(page); len(page) < preference.MaxPage {
				break
			}
			after = page[len(page)-1].Pattern
		}
		if n != preference.MaxEntries {
			t.Errorf("%d entries in pages", n)
		}
		for _, d := range []string{"d1.example", "d999.example"} { // of the first page and of the last
			if items, err := p.Match(ctx, 1, preference.Sender{From: addr(t, "x@"+d)}); err != nil || len(items) != 1 {
				t.Errorf("%s: %v, %v", d, items, err)
			}
		}
	})
}

func TestTraps(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		c := &clock{now: start}
		p, other := open(t, d, c), open(t, d, c)
		check := func(what string, want map[string]preference.Trap) {
			t.Helper()
			got := map[string]preference.Trap{}
			for _, n := range []*preference.Preferences{p, other} {
				for _, a := range []string{"Trap@Example.org", "trap2@example.org", "sales.1@example.org", "SALES@example.org", "sale@example.org", "any@old.example", "any@x.old.example"} {
					kind, err := n.IsTrap(ctx, addr(t, a))
					must(t, err)
					if kind != preference.NoTrap {
						got[a] = kind
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
			}
			c.add(2 * time.Second)
		}
		check("none", map[string]preference.Trap{})
		for _, s := range []string{"trap@example.org", "trap@EXAMPLE.org", "Sales*@example.org", " *@old.example "} {
			must(t, p.AddTrap(ctx, s))
		}
		check("added", map[string]preference.Trap{"Trap@Example.org": preference.ExactTrap, "sales.1@example.org": preference.PatternTrap, "SALES@example.org": preference.PatternTrap, "any@old.example": preference.PatternTrap})
		if got, err := p.Traps(ctx); err != nil || !slices.Equal(got, []string{"*@old.example", "sales*@example.org", "trap@example.org"}) {
			t.Errorf("%v, %v", got, err)
		}
		must(t, p.AddTrap(ctx, "sales@example.org"))
		c.add(2 * time.Second)
		if kind, err := p.IsTrap(ctx, addr(t, "sales@example.org")); err != nil || kind != preference.ExactTrap {
			t.Errorf("named itself, and by a pattern: %v, %v", kind, err)
		}
		for _, s := range []string{"TRAP@example.org", "sales*@example.org", "sales@example.org", "*@old.example"} {
			must(t, other.RemoveTrap(ctx, s))
		}
		c.add(2 * time.Second)
		check("removed", map[string]preference.Trap{})
		for _, s := range []string{"", "*", "*@", "example.org", "a*b*@example.org", "a*b@", "*@*", "*@*.example.org", "**@example.org", "*x@@example.org", "\"a\"*@example.org", strings.Repeat("a", 2000) + "*@example.org"} {
			if err := p.AddTrap(ctx, s); !errors.Is(err, preference.ErrInvalid) {
				t.Errorf("trap %.30q: %v", s, err)
			}
		}
	})
}

// FuzzParseTrap: what is stored is read as the same again.
func FuzzParseTrap(f *testing.F) {
	for _, s := range []string{"a@b.example", "*@b.example", "Jan*@B.example", "jäkä*@ä.example", "a*b@c.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		trap, err := preference.ParseTrap(s)
		if err != nil {
			return
		}
		if again, err := preference.ParseTrap(trap); err != nil || again != trap {
			t.Errorf("%q is %q, which is %q, %v", s, trap, again, err)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	d := dbtest.SQLite(b)
	must(b, db.Migrate(b.Context(), d, []db.Component{preference.Component()}))
	p := open(b, d, &clock{now: start})
	for i := range 1000 {
		must(b, p.Add(b.Context(), 1, preference.Entry{Pattern: fmt.Sprintf("d%d.example", i)}))
	}
	s := preference.Sender{From: addr(b, "jan@a.b.c.example.net"), Peer: netip.MustParseAddr("192.0.2.1")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Match(b.Context(), 1, s); err != nil {
			b.Fatal(err)
		}
	}
}
