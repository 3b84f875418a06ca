package pop3server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/sasl"
)

// session is one connection. Its facts are of three kinds: those of the
// connection, those of the AUTHORIZATION state (auth) and those of the
// TRANSACTION state (trans).
type session struct {
	server      *Server
	id          string
	raw         net.Conn          // as accepted; for wake and cut
	conn        net.Conn          // raw, or what PROXY and TLS made of it
	tls         *tls.Conn         // nil without TLS
	implicit    bool              // TLS from the first octet
	certificate *x509.Certificate // that TLS presented; nil when not known
	peer        netip.AddrPort
	begin       time.Time
	command     time.Time // begin of the present command
	renew       time.Time // when the autologout timer is next put off
	draining    atomic.Bool

	in       input
	out      output
	lang     pop3.Language
	errors   int // bad commands
	failures int // failed logins
	why      string

	state    state
	auth     authorization
	trans    *transaction
	identity sasl.Identity // who has logged in
}

// authorization is the data of the AUTHORIZATION state; STLS begins a new one.
type authorization struct {
	login string // argument of USER; "" when none is pending
	utf8  bool   // RFC 6856 §2.1
}

func newSession(s *Server, c net.Conn, implicit bool) *session {
	ses := &session{server: s, raw: c, conn: c, implicit: implicit, begin: time.Now(), state: stateAuthorization}
	ses.in.pool = &s.buffers
	ses.out = output{pool: &s.buffers, conn: c, timeout: s.config.WriteTimeout}
	return ses
}

// run serves the session to its end and closes the connection.
func (s *session) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, s.cut)
	defer stop()
	defer s.raw.Close()
	if !s.proxy() {
		return
	}
	release, ok := s.admit()
	if !ok {
		return
	}
	defer release()
	s.id = connID()
	h := &s.server.config.Hooks
	if h.SessionBegin != nil {
		h.SessionBegin()
	}
	if s.open(ctx) {
		s.serve(ctx)
	}
	s.close()
	if h.SessionEnd != nil {
		h.SessionEnd(time.Since(s.begin), s.in.octets, s.out.octets)
	}
}

// open does the handshake of implicit TLS and sends the greeting.
func (s *session) open(ctx context.Context) bool {
	s.logBegin()
	if s.implicit && !s.handshake(ctx) {
		return false
	}
	s.okReply(s.server.greeting)
	return true
}

// serve reads and runs commands until the session ends; s.why says how.
func (s *session) serve(ctx context.Context) {
	for {
		line, err := s.line(pop3.MaxSASLOctets - 2)
		if err != nil && !errors.Is(err, errLine) {
			s.ended(err)
			return
		}
		if !s.dispatch(ctx, line, err) {
			return
		}
	}
}

// line returns the next line. It writes pending replies before it waits, and
// waits without buffers: the autologout timer starts anew with each line, not
// with each octet (RFC 1939 §3).
func (s *session) line(limit int) ([]byte, error) {
	if !s.in.hasLine() {
		s.out.release()
		s.in.release()
		if s.out.err != nil {
			return nil, s.out.err
		}
		if now := time.Now(); !now.Before(s.renew) {
			if err := s.conn.SetReadDeadline(now.Add(s.server.config.IdleTimeout + deadlineStep)); err != nil {
				return nil, err
			}
			s.renew = now.Add(deadlineStep)
		}
		if s.draining.Load() { // after the deadline, so that wake is not lost
			return nil, os.ErrDeadlineExceeded
		}
	}
	return s.in.line(s.conn, limit)
}

// ended notes why no further line came. Only a drain is told to the peer: at
// autologout the server closes without any response (RFC 1939 §3).
func (s *session) ended(err error) {
	switch {
	case s.draining.Load():
		s.why = "shutdown"
		s.errReply(pop3.CodeSysTemp, pop3.TextShutdown.In(s.lang))
	case s.out.err != nil:
		s.why = "peer does not read"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.why = "peer closed"
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.why = "autologout"
	case errors.Is(err, errNoise):
		s.why = "errors"
		s.errReply("", pop3.TextTooLong.In(s.lang))
	default:
		s.why = "connection broke"
	}
}

// close ends every state without deleting anything, and the connection.
func (s *session) close() {
	s.out.release()
	s.enter(stateUpdate, nil)
	s.logEnd()
	if s.why == "errors" || s.why == "logins" {
		linger(s.conn)
	}
	_ = s.conn.Close()
	s.in.forget()
}

// wake ends the wait for a command, for Shutdown. Called from other goroutines.
func (s *session) wake() {
	s.draining.Store(true)
	_ = s.raw.SetReadDeadline(time.Unix(1, 0))
}

// cut ends the session at once. Called from other goroutines.
func (s *session) cut() {
	s.draining.Store(true)
	_ = s.raw.Close()
}

// okReply puts a positive status line.
func (s *session) okReply(text string) {
	s.out.put(pop3.AppendOK(s.out.room(pop3.MaxResponseOctets), text))
}

// errReply puts a negative status line.
func (s *session) errReply(code pop3.ResponseCode, text string) {
	s.out.put(pop3.AppendErr(s.out.room(pop3.MaxResponseOctets), code, text))
}

func (s *session) logBegin() {
	s.server.config.Logger.Debug("session begins", slog.String("conn_id", s.id), slog.String("peer", s.peer.String()))
}

func (s *session) logEnd() {
	s.server.config.Logger.Info("session ended", slog.String("conn_id", s.id), slog.String("peer", s.peer.String()),
		slog.String("login", s.identity.Login), slog.String("reason", s.why), slog.Bool("tls", s.tls != nil),
		slog.Int64("octets_in", s.in.octets), slog.Int64("octets_out", s.out.octets), slog.Duration("lasted", time.Since(s.begin)))
}

func (s *session) logFailure(verb pop3.Verb, err error) {
	s.server.config.Logger.Warn("command failed", slog.String("conn_id", s.id), slog.String("peer", s.peer.String()),
		slog.String("login", s.identity.Login), slog.String("command", verb.String()), slog.Any("error", err))
}
