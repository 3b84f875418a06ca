package relay_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailtest/peer"
)

// TestAttemptsAreTold has a host for each outcome: the figures name it.
func TestAttemptsAreTold(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		var mu sync.Mutex
		got := map[string]int{}
		w.cfg.Hooks.Attempt = func(site, outcome string, _ time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			got[site+" "+outcome]++
		}
		for _, host := range []struct{ domain, reply string }{
			{"good.example", "250 2.1.5 ok"}, {"busy.example", "450 4.2.1 busy"}, {"none.example", "550 5.1.1 nobody"},
		} {
			p := w.serve(t, host.domain, peer.Config{Rules: []peer.Rule{{Stage: peer.Rcpt, Do: peer.Reply(host.reply)}}})
			defer p.Close()
			w.put(w.letter("a@" + host.domain))
		}
		stop := w.start(t)
		<-time.After(30 * time.Second)
		stop()
		mu.Lock()
		defer mu.Unlock()
		want := map[string]int{"mx1.good.example relayed": 1, "mx2.busy.example deferred": 1, "mx3.none.example returned": 1}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
