package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtpclient"
)

// deaf is a connection on which the reply to a message gets lost: once one has left, it waits for
// the server's reply and then ends.
type deaf struct {
	net.Conn
	sent bool
}

// Write implements net.Conn. A message ends with a lone dot, or goes by BDAT.
func (d *deaf) Write(p []byte) (int, error) {
	n, err := d.Conn.Write(p)
	d.sent = d.sent || bytes.HasSuffix(p, []byte("\r\n.\r\n")) || bytes.Contains(p, []byte(" LAST\r\n"))
	return n, err
}

// Read implements net.Conn.
func (d *deaf) Read(p []byte) (int, error) {
	if !d.sent {
		return d.Conn.Read(p)
	}
	var heard []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(heard, []byte("250 2.0.0")) {
		n, err := d.Conn.Read(buf)
		heard = append(heard, buf[:n]...)
		if err != nil {
			return 0, err
		}
	}
	_ = d.Conn.Close()
	return 0, io.EOF
}

// submissions opens sessions with the server's port 465.
type submissions struct {
	addr string
	mu   sync.Mutex
	deaf int // sessions whose reply gets lost
}

func (l *submissions) SMTP(ctx context.Context, _ profile.Account) (*smtpclient.Session, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(raw, &tls.Config{InsecureSkipVerify: true}) // the server's certificate is self-signed
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	var conn net.Conn = secure
	l.mu.Lock()
	if l.deaf > 0 {
		l.deaf--
		conn = &deaf{Conn: conn}
	}
	l.mu.Unlock()
	s, err := smtpclient.Open(ctx, conn, smtpclient.Config{Hello: "[127.0.0.1]"})
	if err != nil {
		return nil, err
	}
	if err := s.Auth(ctx, sasl.Credentials{Username: "ala@" + domain, Password: password}); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// newOutbox is a person's outbox with an account at the server.
func newOutbox(t *testing.T, l outbox.Lines) (*outbox.Outbox, profile.Account) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Folder: t.TempDir(), Components: []db.Component{profile.Schema, outbox.Schema}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	a := profile.Account{Address: "ala@" + domain, Policy: profile.Policy{Keep: profile.Leave}}
	a.Incoming = profile.Server{Login: a.Address, Server: clientconfig.Server{Protocol: clientconfig.POP3, Host: "mx." + domain, Port: 995, Security: clientconfig.TLS}}
	a.Outgoing = profile.Server{Login: a.Address, Server: clientconfig.Server{Protocol: clientconfig.SMTP, Host: "mx." + domain, Port: 465, Security: clientconfig.TLS}}
	p := profile.New(s.DB())
	if a, err = p.Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	o, err := outbox.New(outbox.Config{Store: s, Lines: l, Accounts: p})
	if err != nil {
		t.Fatal(err)
	}
	return o, a
}

// TestOutboxRecognised loses the reply to a letter twice: our server recognises it, so it is sent
// again by itself and arrives once. Where the server does not recognise letters, the person decides.
func TestOutboxRecognised(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		repeats string
		want    outbox.State
	}{
		"recognised":     {"168h", outbox.Sent},
		"not recognised": {"0s", outbox.Perhaps},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t, "[submission]\nrepeats = \""+tt.repeats+"\"")
			s.start()
			l := &submissions{addr: s.addr(465), deaf: 2}
			o, a := newOutbox(t, l)
			id, err := o.Put(t.Context(), outbox.Letter{Account: a.ID, Recipients: []string{a.Address, "postmaster@" + domain},
				Message: strings.NewReader("From: ala@" + domain + "\r\nTo: ala@" + domain + "\r\nSubject: once\r\n\r\nHello.\r\n..dots\r\n")})
			if err != nil {
				t.Fatal(err)
			}
			for range 4 {
				_ = o.Flush(t.Context()) // says that replies were lost
			}
			it, err := o.Item(t.Context(), id)
			if err != nil || it.State != tt.want {
				t.Fatalf("%+v (%v)\n%s", it, err, s.log)
			}
			if l.deaf != 0 && tt.want == outbox.Sent {
				t.Errorf("%d replies were not lost", l.deaf)
			}
			if tt.want == outbox.Perhaps {
				if err := o.Decide(t.Context(), id, outbox.Done); err != nil {
					t.Error(err)
				}
			}
			if n := s.copies(t, "ala@"+domain); n != 1 {
				t.Errorf("%d copies arrived", n)
			}
		})
	}
}

// copies is how many messages lie in an account's INBOX, by POP3.
func (s *server) copies(t *testing.T, login string) int {
	t.Helper()
	raw, err := net.DialTimeout("tcp", s.addr(995), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c := clientOn(t, tls.Client(raw, &tls.Config{InsecureSkipVerify: true}))
	c.expect("+OK")
	c.say("USER "+login, "+OK")
	c.say("PASS "+password, "+OK")
	c.say("LIST", "+OK")
	return len(c.lines())
}
