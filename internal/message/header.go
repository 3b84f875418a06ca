package message

import (
	"bytes"
	"iter"
	"strings"
)

// MaxHeaderOctets is how large a header section may be; a larger message is
// refused (552 5.3.4), since header sections are held in memory.
const MaxHeaderOctets = 1 << 20

// SplitHeader parts b, the beginning of a message, behind its header section.
// header holds every line in front of the empty line; rest begins with the empty
// line. complete is false when b ends before the end of the header section is
// seen; then header is all of b, unless more octets follow it.
//
// A message whose first line is neither a field nor the "From " line of an mbox
// has no header section: header is empty and rest is b, without an empty line.
func SplitHeader(b []byte) (header, rest []byte, complete bool) {
	n, complete := HeaderLen(b, 0)
	return b[:n], b[n:], complete
}

// HeaderLen is SplitHeader for a message that is still growing: it returns the
// length of the header section, looking no further back than it must. from is
// the length of b at the last call, which was not complete; 0 at first.
func HeaderLen(b []byte, from int) (n int, complete bool) {
	if from > 0 && bytes.IndexByte(b[from:], '\n') < 0 {
		return len(b), false // no line ended: looking back at a long line each time would cost its square
	}
	at := 0
	if from > 2 {
		at = bytes.LastIndexByte(b[:from-1], '\n') + 1
	}
	if at == 0 && lineStartsBody(b) { // the first line may have ended only now
		return 0, true
	}
	for at < len(b) {
		if b[at] == '\n' {
			return at, true
		}
		if b[at] == '\r' {
			if at+1 == len(b) {
				return len(b), false
			}
			if b[at+1] == '\n' {
				return at, true
			}
		}
		end := bytes.IndexByte(b[at:], '\n')
		if end < 0 {
			break
		}
		at += end + 1
	}
	return len(b), false
}

// lineStartsBody reports whether b begins with a whole line that can't open a
// header section, so that all of b is body.
func lineStartsBody(b []byte) bool {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return false
	}
	line := bytes.TrimSuffix(b[:end], []byte{'\r'})
	if len(line) == 0 || isMboxLine(line) {
		return false
	}
	return nameLen(line) == 0
}

// isMboxLine reports whether line is the separator that careless programs leave
// in front of the header section.
func isMboxLine(line []byte) bool {
	line = bytes.TrimPrefix(line, []byte{'>'})
	return bytes.HasPrefix(line, []byte("From ")) && nameLen(line) == 0
}

// nameLen returns the length of the field name that line begins with: ftext up
// to a colon, with blanks in front of the colon as RFC 5322 §4.5.3 has them. 0
// when the line is no field.
func nameLen(line []byte) int {
	n := 0
	for n < len(line) && line[n] > ' ' && line[n] < 0x7f && line[n] != ':' {
		n++
	}
	for i := n; i < len(line); i++ {
		switch line[i] {
		case ':':
			return n
		case ' ', '\t':
		default:
			return 0
		}
	}
	return 0
}

// Field is one header field, or a line that is none (Malformed). It points into
// the header section it came from.
type Field struct {
	Offset int    // octets in front of the field
	Raw    []byte // the field with its folding and its final line end
	name   int    // length of the name, 0 when malformed
}

// Fields yields the fields of a header section in their order.
func Fields(header []byte) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for at := 0; at < len(header); {
			n := fieldLen(header[at:])
			raw := header[at : at+n : at+n]
			if !yield(Field{Offset: at, Raw: raw, name: nameLen(raw)}) {
				return
			}
			at += n
		}
	}
}

// fieldLen returns the length of the first field: a line and the continuation
// lines behind it.
func fieldLen(b []byte) int {
	n := 0
	for {
		end := bytes.IndexByte(b[n:], '\n')
		if end < 0 {
			return len(b)
		}
		n += end + 1
		if n == len(b) || b[n] != ' ' && b[n] != '\t' {
			return n
		}
	}
}

// Malformed reports whether the line is no header field.
func (f Field) Malformed() bool { return f.name == 0 }

// Name returns the name as written; "" when malformed.
func (f Field) Name() string { return string(f.Raw[:f.name]) }

// Is reports whether the field has that name; case does not matter.
func (f Field) Is(name string) bool {
	return f.name == len(name) && f.name > 0 && strings.EqualFold(string(f.Raw[:f.name]), name)
}

// Body returns what stands behind the colon, with folding and line end.
func (f Field) Body() []byte {
	if f.name == 0 {
		return f.Raw
	}
	colon := f.name + bytes.IndexByte(f.Raw[f.name:], ':')
	return f.Raw[colon+1:]
}

// Value returns the field's body unfolded (RFC 5322 §2.2.3: line ends in front
// of blanks vanish), without blanks at its ends.
func (f Field) Value() string { return Unfold(f.Body()) }

// Unfold removes line ends from a field's body and trims blanks.
func Unfold(body []byte) string {
	body = bytes.Trim(body, " \t\r\n")
	if bytes.IndexByte(body, '\n') < 0 && bytes.IndexByte(body, '\r') < 0 {
		return string(body)
	}
	out := make([]byte, 0, len(body))
	for _, c := range body {
		if c != '\r' && c != '\n' {
			out = append(out, c)
		}
	}
	return string(out)
}

// Get returns the value of the first field of that name.
func Get(header []byte, name string) (value string, ok bool) {
	for f := range Fields(header) {
		if f.Is(name) {
			return f.Value(), true
		}
	}
	return "", false
}

// Count returns how many fields of that name there are.
func Count(header []byte, name string) int {
	n := 0
	for f := range Fields(header) {
		if f.Is(name) {
			n++
		}
	}
	return n
}

// NeedsUTF8 reports whether a header section holds anything but ASCII, so that
// it can't be handed to a program without RFC 6532.
func NeedsUTF8(header []byte) bool {
	for _, c := range header {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
