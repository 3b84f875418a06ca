package smtp

import (
	"bytes"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/envelope"
)

// Encoder makes mail data transparent on their way out (RFC 5321 §4.5.2): a line that
// begins with a dot gets one more. What it encodes does not depend on how its input is
// cut. It notes a bare CR or LF, which must not leave: see Bare. The zero value is
// ready for what follows DATA; with Chunked set it adds no dot, as BDAT has it. Not for
// concurrent use.
type Encoder struct {
	Chunked bool

	octets int64 // taken so far
	bare   bool
	mid    bool // not at a line's start
	cr     bool // the last octet was CR
}

// Scan takes the octets of p and reports whether a dot must be added somewhere among
// them; if not, they can go out as they are. If so, p still has to be given to Append
// of the encoder as it was before: copy it first.
func (e *Encoder) Scan(p []byte) (dots bool) {
	dots = !e.mid && len(p) > 0 && p[0] == '.'
	return (e.judge(p) || dots) && !e.Chunked
}

var stuffed = []byte("\n.")

// Append appends the encoded form of p to dst.
func (e *Encoder) Append(dst, p []byte) []byte {
	start := !e.mid
	e.judge(p)
	if e.Chunked {
		return append(dst, p...)
	}
	if start && len(p) > 0 && p[0] == '.' {
		dst = append(dst, '.')
	}
	for {
		i := bytes.Index(p, stuffed)
		if i < 0 {
			return append(dst, p...)
		}
		dst = append(dst, p[:i+2]...)
		dst = append(dst, '.')
		p = p[i+2:]
	}
}

// judge counts p and looks for a CR or LF that stands alone; dots says that a line in p,
// behind the first, begins with one.
func (e *Encoder) judge(p []byte) (dots bool) {
	if len(p) == 0 {
		return false
	}
	e.octets += int64(len(p))
	if e.cr && p[0] != '\n' {
		e.bare = true
	}
	cr := e.cr
	pairs := 0
	for i := 0; i < len(p); i++ {
		n := bytes.IndexByte(p[i:], '\n')
		if n < 0 {
			break
		}
		i += n
		dots = dots || i+1 < len(p) && p[i+1] == '.'
		switch {
		case i == 0 && cr:
		case i > 0 && p[i-1] == '\r':
			pairs++
		default:
			e.bare = true
		}
	}
	last := p[len(p)-1]
	e.cr, e.mid = last == '\r', last != '\n'
	crs := bytes.Count(p, crByte)
	if e.cr {
		crs--
	}
	if crs > pairs {
		e.bare = true
	}
	return dots
}

// Octets returns how many octets were taken; added dots don't count.
func (e *Encoder) Octets() int64 { return e.octets }

// Bare reports whether a CR or an LF stood alone in what was taken. Other servers
// disagree about what such data mean, so the message must not be ended with them
// (RFC 5321 §2.3.8).
func (e *Encoder) Bare() bool { return e.bare || e.cr }

// End appends what closes the data: a CRLF if the last line has none, and CRLF.CRLF's
// last three octets; with Chunked the CRLF alone.
func (e *Encoder) End(dst []byte) []byte {
	if e.mid {
		dst = append(dst, '\r', '\n')
	}
	if e.Chunked {
		return dst
	}
	return append(dst, '.', '\r', '\n')
}

// AppendOriginal appends the value of ORCPT (RFC 3461 §4.2) to b: xtext, and for type
// utf-8 the forms of RFC 6533 §3, with smtputf8 utf-8-addr-unitext.
func AppendOriginal(b []byte, o envelope.OriginalRecipient, smtputf8 bool) []byte {
	b = append(append(b, o.Type...), ';')
	if o.Type != "utf-8" {
		return append(b, EncodeXtext(o.Address)...)
	}
	for _, r := range o.Address {
		switch {
		case r >= 0x80 && smtputf8, r > ' ' && r < 0x7f && !strings.ContainsRune(`\+=`, r):
			b = append(b, string(r)...)
		default:
			b = fmt.Appendf(b, `\x{%02X}`, r)
		}
	}
	return b
}
