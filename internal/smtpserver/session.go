package smtpserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtp"
)

// state is where a session stands in the dialogue. setState alone changes it.
type state uint8

const (
	stateConnected state = 1 << iota // before EHLO, HELO or LHLO
	stateReady                       // greeted, no mail transaction
	stateMail                        // behind MAIL
	stateChunks                      // behind the first BDAT, before its last chunk is done
)

const (
	anyState  = stateConnected | stateReady | stateMail | stateChunks
	noMail    = stateConnected | stateReady
	unchunked = stateConnected | stateReady | stateMail
)

// String names the state, for logs.
func (s state) String() string {
	switch s {
	case stateConnected:
		return "connected"
	case stateReady:
		return "ready"
	case stateMail:
		return "mail"
	case stateChunks:
		return "chunks"
	}
	return "unknown"
}

// Ways a session ends that need no word in the log.
var (
	errClosing  = errors.New("session is closing")
	errDraining = errors.New("server is shutting down")
)

// connFacts are the facts of a connection; PROXY and XCLIENT replace them.
type connFacts struct {
	peer     netip.AddrPort
	local    netip.AddrPort
	peerName string // XCLIENT NAME
	helo     string // XCLIENT HELO, "" when EHLO's argument counts
	proto    string // XCLIENT PROTO, "" when the dialogue's own counts
	identity sasl.Identity
}

// sessionFacts are the facts of a session; EHLO, STARTTLS and XCLIENT replace them.
type sessionFacts struct {
	helo        string
	esmtp       bool // EHLO or LHLO, not HELO
	tls         *tls.ConnectionState
	certificate *x509.Certificate // that TLS presented; nil when not known
	identity    sasl.Identity
}

// counts are a session's counters for Limits.
type counts struct {
	errors       int
	refusals     int
	idle         int
	authFailures int
	transactions int
}

// session is one connection's dialogue, run by one goroutine. Only wake may be
// called by others.
type session struct {
	srv     *Server
	ctx     context.Context //nolint:containedctx // the session's life is the call of Serve that gave it
	raw     net.Conn        // as accepted
	conn    net.Conn        // raw, or the TLS connection once there is one
	early   []byte          // what came together with a PROXY header
	in      input
	out     output
	number  uint64
	begun   time.Time
	state   state
	verb    smtp.Verb
	trusted netip.AddrPort // the peer after PROXY and before XCLIENT
	client  connFacts
	facts   sessionFacts
	counts  counts
	info    *Session     // what the Service sees; nil after a change of facts
	tx      *transaction // nil outside a mail transaction
	pending *smtp.Command
	release func() // of Admit
	linger  bool   // the peer may still be sending when we close

	mu      sync.Mutex
	readBy  time.Time // the read deadline that is set
	waiting bool      // for a command, outside a transaction
	drain   bool      // the server shuts down
}

// run is the whole life of a session.
func (s *session) run() {
	defer s.close()
	err := s.open()
	for err == nil {
		err = s.step()
	}
	s.farewell(err)
}

// step answers one command.
func (s *session) step() error {
	cmd, err := s.next()
	if err != nil {
		return s.badLine(err)
	}
	return s.dispatch(cmd)
}

// next returns the next command: one that ended a BDAT sequence, or a new line.
func (s *session) next() (smtp.Command, error) {
	if s.pending != nil {
		cmd := *s.pending
		s.pending = nil
		return cmd, nil
	}
	line, err := s.readLine()
	if err != nil {
		return smtp.Command{}, err
	}
	cmd, err := smtp.ParseCommand(line)
	switch {
	case (err != nil || cmd.Verb == smtp.VerbUnknown) && smtp.IsForeign(line):
		return smtp.Command{}, errForeign
	case err == nil && len(line)+2 > smtp.MaxCommandLine && cmd.Verb != smtp.AUTH:
		return smtp.Command{}, errLineTooLong
	}
	return cmd, err
}

// readLine waits for a line of the dialogue.
func (s *session) readLine() ([]byte, error) {
	if s.in.buffered() == 0 {
		s.in.release()
	}
	if err := s.armCommand(); err != nil {
		return nil, err
	}
	line, err := s.in.line(smtp.MaxAuthLine)
	s.disarm()
	if err != nil && s.isDraining() && errors.Is(err, os.ErrDeadlineExceeded) {
		err = errDraining
	}
	return line, err
}

// armCommand sets the deadline for a command line, unless the server shuts down
// and nothing but a greeting would be lost.
func (s *session) armCommand() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = s.tx == nil
	if s.drain && s.waiting {
		return errDraining
	}
	return s.setReadDeadline(s.srv.cfg.Limits.Command)
}

// disarm ends a wait for a command.
func (s *session) disarm() {
	s.mu.Lock()
	s.waiting = false
	s.mu.Unlock()
}

func (s *session) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drain
}

// setReadDeadline sets the deadline to d from now, or up to a sixteenth later: a
// deadline that still lies there is left alone, as setting it costs. s.mu is held.
func (s *session) setReadDeadline(d time.Duration) error {
	now := time.Now()
	if left := s.readBy.Sub(now); left >= d && left <= d+d/16 {
		return nil
	}
	s.readBy = now.Add(d + d/16)
	return s.conn.SetReadDeadline(s.readBy)
}

// wake is told that the server shuts down: a session that waits for a command
// outside a transaction stops waiting. Called by other goroutines.
func (s *session) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain = true
	if s.waiting {
		s.readBy = time.Unix(1, 0)
		_ = s.conn.SetReadDeadline(s.readBy) // fails only on a closed connection, which ends the session too
	}
}

// setState changes the state; tx is the transaction that the new state has.
func (s *session) setState(to state, tx *transaction) {
	s.state, s.tx = to, tx
}

// flushBeforeWait is called before each wait for the peer.
func (s *session) flushBeforeWait() error { return s.out.flush() }

// reply answers the command at hand.
func (s *session) reply(r smtp.Reply) {
	s.out.reply(r, false)
	if f := s.srv.cfg.Hooks.Replied; f != nil {
		f(s.verb, r.Code)
	}
}

// say answers with these parts.
func (s *session) say(code, subject, detail int, text string) error {
	s.reply(smtp.Reply{Code: code, Subject: subject, Detail: detail, Text: text})
	return nil
}

// hangUp answers and ends the session.
func (s *session) hangUp(code, subject, detail int, text string) error {
	_ = s.say(code, subject, detail, text)
	s.linger = true
	return errClosing
}

// fault answers a command that is wrong in itself. Too many of them end the session.
func (s *session) fault(r smtp.Reply) error {
	s.reply(r)
	s.counts.errors++
	if s.counts.errors < s.srv.cfg.Limits.Errors {
		return nil
	}
	s.log(slog.LevelInfo, "smtp session ended after too many errors", slog.Int("errors", s.counts.errors))
	return s.hangUp(421, 7, 0, "Too many errors, closing the connection")
}

// refuse answers a refusal of the Service. Too many of them end the session.
func (s *session) refuse(err error) error {
	r := s.replyOf(err)
	if r.Code == 421 { // RFC 5321 §3.8: the channel closes behind it
		return s.hangUp(421, r.Subject, r.Detail, r.Text)
	}
	s.reply(r)
	s.counts.refusals++
	if s.counts.refusals < s.srv.cfg.Limits.Refusals {
		return nil
	}
	s.log(slog.LevelInfo, "smtp session ended after too many refusals", slog.Int("refusals", s.counts.refusals))
	return s.hangUp(421, 7, 0, "Too many refused commands, closing the connection")
}

// replyOf is the reply to an error of the Service; one without a reply is logged.
func (s *session) replyOf(err error) smtp.Reply {
	r, known := smtp.ReplyOf(err)
	if !known && s.ctx.Err() == nil {
		s.log(slog.LevelError, "smtp service error", slog.String("verb", s.verb.String()), slog.Any("error", err))
	}
	return r
}

// log writes an event with the session's id and peer.
func (s *session) log(level slog.Level, event string, attrs ...slog.Attr) {
	l := s.srv.cfg.Logger
	if !l.Enabled(s.ctx, level) {
		return
	}
	attrs = append(attrs, slog.String("conn_id", s.id()), slog.String("peer", s.client.peer.String()))
	l.LogAttrs(s.ctx, level, event, attrs...)
}

// id is the session's id in logs and trace fields.
func (s *session) id() string { return s.srv.sessionID(s.number) }
