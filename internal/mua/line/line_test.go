package line_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua/line"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/pop3client"
)

// secrets are the same for every server.
type secrets struct{ password, token string }

var errForgotten = errors.New("no password")

func (s secrets) Password(context.Context, *profile.Account, bool) (string, error) {
	if s.password == "" {
		return "", errForgotten
	}
	return s.password, nil
}
func (s secrets) Token(context.Context, *profile.Account) (string, error) { return s.token, nil }

// world is a POP3 server with a certificate of an authority of its own.
type world struct {
	peer *poppeer.Peer
	cert tls.Certificate
	pool *x509.CertPool
}

func newWorld(t *testing.T, change func(*poppeer.Config)) *world {
	t.Helper()
	w := &world{}
	w.cert, w.pool = peer.Certificate(t, "pop.peer.example")
	c := poppeer.Config{TLS: &tls.Config{Certificates: []tls.Certificate{w.cert}}, ImplicitTLS: true}
	if change != nil {
		change(&c)
	}
	w.peer = poppeer.Start(t, c)
	return w
}

func (w *world) lines(t *testing.T, roots *x509.CertPool, s line.Secrets) *line.Lines {
	t.Helper()
	l, err := line.New(line.Config{Secrets: s, Roots: roots, Dial: func(context.Context, string, string) (net.Conn, error) { return w.peer.Dial(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func account(security clientconfig.Security) profile.Account {
	return profile.Account{Address: "us@peer.example", Incoming: profile.Server{Login: "us",
		Server: clientconfig.Server{Protocol: clientconfig.POP3, Host: "pop.peer.example", Port: 995, Security: security}}}
}

func (w *world) fingerprint() string {
	sum := sha256.Sum256(w.cert.Certificate[0])
	return hex.EncodeToString(sum[:])
}

func TestLogsInUnderTLS(t *testing.T) {
	t.Parallel()
	for _, security := range []clientconfig.Security{clientconfig.TLS, clientconfig.StartTLS} {
		w := newWorld(t, func(c *poppeer.Config) { c.ImplicitTLS = security == clientconfig.TLS })
		s, err := w.lines(t, w.pool, secrets{password: "secret"}).POP3(t.Context(), account(security))
		if err != nil {
			t.Fatalf("%s: %v", security, err)
		}
		if s.TLS() == nil {
			t.Errorf("%s: no TLS", security)
		}
		if err := s.Quit(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	other, otherPool := peer.Certificate(t, "pop.peer.example")
	file := filepath.Join(t.TempDir(), "ca.pem")
	var text []byte
	for _, c := range w.cert.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(other.Certificate[0])
	tests := []struct {
		name   string
		roots  *x509.CertPool
		change func(*profile.Server)
		want   string // "" logs in
	}{
		{"trusted", w.pool, func(*profile.Server) {}, ""},
		{"unknown authority", otherPool, func(*profile.Server) {}, "accept it: poczta mail server --accept " + w.fingerprint()},
		{"accepted", otherPool, func(s *profile.Server) { s.Accepted = w.fingerprint() }, ""},
		{"accepted in capitals", otherPool, func(s *profile.Server) { s.Accepted = strings.ToUpper(w.fingerprint()) }, ""},
		{"another accepted, and unknown", otherPool, func(s *profile.Server) { s.Accepted = hex.EncodeToString(sum[:]) }, "another than the one that was accepted"},
		{"another accepted", w.pool, func(s *profile.Server) { s.Accepted = hex.EncodeToString(sum[:]) }, "another than the one that was accepted"},
		{"own authority", otherPool, func(s *profile.Server) { s.AuthorityFile = file }, ""},
		{"another name", w.pool, func(s *profile.Server) { s.Host = "pop.elsewhere.example" }, "not pop.elsewhere.example"},
		{"no authority's file", w.pool, func(s *profile.Server) { s.AuthorityFile = file + "x" }, "no such file"},
		{"no certificate of ours", w.pool, func(s *profile.Server) { s.CertificateFile, s.KeyFile = file, file }, "read your certificate"},
	}
	for _, tt := range tests {
		a := account(clientconfig.TLS)
		tt.change(&a.Incoming)
		s, err := w.lines(t, tt.roots, secrets{password: "secret"}).POP3(t.Context(), a)
		if err == nil {
			s.Close()
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", tt.name, err, tt.want)
		}
	}
	if got := w.peer.Logins(); len(got) > 4 {
		t.Errorf("logins %q: a refused certificate got credentials", got)
	}
}

func TestNothingSecretWithoutTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *poppeer.Config) { c.TLS, c.ImplicitTLS = nil, false })
	l := w.lines(t, w.pool, secrets{password: "secret"})
	if _, err := l.POP3(t.Context(), account(clientconfig.Plain)); err == nil || !strings.Contains(err.Error(), "anybody on the way") {
		t.Errorf("plain to another computer: %v", err)
	}
	if _, err := l.POP3(t.Context(), account(clientconfig.StartTLS)); pop3client.KindOf(err) != pop3client.KindUnsupported {
		t.Errorf("STLS is not offered: %v", err)
	}
	if w.peer.Seen(poppeer.User)+w.peer.Seen(poppeer.Auth) != 0 {
		t.Error("a login was tried")
	}
	a := account(clientconfig.Plain)
	a.Incoming.Host = "127.0.0.1"
	s, err := l.POP3(t.Context(), a)
	if err != nil {
		t.Fatalf("plain on this computer: %v", err)
	}
	s.Close()
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *poppeer.Config) { c.Token, c.Mechanisms = "tok", []string{"XOAUTH2"} })
	if _, err := w.lines(t, w.pool, secrets{}).POP3(t.Context(), account(clientconfig.TLS)); !errors.Is(err, errForgotten) {
		t.Errorf("without a password: %v", err)
	}
	if _, err := w.lines(t, w.pool, secrets{password: "wrong"}).POP3(t.Context(), account(clientconfig.TLS)); pop3client.KindOf(err) != pop3client.KindCredentials {
		t.Errorf("wrong password: %v", err)
	}
	a := account(clientconfig.TLS)
	a.OAuth = &clientconfig.OAuth{}
	s, err := w.lines(t, w.pool, secrets{token: "tok"}).POP3(t.Context(), a)
	if err != nil {
		t.Fatalf("by token: %v", err)
	}
	s.Close()
}

func TestSMTP(t *testing.T) {
	t.Parallel()
	cert, pool := peer.Certificate(t, "smtp.peer.example")
	for _, security := range []clientconfig.Security{clientconfig.StartTLS} {
		p := peer.Start(t, peer.Config{Extensions: []string{"PIPELINING"}, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Login: "us", Password: "secret", Mechanisms: []string{"PLAIN"}})
		l, err := line.New(line.Config{Secrets: secrets{password: "secret"}, Roots: pool, Dial: func(context.Context, string, string) (net.Conn, error) { return p.Dial(), nil }})
		if err != nil {
			t.Fatal(err)
		}
		a := profile.Account{Outgoing: profile.Server{Login: "us", Server: clientconfig.Server{Protocol: clientconfig.SMTP, Host: "smtp.peer.example", Port: 587, Security: security}}}
		s, err := l.SMTP(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if s.TLS() == nil {
			t.Error("no TLS")
		}
		s.Close()
		a.Outgoing.Accepted = strings.Repeat("0", 64)
		if _, err := l.SMTP(t.Context(), a); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("another certificate than the accepted one: %v", err)
		} else if e, ok := errors.AsType[*line.CertificateError](err); !ok || len(e.SHA256) != 64 {
			t.Errorf("%v names no certificate", err)
		}
	}
}
