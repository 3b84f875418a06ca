package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
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
// reported once, the queue is empty, fates are final and bodies released. Only what stood in
// the queue at a kill may have gone once more.
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
	s := setup(t, plaintext, unlimited, unwatched, hub(p.Listen(t)), fmt.Sprintf("[relay]\nconnections_per_site = %d\nretry = [\"10s\"]\nprobe = [\"10s\"]", perSite))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	l, spare := newLog(), map[peer.Copy]int{}
	for round := range rounds {
		s.start()
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				l.pour(s.addr(587), fmt.Sprintf("r%d-c%d", round, i), "far.test", "away.test", 10*time.Millisecond, nil)
			})
		}
		enough := l.accepted() + 4 // however slow the disk is
		s.await("messages are accepted", 20*time.Second, func() bool { return l.accepted() >= enough })
		<-time.After(time.Duration(rnd.IntN(1200)) * time.Millisecond)
		s.kill()
		wg.Wait()
		s.unsettled(spare)
	}
	s.start()
	s.idle(30 * time.Second)
	s.audit(l, spare, p)
	s.stop()
	s.settled()
}

// unsettledSQL finds whose mail is in the queue.
const unsettledSQL = `SELECT DISTINCT trace.message_id, queued_recipient.forward_path FROM queued_recipient JOIN trace ON trace.id = queued_recipient.id`

// unsettled adds one to what a server that was killed had in its queue: the copies that may go
// out once more. What it had noted as gone may not.
func (s *server) unsettled(spare map[peer.Copy]int) {
	s.t.Helper()
	d := s.open()
	err := d.View(context.Background(), func(tx db.Tx) error {
		rows, err := tx.Query(unsettledSQL)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c peer.Copy
			if err := rows.Scan(&c.MessageID, &c.Rcpt); err != nil {
				return err
			}
			c.MessageID = strings.Trim(c.MessageID, "<>")
			spare[c]++
		}
		return rows.Err()
	})
	if err := errors.Join(err, d.Close()); err != nil {
		s.t.Fatal(err)
	}
}

// audit holds peers and ala's mailbox against what was submitted: no copy more than there should
// be but those to spare, and no report twice.
func (s *server) audit(l *log, spare map[peer.Copy]int, peers ...*peer.Peer) {
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
			if n > 1+spare[key] {
				s.t.Errorf("%s came to %s %d times; %d kills found it in the queue", id, to, n, spare[key])
			}
		}
	}
	s.t.Logf("%d messages accepted of %d tried, %d recipients, %d failures, %d copies came twice", len(l.acked), len(l.tried), recipients, failures, more)
	if l.accepted() < 20 {
		s.t.Errorf("only %d messages were accepted: the load was no load", len(l.acked))
	}
}
