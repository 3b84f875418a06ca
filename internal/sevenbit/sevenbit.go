// Package sevenbit gives a MIME message a form that hosts without 8BITMIME can
// carry (RFC 6152 §3): leaves that hold octets above 127 become quoted-printable or
// base64, everything else stays. Decoding the result gives back every octet of the
// content. It streams: memory does not depend on the size of the message.
//
// What must not be touched is refused: parts that are signed or encrypted
// (RFC 1847, RFC 8551), header sections that are not ASCII, and structures that
// different programs would read differently.
package sevenbit

import (
	"errors"
	"fmt"
	"io"
)

// Limits. A message beyond them is not converted.
const (
	MaxEntities     = 10_000  // entities of one message
	MaxDepth        = 30      // multiparts and enclosed messages within each other
	MaxHeaderOctets = 1 << 20 // of one header section
)

// ErrUnfit is wrapped by errors that say why a message can't be converted.
var ErrUnfit = errors.New("message can't be re-encoded")

// action is what becomes of one entity.
type action uint8

const (
	keep      action = iota
	relabel          // Content-Transfer-Encoding: 7bit
	quote            // quoted-printable
	armour           // base64
	introduce        // quoted-printable, and the fields that make it MIME
)

// Plan is what Scan found. It is valid for the very octets that were scanned.
type Plan struct {
	// EightBit reports octets above 127 in the body; without any, the message goes as it is.
	EightBit bool
	// HeaderEightBit reports octets above 127 in the header section of the message itself.
	HeaderEightBit bool

	actions []action
	unfit   error
}

// Unfit returns why the message can't be converted, wrapping ErrUnfit; nil when
// it can.
func (p *Plan) Unfit() error { return p.unfit }

// Scan reads a message with CRLF lines to its end and plans its conversion. The
// error is the reader's.
func Scan(r io.Reader) (*Plan, error) {
	s := &scanner{plan: &Plan{}}
	err := walk(r, s)
	if err != nil && !errors.Is(err, ErrUnfit) {
		return nil, fmt.Errorf("scan message: %w", err)
	}
	if err != nil { // the structure is beyond us: what octets there are still counts
		s.plan.unfit = err
		s.plan.EightBit = true
		return s.plan, nil
	}
	s.leave()
	if s.plan.EightBit && s.plan.HeaderEightBit {
		s.refuse("its header section is not ASCII")
	}
	if !s.plan.EightBit {
		s.plan.unfit = nil
	}
	return s.plan, nil
}

// Convert reads the message that p was made of and writes it in its new form.
// Errors are those of r and w, of Unfit, or say that the message is another one.
func (p *Plan) Convert(w io.Writer, r io.Reader) error {
	if p.unfit != nil {
		return p.unfit
	}
	c := &converter{w: w, plan: p}
	if err := walk(r, c); err != nil {
		return fmt.Errorf("convert message: %w", err)
	}
	return nil
}

// scanner makes a plan.
type scanner struct {
	plan  *Plan
	open  bool // a leaf is being read
	leaf  entity
	eight bool // the leaf holds octets above 127
	line  int  // octets of the present line
	long  bool // a line of the leaf is longer than 998 octets
}

func (s *scanner) refuse(why string) {
	if s.plan.unfit == nil {
		s.plan.unfit = fmt.Errorf("%w: %s", ErrUnfit, why)
	}
}

// header implements visitor.
func (s *scanner) header(e *entity, raw []byte) error {
	s.leave()
	if len(s.plan.actions) == MaxEntities {
		return fmt.Errorf("%w: it has more than %d parts", ErrUnfit, MaxEntities)
	}
	if hasEightBit(raw) {
		if len(s.plan.actions) == 0 {
			s.plan.HeaderEightBit = true
		} else {
			s.plan.EightBit = true
			s.refuse("the header section of a part is not ASCII")
		}
	}
	s.plan.actions = append(s.plan.actions, keep)
	s.open, s.leaf, s.eight, s.long, s.line = true, *e, false, false, 0
	return nil
}

// content implements visitor.
func (s *scanner) content(frag []byte, eol bool) error {
	s.eight = s.eight || hasEightBit(frag)
	s.line += len(frag)
	s.long = s.long || s.line > 998 // RFC 5321 §4.5.3.1.6
	if eol {
		s.line = 0
	}
	return nil
}

// filler implements visitor: what stands before and behind the parts of a
// multipart is no content and loses what it can't keep.
func (s *scanner) filler(frag []byte, _ bool) error {
	if hasEightBit(frag) {
		s.plan.EightBit = true
	}
	return nil
}

// boundary implements visitor.
func (s *scanner) boundary([]byte) error {
	s.leave()
	return nil
}

// end implements visitor.
func (s *scanner) end() error { return nil }

// leave settles the entity that was read.
func (s *scanner) leave() {
	if !s.open {
		return
	}
	s.open = false
	at := len(s.plan.actions) - 1
	labelled := s.leaf.encoding == "8bit" || s.leaf.encoding == "binary"
	switch {
	case s.leaf.container():
		if labelled && !s.leaf.sealed {
			s.plan.actions[at] = relabel
		}
	case !s.eight && (!labelled || s.leaf.sealed):
	case !s.eight && !s.long:
		s.plan.actions[at] = relabel
	default:
		s.plan.EightBit = s.plan.EightBit || s.eight
		s.plan.actions[at] = s.encode(at)
	}
}

// encode chooses the encoding of a leaf.
func (s *scanner) encode(at int) action {
	e := &s.leaf
	switch {
	case e.sealed:
		s.refuse("a part that is signed or encrypted holds 8-bit octets")
	case e.encoding != "" && e.encoding != "7bit" && e.encoding != "8bit" && e.encoding != "binary":
		s.refuse("a part holds 8-bit octets though its encoding is " + clip(e.encoding))
	case e.malformed:
		s.refuse("the type of a part is malformed")
	case at == 0 && !e.mime:
		return introduce
	case e.text():
		return quote
	}
	return armour
}

func clip(s string) string {
	if len(s) > 40 {
		s = s[:40]
	}
	return fmt.Sprintf("%q", s)
}

func hasEightBit(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
