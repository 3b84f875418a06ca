package relaydomain_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/relaydomain"
)

// TestAnswers: what a host answers, or doesn't, at each stage.
func TestAnswers(t *testing.T) {
	t.Parallel()
	later, no := peer.Reply("451 4.3.0 later"), peer.Reply("554 5.3.0 no")
	for _, tt := range []struct {
		name       string
		rule       peer.Rule
		want, sure string // by the domain that defers, by the one that accepts when the host is down
	}{
		{"refused", peer.Rule{Stage: peer.Connect, Do: peer.Drop()}, "451 4.1", "250"},
		{"greeting 4xx", peer.Rule{Stage: peer.Greeting, Do: later}, "451 4.1", "250"},
		{"greeting 5xx", peer.Rule{Stage: peer.Greeting, Do: no}, "451 4.1", "250"},
		{"greeting never comes", peer.Rule{Stage: peer.Greeting, Do: peer.Stall()}, "451 4.1", "250"},
		{"greeting never ends", peer.Rule{Stage: peer.Greeting, Do: peer.Trickle(time.Second)}, "451 4.1", "250"},
		{"greeting in megabytes", peer.Rule{Stage: peer.Greeting, Do: peer.Endless()}, "451 4.1", "250"},
		{"no SMTP", peer.Rule{Stage: peer.Greeting, Do: peer.Garbage()}, "451 4.1", "250"},
		{"EHLO dropped", peer.Rule{Stage: peer.Hello, Do: peer.Drop()}, "451 4.1", "250"},
		{"MAIL 421", peer.Rule{Stage: peer.Mail, Do: peer.Reply("421 4.3.2 closing")}, "451 4.1", "250"},
		{"MAIL 4xx", peer.Rule{Stage: peer.Mail, Do: later}, "451 0.0", "451 0.0"},
		{"MAIL 5xx", peer.Rule{Stage: peer.Mail, Do: no}, "451 0.0", "451 0.0"},
		{"MAIL dropped", peer.Rule{Stage: peer.Mail, Do: peer.Drop()}, "451 4.1", "250"},
		{"RCPT stalls", peer.Rule{Stage: peer.Rcpt, Do: peer.Stall()}, "451 4.1", "250"},
		{"RCPT 4xx, greylisting", peer.Rule{Stage: peer.Rcpt, Do: peer.Reply("450 4.7.1 come again")}, "451 7.1", "451 7.1"},
		{"RCPT 452 full", peer.Rule{Stage: peer.Rcpt, Do: peer.Reply("452 4.2.2 full")}, "451 2.2", "451 2.2"},
		{"RCPT 354", peer.Rule{Stage: peer.Rcpt, Do: peer.Reply("354 go on")}, "451 4.1", "250"},
		{"unknown", peer.Rule{Stage: peer.Rcpt, Do: peer.Reply("550 5.1.1 nobody")}, "550 1.1", "550 1.1"},
		{"unknown, old server", peer.Rule{Stage: peer.Rcpt, Do: peer.Reply("550 nobody")}, "550 1.1", "550 1.1"},
		{"disabled", peer.Rule{Stage: peer.Rcpt, Do: peer.Reply("550 5.2.1 off")}, "550 2.1", "550 2.1"},
		{"full for good", peer.Rule{Stage: peer.Rcpt, Do: peer.Reply("552 5.2.2 full")}, "550 2.2", "550 2.2"},
		{"we are refused", peer.Rule{Stage: peer.Rcpt, Do: peer.Reply("550 5.7.1 relaying denied")}, "451 7.1", "451 7.1"},
		{"taken", peer.Rule{Stage: peer.Quit, Do: peer.Stall()}, "250", "250"},
		{"251", peer.Rule{Stage: peer.Rcpt, Do: peer.Reply("251 2.1.5 will forward")}, "250", "250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for to, want := range map[string]string{"ala@call.example": tt.want, "ala@sure.example": tt.sure} {
					h := newHouse(t, nil, tt.rule)
					began := time.Now()
					if got := h.verify(t.Context(), t, to); got != want {
						t.Errorf("%s: %s, want %s", to, got, want)
					}
					if took := time.Since(began); took > 30*time.Second {
						t.Errorf("%s took %v", to, took)
					}
				}
			})
		})
	}
}

// TestNotFound: hosts that DNS does not know can't be asked.
func TestNotFound(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fixed{"error": {err: errors.New("SERVFAIL")}, "no address": {}, "no route": {addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.99:25")}}} {
		h := newHouse(t, func(c *relaydomain.Config) { c.Finder = f })
		if got := h.verify(t.Context(), t, "ala@call.example"); got != "451 4.1" {
			t.Errorf("%s: %s", name, got)
		}
		if got := h.verify(t.Context(), t, "ala@sure.example"); got != "250" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestNextAddress: when one address does not answer the next is asked, four at most.
func TestNextAddress(t *testing.T) {
	t.Parallel()
	away := netip.MustParseAddrPort("192.0.2.98:25")
	for n, want := range map[int]string{0: "250", 3: "250", 4: "451 4.1"} {
		h := newHouse(t, func(c *relaydomain.Config) {
			var f fixed
			for range n {
				f.addrs = append(f.addrs, away)
			}
			f.addrs = append(f.addrs, primary)
			c.Finder = f
		})
		if got := h.verify(t.Context(), t, "ala@call.example"); got != want {
			t.Errorf("behind %d addresses: %s, want %s", n, got, want)
		}
	}
}

// TestMemory: good answers and refusals are remembered for their time; a good one
// counts longer while the host is away.
func TestMemory(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	ask := func(to, want string, dials int) {
		t.Helper()
		before := h.net.dialled()
		if got := h.verify(t.Context(), t, to); got != want || h.net.dialled()-before != dials {
			t.Errorf("%s at %v: %s behind %d connections, want %s, %d", to, h.now, got, h.net.dialled()-before, want, dials)
		}
	}
	ask("ala@call.example", "250", 1)
	ask("ALA@call.example", "250", 0)
	ask("nobody@call.example", "550 1.1", 1)
	ask("nobody@call.example", "550 1.1", 0)
	h.now = h.now.Add(2 * time.Hour)
	ask("nobody@call.example", "550 1.1", 1)
	h.now = h.now.Add(22 * time.Hour)
	ask("ala@call.example", "250", 1)

	h.peer.SetRules(peer.Rule{Stage: peer.Connect, Do: peer.Drop()})
	h.now = h.now.Add(48 * time.Hour)
	ask("ala@call.example", "250", 1) // the host can't say otherwise
	ask("ola@call.example", "451 4.1", 0)
	ask("nobody@call.example", "451 4.1", 0) // a refusal too old to count
	h.now = h.now.Add(6 * 24 * time.Hour)
	ask("ala@call.example", "451 4.1", 1)

	h.peer.SetRules(peer.Rule{Stage: peer.Rcpt, Do: peer.Reply("550 5.1.1 gone")})
	h.now = h.now.Add(time.Minute)
	ask("ala@call.example", "550 1.1", 1)
	ask("ala@call.example", "550 1.1", 0) // in place of what was known
	h.peer.SetRules()
	h.now = h.now.Add(2 * time.Hour)
	ask("ala@call.example", "250", 1)
	h.now = h.now.Add(-time.Hour) // a clock that was set back: what comes from the future is not believed
	ask("ala@call.example", "250", 1)
}

// TestFullIsNotRemembered: some refusals pass.
func TestFullIsNotRemembered(t *testing.T) {
	t.Parallel()
	for reply, again := range map[string]string{"552 5.2.2 full": "250", "550 5.3.0 broken": "250", "550 5.1.1 nobody": "550 1.1", "550 5.2.1 off": "550 2.1", "550 nobody": "550 1.1"} {
		h := newHouse(t, nil, peer.Rule{Stage: peer.Rcpt, Times: 1, Do: peer.Reply(reply)})
		_ = h.verify(t.Context(), t, "ala@call.example")
		if got := h.verify(t.Context(), t, "ala@call.example"); got != again {
			t.Errorf("behind %s: %s, want %s", reply, got, again)
		}
	}
}

// TestFlood: who tries many names does not make us forget those that exist, nor
// remember without bound.
func TestFlood(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *relaydomain.Config) { c.Entries = 100 })
	_ = h.verify(t.Context(), t, "ala@call.example")
	for i := range 300 {
		if got := h.verify(t.Context(), t, fmt.Sprintf("nobody%d@call.example", i)); got != "550 1.1" {
			t.Fatal(got)
		}
	}
	before := h.net.dialled()
	if got := h.verify(t.Context(), t, "ala@call.example"); got != "250" || h.net.dialled() != before {
		t.Errorf("%s behind %d connections", got, h.net.dialled()-before)
	}
	_ = h.verify(t.Context(), t, "nobody299@call.example")
	if h.net.dialled() != before {
		t.Error("the newest refusal is forgotten")
	}
	_ = h.verify(t.Context(), t, "nobody0@call.example")
	if h.net.dialled() != before+1 {
		t.Error("the oldest refusal is still remembered")
	}
}

// TestLeftAlone: a host that could not be reached is not asked for a while.
func TestLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil, peer.Rule{Stage: peer.Greeting, Do: peer.Drop()})
	for i := range 5 {
		if got := h.verify(t.Context(), t, fmt.Sprintf("a%d@call.example", i)); got != "451 4.1" {
			t.Error(got)
		}
	}
	if n := h.net.dialled(); n != 1 {
		t.Errorf("%d connections", n)
	}
	h.peer.SetRules()
	h.now = h.now.Add(30 * time.Second)
	if got := h.verify(t.Context(), t, "a1@call.example"); got != "250" {
		t.Error(got)
	}
}

// TestJoined: a question that is under way is not asked again; questions to one host
// are bounded, and who waits too long is told so, never taken unverified.
func TestJoined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *relaydomain.Config) { c.Calls = 2 }, peer.Rule{Stage: peer.Rcpt, Do: peer.Late(9 * time.Second)})
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[string]int{}
		for i := range 40 { // 10 addresses, each 4 times; 2 every 9 s: 8 begin within 30 s, 6 have ended for all who wait
			wg.Go(func() {
				r := h.verify(t.Context(), t, fmt.Sprintf("a%d@sure.example", i%10))
				mu.Lock()
				defer mu.Unlock()
				got[r]++
			})
		}
		wg.Wait()
		if got["250"] != 26 || got["451 4.1"] != 14 || h.net.most != 2 || h.net.open != 0 {
			t.Errorf("got %v with %d connections at most, %d open", got, h.net.most, h.net.open)
		}
	})
}

// TestLeft: when the one who asks goes away, another who waits asks.
func TestLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil, peer.Rule{Stage: peer.Rcpt, Times: 1, Do: peer.Stall()})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if got := h.verify(ctx, t, "ala@sure.example"); got != "451 4.1" {
				t.Errorf("who went away: %s", got)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if got := h.verify(t.Context(), t, "ala@sure.example"); got != "250" {
				t.Errorf("who waited: %s", got)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
		if n := h.net.dialled(); n != 2 {
			t.Errorf("%d connections", n)
		}
		if got := h.verify(t.Context(), t, "ola@sure.example"); got != "250" || h.net.dialled() != 3 {
			t.Error("the host was left alone for what was not its fault")
		}
	})
}

// TestTLS: STARTTLS is used where it works; where it does not, the question goes
// without.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, _ := peer.Certificate(t, "elsewhere.example")
	for name, tt := range map[string]struct {
		rules []peer.Rule
		conns int
		tls   int
	}{
		"works":   {nil, 1, 1},
		"refused": {[]peer.Rule{{Stage: peer.StartTLS, Do: peer.Reply("454 4.7.0 not now")}}, 2, 0},
		"broken":  {[]peer.Rule{{Stage: peer.Handshake, Do: peer.Garbage()}}, 2, 0},
	} {
		p := peer.Start(t, peer.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Rules: tt.rules})
		h := newHouse(t, nil)
		h.net.peers[primary.String()] = p
		if got := h.verify(t.Context(), t, "ala@call.example"); got != "250" || p.Connections() != tt.conns {
			t.Errorf("%s: %s behind %d connections, want %d", name, got, p.Connections(), tt.conns)
		}
		if n := p.Seen(peer.Hello); n != tt.conns+tt.tls {
			t.Errorf("%s: EHLO %d times", name, n)
		}
	}
}

// TestUTF8: an address beyond ASCII can't be asked for without SMTPUTF8.
func TestUTF8(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	if got := h.verify(t.Context(), t, "żółw@call.example"); got != "250" {
		t.Error(got)
	}
	h = newHouse(t, nil)
	h.net.peers[primary.String()] = peer.Start(t, peer.Config{Extensions: []string{"PIPELINING"}})
	if got := h.verify(t.Context(), t, "żółw@call.example"); got != "550 6.7" {
		t.Error(got)
	}
}
