package reputation_test

import (
	"net/netip"
	"testing"
	"time"

	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/verdict"
)

func TestProbing(t *testing.T) {
	t.Parallel()
	p, err := reputation.NewProbing(reputation.ProbingConfig{
		Address: limit.PerHour(4), Network: limit.PerHour(10), Exempt: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
	now := start
	unknown := func(peer string, n int) {
		for range n {
			p.Unknown(netip.MustParseAddr(peer), now)
		}
	}
	check := func(what, peer string, want bool) {
		t.Helper()
		a := netip.MustParseAddr(peer)
		items := p.Items(a, now)
		if got := p.Over(a, now); got != want || (len(items) == 1 && items[0].Name == verdict.Probing) != want {
			t.Errorf("%s: %v, %v, want %v", what, got, items, want)
		}
	}
	check("nobody", "192.0.2.1", false)
	unknown("192.0.2.1", 3)
	check("three mistakes", "192.0.2.1", false)
	unknown("192.0.2.1", 50)
	check("many", "192.0.2.1", true)
	check("written as IPv6", "::ffff:192.0.2.1", true)
	check("its neighbour", "192.0.2.2", false)
	unknown("192.0.2.2", 3)
	unknown("192.0.2.3", 3)
	check("a neighbour of several", "192.0.2.9", true)
	now = now.Add(2 * time.Hour)
	check("two hours later", "192.0.2.1", false)
	unknown("203.0.113.1", 4)
	check("a provider", "203.0.113.1", true)
	p.Forgive(netip.MustParseAddr("203.0.113.1"), now)
	check("a provider that also sends good mail", "203.0.113.1", false)
	unknown("127.0.0.1", 50)
	check("loopback", "127.0.0.1", false)
	unknown("198.51.100.1", 50)
	check("exempt", "198.51.100.1", false)
	if _, err := reputation.NewProbing(reputation.ProbingConfig{Address: limit.Rate{Burst: -1}}); err == nil {
		t.Error("a wrong rate is taken")
	}
}
