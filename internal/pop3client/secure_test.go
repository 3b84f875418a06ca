package pop3client_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"poczta.example/poczta/internal/mailtest/memconn"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/pop3client"
)

// TestLogin tries every way to log in, and the ways that must not be taken.
func TestLogin(t *testing.T) {
	t.Parallel()
	cert, pool := peer.Certificate(t, "peer.example")
	ours, _ := peer.Certificate(t, "us.example")
	serverTLS := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert}
	long := strings.Repeat("x", 300)
	for _, tc := range []struct {
		name       string
		mechanisms string
		capa       []string
		password   string
		c          pop3client.Credentials
		tls        bool
		plaintext  bool
		want       string // how the server saw it
		err        error
		kind       pop3client.Kind
		sent       bool // the server got something of it
	}{
		{name: "best", mechanisms: "PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS", c: us, tls: true, want: "SCRAM-SHA-256-PLUS"},
		{name: "SCRAM in the clear", mechanisms: "PLAIN SCRAM-SHA-256", c: us, want: "SCRAM-SHA-256"},
		{name: "PLAIN", mechanisms: "LOGIN PLAIN", c: us, tls: true, want: "PLAIN"},
		{name: "LOGIN", mechanisms: "LOGIN", c: us, tls: true, want: "LOGIN"},
		{name: "PLAIN, too long for one line", mechanisms: "PLAIN", c: pop3client.Credentials{Username: "us", Password: long}, password: long, tls: true, want: "PLAIN"},
		{name: "USER", c: us, tls: true, want: "USER"},
		{name: "USER by choice", mechanisms: "PLAIN", c: pop3client.Credentials{Username: "us", Password: "secret", Mechanisms: []string{"user"}}, tls: true, want: "USER"},
		{name: "USER in the clear is refused", c: us, err: pop3client.ErrPlaintext, kind: pop3client.KindUnsupported},
		{name: "PLAIN in the clear is refused", mechanisms: "PLAIN", capa: []string{"UIDL"}, c: us, err: pop3client.ErrPlaintext, kind: pop3client.KindUnsupported},
		{name: "USER in the clear, allowed", c: us, plaintext: true, want: "USER"},
		{name: "nothing fits", mechanisms: "GSSAPI", capa: []string{"UIDL"}, c: us, tls: true, kind: pop3client.KindUnsupported},
		{name: "certificate", mechanisms: "PLAIN EXTERNAL", c: pop3client.Credentials{Certificate: true}, tls: true, want: "EXTERNAL"},
		{name: "certificate, not offered", mechanisms: "PLAIN", c: pop3client.Credentials{Certificate: true, Username: "us", Password: "secret"}, tls: true, kind: pop3client.KindUnsupported},
		{name: "token", mechanisms: "PLAIN XOAUTH2 OAUTHBEARER", c: pop3client.Credentials{Username: "us", Token: "T"}, tls: true, want: "OAUTHBEARER"},
		{name: "token, the old way", mechanisms: "PLAIN XOAUTH2", c: pop3client.Credentials{Username: "us", Token: "T"}, tls: true, want: "XOAUTH2"},
		{name: "long token", mechanisms: "OAUTHBEARER", c: pop3client.Credentials{Username: "us", Token: long}, tls: true, want: "OAUTHBEARER"},
		{name: "token in the clear is refused", mechanisms: "XOAUTH2", c: pop3client.Credentials{Username: "us", Token: "T"}, err: pop3client.ErrPlaintext, kind: pop3client.KindUnsupported},
		{name: "token not as a password", mechanisms: "PLAIN", c: pop3client.Credentials{Username: "us", Token: "T"}, tls: true, kind: pop3client.KindUnsupported},
		{name: "wrong token", mechanisms: "OAUTHBEARER", c: pop3client.Credentials{Username: "us", Token: "no"}, tls: true, kind: pop3client.KindCredentials, sent: true},
		{name: "wrong token, the old way", mechanisms: "XOAUTH2", c: pop3client.Credentials{Username: "us", Token: "no"}, tls: true, kind: pop3client.KindCredentials, sent: true},
		{name: "wrong password", c: pop3client.Credentials{Username: "us", Password: "no"}, tls: true, kind: pop3client.KindCredentials, sent: true},
		{name: "wrong password, PLAIN", mechanisms: "PLAIN", c: pop3client.Credentials{Username: "us", Password: "no"}, tls: true, kind: pop3client.KindCredentials, sent: true},
		{name: "wrong password, SCRAM", mechanisms: "SCRAM-SHA-256", c: pop3client.Credentials{Username: "us", Password: "no"}, tls: true, kind: pop3client.KindCredentials, sent: true},
		{name: "line end in the password", c: pop3client.Credentials{Username: "us", Password: "secret\r\nDELE 1"}, tls: true, err: pop3client.ErrArgument},
		{name: "line end in the name", c: pop3client.Credentials{Username: "us\nDELE 1", Password: "secret"}, tls: true, err: pop3client.ErrArgument},
		{name: "too long for USER", c: pop3client.Credentials{Username: "us", Password: long}, tls: true, err: pop3client.ErrArgument},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := poppeer.Config{TLS: serverTLS, Capabilities: tc.capa, Mechanisms: strings.Fields(tc.mechanisms), Messages: poppeer.Letters(1, 10), Login: "us", Password: "secret", Token: "T"}
				if tc.password != "" {
					cfg.Password = tc.password
				}
				if len(tc.c.Token) > 10 {
					cfg.Token = tc.c.Token
				}
				p := poppeer.Start(t, cfg)
				var d pop3client.Dialogue
				s, err := pop3client.Open(t.Context(), p.Dial(), pop3client.Config{Plaintext: tc.plaintext, UTF8: true, Dialogue: &d})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if tc.tls {
					if err := s.StartTLS(t.Context(), &tls.Config{RootCAs: pool, ServerName: "peer.example", Certificates: []tls.Certificate{ours}}); err != nil || s.TLS() == nil {
						t.Fatal(err)
					}
				}
				err = s.Login(t.Context(), tc.c)
				if (tc.want == "") != (err != nil) || tc.err != nil && !errors.Is(err, tc.err) || pop3client.KindOf(err) != tc.kind {
					t.Errorf("got %v of kind %v, want %v of kind %v", err, pop3client.KindOf(err), tc.err, tc.kind)
				}
				if got := strings.Join(p.Logins(), " "); got != tc.want {
					t.Errorf("server saw %q, want %q", got, tc.want)
				}
				if tc.want == "" && !s.Usable() {
					t.Error("the session is not usable behind a refusal")
				}
				if sent := p.Seen(poppeer.User)+p.Seen(poppeer.Auth) > 0; tc.want == "" && sent != tc.sent {
					t.Errorf("something was sent: %v, want %v\n%s", sent, tc.sent, d.String())
				}
				if text := d.String(); strings.Contains(text, "secret") || strings.Contains(text, "xxx") || strings.Contains(text, "eHh4") {
					t.Errorf("secrets in the dialogue:\n%s", text)
				}
				if items, err := s.List(t.Context()); tc.want != "" && (err != nil || len(items) != 1 || s.UTF8() != (tc.capa == nil)) {
					t.Errorf("behind it: %d items, %v", len(items), err)
				}
			})
		})
	}
}

// TestWordOfToken: what the server says of a token reaches the person.
func TestWordOfToken(t *testing.T) {
	t.Parallel()
	p := poppeer.Start(t, poppeer.Config{Mechanisms: []string{"XOAUTH2"}, Token: "right"})
	s, err := pop3client.Open(t.Context(), p.Dial(), pop3client.Config{Plaintext: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Login(t.Context(), pop3client.Credentials{Username: "us", Token: "stale"})
	if err == nil || !strings.Contains(err.Error(), "invalid_token") || strings.Contains(err.Error(), "stale") {
		t.Errorf("got %v", err)
	}
}

// TestStartTLS has what can go wrong between STLS and the first encrypted octet.
func TestStartTLS(t *testing.T) {
	t.Parallel()
	cert, pool := peer.Certificate(t, "peer.example")
	for _, tc := range []struct {
		name   string
		server *tls.Config
		client *tls.Config
		kind   pop3client.Kind
		usable bool
	}{
		{"fine", &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: pool, ServerName: "peer.example"}, pop3client.KindOther, true},
		{"another name", &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: pool, ServerName: "other.example"}, pop3client.KindTLS, false},
		{"unknown authority", &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "peer.example"}, pop3client.KindTLS, false},
		{"no version in common", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}, &tls.Config{RootCAs: pool, ServerName: "peer.example", MaxVersion: tls.VersionTLS12}, pop3client.KindTLS, false},
		{"not offered", nil, &tls.Config{}, pop3client.KindUnsupported, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := poppeer.Start(t, poppeer.Config{TLS: tc.server})
			s, err := pop3client.Open(t.Context(), p.Dial(), pop3client.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			err = s.StartTLS(t.Context(), tc.client)
			if pop3client.KindOf(err) != tc.kind || (err == nil) != (tc.kind == pop3client.KindOther) || s.Usable() != tc.usable {
				t.Errorf("got %v of kind %v, usable %v", err, pop3client.KindOf(err), s.Usable())
			}
			if err == nil {
				if err := s.StartTLS(t.Context(), tc.client); pop3client.KindOf(err) != pop3client.KindUnsupported {
					t.Errorf("a second time: %v", err)
				}
			}
		})
	}
}

// TestRefusedCertificate: under TLS 1.3 the server's alert comes behind our handshake. It is
// told also when the server was gone before the next command could be sent.
func TestRefusedCertificate(t *testing.T) {
	t.Parallel()
	cert, pool := peer.Certificate(t, "peer.example")
	ours, _ := peer.Certificate(t, "us.example")
	server := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()}
	for _, gone := range []bool{false, true} {
		p := poppeer.Start(t, poppeer.Config{TLS: server})
		conn := &deaf{Conn: p.Dial()}
		s, err := pop3client.Open(t.Context(), conn, pop3client.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		err = s.StartTLS(t.Context(), &tls.Config{RootCAs: pool, ServerName: "peer.example", Certificates: []tls.Certificate{ours}})
		if err == nil {
			conn.gone = gone
			err = s.Login(t.Context(), us)
		}
		if pop3client.KindOf(err) != pop3client.KindTLS || s.Usable() {
			t.Errorf("gone %v: got %v of kind %v", gone, err, pop3client.KindOf(err))
		}
	}
}

// deaf is a connection whose peer no longer takes anything once it is gone.
type deaf struct {
	net.Conn
	gone bool
}

func (d *deaf) Write(b []byte) (int, error) {
	if d.gone {
		return 0, os.NewSyscallError("write", syscall.ECONNRESET)
	}
	return d.Conn.Write(b)
}

// TestInjection: plaintext behind the reply to STLS is not taken for what comes encrypted.
func TestInjection(t *testing.T) {
	t.Parallel()
	client, server := memconn.Pair()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer server.Close()
		_, _ = io.WriteString(server, "+OK\r\n")
		r := bufio.NewReader(server)
		for _, reply := range []string{"+OK\r\nSTLS\r\n.\r\n", "+OK begin\r\n+OK injected\r\nUSER\r\n.\r\n"} {
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
			_, _ = io.WriteString(server, reply)
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	s, err := pop3client.Open(t.Context(), client, pop3client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	err = s.StartTLS(t.Context(), &tls.Config{ServerName: "peer.example"})
	if !errors.Is(err, pop3client.ErrInjected) || pop3client.KindOf(err) != pop3client.KindTLS || s.Usable() || s.TLS() != nil {
		t.Errorf("got %v, usable %v", err, s.Usable())
	}
	<-done
}

// TestImplicitTLS has the handshake before the session (RFC 8314).
func TestImplicitTLS(t *testing.T) {
	t.Parallel()
	cert, pool := peer.Certificate(t, "peer.example")
	p := poppeer.Start(t, poppeer.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, ImplicitTLS: true, Messages: poppeer.Letters(2, 100)})
	conn := tls.Client(p.Dial(), &tls.Config{RootCAs: pool, ServerName: "peer.example"})
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := pop3client.Open(t.Context(), conn, pop3client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]string{}
	if err := errors.Join(s.Login(t.Context(), us), s.Retrieve(t.Context(), []int{1, 2}, keep(got)), s.Quit(t.Context())); err != nil || len(got) != 2 {
		t.Error(err)
	}
}

// TestForgedServer: a server that doesn't know the password's keys is found out by SCRAM.
func TestForgedServer(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{
		"success at once": "+OK welcome\r\n", "bad challenge": "+ !!!\r\n", "no proof": "+ dj1hYmM=\r\n", "asks for ever": "+ \r\n+ \r\n+ \r\n+ \r\n+ \r\n+ \r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := &lines{replies: []string{"+OK\r\n", "+OK\r\nSASL SCRAM-SHA-256\r\n.\r\n", reply, "-ERR cancelled\r\n"}}
			s, err := pop3client.Open(t.Context(), conn, pop3client.Config{})
			if err != nil {
				t.Fatal(err)
			}
			err = s.Login(t.Context(), us)
			if err == nil || s.Usable() || !errors.Is(err, pop3client.ErrServerProof) && !errors.Is(err, pop3client.ErrProtocol) && !errors.Is(err, pop3client.ErrUnsolicited) {
				t.Errorf("got %v, usable %v", err, s.Usable())
			}
		})
	}
}

// lines is a connection that gives the next of its replies behind each write, the first at
// once, and then ends.
type lines struct {
	pieces
	replies []string
	given   int
}

func (c *lines) Read(b []byte) (int, error) {
	for c.text == "" {
		if c.given > c.writes || c.given == len(c.replies) {
			return 0, io.EOF
		}
		c.text = c.replies[c.given]
		c.given++
	}
	if c.piece > 0 {
		b = b[:min(len(b), c.piece)]
	}
	n := copy(b, c.text)
	c.text = c.text[n:]
	return n, nil
}
