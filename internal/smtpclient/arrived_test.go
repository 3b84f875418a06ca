//go:build unix

package smtpclient_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/smtpclient"
)

// halving is a server's connection whose next write, when told so, arrives by halves: the
// second when the client has sent something.
type halving struct {
	net.Conn
	mu   sync.Mutex
	next bool
	rest []byte
}

func (c *halving) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.next {
		return c.Conn.Write(b)
	}
	c.next, c.rest = false, bytes.Clone(b[len(b)/2:])
	n, err := c.Conn.Write(b[:len(b)/2])
	return n + len(c.rest), err
}

func (c *halving) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.Conn.Write(c.rest)
	c.rest = nil
	return n, err
}

// readable waits until something has arrived on a socket, and takes nothing.
func readable(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return !errors.Is(err, syscall.EAGAIN)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// waited opens a session that has carried a message over loopback TCP, has the server do
// something to its end of the connection, and waits until that has arrived.
func waited(t *testing.T, secured bool, server func(raw *halving, text io.Writer)) *smtpclient.Session {
	t.Helper()
	cert, pool := peer.Certificate(t, "peer.example")
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var d net.Dialer
	client, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw := &halving{Conn: accepted}
	p := peer.Start(t, peer.Config{Extensions: []string{"PIPELINING", "CHUNKING"}})
	served, dialled := net.Conn(raw), client
	if secured {
		secure := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}})
		toServer := tls.Client(client, &tls.Config{RootCAs: pool, ServerName: "peer.example"})
		served, dialled = secure, toServer
		shaken := make(chan error, 1)
		go func() { shaken <- secure.HandshakeContext(t.Context()) }()
		if err := errors.Join(toServer.HandshakeContext(t.Context()), <-shaken); err != nil {
			t.Fatal(err)
		}
	}
	p.ServeConn(served)
	s, err := smtpclient.Open(t.Context(), dialled, smtpclient.Config{Hello: "us.example"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Send(t.Context(), letter("x\r\n", "a@peer.example")); err != nil {
		t.Fatal(err)
	}
	server(raw, served)
	readable(t, client.(*net.TCPConn))
	return s
}

// TestWaited: what a server did while a session waited is noticed before the next message
// leaves, so that nothing is taken for its reply and nobody asks where it went.
func TestWaited(t *testing.T) {
	t.Parallel()
	say := func(text string) func(*halving, io.Writer) {
		return func(_ *halving, w io.Writer) { _, _ = io.WriteString(w, text) }
	}
	for _, tt := range []struct {
		name   string
		server func(raw *halving, text io.Writer)
		cause  error
		code   int
	}{
		{"hangup", func(raw *halving, _ io.Writer) { _ = raw.Close() }, smtpclient.ErrHangup, 0},
		{"reset", func(raw *halving, _ io.Writer) {
			_ = raw.Conn.(*net.TCPConn).SetLinger(0)
			_ = raw.Close()
		}, smtpclient.ErrHangup, 0},
		{"421", say("421 4.4.2 too long\r\n"), nil, 421},
		{"too much", say("250 2.0.0 once more\r\n"), smtpclient.ErrUnsolicited, 250},
		{"refusal", say("554 5.7.1 no\r\n"), smtpclient.ErrUnsolicited, 554},
	} {
		for _, secured := range []bool{false, true} {
			t.Run(tt.name+map[bool]string{true: ", TLS"}[secured], func(t *testing.T) {
				t.Parallel()
				s := waited(t, secured, tt.server)
				o, err := s.Send(t.Context(), letter("y\r\n", "a@peer.example"))
				e, _ := errors.AsType[*smtpclient.Error](err)
				switch {
				case e == nil, e.Lost, e.Local, e.Stage != smtpclient.StageMail, !errors.Is(err, tt.cause) && tt.cause != nil:
					t.Fatalf("got %v", err)
				case tt.code != 0 && (e.Reply == nil || e.Reply.Code != tt.code), o.Recipients[0].Settled(), s.Usable():
					t.Errorf("got %v, %+v, usable %v", err, o, s.Usable())
				}
			})
		}
	}
}

// TestWaitedHalf: a part of a record is not waited for, and the rest of it is understood.
func TestWaitedHalf(t *testing.T) {
	t.Parallel()
	s := waited(t, true, func(raw *halving, text io.Writer) {
		raw.mu.Lock()
		raw.next = true
		raw.mu.Unlock()
		_, _ = io.WriteString(text, "421 4.4.2 too long\r\n")
	})
	_, err := s.Send(t.Context(), letter("y\r\n", "a@peer.example"))
	if e, _ := errors.AsType[*smtpclient.Error](err); e == nil || e.Reply == nil || e.Reply.Code != 421 || e.Stage != smtpclient.StageMail {
		t.Errorf("got %v", err)
	}
}
