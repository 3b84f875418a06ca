// Package serving is what servers for tests have in common: connections in memory or from
// listeners, each served in a goroutine of its own, and an end that waits for all of them.
package serving

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"

	"poczta.example/poczta/internal/mailtest/memconn"
)

// Server serves connections. Safe for concurrent use.
type Server struct {
	session func(conn net.Conn, number int)
	done    chan struct{}
	wg      sync.WaitGroup

	mu        sync.Mutex
	conns     map[net.Conn]bool
	listeners []net.Listener
	closed    bool
	connected int
}

// New returns a server that runs session for each connection, numbered from 1, and closes the
// connection behind it.
func New(session func(conn net.Conn, number int)) *Server {
	return &Server{session: session, done: make(chan struct{}), conns: map[net.Conn]bool{}}
}

// Done is closed when Close begins.
func (s *Server) Done() <-chan struct{} { return s.done }

// Connections is how many connections there were.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connected
}

// Dial returns the client's end of a new connection in memory, to which the server speaks
// already. On a closed server the connection is closed.
func (s *Server) Dial() *memconn.Conn {
	client, server := memconn.Pair()
	s.ServeConn(server)
	return client
}

// ServeConn serves a connection in a goroutine that Close waits for.
func (s *Server) ServeConn(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return
	}
	s.connected++
	s.conns[conn] = true
	n := s.connected
	s.wg.Go(func() {
		s.session(conn, n)
		_ = conn.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	})
}

// Serve takes connections from l until it or the server is closed.
func (s *Server) Serve(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = l.Close()
		return
	}
	s.listeners = append(s.listeners, l)
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.ServeConn(conn)
		}
	})
}

// Listen serves a free port of 127.0.0.1 and returns it.
func (s *Server) Listen(t testing.TB) netip.AddrPort {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l)
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// Close ends listeners and connections and waits for their goroutines; harmless twice.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}
