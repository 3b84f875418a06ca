package smtpclient_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
)

var update = flag.Bool("update", false, "rewrite golden files")

// mode is a kind of session in which every stage meets every fault.
type mode struct {
	name   string
	server peer.Config
	octets int  // of the message
	short  bool // only the stages of a transaction
}

var server250 = []string{"SIZE 50000000", "8BITMIME", "ENHANCEDSTATUSCODES"}

func modes(tlsConfig *tls.Config) []mode {
	with := func(more ...string) []string { return append(more, server250...) }
	return []mode{
		{"plain", peer.Config{Extensions: server250}, 300, false},
		{"pipelining", peer.Config{Extensions: with("PIPELINING")}, 300, true},
		{"pipelining long", peer.Config{Extensions: with("PIPELINING")}, 300_000, true},
		{"one flight", peer.Config{Extensions: with("PIPELINING", "CHUNKING")}, 300, true},
		{"chunks", peer.Config{Extensions: with("PIPELINING", "CHUNKING")}, 2_200_000, true},
		{"LMTP", peer.Config{Extensions: with("PIPELINING"), LMTP: true}, 300, false},
		{"TLS", peer.Config{Extensions: with("PIPELINING"), TLS: tlsConfig, Login: "us", Password: "secret", Mechanisms: []string{"LOGIN"}}, 300, false},
	}
}

// faults are what can happen at each stage.
func faults() []peer.Fault {
	return []peer.Fault{
		peer.Reply("421 4.3.2 going down"), peer.Reply("450 4.2.0 later"), peer.Reply("554 5.7.1 no"), peer.Reply("554 5.7.1 no").ThenDrop(),
		peer.Reply("354 what"), peer.Reply("250 fine"), peer.Reply("250"), peer.Reply("250 ", "250-", "250"), peer.Reply("999 x"), peer.Reply("250-a", "550 b"),
		peer.Stall(), peer.Late(time.Minute), peer.Drop(), peer.RST(), peer.Garbage(), peer.Flood(40_000), peer.Flood(3 << 19),
		peer.Endless(), peer.EndlessLine(), peer.Trickle(30 * time.Second), peer.Dripped(time.Second), peer.Extra(), peer.SlowRead(time.Second),
	}
}

// TestMatrix lets every fault happen at every stage of every kind of session. What the
// client makes of it is a golden file; beside it these hold for each: a recipient who was
// accepted got the message once, one who was refused or left undecided without the
// warning Lost got none, time and goroutines end (the bubble waits for them). Each runs in
// both orders; where it makes a difference whether the client has seen what a server sent
// too much, the file has both outcomes, the quick server's first.
func TestMatrix(t *testing.T) {
	t.Parallel()
	cert, pool := peer.Certificate(t, "peer.example")
	lines := make([][]string, 0, 64)
	t.Run("all", func(t *testing.T) {
		for _, m := range modes(&tls.Config{Certificates: []tls.Certificate{cert}}) {
			for _, stage := range peer.Stages() {
				if m.server.TLS == nil && (stage == peer.StartTLS || stage == peer.Handshake || stage == peer.Auth) ||
					m.short && (stage < peer.Mail || stage > peer.Final) {
					continue
				}
				lines = append(lines, make([]string, len(faults())))
				out := lines[len(lines)-1]
				t.Run(m.name+" "+stage.String(), func(t *testing.T) {
					t.Parallel()
					for i, f := range faults() {
						var met [2]string
						for j, o := range []order{quickServer, slowServer} {
							synctest.Test(t, func(t *testing.T) {
								met[j] = meet(t, m, peer.Rule{Stage: stage, Do: f}, o, &tls.Config{RootCAs: pool, ServerName: "peer.example"})
							})
						}
						if met[0] != met[1] {
							met[0] += " || " + met[1]
						}
						out[i] = fmt.Sprintf("%-16s %-9s %-26s %s\n", m.name, stage, f, met[0])
					}
				})
			}
		}
	})
	var got strings.Builder
	for _, l := range lines {
		got.WriteString(strings.Join(l, ""))
	}
	file := filepath.Join("testdata", "matrix.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("outcomes (-want +got), see -update:\n%s", diff)
	}
}

// meet runs a session against the rule's fault, once, and describes it.
func meet(t *testing.T, m mode, rule peer.Rule, o order, tlsConfig *tls.Config) string {
	t.Helper()
	stage, f := rule.Stage, rule.Do
	rule.Times, rule.Do = 1, f.AfterOctets(100)
	if stage == peer.Rcpt || stage == peer.Final && m.server.LMTP {
		rule.Rcpt = 2
	}
	m.server.Rules = []peer.Rule{rule}
	p := peer.Start(t, m.server)
	began := time.Now()
	var d smtpclient.Dialogue
	text := session(t, p, &ordered{Conn: p.Dial(), order: o}, m, tlsConfig, &d)
	took := time.Since(began)
	if took > 2*time.Hour {
		t.Errorf("%s %s %s: took %v", m.name, stage, f, took)
	}
	if n := len(d.Bytes()); n > smtpclient.DialogueOctets+10 {
		t.Errorf("dialogue of %d octets", n)
	}
	if strings.Contains(d.String(), "c2VjcmV0") || strings.Contains(d.String(), "Message-ID") {
		t.Errorf("secrets or mail data in the dialogue:\n%s", d.String())
	}
	return fmt.Sprintf("%s %s", text, took.Round(time.Second))
}

// session is a whole session: two messages with RSET between.
func session(t *testing.T, p *peer.Peer, conn net.Conn, m mode, tlsConfig *tls.Config, d *smtpclient.Dialogue) string {
	t.Helper()
	ctx := t.Context()
	s, err := smtpclient.Open(ctx, conn, smtpclient.Config{Hello: "us.example", LMTP: m.server.LMTP, Dialogue: d})
	if err != nil {
		return "open: " + describe(err)
	}
	defer s.Close()
	if m.server.TLS != nil {
		if err := s.StartTLS(ctx, tlsConfig); err != nil {
			return "tls: " + describe(err) + usable(s)
		}
		if err := s.Auth(ctx, smtpclient.Credentials{Username: "us", Password: "secret"}); err != nil {
			return "auth: " + describe(err) + usable(s)
		}
	}
	text := exchange(t, p, s, m, "1")
	if err := s.Reset(ctx); err != nil && s.Usable() {
		t.Errorf("RSET failed in a usable session: %v", err)
	}
	if s.Usable() {
		text += " | " + exchange(t, p, s, m, "2")
	}
	_ = s.Quit(ctx) // nothing depends on it
	return text
}

func usable(s *smtpclient.Session) string {
	if s.Usable() {
		return ", usable"
	}
	return ""
}

// exchange sends a message and holds what the client says against what the server took.
func exchange(t *testing.T, p *peer.Peer, s *smtpclient.Session, m mode, id string) string {
	t.Helper()
	data := "Message-ID: <" + id + "@us.example>\r\n\r\n" + string(bytes.Repeat([]byte(".0123456789012345678901234567890123456789\r\n"), m.octets/43))
	msg := letter(data, "a@peer.example", "b@peer.example", "c@peer.example")
	o, err := s.Send(t.Context(), msg)
	e, _ := errors.AsType[*smtpclient.Error](err)
	synctest.Wait() // the server may still be reading
	copies := p.Copies()
	var words []string
	for i, r := range o.Recipients {
		n := copies[peer.Copy{MessageID: "<" + id + "@us.example>", Rcpt: msg.Recipients[i].ForwardPath}]
		word := fmt.Sprint(r.Reply.Code)
		switch {
		case r.Accepted:
			word = "+"
			if n != 1 {
				t.Errorf("recipient %d was accepted and got %d copies", i, n)
			}
		case r.Settled() && n != 0 && !strings.Contains(m.name, "chunk") && r.Stage != smtpclient.StageBody:
			t.Errorf("recipient %d was refused with %v and got %d copies", i, r.Reply, n)
		case !r.Settled():
			word = "?"
			if err == nil {
				t.Errorf("recipient %d is undecided without an error", i)
			}
			if n != 0 && (e == nil || !e.Lost) {
				t.Errorf("recipient %d is undecided and got %d copies: %v", i, n, err)
			}
		}
		words = append(words, word)
	}
	for _, taken := range p.Messages() {
		if taken.ID == "<"+id+"@us.example>" && string(taken.Data) != data {
			t.Errorf("server took other data: %d octets instead of %d", len(taken.Data), len(data))
		}
	}
	if err != nil {
		words = append(words, describe(err))
	}
	return strings.Join(words, " ")
}

// describe names an error's stage, class and cause.
func describe(err error) string {
	e, ok := errors.AsType[*smtpclient.Error](err)
	if !ok {
		return err.Error()
	}
	s := "(" + e.Stage.String()
	if e.Reply != nil {
		s += fmt.Sprintf(" %d", e.Reply.Code)
	}
	for _, c := range []struct {
		err  error
		name string
	}{
		{os.ErrDeadlineExceeded, "timeout"}, {smtpclient.ErrHangup, "hangup"}, {smtpclient.ErrProtocol, "protocol"}, {smtpclient.ErrUnsolicited, "unsolicited"},
		{smtpclient.ErrInjected, "injected"}, {smtpclient.ErrServerProof, "proof"}, {smtp.ErrReplySyntax, "syntax"}, {smtp.ErrReplyTooLong, "too long"},
		{smtpclient.ErrClosed, "closed"}, {tls.RecordHeaderError{}, "no TLS"}, {io.ErrNoProgress, "no progress"},
	} {
		if errors.Is(err, c.err) {
			s += " " + c.name
		}
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		s += " no TLS"
	}
	if e.Lost {
		s += " lost"
	}
	return s + ")"
}
