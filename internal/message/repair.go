package message

import (
	"bytes"
	"io"
)

// Reader reads a message of any line ends and yields it with CRLF lines only, as
// our stores keep it: a bare LF becomes CRLF, a bare CR becomes CRLF, and a last
// line without an end gets one. Other octets pass. It is for import; mail that
// comes in by SMTP is never repaired. Not for concurrent use.
type Reader struct {
	r       io.Reader
	in      []byte // what is read and not yet worked on
	buf     [32 << 10]byte
	pending []byte // CR, LF or CRLF that did not fit
	cr      bool   // the last octet seen was a CR, not yet written
	partial bool   // the last line written has no end yet
	err     error
	bareLF  int64
	bareCR  int64
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// BareLF is how many lines ended with LF alone so far. In an mbox or Maildir
// file that is every line, and no fault.
func (r *Reader) BareLF() int64 { return r.bareLF }

// BareCR is how many CRs without LF were found and repaired so far.
func (r *Reader) BareCR() int64 { return r.bareCR }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(r.pending) > 0 {
			c := copy(p[n:], r.pending)
			r.partial = r.pending[c-1] != '\n'
			r.pending = r.pending[c:]
			n += c
			continue
		}
		if len(r.in) == 0 {
			if r.err == nil && n > 0 {
				break // give what there is before reading more
			}
			if !r.fill() {
				break
			}
			continue
		}
		n += r.step(p[n:])
	}
	if n > 0 {
		return n, nil
	}
	if len(p) == 0 {
		return 0, nil
	}
	return 0, r.err
}

// fill reads more input; false at the end, when nothing is left to write.
func (r *Reader) fill() bool {
	for r.err == nil {
		var c int
		c, r.err = r.r.Read(r.buf[:])
		if c > 0 {
			r.in = r.buf[:c]
			return true
		}
	}
	if r.cr {
		r.cr = false
		r.bareCR++
		r.pending = crlf
		return true
	}
	if r.err == io.EOF && r.partial {
		r.pending = crlf
		return true
	}
	return false
}

var crlf = []byte("\r\n")

// step moves octets of one line, or its end, and returns how many were written to p.
func (r *Reader) step(p []byte) int {
	if r.cr {
		r.cr = false
		r.pending = crlf
		if r.in[0] == '\n' {
			r.in = r.in[1:]
		} else {
			r.bareCR++
		}
		return 0
	}
	switch r.in[0] {
	case '\r':
		r.cr, r.in = true, r.in[1:]
		return 0
	case '\n':
		r.bareLF++
		r.pending, r.in = crlf, r.in[1:]
		return 0
	}
	part := r.in[:min(len(r.in), len(p))]
	if end := bytes.IndexAny(part, "\r\n"); end >= 0 {
		part = part[:end]
	}
	c := copy(p, part)
	r.partial, r.in = p[c-1] != '\n', r.in[c:]
	return c
}
