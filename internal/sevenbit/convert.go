package sevenbit

import (
	"encoding/base64"
	"errors"
	"io"

	"poczta.example/poczta/internal/message"
)

// lineOctets is the most octets of a line of an encoding, without CRLF (RFC 2045 §6.7, §6.8).
const lineOctets = 76

// errOther is returned when the octets are not those of the plan.
var errOther = errors.New("the message is not the one that was scanned")

// converter writes a message in its new form.
type converter struct {
	w    io.Writer
	plan *Plan
	next int // entity
	leaf encoder
}

// encoder takes the content of one leaf.
type encoder interface {
	write(frag []byte, eol bool) error
	// close ends the leaf; last says that the message ends with it, so that the last
	// CRLF is content and no part of a boundary.
	close(last bool) error
}

// header implements visitor.
func (c *converter) header(_ *entity, raw []byte) error {
	if err := c.close(false); err != nil {
		return err
	}
	if c.next >= len(c.plan.actions) {
		return errOther
	}
	act := c.plan.actions[c.next]
	c.next++
	switch act {
	case quote, introduce:
		c.leaf = &quoter{w: c.w}
	case armour:
		c.leaf = newArmourer(c.w)
	default:
		c.leaf = plain{c.w}
	}
	_, err := c.w.Write(fields(raw, act))
	return err
}

// fields returns a header section with the encoding that was chosen.
func fields(raw []byte, act action) []byte {
	if act == keep {
		return raw
	}
	out := message.Strip(raw, func(f message.Field) bool { return f.Is("Content-Transfer-Encoding") })
	out = append([]byte(nil), out...)
	if n := len(out); n > 0 && out[n-1] != '\n' {
		out = append(out, "\r\n"...)
	}
	switch act {
	case relabel:
		out = append(out, "Content-Transfer-Encoding: 7bit\r\n"...)
	case armour:
		out = append(out, "Content-Transfer-Encoding: base64\r\n"...)
	case introduce: // RFC 1428 §3
		out = append(out, "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"...)
		fallthrough
	default:
		out = append(out, "Content-Transfer-Encoding: quoted-printable\r\n"...)
	}
	return out
}

// content implements visitor.
func (c *converter) content(frag []byte, eol bool) error { return c.leaf.write(frag, eol) }

// filler implements visitor.
func (c *converter) filler(frag []byte, eol bool) error {
	if hasEightBit(frag) {
		frag = append([]byte(nil), frag...)
		for i := range frag {
			if frag[i] >= 0x80 {
				frag[i] = '?'
			}
		}
	}
	return plain{c.w}.write(frag, eol)
}

// boundary implements visitor.
func (c *converter) boundary(line []byte) error {
	if err := c.close(false); err != nil {
		return err
	}
	_, err := c.w.Write(line)
	return err
}

// end implements visitor.
func (c *converter) end() error {
	if c.next != len(c.plan.actions) {
		return errOther
	}
	return c.close(true)
}

func (c *converter) close(last bool) error {
	if c.leaf == nil {
		return nil
	}
	err := c.leaf.close(last)
	c.leaf = nil
	return err
}

// plain writes what it gets.
type plain struct{ w io.Writer }

func (p plain) write(frag []byte, eol bool) error {
	if _, err := p.w.Write(frag); err != nil || !eol {
		return err
	}
	_, err := io.WriteString(p.w, "\r\n")
	return err
}

func (p plain) close(bool) error { return nil }

// quoter writes quoted-printable (RFC 2045 §6.7). Line ends stay line ends; any
// other CR or LF is encoded.
type quoter struct {
	w     io.Writer
	buf   []byte
	col   int
	blank byte // a blank or tab that is held back: at the end of a line it is encoded
}

const hexDigits = "0123456789ABCDEF"

func (q *quoter) write(frag []byte, eol bool) error {
	q.buf = q.buf[:0]
	for _, c := range frag {
		q.release(false)
		switch {
		case c == ' ' || c == '\t':
			q.blank = c
		case c == '=' || c < ' ' || c > '~':
			q.put('=', hexDigits[c>>4], hexDigits[c&15])
		default:
			q.put(c)
		}
	}
	if eol {
		q.release(true)
		q.buf = append(q.buf, "\r\n"...)
		q.col = 0
	}
	_, err := q.w.Write(q.buf)
	return err
}

// release writes the blank that was held back.
func (q *quoter) release(encoded bool) {
	c := q.blank
	switch {
	case c == 0:
		return
	case encoded:
		q.put('=', hexDigits[c>>4], hexDigits[c&15])
	default:
		q.put(c)
	}
	q.blank = 0
}

// put adds octets that stand together, after a soft line break when they would
// not leave room for one behind them.
func (q *quoter) put(octets ...byte) {
	if q.col+len(octets) > lineOctets-1 {
		q.buf = append(q.buf, "=\r\n"...)
		q.col = 0
	}
	q.buf = append(q.buf, octets...)
	q.col += len(octets)
}

func (q *quoter) close(bool) error {
	q.buf = q.buf[:0]
	q.release(true)
	if q.col > 0 { // the last line had no end
		q.buf = append(q.buf, "=\r\n"...)
		q.col = 0
	}
	_, err := q.w.Write(q.buf)
	return err
}

// armourer writes base64 (RFC 2045 §6.8).
type armourer struct {
	enc     io.WriteCloser
	lines   *wrapper
	pending bool // a CRLF that may belong to the boundary that follows
}

func newArmourer(w io.Writer) *armourer {
	lines := &wrapper{w: w}
	return &armourer{enc: base64.NewEncoder(base64.StdEncoding, lines), lines: lines}
}

func (a *armourer) write(frag []byte, eol bool) error {
	if a.pending {
		a.pending = false
		if _, err := io.WriteString(a.enc, "\r\n"); err != nil {
			return err
		}
	}
	a.pending = eol
	_, err := a.enc.Write(frag)
	return err
}

func (a *armourer) close(last bool) error {
	if last && a.pending {
		if _, err := io.WriteString(a.enc, "\r\n"); err != nil {
			return err
		}
	}
	if err := a.enc.Close(); err != nil {
		return err
	}
	return a.lines.end(a.pending && !last)
}

// wrapper breaks lines.
type wrapper struct {
	w   io.Writer
	col int
}

func (l *wrapper) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), lineOctets-l.col)
		if _, err := l.w.Write(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
		if l.col += n; l.col == lineOctets {
			if _, err := io.WriteString(l.w, "\r\n"); err != nil {
				return 0, err
			}
			l.col = 0
		}
	}
	return len(p), nil
}

// end ends the last line; one is written for the boundary even behind nothing.
func (l *wrapper) end(forced bool) error {
	if l.col == 0 && !forced {
		return nil
	}
	_, err := io.WriteString(l.w, "\r\n")
	return err
}
