package smtpserver_test

import (
	"bytes"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/smtpserver"
)

// preludes bring a session into each of its states.
var preludes = []string{
	"",
	"EHLO h\r\n",
	"EHLO h\r\nMAIL FROM:<a@a.example>\r\n",
	"EHLO h\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\n",
	"EHLO h\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\nDATA\r\n",
	"EHLO h\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\nBDAT 4\r\nabcd",
	"EHLO h\r\nMAIL FROM:<early@a.example>\r\nRCPT TO:<b@foo.com>\r\nBDAT 4\r\nabcd",
	"EHLO h\r\nAUTH LOGIN\r\n",
	"EHLO h\r\nXCLIENT ADDR=192.0.2.7 LOGIN=ala\r\n",
}

// replyLine is what a server may say.
var replyLine = regexp.MustCompile(`^[2345][0-9][0-9][ -][ -~]*\r\n$`)

// clockless leaves the time out of FUTURERELEASE.
func clockless(replies string) string {
	return futureRelease.ReplaceAllString(replies, "$1")
}

var futureRelease = regexp.MustCompile(`(FUTURERELEASE \d+) [-0-9TZ:]+`)

// FuzzSession feeds a session octets in each of its states, in one piece and octet
// by octet. The dialogue must end, the replies be well-formed and the same, the
// transactions have an end.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n", "BDAT 3\r\nabcBDAT 0 LAST\r\nNOOP\r\n",
		"YWxh\r\na290\r\n", "*\r\n", "STARTTLS\r\nNOOP\r\n", "\n.\n\r.\r\r\n.\r\n", "RSET\r\nEHLO x\r\n", "POST / HTTP/1.1\r\n\r\n", "\x16\x03\x01",
		"MAIL FROM:<a@a.example> REQUIRETLS\r\nMAIL FROM:<a@a.example> HOLDFOR=9 BY=99;R MT-PRIORITY=-1\r\n", "ETRN @mysoft.com\r\nETRN #q\r\n",
	} {
		for state := range preludes {
			f.Add(uint8(state), []byte(s))
		}
	}
	options := map[string]string{"auth": "yes", "plaintext": "yes", "xclient": "yes", "size": "5000", "errors": "5", "idle": "20",
		"requiretls": "yes", "hold": "3600", "by": "60", "priority": "4"}
	f.Fuzz(func(t *testing.T, state uint8, octets []byte) {
		send := preludes[int(state)%len(preludes)] + string(octets)
		whole, _ := converse(t, configure(t, options), send, len(send)+1)
		if single, _ := converse(t, configure(t, options), send, 1); clockless(single) != clockless(whole) {
			t.Errorf("%q: whole %q, octet by octet %q", send, whole, single)
		}
		for line := range strings.Lines(whole) {
			if !replyLine.MatchString(line) {
				t.Errorf("%q: reply line %q", send, line)
			}
		}
	})
}

// converse sends octets in pieces, closes that half, and returns all replies and the
// messages that were taken.
func converse(t *testing.T, cfg smtpserver.Config, send string, piece int) (string, []letter) {
	t.Helper()
	client, end := memconn.Pair()
	b := &box{}
	cfg.Hostname, cfg.Service = "mx.example.org", starter{b, true}
	cfg.Limits.Linger = time.Millisecond
	srv, err := smtpserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l := &oneListener{conn: end, closed: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(t.Context(), l) }()
	for len(send) > 0 {
		n, err := client.Write([]byte(send[:min(piece, len(send))]))
		if err != nil { // the server has hung up
			break
		}
		send = send[n:]
	}
	_ = client.CloseWrite()
	replies := readAll(t, client)
	_ = client.Close()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if b.open != 0 {
		t.Errorf("%d transactions have no end", b.open)
	}
	for _, m := range b.letters {
		if d := []byte(m.Data); bytes.Count(d, []byte("\r\n")) != bytes.Count(d, []byte("\n")) || bytes.Count(d, []byte("\r\n")) != bytes.Count(d, []byte("\r")) || len(d) > 0 && !bytes.HasSuffix(d, []byte("\r\n")) {
			t.Errorf("a message with bare CR or LF was taken: %q", d)
		}
	}
	return replies, b.letters
}

// oneListener gives out one connection.
type oneListener struct {
	conn   net.Conn
	closed chan struct{}
}

func (l *oneListener) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestHalfClose ends a client's sending at every octet of a dialogue: only messages
// that came whole are taken, each of them answered.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	const envelope = "MAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\n"
	first := "EHLO h\r\n" + envelope + "DATA\r\ntext\r\n.\r\n"
	second := first + envelope + "BDAT 4\r\nabcdBDAT 4\r\nefghBDAT 4 LAST\r\nijkl"
	third := second + envelope + "BDAT 4\r\nabcdBDAT 0 LAST\r\n"
	for n := range len(third) + 1 {
		want := 0
		for _, end := range []int{len(first), len(second), len(third)} {
			if n >= end {
				want++
			}
		}
		replies, letters := converse(t, smtpserver.Config{}, third[:n], n+1)
		if len(letters) != want || strings.Count(replies, "Took") != want {
			t.Errorf("behind %q: %d messages, want %d; replies %q", third[:n], len(letters), want, replies)
		}
	}
}
