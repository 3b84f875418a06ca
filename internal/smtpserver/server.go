package smtpserver

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"poczta.example/poczta/internal/smtp"
)

// Server speaks SMTP, or LMTP, on any number of listeners. Its methods may be
// called by several goroutines.
type Server struct {
	cfg        Config
	table      [smtp.NumVerbs]entry
	fixedOffer string
	starter    Starter // nil when the Service is none
	ownCert    *x509.Certificate
	seed       uint64 // makes session ids of two lives of the server differ

	mu        sync.Mutex
	closed    bool // Shutdown was called
	listeners map[net.Listener]context.CancelFunc
	sessions  map[*session]struct{}
	count     uint64
	serving   sync.WaitGroup // calls of Serve
}

// New returns a server for cfg, or what is wrong with cfg.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure SMTP server: %w", err)
	}
	cfg.fill()
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("read randomness for session ids: %w", err)
	}
	return &Server{
		cfg: cfg, table: newTable(&cfg), fixedOffer: fixedOffer(&cfg.Limits) + cfg.Extensions.fixedOffer(), ownCert: ownCertificate(cfg.TLS),
		starter: starterOf(&cfg), seed: binary.BigEndian.Uint64(seed[:]),
		listeners: map[net.Listener]context.CancelFunc{}, sessions: map[*session]struct{}{},
	}, nil
}

// Serve accepts sessions from l until Shutdown is called (then it returns nil) or ctx
// ends (then every session is cut off and it returns ctx's error); l is closed. It
// returns after the last of its sessions ended. May be called for several listeners.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	if !s.begin(l, cancel) {
		_ = l.Close() // not ours to report: the server is down
		return nil
	}
	defer s.serving.Done()
	stop := context.AfterFunc(run, func() {
		_ = l.Close() // makes Accept return
		s.cut(run)
	})
	defer stop()
	var sessions sync.WaitGroup
	err := s.accept(run, l, &sessions)
	if err != nil && run.Err() == nil {
		cancel() // a listener that broke: its sessions can't be told to end otherwise
	}
	sessions.Wait()
	s.end(l)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.isClosed():
		return nil
	}
	return err
}

// begin registers a call of Serve; false after Shutdown.
func (s *Server) begin(l net.Listener, cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[l] = cancel
	s.serving.Add(1)
	return true
}

func (s *Server) end(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Waits after a failed Accept, as when descriptors run out.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// accept starts a session for each connection until l is closed.
func (s *Server) accept(ctx context.Context, l net.Listener, sessions *sync.WaitGroup) error {
	pause := minPause
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = minPause
			if ss := s.newSession(ctx, conn); ss != nil {
				sessions.Go(func() { s.runSession(ss) })
			}
			continue
		case ctx.Err() != nil || s.isClosed():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept SMTP connection: %w", err)
		}
		s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "accept failed, trying again", slog.Any("error", err), slog.Duration("pause", pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, maxPause)
	}
}

// newSession registers a session; after Shutdown the connection is closed instead.
func (s *Server) newSession(ctx context.Context, conn net.Conn) *session {
	ss := &session{srv: s, ctx: ctx, raw: conn, conn: conn, begun: time.Now(), state: stateConnected}
	ss.in.before = ss.flushBeforeWait
	ss.out.timeout = s.cfg.Limits.Write
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || ctx.Err() != nil {
		_ = conn.Close() // nobody was served
		return nil
	}
	s.count++
	ss.number = s.count
	s.sessions[ss] = struct{}{}
	return ss
}

// runSession runs a session to its end.
func (s *Server) runSession(ss *session) {
	if f := s.cfg.Hooks.Opened; f != nil {
		f()
	}
	ss.run()
	s.mu.Lock()
	delete(s.sessions, ss)
	s.mu.Unlock()
	if f := s.cfg.Hooks.Closed; f != nil {
		f(time.Since(ss.begun))
	}
}

// cut closes the connections of the sessions that run under ctx.
func (s *Server) cut(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ss := range s.sessions {
		if ss.ctx == ctx {
			_ = ss.raw.Close() // the session ends by it
		}
	}
}

// Shutdown closes the listeners, ends idle sessions with 421, lets transactions
// finish until ctx ends, and then cuts off what is left. It returns after the last
// session ended; the error is ctx's if sessions were cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close() // Serve reports nothing after Shutdown
	}
	for ss := range s.sessions {
		ss.wake()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for _, cancel := range s.listeners {
		cancel()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}

// refused counts a connection that was turned away.
func (s *Server) refused(why string) {
	if f := s.cfg.Hooks.Refused; f != nil {
		f(why)
	}
}

// idEncoding writes session ids in 13 characters.
var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// sessionID is the id of the session with that number.
func (s *Server) sessionID(number uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], s.seed+number)
	return idEncoding.EncodeToString(b[:])
}
