package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
)

// prepare makes the message for a session out of what its host offers. Recipients whom
// the host can't be given leave a.left with our own reply. The error is that of reading the
// message.
func (s *shift) prepare(ctx context.Context, c *conn, a *attempt) (*smtpclient.Message, error) {
	t, ext := a.t, c.sess.Extensions()
	global := !ascii(t.from)
	if !ext.SMTPUTF8 {
		s.noUTF8(a, global)
	}
	if deny := s.noDeliverBy(t, &ext); deny != nil {
		a.endAll(Verdict{Fate: Refused, Ours: true, Reply: *deny}, spot{label: c.label})
	}
	if len(a.left) == 0 {
		return nil, nil
	}
	m := t.msg
	p := &smtpclient.Message{ReversePath: t.from, RequireTLS: m.RequireTLS && ext.RequireTLS && c.sess.TLS() != nil, Body: m.Body, Size: m.Octets,
		Return: m.Return, EnvelopeID: m.EnvelopeID, Priority: m.Priority, HasPriority: m.Priority != 0, Commit: s.commit, Open: s.reader(ctx, m)}
	if p.EnvelopeID == "" && m.Ours && t.from != "" {
		p.EnvelopeID = m.ID.String() // a report that comes back is known by it
	}
	if by := m.DeliverBy; by.Mode != envelope.ByUndeclared && ext.DeliverBy {
		left := int(by.Time.Sub(s.cfg.Now()) / time.Second)
		if by.Mode == envelope.ByReturn {
			left = max(left, 1)
		}
		p.DeliverBy = smtpclient.DeliverBy{Mode: by.Mode, Seconds: left, Trace: by.Trace}
	}
	for _, i := range a.left {
		r := &t.rcpts[i]
		global = global || !ascii(r.ForwardPath)
		p.Recipients = append(p.Recipients, smtpclient.Recipient{ForwardPath: r.ForwardPath, Notify: r.Notify, Original: r.Original})
	}
	p.SMTPUTF8 = ext.SMTPUTF8 && (global || m.UTF8)
	if !ext.EightBitMIME && m.Body != envelope.Body7Bit {
		return p, s.lower(ctx, a, p)
	}
	return p, nil
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// noUTF8 refuses what a host without SMTPUTF8 can't be given (RFC 6531 §3.2); mail that
// is ASCII throughout goes as any other.
func (s *shift) noUTF8(a *attempt, global bool) {
	left := a.left[:0]
	for _, i := range a.left {
		var r smtp.Reply
		switch {
		case global:
			r = smtp.Reply{Code: 553, Subject: 6, Detail: 7, Text: "The host does not take internationalised addresses (SMTPUTF8), and the sender's is one"}
		case !ascii(a.t.rcpts[i].ForwardPath):
			r = smtp.Reply{Code: 553, Subject: 6, Detail: 7, Text: "The host does not take internationalised addresses (SMTPUTF8)"}
		case a.t.msg.UTF8:
			r = smtp.Reply{Code: 554, Subject: 6, Detail: 9, Text: "The host does not take internationalised header fields (SMTPUTF8)"}
		default:
			left = append(left, i)
			continue
		}
		a.end(i, ending{v: Verdict{Fate: Refused, Ours: true, Reply: r}})
	}
	a.left = left
}

// noDeliverBy refuses a message that must be returned when it is late to a host that could
// not see to it (RFC 2852 §4).
func (s *shift) noDeliverBy(t *task, ext *smtpclient.Extensions) *smtp.Reply {
	by := t.msg.DeliverBy
	if by.Mode != envelope.ByReturn {
		return nil
	}
	left := by.Time.Sub(s.cfg.Now())
	switch {
	case left <= 0:
		return &smtp.Reply{Code: 554, Subject: 4, Detail: 7, Text: "The time for delivery that the sender set is over"}
	case !ext.DeliverBy:
		return &smtp.Reply{Code: 554, Subject: 4, Detail: 7, Text: "The host can't promise delivery within the time that the sender set (DELIVERBY)"}
	case ext.MinDeliverBy > left:
		return &smtp.Reply{Code: 554, Subject: 4, Detail: 7, Text: fmt.Sprintf("The host needs more time for delivery (%v) than the sender set", ext.MinDeliverBy)}
	}
	return nil
}

// lower gives the message the form for a host without 8BITMIME (RFC 6152 §3): as it is when
// it is ASCII, converted and signed again when it is ours, refused otherwise.
func (s *shift) lower(ctx context.Context, a *attempt, p *smtpclient.Message) error {
	p.Body = envelope.BodyUndeclared
	low, err := s.convert(ctx, a.t.msg)
	var deny *unfitError
	switch {
	case errors.As(err, &deny):
		r := smtp.Reply{Code: 554, Subject: 6, Detail: 3, Text: "The host takes 7-bit mail only, and " + deny.why}
		a.endAll(Verdict{Fate: Refused, Ours: true, Reply: r}, spot{})
		return nil
	case err != nil:
		return err
	case low != nil:
		p.Size = low.octets
		p.Open = func() (io.ReadCloser, error) { return low.open(ctx) }
	}
	return nil
}

// statusOf is a queue's status line as a report shows it.
func statusOf(r *queue.Recipient) string {
	if r.LastStatus == "" {
		return "451 4.4.0 not tried yet"
	}
	return r.LastStatus
}
