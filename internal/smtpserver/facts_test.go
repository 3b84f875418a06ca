package smtpserver_test

import (
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpserver"
)

// transact is the dialogue of a transaction, without greeting and EHLO.
const transact = `C: MAIL FROM:<a@a.example>
S: 250
C: RCPT TO:<b@foo.com>
S: 250
C: DATA
S: 354
C: .
S: 250
`

// TestFacts holds what a Service is told of each kind of session.
func TestFacts(t *testing.T) {
	t.Parallel()
	type facts struct {
		Protocol, Helo, Peer, PeerName, Local, Login string
		TLS                                          bool
	}
	peer, local := "192.0.2.1:40000", "192.0.2.25:25"
	for _, tt := range []struct {
		name, options, dialogue string
		want                    facts
	}{
		{"SMTP", "", "S: 220\nC: HELO h\nS: 250\n" + transact, facts{Protocol: "SMTP", Helo: "h", Peer: peer, Local: local}},
		{"ESMTP", "", "S: 220\nC: EHLO h\nS: 250\n" + transact, facts{Protocol: "ESMTP", Helo: "h", Peer: peer, Local: local}},
		{"UTF8SMTP", "", "S: 220\nC: EHLO h\nS: 250\n" + strings.Replace(transact, "a.example>", "a.example> SMTPUTF8", 1), facts{Protocol: "UTF8SMTP", Helo: "h", Peer: peer, Local: local}},
		{"LMTP", "lmtp=yes", "S: 220\nC: LHLO h\nS: 250\n" + transact, facts{Protocol: "LMTP", Helo: "h", Peer: peer, Local: local}},
		{"UTF8LMTPS", "lmtp=yes tls=implicit", "TLS\nS: 220\nC: LHLO h\nS: 250\n" + strings.Replace(transact, "a.example>", "a.example> SMTPUTF8", 1), facts{Protocol: "UTF8LMTPS", Helo: "h", Peer: peer, Local: local, TLS: true}},
		{"ESMTPS", "tls=start", "S: 220\nC: EHLO g\nS: 250\nC: STARTTLS\nS: 220\nTLS\nC: EHLO h\nS: 250\n" + transact, facts{Protocol: "ESMTPS", Helo: "h", Peer: peer, Local: local, TLS: true}},
		{"ESMTPA", "auth=yes plaintext=yes", "S: 220\nC: EHLO h\nS: 250\nC: AUTH PLAIN AGFsYQBrb3Q=\nS: 235\n" + transact, facts{Protocol: "ESMTPA", Helo: "h", Peer: peer, Local: local, Login: "ala@example.org"}},
		{"ESMTPSA", "auth=yes tls=implicit", "TLS\nS: 220\nC: EHLO h\nS: 250\nC: AUTH PLAIN AGFsYQBrb3Q=\nS: 235\nC: EHLO i\nS: 250\n" + transact, facts{Protocol: "ESMTPSA", Helo: "i", Peer: peer, Local: local, Login: "ala@example.org", TLS: true}},
		{"STARTTLS forgets AUTH", "auth=yes plaintext=yes tls=start", "S: 220\nC: EHLO h\nS: 250\nC: AUTH PLAIN AGFsYQBrb3Q=\nS: 235\nC: STARTTLS\nS: 220\nTLS\nC: EHLO h\nS: 250\n" + transact, facts{Protocol: "ESMTPS", Helo: "h", Peer: peer, Local: local, TLS: true}},
		{"PROXY v1", "proxy=yes", "C: PROXY TCP4 198.51.100.22 203.0.113.7 35646 26\nS: 220\nC: EHLO h\nS: 250\n" + transact, facts{Protocol: "ESMTP", Helo: "h", Peer: "198.51.100.22:35646", Local: "203.0.113.7:26"}},
		{"PROXY v2", "proxy=yes", "C\" \"\\r\\n\\r\\n\\x00\\r\\nQUIT\\n\\x21\\x11\\x00\\x0c\\xc6\\x33\\x64\\x16\\xcb\\x00\\x71\\x07\\x8b\\x3e\\x00\\x19\"\nS: 220\nC: EHLO h\nS: 250\n" + transact, facts{Protocol: "ESMTP", Helo: "h", Peer: "198.51.100.22:35646", Local: "203.0.113.7:25"}},
		{"PROXY LOCAL", "proxy=yes", "C\" \"\\r\\n\\r\\n\\x00\\r\\nQUIT\\n\\x20\\x00\\x00\\x00\"\nS: 220\nC: EHLO h\nS: 250\n" + transact, facts{Protocol: "ESMTP", Helo: "h", Peer: peer, Local: local}},
		{"XCLIENT", "xclient=yes", "S: 220\nC: EHLO p\nS: 250\nC: XCLIENT NAME=spike.example ADDR=IPV6:2001:db8::7 PORT=99 PROTO=SMTP HELO=spike LOGIN=ala DESTADDR=203.0.113.7 DESTPORT=587\nS: 220\nC: EHLO p\nS: 250\n" + transact, facts{Protocol: "SMTP", Helo: "spike", Peer: "[2001:db8::7]:99", PeerName: "spike.example", Local: "203.0.113.7:587", Login: "ala@example.org"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			options := map[string]string{}
			for o := range strings.FieldsSeq(tt.options) {
				k, v, _ := strings.Cut(o, "=")
				options[k] = v
			}
			h := open(t, configure(t, options))
			run(t, h.dial(t), tt.dialogue)
			letters := h.box.taken()
			if len(letters) != 1 {
				t.Fatalf("got %d messages, want 1", len(letters))
			}
			l := letters[0]
			o := l.Envelope.Origin
			got := facts{o.Protocol, o.Helo, o.Peer.String(), o.PeerName, l.Session.Local.String(), o.Login, o.TLS != ""}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
			if len(o.ConnID) != 13 || o.Time.IsZero() || (l.Session.TLS != nil) != tt.want.TLS || (o.Account != 0) != (tt.want.Login != "") {
				t.Errorf("origin %+v, TLS %v", o, l.Session.TLS != nil)
			}
		})
	}
}

// TestEnvelope holds that the parameters of MAIL and RCPT reach the Service.
func TestEnvelope(t *testing.T) {
	t.Parallel()
	h := open(t, smtpserver.Config{})
	run(t, h.dial(t), `S: 220
C: EHLO h
S: 250
C: MAIL FROM:<a@a.example> SIZE=12 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By
S: 250
C: RCPT TO:<b@foo.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bc@foo.com
S: 250
C: RCPT TO:<nobody@foo.com>
S: 550
C: RCPT TO:<postmaster>
S: 250
C: DATA
S: 354
C: ..x
C: .
S: 250
`)
	letters := h.box.taken()
	if len(letters) != 1 {
		t.Fatalf("got %d messages, want 1", len(letters))
	}
	e := letters[0].Envelope
	if e.ReversePath.String() != "<a@a.example>" || e.Size != 12 || e.Body != envelope.Body8BitMIME || !e.SMTPUTF8 || e.Return != envelope.ReturnHeaders || e.EnvelopeID != "x+y" {
		t.Errorf("envelope %+v", e)
	}
	if len(e.Recipients) != 2 || e.Recipients[0].Notify != envelope.NotifySuccess|envelope.NotifyDelay ||
		e.Recipients[0].Original != (envelope.OriginalRecipient{Type: "rfc822", Address: "b+c@foo.com"}) || !e.Recipients[1].ForwardPath.IsPostmaster() {
		t.Errorf("recipients %+v", e.Recipients)
	}
	if letters[0].Data != ".x\r\n" {
		t.Errorf("data %q", letters[0].Data)
	}
}

// TestSmuggling sends what other servers took for the end of data: one message, or
// none, may come of it, and no command in it is obeyed.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	root := os.Getenv("POCZTA_TESTDATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	table, err := os.ReadFile(filepath.Join(root, "smtp", "smuggling-sequences.tsv"))
	if err != nil {
		t.Skipf("no foreign test data (POCZTA_TESTDATA): %v", err)
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if strings.HasPrefix(line, "#") || len(fields) < 2 {
			continue
		}
		t.Run(fields[0], func(t *testing.T) {
			t.Parallel()
			seq, err := hex.DecodeString(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			h := open(t, smtpserver.Config{})
			c := h.dial(t)
			hidden := "MAIL FROM:<x@a.example>\r\nRCPT TO:<b@foo.com>\r\nDATA\r\nhidden\r\n.\r\n"
			send := "EHLO h\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@foo.com>\r\nDATA\r\nbody" + string(seq) + hidden + "QUIT\r\n"
			if _, err := c.Write([]byte(send)); err != nil {
				t.Fatal(err)
			}
			replies := readAll(t, c)
			if n := strings.Count(replies, "\n354 "); n != 1 {
				t.Errorf("%d messages began, want 1:\n%s", n, replies)
			}
			letters := h.box.taken()
			if strings.Contains(fields[0], "x00") { // no bare CR or LF: one message that holds it all
				if len(letters) != 1 || !strings.Contains(letters[0].Data, "hidden") {
					t.Errorf("got %d messages", len(letters))
				}
			} else if len(letters) != 0 || !strings.Contains(replies, "\n550 5.6.0 ") {
				t.Errorf("got %d messages, want a refusal:\n%s", len(letters), replies)
			}
		})
	}
}

// readAll reads until the server closes.
func readAll(t testing.TB, c net.Conn) string {
	t.Helper()
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String()
		}
	}
}

// countingConn counts writes.
type countingConn struct {
	net.Conn

	writes atomic.Int32
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// countingListener gives out one connection that counts.
type countingListener struct {
	net.Listener

	conn *countingConn
	made chan struct{}
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.conn = &countingConn{Conn: c}
		close(l.made)
		return l.conn, nil
	}
	return nil, err
}

// TestFewWrites holds that the replies of a pipelined group leave in one write.
func TestFewWrites(t *testing.T) {
	t.Parallel()
	h := open(t, smtpserver.Config{})
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &countingListener{Listener: inner, made: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- h.Serve(t.Context(), l) }()
	t.Cleanup(func() { _ = inner.Close(); <-done })
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	run(t, c, `S: 220
C: EHLO h
C: MAIL FROM:<a@a.example>
C: RCPT TO:<b@foo.com>
C: RCPT TO:<c@foo.com>
C: DATA
S: 250
S: 250
S: 250
S: 250
S: 354
C: text
C: .
C: MAIL FROM:<a@a.example>
C: RCPT TO:<b@foo.com>
C: NOOP
S: 250
S: 250
S: 250
S: 250
`)
	<-l.made
	if n := l.conn.writes.Load(); n != 3 { // greeting, two groups
		t.Errorf("the server wrote %d times, want 3", n)
	}
}

// TestConfig holds that a wrong configuration is refused with all that is wrong.
func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := smtpserver.New(smtpserver.Config{Hostname: "no host", ImplicitTLS: true, Limits: smtpserver.Limits{Recipients: 3, Errors: -1}})
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{"hostname", "Service", "TLS", "at least 100", "negative"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
}

// TestHooks holds that the hooks tell what happened.
func TestHooks(t *testing.T) {
	t.Parallel()
	var opened, closed, messages atomic.Int32
	var replied [smtp.NumVerbs]atomic.Int32
	released := make(chan struct{})
	h := open(t, smtpserver.Config{
		Admit: func(p netip.AddrPort) (func(), error) {
			if !p.IsValid() {
				t.Error("Admit got no address")
			}
			return func() { close(released) }, nil
		},
		Hooks: smtpserver.Hooks{
			Opened:  func() { opened.Add(1) },
			Replied: func(v smtp.Verb, _ int) { replied[v].Add(1) },
			Message: func(octets int64, code int, _ time.Duration) {
				messages.Add(1)
				if octets != 6 || code != 250 {
					t.Errorf("message of %d octets, reply %d", octets, code)
				}
			},
			Closed: func(time.Duration) { closed.Add(1) },
		},
	})
	run(t, h.dial(t), "S: 220\nC: EHLO h\nS: 250\n"+strings.Replace(transact, "C: .", "C: text\nC: .", 1)+"C: QUIT\nS: 221\nEOF\n")
	<-released
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if opened.Load() != 1 || closed.Load() != 1 || messages.Load() != 1 {
		t.Errorf("opened %d, closed %d, messages %d, want 1 each", opened.Load(), closed.Load(), messages.Load())
	}
	for _, v := range []smtp.Verb{smtp.EHLO, smtp.MAIL, smtp.RCPT, smtp.QUIT} {
		if n := replied[v].Load(); n != 1 {
			t.Errorf("%v was answered %d times, want 1", v, n)
		}
	}
	if n := replied[smtp.DATA].Load(); n != 2 {
		t.Errorf("DATA was answered %d times, want 2", n)
	}
}
