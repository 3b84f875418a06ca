package daemon

import (
	"bytes"
	"context"
	"io"

	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpserver"
)

// maxLineOctets is the longest line without its CRLF (RFC 5322 §2.1.1).
const maxLineOctets = 998

// strict refuses mail data that is otherwise kept as it is, where the
// configuration asks for it.
type strict struct {
	smtpserver.Service
	c config.SMTP
}

// strictly wraps a service if c asks for anything.
func strictly(s smtpserver.Service, c config.SMTP) smtpserver.Service {
	if !c.RefuseLongLines && !c.RefuseNUL && !c.RefuseUndeclared8 {
		return s
	}
	return strict{Service: s, c: c}
}

// Begin implements smtpserver.Service.
func (s strict) Begin(ctx context.Context, ses *smtpserver.Session, env envelope.Envelope) (smtpserver.Transaction, error) {
	t, err := s.Service.Begin(ctx, ses, env)
	if err != nil {
		return nil, err
	}
	return strictTransaction{Transaction: t, check: lineCheck{c: s.c, eight: s.c.RefuseUndeclared8 && env.Body == envelope.Body7Bit ||
		s.c.RefuseUndeclared8 && env.Body == envelope.BodyUndeclared && !env.SMTPUTF8}}, nil
}

type strictTransaction struct {
	smtpserver.Transaction
	check lineCheck
}

// Data implements smtpserver.Transaction.
func (t strictTransaction) Data(ctx context.Context, msg io.Reader) (smtpserver.Outcome, error) {
	check := t.check
	check.r = msg
	return t.Transaction.Data(ctx, &check)
}

// lineCheck is a reader that ends with a refusal at the first fault.
type lineCheck struct {
	r     io.Reader
	c     config.SMTP
	eight bool // refuse octets above 127
	line  int  // octets of the line so far
}

// Read implements io.Reader.
func (l *lineCheck) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	if refusal := l.look(b[:n]); refusal != nil {
		return 0, refusal
	}
	return n, err
}

func (l *lineCheck) look(b []byte) error {
	if l.c.RefuseNUL && bytes.IndexByte(b, 0) >= 0 {
		return smtp.Refuse(550, 6, 0, "The message holds a NUL octet (RFC 5321 section 2.3.7)")
	}
	if l.eight && bytes.ContainsFunc(b, func(r rune) bool { return r > 127 }) {
		return smtp.Refuse(550, 6, 3, "The message holds 8-bit data that BODY=8BITMIME did not declare")
	}
	if !l.c.RefuseLongLines {
		return nil
	}
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		part := i
		if i < 0 {
			part = len(b)
		}
		if l.line += part; l.line > maxLineOctets+1 { // the CR is counted, and may be all there is beyond
			return smtp.Refuse(550, 6, 0, "The message has a line of more than 998 octets (RFC 5322 section 2.1.1)")
		}
		if i < 0 {
			return nil
		}
		l.line, b = 0, b[i+1:]
	}
	return nil
}
