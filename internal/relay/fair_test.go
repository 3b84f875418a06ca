package relay_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/smtp"
)

// TestSlowDomain has much mail for hosts that take half a minute for each message, with all
// connections in use: a letter to another leaves within a second or so of the next free
// one, and within a second where connections are free.
func TestSlowDomain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		slow := w.serve(t, "slow.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Final, Do: peer.Late(30 * time.Second)}}})
		quick := w.serve(t, "quick.example", peer.Config{})
		defer slow.Close()
		defer quick.Close()
		for range 2000 {
			w.put(w.letter(fmt.Sprintf("a%d@slow.example", w.serial)))
		}
		stop := w.start(t)
		<-time.After(10 * time.Minute)
		w.put(w.letter("b@quick.example"))
		<-time.After(time.Second)
		if f := w.fate("b@quick.example"); !strings.HasPrefix(f, "relayed") {
			t.Errorf("a letter to another waits: %s", f)
		}
		if w.mostFly > 500 {
			t.Errorf("%d recipients in memory for one slow domain", w.mostFly)
		}
		stop()
	})
}

// TestAllConnectionsInUse has more slow sites than connections.
func TestAllConnectionsInUse(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.cfg.Connections = 4
		var peers []*peer.Peer
		for i := range 8 {
			name := fmt.Sprintf("slow%d.example", i)
			peers = append(peers, w.serve(t, name, peer.Config{Rules: []peer.Rule{{Stage: peer.Final, Do: peer.Late(5 * time.Second)}}}))
			for k := range 20 {
				w.put(w.letter(fmt.Sprintf("a%d@%s", k, name)))
			}
		}
		stop := w.start(t)
		w.until(t, time.Hour)
		stop()
		for i, p := range peers {
			if n := len(p.Messages()); n != 20 {
				t.Errorf("site %d got %d messages", i, n)
			}
			p.Close()
		}
	})
}

// TestSilentHosts has as many hosts as there may be connections take one and say nothing:
// a letter to another leaves within a second, and no more connections are open than allowed.
func TestSilentHosts(t *testing.T) {
	for _, patient := range []int{8, -1} {
		bubble(t, func(t *testing.T, w *world) {
			w.cfg.Connections, w.cfg.Patient = 8, patient
			var silent []*peer.Peer
			for i := range 20 {
				name := fmt.Sprintf("silent%d.example", i)
				silent = append(silent, w.serve(t, name, peer.Config{Rules: []peer.Rule{{Stage: peer.Greeting, Do: peer.Stall()}}}))
				if i < 8 {
					w.put(w.letter("a@" + name))
				}
			}
			quick := w.serve(t, "quick.example", peer.Config{})
			stop := w.start(t)
			<-time.After(2 * time.Second)
			w.put(w.letter("b@quick.example"))
			<-time.After(time.Second)
			if got, want := strings.HasPrefix(w.fate("b@quick.example"), "relayed"), patient > 0; got != want {
				t.Errorf("with %d connections for patience the letter has left: %t, want %t", patient, got, want)
			}
			for i := range 20 {
				w.put(w.letter(fmt.Sprintf("c@silent%d.example", i)))
			}
			<-time.After(time.Minute)
			open := 0
			for _, p := range silent {
				open += p.Connections()
			}
			if most := w.cfg.Connections + max(patient, 0); open != most {
				t.Errorf("%d connections to hosts that say nothing, want %d", open, most)
			}
			for _, p := range append(silent, quick) {
				p.Close()
			}
			stop()
		})
	}
}

// TestManySilentSites has mail for more domains than one account may write to in an hour, each
// with eight hosts that say nothing: a letter to another leaves, and the silent ones have
// their connections for two addresses' time.
func TestManySilentSites(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		quick := w.serve(t, "quick.example", peer.Config{})
		defer quick.Close()
		silent := peer.New(peer.Config{Rules: []peer.Rule{{Stage: peer.Greeting, Do: peer.Stall()}}})
		defer silent.Close()
		for i := range 600 {
			name := fmt.Sprintf("silent%d.example", i)
			for k := range 8 {
				addr := fmt.Sprintf("198.18.%d.%d", i%200, 8*(i/200)+k)
				w.names.hosts[name] = append(w.names.hosts[name], fmt.Sprintf("mx%d.%s=%s", k, name, addr))
				w.hosts[addr+":25"] = func() (net.Conn, error) { return silent.Dial(), nil }
			}
			w.put(w.letter("a@" + name))
		}
		stop := w.start(t)
		<-time.After(5 * time.Second)
		w.put(w.letter("b@quick.example"))
		<-time.After(time.Second)
		if f := w.fate("b@quick.example"); !strings.HasPrefix(f, "relayed") {
			t.Errorf("a letter to another waits: %s", f)
		}
		<-time.After(11 * time.Minute)
		for i := range 600 {
			if f := w.fate(fmt.Sprintf("a@silent%d.example", i)); f == "nothing" {
				t.Fatalf("domain %d has a connection still", i)
			}
		}
		stop()
	})
}

// TestClockSteps sets the clock five days ahead while mail waits: what can be delivered is
// delivered, and only what fails once more is returned.
func TestClockSteps(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.serve(t, "good.example", peer.Config{Rules: []peer.Rule{{Stage: peer.Rcpt, Times: 1, Do: peer.Reply("450 4.2.0 later")}}})
		defer p.Close()
		w.names.errs["bad.example"] = &mx.Error{Reply: smtp.Reply{Code: 451, Subject: 4, Detail: 3, Text: "SERVFAIL"}}
		w.put(w.letter("a@good.example"))
		w.put(w.letter("b@bad.example"))
		stop := w.start(t)
		<-time.After(30 * time.Second)
		w.mu.Lock()
		for _, r := range w.rows { // as if all had been queued five days earlier
			r.msg.Queued, r.msg.Expires = r.msg.Queued.Add(-queue.DefaultLifetime), r.msg.Expires.Add(-queue.DefaultLifetime)
		}
		w.mu.Unlock()
		if n := w.left(); n != 2 {
			t.Errorf("%d left: something was returned by the clock alone", n)
		}
		w.until(t, time.Hour)
		stop()
		if f := w.fate("a@good.example"); !strings.HasPrefix(f, "relayed") {
			t.Error(f)
		}
		if f := w.fate("b@bad.example"); !strings.HasPrefix(f, "returned 554 5.4.7") || !strings.Contains(f, "SERVFAIL") {
			t.Error(f)
		}
	})
}
