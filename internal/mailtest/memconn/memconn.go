// Package memconn is a network in memory, for tests: pairs of connections with
// buffers, deadlines and half-close, and a listener that gives them out. It works
// inside testing/synctest bubbles.
package memconn

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// bufferOctets is how much one direction holds before writers wait.
const bufferOctets = 64 << 10

// pipe is one direction.
type pipe struct {
	mu       sync.Mutex
	buf      []byte
	shut     bool          // the writer has closed its half
	gone     bool          // the reader has closed
	changed  chan struct{} // closed and replaced whenever something changes
	readBy   deadline
	writeBy  deadline
	capacity int
}

// deadline is a time with a timer that wakes who waits.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newPipe() *pipe { return &pipe{changed: make(chan struct{}), capacity: bufferOctets} }

// broadcast wakes everybody; p.mu is held.
func (p *pipe) broadcast() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) set(d *deadline, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	if !at.IsZero() && !d.passed() {
		d.timer = time.AfterFunc(time.Until(at), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.broadcast()
		})
	}
	p.broadcast()
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// wait waits for a change; p.mu is held before and after.
func (p *pipe) wait() {
	c := p.changed
	p.mu.Unlock()
	<-c
	p.mu.Lock()
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.gone:
			return 0, net.ErrClosed
		case p.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p.buf) > 0:
			n := copy(b, p.buf)
			p.buf = p.buf[n:]
			p.broadcast()
			return n, nil
		case p.shut:
			return 0, io.EOF
		}
		p.wait()
	}
}

// ready waits until a read would not.
func (p *pipe) ready() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.gone && !p.readBy.passed() && len(p.buf) == 0 && !p.shut {
		p.wait()
	}
}

// errReset is what a write to a closed reader returns, as a socket does.
var errReset = os.NewSyscallError("write", syscall.ECONNRESET)

func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) > 0 {
		switch {
		case p.shut:
			return n, net.ErrClosed
		case p.gone:
			return n, errReset
		case p.writeBy.passed():
			return n, os.ErrDeadlineExceeded
		case len(p.buf) < p.capacity:
			m := min(len(b), p.capacity-len(p.buf))
			p.buf = append(p.buf, b[:m]...)
			b, n = b[m:], n+m
			p.broadcast()
		default:
			p.wait()
		}
	}
	return n, nil
}

func (p *pipe) close(end *bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*end = true
	for _, d := range []*deadline{&p.readBy, &p.writeBy} {
		if d.timer != nil && p.gone && p.shut {
			d.timer.Stop()
		}
	}
	p.broadcast()
}

// Conn is one end of a pair. Writes do not wait for the reader until 64 KiB wait.
type Conn struct {
	in, out       *pipe
	local, remote net.Addr
}

var (
	_ net.Conn = (*Conn)(nil)

	clientAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:40000"))
	serverAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.25:25"))
)

// Pair returns both ends of a connection from 192.0.2.1:40000 to 192.0.2.25:25.
func Pair() (client, server *Conn) { return PairFrom(clientAddr) }

// PairFrom is Pair with another client address.
func PairFrom(from net.Addr) (client, server *Conn) {
	a, b := newPipe(), newPipe()
	return &Conn{in: a, out: b, local: from, remote: serverAddr}, &Conn{in: b, out: a, local: serverAddr, remote: from}
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) { return c.in.read(b) }

// Ready waits until Read has octets or an error to give, and takes nothing.
func (c *Conn) Ready() { c.in.ready() }

// Arrived reports whether octets, or their end, wait to be read.
func (c *Conn) Arrived() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return len(c.in.buf) > 0 || c.in.shut
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) { return c.out.write(b) }

// CloseWrite closes the sending half: the peer reads io.EOF behind what waits.
func (c *Conn) CloseWrite() error {
	c.out.close(&c.out.shut)
	return nil
}

// Close closes both halves; harmless twice.
func (c *Conn) Close() error {
	c.out.close(&c.out.shut)
	c.in.close(&c.in.gone)
	return nil
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t) // neither fails
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.set(&c.in.readBy, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.set(&c.out.writeBy, t)
	return nil
}

// Listener is a net.Listener whose connections come from Dial.
type Listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Listen returns a listener.
func Listen() *Listener {
	return &Listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Dial connects to the listener and returns the client's end.
func (l *Listener) Dial(ctx context.Context) (*Conn, error) { return l.DialFrom(ctx, clientAddr) }

// DialFrom is Dial with another client address.
func (l *Listener) DialFrom(ctx context.Context, from net.Addr) (*Conn, error) {
	client, server := PairFrom(from)
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; harmless twice.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return serverAddr }
