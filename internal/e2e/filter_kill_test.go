package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	endian "encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailtest/peer"
)

// slowly waits a random time that is mostly short.
func slowly(most time.Duration) {
	<-time.After(time.Duration(rand.Float64() * rand.Float64() * float64(most)))
}

// slowScanner speaks clamd's protocol and takes up to most over a message. It finds a virus in
// what holds the word Evil, and suspects what holds the word Odd.
func slowScanner(t *testing.T, most time.Duration) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); scanSlowly(c, most) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

func scanSlowly(c net.Conn, most time.Duration) {
	_ = c.SetDeadline(time.Now().Add(time.Minute * patience))
	r := bufio.NewReader(c)
	if word, err := r.ReadString(0); err != nil || word != "zINSTREAM\x00" {
		return
	}
	var msg bytes.Buffer
	for {
		var size [4]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return
		}
		n := int64(endian.BigEndian.Uint32(size[:]))
		if n == 0 {
			break
		}
		if _, err := io.CopyN(&msg, r, n); err != nil {
			return
		}
	}
	slowly(most)
	says := "OK"
	switch {
	case bytes.Contains(msg.Bytes(), []byte("\r\nEvil.")):
		says = "Test.Virus FOUND"
	case bytes.Contains(msg.Bytes(), []byte("\r\nOdd.")):
		says = "Heuristics.Test FOUND"
	}
	_, _ = io.WriteString(c, "stream: "+says+"\x00")
}

// slowHook puts off what has the subject Later, and takes up to most over each message.
func slowHook(t *testing.T, most time.Duration) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var facts struct {
			Header string `json:"header"`
		}
		if err := json.NewDecoder(q.Body).Decode(&facts); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		slowly(most)
		if strings.Contains(facts.Header, "\r\nSubject: Later\r\n") {
			_, _ = io.WriteString(w, `{"action": "defer"}`)
			return
		}
		_, _ = io.WriteString(w, `{"add_headers": [{"name": "X-Hook", "value": "seen"}]}`)
	})}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	t.Cleanup(func() { _ = h.Close(); <-ended })
	return "http://" + l.Addr().String() + "/"
}

// judged records what clients sent past slow filters and what they heard, by Message-ID.
type judged struct {
	mu      sync.Mutex
	tried   map[string]string // its kind: Fine, Odd, Evil, Later, Large
	acked   map[string]bool
	refused int // with the reply that its kind is to get
	wrong   []string
}

// replies is how many messages were answered.
func (j *judged) replies() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.acked) + j.refused
}

// pour sends messages of all kinds, session by session, until the server is gone.
func (j *judged) pour(addr, prefix, from, secret string, to ...string) {
	for n := 0; ; n++ {
		conn, err := net.DialTimeout("tcp", addr, 20*time.Second)
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute * patience))
		r := bufio.NewReader(conn)
		ok := converse(conn, r, "", "220") && converse(conn, r, "EHLO client.test", "250")
		if secret != "" {
			ok = ok && converse(conn, r, "AUTH PLAIN "+plain(from, secret), "235")
		}
		for k := 0; ok && k < 8; k++ {
			ok = j.send(conn, r, fmt.Sprintf("%s-%d-%d@test", prefix, n, k), from, to)
		}
		_ = conn.Close()
		if !ok {
			return
		}
	}
}

// send sends one message and reports whether the session goes on.
func (j *judged) send(conn net.Conn, r *bufio.Reader, id, from string, to []string) bool {
	kind := []string{"Fine", "Fine", "Fine", "Fine", "Odd", "Odd", "Evil", "Later", "Large"}[rand.IntN(9)]
	want, body := "250", kind+".\r\n"
	switch outgoing := strings.HasSuffix(from, domain); kind {
	case "Odd":
		if outgoing { // its sender reads why
			want = "550"
		}
	case "Evil":
		want = "550"
	case "Later":
		want = "451"
	case "Large":
		body += strings.Repeat(strings.Repeat("large ", 12)+"\r\n", 16<<10)
	}
	ok := converse(conn, r, "MAIL FROM:<"+from+">", "250")
	for _, t := range to {
		ok = ok && converse(conn, r, "RCPT TO:<"+t+">", "250")
	}
	if !ok || !converse(conn, r, "DATA", "354") {
		return false
	}
	j.mu.Lock()
	j.tried[id] = kind
	j.mu.Unlock()
	text := "From: " + from + "\r\nTo: " + to[0] + "\r\nDate: " + time.Now().Format(time.RFC1123Z) + "\r\nMessage-ID: <" + id + ">\r\nSubject: " + kind + "\r\n\r\n" + body + ".\r\n"
	if _, err := io.WriteString(conn, text); err != nil {
		return false
	}
	reply, err := r.ReadString('\n')
	if err != nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case strings.HasPrefix(reply, "250"):
		j.acked[id] = true
	case strings.HasPrefix(reply, want):
		j.refused++
	}
	if !strings.HasPrefix(reply, want) {
		j.wrong = append(j.wrong, kind+" from "+from+": "+reply)
	}
	return true
}

// TestKillWhileFiltering ends the server at random moments while filters that take their time have
// messages of several connections in hand. Whatever got its 250 is there once for each recipient:
// in the INBOX, apart with its note, on hold, or at the other host. What was refused or put off is
// nowhere, and what had no reply is there wholly or not at all.
func TestKillWhileFiltering(t *testing.T) {
	t.Parallel()
	rounds := 22
	if testing.Short() {
		rounds = 4
	}
	p := peer.Start(t, peer.Config{Discard: true})
	s := setup(t, plaintext, unlimited, hub(p.Listen(t)), "[spam]\ngreylist = false", "[conduct]\nenabled = false",
		fmt.Sprintf("[clamd]\naddress = %q", slowScanner(t, 120*time.Millisecond)),
		fmt.Sprintf("[hook]\nurl = %q\nsend = \"header\"\noutgoing = true\nwhen_down = \"defer\"", slowHook(t, 80*time.Millisecond)),
		"[relay]\nretry = [\"10s\"]\nprobe = [\"10s\"]")
	s.run(password+"\n", "account", "add", ola)
	s.run("", "account", "forward", ola, "copy@far.test")
	j := &judged{tried: map[string]string{}, acked: map[string]bool{}}
	for round := range rounds {
		s.start()
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() { j.pour(s.addr(25), fmt.Sprintf("in-%d-%d", round, i), "x@remote.test", "", ala, ola) })
		}
		for i := range 2 {
			wg.Go(func() { j.pour(s.addr(587), fmt.Sprintf("out-%d-%d", round, i), ala, password, "y@far.test", ola) })
		}
		enough := j.replies() + 2 + rand.IntN(12)
		s.await("clients heard replies", 5*time.Second, func() bool { return j.replies() >= enough })
		slowly(200 * time.Millisecond)
		s.kill()
		wg.Wait()
	}
	for _, w := range j.wrong {
		t.Error(w)
	}
	s.start()
	s.await("nothing waits in the queue but what is on hold", 30*time.Second, func() bool { return len(s.list("queue", "list", "--state", "waiting")) == 0 })
	s.run("", "store", "merge")
	s.stop()
	s.everyVerdictHeld(j, copies(p), rounds)
}

// everyVerdictHeld holds the index of the stopped server, and what the other host got, against what
// clients heard.
func (s *server) everyVerdictHeld(j *judged, went map[peer.Copy]int, rounds int) {
	s.t.Helper()
	d := s.open()
	folders := rowsOf(s.t, d, `SELECT t.message_id, m.name FROM entry e JOIN trace t ON t.id = e.body AND t.n = 0 JOIN mailbox m ON m.account = e.account AND m.number = e.number ORDER BY e.account`)
	held := rowsOf(s.t, d, `SELECT t.message_id, q.forward_path FROM queued_recipient q JOIN trace t ON t.id = q.id AND t.n = 0`)
	lost, twice := 0, 0
	for id, kind := range j.tried {
		in, incoming := fmt.Sprint(folders["<"+id+">"]), strings.HasPrefix(id, "in-")
		odd := kind == "Odd" && incoming
		want, onHold := "[INBOX INBOX]", 0
		if !incoming {
			want = "[INBOX]"
		}
		if odd {
			want, onHold = "[Quarantine Quarantine]", 1
		}
		copied := went[peer.Copy{MessageID: id, Rcpt: "copy@far.test"}]
		there := in == want && len(held["<"+id+">"]) == onHold && (copied > 0) == !odd && (incoming || went[peer.Copy{MessageID: id, Rcpt: "y@far.test"}] > 0)
		nowhere := in == "[]" && len(held["<"+id+">"]) == 0 && copied == 0 && went[peer.Copy{MessageID: id, Rcpt: "y@far.test"}] == 0
		switch kept := kind == "Fine" || kind == "Large" || odd; {
		case j.acked[id] && !there, !there && !nowhere, there && !kept:
			s.t.Errorf("%s, %s, accepted %v: in folders %s, on hold %v, copied %d times", id, kind, j.acked[id], in, held["<"+id+">"], copied)
		case there && !j.acked[id]:
			lost++
		}
		twice += max(0, copied-1)
	}
	s.t.Logf("%d messages accepted and %d refused of %d tried; of %d the 250 was lost, %d copies went twice", len(j.acked), j.refused, len(j.tried), lost, twice)
	if len(j.acked) < rounds || j.refused < rounds/4 || len(j.tried) < 5*rounds {
		s.t.Error("the load was no load")
	}
	for query, want := range map[string]int64{
		`SELECT COUNT(*) FROM set_apart WHERE NOT EXISTS (SELECT 1 FROM entry e WHERE e.account = set_apart.account AND e.number = set_apart.number AND e.uid = set_apart.uid AND e.body = set_apart.id)`: 0,
		`SELECT COUNT(*) FROM entry e JOIN mailbox m ON m.account = e.account AND m.number = e.number WHERE m.name = 'Quarantine'
			AND NOT EXISTS (SELECT 1 FROM set_apart s WHERE s.account = e.account AND s.id = e.body)`: 0,
		`SELECT COUNT(*) FROM queued_recipient WHERE id NOT IN (SELECT id FROM queued_message)`:                            0,
		`SELECT COUNT(*) FROM queued_message WHERE id NOT IN (SELECT id FROM body)`:                                        0,
		`SELECT COUNT(*) FROM body WHERE id NOT IN (SELECT body FROM entry) AND id NOT IN (SELECT id FROM queued_message)`: 0,
		`SELECT COUNT(*) FROM entry WHERE body NOT IN (SELECT id FROM body)`:                                               0,
		`SELECT COUNT(*) FROM body b LEFT JOIN (SELECT body, COUNT(*) AS n FROM (SELECT body FROM entry UNION ALL SELECT id FROM queued_message) GROUP BY body) r
			ON r.body = b.id WHERE b.refs <> COALESCE(r.n, 0)`: 0,
	} {
		if got := number(s.t, d, query); got != want {
			s.t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	large := number(s.t, d, `SELECT COUNT(*) FROM body WHERE segment LIKE '%.big'`)
	if err := d.Close(); err != nil {
		s.t.Error(err)
	}
	if files := glob(s.t, filepath.Join(s.dir, "data", "segments", "large", "*")); int64(len(files)) != large || large == 0 {
		s.t.Errorf("%d files of large messages are left, want %d: %v", len(files), large, files)
	}
	if out, errOut, code := s.command("", "store", "check"); code != 0 {
		s.t.Errorf("store check: exit %d\n%s%s", code, out, errOut)
	}
}

// rowsOf are the second columns of a query's rows by the first.
func rowsOf(t *testing.T, d db.Database, query string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	err := d.View(context.Background(), func(tx db.Tx) error {
		clear(all)
		rows, err := tx.Query(query)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var k, v string
			if err := rows.Scan(&k, &v); err != nil {
				return err
			}
			all[k] = append(all[k], v)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return all
}
