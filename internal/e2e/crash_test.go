package e2e_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// ledger records what clients were promised.
type ledger struct {
	mu      sync.Mutex
	acked   map[string]bool // by subject: got its 250
	tried   map[string]bool
	removed map[string]bool // by subject: QUIT was answered +OK after DELE
	marked  map[string]bool // DELE and QUIT were sent, the reply is unknown
}

func newLedger() *ledger {
	return &ledger{acked: map[string]bool{}, tried: map[string]bool{}, removed: map[string]bool{}, marked: map[string]bool{}}
}

// accepted is how many letters got their 250.
func (l *ledger) accepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

func (l *ledger) note(m map[string]bool, subject string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m[subject] = true
}

// TestKill ends the server at random moments under load and holds it to its
// word: every message that got its 250 is there, once per recipient; none that
// was deleted with an answered QUIT comes back.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	s := setup(t, "[auth]\nplaintext_from = [\"127.0.0.0/8\"]")
	s.run(password+"\n", "account", "add", "ola@"+domain)
	killRounds(t, s, rounds)
}

func killRounds(t *testing.T, s *server, rounds int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	l := newLedger()
	for round := range rounds {
		s.start()
		checkMailbox(t, s, l, "ala@"+domain, true)
		checkMailbox(t, s, l, "ola@"+domain, false)
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() { sendUntilDead(s.addr(25), l, fmt.Sprintf("r%d-c%d", round, i)) })
		}
		wg.Go(func() { deleteUntilDead(s.addr(110), l, "ala@"+domain) })
		enough := l.accepted() + 10 // however slow the disk is
		s.await("letters are accepted", 20*time.Second, func() bool { return l.accepted() >= enough })
		<-time.After(time.Duration(rnd.IntN(900)) * time.Millisecond)
		s.kill()
		wg.Wait()
	}
	s.start()
	checkMailbox(t, s, l, "ala@"+domain, true)
	checkMailbox(t, s, l, "ola@"+domain, false)
	if len(l.acked) < 10*rounds {
		t.Errorf("only %d messages were accepted in %d rounds: the load was no load", len(l.acked), rounds)
	}
	t.Logf("%d messages accepted of %d tried, %d deleted", len(l.acked), len(l.tried), len(l.removed))
	if out, errOut, code := s.command("", "store", "check"); code != 0 {
		t.Errorf("store check after the crashes: exit %d\n%s%s", code, out, errOut)
	}
}

// sendUntilDead sends messages to both mailboxes until nobody listens any more. A session that
// ends otherwise, as with a 4xx reply of a busy server, is followed by the next.
func sendUntilDead(addr string, l *ledger, prefix string) {
	for n := 0; ; n++ {
		conn, err := net.DialTimeout("tcp", addr, 20*time.Second)
		if err != nil {
			return
		}
		r := bufio.NewReader(conn)
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second * patience))
		ok := converse(conn, r, "", "220") && converse(conn, r, "EHLO client.test", "250")
		for k := 0; ok && k < 5; k++ {
			subject := fmt.Sprintf("%s-%d-%d", prefix, n, k)
			ok = converse(conn, r, "MAIL FROM:<x@elsewhere.test>", "250") && converse(conn, r, "RCPT TO:<ala@example.org>", "250") &&
				converse(conn, r, "RCPT TO:<ola@example.org>", "250") && converse(conn, r, "DATA", "354")
			if !ok {
				break
			}
			l.note(l.tried, subject)
			if ok = converse(conn, r, "Subject: "+subject+"\r\n\r\n"+strings.Repeat("text\r\n", 1+n%900)+".", "250"); ok {
				l.note(l.acked, subject)
			}
		}
		_ = conn.Close()
	}
}

// converse sends a line, if any, and reports whether the reply begins with code.
func converse(conn net.Conn, r *bufio.Reader, line, code string) bool {
	if line != "" {
		if _, err := conn.Write([]byte(line + "\r\n")); err != nil {
			return false
		}
	}
	for {
		reply, err := r.ReadString('\n')
		if err != nil || !strings.HasPrefix(reply, code) {
			return false
		}
		if len(reply) < 4 || reply[3] != '-' || reply[0] == '+' {
			return true
		}
	}
}

// deleteUntilDead deletes the first message of the mailbox, session by session.
func deleteUntilDead(addr string, l *ledger, login string) {
	for {
		conn, err := net.DialTimeout("tcp", addr, 20*time.Second)
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second * patience))
		r := bufio.NewReader(conn)
		if !converse(conn, r, "", "+OK") || !converse(conn, r, "USER "+login, "+OK") || !converse(conn, r, "PASS "+password, "+OK") {
			_ = conn.Close()
			return
		}
		if converse(conn, r, "TOP 1 0", "+OK") {
			subject := ""
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if v, ok := strings.CutPrefix(line, "Subject: "); ok {
					subject = strings.TrimSpace(v)
				}
				if line == ".\r\n" {
					break
				}
			}
			if !converse(conn, r, "DELE 1", "+OK") {
				return
			}
			l.note(l.marked, subject)
			if !converse(conn, r, "QUIT", "+OK") {
				return
			}
			l.note(l.removed, subject)
		}
		_ = conn.Close()
	}
}

// checkMailbox compares the mailbox with the ledger.
func checkMailbox(t *testing.T, s *server, l *ledger, login string, deletes bool) {
	t.Helper()
	c := dial(t, s.addr(110))
	c.expect("+OK")
	c.say("USER "+login, "+OK")
	c.say("PASS "+password, "+OK")
	stat := c.say("STAT", "+OK")
	var n, octets int
	if _, err := fmt.Sscanf(stat, "+OK %d %d", &n, &octets); err != nil {
		t.Fatalf("STAT said %q: %v", stat, err)
	}
	seen := map[string]int{}
	for i := range n {
		c.say(fmt.Sprintf("TOP %d 0", i+1), "+OK")
		for _, line := range c.lines() {
			if v, ok := strings.CutPrefix(line, "Subject: "); ok {
				seen[v]++
			}
		}
	}
	c.say("QUIT", "+OK")
	for subject := range l.acked {
		gone := deletes && (l.removed[subject] || l.marked[subject])
		if seen[subject] == 0 && !gone {
			t.Errorf("%s: %s got its 250 and is lost", login, subject)
		}
	}
	for subject, k := range seen {
		if k > 1 {
			t.Errorf("%s: %s is there %d times", login, subject, k)
		}
		if !l.tried[subject] {
			t.Errorf("%s: %s was never sent", login, subject)
		}
		if deletes && l.removed[subject] {
			t.Errorf("%s: %s was deleted with an answered QUIT and came back", login, subject)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}
