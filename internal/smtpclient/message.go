package smtpclient

import (
	"io"
	"strconv"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/smtp"
)

// Message is what one mail transaction carries. Paths are written as in the envelope,
// without angle brackets.
//
// What it needs and the server does not offer makes Send refuse with *Unsupported:
// SMTPUTF8, Body8BitMIME, RequireTLS, DeliverBy with mode R, HoldFor. What only helps is
// left out silently: SIZE, the parameters of DSN, Priority, DeliverBy with mode N.
type Message struct {
	ReversePath string // "" is the null reverse-path
	SMTPUTF8    bool   // RFC 6531
	RequireTLS  bool   // RFC 8689; the session must be under TLS too
	Body        envelope.Body
	// Size is the number of octets that Open gives, without dot-stuffing. Zero means
	// unknown; otherwise data of another length are never completed.
	Size        int64
	Return      envelope.Return
	EnvelopeID  string // decoded; "" for none
	Priority    int    // MT-PRIORITY (RFC 6710)
	HasPriority bool
	DeliverBy   DeliverBy
	HoldFor     time.Duration // FUTURERELEASE, whole seconds; zero for none (RFC 4865)
	Recipients  []Recipient   // at least one

	// Open gives the mail data, lines ended by CRLF. It is called at most once: after a
	// recipient was accepted, or, when a small message goes out in one flight by BDAT,
	// before the first command. Send closes what it returns.
	Open func() (io.ReadCloser, error)
	// Commit is called directly before the octets are sent that complete the message; its
	// error ends the connection without them, so nobody gets the message. May be nil.
	Commit func() error
}

// DeliverBy is the BY parameter (RFC 2852 §4): seconds from now.
type DeliverBy struct {
	Mode    envelope.ByMode // the zero value for none
	Seconds int             // negative only with mode N
	Trace   bool
}

// Recipient is one RCPT command.
type Recipient struct {
	ForwardPath string // "Postmaster" for the bare <Postmaster>
	Notify      envelope.Notify
	Original    envelope.OriginalRecipient
}

// Outcome says what the server said about each recipient, in the message's order.
type Outcome struct{ Recipients []RecipientOutcome }

// RecipientOutcome is what became of one recipient. A Code of zero in Reply means that
// nothing decided over it: Send's error says why.
type RecipientOutcome struct {
	Reply    smtp.Reply
	Stage    Stage // where the reply came: StageMail, StageRcpt, StageData, StageBody or StageFinal
	Accepted bool  // the server has taken responsibility
	Local    bool  // the reply is ours, out of what the server offers: SIZE, RCPTMAX
}

// Settled reports whether there is a reply.
func (o RecipientOutcome) Settled() bool { return o.Reply.Code != 0 }

// check refuses a message that can't be sent in this session; nothing was sent then.
func (s *Session) check(m *Message) error {
	if len(m.Recipients) == 0 || m.Open == nil || !s.pathFits(m.ReversePath, m.SMTPUTF8, true) || m.Body > envelope.Body8BitMIME ||
		m.Priority < envelope.MinPriority || m.Priority > envelope.MaxPriority || m.HoldFor < 0 ||
		m.EnvelopeID != "" && !printable(m.EnvelopeID) {
		return &Error{Stage: StageMail, Local: true, Err: ErrArgument}
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if !s.pathFits(r.ForwardPath, m.SMTPUTF8, false) || r.Original.Type != "" && !keyword(r.Original.Type) {
			return &Error{Stage: StageRcpt, Local: true, Err: ErrArgument}
		}
	}
	for _, need := range []struct {
		missing         bool
		extension, need string
	}{
		{m.SMTPUTF8 && !s.ext.SMTPUTF8, "SMTPUTF8", "the message"},
		{m.Body == envelope.Body8BitMIME && !s.ext.EightBitMIME, "8BITMIME", "the message"},
		{m.RequireTLS && (!s.ext.RequireTLS || s.tls == nil), "REQUIRETLS", "the message"}, // RFC 8689 §4.2.1
		{m.DeliverBy.Mode == envelope.ByReturn && (!s.ext.DeliverBy || m.DeliverBy.Seconds <= 0), "DELIVERBY", "a delivery in time"},
		{m.HoldFor > 0 && (!s.ext.FutureRelease.Offered || m.HoldFor > s.ext.FutureRelease.Max), "FUTURERELEASE", "a later delivery"},
	} {
		if need.missing {
			return &Unsupported{Extension: need.extension, Need: need.need}
		}
	}
	return nil
}

// pathFits reports whether path can stand between angle brackets of a command.
func (s *Session) pathFits(path string, utf8, null bool) bool {
	if path == "" {
		return null
	}
	if len(path) > address.MaxLongPathOctets {
		return false
	}
	for i := range len(path) {
		if c := path[i]; c < ' ' || c == 0x7f || c >= 0x80 && !utf8 {
			return false
		}
	}
	_, rest, ok := address.CutPath("<" + path + ">")
	return ok && rest == ""
}

// keyword reports whether v is an atom as ORCPT's address type.
func keyword(v string) bool {
	for i := range len(v) {
		c := v[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return v != ""
}

// limits settles recipients by what the server has offered, without asking it; all
// reports that none is left to ask for.
func (s *Session) limits(m *Message, out []RecipientOutcome) (all bool) {
	if s.ext.Size > 0 && m.Size > s.ext.Size { // RFC 1870 §6.2
		r := smtp.Reply{Code: 552, Subject: 3, Detail: 4, Text: "Message has " + strconv.FormatInt(m.Size, 10) +
			" octets, the server takes at most " + strconv.FormatInt(s.ext.Size, 10)}
		settle(out, StageMail, r, true)
		return true
	}
	if n := s.ext.RcptMax; n > 0 && len(out) > n { // RFC 9422 §4.2
		r := smtp.Reply{Code: 452, Subject: 5, Detail: 3, Text: "The server takes at most " + strconv.Itoa(n) + " recipients in a transaction"}
		settle(out[n:], StageRcpt, r, true)
	}
	return false
}

// settle gives r to all who have no reply yet.
func settle(out []RecipientOutcome, stage Stage, r smtp.Reply, local bool) {
	for i := range out {
		if !out[i].Settled() {
			out[i] = RecipientOutcome{Reply: r, Stage: stage, Local: local}
		}
	}
}

// appendMail appends the MAIL command (RFC 5321 §4.1.1.2).
func appendMail(b []byte, m *Message, ext *Extensions) []byte {
	b = append(append(append(b, "MAIL FROM:<"...), m.ReversePath...), '>')
	if ext.HasSize && m.Size > 0 { // RFC 1870 §6.1
		b = strconv.AppendInt(append(b, " SIZE="...), m.Size, 10)
	}
	if m.Body == envelope.Body8BitMIME {
		b = append(b, " BODY=8BITMIME"...)
	}
	if m.SMTPUTF8 {
		b = append(b, " SMTPUTF8"...)
	}
	if ext.DSN && m.Return == envelope.ReturnFull {
		b = append(b, " RET=FULL"...)
	}
	if ext.DSN && m.Return == envelope.ReturnHeaders {
		b = append(b, " RET=HDRS"...)
	}
	if ext.DSN && m.EnvelopeID != "" {
		b = append(append(b, " ENVID="...), smtp.EncodeXtext(m.EnvelopeID)...)
	}
	if m.RequireTLS {
		b = append(b, " REQUIRETLS"...)
	}
	if ext.Priority && m.HasPriority {
		b = strconv.AppendInt(append(b, " MT-PRIORITY="...), int64(m.Priority), 10)
	}
	if ext.DeliverBy && m.DeliverBy.Mode != envelope.ByUndeclared {
		b = m.DeliverBy.appendTo(append(b, " BY="...))
	}
	if m.HoldFor > 0 {
		b = strconv.AppendInt(append(b, " HOLDFOR="...), max(int64(m.HoldFor/time.Second), 1), 10)
	}
	return append(b, crlf...)
}

// appendTo appends the value of BY (RFC 2852 §4).
func (d DeliverBy) appendTo(b []byte) []byte {
	b = strconv.AppendInt(b, int64(d.Seconds), 10)
	if d.Mode == envelope.ByReturn {
		b = append(b, ";R"...)
	} else {
		b = append(b, ";N"...)
	}
	if d.Trace {
		b = append(b, 'T')
	}
	return b
}

// notifyWords are the words of NOTIFY (RFC 3461 §4.1).
var notifyWords = [...]struct {
	member envelope.Notify
	word   string
}{{envelope.NotifyNever, "NEVER"}, {envelope.NotifySuccess, "SUCCESS"}, {envelope.NotifyFailure, "FAILURE"}, {envelope.NotifyDelay, "DELAY"}}

// appendRcpt appends a RCPT command (RFC 5321 §4.1.1.3).
func appendRcpt(b []byte, r *Recipient, ext *Extensions, utf8 bool) []byte {
	b = append(append(append(b, "RCPT TO:<"...), r.ForwardPath...), '>')
	if ext.DSN && r.Notify != 0 {
		b = append(b, " NOTIFY="...)
		for _, n := range notifyWords {
			if r.Notify&n.member != 0 {
				b = append(append(b, n.word...), ',')
			}
		}
		b = b[:len(b)-1]
	}
	if ext.DSN && r.Original.Type != "" {
		b = smtp.AppendOriginal(append(b, " ORCPT="...), r.Original, utf8)
	}
	return append(b, crlf...)
}
