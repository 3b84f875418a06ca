package lab_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// session is a raw SMTP or POP3 client on one of the hosts.
type session struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// connect opens a session from a host and reads the greeting.
func connect(t *testing.T, from *host, addr string, port int) *session {
	t.Helper()
	conn, err := from.dial(addr, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute * patience)); err != nil {
		t.Fatal(err)
	}
	s := &session{t, conn, bufio.NewReader(conn)}
	if port == 995 {
		s.secure()
	}
	s.expect("220", "+OK")
	return s
}

// secure begins TLS; what it protects is the laboratory's own.
func (s *session) secure() {
	c := tls.Client(s.conn, &tls.Config{InsecureSkipVerify: true})
	s.conn, s.r = c, bufio.NewReader(c)
}

// expect wants the next reply to begin with one of the prefixes.
func (s *session) expect(prefixes ...string) string {
	s.t.Helper()
	var all strings.Builder
	for {
		line, err := s.r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			s.t.Fatalf("got %q (%v), want %v", all.String(), err, prefixes)
		}
		if len(line) < 4 || line[3] != '-' || line[0] == '+' || line[0] == '-' {
			break
		}
	}
	for _, p := range prefixes {
		if strings.HasPrefix(all.String(), p) {
			return all.String()
		}
	}
	s.t.Fatalf("got %q, want %v", all.String(), prefixes)
	return ""
}

func (s *session) say(line string, prefixes ...string) string {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.conn, "%s\r\n", line); err != nil {
		s.t.Fatal(err)
	}
	return s.expect(prefixes...)
}

// letter is a message to send.
type letter struct {
	from, to string
	mail     string // parameters of MAIL
	rcpt     string // parameters of RCPT
	token    string // in its Subject and Message-ID
	header   string // further fields
	body     string
}

// give sends the letter in a session.
func (s *session) give(l letter) {
	s.t.Helper()
	s.say("MAIL FROM:<"+l.from+">"+l.mail, "250")
	s.say("RCPT TO:<"+l.to+">"+l.rcpt, "250")
	s.say("DATA", "354")
	author := l.from
	if author == "" {
		author = "nobody@lab.test"
	}
	s.say(fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nMessage-ID: <%s@lab.test>\r\nDate: %s\r\n%s\r\n%s\r\n.",
		author, l.to, l.token, l.token, time.Now().Format(time.RFC1123Z), l.header, l.body+"A letter of the laboratory.\r\n.. dots\r\n"), "250")
}

// submit sends a letter as one of our people does: port 587, TLS, AUTH.
func (w *world) submit(t *testing.T, to *poczta, login string, l letter) {
	t.Helper()
	s := w.login(t, to, login)
	s.give(l)
	s.say("QUIT", "221")
}

func (w *world) login(t *testing.T, to *poczta, login string) *session {
	t.Helper()
	s := connect(t, w.client, to.addr, 587)
	s.say("EHLO client.test", "250")
	s.say("STARTTLS", "220")
	s.secure()
	s.say("EHLO client.test", "250")
	s.say("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+login+"\x00"+password)), "235")
	return s
}

// post sends a letter through one of the hosts that let the client relay.
func (w *world) post(t *testing.T, through *host, l letter) {
	t.Helper()
	s := connect(t, w.client, through.addr, 25)
	s.say("EHLO client.test", "250")
	s.give(l)
	s.say("QUIT", "221")
}

// read returns the messages of a mailbox by POP3.
func (w *world) read(t *testing.T, of *poczta, login string) []string {
	t.Helper()
	s := connect(t, w.client, of.addr, 995)
	s.say("USER "+login, "+OK")
	s.say("PASS "+password, "+OK")
	s.say("LIST", "+OK")
	var all []string
	for n := range len(s.lines()) {
		s.say(fmt.Sprintf("RETR %d", n+1), "+OK")
		all = append(all, strings.Join(s.lines(), "\r\n")+"\r\n")
	}
	s.say("QUIT", "+OK")
	return all
}

// lines reads the body of a multi-line POP3 reply, un-stuffed.
func (s *session) lines() []string {
	s.t.Helper()
	var all []string
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			s.t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\r\n")
		if line == "." {
			return all
		}
		all = append(all, strings.TrimPrefix(line, "."))
	}
}

// arrives waits until a mailbox of ours holds a message with all the words.
func (w *world) arrives(t *testing.T, at *poczta, login string, limit time.Duration, words ...string) string {
	t.Helper()
	limit *= patience
	deadline, tick := time.After(limit), time.NewTicker(200*time.Millisecond)
	defer tick.Stop()
	for {
		all := w.read(t, at, login)
		for _, m := range all {
			if containsAll(m, words) {
				return m
			}
		}
		select {
		case <-deadline:
			t.Fatalf("waited %s in vain until %s gets %q; log of %s:\n%s", limit, login, words, at.name, tail(at.p.text()))
		case <-tick.C:
		}
	}
}
