package daemon_test

import (
	"net/netip"
	"testing"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
)

func TestGateway(t *testing.T) {
	t.Parallel()
	bridge, public := netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("203.0.113.9")
	for name, tt := range map[string]struct {
		of, others int
		addr       netip.Addr
		want       bool
	}{
		"few":          {100, 0, bridge, false},
		"all":          {300, 0, bridge, true},
		"nearly all":   {300, 5, bridge, true},
		"half":         {300, 300, bridge, false},
		"a public one": {300, 0, public, false},
		"very many":    {90000, 10, bridge, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c daemon.Crowd
			for range tt.of {
				c.Note(tt.addr)
			}
			for i := range tt.others {
				c.Note(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}))
			}
			got, ok := c.Gateway()
			if ok != tt.want || ok && got != tt.addr {
				t.Errorf("got %v, %v", got, ok)
			}
		})
	}
}

// TestGateFitsFiles: connections leave files for the work, whatever the
// configuration says.
func TestGateFitsFiles(t *testing.T) {
	t.Parallel()
	limits := config.Limits{Connections: 15000, ConnectionsPerAddress: 1, ConnectionsPerNetwork: 1, ConnectionRate: 1, ConnectionRateNetwork: 1}
	local := netip.MustParseAddrPort("127.0.0.1:25") // spared the limits by address
	for files, want := range map[int64]int{0: 15000, 320: 24, 1024: 640, 65536: 15000} {
		g, err := daemon.NewGate(limits, files)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for n < 20000 && g.Admit(local) == nil {
			n++
		}
		if n != want {
			t.Errorf("with %d files: got %d connections, want %d", files, n, want)
		}
	}
}

// TestGateRates: addresses and networks have rates of their own.
func TestGateRates(t *testing.T) {
	t.Parallel()
	g, err := daemon.NewGate(config.Limits{Connections: 1000, ConnectionsPerAddress: 1000, ConnectionsPerNetwork: 1000, ConnectionRate: 5, ConnectionRateNetwork: 12}, 0)
	if err != nil {
		t.Fatal(err)
	}
	count := func(a string) (n int) {
		for n < 100 && g.Admit(netip.MustParseAddrPort(a)) == nil {
			n++
		}
		return n
	}
	for _, tt := range []struct {
		from string
		want int
	}{{"192.0.2.1:1", 5}, {"192.0.2.2:1", 5}, {"192.0.2.3:1", 2}, {"198.51.100.1:1", 5}} {
		if n := count(tt.from); n != tt.want {
			t.Errorf("%s: got %d connections, want %d", tt.from, n, tt.want)
		}
	}
}

// TestGatewaysAreSpared: who carries the sessions of others by PROXY or XCLIENT is
// not limited as one client, and is no gateway that hides clients.
func TestGatewaysAreSpared(t *testing.T) {
	t.Parallel()
	limits := config.Limits{Connections: 1000, ConnectionsPerAddress: 1, ConnectionsPerNetwork: 1, ConnectionRate: 1, ConnectionRateNetwork: 1}
	for name, tt := range map[string]struct {
		peer string
		want int
	}{"named": {"10.0.0.5:999", 300}, "named, mapped": {"[::ffff:10.0.0.5]:999", 300}, "another": {"10.0.1.5:999", 1}} {
		g, err := daemon.NewGate(limits, 0, netip.MustParsePrefix("10.0.0.0/24"))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for range 300 {
			if g.Admit(netip.MustParseAddrPort(tt.peer)) == nil {
				n++
			}
		}
		if _, hides := g.Gateway(); n != tt.want || hides == (tt.want == 300) {
			t.Errorf("%s: %d connections, want %d; taken for a gateway that hides clients: %v", name, n, tt.want, hides)
		}
	}
}
