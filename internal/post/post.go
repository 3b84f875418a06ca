// Package post holds the one durable step of the house: Accept stores a message
// and commits the next step for each of its recipients.
package post

import (
	"context"
	"errors"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/trace"
)

// ErrFull is returned when no space is left for mail; temporary, 452 4.3.1.
var ErrFull = errors.New("no space left for mail")

// Local is a recipient whose mailbox is here.
type Local struct {
	Recipients []int // indexes into the envelope; several when aliases lead to one mailbox
	Account    envelope.AccountID
	Login      string
	Mailbox    string // folder; "" is INBOX
	Prefix     []byte // Return-Path, Delivered-To …: header fields of this copy alone
	// State is trace.Quarantined for a copy that is set apart, and trace.Discarded for one
	// that is dropped by a named rule and not stored; zero is trace.Delivered. Why names the
	// rule, for the trace.
	State trace.State
	Why   string
}

// Remote is a recipient for relay.
type Remote struct {
	Recipient   int                 // index into the envelope
	ForwardPath address.ForwardPath // where it goes; differs from the envelope's after an alias
	// Forward is the address here that leads there, an alias or an account that forwards; ""
	// when the sender named ForwardPath.
	Forward string
	// ReversePath is that of this copy, as XVERP or SRS makes it; null is the envelope's.
	ReversePath address.ReversePath
	Notify      envelope.Notify // of this copy (RFC 3461 §5.2.7); counts only with Forward
	// Held says why the recipient waits for an operator; "" goes.
	Held string
}

// Delivery is a decided message: who gets it, and how.
type Delivery struct {
	ID        message.ID // given by the service, so that Received can name it
	Envelope  envelope.Envelope
	MessageID string // the Message-ID field, for the trace; "" when absent
	Head      []byte // trace fields, equal for all recipients
	Staged    body.Staged
	UTF8      bool // the header section holds UTF-8: sessions without UTF8 get a surrogate
	// Ours is mail of our own people and of this house: relay may change its encoding.
	Ours bool
	// TLSOptional is a TLS-Required: No field (RFC 8689 §5).
	TLSOptional bool
	Locals      []Local
	Remotes     []Remote
	// Also are further messages that must be stored in the same transaction, as
	// success DSNs for local recipients are.
	Also []Delivery
	// Within is run in the transaction, as its last part; it may run more than once, and an
	// error of it ends the whole. It settles what the message is about, so that a report and
	// the fates it tells of are one step. Nil is nothing.
	Within func(tx db.Tx) error
}

// Accepter is the step as services see it.
type Accepter interface {
	// Stage begins a message of about hint octets.
	Stage(ctx context.Context, hint int64) (body.Staged, error)
	// Accept makes d durable: it returns nil only once the message is on stable
	// storage together with the mailbox entries of local recipients, the queue entries of remote
	// ones, and the fates; the caller may then accept responsibility (RFC 5321
	// §4.2.5). On error nothing is stored. ErrFull is temporary, as is any other
	// error. Accept does not discard d.Staged. Safe for concurrent use; cancelling
	// ctx before the database transaction began abandons the message.
	Accept(ctx context.Context, d *Delivery) error
}
