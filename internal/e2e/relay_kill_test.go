package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
)

// pour submits messages, session by session, until the server is gone or enough is closed.
// Each is for a recipient of far and one of away, every third for one whom the host refuses.
func (l *log) pour(addr, prefix, far, away string, pause time.Duration, enough <-chan struct{}) {
	for n := 0; ; n++ {
		conn, r := login(addr)
		if conn == nil {
			return
		}
		for k := range 10 {
			m := post{fmt.Sprintf("%s-%d-%d@test", prefix, n, k), []string{"a@" + far, "b@" + away}}
			if k%3 == 0 {
				m.to = append(m.to, "nobody@"+far)
			}
			if !l.submit(conn, r, m) {
				_ = conn.Close()
				return
			}
			select {
			case <-time.After(pause):
			case <-enough:
				_ = conn.Close()
				return
			}
		}
		_ = conn.Close()
	}
}

// TestKillWhileRelaying ends the server at random moments while mail comes in and goes out to
// a slow host. In the end every recipient of an accepted message has it, each failure was
// reported once, the queue is empty, fates are final and bodies released. Only what was
// in flight at a kill may have gone twice.
func TestKillWhileRelaying(t *testing.T) {
	t.Parallel()
	rounds, perSite := 7, 8
	if testing.Short() {
		rounds = 2
	}
	p := peer.Start(t, peer.Config{Discard: true, Rules: []peer.Rule{
		{Stage: peer.Rcpt, Match: "nobody", Do: peer.Reply("550 5.1.1 there is nobody")},
		{Stage: peer.Final, Do: peer.Late(40 * time.Millisecond)},
	}})
	s := setup(t, plaintext, unlimited, hub(p.Listen(t)), fmt.Sprintf("[relay]\nconnections_per_site = %d\nretry = [\"10s\"]\nprobe = [\"10s\"]", perSite))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	l := newLog()
	for round := range rounds {
		s.start()
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				l.pour(s.addr(587), fmt.Sprintf("r%d-c%d", round, i), "far.test", "away.test", 10*time.Millisecond, nil)
			})
		}
		<-time.After(time.Duration(300+rnd.IntN(1000)) * time.Millisecond)
		s.kill()
		wg.Wait()
	}
	s.start()
	s.idle(30 * time.Second)
	s.audit(l, rounds*2*perSite, p)
	s.stop()
	s.settled()
}

// audit holds peers and ala's mailbox against what was submitted: at most spare copies more than
// there should be, and no report twice.
func (s *server) audit(l *log, spare int, peers ...*peer.Peer) {
	s.t.Helper()
	got, back := copies(peers...), s.returned()
	more, recipients, failures := 0, 0, 0
	for id, m := range l.tried {
		for _, to := range m.to {
			key := peer.Copy{MessageID: id, Rcpt: to}
			n, reports := got[key], len(back[key])
			if strings.HasPrefix(to, "nobody@") {
				n, failures = reports, failures+1
				if reports > 1 {
					s.t.Errorf("%s: %d reports of %s", id, reports, to)
				}
			} else if reports > 0 {
				s.t.Errorf("%s: a report of %s, who was not refused", id, to)
			}
			if n == 0 && l.acked[id] {
				s.t.Errorf("%s got its 250 and never came to %s", id, to)
			}
			recipients++
			more += max(0, n-1)
		}
	}
	s.t.Logf("%d messages accepted of %d tried, %d recipients, %d failures, %d copies came twice", len(l.acked), len(l.tried), recipients, failures, more)
	if more > spare {
		s.t.Errorf("%d copies came twice; at most %d were in flight at a kill", more, spare)
	}
	if len(l.acked) < 20 {
		s.t.Errorf("only %d messages were accepted: the load was no load", len(l.acked))
	}
}
