package tlspolicy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/mtasts"
	"poczta.example/poczta/internal/tlspolicy"
)

const memoryZone = `
example.org. MX 5 mx.example.org.
mx.example.org. A 192.0.2.1
`

// TestMemory follows a host that loses its TLS for longer and longer.
func TestMemory(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		var events []string
		w := open(t, d, memoryZone, func(c *tlspolicy.Config) {
			c.Hooks.Downgrade = func(_, host address.Domain, before, shown tlspolicy.Level) {
				events = append(events, fmt.Sprintf("%s %s->%s", host, before, shown))
			}
		})
		good, stranger := state(w.ca.Leaf("mx.example.org")), state(w.ca.Leaf("other.example"))
		step := func(name string, session string, expected tlspolicy.Level, told int) {
			t.Helper()
			r := w.require("example.org")
			if r.Expected != expected {
				t.Errorf("%s: expected %v, want %v", name, r.Expected, expected)
			}
			cs := map[string]bool{"plain": true}[session]
			v := r.Check(nil, nil)
			if !cs {
				v = r.Check(good, nil)
				if session == "stranger" {
					v = r.Check(stranger, nil)
				}
			}
			if v.Err != nil {
				t.Errorf("%s: refused: %v", name, v.Err)
			}
			w.store.Note(t.Context(), tlspolicy.Result{Verdict: v})
			if err := w.store.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(events) != told {
				t.Errorf("%s: told %v, want %d", name, events, told)
			}
		}
		step("a stranger", "plain", tlspolicy.None, 0)
		step("it learns TLS", "stranger", tlspolicy.None, 0)
		step("and gets a certificate", "good", tlspolicy.Encrypt, 0)
		step("which expires", "stranger", tlspolicy.Verify, 1)
		w.later(time.Hour)
		step("still", "stranger", tlspolicy.Verify, 1)
		step("mended", "good", tlspolicy.Verify, 1)
		w.later(time.Hour)
		step("no TLS at all", "plain", tlspolicy.Verify, 2)
		w.later(6 * 24 * time.Hour)
		step("six days on", "plain", tlspolicy.Verify, 2)
		w.later(25 * time.Hour)
		step("seven days on", "plain", tlspolicy.Verify, 2)
		step("that is what it does now", "plain", tlspolicy.None, 2)
		want := []string{"mx.example.org verify->encrypt", "mx.example.org verify->none"}
		if diff := cmp.Diff(want, events); diff != "" {
			t.Error(diff)
		}
		step("TLS again", "good", tlspolicy.None, 2)
		w.dns("example.org. MX 5 mx.attacker.example.\nmx.attacker.example. A 192.0.2.6\n")
		step("a host never seen", "plain", tlspolicy.Verify, 3)
		w.later(61 * 24 * time.Hour)
		step("all forgotten", "plain", tlspolicy.None, 3)
	})
}

func TestRefusal(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		w := open(t, d, memoryZone, func(c *tlspolicy.Config) { c.Refuse = tlspolicy.Encrypt })
		r := w.require("example.org")
		if v := r.Check(nil, nil); v.Err != nil || r.Needed() {
			t.Errorf("a host that never had TLS was refused: %v", v.Err)
		}
		w.store.Note(t.Context(), tlspolicy.Result{Verdict: r.Check(state(w.ca.Leaf("mx.example.org")), nil)})
		if err := w.store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		r = w.require("example.org")
		v := r.Check(nil, nil)
		if v.Err == nil || !v.Downgrade || !r.Needed() || v.Permit(tlspolicy.Demand{}) == nil || v.Permit(tlspolicy.Demand{TLSOptional: true}) != nil {
			t.Errorf("a host that lost its TLS: got %+v", v)
		}
		if v := r.Check(state(w.ca.Leaf("other.example")), nil); v.Err != nil || !v.Downgrade {
			t.Errorf("only plaintext is to be refused: got %+v", v)
		}
	})
}

// TestForgedHost has an MX record forged to a host without TLS: that it was refused once
// does not make it a host of which no more is expected.
func TestForgedHost(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		w := open(t, d, memoryZone, func(c *tlspolicy.Config) { c.Refuse = tlspolicy.Encrypt })
		note := func(cs *tls.ConnectionState) error {
			t.Helper()
			v := w.require("example.org").Check(cs, nil)
			w.store.Note(t.Context(), tlspolicy.Result{Verdict: v})
			if err := w.store.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			return v.Err
		}
		if err := note(state(w.ca.Leaf("mx.example.org"))); err != nil {
			t.Fatal(err)
		}
		w.dns("example.org. MX 5 mx.attacker.example.\nmx.attacker.example. A 192.0.2.6\n")
		for i := range 5 {
			w.later(24 * time.Hour)
			if note(nil) == nil {
				t.Errorf("attempt %d over plaintext to a host never seen before is let through", i)
			}
		}
		w.later(3 * 24 * time.Hour)
		_ = note(nil)
		if err := note(nil); err != nil {
			t.Errorf("what a host shows for a week is what it does: %v", err)
		}
	})
}

// TestMadeUpHosts has a domain that names another host each time: what is remembered of it
// is bounded.
func TestMadeUpHosts(t *testing.T) {
	t.Parallel()
	w, _ := checkWorld(t)
	for i := range 300 {
		w.dns(fmt.Sprintf("example.org. MX 5 mx%d.example.org.\nmx%d.example.org. A 192.0.2.6\n", i, i))
		w.store.Note(t.Context(), tlspolicy.Result{Verdict: w.require("example.org").Check(nil, nil)})
		if err := w.store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var rows, octets int64
	w.fetch.set("big.example", mtasts.Policy{Mode: mtasts.Enforce, MaxAge: time.Hour, MX: slices.Repeat([]string{"mx.big.example"}, 3000)})
	w.dns("big.example. MX 5 mx.big.example.\nmx.big.example. A 192.0.2.6\n_mta-sts.big.example. TXT \"v=STSv1; id=1;\"\n")
	w.store.Note(t.Context(), tlspolicy.Result{Verdict: w.require("big.example").Check(nil, nil)})
	if err := w.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := w.db.View(t.Context(), func(tx db.Tx) error {
		if err := tx.QueryRow("SELECT COUNT(*) FROM tls_memory WHERE domain = 'example.org'").Scan(&rows); err != nil {
			return err
		}
		return tx.QueryRow("SELECT MAX(LENGTH(text)) FROM tls_applied").Scan(&octets)
	})
	if err != nil || rows > 200 || octets < 4096 || octets > 9000 {
		t.Errorf("%d hosts, a policy of %d octets, %v", rows, octets, err)
	}
}

// TestRunWrites notes from many goroutines while Run writes; at its end all is there.
func TestRunWrites(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		w := open(t, d, memoryZone, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.store.Run(ctx) }()
		r := w.require("example.org")
		good := r.Check(state(w.ca.Leaf("mx.example.org")), nil)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 500 {
					v := good
					if j%2 == 0 {
						v = r.Check(nil, fmt.Errorf("tls: failure %d of %d", j%100, i))
					}
					w.store.Note(ctx, tlspolicy.Result{Verdict: v})
				}
			})
		}
		wg.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		var total, failures, rows int64
		err := d.View(t.Context(), func(tx db.Tx) error {
			return errors.Join(
				tx.QueryRow("SELECT COALESCE(SUM(sessions), 0), COUNT(*) FROM tls_count").Scan(&total, &rows),
				tx.QueryRow("SELECT COALESCE(SUM(sessions), 0) FROM tls_count WHERE result <> ''").Scan(&failures))
		})
		if err != nil || total != 4000 || failures != 2000 || rows < 401 {
			t.Errorf("got %d sessions, %d failures in %d rows, %v; want 4000, 2000", total, failures, rows, err)
		}
	})
}

// TestNotesAreBounded notes 30,000 different failures without writing.
func TestNotesAreBounded(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{tlspolicy.Schema}); err != nil {
		t.Fatal(err)
	}
	w := open(t, d, memoryZone, nil)
	r := w.require("example.org")
	for i := range 30_000 {
		w.store.Note(t.Context(), tlspolicy.Result{Verdict: r.Check(nil, fmt.Errorf("tls: failure %d", i))})
	}
	if err := w.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var total, rows int64
	err := d.View(t.Context(), func(tx db.Tx) error {
		return tx.QueryRow("SELECT SUM(sessions), COUNT(*) FROM tls_count").Scan(&total, &rows)
	})
	if err != nil || total != 30_000 || rows > 10_000 {
		t.Errorf("got %d sessions in %d rows, %v", total, rows, err)
	}
}
