// Package smtpserver is the SMTP and LMTP server: it holds the sessions, their
// states, limits and extensions, and leaves to a Service who may send what to whom
// (RFC 5321, 2033, 2920, 3030, 3207, 4954).
package smtpserver

import (
	"context"
	"crypto/tls"
	"io"
	"net/netip"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtp"
)

// Session is what a Service may know of a connection. The server replaces facts
// as a whole when they change (EHLO, STARTTLS, AUTH, XCLIENT); a Service only reads.
type Session struct {
	Origin   envelope.Origin // Time is the connection's begin; a transaction has its own
	Identity sasl.Identity   // Account zero until AUTH succeeded
	TLS      *tls.ConnectionState
	Local    netip.AddrPort // our end, after PROXY or XCLIENT; invalid on a UNIX socket
}

// Service decides who may send what to whom. Package receive (port 25, LMTP) and
// package submit (587, 465) implement it. A refusal is an *smtp.Error; any other
// error is answered 451 4.3.0 and logged. Safe for concurrent use.
type Service interface {
	// Begin answers MAIL. The envelope holds the reverse-path and MAIL's parameters.
	Begin(ctx context.Context, s *Session, env envelope.Envelope) (Transaction, error)
}

// Starter is a Service that can have the queue of a domain run on request, by ETRN
// (RFC 1985). Safe for concurrent use.
type Starter interface {
	// Starts reports whether the session may use ETRN for any domain at all; others
	// are not offered it. It must not block.
	Starts(s *Session) bool
	// Start has the queue of node run soon and returns without waiting for it: how
	// many messages wait, negative when that is not known. Refusals are 458 for now
	// and 459 for a node that is not the session's to start.
	Start(ctx context.Context, s *Session, node smtp.Node) (waiting int, err error)
}

// Transaction is one mail transaction of one session, used by one goroutine.
type Transaction interface {
	// Rcpt answers RCPT; nil accepts the recipient.
	Rcpt(ctx context.Context, r envelope.Recipient) error
	// Data takes the mail data, un-stuffed, lines ended by CRLF, without the final
	// dot, and returns after the message is durable. It reads msg to its end unless it fails;
	// the server drains what is left. A read error that is an *smtp.Error (bare CR
	// or LF, too large, line limits) is returned as it is.
	Data(ctx context.Context, msg io.Reader) (Outcome, error)
	// Abort ends the transaction without Data (RSET, a lost connection, a new EHLO).
	// Data and Abort exclude each other.
	Abort()
}

// Outcome is the fate of a message: the reply of SMTP, and for LMTP one reply for
// each accepted recipient in their order (RFC 2033 §4.2).
type Outcome struct {
	Reply      smtp.Reply
	Recipients []smtp.Reply
}
