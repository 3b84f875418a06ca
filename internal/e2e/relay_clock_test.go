package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailtest/peer"
)

// fiveDays takes so many microseconds off every moment that the queue has stored: for the
// server it is as if its clock, and the database's, had jumped forward.
func fiveDays(t *testing.T, exec func(query string) error) {
	t.Helper()
	jump := (5*24*time.Hour + time.Hour).Microseconds()
	for table, columns := range map[string][]string{
		"queued_message": {"queued", "expires"}, "queued_recipient": {"next_attempt"}, "queued_shard": {"due"},
		"destination": {"next_due", "changed"}, "node": {"until"},
	} {
		for _, c := range columns {
			// "Never" stays so.
			if err := exec(fmt.Sprintf("UPDATE %s SET %s = %s - %d WHERE %s > 0 AND %s < %d", table, c, c, jump, c, c, int64(1)<<61)); err != nil {
				t.Fatalf("%s.%s: %v", table, c, err)
			}
		}
	}
}

// TestClockJump lets the clock jump by more than five days, over the life of what is queued,
// while the server is stopped, and while it runs. Nothing is returned before it was tried
// once more: who takes it gets it, who does not is reported as given up after the attempt.
func TestClockJump(t *testing.T) {
	t.Parallel()
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		s := setup(t, plaintext)
		jump(t, s, "1h", func() {
			s.stop()
			d := s.open()
			fiveDays(t, func(query string) error {
				return d.Update(context.Background(), func(tx db.Tx) error { _, err := tx.Exec(query); return err })
			})
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			s.start()
		})
	})
	t.Run("running", func(t *testing.T) {
		t.Parallel()
		s, _, url := twoNodes(t)
		jump(t, s, "10s", func() { // the process remembers for as long that a host is down
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			fiveDays(t, func(query string) error { _, err := tx.Exec(t.Context(), query); return err })
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// jump is the test of one server; leap makes the clock jump.
func jump(t *testing.T, s *server, probe string, leap func()) {
	n := newNames(t, "heals.test. MX 1 mx.heals.test.", "mx.heals.test. A 127.77.2.1", "down.test. MX 1 mx.down.test.", "mx.down.test. A 127.77.2.2",
		"later.test. MX 1 mx.later.test.", "mx.later.test. A 127.77.2.3")
	down := []peer.Rule{{Stage: peer.Greeting, Do: peer.Reply("421 4.3.2 not now")}}
	heals, sick := peer.Start(t, peer.Config{Rules: down}), peer.Start(t, peer.Config{Rules: down})
	later := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Rcpt, Do: peer.Reply("450 4.2.1 mailbox busy")}}})
	s.outward(n, fmt.Sprintf("retry = [\"1h\"]\nprobe = [%q]", probe))
	for i, p := range []*peer.Peer{heals, sick, later} {
		listenAt(t, p, fmt.Sprintf("127.77.2.%d", i+1), s.relayPort())
	}
	s.start()
	l := newLog()
	for i := range 3 {
		s.send(l, post{fmt.Sprintf("jump-%d@test", i), []string{"x@heals.test", "x@down.test", "x@later.test"}})
	}
	s.await("all hosts have been tried", 10*time.Second, func() bool {
		rows := s.list("queue", "destinations")
		known := 0
		for _, r := range rows {
			if r["failures"].(float64) > 0 {
				known++
			}
		}
		return known == 2 && later.Seen(peer.Rcpt) == 3
	})
	heals.SetRules()
	probes, asked := sick.Seen(peer.Greeting), later.Seen(peer.Rcpt)
	if rows := s.list("queue", "list"); len(rows) != 3 {
		t.Fatalf("%d messages in the queue, want 3", len(rows))
	}
	leap()
	s.idle(25 * time.Second)
	got, back := copies(heals), s.returned()
	for i := range 3 {
		id := fmt.Sprintf("jump-%d@test", i)
		if c := got[peer.Copy{MessageID: id, Rcpt: "x@heals.test"}]; c != 1 {
			t.Errorf("%s: the host that takes mail again got it %d times", id, c)
		}
		for to, words := range map[string]string{"x@down.test": "421 4.3.2 not now", "x@later.test": "450 4.2.1 mailbox busy"} {
			r := back[peer.Copy{MessageID: id, Rcpt: to}]
			if len(r) != 1 || r[0].Status.String() != "5.4.7" || !strings.Contains(r[0].Diagnostic, words) {
				t.Errorf("%s: reports of %s %+v, want one with 5.4.7 and %s", id, to, r, words)
			}
		}
	}
	if len(back) != 6 {
		t.Errorf("%d reports, want 6: %v", len(back), back)
	}
	if sick.Seen(peer.Greeting) == probes {
		t.Error("mail for a host that was down was given up without an attempt")
	}
	if n := later.Seen(peer.Rcpt) - asked; n != 3 {
		t.Errorf("%d attempts of mail that was put off, want 3 before it was given up", n)
	}
}
