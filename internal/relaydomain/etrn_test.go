package relaydomain_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/relaydomain"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/smtp"
)

type queue struct {
	ran     []string
	waiting map[string]int
	err     error
}

func (q *queue) Run(_ context.Context, d address.Domain) (int, error) {
	q.ran = append(q.ran, d.String())
	return q.waiting[d.String()], q.err
}

func TestStart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		peer, node string
		waiting    int
		want       string
		ran        []string
	}{
		{"192.0.2.5", "call.example", 3, "250", []string{"call.example"}},
		{"::ffff:192.0.2.5", "CALL.example", 3, "250", []string{"call.example"}},
		{"192.0.2.5", "@call.example", 3, "250", []string{"call.example"}},
		{"192.0.2.7", "@call.example", 7, "250", []string{"call.example", "sub.call.example"}},
		{"192.0.2.7", "@example", 7, "250", []string{"call.example", "sub.call.example"}},
		{"192.0.2.7", "sub.call.example", 4, "250", []string{"sub.call.example"}},
		{"192.0.2.5", "sub.call.example", 0, "459 7.1", nil},
		{"192.0.2.5", "other.example", 0, "459 7.1", nil},
		{"192.0.2.5", "all.example", 0, "459 7.1", nil},
		{"192.0.2.5", "@all.example", 0, "459 7.1", nil},
		{"192.0.2.5", "list.example", 0, "459 7.1", nil},
		{"2001:db8::1", "list.example", -1, "250", []string{"list.example"}},
		{"198.51.100.1", "call.example", 0, "459 7.1", nil},
	} {
		q := &queue{waiting: map[string]int{"call.example": 3, "sub.call.example": 4, "list.example": -1}}
		h := newHouse(t, func(c *relaydomain.Config) { c.Queue = q })
		node, err := smtp.ParseETRN(tt.node)
		if err != nil {
			t.Fatal(err)
		}
		waiting, err := h.Start(t.Context(), netip.MustParseAddr(tt.peer), node)
		slices.Sort(q.ran)
		if got := code(err); got != tt.want || waiting != tt.waiting || !slices.Equal(q.ran, tt.ran) {
			t.Errorf("%s for %s: %d, %s, ran %q; want %d, %s, %q", tt.node, tt.peer, waiting, got, q.ran, tt.waiting, tt.want, tt.ran)
		}
	}
}

func TestStarts(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *relaydomain.Config) { c.Queue = &queue{} })
	for peer, want := range map[string]bool{"192.0.2.5": true, "2001:db8::1": true, "198.51.100.1": false, "::1": false} {
		if got := h.Starts(netip.MustParseAddr(peer)); got != want {
			t.Errorf("%s: %v", peer, got)
		}
	}
	if h.Starts(netip.Addr{}) {
		t.Error("a peer without an address may start queues")
	}
	h = newHouse(t, nil)
	if h.Starts(netip.MustParseAddr("192.0.2.5")) {
		t.Error("ETRN without a queue")
	}
	if _, err := h.Start(t.Context(), netip.MustParseAddr("192.0.2.5"), smtp.Node{Domain: domain(t, "call.example")}); code(err) != "459 7.1" {
		t.Errorf("without a queue: %v", err)
	}
}

// TestStartRate: a domain's queue is run five times at once, then once a minute; a
// queue that fails says so.
func TestStartRate(t *testing.T) {
	t.Parallel()
	q := &queue{}
	h := newHouse(t, func(c *relaydomain.Config) { c.Queue = q })
	start := func() string {
		_, err := h.Start(t.Context(), netip.MustParseAddr("192.0.2.5"), smtp.Node{Domain: domain(t, "call.example")})
		return code(err)
	}
	for i := range 7 {
		want := "250"
		if i >= 5 {
			want = "458 7.0"
		}
		if got := start(); got != want {
			t.Errorf("time %d: %s, want %s", i, got, want)
		}
	}
	h.now = h.now.Add(time.Minute)
	q.err = errors.New("database is on fire")
	if got := start(); got != "458 3.0" {
		t.Error(got)
	}
	if len(q.ran) != 6 {
		t.Errorf("ran %d times", len(q.ran))
	}
}

// TestMX: a backup MX goes to hosts of a better preference than its own; a named host
// is taken as it is named.
func TestMX(t *testing.T) {
	t.Parallel()
	zone, err := resolver.NewZone(`
$ORIGIN example.org.
@     MX 10 main
      MX 20 backup
      MX 30 last
main  A 192.0.2.10
      AAAA 2001:db8::10
backup A 192.0.2.20
last  A 192.0.2.30
only  MX 10 backup
`)
	if err != nil {
		t.Fatal(err)
	}
	lookup, err := mx.New(mx.Config{Resolver: zone, Names: []address.Domain{domain(t, "backup.example.org")}})
	if err != nil {
		t.Fatal(err)
	}
	f := &relaydomain.MX{Lookup: lookup, Port: 25}
	for _, tt := range []struct {
		domain, host string
		want         []string
	}{
		{"example.org", "", []string{"192.0.2.10:25", "[2001:db8::10]:25"}},
		{"only.example.org", "", nil},
		{"example.org", "last.example.org:2525", []string{"192.0.2.30:2525"}},
		{"example.org", "127.0.0.1:2525", []string{"127.0.0.1:2525"}},
		{"example.org", "[::1]:25", []string{"[::1]:25"}},
		{"example.org", "127.0.0.1", nil},
		{"example.org", "127.0.0.1:0", nil},
		{"example.org", "127.0.0.1:99999", nil},
		{"example.org", "bad name:25", nil},
		{"example.org", "gone.example.org:25", nil},
	} {
		addrs, err := f.Find(t.Context(), domain(t, tt.domain), tt.host)
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		slices.Sort(got)
		slices.Sort(tt.want)
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("%s at %q: %q, %v; want %q", tt.domain, tt.host, got, err, tt.want)
		}
	}
}
