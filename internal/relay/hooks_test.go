package relay_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/smtp"
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
		w.names.errs["null.example"] = &mx.Error{Reply: smtp.Reply{Code: 556, Subject: 1, Detail: 10, Text: "takes no mail"}}
		w.put(w.letter("a@null.example"))
		stop := w.start(t)
		<-time.After(30 * time.Second)
		stop()
		mu.Lock()
		defer mu.Unlock()
		want := map[string]int{"mx1.good.example relayed": 1, "mx2.busy.example deferred": 1, "mx3.none.example returned": 1, "unresolved returned": 1}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestAttemptsAreLogged finds each recipient's attempts in the log by its queue_id.
func TestAttemptsAreLogged(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		var text bytes.Buffer // a Handler writes one line at a time
		w.cfg.Logger = slog.New(slog.NewJSONHandler(&text, nil))
		w.names.errs["null.example"] = &mx.Error{Reply: smtp.Reply{Code: 556, Subject: 1, Detail: 10, Text: "takes no mail"}}
		p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Rcpt, Match: "late", Times: 1, Do: peer.Reply("450 4.2.1 busy")}}})
		defer p.Close()
		m := w.letter("late@them.example", "null@null.example")
		w.put(m)
		stop := w.start(t)
		w.until(t, time.Hour)
		stop()
		type line struct{ Path, Outcome, Status, Host string }
		got := map[line]int{}
		for dec := json.NewDecoder(&text); dec.More(); {
			var l struct {
				Msg         string
				Queue       string `json:"queue_id"`
				Path        string `json:"forward_path"`
				Outcome     string
				Status      string
				Host        string
				Attempt     int
				NextAttempt time.Time `json:"next_attempt"`
			}
			if err := dec.Decode(&l); err != nil {
				t.Fatal(err)
			}
			if l.Msg != "attempt ended" {
				continue
			}
			if l.Queue != m.ID.String() {
				t.Errorf("queue_id %q, want %s", l.Queue, m.ID)
			}
			if (l.Outcome == "deferred") == l.NextAttempt.IsZero() {
				t.Errorf("%s: next attempt %s", l.Outcome, l.NextAttempt)
			}
			got[line{l.Path, l.Outcome, l.Status, l.Host}] = l.Attempt
		}
		want := map[line]int{
			{"late@them.example", "deferred", "450 4.2.1 busy", "mx1.them.example [192.0.2.1]"}:      1,
			{"late@them.example", "relayed", "250 2.0.0 taken as 2", "mx1.them.example [192.0.2.1]"}: 2,
			{"null@null.example", "returned", "556 5.1.10 takes no mail", ""}:                        1,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
