package limit_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/limit"
)

var epoch = time.Unix(1_700_000_000, 0)

func buckets(t testing.TB, rate limit.Rate, keys int) *limit.Buckets[string] {
	t.Helper()
	b, err := limit.NewBuckets[string](rate, keys)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBucketFillsAndEmpties(t *testing.T) {
	t.Parallel()
	b := buckets(t, limit.Rate{Burst: 3, Every: 10 * time.Second}, 0)
	for i, tc := range []struct {
		after time.Duration // since the begin
		want  bool
		wait  time.Duration // afterwards
	}{
		{0, true, 0}, {0, true, 0}, {0, true, 10 * time.Second}, {0, false, 10 * time.Second},
		{9 * time.Second, false, time.Second}, {10 * time.Second, true, 10 * time.Second},
		{time.Hour, true, 0}, {time.Hour, true, 0}, {time.Hour, true, 10 * time.Second}, {time.Hour, false, 10 * time.Second},
		{0, false, time.Hour + 10*time.Second}, // the clock stepped back: stricter, never laxer
	} {
		now := epoch.Add(tc.after)
		if got := b.Allow("k", now); got != tc.want {
			t.Errorf("step %d: got %v, want %v", i, got, tc.want)
		}
		if got := b.Wait("k", now); got != tc.wait {
			t.Errorf("step %d: must wait %v, want %v", i, got, tc.wait)
		}
		if got := b.Peek("k", now); got != (tc.wait == 0) {
			t.Errorf("step %d: Peek says %v", i, got)
		}
	}
	if !b.Allow("other", epoch) {
		t.Error("keys are not apart")
	}
	b.Refund("other", epoch)
	b.Refund("other", epoch) // one too many: the bucket is only full
	if got := b.Len(); got != 1 {
		t.Errorf("%d keys are held, want 1: a full bucket needs no place", got)
	}
	if b.AllowN("other", 4, epoch) || !b.AllowN("other", 3, epoch) || b.Allow("other", epoch) || !b.AllowN("other", 0, epoch) {
		t.Error("AllowN takes other than all or nothing")
	}
}

// TestBucketsModel compares with buckets kept as plain numbers of tokens.
func TestBucketsModel(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	const burst = 5
	b := buckets(t, limit.Rate{Burst: burst, Every: time.Second}, 0)
	type bucket struct {
		tokens float64
		at     time.Time
	}
	model := map[string]*bucket{}
	now := epoch
	for i := range 20_000 {
		now = now.Add(time.Duration(rnd.IntN(8)) * 50 * time.Millisecond)
		key := fmt.Sprint(rnd.IntN(4))
		m := model[key]
		if m == nil {
			m = &bucket{burst, now}
			model[key] = m
		}
		m.tokens = math.Min(burst, m.tokens+now.Sub(m.at).Seconds())
		m.at = now
		if rnd.IntN(8) == 0 {
			b.Refund(key, now)
			m.tokens = math.Min(burst, m.tokens+1)
			continue
		}
		want := m.tokens > 1-1e-6
		if want {
			m.tokens--
		}
		if got := b.Allow(key, now); got != want {
			t.Fatalf("step %d: got %v with %.3f tokens", i, got, m.tokens)
		}
	}
}

func TestBucketsAreBounded(t *testing.T) {
	t.Parallel()
	b := buckets(t, limit.Rate{Burst: 2, Every: time.Hour}, 1600)
	for i := range 100_000 {
		b.Allow(fmt.Sprint(i), epoch)
	}
	if got := b.Len(); got > 1600 {
		t.Errorf("%d keys are held, 1,600 allowed", got)
	}
	// Who has spent most is kept longest.
	for range 2 {
		b.Allow("spent", epoch)
	}
	for i := range 1000 {
		b.Allow(fmt.Sprint("x", i), epoch)
	}
	if b.Allow("spent", epoch) {
		t.Error("the bucket that had spent most was evicted")
	}
	none := buckets(t, limit.Rate{}, 0)
	for range 1000 {
		if !none.Allow("k", epoch) {
			t.Fatal("the zero rate limits")
		}
	}
	if none.Len() != 0 || none.Wait("k", epoch) != 0 {
		t.Error("the zero rate keeps keys")
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rate limit.Rate
		ok   bool
	}{
		"zero":              {limit.Rate{}, true},
		"hour":              {limit.PerHour(60), true},
		"none":              {limit.PerHour(0), true},
		"no burst":          {limit.Rate{Every: time.Second}, false},
		"no time":           {limit.Rate{Burst: 1}, false},
		"negative":          {limit.Rate{Burst: -1, Every: time.Second}, false},
		"overflows":         {limit.Rate{Burst: math.MaxInt, Every: time.Hour}, false},
		"fills in for ever": {limit.Rate{Burst: 3, Every: math.MaxInt64 / 2}, false},
	} {
		_, err := limit.NewBuckets[int](tc.rate, 0)
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, limit.ErrConfig) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := limit.PerHour(60); got.Every != time.Minute || got.Burst != 60 {
		t.Errorf("got %+v", got)
	}
}

func TestGauge(t *testing.T) {
	t.Parallel()
	g := limit.NewGauge[string](2, 0)
	for i, want := range []bool{true, true, false} {
		if got := g.Acquire("k"); got != want {
			t.Errorf("%d: got %v", i, got)
		}
	}
	g.Release("k")
	if g.Count("k") != 1 || !g.Acquire("k") || g.Acquire("k") {
		t.Error("a place given back can't be taken")
	}
	few := limit.NewGauge[int](0, 16)
	admitted := 0
	for i := range 1000 {
		if few.Acquire(i) {
			admitted++
		}
	}
	if admitted > 16 || admitted == 0 {
		t.Errorf("%d keys are held, 16 allowed", admitted)
	}
	defer func() {
		if recover() == nil {
			t.Error("Release without Acquire is silent")
		}
	}()
	g.Release("never")
}

func TestGaugeConcurrent(t *testing.T) {
	t.Parallel()
	g := limit.NewGauge[int](3, 0)
	var now [4]atomic.Int64
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for i := range 2000 {
				key := (w + i) % len(now)
				if g.Acquire(key) {
					if n := now[key].Add(1); n > 3 {
						t.Errorf("%d at once, 3 allowed", n)
					}
					now[key].Add(-1)
					g.Release(key)
				}
			}
		})
	}
	workers.Wait()
	for key := range now {
		if n := g.Count(key); n != 0 {
			t.Errorf("%d of key %d are left", n, key)
		}
	}
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		n          limit.Networks
		addr, want string
	}{
		{limit.Networks{}, "192.0.2.77", "192.0.2.0/24"},
		{limit.Networks{}, "::ffff:192.0.2.77", "192.0.2.0/24"},
		{limit.Networks{}, "2001:db8:1:2:3::4", "2001:db8:1:2::/64"},
		{limit.Networks{}, "fe80::1%eth0", "fe80::/64"},
		{limit.Networks{IPv4Bits: 32, IPv6Bits: 48}, "192.0.2.77", "192.0.2.77/32"},
		{limit.Networks{IPv4Bits: 32, IPv6Bits: 48}, "2001:db8:1:2:3::4", "2001:db8:1::/48"},
	} {
		if got := tc.n.Of(netip.MustParseAddr(tc.addr)); got.String() != tc.want {
			t.Errorf("%s: got %s, want %s", tc.addr, got, tc.want)
		}
	}
	if got := (limit.Networks{}).Of(netip.Addr{}); got.IsValid() {
		t.Errorf("no address has network %s", got)
	}
}

func TestPeers(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	p, err := limit.NewPeers(limit.PeersConfig{PerAddress: 2, PerNetwork: 3, Exempt: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
	take := func(s string, want error) func() {
		t.Helper()
		release, err := p.Acquire(addr(s), epoch)
		if !errors.Is(err, want) || (release == nil) != (err != nil) {
			t.Errorf("%s: got %v, want %v", s, err, want)
		}
		return release
	}
	first := take("192.0.2.1", nil)
	take("::ffff:192.0.2.1", nil)
	take("192.0.2.1", limit.ErrConnections)
	take("192.0.2.2", nil)
	take("192.0.2.3", limit.ErrConnections) // the network is full
	take("192.0.3.3", nil)
	first()
	first() // harmless
	take("192.0.2.3", nil)
	take("192.0.2.4", limit.ErrConnections)
	for range 50 {
		take("127.0.0.1", nil)
		take("::1", nil)
		take("198.51.100.9", nil)
	}

	p, err = limit.NewPeers(limit.PeersConfig{AddressRate: limit.Rate{Burst: 2, Every: time.Minute}, NetworkRate: limit.Rate{Burst: 3, Every: time.Minute}, PerAddress: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		take("192.0.2.1", nil)()
	}
	take("192.0.2.1", limit.ErrRate)
	take("192.0.2.2", nil)()
	take("192.0.2.2", limit.ErrRate) // the network's
	if release, err := p.Acquire(addr("192.0.2.1"), epoch.Add(time.Minute)); err != nil {
		t.Errorf("a minute later: %v", err) // also: a refused one holds no place
	} else {
		release()
	}
	if _, err := limit.NewPeers(limit.PeersConfig{Networks: limit.Networks{IPv4Bits: 33}, AddressRate: limit.Rate{Burst: 1}}); !errors.Is(err, limit.ErrConfig) {
		t.Errorf("got %v", err)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	f, err := limit.NewFailures(limit.FailuresConfig{Address: limit.Rate{Burst: 2, Every: time.Minute}, Network: limit.Rate{Burst: 3, Every: time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	want := func(s string, at time.Duration, want bool) {
		t.Helper()
		if got := f.Begin(addr(s), "", epoch.Add(at)); got != want {
			t.Errorf("%s: got %v", s, got)
		}
	}
	for range 100 {
		want("192.0.2.1", 0, true)
		f.Forgive(addr("192.0.2.1"), "", epoch)
	}
	want("192.0.2.1", 0, true)
	want("192.0.2.1", 0, true)
	want("192.0.2.1", 0, false)
	want("192.0.2.2", 0, true)
	want("192.0.2.3", 0, false)
	want("192.0.2.3", time.Minute, true) // the refusal cost the address nothing
	for range 1000 {
		want("127.0.0.1", 0, true)
	}
	for range 1000 {
		if !f.Begin(netip.Addr{}, "", epoch) {
			t.Fatal("a UNIX socket's peer is throttled like a stranger")
		}
	}
	if _, err := limit.NewFailures(limit.FailuresConfig{Address: limit.Rate{Burst: -1}}); !errors.Is(err, limit.ErrConfig) {
		t.Errorf("got %v", err)
	}
}

// TestAcquaintance wants who has logged in from an address before to be spared the
// failures of others there, and to have no more attempts than an address has.
func TestAcquaintance(t *testing.T) {
	t.Parallel()
	here, elsewhere := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	f, err := limit.NewFailures(limit.FailuresConfig{Address: limit.Rate{Burst: 2, Every: time.Minute}, Network: limit.Rate{Burst: 3, Every: time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	want := func(from netip.Addr, login string, at time.Duration, want bool) {
		t.Helper()
		if got := f.Begin(from, login, epoch.Add(at)); got != want {
			t.Errorf("%s as %q: got %v, want %v", from, login, got, want)
		}
	}
	want(here, "ala", 0, true)
	f.Forgive(here, "ala", epoch)
	f.Know(here, "ala", epoch)
	for range 2 {
		want(here, "stranger", 0, true)
	}
	want(here, "stranger", 0, false) // the address is used up
	want(here, "ola", 0, false)
	for range 100 {
		want(here, "ala", 0, true)
		f.Forgive(here, "ala", epoch)
	}
	want(here, "ala", 0, true)
	want(here, "ala", 0, true)
	want(here, "ala", 0, false) // guesses at a known login are bounded too
	want(netip.MustParseAddr("::ffff:192.0.2.1"), "ala", 0, false)
	want(elsewhere, "ala", 0, true) // an acquaintance is one of an address
	want(elsewhere, "ala", 0, true)
	want(elsewhere, "ala", 0, false)
	gateway := netip.MustParseAddr("127.0.0.1")
	f.Know(gateway, "ala", epoch)
	for range 100 {
		want(gateway, "ala", 0, true)
	}
	for range 2 { // long after the last success ala is a stranger again
		want(here, "stranger", 31*24*time.Hour, true)
	}
	want(here, "ala", 31*24*time.Hour, false)
}

func BenchmarkFailures(b *testing.B) {
	f, err := limit.NewFailures(limit.FailuresConfig{})
	if err != nil {
		b.Fatal(err)
	}
	addr := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		f.Begin(addr, "", epoch)
		f.Forgive(addr, "", epoch)
	}
}

// BenchmarkFlood is a table at its bound with a new key each time.
func BenchmarkFlood(b *testing.B) {
	t, err := limit.NewBuckets[int](limit.Rate{Burst: 2, Every: time.Hour}, 1<<12)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		t.Allow(i, epoch)
		i++
	}
}
