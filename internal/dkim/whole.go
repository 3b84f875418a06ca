package dkim

import (
	"bytes"
	"time"

	"poczta.example/poczta/internal/message"
)

// Whole makes a Signing of a whole message that is written in one stream, the
// header section, the empty line and the body.
type Whole struct {
	s    *Signer
	opt  Options
	head []byte
	sign *Signing
	err  error
}

// Whole begins to sign a message of which nothing has been seen.
func (s *Signer) Whole(opt Options) *Whole { return &Whole{s: s, opt: opt} }

// Write takes the next octets of the message. The error wraps ErrHeader when the
// header section is larger than message.MaxHeaderOctets.
func (w *Whole) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.sign != nil {
		return w.sign.Write(p)
	}
	from := len(w.head)
	w.head = append(w.head, p...)
	n, complete := message.HeaderLen(w.head, from)
	if n > message.MaxHeaderOctets {
		w.err = ErrHeader
		return 0, w.err
	}
	if complete {
		w.begin(n)
	}
	return len(p), nil
}

// begin starts the Signing behind a header section of n octets.
func (w *Whole) begin(n int) {
	w.sign = w.s.Begin(w.head[:n], w.opt)
	_, _ = w.sign.Write(AfterEmptyLine(w.head[n:]))
	w.head = nil
}

// AfterEmptyLine is what follows a header section, without the empty line that
// parts both.
func AfterEmptyLine(rest []byte) []byte {
	if body, ok := bytes.CutPrefix(rest, crlf); ok {
		return body
	}
	return bytes.TrimPrefix(rest, crlf[1:])
}

// Fields ends the message and returns its DKIM-Signature fields, as Signing.Fields.
func (w *Whole) Fields(now time.Time) ([]byte, error) {
	if w.err != nil {
		return nil, w.err
	}
	if w.sign == nil {
		n, _ := message.HeaderLen(w.head, 0)
		w.begin(n)
	}
	return w.sign.Fields(now)
}
