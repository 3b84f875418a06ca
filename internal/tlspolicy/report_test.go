package tlspolicy_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mtasts"
	"poczta.example/poczta/internal/tlspolicy"
	"poczta.example/poczta/internal/tlsrpt"
)

// TestSessions counts sessions of every sort and reads the day's report.
func TestSessions(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		w := open(t, d, `
example.org. MX 5 mx.example.org.
example.org. MX 9 other.example.net.
mx.example.org. A 192.0.2.1
other.example.net. A 192.0.2.2
_mta-sts.example.org. TXT "v=STSv1; id=1;"
`, nil)
		w.fetch.set("example.org", policy(mtasts.Enforce, time.Hour, "mx.example.org", "*.example.org"))
		addr, local := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
		today := tlspolicy.Day(w.clock())
		good, stranger := state(w.ca.Leaf("mx.example.org")), state(w.ca.Leaf("mx.example.net"))
		p, route := w.plan("example.org")
		r, err := p.Host(t.Context(), route.Hosts[0])
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			w.store.Note(t.Context(), tlspolicy.Result{Verdict: r.Check(good, nil), Addr: addr, Local: local})
		}
		for range 2 {
			w.later(time.Millisecond) // certificates' errors tell the time: that makes no rows of their own
			w.store.Note(t.Context(), tlspolicy.Result{Verdict: r.Check(stranger, nil), Addr: addr, Local: local})
		}
		w.store.Note(t.Context(), tlspolicy.Result{Verdict: r.Check(nil, errors.New("tls: handshake failure")), Addr: addr, Local: local})
		_, err = p.Host(t.Context(), route.Hosts[1])
		left, ok := errors.AsType[*tlspolicy.HostError](err)
		if !ok {
			t.Fatalf("got %v", err)
		}
		w.store.Note(t.Context(), tlspolicy.Result{Skipped: left})
		if err := w.store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.store.Note(t.Context(), tlspolicy.Result{Verdict: r.Check(good, nil)})
		if err := w.store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := w.store.Sessions(t.Context(), today, domain(t, "example.org"))
		want := []tlsrpt.PolicyResult{{
			Policy: tlsrpt.Policy{Type: tlsrpt.STS, Domain: "example.org", MXHosts: []string{"mx.example.org", "*.example.org"},
				Strings: []string{"version: STSv1", "mode: enforce", "mx: mx.example.org", "mx: *.example.org", "max_age: 3600"}},
			Summary: tlsrpt.Summary{Success: 4, Failure: 4},
			Failures: []tlsrpt.Failure{
				{Result: tlsrpt.CertificateHostMismatch, ReceivingHost: "mx.example.org", ReceivingIP: "192.0.2.1", SendingIP: "198.51.100.1", Sessions: 2},
				{Result: tlsrpt.ValidationFailure, ReceivingHost: "mx.example.org", ReceivingIP: "192.0.2.1", SendingIP: "198.51.100.1", Sessions: 1, Reason: "tls: handshake failure"},
				{Result: tlsrpt.ValidationFailure, ReceivingHost: "other.example.net", Sessions: 1},
			},
		}}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
	})
}

// TestReportedOnce has two nodes that report one day to one domain.
func TestReportedOnce(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		w := open(t, d, memoryZone, nil)
		w.store.Note(t.Context(), tlspolicy.Result{Verdict: w.require("example.org").Check(nil, nil)})
		if err := w.store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		today := tlspolicy.Day(w.clock())
		unreported := func(day int64, after string, want int) {
			t.Helper()
			if got, err := w.store.Unreported(t.Context(), day, after, 10); err != nil || len(got) != want {
				t.Errorf("got %v, %v; want %d", got, err, want)
			}
		}
		mark := func() error {
			return d.Update(t.Context(), func(tx db.Tx) error { return w.store.MarkReported(tx, today, domain(t, "example.org")) })
		}
		unreported(today, "", 1)
		unreported(today, "example.org", 0)
		unreported(today-1, "", 0)
		if err := mark(); err != nil {
			t.Error(err)
		}
		unreported(today, "", 0)
		if err := mark(); !errors.Is(err, tlspolicy.ErrReported) {
			t.Errorf("got %v", err)
		}
		if err := w.store.ClearReported(t.Context(), today, domain(t, "example.org")); err != nil {
			t.Error(err)
		}
		unreported(today, "", 1)
	})
}

// TestExpire keeps counts for eight days and hosts for sixty.
func TestExpire(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		w := open(t, d, memoryZone, nil)
		r := w.require("example.org")
		for _, n := range []int{450, 2, 3} { // 450 are more than one chunk
			for i := range n {
				w.store.Note(t.Context(), tlspolicy.Result{Verdict: r.Check(nil, fmt.Errorf("tls: failure %d", i))})
			}
			if err := w.store.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			err := d.Update(t.Context(), func(tx db.Tx) error {
				return w.store.MarkReported(tx, tlspolicy.Day(w.clock()), domain(t, "example.org"))
			})
			if err != nil {
				t.Fatal(err)
			}
			w.later(24 * time.Hour)
		}
		for _, c := range []struct {
			later                                time.Duration
			counts, applied, reported, remembers int64
		}{{0, 455, 3, 3, 1}, {7 * 24 * time.Hour, 3, 1, 1, 1}, {30 * 24 * time.Hour, 0, 0, 0, 1}, {30 * 24 * time.Hour, 0, 0, 0, 0}} {
			w.later(c.later)
			if err := tlspolicy.Expire(w.store, t.Context()); err != nil {
				t.Fatal(err)
			}
			got := map[string]int64{}
			err := d.View(t.Context(), func(tx db.Tx) error {
				for _, table := range []string{"tls_count", "tls_applied", "tls_reported", "tls_memory"} {
					var n int64
					if err := tx.QueryRow("SELECT COUNT(*) FROM " + table).Scan(&n); err != nil {
						return err
					}
					got[table] = n
				}
				return nil
			})
			want := map[string]int64{"tls_count": c.counts, "tls_applied": c.applied, "tls_reported": c.reported, "tls_memory": c.remembers}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("after %v: %s %v", c.later, diff, err)
			}
		}
	})
}
