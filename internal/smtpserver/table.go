package smtpserver

import (
	"errors"
	"log/slog"
	"os"

	"poczta.example/poczta/internal/smtp"
)

// entry is a verb's row in the table.
type entry struct {
	allowed state // where the command makes sense; elsewhere 503 5.5.1
	handler func(*session, smtp.Command) error
	flush   bool // replies so far leave before the handler runs, and its own right after
	plain   bool // allowed before TLS when TLS is required
	idle    bool // moves nothing: counted against Limits.Idle
}

// newTable returns the table of commands; those that cfg does not offer have no
// handler and are answered 502 5.5.1.
func newTable(cfg *Config) [smtp.NumVerbs]entry {
	t := [smtp.NumVerbs]entry{
		smtp.MAIL: {allowed: stateReady, handler: (*session).mail},
		smtp.RCPT: {allowed: stateMail, handler: (*session).rcpt},
		smtp.DATA: {allowed: stateMail, handler: (*session).data},
		smtp.BDAT: {allowed: anyState, handler: (*session).bdat}, // its octets follow in any case
		smtp.RSET: {allowed: anyState, handler: (*session).rset, plain: true, idle: true},
		smtp.NOOP: {allowed: anyState, handler: (*session).noop, plain: true, idle: true},
		smtp.QUIT: {allowed: anyState, handler: (*session).quit, plain: true, flush: true},
		smtp.VRFY: {allowed: anyState, handler: (*session).vrfy, idle: true},
		smtp.HELP: {allowed: anyState, handler: (*session).help, plain: true, idle: true},
	}
	hello := entry{allowed: anyState, handler: (*session).hello, plain: true, idle: true}
	if cfg.LMTP {
		t[smtp.LHLO] = hello
	} else {
		t[smtp.EHLO], t[smtp.HELO] = hello, hello
	}
	if cfg.TLS != nil {
		t[smtp.STARTTLS] = entry{allowed: stateReady | stateMail, handler: (*session).starttls, plain: true, flush: true}
	}
	if cfg.Auth.Verifier != nil {
		t[smtp.AUTH] = entry{allowed: stateReady, handler: (*session).auth}
	}
	if len(cfg.XClientFrom) > 0 {
		t[smtp.XCLIENT] = entry{allowed: noMail, handler: (*session).xclient}
	}
	if starterOf(cfg) != nil {
		t[smtp.ETRN] = entry{allowed: stateReady, handler: (*session).etrn, idle: true}
	}
	return t
}

// dispatch runs a command's handler if the state allows it.
func (s *session) dispatch(cmd smtp.Command) error {
	s.verb = cmd.Verb
	e := &s.srv.table[cmd.Verb]
	switch {
	case cmd.Verb == smtp.VerbUnknown:
		return s.fault(smtp.Reply{Code: 500, Subject: 5, Detail: 1, Text: "Command is not recognised"})
	case e.handler == nil:
		return s.fault(smtp.Reply{Code: 502, Subject: 5, Detail: 1, Text: cmd.Verb.String() + " is not offered here"})
	case s.srv.cfg.RequireTLS && s.facts.tls == nil && !e.plain:
		if cmd.Verb == smtp.BDAT { // what follows can't be told from commands
			return s.hangUp(421, 7, 0, "Must issue a STARTTLS command first")
		}
		return s.fault(smtp.Reply{Code: 530, Subject: 7, Detail: 0, Text: "Must issue a STARTTLS command first"})
	case e.allowed&s.state == 0:
		return s.fault(smtp.Reply{Code: 503, Subject: 5, Detail: 1, Text: s.outOfPlace(cmd.Verb)})
	}
	if e.idle {
		if err := s.idleCommand(); err != nil {
			return err
		}
	}
	if e.flush {
		if err := s.out.flush(); err != nil {
			return err
		}
	}
	return e.handler(s, cmd)
}

// idleCommand counts a command that moves nothing. Too many of them end the session.
func (s *session) idleCommand() error {
	s.counts.idle++
	if s.counts.idle <= s.srv.cfg.Limits.Idle {
		return nil
	}
	s.counts.errors++ // the next fault, or this, may end the session
	if s.counts.errors < s.srv.cfg.Limits.Errors {
		return nil
	}
	return s.hangUp(421, 7, 0, "Too many commands without mail, closing the connection")
}

// outOfPlace says what is missing before a command.
func (s *session) outOfPlace(v smtp.Verb) string {
	switch {
	case s.state == stateConnected:
		if s.srv.cfg.LMTP {
			return "Send LHLO first"
		}
		return "Send EHLO or HELO first"
	case s.state == stateChunks:
		return "Send the last chunk, or RSET, first"
	case v == smtp.MAIL:
		return "A mail transaction is open already"
	case s.state == stateReady && (v == smtp.RCPT || v == smtp.DATA):
		return "Send MAIL first"
	}
	return "Not during a mail transaction"
}

var errForeign = errors.New("peer does not speak SMTP")

// badLine answers a line that is no command, or passes on the error that ends the session.
func (s *session) badLine(err error) error {
	s.verb = smtp.VerbUnknown
	switch {
	case errors.Is(err, errLineTooLong):
		return s.fault(smtp.Reply{Code: 500, Subject: 5, Detail: 2, Text: "Line is too long"})
	case errors.Is(err, errLineEnd):
		return s.fault(smtp.Reply{Code: 500, Subject: 5, Detail: 2, Text: "Lines must end with CRLF"})
	}
	if e, ok := errors.AsType[*smtp.Error](err); ok {
		return s.fault(e.Reply)
	}
	return err
}

// farewell says goodbye where the peer may still listen.
func (s *session) farewell(err error) {
	s.verb = smtp.VerbUnknown
	switch {
	case errors.Is(err, errClosing):
	case errors.Is(err, errDraining):
		_ = s.hangUp(421, 3, 2, s.srv.cfg.Hostname+" is shutting down, try again later")
	case errors.Is(err, errForeign):
		_ = s.hangUp(421, 5, 1, "This is a mail server, and that is not SMTP")
		s.srv.refused("http")
		s.log(slog.LevelInfo, "smtp session ended, the peer speaks another protocol")
	case errors.Is(err, errFlood):
		_ = s.hangUp(421, 5, 2, "Line is far too long, closing the connection")
		s.log(slog.LevelInfo, "smtp session ended after an endless line")
	case errors.Is(err, os.ErrDeadlineExceeded) && s.out.err == nil:
		_ = s.hangUp(421, 4, 2, "Timeout, closing the connection")
		s.log(slog.LevelDebug, "smtp session timed out", slog.String("state", s.state.String()))
	}
	_ = s.out.flush() // the session ends in any case
}
