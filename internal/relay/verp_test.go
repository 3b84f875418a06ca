package relay_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/queue"
)

// TestVERP: recipients with reverse-paths of their own travel apart, and each failure,
// that of a host which is down too, is told to its path; delays and successes are told to
// the message's.
func TestVERP(t *testing.T) {
	path := func(i int) string { return fmt.Sprintf("us+%d=them.example@here.example", i) }
	letter := func(w *world, domain string) *queue.Message {
		m := w.letter("0@"+domain, "1@"+domain, "2@"+domain)
		for i := range m.Recipients {
			m.Recipients[i].ReversePath = path(i)
			m.Recipients[i].Notify = envelope.NotifySuccess | envelope.NotifyFailure | envelope.NotifyDelay
		}
		return m
	}
	told := func(w *world) (all []string) {
		for _, n := range w.notes.sent {
			all = append(all, fmt.Sprint(n.recs[0].Action, " ", len(n.recs), " ", n.about.Envelope.ReversePath.Address()))
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	t.Run("refused", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			p := w.serve(t, "them.example", peer.Config{Extensions: []string{"PIPELINING"}, Rules: []peer.Rule{{Stage: peer.Rcpt, Match: "0@", Do: peer.Reply("550 5.1.1 no")}}})
			defer p.Close()
			m := letter(w, "them.example")
			m.Recipients[2].ReversePath = path(1) // one of two
			w.put(m)
			stop := w.start(t)
			w.until(t, time.Minute)
			stop()
			from := map[string]int{}
			for _, x := range p.Messages() {
				from[x.From] += len(x.Rcpts)
			}
			if d := cmp.Diff(map[string]int{path(1): 2}, from); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff([]string{"failed 1 " + path(0), "relayed 2 us@here.example"}, told(w)); d != "" {
				t.Error(d)
			}
		})
	})
	t.Run("given up", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			p := w.serve(t, "them.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Greeting, Do: peer.Reply("421 4.3.2 not now")}}})
			defer p.Close()
			w.put(letter(w, "them.example"))
			stop := w.start(t)
			w.until(t, 6*24*time.Hour)
			stop()
			want := []string{"delayed 1 us@here.example", "failed 1 " + path(0), "failed 1 " + path(1), "failed 1 " + path(2)}
			if d := cmp.Diff(want, told(w)); d != "" {
				t.Error(d)
			}
		})
	})
}
