package pop3client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"poczta.example/poczta/internal/pop3"
	"poczta.example/poczta/internal/sasl"
)

// Causes that callers may want to tell apart; test with errors.Is. Timeouts are
// os.ErrDeadlineExceeded, an ended context is its context error, and a message that breaks
// off is io.ErrUnexpectedEOF beside its cause.
var (
	ErrHangup         = errors.New("server closed the connection")
	ErrProtocol       = errors.New("server's reply does not fit the command")
	ErrUnsolicited    = errors.New("server sent more than was asked for")
	ErrInjected       = errors.New("server sent plaintext behind its reply to STLS")
	ErrListing        = errors.New("server's listing contradicts itself")
	ErrLimit          = errors.New("server sends more than the limit")
	ErrClosed         = errors.New("session is closed")
	ErrArgument       = errors.New("name, password or message number can't stand in a command")
	ErrPlaintext      = errors.New("the login would go over the network unencrypted, and that is not allowed")
	ErrNotRemoved     = errors.New("server did not remove all messages that were marked as deleted")
	ErrRemovalUnknown = errors.New("whether the server removed the messages that were marked as deleted is not known")
	// ErrServerProof is sasl.ErrServerProof.
	ErrServerProof = sasl.ErrServerProof
)

// Error says how a step of a session failed.
type Error struct {
	// Command is what was asked, as in "RETR 7", without secrets; or "greeting", "TLS handshake".
	Command string
	// Number is the message's for RETR, TOP and DELE; else 0.
	Number int
	// Refused is true when the server said -ERR. The session is then usable, unless
	// Session.Usable says otherwise.
	Refused bool
	// Reply is the text of the server's reply without status and code, for people: valid
	// UTF-8 without control characters, at most MaxText octets. "" when there is none.
	Reply string
	// Code is the response code without brackets, as sent (RFC 2449 §8, RFC 3206).
	Code string
	// Err is the cause; nil when the reply says it all.
	Err error

	codes bool // the server tells AUTH wherever the credentials are wrong
}

// MaxText is how many octets of a reply's text are kept.
const MaxText = 512

// Error returns the command with the server's words and the cause.
func (e *Error) Error() string {
	s := "at " + e.Command
	switch {
	case e.Refused || e.Reply != "":
		s += ": server said "
		if e.Refused {
			s += "no"
		} else {
			s += "yes"
		}
		if e.Code != "" {
			s += " [" + e.Code + "]"
		}
		if e.Reply != "" {
			s += ": " + e.Reply
		}
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Kind is what a failure means for what to do next.
type Kind uint8

// The kinds of failures.
const (
	KindOther       Kind = iota // a caller's own error or one that can't be told
	KindNetwork                 // the connection broke or the server was silent: try again
	KindTLS                     // no TLS or not with whom it should be: ask the person
	KindProtocol                // the server does not keep the protocol, or sends without end
	KindCredentials             // name, password or token is refused: ask the person
	KindInUse                   // another session has the maildrop (RFC 2449 §8.1.2): try again
	KindDelay                   // too early after the last login (RFC 2449 §8.1.1): try later
	KindTemporary               // trouble at the server that passes (RFC 3206 §4)
	KindPermanent               // trouble at the server that does not pass by itself (RFC 3206 §4)
	KindRefused                 // another -ERR
	KindStopped                 // the context ended, or the session was closed
	KindUnsupported             // the server does not offer what is needed
)

var kindNames = [...]string{"other", "network", "TLS", "protocol", "credentials", "in use", "login delay", "temporary", "permanent", "refused", "stopped", "unsupported"}

// String returns the kind's name, for people.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[KindOther]
}

// KindOf returns the kind of an error of this package; KindOther for others.
func KindOf(err error) Kind {
	if _, ok := errors.AsType[*Unsupported](err); ok || errors.Is(err, ErrPlaintext) {
		return KindUnsupported
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrClosed) {
		return KindStopped
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return KindOther
	}
	if k := e.kindOfCause(); k != KindOther || !e.Refused {
		return k
	}
	return e.kindOfReply()
}

func (e *Error) kindOfCause() Kind {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(e.Err, t) {
				return true
			}
		}
		return false
	}
	if e.Err == nil || e.Refused && !is(ErrServerProof, ErrUnsolicited) {
		return KindOther
	}
	op, alert := errors.AsType[*net.OpError](e.Err) // under TLS 1.3 a refused client certificate shows behind the handshake
	alert = alert && (op.Op == "remote error" || op.Op == "local error")
	_, record := errors.AsType[tls.RecordHeaderError](e.Err)
	_, verification := errors.AsType[*tls.CertificateVerificationError](e.Err)
	_, host := errors.AsType[x509.HostnameError](e.Err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](e.Err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](e.Err)
	switch {
	case e.Refused && e.Code != "" && is(ErrUnsolicited):
		return e.kindOfReply()
	case e.Refused && is(ErrUnsolicited): // the server has ended the session, as at autologout
		return KindNetwork
	case alert || record || verification || host || authority || invalid, is(ErrInjected, ErrServerProof):
		return KindTLS
	case is(ErrHangup, os.ErrDeadlineExceeded):
		return KindNetwork
	case is(ErrProtocol, ErrUnsolicited, ErrListing, ErrLimit):
		return KindProtocol
	case e.Command == commandTLS:
		return KindTLS
	}
	return KindOther
}

// kindOfReply judges a -ERR by its code, and at a login by where it came: only a server
// that promises AUTH-RESP-CODE (RFC 3206 §6) tells wrong credentials from other trouble.
func (e *Error) kindOfReply() Kind {
	code := pop3.ResponseCode(e.Code)
	switch {
	case code.Is(pop3.CodeInUse):
		return KindInUse
	case code.Is(pop3.CodeLoginDelay):
		return KindDelay
	case code.Is(pop3.CodeSysTemp):
		return KindTemporary
	case code.Is(pop3.CodeSysPerm):
		return KindPermanent
	case code.Is(pop3.CodeAuth):
		return KindCredentials
	case (e.Command == "PASS" || len(e.Command) > 4 && e.Command[:4] == "AUTH") && !e.codes:
		return KindCredentials
	}
	return KindRefused
}

// MaxRefusals is how many refusals are kept with the server's words, of one call.
const MaxRefusals = 100

// Refused says that the server refused to give or to delete messages; the others were given or
// deleted, and the session is usable. Its first Refusals are found by errors.As.
type Refused struct {
	Numbers []int    // of all messages that were refused, in the order asked for
	First   Refusals // the first of them, at most MaxRefusals
}

// Error tells how many there are, and the first.
func (r *Refused) Error() string {
	if len(r.Numbers) == 1 {
		return r.First.Error()
	}
	return strconv.Itoa(len(r.Numbers)) + " messages refused, the first " + r.First[0].Error()
}

// Unwrap returns the first of them.
func (r *Refused) Unwrap() error { return r.First }

// add notes a refusal: beyond the first ones a server has only the number kept, whatever it says.
func (r *Refused) add(n int, e *Error) {
	if r.Numbers = append(r.Numbers, n); len(r.First) < MaxRefusals {
		r.First = append(r.First, e)
	}
}

// Refusals are the first of the messages that the server refused, in its words.
type Refusals []*Error

// Error tells the first.
func (r Refusals) Error() string { return r[0].Error() }

// Unwrap returns all of them.
func (r Refusals) Unwrap() []error {
	all := make([]error, len(r))
	for i, e := range r {
		all[i] = e
	}
	return all
}

// Unsupported says that the server does not offer what a call needs. Nothing was sent, the
// session is as before.
type Unsupported struct {
	Extension string // the capability's name
	Need      string // what needs it, for people
}

// Error returns what is missing.
func (e *Unsupported) Error() string {
	return fmt.Sprintf("server does not offer %s, which %s needs", e.Extension, e.Need)
}
