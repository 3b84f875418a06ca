package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
)

// TestLostReply drops the connection in place of the reply to the final dot. The message
// may have been delivered: it is tried again by the schedule, not at once, and the trace
// says what the risk is.
func TestLostReply(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Final, Times: 1, Do: peer.Drop()}}})
	s := setup(t, plaintext, unlimited, hub(p.Listen(t)), "[relay]\nretry = [\"10s\"]")
	s.start()
	l, first := newLog(), time.Now()
	s.send(l, post{"lost@test", []string{"a@far.test"}})
	s.await("the message has come", 10*time.Second, func() bool { return len(p.Messages()) == 1 })
	s.await("the trace tells of the risk", 5*time.Second, func() bool {
		return slices.ContainsFunc(s.events("<lost@test>"), func(e string) bool {
			return strings.HasPrefix(e, "attempt: ") && strings.Contains(e, "it may have been delivered")
		})
	})
	s.await("the message has come again", 25*time.Second, func() bool { return len(p.Messages()) == 2 })
	if wait := time.Since(first); wait < 10*time.Second {
		t.Errorf("it came again after %s, before the schedule's 10s", wait)
	}
	s.idle(5 * time.Second)
	if got := s.fates("<lost@test>"); got["a@far.test"] != "relayed" {
		t.Errorf("fates %v, want relayed", got)
	}
	if got := copies(p)[peer.Copy{MessageID: "lost@test", Rcpt: "a@far.test"}]; got != 2 {
		t.Errorf("%d copies, want 2", got)
	}
}

// TestStopInDelivery stops the server while it delivers: what a host has begun to take is
// finished, the rest goes when it runs again, and nothing goes twice.
func TestStopInDelivery(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Final, Do: peer.Late(700 * time.Millisecond)}}})
	s := setup(t, plaintext, unlimited, hub(p.Listen(t)), "[relay]\nconnections_per_site = 6")
	s.start()
	l := newLog()
	want := map[peer.Copy]int{}
	var posts []post
	for i := range 60 {
		m := post{fmt.Sprintf("stop-%d@test", i), []string{"a@far.test", "b@away.test"}}
		posts = append(posts, m)
		for _, to := range m.to {
			want[peer.Copy{MessageID: m.id, Rcpt: to}] = 1
		}
	}
	for _, d := range []string{"far.test", "away.test"} { // what is submitted on a slow disk would have left by then
		s.run("", "queue", "suspend", d)
	}
	s.send(l, posts...)
	for _, d := range []string{"far.test", "away.test"} {
		s.run("", "queue", "resume", d)
	}
	s.await("messages are on their way", 20*time.Second, func() bool { return p.Seen(peer.Final) > len(p.Messages())/2 && len(p.Messages()) > 4 })
	s.stop()
	taken := len(p.Messages())
	if taken >= 120 {
		t.Fatalf("everything had been taken before the stop: the test shows nothing")
	}
	p.SetRules()
	s.start()
	s.idle(20 * time.Second)
	got := copies(p)
	for c := range want {
		if got[c] != 1 {
			t.Errorf("%s got %s %d times, want once", c.Rcpt, c.MessageID, got[c])
		}
	}
	t.Logf("%d transactions before the stop, %d in all", taken, len(p.Messages()))
	s.stop()
	s.settled()
}

// TestStopCutsOff stops the server while a host does not answer DATA: when the grace is
// over the transaction is given back, and the message goes once the server runs again.
func TestStopCutsOff(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Data, Do: peer.Stall()}}})
	s := setup(t, plaintext, hub(p.Listen(t)), "[limits]\ngrace = \"1s\"", "[relay]\nretry = [\"10s\"]")
	s.start()
	l := newLog()
	s.send(l, post{"cut@test", []string{"a@far.test"}})
	s.await("the host is asked for DATA", 10*time.Second, func() bool { return p.Seen(peer.Data) > 0 })
	begun := time.Now()
	s.stop()
	if took := time.Since(begun); took > 15*time.Second*patience { // the host would stall for ever
		t.Errorf("the stop took %s with a grace of 1s", took)
	}
	p.SetRules()
	s.start()
	s.idle(20 * time.Second)
	if got := copies(p); got[peer.Copy{MessageID: "cut@test", Rcpt: "a@far.test"}] != 1 {
		t.Errorf("copies %v, want one", got)
	}
}

// TestKillInDelivery ends the server at once while a host holds back its reply to the final
// dot, and while a report of a failure is due. After the restart the message that was in
// flight may come a second time, no other does, and each failure is reported once.
func TestKillInDelivery(t *testing.T) {
	t.Parallel()
	rules := []peer.Rule{{Stage: peer.Rcpt, Match: "nobody", Do: peer.Reply("550 5.1.1 there is nobody")}}
	p := peer.Start(t, peer.Config{Rules: append(rules, peer.Rule{Stage: peer.Final, Do: peer.Stall()})})
	s := setup(t, plaintext, hub(p.Listen(t)))
	s.start()
	l := newLog()
	s.send(l, post{"held@test", []string{"a@far.test", "nobody@far.test"}})
	s.await("the message is in flight", 10*time.Second, func() bool { return p.Seen(peer.Final) == 1 })
	s.kill()
	p.SetRules(rules...)
	s.start()
	s.send(l, post{"after@test", []string{"a@far.test"}})
	s.idle(20 * time.Second)
	got := copies(p)
	if n := got[peer.Copy{MessageID: "held@test", Rcpt: "a@far.test"}]; n < 1 || n > 2 {
		t.Errorf("the message that was in flight came %d times", n)
	}
	if n := got[peer.Copy{MessageID: "after@test", Rcpt: "a@far.test"}]; n != 1 {
		t.Errorf("the message after the crash came %d times", n)
	}
	back := s.returned()
	if r := back[peer.Copy{MessageID: "held@test", Rcpt: "nobody@far.test"}]; len(r) != 1 || r[0].Status.String() != "5.1.1" {
		t.Errorf("reports %v, want one with 5.1.1", back)
	}
	if len(back) != 1 {
		t.Errorf("reports of %d recipients, want of one: %v", len(back), back)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-s.done
	s.cmd = nil
	s.settled()
}
