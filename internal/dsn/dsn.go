// Package dsn writes delivery status notifications: multipart/report messages
// (RFC 6522) with message/delivery-status (RFC 3464), as RFC 3461 asks for them,
// in their UTF-8 forms where addresses need it (RFC 6533). It writes octets; who
// gets them and how they travel is package report's matter.
package dsn

import (
	"errors"
	"fmt"
	"io"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// Action is what happened to one recipient (RFC 3464 §2.3.3).
type Action string

// The values of Action.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed"
	Expanded  Action = "expanded"
)

// Status is an enhanced status code (RFC 3463).
type Status struct{ Class, Subject, Detail int }

// String returns "5.1.1".
func (s Status) String() string { return fmt.Sprintf("%d.%d.%d", s.Class, s.Subject, s.Detail) }

// Recipient is what a notification says of one recipient.
type Recipient struct {
	Final      address.ForwardPath        // as we were asked to deliver; never an address the sender did not write
	Original   envelope.OriginalRecipient // ORCPT; zero when it was not given
	Action     Action
	Status     Status
	RemoteMTA  string    // host name of the MTA that said Diagnostic; "" for ourselves
	Diagnostic string    // SMTP reply as it came, "" when there is none; any text
	Attempted  time.Time // last attempt; zero leaves it out
	RetryUntil time.Time // of Delayed: when we give up; zero leaves it out
}

// Report is a notification about one message. All recipients have actions of one
// kind: failed, or delayed, or the three successful ones.
type Report struct {
	ID           message.ID      // of the notification itself
	ReportingMTA address.Domain  // our host name
	To           address.Address // the reverse-path of the message
	Language     string          // "pl", else English
	Now          time.Time

	EnvelopeID string // ENVID, decoded; "" leaves it out
	Arrival    time.Time
	Return     envelope.Return // RET; full content only returns with failures (RFC 3461 §4.3)
	Recipients []Recipient

	Header  []byte    // header section of the message, without the empty line
	Content io.Reader // the whole message with its header section, for ReturnFull; nil returns the header
}

// ErrEmpty is returned by Write for a Report that says nothing to nobody.
var ErrEmpty = errors.New("a delivery status notification needs a reverse-path and recipients")

// NeedsUTF8 reports whether the notification's own header section will hold
// UTF-8, so that it needs SMTPUTF8 to travel (RFC 6533).
func (r *Report) NeedsUTF8() bool { return !r.To.IsASCII() }

// international reports whether the UTF-8 media types are needed.
func (r *Report) international() bool {
	if !r.To.IsASCII() || message.NeedsUTF8(r.Header) {
		return true
	}
	for _, rcpt := range r.Recipients {
		if !rcpt.Final.Address().IsASCII() || !ascii(rcpt.Original.Address) {
			return true
		}
	}
	return false
}

// full reports whether the whole content is returned: with failures, when the
// sender asked for it.
func (r *Report) full() bool {
	return r.Content != nil && r.Return == envelope.ReturnFull && r.Recipients[0].Action == Failed
}

func ascii(s string) bool { return !message.NeedsUTF8([]byte(s)) }

// Write writes the notification with CRLF lines. Errors are the writer's, the
// reader's of Content, or ErrEmpty.
func (r *Report) Write(w io.Writer) error {
	if r.To.IsZero() || len(r.Recipients) == 0 {
		return ErrEmpty
	}
	p := &printer{w: w, boundary: "=_" + r.ID.String() + "_report"}
	r.header(p)
	r.explanation(p)
	r.status(p)
	r.returned(p)
	p.text("--" + p.boundary + "--\r\n")
	if p.err != nil {
		return fmt.Errorf("write delivery status notification: %w", p.err)
	}
	return nil
}

// printer keeps the first error.
type printer struct {
	w        io.Writer
	boundary string
	err      error
}

func (p *printer) bytes(b []byte) {
	if p.err == nil {
		_, p.err = p.w.Write(b)
	}
}

func (p *printer) text(s string) { p.bytes([]byte(s)) }

// part begins a body part.
func (p *printer) part(header string) { p.text("--" + p.boundary + "\r\n" + header + "\r\n") }

// header writes the notification's header section. Auto-Submitted keeps
// responders quiet (RFC 3834 §5).
func (r *Report) header(p *printer) {
	words := textsFor(r.Language)
	var b []byte
	b = message.AppendField(b, "From", words.from+" <MAILER-DAEMON@"+r.ReportingMTA.String()+">")
	b = message.AppendField(b, "To", "<"+r.To.String()+">")
	b = message.AppendText(b, "Subject", words.subject[r.kind()])
	b = message.AppendField(b, "Date", message.FormatDate(r.Now))
	b = message.AppendField(b, "Message-ID", message.NewMessageID(r.ID, r.ReportingMTA))
	if id, ok := message.Get(r.Header, "Message-ID"); ok && ascii(id) && len(id) < 900 {
		b = message.AppendField(b, "References", id)
	}
	b = message.AppendField(b, "Auto-Submitted", "auto-replied")
	b = message.AppendField(b, "MIME-Version", "1.0")
	b = message.AppendField(b, "Content-Type", `multipart/report; report-type=delivery-status; boundary="`+p.boundary+`"`)
	p.bytes(append(b, "\r\nThis is a delivery status notification in MIME format.\r\n\r\n"...))
}

// kind is the kind of the whole report.
func (r *Report) kind() Action {
	switch a := r.Recipients[0].Action; a {
	case Failed, Delayed:
		return a
	}
	return Delivered
}

// returned writes the third part: the message or its header section.
func (r *Report) returned(p *printer) {
	utf8Header := message.NeedsUTF8(r.Header)
	if r.full() {
		kind := "message/rfc822"
		if utf8Header {
			kind = "message/global" // RFC 6532 §3.7
		}
		p.part("Content-Type: " + kind + "\r\nContent-Transfer-Encoding: 8bit\r\nContent-Description: Message\r\n")
		if p.err == nil {
			_, p.err = io.Copy(p.w, r.Content)
		}
		p.text("\r\n")
		return
	}
	kind := "text/rfc822-headers"
	if utf8Header {
		kind = "message/global-headers" // RFC 6533 §3
	}
	p.part("Content-Type: " + kind + "\r\nContent-Transfer-Encoding: 8bit\r\nContent-Description: Message header\r\n")
	p.bytes(r.Header)
	p.text("\r\n")
}
