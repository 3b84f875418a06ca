package pop3server

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"poczta.example/poczta/internal/pop3"
)

// Server serves POP3 on any number of listeners. Safe for concurrent use.
type Server struct {
	config   Config
	commands [pop3.NumVerbs]command
	greeting string
	buffers  sync.Pool // *buffer
	logins   loginTimes

	draining chan struct{} // closed by the first Shutdown

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	cancels   map[*context.CancelFunc]struct{}
	sessions  map[*session]struct{}
	running   sync.WaitGroup
}

// buffer is the unit of I/O of a busy session. Idle sessions hold none.
type buffer [32 << 10]byte

func newServer(c Config) *Server {
	return &Server{
		config:    c,
		commands:  commands(),
		greeting:  c.Hostname + " " + pop3.TextReady.In(pop3.English),
		buffers:   sync.Pool{New: func() any { return new(buffer) }},
		logins:    loginTimes{delay: c.LoginDelay},
		draining:  make(chan struct{}),
		listeners: make(map[net.Listener]struct{}),
		cancels:   make(map[*context.CancelFunc]struct{}),
		sessions:  make(map[*session]struct{}),
	}
}

// Serve accepts sessions on l until ctx ends or Shutdown is called; then it
// returns nil. It closes l. When ctx ends the sessions are cut at once; Serve
// returns after they have ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return s.serve(ctx, l, false) }

// ServeTLS is Serve for connections that begin with TLS (port 995, RFC 8314
// §3.3). It needs Config.TLS.
func (s *Server) ServeTLS(ctx context.Context, l net.Listener) error {
	if s.config.TLS == nil {
		return errors.Join(errors.New("serve POP3 under TLS: Config.TLS is missing"), l.Close())
	}
	return s.serve(ctx, l, true)
}

func (s *Server) serve(ctx context.Context, l net.Listener, implicit bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !s.register(l, &cancel) {
		return l.Close()
	}
	defer s.unregister(l)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var own sync.WaitGroup
	err := s.accept(ctx, l, func(c net.Conn) {
		ses := newSession(s, c, implicit)
		if !s.add(ses) {
			_ = c.Close()
			return
		}
		own.Go(func() {
			defer s.remove(ses)
			ses.run(ctx)
		})
	})
	select {
	case <-s.draining: // Shutdown cancels ctx when its own ends
	default:
		cancel()
	}
	own.Wait()
	s.mu.Lock()
	delete(s.cancels, &cancel)
	s.mu.Unlock()
	return err
}

// accept calls start for each connection until the listener is closed.
func (s *Server) accept(ctx context.Context, l net.Listener, start func(net.Conn)) error {
	var wait time.Duration
	for {
		c, err := l.Accept()
		if err == nil {
			wait = 0
			start(c)
			continue
		}
		if ctx.Err() != nil || s.isDraining() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// No descriptors left, or a connection reset before we took it: go on soon.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.config.Logger.Error("cannot accept a connection", slog.String("listener", l.Addr().String()),
			slog.Any("error", err), slog.Duration("retry_in", wait))
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-s.draining:
			t.Stop()
			return nil
		}
	}
}

// Shutdown stops accepting, ends sessions that wait for a command with a -ERR
// [SYS/TEMP] line, lets running commands finish, and returns when all sessions
// have ended or, with ctx's error, after ctx ended and the rest was cut.
// A session ended so deletes nothing (RFC 1939 §6).
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.draining)
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	for ses := range s.sessions {
		ses.wake()
	}
	s.mu.Unlock()

	ended := make(chan struct{})
	go func() { // ends when the sessions have: below they are cut at the latest
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for cancel := range s.cancels {
		(*cancel)()
	}
	for ses := range s.sessions {
		ses.cut()
	}
	s.mu.Unlock()
	<-ended
	return ctx.Err()
}

func (s *Server) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

func (s *Server) register(l net.Listener, cancel *context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[l] = struct{}{}
	s.cancels[cancel] = struct{}{}
	return true
}

func (s *Server) unregister(l net.Listener) {
	_ = l.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) add(ses *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.sessions[ses] = struct{}{}
	s.running.Add(1)
	return true
}

func (s *Server) remove(ses *session) {
	s.mu.Lock()
	delete(s.sessions, ses)
	s.mu.Unlock()
	s.running.Done()
}

// connID makes the id that log lines of one session share.
func connID() string { return strings.ToLower(rand.Text()[:13]) }
