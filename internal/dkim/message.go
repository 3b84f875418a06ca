package dkim

import (
	"crypto/sha256"
	"io"

	"poczta.example/poczta/internal/message"
)

// Message is one message whose signatures are checked. Its header section is read once and its
// body hashed once for each canonicalization and length, whoever asks: a Verification, or a
// check of signatures of another kind, as package arc makes them. It is an io.Writer for the
// body, the octets behind the empty line. Used by one goroutine.
type Message struct {
	fields []message.Field
	large  bool
	index  index
	bodies [2]*measure // by Canonicalization
	closed bool
}

// NewMessage reads a header section, which comes without the empty line and must not change
// until Results have been fetched.
func NewMessage(header []byte) *Message {
	m := &Message{large: len(header) > message.MaxHeaderOctets, fields: make([]message.Field, 0, 32)}
	for f := range message.Fields(header) {
		if f.Malformed() {
			continue
		}
		if m.large = m.large || len(m.fields) == maxFields; m.large {
			break
		}
		m.fields = append(m.fields, f)
	}
	m.index = newIndex(m.fields)
	return m
}

// Fields are the header fields in their order, without lines that are none. The slice is m's.
func (m *Message) Fields() []message.Field { return m.fields }

// Large reports that the header section is larger than message.MaxHeaderOctets or has more
// than 10,000 fields, so that no signature of it is checked; Fields are not all then.
func (m *Message) Large() bool { return m.large }

// Write takes the next octets of the body; it never fails.
func (m *Message) Write(p []byte) (int, error) {
	for _, b := range m.bodies {
		if b != nil {
			_, _ = b.canon.Write(p)
		}
	}
	return len(p), nil
}

// Close ends the body; hashes can be read then. A second call does nothing.
func (m *Message) Close() {
	if m.closed {
		return
	}
	m.closed = true
	for _, b := range m.bodies {
		if b != nil {
			_ = b.canon.Close()
		}
	}
}

// Body asks for the hash of the first octets of the canonical body, -1 for all. It is called
// before the first Write.
func (m *Message) Body(c Canonicalization, octets int64) *BodyHash {
	b := m.bodies[c]
	if b == nil {
		b = &measure{}
		b.canon = NewBody(c, b)
		m.bodies[c] = b
	}
	return b.upTo(octets)
}

// Digest is the hash that signature s in field number i of Fields signs: the fields that h=
// names, then the signature's own field without its value (RFC 6376 §3.7).
func (m *Message) Digest(s *Signature, i int) []byte {
	h := sha256.New()
	m.index.hash(h, s.Header, m.fields, s.Fields, i)
	_, _ = h.Write(ownField(s.Header, m.fields[i])) // hashes don't fail
	return h.Sum(nil)
}

// Unvalued appends field f as a signature hashes its own: canonical, without the value of b=
// and without a final line end (RFC 6376 §3.7).
func (c Canonicalization) Unvalued(dst []byte, f message.Field) []byte {
	return append(dst, ownField(c, f)...)
}

// index finds the fields of a header section by their names.
type index struct {
	last map[string]int // by name in lower case: its last field
	prev []int          // by field: the one with the same name in front of it, -1 when there is none
}

func newIndex(fields []message.Field) index {
	x := index{last: make(map[string]int, len(fields)), prev: make([]int, len(fields))}
	var buf [64]byte
	for i, f := range fields {
		name := appendLower(buf[:0], f.Name())
		at, known := x.last[string(name)]
		if !known {
			at = -1
		}
		x.prev[i] = at
		x.last[string(name)] = i
	}
	return x
}

func appendLower(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// hash writes the fields that names, in lower case, choose: of several with one name, the last
// comes first (RFC 6376 §5.4.2); a name without a field left adds nothing. The field with index
// skip, the signature itself, is never chosen.
func (x index) hash(w io.Writer, c Canonicalization, fields []message.Field, names []string, skip int) {
	next := make([]int, len(fields)) // by the last field of a name: the one to take next and 2; 0 is itself
	buf := make([]byte, 0, 512)
	for _, n := range names {
		last, there := x.last[n]
		if !there {
			continue
		}
		at := last
		if next[last] != 0 {
			at = next[last] - 2
		}
		if at >= 0 && at == skip {
			at = x.prev[at]
		}
		if at < 0 {
			continue
		}
		next[last] = x.prev[at] + 2
		buf = c.AppendField(buf[:0], fields[at])
		_, _ = w.Write(buf)
	}
}
