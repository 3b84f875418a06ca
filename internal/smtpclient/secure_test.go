package smtpclient_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/smtpclient"
)

// secure returns a peer with TLS and a login, and the client's configuration.
func secure(t *testing.T, cfg peer.Config) (*peer.Peer, *tls.Config) {
	t.Helper()
	cert, pool := peer.Certificate(t, "peer.example")
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	cfg.Login, cfg.Password = "us", "pencil"
	return peer.Start(t, cfg), &tls.Config{RootCAs: pool, ServerName: "peer.example"}
}

func TestAuth(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		mechanisms []string // offered
		allowed    []string
		plaintext  bool
		tls12      bool
		password   string
		code       int  // of the reply that refuses
		missing    bool // no mechanism fits
	}{
		{name: "best", password: "pencil"},
		{name: "best under TLS 1.2", password: "pencil", tls12: true},
		{name: "SCRAM", mechanisms: []string{"SCRAM-SHA-256", "PLAIN"}, password: "pencil", code: 535}, // "y": the peer has -PLUS, so somebody took it away
		{name: "SCRAM by choice", allowed: []string{"scram-sha-256"}, password: "pencil"},
		{name: "SCRAM in plaintext", plaintext: true, password: "pencil"},
		{name: "PLAIN", mechanisms: []string{"PLAIN", "LOGIN"}, password: "pencil"},
		{name: "LOGIN", allowed: []string{"LOGIN"}, password: "pencil"},
		{name: "wrong, SCRAM", password: "pen", code: 535},
		{name: "wrong, PLAIN", allowed: []string{"PLAIN"}, password: "pen", code: 535},
		{name: "PLAIN in plaintext", mechanisms: []string{"PLAIN", "LOGIN"}, plaintext: true, password: "pencil", missing: true},
		{name: "-PLUS in plaintext", mechanisms: []string{"SCRAM-SHA-256-PLUS"}, plaintext: true, password: "pencil", missing: true},
		{name: "nothing known", mechanisms: []string{"CRAM-MD5"}, password: "pencil", missing: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := secure(t, peer.Config{Mechanisms: tt.mechanisms})
			if tt.tls12 {
				c.MaxVersion = tls.VersionTLS12
			}
			var d smtpclient.Dialogue
			s := open(t, p.Dial(), smtpclient.Config{Dialogue: &d})
			if !tt.plaintext {
				if err := s.StartTLS(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				if s.TLS() == nil || s.Extensions().StartTLS {
					t.Errorf("behind STARTTLS: %v, %+v", s.TLS(), s.Extensions())
				}
			}
			err := s.Auth(t.Context(), smtpclient.Credentials{Username: "us", Password: tt.password, Mechanisms: tt.allowed})
			e, _ := errors.AsType[*smtpclient.Error](err)
			missing, _ := errors.AsType[*smtpclient.Unsupported](err)
			switch {
			case tt.missing != (missing != nil), tt.code == 0 && !tt.missing && err != nil,
				tt.code != 0 && (e == nil || e.Reply == nil || e.Reply.Code != tt.code):
				t.Fatalf("got %v\n%s", err, d.String())
			case !s.Usable():
				t.Error("session is over")
			}
			if _, err := s.Send(t.Context(), letter("x\r\n", "a@peer.example")); err != nil {
				t.Fatal(err)
			}
			if m := p.Messages()[0]; (m.Login == "us") != (err == nil) || m.TLS == tt.plaintext {
				t.Errorf("server knows %q, TLS %v", m.Login, m.TLS)
			}
			if dialogue := d.String(); strings.Contains(dialogue, base64.StdEncoding.EncodeToString([]byte("pencil"))) || strings.Contains(dialogue, "AHVz") {
				t.Errorf("the password is in the dialogue:\n%s", dialogue)
			}
		})
	}
}

// TestFalseServer: a server that does not prove to know the keys, or wants endless work, is left.
func TestFalseServer(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string]func(nonce string) []string{
		"success at once": func(string) []string { return []string{"235 2.7.0 welcome"} },
		"another nonce":   func(string) []string { return []string{challenge("r=mine,s=MDEyMw==,i=4096")} },
		"endless work":    func(n string) []string { return []string{challenge("r=" + n + "x,s=MDEyMw==,i=2000000000")} },
		"little work":     func(n string) []string { return []string{challenge("r=" + n + "x,s=MDEyMw==,i=1")} },
		"no base64":       func(string) []string { return []string{"334 ***"} },
		"wrong signature": func(n string) []string {
			return []string{challenge("r=" + n + "x,s=MDEyMw==,i=4096"), challenge("v=AAAA"), "235 ok"}
		},
		"without signature": func(n string) []string { return []string{challenge("r=" + n + "x,s=MDEyMw==,i=4096"), "235 ok"} },
		"no end":            func(n string) []string { return []string{"334 ", "334 ", "334 ", "334 ", "334 ", "334 "} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := memconn.Pair()
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer server.Close()
				_, _ = io.WriteString(server, "220 x\r\n")
				r := bufio.NewReader(server)
				_, _ = r.ReadString('\n')
				_, _ = io.WriteString(server, "250-x\r\n250 AUTH SCRAM-SHA-256\r\n")
				line, _ := r.ReadString('\n')
				first, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(strings.TrimPrefix(line, "AUTH SCRAM-SHA-256 ")))
				_, nonce, _ := strings.Cut(string(first), ",r=")
				for _, a := range answers(nonce) {
					_, _ = io.WriteString(server, a+"\r\n")
					if line, err := r.ReadString('\n'); err != nil || line == "*\r\n" {
						_, _ = io.WriteString(server, "501 cancelled\r\n")
						return
					}
				}
			}()
			s := open(t, client, smtpclient.Config{})
			err := s.Auth(t.Context(), smtpclient.Credentials{Username: "us", Password: "pencil"})
			if err == nil || s.Usable() || !errors.Is(err, smtpclient.ErrServerProof) && !errors.Is(err, smtpclient.ErrProtocol) {
				t.Errorf("got %v, usable %v", err, s.Usable())
			}
			<-done
		})
	}
}

func challenge(text string) string { return "334 " + base64.StdEncoding.EncodeToString([]byte(text)) }

func TestStartTLS(t *testing.T) {
	t.Parallel()
	t.Run("wrong name", func(t *testing.T) {
		t.Parallel()
		p, c := secure(t, peer.Config{})
		c.ServerName = "other.example"
		s := open(t, p.Dial(), smtpclient.Config{})
		err := s.StartTLS(t.Context(), c)
		if _, ok := errors.AsType[x509.HostnameError](err); !ok || s.Usable() {
			t.Errorf("got %v, usable %v", err, s.Usable())
		}
	})
	t.Run("not offered, and twice", func(t *testing.T) {
		t.Parallel()
		s := open(t, peer.Start(t, peer.Config{}).Dial(), smtpclient.Config{})
		if _, ok := errors.AsType[*smtpclient.Unsupported](s.StartTLS(t.Context(), &tls.Config{})); !ok || !s.Usable() {
			t.Error("STARTTLS was sent although it was not offered")
		}
		p, c := secure(t, peer.Config{Extensions: []string{"STARTTLS"}}) // offered under TLS too
		s = open(t, p.Dial(), smtpclient.Config{})
		if err := s.StartTLS(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if _, ok := errors.AsType[*smtpclient.Unsupported](s.StartTLS(t.Context(), c)); !ok || !s.Usable() {
			t.Error("a second STARTTLS was sent")
		}
	})
	t.Run("refused, then in plaintext", func(t *testing.T) {
		t.Parallel()
		p, c := secure(t, peer.Config{Rules: []peer.Rule{{Stage: peer.StartTLS, Do: peer.Reply("454 4.7.0 no TLS today")}}})
		s := open(t, p.Dial(), smtpclient.Config{})
		if err := s.StartTLS(t.Context(), c); err == nil || !s.Usable() {
			t.Errorf("got %v, usable %v", err, s.Usable())
		}
		if _, err := s.Send(t.Context(), letter("x\r\n", "a@peer.example")); err != nil {
			t.Error(err)
		}
	})
	t.Run("injected", func(t *testing.T) {
		t.Parallel()
		p, c := secure(t, peer.Config{Rules: []peer.Rule{{Stage: peer.StartTLS, Do: peer.Fault{Usual: true, Lines: []string{"250-x", "250 AUTH PLAIN"}}}}})
		s := open(t, p.Dial(), smtpclient.Config{})
		if err := s.StartTLS(t.Context(), c); !errors.Is(err, smtpclient.ErrInjected) || s.Usable() {
			t.Errorf("got %v, usable %v", err, s.Usable())
		}
	})
	t.Run("implicit, REQUIRETLS", func(t *testing.T) {
		t.Parallel()
		p, c := secure(t, peer.Config{ImplicitTLS: true, Extensions: []string{"REQUIRETLS", "PIPELINING"}})
		conn := tls.Client(p.Dial(), c)
		if err := conn.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := smtpclient.Open(t.Context(), conn, smtpclient.Config{Hello: "us.example"})
		if err != nil || s.TLS() == nil {
			t.Fatal(err)
		}
		m := letter("x\r\n", "a@peer.example")
		m.RequireTLS = true
		if _, err := s.Send(t.Context(), m); err != nil || p.Messages()[0].Params != "SIZE=3 REQUIRETLS" && p.Messages()[0].Params != "REQUIRETLS" {
			t.Errorf("%v, %+v", err, p.Messages())
		}
		if err := s.Quit(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestRST meets a real reset: the reply that explains it is not lost.
func TestRST(t *testing.T) {
	t.Parallel()
	data := strings.Repeat("0123456789\r\n", 400_000)
	for name, tt := range map[string]struct {
		fault peer.Fault
		code  int
	}{
		"with a reply": {peer.Reply("552 5.3.4 too much").ThenDrop(), 552},
		"without":      {peer.RST(), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := peer.Start(t, peer.Config{Rules: []peer.Rule{{Stage: peer.Body, Do: tt.fault.AfterOctets(1000)}}})
			conn := dialTCP(t, p)
			s, err := smtpclient.Open(t.Context(), conn, smtpclient.Config{Hello: "us.example"})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			o, err := s.Send(t.Context(), letter(data, "a@peer.example"))
			if o.Recipients[0].Reply.Code != tt.code || (err == nil) != (tt.code != 0) || s.Usable() {
				t.Errorf("got %s, %v", outcome(o), err)
			}
		})
	}
}

// TestMemory: whatever a server says, the client holds little.
func TestMemory(t *testing.T) {
	// Not parallel: it measures what the process allocates.
	for name, line := range map[string]string{"lines": "250-x\r\n", "long lines": "250-" + strings.Repeat("x", 60_000) + "\r\n", "one line": "250-" + strings.Repeat("y", 4000)} {
		conn := &endless{text: []byte(line)}
		const runs = 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			conn.sent, conn.at = 0, 0
			if _, err := smtpclient.Open(context.Background(), conn, smtpclient.Config{Hello: "us.example", Dialogue: new(smtpclient.Dialogue)}); err == nil {
				t.Fatal("an endless reply was taken")
			}
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / runs; n > 512<<10 {
			t.Errorf("%s: %d octets allocated", name, n)
		} else {
			t.Logf("%s: %d octets allocated for %d read", name, n, conn.sent)
		}
		if conn.sent > 2<<20 {
			t.Errorf("%s: %d octets were read", name, conn.sent)
		}
	}
}

// FuzzSession lets a server say anything, and the client always ends, with outcomes that
// make sense. "|" parts what is said before the client speaks and behind each of its writes.
func FuzzSession(f *testing.F) {
	hello := "220 them ESMTP\r\n|250-them\r\n250-PIPELINING\r\n250 "
	f.Add([]byte(hello+"SIZE 1000\r\n|250 ok\r\n250 ok\r\n550 5.1.1 no\r\n354 go\r\n|250 2.0.0 done\r\n|452 later\r\n503 no\r\n503 no\r\n503 no\r\n|221 bye\r\n"), false, false)
	f.Add([]byte(hello+"SIZE 1000\r\n|250 ok\r\n450 no\r\n550 5.1.1 no\r\n354 go\r\n|554 what\r\n|250 ok\r\n250 ok\r\n250 ok\r\n452 full\r\n|250 ok\r\n250 ok\r\n421 bye\r\n"), false, false)
	f.Add([]byte(hello+"CHUNKING\r\n|250 ok\r\n250 ok\r\n250 ok\r\n250 2.0.0 done\r\n|250 ok\r\n250 ok\r\n250 ok\r\n554 no\r\n|250 reset\r\n250 ok\r\n550 no\r\n550 no\r\n503 no\r\n"), false, false)
	f.Add([]byte(hello+"8BITMIME\r\n|250 ok\r\n250 ok\r\n250 no\r\n|354 go\r\n|250 2.0.0 done\r\n450 later\r\n|250 ok\r\n250 ok\r\n250 no\r\n|354 go\r\n|250 a\r\n421 b\r\n"), true, false)
	f.Add([]byte("220 x\r\n|502 what\r\n|250 x\r\n|250 ok\r\n|550 no\r\n|451 no\r\n|250 reset\r\n|250 ok\r\n|250 ok\r\n|250 ok\r\n|354 go\r\n|250 ok\r\n"), false, true)
	f.Add([]byte("220 x\r\n|250-x\r\n250-CHUNKING\r\n250 AUTH=LOGIN PLAIN SCRAM-SHA-256\r\n|334 VXNlcm5hbWU6\r\n|501 no\r\n|250 ok\r\n|250 ok\r\n|250 ok\r\n|250 ok\r\n"), false, true)
	f.Add([]byte("421 busy\r\n"), true, true)
	f.Fuzz(func(t *testing.T, replies []byte, lmtp, auth bool) {
		var d smtpclient.Dialogue
		s, err := smtpclient.Open(context.Background(), newFlights(replies), smtpclient.Config{Hello: "us.example", LMTP: lmtp, Dialogue: &d})
		if err != nil {
			return
		}
		if auth {
			_ = s.Auth(context.Background(), smtpclient.Credentials{Username: "us", Password: "pencil"})
		}
		for range 3 {
			committed := false
			m := letter(".data\r\n", "a@them", "b@them")
			m.Commit = func() error { committed = true; return nil }
			o, err := s.Send(context.Background(), m)
			e, _ := errors.AsType[*smtpclient.Error](err)
			for _, r := range o.Recipients {
				if r.Accepted && (r.Reply.Code/100 != 2 || r.Stage != smtpclient.StageFinal || !committed) || !r.Settled() && err == nil ||
					r.Settled() && !r.Accepted && r.Reply.Code < 400 {
					t.Fatalf("%s, %v, committed %v\n%s", outcome(o), err, committed, d.String())
				}
			}
			if e != nil && e.Lost && !committed || err != nil && err.Error() == "" || err != nil && s.Usable() {
				t.Fatalf("%v, usable %v\n%s", err, s.Usable(), d.String())
			}
		}
		_ = s.Quit(context.Background())
		if len(d.Bytes()) > smtpclient.DialogueOctets+10 {
			t.Fatal("dialogue is too long")
		}
	})
}

func ExampleDialogue() {
	p := peer.New(peer.Config{Extensions: []string{"PIPELINING"}, Rules: []peer.Rule{{Stage: peer.Final, Do: peer.Reply("554 5.7.1 spam")}}})
	defer p.Close()
	var d smtpclient.Dialogue
	s, err := smtpclient.Open(context.Background(), p.Dial(), smtpclient.Config{Hello: "us.example", Dialogue: &d})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	_, _ = s.Send(context.Background(), letter("Subject: x\r\n", "a@peer.example"))
	fmt.Print(d.String())
	// Output:
	// S: 220 peer.example ESMTP
	// C: EHLO us.example
	// S: 250-peer.example greets us.example
	// S: 250 PIPELINING
	// C: MAIL FROM:<from@us.example>
	// C: RCPT TO:<a@peer.example>
	// C: DATA
	// S: 250 2.1.0 sender fine
	// S: 250 2.1.5 recipient fine
	// S: 354 go on
	// C: [15 octets of mail data]
	// S: 554 5.7.1 spam
}
