package dnslist_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/dnslist"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/verdict"
)

const zoneText = `
9.2.0.192.zen.example.       A   127.0.0.4
9.2.0.192.zen.example.       A   127.0.0.10
9.2.0.192.zen.example.       TXT "see https://zen.example/9 \"é\""
10.2.0.192.zen.example.      A   127.0.0.10
11.2.0.192.zen.example.      A   127.255.255.254
11.2.0.192.zen.example.      A   127.0.0.4
12.2.0.192.zen.example.      A   192.0.2.77
8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.zen.example. A 127.0.0.2
9.2.0.192.bits.example.      A   127.0.0.6
13.2.0.192.white.example.    A   127.0.5.3
14.2.0.192.white.example.    A   127.0.0.255
spam.co.uk.uri.example.      A   127.0.0.2
me.github.io.uri.example.    A   127.0.0.4
xn--jkry-bta.example.uri.example. A 127.0.0.2
7.2.0.192.uri.example.       A   127.0.0.2
block.uri.example.           A   127.0.0.1
bulk.sender.example.dom.example. A 127.0.1.2
!servfail 9.2.0.192.down.example
`

func zone(t testing.TB, text string) resolver.Resolver {
	t.Helper()
	z, err := resolver.NewZone(text)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// log notes what hooks say.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) hooks() dnslist.Hooks {
	note := func(format string, args ...any) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, fmt.Sprintf(format, args...))
	}
	return dnslist.Hooks{
		Asked:   func(zone string, o dnslist.Outcome, _ time.Duration) { note("%s %s", zone, o) },
		Refused: func(zone string, a netip.Addr) { note("%s refused with %s", zone, a) },
		Health: func(zone string, why error) {
			if why == nil {
				note("%s on", zone)
				return
			}
			note("%s off", zone)
		},
	}
}

func (l *log) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.lines
	l.lines = nil
	slices.Sort(out)
	return out
}

func newLists(t testing.TB, c dnslist.Config) *dnslist.Lists {
	t.Helper()
	l, err := dnslist.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func lists() []dnslist.List {
	return []dnslist.List{
		{Zone: "zen.example.", Weight: 1.5, Reason: true, Answers: []dnslist.Answer{
			{Prefix: netip.MustParsePrefix("127.0.0.2/31"), Label: "SBL"},
			{Prefix: netip.MustParsePrefix("127.0.0.4/32"), Label: "XBL", Weight: 2},
			{Prefix: netip.MustParsePrefix("127.0.0.10/31"), Label: "PBL", Ignore: true},
		}},
		{Zone: "bits.example", Answers: []dnslist.Answer{{Mask: 2, Label: "relays", Weight: 0.5}, {Mask: 4, Label: "dial-up", Weight: 0.25}, {Mask: 8, Label: "no"}}},
		{Zone: "down.example"},
		{Zone: "white.example", Kind: dnslist.Allow},
		{Zone: "uri.example", Kind: dnslist.URI},
		{Zone: "dom.example", Kind: dnslist.Domain},
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	z := zone(t, zoneText)
	for _, c := range []struct {
		name, ip string
		want     []verdict.Item
		log      []string
	}{
		{"listed twice", "192.0.2.9", []verdict.Item{
			{Name: verdict.DNSBlocked, Scale: 2, Detail: `192.0.2.9 (XBL) listed by zen.example: see https://zen.example/9 "?"`},
			{Name: verdict.DNSBlocked, Scale: 0.5, Detail: "192.0.2.9 (relays, dial-up) listed by bits.example"},
		}, []string{"bits.example listed", "down.example failed", "white.example absent", "zen.example listed"}},
		{"mapped", "::ffff:192.0.2.9", []verdict.Item{
			{Name: verdict.DNSBlocked, Scale: 2, Detail: `192.0.2.9 (XBL) listed by zen.example: see https://zen.example/9 "?"`},
			{Name: verdict.DNSBlocked, Scale: 0.5, Detail: "192.0.2.9 (relays, dial-up) listed by bits.example"},
		}, []string{"bits.example listed", "down.example failed", "white.example absent", "zen.example listed"}},
		{"IPv6", "2001:db8::8", []verdict.Item{{Name: verdict.DNSBlocked, Scale: 1.5, Detail: "2001:db8::8 (SBL) listed by zen.example"}},
			[]string{"bits.example absent", "down.example absent", "white.example absent", "zen.example listed"}},
		{"an answer that is ignored", "192.0.2.10", nil, []string{"bits.example absent", "down.example absent", "white.example absent", "zen.example absent"}},
		{"refused", "192.0.2.11", nil,
			[]string{"bits.example absent", "down.example absent", "white.example absent", "zen.example off", "zen.example refused", "zen.example refused with 127.255.255.254"}},
		{"an answer elsewhere", "192.0.2.12", nil, []string{"bits.example absent", "down.example absent", "white.example absent", "zen.example failed"}},
		{"allowed", "192.0.2.13", []verdict.Item{{Name: verdict.DNSAllowed, Scale: 1, Detail: "192.0.2.13 listed by white.example"}},
			[]string{"bits.example absent", "down.example absent", "white.example listed", "zen.example absent"}},
		{"over the quota of an allowlist", "192.0.2.14", nil,
			[]string{"bits.example absent", "down.example absent", "white.example off", "white.example refused", "white.example refused with 127.0.0.255", "zen.example absent"}},
		{"private", "10.0.0.1", nil, nil},
		{"loopback", "127.0.0.2", nil, nil},
		{"link-local", "fe80::1", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var l log
			got := newLists(t, dnslist.Config{Resolver: z, Lists: lists(), Hooks: l.hooks()}).Host(t.Context(), netip.MustParseAddr(c.ip))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(c.log, l.take()); diff != "" {
				t.Errorf("hooks, -want +got:\n%s", diff)
			}
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	z := zone(t, zoneText)
	for _, c := range []struct {
		name    string
		uris    []string
		domains []string
		want    []verdict.Item
	}{
		{"registrable domain", []string{"WWW.Spam.co.uk.", "deep.www.spam.co.uk"}, nil,
			[]verdict.Item{{Name: verdict.URIBlocked, Scale: 1, Detail: "spam.co.uk listed by uri.example"}}},
		{"under a private suffix", []string{"me.github.io", "github.io"}, nil,
			[]verdict.Item{{Name: verdict.URIBlocked, Scale: 1, Detail: "me.github.io listed by uri.example"}}},
		{"one item for several", []string{"spam.co.uk", "jąkry.example", "192.0.2.7", "me.github.io"}, nil,
			[]verdict.Item{{Name: verdict.URIBlocked, Scale: 1, Detail: "spam.co.uk, xn--jkry-bta.example, 192.0.2.7 listed by uri.example"}}},
		{"address in brackets", []string{"[::ffff:192.0.2.7]"}, nil, []verdict.Item{{Name: verdict.URIBlocked, Scale: 1, Detail: "192.0.2.7 listed by uri.example"}}},
		{"nothing to ask", []string{"localhost", "", "10.0.0.1", "a b", "[::1]", "co.uk", strings.Repeat("x", 300) + ".example"}, nil, nil},
		{"127.0.0.1 refuses", []string{"block"}, nil, nil},
		{"domain in full", nil, []string{"bulk.sender.example", "sender.example", "bulk.sender.example."},
			[]verdict.Item{{Name: verdict.DNSBlocked, Scale: 1, Detail: "bulk.sender.example listed by dom.example"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLists(t, dnslist.Config{Resolver: z, Lists: lists()})
			got := l.URIs(t.Context(), c.uris)
			if c.domains != nil {
				got = l.Domains(t.Context(), c.domains)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestMany has a message with very many links: the first distinct ones are asked for.
func TestMany(t *testing.T) {
	t.Parallel()
	var hosts []string
	for i := range 10_000 {
		hosts = append(hosts, fmt.Sprintf("h%d.x%d.example", i, i/2))
	}
	var l log
	newLists(t, dnslist.Config{Resolver: zone(t, zoneText), Lists: lists(), Hooks: l.hooks()}).URIs(t.Context(), hosts)
	if got := len(l.take()); got != 20 {
		t.Errorf("%d questions, want 20", got)
	}
}

// TestSlow has a list that never answers beside one that does: the time is bounded, what is known counts.
func TestSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		z := zone(t, "9.2.0.192.quick.example. A 127.0.0.2\n!timeout 9.2.0.192.slow.example\n!timeout 9.2.0.192.slower.example\n")
		l := newLists(t, dnslist.Config{Resolver: z, Lists: []dnslist.List{{Zone: "slow.example"}, {Zone: "quick.example"}, {Zone: "slower.example"}}, Timeout: 3 * time.Second})
		begun := time.Now()
		got := l.Host(t.Context(), netip.MustParseAddr("192.0.2.9"))
		if took := time.Since(begun); took != 3*time.Second || len(got) != 1 {
			t.Errorf("got %v after %v", got, took)
		}
	})
}

// TestSilent has a list that has stopped to answer: messages wait for it eight times, not for ever.
func TestSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l log
		all := newLists(t, dnslist.Config{Resolver: zone(t, "!timeout 9.2.0.192.slow.example\n"), Lists: []dnslist.List{{Zone: "slow.example"}}, Hooks: dnslist.Hooks{Health: l.hooks().Health}})
		begun := time.Now()
		for range 3 { // an asker who leaves says nothing of the list
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			all.Host(ctx, netip.MustParseAddr("192.0.2.9"))
		}
		for range 20 {
			all.Host(t.Context(), netip.MustParseAddr("192.0.2.9"))
		}
		if took := time.Since(begun); took != 8*5*time.Second || !errors.Is(all.Health()[0].Off, dnslist.ErrSilent) {
			t.Errorf("%v, %+v", took, all.Health())
		}
		if diff := cmp.Diff([]string{"slow.example off"}, l.take()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// changing is a Resolver that can be exchanged.
type changing struct {
	mu sync.Mutex
	r  resolver.Resolver
}

func (c *changing) set(r resolver.Resolver) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r = r
}

func (c *changing) Lookup(ctx context.Context, name string, t resolver.Type) (resolver.Answer, error) {
	c.mu.Lock()
	r := c.r
	c.mu.Unlock()
	return r.Lookup(ctx, name, t)
}

// TestHealth has lists that break and mend (RFC 5782 §5).
func TestHealth(t *testing.T) {
	t.Parallel()
	const good = "2.0.0.127.a.example. A 127.0.0.2\ntest.u.example. A 127.0.0.2\npoint.test.p.example. A 127.0.0.2\n9.2.0.192.a.example. A 127.0.0.2\n9.2.0.192.n.example. A 127.0.0.2\n"
	config := []dnslist.List{{Zone: "a.example"}, {Zone: "u.example", Kind: dnslist.URI}, {Zone: "p.example", Kind: dnslist.Domain, Test: "point.test"}, {Zone: "n.example", NoTest: true}}
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"names everything", good + "1.0.0.127.a.example. A 127.0.0.2", dnslist.ErrWildcard},
		{"ended", strings.Replace(good, "2.0.0.127.a", "x.a", 1), dnslist.ErrEmpty},
		{"parked", strings.Replace(good, "2.0.0.127.a.example. A 127.0.0.2", "2.0.0.127.a.example. A 192.0.2.1", 1), dnslist.ErrMadeUp},
		{"refuses", good + "2.0.0.127.a.example. A 127.255.255.254", dnslist.ErrRefused},
		{"fails", good + "!servfail 2.0.0.127.a.example", dnslist.ErrSilent},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var l log
				dns := &changing{r: zone(t, c.text)}
				all := newLists(t, dnslist.Config{Resolver: dns, Lists: config, Hooks: dnslist.Hooks{Health: l.hooks().Health}})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- all.Run(ctx) }()
				synctest.Wait()
				if h := all.Health(); !errors.Is(h[0].Off, c.want) || h[1].Off != nil || h[2].Off != nil || h[3].Off != nil {
					t.Errorf("got %+v, want %v", h, c.want)
				}
				if got := all.Host(ctx, netip.MustParseAddr("192.0.2.9")); len(got) != 1 || !strings.Contains(got[0].Detail, "n.example") {
					t.Errorf("with the list off: %+v", got)
				}
				dns.set(zone(t, good))
				<-time.After(61 * time.Second) // of the bubble
				synctest.Wait()
				if got := all.Host(ctx, netip.MustParseAddr("192.0.2.9")); len(got) != 2 {
					t.Errorf("with the list on again: %+v", got)
				}
				if diff := cmp.Diff([]string{"a.example off", "a.example on"}, l.take()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestConfig has mistakes, which are named all at once.
func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := dnslist.New(dnslist.Config{Lists: []dnslist.List{
		{Zone: "a b"}, {Zone: "neg.example", Weight: -1}, {Zone: "far.example", Answers: []dnslist.Answer{{Prefix: netip.MustParsePrefix("10.0.0.2/32")}}},
		{Zone: "wide.example", Answers: []dnslist.Answer{{Prefix: netip.MustParsePrefix("127.0.0.0/7")}}}, {Zone: "none.example", Answers: []dnslist.Answer{{}}},
	}})
	for _, want := range []string{"Resolver is missing", `"a b"`, "neg.example", "far.example", "wide.example", "none.example"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	for k := dnslist.Block; k <= dnslist.Domain; k++ {
		if got, err := dnslist.ParseKind(k.String()); err != nil || got != k {
			t.Errorf("%v: %v, %v", k, got, err)
		}
	}
	if _, err := dnslist.ParseKind("x"); err == nil {
		t.Error("a kind x was taken")
	}
}

// FuzzNames has hosts of any octets.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"www.spam.co.uk", "[::1]", "1.2.3.4", "xn--", "a..b", "ą.pl", `a\.b.pl`, "fe80::1%x"} {
		f.Add(s)
	}
	z := zone(f, zoneText)
	f.Fuzz(func(t *testing.T, s string) {
		l := newLists(t, dnslist.Config{Resolver: z, Lists: lists()})
		for _, it := range append(l.URIs(t.Context(), []string{s}), l.Domains(t.Context(), []string{s})...) {
			if it.Detail == "" || len(it.Detail) > verdict.MaxDetailOctets || it.Scale <= 0 {
				t.Errorf("%q: %+v", s, it)
			}
		}
	})
}
