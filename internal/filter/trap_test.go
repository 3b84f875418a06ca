package filter_test

import (
	"context"
	"net/netip"
	"testing"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/verdict"
)

// TestTrapPatterns: a pattern makes spam traps of addresses that lead to nobody in particular, and
// of what does not exist too; those that somebody has are left in peace.
func TestTrapPatterns(t *testing.T) {
	t.Parallel()
	once(t, func(d db.Database) {
		h := newHouse(t, d, func(c *filter.Config) {
			c.Nobody = func(_ context.Context, a address.Address) bool { return a.Local() == "ola" } // as a catch-all's
		})
		for _, s := range []string{"*@example.org", "sales*@example.net"} {
			if err := h.wishes.AddTrap(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		noted := func(peer string) bool {
			for _, it := range must[[]verdict.Item](t)(h.seen.Seen(t.Context(), reputation.Subject{Peer: netip.MustParseAddr(peer)})) {
				if it.Name == verdict.SpamTrap {
					return true
				}
			}
			return false
		}
		for _, c := range []struct {
			to, peer string
			want     bool
		}{{ala, "192.0.2.1", false}, {"ola@example.org", "192.0.2.129", true}} {
			if _, err := h.receive(c.peer, "jan@good.test", letter("jan@good.test", "Dear all"), c.to); err != nil && !c.want {
				t.Error(err)
			}
			if got := noted(c.peer); got != c.want {
				t.Errorf("%s is a trap: %v, want %v", c.to, got, c.want)
			}
		}
		for peer, to := range map[string]string{"198.51.100.1": "sales.7@example.net", "198.51.101.1": "sale@example.net", "198.51.102.1": "nobody@example.org", "127.0.0.1": "nobody@example.org"} {
			h.filter.Unknown(t.Context(), netip.MustParseAddr(peer), intaketest.Addr(t, to))
			if got, want := noted(peer), peer[:7] != "127.0.0" && to != "sale@example.net"; got != want {
				t.Errorf("who asks for %s writes to a trap: %v, want %v", to, got, want)
			}
		}
	})
}
