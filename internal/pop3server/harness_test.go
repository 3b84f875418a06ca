package pop3server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/pop3server/droptest"
)

// pipes is a net.Listener of in-memory connections whose client side seems to
// come from 127.0.0.1.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 110} }

type addressed struct {
	net.Conn
	peer netip.AddrPort
}

func (a addressed) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(a.peer) }

// bubble is a server and what it needs, in a synctest bubble.
type bubble struct {
	t      *testing.T
	server *pop3server.Server
	post   *droptest.Post
	plain  *pipes
	secure *pipes
}

// inBubble runs f with a server in a bubble of simulated time, and afterwards
// shuts the server down and looks for leaks.
func inBubble(t *testing.T, change func(*pop3server.Config), f func(*bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		post := droptest.New("secret", "mrose", "ala", "zażółć gęślą")
		c := pop3server.Config{
			Maildrops: post, Verifier: post, Hostname: "mail.example.org", Implementation: "Poczta-test",
			PlaintextFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		}
		cert, _, err := droptest.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		c.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		if change != nil {
			change(&c)
		}
		s, err := pop3server.New(c)
		if err != nil {
			t.Fatal(err)
		}
		b := &bubble{t: t, server: s, post: post, plain: newPipes(), secure: newPipes()}
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := s.Serve(context.Background(), b.plain); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
		if c.TLS != nil {
			serving.Go(func() {
				if err := s.ServeTLS(context.Background(), b.secure); err != nil {
					t.Errorf("ServeTLS: %v", err)
				}
			})
		}
		synctest.Wait()
		f(b)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		serving.Wait()
		if n := post.Opened(); n != 0 {
			t.Errorf("%d maildrops are still open after all sessions ended", n)
		}
	})
}

// peer is the client side of a connection that collects what comes.
type peer struct {
	t       *testing.T
	conn    net.Conn
	mu      sync.Mutex
	got     bytes.Buffer
	ended   bool
	stopped chan struct{}
}

func (b *bubble) dial() *peer { return b.dialFrom("127.0.0.1:40000") }

func (b *bubble) dialFrom(addr string) *peer {
	server, client := net.Pipe()
	b.plain.conns <- addressed{server, netip.MustParseAddrPort(addr)}
	return newPeer(b.t, client)
}

func newPeer(t *testing.T, c net.Conn) *peer {
	p := &peer{t: t, conn: c}
	p.collect()
	return p
}

func (p *peer) collect() {
	p.stopped = make(chan struct{})
	c, stopped := p.conn, p.stopped
	go func() {
		defer close(stopped)
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			p.mu.Lock()
			p.got.Write(buf[:n])
			if err != nil && !isTimeout(err) {
				p.ended = true
			}
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

// settle lets simulated time pass until every reply, delayed ones too, has come.
func settle() {
	synctest.Wait()
	<-time.After(20 * time.Second)
	synctest.Wait()
}

// take returns what came since the last take.
func (p *peer) take() string {
	settle()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.got.String()
	p.got.Reset()
	return s
}

// closed reports whether the server has ended the connection.
func (p *peer) closed() bool {
	settle()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// say sends text and returns what comes in answer.
func (p *peer) say(text string) string {
	_, _ = io.WriteString(p.conn, text)
	return p.take()
}

// startTLS puts TLS on the connection after STLS was answered.
func (p *peer) startTLS() error {
	_ = p.conn.SetReadDeadline(time.Unix(1, 0)) // the collector must not eat the handshake
	<-p.stopped
	_ = p.conn.SetReadDeadline(time.Time{})
	c := tls.Client(p.conn, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		return err
	}
	p.conn = c
	p.collect()
	return nil
}

func (p *peer) close() {
	_ = p.conn.Close()
	<-p.stopped
}

// login brings the session into TRANSACTION.
func (p *peer) login(name string) {
	p.t.Helper()
	p.take()
	if got := p.say("USER " + name + "\r\nPASS secret\r\n"); !bytes.Contains([]byte(got), []byte("maildrop has")) {
		p.t.Fatalf("login: got %q", got)
	}
}

// dialTLS connects to the listener of implicit TLS.
func (b *bubble) dialTLS() *peer {
	server, client := net.Pipe()
	b.secure.conns <- addressed{server, netip.MustParseAddrPort("127.0.0.1:40001")}
	return newPeer(b.t, tls.Client(client, &tls.Config{InsecureSkipVerify: true}))
}
