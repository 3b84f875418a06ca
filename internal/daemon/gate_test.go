package daemon_test

import (
	"net/netip"
	"testing"

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
