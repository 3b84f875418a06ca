package dkim

import (
	"bytes"
	"io"

	"poczta.example/poczta/internal/message"
)

// Canonicalization is how octets are made the same again after harmless changes
// on the way (RFC 6376 §3.4).
type Canonicalization uint8

// The values of Canonicalization.
const (
	Simple  Canonicalization = iota // RFC 6376 §3.4.1, §3.4.3
	Relaxed                         // RFC 6376 §3.4.2, §3.4.4
)

// String is the word of c=.
func (c Canonicalization) String() string {
	if c == Relaxed {
		return "relaxed"
	}
	return "simple"
}

// AppendField appends a header field in its canonical form, with its CRLF. A
// field that lacks its line end gets one.
func (c Canonicalization) AppendField(dst []byte, f message.Field) []byte {
	if c == Simple {
		dst = append(dst, f.Raw...)
		if !bytes.HasSuffix(f.Raw, []byte("\n")) {
			dst = append(dst, "\r\n"...)
		}
		return dst
	}
	for _, b := range []byte(f.Name()) {
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		dst = append(dst, b)
	}
	dst = append(dst, ':')
	return append(appendUnfolded(dst, f.Body()), "\r\n"...)
}

// appendUnfolded appends a field's body with its lines joined, each run of blanks
// as one and none at its ends.
func appendUnfolded(dst, body []byte) []byte {
	start, blank := len(dst), false
	for _, b := range body {
		switch b {
		case ' ', '\t':
			blank = true
		case '\r', '\n':
		default:
			if blank && len(dst) > start {
				dst = append(dst, ' ')
			}
			blank = false
			dst = append(dst, b)
		}
	}
	return dst
}

// Body is a writer that passes on the canonical form of the body written to it,
// in pieces. Close ends the body; it must be called once. The destination must
// not fail, as hashes don't: its errors are returned.
type Body struct {
	w       io.Writer
	relaxed bool
	any     bool // a line with content was passed on
	cr      bool // a CR was read, whose LF may follow
	blank   bool // relaxed: blanks were read since the last content of the line
	lines   int  // line ends that are passed on once content follows
	out     []byte
	err     error
}

// outOctets is how much is gathered before it is passed on.
const outOctets = 1 << 10

// NewBody makes a Body that writes to w.
func NewBody(c Canonicalization, w io.Writer) *Body { return &Body{w: w, relaxed: c == Relaxed} }

// Write takes the next octets of the body.
func (b *Body) Write(p []byte) (int, error) {
	if b.relaxed {
		b.writeRelaxed(p)
	} else {
		b.writeSimple(p)
	}
	return len(p), b.err
}

// Close passes on the end of the canonical body: the line end that simple always
// has (RFC 6376 §3.4.3), and relaxed unless the body is empty (§3.4.4).
func (b *Body) Close() error {
	if b.cr {
		b.cr = false
		b.content([]byte{'\r'})
	}
	if !b.relaxed || b.any {
		b.emit(crlf)
	}
	b.flush()
	return b.err
}

var crlf = []byte("\r\n")

// writeSimple holds back line ends at the end of what has come, and passes the
// rest on at once.
func (b *Body) writeSimple(p []byte) {
	if len(p) == 0 {
		return
	}
	if b.cr {
		b.cr = false
		if p[0] == '\n' {
			b.lines++
			p = p[1:]
		} else {
			b.content([]byte{'\r'})
		}
	}
	if bytes.HasSuffix(p, []byte{'\r'}) {
		b.cr = true
		p = p[:len(p)-1]
	}
	ends := 0
	for bytes.HasSuffix(p, crlf) {
		ends++
		p = p[:len(p)-2]
	}
	if len(p) > 0 {
		b.content(p)
	}
	b.lines += ends
}

// writeRelaxed goes from blank to blank.
func (b *Body) writeRelaxed(p []byte) {
	for i := 0; i < len(p); {
		c := p[i]
		if b.cr {
			b.cr = false
			if c == '\n' {
				b.lines++
				b.blank = false
				i++
			} else {
				b.content([]byte{'\r'})
			}
			continue
		}
		switch c {
		case '\r':
			b.cr = true
			i++
		case ' ', '\t':
			b.blank = true
			i++
		default:
			n := run(p[i:])
			b.content(p[i : i+n])
			i += n
		}
	}
}

// run is how many octets of p are content as they are: up to a CR, a tab, or a
// blank that no printing character follows.
func run(p []byte) int {
	i := 1
	for i < len(p) {
		switch c := p[i]; {
		case c > ' ':
			i++
		case c == ' ':
			if i+1 == len(p) || p[i+1] <= ' ' {
				return i
			}
			i += 2
		case c == '\t', c == '\r':
			return i
		default:
			i++
		}
	}
	return i
}

// content passes on what was held back, then p.
func (b *Body) content(p []byte) {
	for ; b.lines > 0; b.lines-- {
		b.emit(crlf)
	}
	if b.blank {
		b.emit([]byte{' '})
		b.blank = false
	}
	b.any = true
	b.emit(p)
}

func (b *Body) emit(p []byte) {
	if len(p) >= outOctets {
		b.flush()
		b.pass(p)
		return
	}
	if len(b.out)+len(p) > outOctets {
		b.flush()
	}
	if b.out == nil {
		b.out = make([]byte, 0, outOctets)
	}
	b.out = append(b.out, p...)
}

func (b *Body) flush() {
	b.pass(b.out)
	b.out = b.out[:0]
}

func (b *Body) pass(p []byte) {
	if len(p) == 0 || b.err != nil {
		return
	}
	_, b.err = b.w.Write(p)
}
