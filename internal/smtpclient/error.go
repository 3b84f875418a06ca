package smtpclient

import (
	"errors"
	"fmt"

	"poczta.example/poczta/internal/smtp"
)

// Stage is a step of a session.
type Stage uint8

// The stages, in the order of a session.
const (
	StageNone     Stage = iota
	StageGreeting       // the server's first reply
	StageHello          // EHLO, HELO, LHLO
	StageStartTLS       // STARTTLS and its reply
	StageTLS            // the handshake
	StageAuth
	StageMail
	StageRcpt
	StageData  // DATA and its reply, before any mail data
	StageBody  // mail data, and BDAT chunks but the last one's reply
	StageFinal // the reply to the final dot or to BDAT LAST
	StageReset
	StageQuit
)

var stageNames = [...]string{"none", "greeting", "EHLO", "STARTTLS", "TLS handshake", "AUTH", "MAIL", "RCPT", "DATA",
	"mail data", "end of data", "RSET", "QUIT"}

// String returns the stage's name, for people.
func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return stageNames[StageNone]
}

// Causes that callers may want to tell apart; test with errors.Is. Timeouts are
// os.ErrDeadlineExceeded, an ended context is its context error.
var (
	ErrHangup      = errors.New("server closed the connection")
	ErrProtocol    = errors.New("server's reply does not fit the command")
	ErrUnsolicited = errors.New("server sent more than was asked for")
	ErrInjected    = errors.New("server sent plaintext behind its reply to STARTTLS")
	ErrClosed      = errors.New("session is closed")
	ErrBareLineEnd = errors.New("message has a bare CR or LF and can't be sent")
	ErrLength      = errors.New("message has another length than declared")
	ErrArgument    = errors.New("address or parameter can't stand in a command")
)

// Error says how a step of a session failed. Reply is what the server said; nil when it
// said nothing. Lost is true when the whole message had been sent and no reply came that
// makes sense: those without a reply in the Outcome may have got it (RFC 1047). Local is true when the failure is not the server's:
// the message's data or Commit failed. Err is the cause; nil when the reply says it all.
type Error struct {
	Stage Stage
	Reply *smtp.Reply
	Lost  bool
	Local bool
	Err   error
}

// Error returns the stage with the server's words and the cause.
func (e *Error) Error() string {
	s := "at " + e.Stage.String()
	if e.Reply != nil {
		s += ": server said " + e.Reply.String()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Lost {
		s += " (the reply to the whole message is lost)"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent reports whether the server's reply is of class 5.
func (e *Error) Permanent() bool { return e.Reply != nil && e.Reply.Code/100 == 5 }

// Unsupported says that the server does not offer what a message or a call needs.
// Nothing was sent, the session is as before.
type Unsupported struct {
	Extension string // the EHLO keyword
	Need      string // what needs it, for people
}

// Error returns what is missing.
func (e *Unsupported) Error() string {
	return fmt.Sprintf("server does not offer %s, which %s needs", e.Extension, e.Need)
}
