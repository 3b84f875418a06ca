package tlspolicy_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mtasts"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/tlspolicy"
)

// stsZone is example.org with an MTA-STS record of an id; "" is none.
func stsZone(id string) string {
	z := "$ORIGIN example.org.\n@ MX 5 mx\nmx A 192.0.2.1\n"
	if id != "" {
		z += fmt.Sprintf("_mta-sts TXT \"v=STSv1; id=%s;\"\n", id)
	}
	return z
}

// TestPolicyCache follows one domain through its policies.
func TestPolicyCache(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		w := open(t, d, stsZone(""), nil)
		step := func(name, mode string, fetches int) {
			t.Helper()
			if got := w.mode("example.org"); got != mode {
				t.Errorf("%s: got %q, want %q", name, got, mode)
			}
			if w.fetch.count() != fetches {
				t.Errorf("%s: fetched %d times, want %d", name, w.fetch.count(), fetches)
			}
		}
		step("no record", "none ", 0)
		w.dns(stsZone("a"))
		step("a record and no policy", "none ", 1)
		step("not asked again at once", "none ", 1)
		w.fetch.set("example.org", policy(mtasts.Testing, 48*time.Hour, "mx.example.org"))
		w.later(4 * time.Minute)
		step("nor within five minutes", "none ", 1)
		w.later(time.Minute)
		step("but then", "testing a", 2)
		step("kept", "testing a", 2)
		w.fetch.set("example.org", policy(mtasts.Enforce, 48*time.Hour, "mx.example.org"))
		step("a new policy needs a new id", "testing a", 2)
		w.dns(stsZone("b"))
		step("a new id", "enforce b", 3)
		w.dns(stsZone(""))
		step("a record that vanishes", "enforce b", 3)
		w.dns(stsZone("") + "!servfail _mta-sts.example.org\n")
		step("no answer", "enforce b", 3)
		w.dns(stsZone("c"))
		w.fetch.fail("example.org")
		step("a new policy that can't be had", "enforce b", 4)
		step("is not asked for at once", "enforce b", 4)
		w.dns(stsZone("d"))
		step("unless it is another again", "enforce b", 5)
		w.later(47 * time.Hour)
		step("the old one holds", "enforce b", 6)
		w.later(2 * time.Hour)
		step("for its time", "none ", 7)
		w.fetch.set("example.org", policy(mtasts.Enforce, time.Second, "mx.example.org"))
		w.later(time.Hour)
		step("short-lived", "enforce d", 8)
		w.later(4 * time.Minute)
		step("short-lived, kept a little", "enforce d", 8)
		w.later(time.Minute)
		step("and asked for again", "enforce d", 9)
		w.fetch.set("example.org", policy(mtasts.None, 48*time.Hour))
		w.dns(stsZone("e"))
		step("mode none", "none e", 10)
	})
}

// TestFetchIsShared has many deliveries to one domain whose policy is unknown; the
// one that fetches gives up, and one other does it again for all.
func TestFetchIsShared(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		w := open(t, d, stsZone("a"), nil)
		w.fetch.set("example.org", policy(mtasts.Enforce, time.Hour, "mx.example.org"))
		w.fetch.wait, w.fetch.begun = make(chan struct{}), make(chan struct{}, 20)
		name := domain(t, "example.org")
		first, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := w.store.Plan(first, name, mx.Route{Domain: name})
			left <- err
		}()
		<-w.fetch.begun
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				p, err := w.store.Plan(t.Context(), name, mx.Route{Domain: name})
				if err != nil || p.Policy.Mode != mtasts.Enforce {
					t.Errorf("got %+v, %v", p, err)
				}
			})
		}
		leave()
		if err := <-left; err == nil {
			t.Error("who gave up got an answer")
		}
		<-w.fetch.begun // by one of the ten
		close(w.fetch.wait)
		wg.Wait()
		if w.fetch.count() != 2 {
			t.Errorf("fetched %d times, want 2", w.fetch.count())
		}
	})
}

// TestRefresh fetches what is in use once a day, on one of two nodes.
func TestRefresh(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		w := open(t, d, stsZone("a"), nil)
		other := w.another(nil)
		w.fetch.set("example.org", policy(mtasts.Enforce, 40*24*time.Hour, "mx.example.org"))
		refresh := func(name string, fetches int) {
			t.Helper()
			var wg sync.WaitGroup
			for _, s := range []*tlspolicy.Store{w.store, other} {
				wg.Go(func() {
					if _, err := s.Refresh(t.Context(), 100); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if w.fetch.count() != fetches {
				t.Errorf("%s: fetched %d times, want %d", name, w.fetch.count(), fetches)
			}
		}
		if got := w.mode("example.org"); got != "enforce a" {
			t.Fatal(got)
		}
		refresh("fresh", 1)
		w.later(25 * time.Hour)
		refresh("a day old", 2)
		refresh("again", 2)
		w.later(25 * time.Hour)
		w.fetch.fail("example.org")
		refresh("unreachable", 3)
		if got := w.mode("example.org"); got != "enforce a" {
			t.Errorf("the policy was lost when its host did not answer: %s", got)
		}
		w.later(39 * 24 * time.Hour)
		w.fetch.set("example.org", policy(mtasts.Enforce, 40*24*time.Hour, "mx.example.org"))
		refresh("out of use", 3)
		w.later(25 * time.Hour)
		refresh("expired and dropped", 3)
		w.dns(stsZone(""))
		if got := w.mode("example.org"); got != "none " {
			t.Errorf("got %s", got)
		}
	})
}
