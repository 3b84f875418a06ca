package smtpserver

import (
	"errors"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/smtp"
)

// transaction is the facts of a mail transaction; RSET, EHLO and its end drop it whole.
type transaction struct {
	svc      Transaction
	utf8     bool        // MAIL had SMTPUTF8
	eightBit bool        // MAIL declared that the data may be 8-bit
	accepted int         // forward-paths
	over     bool        // Data was called, so Abort must not be
	failed   *smtp.Reply // what the chunks that follow a failed one are answered
}

// mail answers MAIL.
func (s *session) mail(cmd smtp.Command) error {
	l := &s.srv.cfg.Limits
	if s.counts.transactions >= l.Transactions { // RFC 9422 §4.1
		return s.hangUp(421, 7, 0, "Too many messages in one session, connect again")
	}
	m, err := smtp.ParseMail(cmd.Arg, s.extensions())
	if err != nil {
		return s.fault(s.replyOf(err))
	}
	if m.Size > l.Message { // RFC 1870 §6.1
		return s.refuse(smtp.Refuse(552, 3, 4, "Message is larger than this server takes"))
	}
	deepen(0)
	info := s.describe()
	env := envelope.Envelope{
		ReversePath: m.ReversePath, Body: m.Body, SMTPUTF8: m.SMTPUTF8, Size: m.Size,
		Return: m.Return, EnvelopeID: m.EnvelopeID, Origin: info.Origin,
	}
	env.Origin.Time = time.Now()
	env.Origin.Protocol = s.protocol(m.SMTPUTF8)
	ext := &s.srv.cfg.Extensions
	if err := ext.promise(&m, &env, s.facts.tls != nil); err != nil {
		return s.refuse(err)
	}
	reply := ext.rank(&m, &env, s.facts.identity)
	svc, err := s.srv.cfg.Service.Begin(s.ctx, info, env)
	if err != nil {
		return s.refuse(err)
	}
	s.counts.transactions++
	s.setState(stateMail, &transaction{svc: svc, utf8: m.SMTPUTF8, eightBit: m.Body == envelope.Body8BitMIME || m.Body == envelope.BodyUndeclared && m.SMTPUTF8})
	s.reply(reply)
	return nil
}

// rcpt answers RCPT.
func (s *session) rcpt(cmd smtp.Command) error {
	r, err := smtp.ParseRcpt(cmd.Arg, s.extensions(), s.tx.utf8)
	if err != nil {
		return s.fault(s.replyOf(err))
	}
	if s.tx.accepted >= s.srv.cfg.Limits.Recipients { // RFC 5321 §4.5.3.1.10
		return s.say(452, 5, 3, "Too many recipients, send the others in another transaction")
	}
	if err := s.tx.svc.Rcpt(s.ctx, r); err != nil {
		return s.refuse(err)
	}
	s.tx.accepted++
	return s.say(250, 1, 5, "Ok")
}

// deepen has the runtime give the session's stack the room that a message takes, in one go while
// there is little on it: doubled when it is full, and copied each time, it took some 4 % of the CPU
// of a short session. A session that only waits stays small, and the collector takes back what
// is not used. It returns 0.
//
//go:noinline
func deepen(i int) byte {
	var room [12 << 10]byte
	return room[i]
}

// abort ends the transaction that is open, if any.
func (s *session) abort() {
	tx := s.tx
	if tx == nil {
		return
	}
	s.setState(stateReady, nil)
	if !tx.over {
		tx.over = true
		tx.svc.Abort()
	}
}

// noRecipients answers DATA and BDAT when no forward-path was accepted.
func (s *session) noRecipients() error {
	if s.srv.cfg.LMTP { // RFC 2033 §4.2
		return s.fault(smtp.Reply{Code: 503, Subject: 5, Detail: 1, Text: "No valid recipients"})
	}
	return s.fault(smtp.Reply{Code: 554, Subject: 5, Detail: 1, Text: "No valid recipients"}) // RFC 5321 §3.3
}

// data answers DATA (RFC 5321 §4.1.1.4).
func (s *session) data(cmd smtp.Command) error {
	if err := cmd.NoArgument(); err != nil {
		return s.fault(s.replyOf(err))
	}
	if s.tx.accepted == 0 {
		return s.noRecipients()
	}
	_ = s.say(354, 0, 0, "End data with <CR><LF>.<CR><LF>")
	d := &mailData{s: s, begun: time.Now()}
	outcome, err := s.hand(d)
	if lost := d.drain(); lost != nil {
		return lost
	}
	s.answer(d, outcome, err)
	return nil
}

// Breaches of Transaction's contract; the client hears 451 4.3.0.
var (
	errUnread  = errors.New("service took a message that it had not read to its end")
	errNoReply = errors.New("service returned no reply, or not one for each recipient")
)

// hand gives the mail data to the Service. Errors that the reader found are the
// outcome, whatever the Service made of them.
func (s *session) hand(d *mailData) (Outcome, error) {
	s.tx.over = true
	outcome, err := s.tx.svc.Data(s.ctx, d)
	switch {
	case d.refusal != nil:
		err = d.refusal
	case err == nil && !d.ended && d.lost == nil:
		err = errUnread
	}
	return outcome, err
}

// answer sends the reply to the mail data, or with LMTP one for each accepted
// recipient (RFC 2033 §4.2), and ends the transaction.
func (s *session) answer(d *mailData, outcome Outcome, err error) {
	n := s.tx.accepted
	s.setState(stateReady, nil)
	first := outcome.Reply
	switch {
	case err != nil:
		first = s.replyOf(err)
	case s.srv.cfg.LMTP && len(outcome.Recipients) == n:
		first = outcome.Recipients[0]
	case first.Code == 0:
		first = s.replyOf(errNoReply)
	}
	switch {
	case !s.srv.cfg.LMTP:
		s.reply(first)
	case err == nil && len(outcome.Recipients) == n:
		for _, r := range outcome.Recipients {
			s.reply(r)
		}
	default:
		for range n {
			s.reply(first)
		}
	}
	if first.Positive() {
		s.counts.idle, s.counts.refusals = 0, 0
	}
	if f := s.srv.cfg.Hooks.Message; f != nil {
		f(d.dec.Facts.Octets, first.Code, time.Since(d.begun))
	}
}
