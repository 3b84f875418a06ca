// Package envelope holds the envelope of a mail transaction: who sends, to whom,
// with which options, and how it came in (RFC 5321 §2.3.1, RFC 3461).
package envelope

import (
	"net/netip"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/verp"
)

// AccountID names an account of this server for ever; ids are never used again.
// Zero is nobody.
type AccountID int64

// Body is the BODY parameter of MAIL (RFC 6152, RFC 3030).
type Body uint8

// The values of Body; the zero value is a transaction without the parameter.
const (
	BodyUndeclared Body = iota
	Body7Bit
	Body8BitMIME
)

// Return is the RET parameter of MAIL (RFC 3461 §4.3).
type Return uint8

// The values of Return.
const (
	ReturnUndeclared Return = iota
	ReturnHeaders
	ReturnFull
)

// Notify is the NOTIFY parameter of RCPT as a set (RFC 3461 §4.1). Zero is a
// recipient without the parameter, which means failure and perhaps delay.
type Notify uint8

// The members of a Notify set. NotifyNever stands alone.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// OriginalRecipient is the ORCPT parameter (RFC 3461 §4.2), decoded from xtext
// or utf-8-addr-xtext. The zero value is none.
type OriginalRecipient struct {
	Type    string // "rfc822" or "utf-8" (RFC 6533), lower case
	Address string // decoded
}

// Recipient is one accepted RCPT command.
type Recipient struct {
	ForwardPath address.ForwardPath
	Notify      Notify
	Original    OriginalRecipient
	ReversePath address.ReversePath // of this recipient's copy, as Envelope.VERP makes it; null is the envelope's
}

// Origin says how a message reached us; it is what the Received field tells.
type Origin struct {
	ConnID   string         // log id of the session
	Peer     netip.AddrPort // the client's address, after PROXY or XCLIENT
	PeerName string         // verified reverse name, "" when there is none
	Helo     string         // argument of EHLO, HELO or LHLO
	Protocol string         // the "with" word: SMTP, ESMTP, ESMTPS, ESMTPSA, LMTP, UTF8SMTPSA … (RFC 3848, RFC 6531)
	TLS      string         // "" or as in "TLS1.3 TLS_AES_128_GCM_SHA256"
	Account  AccountID      // the authenticated account, zero for a stranger
	Login    string         // the login name the account used
	Time     time.Time      // when the transaction began
}

// Envelope is a mail transaction's envelope.
type Envelope struct {
	ReversePath address.ReversePath
	Recipients  []Recipient
	Body        Body
	SMTPUTF8    bool            // RFC 6531
	Size        int64           // SIZE as declared, octets; 0 when not declared
	Return      Return          // RFC 3461
	EnvelopeID  string          // ENVID, decoded; "" when absent (RFC 3461)
	RequireTLS  bool            // REQUIRETLS (RFC 8689)
	Priority    int             // MT-PRIORITY, MinPriority to MaxPriority, 0 when absent (RFC 6710)
	HoldUntil   time.Time       // FUTURERELEASE: not before; zero when absent (RFC 4865)
	DeliverBy   DeliverBy       // DELIVERBY; zero when absent (RFC 2852)
	VERP        verp.Delimiters // XVERP: each recipient gets a reverse-path of their own; "" when absent
	Origin      Origin
}

// The bounds of a message transfer priority (RFC 6710 §5).
const (
	MinPriority = -9
	MaxPriority = 9
)

// ByMode says what happens when the time of DELIVERBY is over (RFC 2852 §4).
type ByMode uint8

// The values of ByMode; the zero value is a transaction without BY. The numbers
// are stored.
const (
	ByUndeclared ByMode = iota
	ByReturn            // "R": give the message back
	ByNotify            // "N": report a delay and go on
)

// DeliverBy is the BY parameter of MAIL (RFC 2852): a moment instead of seconds,
// since the clock of the transaction runs on.
type DeliverBy struct {
	Mode  ByMode
	Time  time.Time
	Trace bool // "T": every relay is to be reported
}
