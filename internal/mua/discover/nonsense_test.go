package discover_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"poczta.example/poczta/internal/mua/discover"
)

// TestNonsense has a domain whose MX and SRV records name what are no hosts, or hosts that look like
// the domain's own: nothing is used without being confirmed, the time is kept, and what is told can be
// shown.
func TestNonsense(t *testing.T) {
	t.Parallel()
	for _, host := range []string{
		".", "org.", "example.org.", "localhost.", "127.0.0.1.", "1.", "co.uk.", "xn--.", "xn--zzzzzz-.example.", `a\047b\063c\064d.evil.example.`, `pop.example.org\032is\032right.evil.example.`,
		`\027[2J\007.evil.example.`, `\128\255.evil.example.`, "pop.example.org.evil.example.", "evilexample.org.", "-.example.", "_pop3s._tcp.example.org.", strings.Repeat("a", 63) + ".example.",
		strings.Repeat("a.", 100) + "example.", `\255\254\253.org.`, "*.example.org.",
	} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				for i := range 40 { // many, and the same
					w.dns(fmt.Sprintf("example.org. MX %d %s", i, host))
				}
				for _, service := range []string{"_pop3s", "_pop3", "_submissions", "_submission", "_autodiscover"} {
					w.dns(service + "._tcp.example.org. SRV 0 0 443 " + host)
				}
				start := time.Now()
				r := w.find()
				if took := time.Since(start); took > discover.DefaultTotal {
					t.Errorf("it took %s", took)
				}
				for _, c := range r.Candidates {
					for _, s := range append(c.Incoming, c.Outgoing...) {
						if own := s.Host == "example.org" || strings.HasSuffix(s.Host, ".example.org"); s.NeedsConfirmation() == own {
							t.Errorf("%q: needs confirmation: %v", s.Host, s.NeedsConfirmation())
						}
					}
				}
				for _, s := range r.Steps {
					if text := s.Text("en"); strings.ContainsFunc(text, unicode.IsControl) || len(text) > 2000 {
						t.Errorf("told: %q", text)
					}
				}
				if len(w.asked) > 20 || len(w.dialed) > 60 {
					t.Errorf("%d requests, %d connections", len(w.asked), len(w.dialed))
				}
			})
		})
	}
}
