package e2e_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
)

// badNames are the records of TestNames, besides those of a hundred hosts.
var badNames = []string{
	"good.test. MX 10 mx.good.test.", "mx.good.test. A 127.77.0.1",
	"bare.test. A 127.77.0.1",
	"null.test. MX 0 .",
	"lost.test. MX 10 mx.lost.test.",
	"loop.test. MX 10 one.loop.test.", "one.loop.test. CNAME two.loop.test.", "two.loop.test. CNAME one.loop.test.",
	"self.test. MX 10 mx." + domain + ".", "mx." + domain + ". A 127.77.0.9",
	"far.test. MX 10 mx.far.test.", "mx.far.test. A 127.77.0.250", // nobody is there
	"alias.test. CNAME good.test.",
	"ring.test. CNAME gnir.test.", "gnir.test. CNAME ring.test.",
	"mxfail.test. MX 10 dumb.mxfail.test.", "dumb.mxfail.test. A 127.77.0.1",
}

// hundredHosts are 100 MX records of which only the third preference leads to a host.
func hundredHosts() []string {
	var lines []string
	for i := range 100 {
		addr := "127.77.0.251"
		if i == 2 {
			addr = "127.77.0.1"
		}
		name := fmt.Sprintf("a-host-with-a-rather-long-name-%d.hundred.test.", i)
		lines = append(lines, fmt.Sprintf("hundred.test. MX %d %s", i, name), name+" A "+addr)
	}
	return lines
}

// TestNames writes to domains whose DNS is broken in every way: what is wrong for good comes
// back at once and says why, what may mend waits by the schedule, and other mail leaves.
func TestNames(t *testing.T) {
	t.Parallel()
	n := newNames(t, append(hundredHosts(), badNames...)...)
	n.misbehave([]string{"silent.test.", "dumb.mxfail.test."}, []string{"servfail.test."})
	p := peer.Start(t, peer.Config{})
	s := setup(t, plaintext)
	s.outward(n, "probe = [\"1h\"]\nretry = [\"1h\"]")
	listenAt(t, p, "127.77.0.1", s.relayPort())
	s.start()
	fates := map[string]string{ // by domain: what the report says, "relayed", or what the queue says
		"good": "relayed", "bare": "relayed", "hundred": "relayed", "alias": "relayed",
		"null": "5.1.10", "nowhere": "5.1.2", "lost": "5.4.4", "self": "5.4.6",
		"silent": "451 4.4.3", "servfail": "451 4.4.3", "far": "451 4.4.1", "mxfail": "451 4.4.3", "loop": "451 4.4.3", "ring": "451 4.4.3",
	}
	m := post{id: "names@test"}
	for d := range fates {
		m.to = append(m.to, "x@"+d+".test")
	}
	begun := time.Now()
	s.send(newLog(), m)
	waiting := map[string]string{}
	s.await("everybody has been tried", 20*time.Second, func() bool {
		clear(waiting)
		tried := true
		for _, row := range s.list("queue", "list") {
			for _, r := range row["recipients"].([]any) {
				x := r.(map[string]any)
				waiting[x["destination"].(string)] = fmt.Sprint(x["last_status"])
				tried = tried && x["attempts"].(float64) > 0
			}
		}
		return tried
	})
	t.Logf("all were tried after %s", time.Since(begun).Round(time.Millisecond))
	s.checkNames(fates, waiting, copies(p))
	asked := n.times("servfail.test. MX")
	s.send(newLog(), post{"again@test", []string{"y@servfail.test", "y@good.test"}})
	s.await("the next message to a good domain leaves", 10*time.Second, func() bool {
		return copies(p)[peer.Copy{MessageID: "again@test", Rcpt: "y@good.test"}] == 1
	})
	if again := n.times("servfail.test. MX") - asked; again > 0 {
		t.Errorf("a domain without DNS was asked %d times more, before its time", again)
	}
}

// checkNames compares what became of the message to all domains.
func (s *server) checkNames(fates, waiting map[string]string, taken map[peer.Copy]int) {
	s.t.Helper()
	back := s.returned()
	states := s.fates("<names@test>")
	for d, want := range fates {
		rcpt := "x@" + d + ".test"
		key := peer.Copy{MessageID: "names@test", Rcpt: rcpt}
		var got, state string
		switch {
		case want == "relayed":
			got, state = fmt.Sprint(taken[key], " copies"), "relayed"
			want = "1 copies"
		case len(want) > 6:
			got, state = waiting[d+".test"], "queued"
			got = got[:min(len(got), len(want))]
		default:
			state = "bounced"
			for _, r := range back[key] {
				got += r.Status.String()
				if r.RemoteMTA != "" || !strings.Contains(r.Diagnostic, d) && d != "self" {
					s.t.Errorf("%s: the report names host %q and says %q", d, r.RemoteMTA, r.Diagnostic)
				}
			}
		}
		if got != want || states[rcpt] != state {
			s.t.Errorf("%s: got %q and fate %s, want %q and %s; queue says %q", d, got, states[rcpt], want, state, waiting[d+".test"])
		}
	}
}

// TestNoNames has no name server at all answer: mail is accepted and waits, a route that
// needs no DNS goes on, and when the name server is back the mail goes.
func TestNoNames(t *testing.T) {
	t.Parallel()
	n := newNames(t, "good.test. MX 10 mx.good.test.", "mx.good.test. A 127.77.1.1")
	n.misbehave([]string{"good.test."}, nil)
	p := peer.Start(t, peer.Config{})
	s := setup(t, plaintext)
	s.outward(n, "probe = [\"10s\"]\nretry = [\"10s\"]")
	listenAt(t, p, "127.77.1.1", s.relayPort())
	side := p.Listen(t)
	s.configure(strings.Replace(hub(netip.AddrPortFrom(side.Addr(), side.Port())), "tls =", "domains = [\"fixed.test\"]\ntls =", 1))
	s.start()
	s.send(newLog(), post{"dark@test", []string{"x@good.test", "x@fixed.test"}})
	s.await("the fixed route works without DNS", 5*time.Second, func() bool {
		return copies(p)[peer.Copy{MessageID: "dark@test", Rcpt: "x@fixed.test"}] == 1
	})
	s.await("the other recipient has been tried", 10*time.Second, func() bool { return n.times("good.test. MX") > 0 })
	n.misbehave(nil, nil)
	s.idle(25 * time.Second)
	if got := copies(p)[peer.Copy{MessageID: "dark@test", Rcpt: "x@good.test"}]; got != 1 {
		t.Errorf("%d copies after DNS came back, want 1", got)
	}
}
