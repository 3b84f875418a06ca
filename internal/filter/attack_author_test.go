package filter_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/verdict"
)

// events collects the names of the evidence of a house.
type events struct {
	mu    sync.Mutex
	names map[verdict.Name]int
}

func (e *events) into(c *filter.Config) {
	e.names = map[verdict.Name]int{}
	c.Hooks.Found = func(n verdict.Name) { e.mu.Lock(); e.names[n]++; e.mu.Unlock() }
}

// TestForgedAuthors: however From is written, what a program might show of our own domain or of
// an allowed address is not believed without a proof. The host may send for soft.test's neighbour
// good.test, and for nobody else.
func TestForgedAuthors(t *testing.T) {
	t.Parallel()
	const plain = "To: ala@example.org\r\nSubject: minutes\r\nDate: Mon, 23 Nov 2026 11:59:00 +0000\r\nMessage-ID: <1@good.test>\r\n\r\nPay this.\r\n"
	tests := []struct{ name, from string }{
		{"plain", "From: Boss <boss@example.org>\r\n"},
		{"second field", "From: jan@good.test\r\nFrom: boss@example.org\r\n"},
		{"first field", "From: boss@example.org\r\nFrom: jan@good.test\r\n"},
		{"odd case", "fROM: boss@EXAMPLE.Org\r\n"},
		{"blank before the colon", "From : boss@example.org\r\n"},
		{"folded", "From:\r\n Boss\r\n\t<boss@\r\n example.org>\r\n"},
		{"comments", "From: boss@(x)example(y).org\r\n"},
		{"group", "From: staff: boss@example.org;\r\n"},
		{"two authors", "From: jan@good.test, boss@example.org\r\n"},
		{"route", "From: <@good.test:boss@example.org>\r\n"},
		{"trailing dot", "From: boss@example.org.\r\n"},
		{"without an end", "From: Boss <boss@example.org\r\n"},
		{"two pairs of brackets", "From: <jan@good.test> <boss@example.org>\r\n"},
		{"address in quotes and address", "From: \"jan@good.test\" <boss@example.org>\r\n"},
		{"wide letters", "From: boss@ｅｘａｍｐｌｅ.org\r\n"},
		{"ideographic stop", "From: boss@example。org\r\n"},
		{"quoted local part", "From: \"boss\"@example.org\r\n"},
		{"blank within", "From: boss @ example.org\r\n"},
		{"NUL within", "From: boss@example.org\x00\r\n"},
		{"semicolon", "From: jan@good.test; boss@example.org\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			once(t, func(d db.Database) {
				h := newHouse(t, d, nil)
				got, err := h.receive("192.0.2.1", "jan@good.test", tt.from+plain, ala)
				if err == nil && got.Locals[0].Mailbox != "Quarantine" {
					t.Errorf("it lies in %q: %s", got.Locals[0].Mailbox, got.Locals[0].Prefix)
				}
			})
		})
	}
}

// TestAllowListAbuse: who only writes an allowed address somewhere gets nothing by it.
func TestAllowListAbuse(t *testing.T) {
	t.Parallel()
	const rest = "To: ala@example.org\r\nSubject: minutes\r\nDate: Mon, 23 Nov 2026 11:59:00 +0000\r\nMessage-ID: <1@good.test>\r\n\r\nPay this.\r\n"
	tests := []struct {
		name, path, header string
		pardoned           bool
	}{
		{"proven", "jan@good.test", "From: friend@good.test\r\n", true},
		{"unproven", "jan@soft.test", "From: friend@soft.test\r\n", false},
		{"unproven reverse-path", "friend@soft.test", "From: x@soft.test\r\n", false},
		{"display-name", "jan@good.test", "From: \"friend@soft.test\" <jan@good.test>\r\n", false},
		{"Sender", "jan@good.test", "Sender: friend@soft.test\r\nFrom: jan@good.test\r\n", false},
		{"Resent-From", "jan@good.test", "Resent-From: friend@soft.test\r\nFrom: jan@good.test\r\n", false},
		{"Reply-To", "jan@good.test", "Reply-To: friend@soft.test\r\nFrom: jan@good.test\r\n", false},
		{"read in two ways", "jan@good.test", "From: \"x@good.test\" <friend@soft.test\r\n", false},
		{"read in two ways, brackets", "jan@good.test", "From: <x@good.test> <friend@soft.test>\r\n", false},
		{"two fields", "jan@good.test", "From: friend@soft.test\r\nFrom: x@good.test\r\n", false},
		{"two fields of the proven domain", "jan@good.test", "From: friend@good.test\r\nFrom: x@good.test\r\n", false},
		{"forged result", "jan@soft.test", "Authentication-Results: mx.example.org; dmarc=pass header.from=soft.test\r\nFrom: friend@soft.test\r\n", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			once(t, func(d db.Database) {
				h := newHouse(t, d, func(c *filter.Config) { // everything is refused that nobody pardons
					c.Greylist, c.Settings.Weights = nil, map[verdict.Name]float64{verdict.IPRevPass: 100}
				})
				for _, p := range []string{"friend@soft.test", "friend@good.test"} {
					if err := h.wishes.Add(t.Context(), 1, preference.Entry{Pattern: p, Allow: true}); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := h.receive("192.0.2.1", tt.path, tt.header+rest, ala); (err == nil) != tt.pardoned {
					t.Errorf("got %v, pardoned %v", err, tt.pardoned)
				}
			})
		})
	}
}

// TestForgedFields: nobody else's field reaches a reader as ours.
func TestForgedFields(t *testing.T) {
	t.Parallel()
	once(t, func(d db.Database) {
		h := newHouse(t, d, nil)
		for _, field := range []string{
			"Authentication-Results: mx.example.org; dmarc=pass LIE",
			"authentication-RESULTS: MX.Example.ORG; dmarc=pass LIE",
			"Authentication-Results:\r\n mx.example.org\r\n\t; dmarc=pass LIE",
			"Authentication-Results : mx.example.org; LIE",
			"Authentication-Results: (c) mx.example.org 1; LIE",
			"Authentication-Results: \"mx.example.org\"; LIE",
			"Authentication-Results: \"mx\\.example.org\"; LIE",
			"Authentication-Results: (((mx.example.org; LIE",
			"Authentication-Results: mx.example.org LIE",
			"Authentication-Results: mx.example.org. ; LIE",
			"Authentication-Results: mx.example.org(; LIE",
			"X-Poczta-Verdict: deliver; score=-9 LIE",
			"x-poczta-VERDICT\t: deliver LIE",
			"X-Poczta-Verdict:\r\n\tdeliver; LIE",
			"Return-Path: <LIE@example.org>",
		} {
			got, err := h.receive("192.0.2.1", "jan@good.test", field+"\r\n"+letter("jan@good.test", "Dear Ala"), ala)
			if err != nil || strings.Contains(got.Text, "LIE") {
				t.Errorf("%q stays: %v", field, err)
			}
		}
	})
}

// TestRoleIsNoWayRound: beside a role address what is dangerous is as dangerous, and others
// keep what they would get without it.
func TestRoleIsNoWayRound(t *testing.T) {
	t.Parallel()
	once(t, func(d db.Database) {
		h := newHouse(t, d, nil)
		got, err := h.receive("192.0.2.1", "jan@good.test", withProgram("jan@good.test"), "abuse@example.org", ala)
		if err == nil {
			for _, l := range got.Locals {
				if l.State != trace.Quarantined {
					t.Errorf("%s has a program in %q", l.Login, l.Mailbox)
				}
			}
		}
		got, err = h.receive("198.51.100.7", "jan@good.test", letter("Boss <boss@example.org>", "Pay this."), "abuse@example.org", ala)
		if err != nil || got.Locals[0].Mailbox != "" || got.Locals[1].Mailbox != "Quarantine" {
			t.Errorf("a forgery to abuse@ and ala: %v %+v", err, got)
		}
	})
}

// TestGreylistWays: names, addresses and other paths of the same stranger do not pass, nor does the bounce.
func TestGreylistWays(t *testing.T) {
	t.Parallel()
	once(t, func(d db.Database) {
		h := newHouse(t, d, func(c *filter.Config) {
			c.Settings.Thresholds = verdict.Thresholds{Tag: 0.5, Grey: 0.5, Junk: 20, Quarantine: 30, Refuse: 40}
		})
		for _, path := range []string{"jan@soft.test", "jan+1@soft.test", "JAN@soft.test", "other@soft.test", ""} {
			if _, err := h.receive("203.0.113.5", path, letter("jan@soft.test", "Good day"), ala); code(err) != 451 {
				t.Errorf("from <%s>: %v", path, err)
			}
		}
		if _, err := h.receive("203.0.113.5", "jan@soft.test", letter("jan@soft.test", "Good day"), ala, "ola@example.org", "abuse@example.org"); code(err) != 451 {
			t.Errorf("to many: %v", err)
		}
	})
}

// TestTrap: who writes to a spam trap too is known by it, whoever the others are.
func TestTrap(t *testing.T) {
	t.Parallel()
	once(t, func(d db.Database) {
		var seen events
		h := newHouse(t, d, seen.into)
		if err := h.wishes.AddTrap(t.Context(), "ola@example.org"); err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"ola@example.org", "OLA@example.org"} {
			seen.names = map[verdict.Name]int{}
			_, _ = h.receive("192.0.2.1", "jan@good.test", letter("jan@good.test", "Good day"), ala, to)
			if seen.names[verdict.SpamTrap] == 0 {
				t.Errorf("%s is no trap: %v", to, seen.names)
			}
		}
	})
}

// TestManyAtOnce: a stolen password gains nothing by many transactions at one time.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	const most, at = 3, 40
	once(t, func(d db.Database) {
		h := newHouse(t, d, func(c *filter.Config) {
			c.Conduct = must[*conduct.Watch](t)(conduct.New(conduct.Config{DB: d, Now: c.Now, Rules: conduct.Rules{Fresh: conduct.Rule{Limit: most, Action: conduct.Hold}}}))
		})
		rules := intake.Rules{Inspect: h.filter.Inspect, Ours: true, Relay: relayAll}
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range at {
			tx := must[*intake.Transaction](t)(h.in.Begin(envelope.Envelope{ReversePath: intaketest.From(t, ala),
				Origin: envelope.Origin{Account: 1, Login: "ala", Protocol: "ESMTPSA", Peer: netip.MustParseAddrPort("192.0.2.9:1")}}, rules))
			to := envelope.Recipient{ForwardPath: intaketest.To(t, "stranger"+strings.Repeat("x", i)+"@far.test")}
			if err := tx.Rcpt(t.Context(), to); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				<-start
				_, _ = tx.Data(t.Context(), strings.NewReader(letter(ala, "hello")))
			})
		}
		close(start)
		wg.Wait()
		free := 0
		for _, a := range h.accepter.Accepted() {
			if a.Remotes[0].Held == "" {
				free++
			}
		}
		if n := len(h.accepter.Accepted()); free > most || n != at {
			t.Errorf("%d of %d went out, want at most %d", free, n, most)
		}
	})
}
