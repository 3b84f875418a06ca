package peer_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailtest/peer"
)

// talk sends text and returns the codes of the replies until the connection ends or so
// many have come.
func talk(t *testing.T, conn net.Conn, text string, replies int) string {
	t.Helper()
	if _, err := io.WriteString(conn, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		t.Error(err)
	}
	var codes []string
	for r := bufio.NewReader(conn); len(codes) < replies; {
		line, err := r.ReadString('\n')
		if err != nil {
			return strings.Join(append(codes, "end"), " ")
		}
		if line[3] == ' ' {
			codes = append(codes, line[:3])
		}
	}
	return strings.Join(codes, " ")
}

const letter = "MAIL FROM:<a@x.example>\nRCPT TO:<b@y.example>\nDATA\nMessage-ID: <%d@x>\n\n..dot\n.\n"

// TestRules: which rule fits, how often, and what counts as taken.
func TestRules(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Rules: []peer.Rule{
		{Stage: peer.Mail, Mail: 2, Do: peer.Reply("450 4.2.0 second")},
		{Stage: peer.Rcpt, Match: "b@", Times: 1, Do: peer.Reply("550 5.1.1 once")},
		{Stage: peer.Final, Mail: 3, Do: peer.Reply("554 5.7.1 no")},
		{Stage: peer.Final, Mail: 4, Do: peer.Drop()},
		{Stage: peer.Greeting, Conn: 2, Do: peer.Reply("421 4.3.2 going")},
	}})
	if got := talk(t, p.Dial(), "EHLO us\nMAIL FROM:<a@x.example>\nRCPT TO:<b@y.example>\nDATA\nRSET\nMAIL FROM:<a@x.example>\n"+fmt.Sprintf(letter, 3)+fmt.Sprintf(letter, 4), 99); got !=
		"220 250 250 550 554 250 450 250 250 354 554 250 250 354 end" {
		t.Errorf("first connection: %s", got)
	}
	if got := talk(t, p.Dial(), "", 99); got != "421 end" {
		t.Errorf("second: %s", got)
	}
	if got := talk(t, p.Dial(), "EHLO us\n"+fmt.Sprintf(letter, 5)+fmt.Sprintf(letter, 5), 10); got != "220 250 250 250 354 250 250 250 354 250" {
		t.Errorf("third: %s", got)
	}
	want := map[peer.Copy]int{{MessageID: "<4@x>", Rcpt: "b@y.example"}: 1, {MessageID: "<5@x>", Rcpt: "b@y.example"}: 2}
	if diff := cmp.Diff(want, p.Copies()); diff != "" {
		t.Errorf("copies (-want +got):\n%s", diff)
	}
	if m := p.Messages(); m[0].Claimed || !m[1].Claimed || string(m[1].Data) != "Message-ID: <5@x>\r\n\r\n.dot\r\n" || m[1].Conn != 3 {
		t.Errorf("messages: %+v", m)
	}
	if p.Connections() != 3 || p.Seen(peer.Mail) != 6 {
		t.Errorf("%d connections, %d MAIL", p.Connections(), p.Seen(peer.Mail))
	}
}

// TestLMTP: each recipient has a reply, and only those who got a positive one count.
func TestLMTP(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{LMTP: true, Discard: true, Rules: []peer.Rule{{Stage: peer.Final, Match: "full@", Do: peer.Reply("452 4.2.2 full")}}})
	if got := talk(t, p.Dial(), "EHLO us\nLHLO us\nMAIL FROM:<>\nRCPT TO:<a@y>\nRCPT TO:<full@y>\nRCPT TO:<c@y>\nDATA\nMessage-ID: <1@x>\n\n.\n", 10); got !=
		"220 502 250 250 250 250 250 354 250 452" {
		t.Errorf("got %s", got)
	}
	if diff := cmp.Diff(map[peer.Copy]int{{MessageID: "<1@x>", Rcpt: "a@y"}: 1, {MessageID: "<1@x>", Rcpt: "c@y"}: 1}, p.Copies()); diff != "" {
		t.Errorf("copies (-want +got):\n%s", diff)
	}
}

// TestBDAT: chunks make one message, and behind a refused one RSET is needed.
func TestBDAT(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Extensions: []string{"CHUNKING"}, Rules: []peer.Rule{{Stage: peer.Final, Mail: 2, Times: 1, Do: peer.Reply("452 4.3.1 full")}}})
	const chunks = "MAIL FROM:<a@x>\nRCPT TO:<b@y>\nBDAT 4\n.a\nBDAT 3 LAST\nb\n"
	if got := talk(t, p.Dial(), "EHLO us\n"+chunks+chunks+"RSET\n"+chunks, 15); got != "220 250 250 250 250 250 250 250 452 503 250 250 250 250 250" {
		t.Errorf("got %s", got)
	}
	if m := p.Messages(); len(m) != 2 || !m[1].Chunked || string(m[0].Data) != ".a\r\nb\r\n" {
		t.Errorf("messages: %+v", m)
	}
}

// TestTime: stalls, drops of water and slow readers run on the bubble's clock.
func TestTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := peer.Start(t, peer.Config{Rules: []peer.Rule{
			{Stage: peer.Greeting, Conn: 1, Do: peer.Late(time.Minute)},
			{Stage: peer.Greeting, Conn: 2, Do: peer.Dripped(time.Second)},
			{Stage: peer.Greeting, Conn: 3, Do: peer.Stall()},
		}})
		began := time.Now()
		if got := talk(t, p.Dial(), "", 1); got != "220" || time.Since(began) != time.Minute {
			t.Errorf("late: %s behind %v", got, time.Since(began))
		}
		began = time.Now()
		greeting := time.Duration(len("220 peer.example ESMTP\r\n") - 1)
		if got := talk(t, p.Dial(), "", 1); got != "220" || time.Since(began) != greeting*time.Second {
			t.Errorf("dripped: %s behind %v", got, time.Since(began))
		}
		conn := p.Dial()
		_ = conn.SetReadDeadline(time.Now().Add(24 * time.Hour))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("stall: %v", err)
		}
	})
}

// TestTCP: the same over loopback, with a real RST.
func TestTCP(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Mail, Do: peer.RST()}}})
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", p.Listen(t).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := talk(t, conn, "EHLO us\n", 2); got != "220 250" {
		t.Errorf("got %s", got)
	}
	if _, err := io.WriteString(conn, "MAIL FROM:<a@x>\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestEveryStageHasAName(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range peer.Stages() {
		if name := s.String(); name == "" || seen[name] {
			t.Errorf("stage %d is called %q", s, name)
		}
		seen[s.String()] = true
	}
}
