package tlspolicy_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
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
