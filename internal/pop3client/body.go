package pop3client

import (
	"bytes"
	"fmt"
	"io"
)

// body is the text of one multi-line reply, read from the session's buffer and unstuffed.
//
// Only CRLF ends a line and only CRLF.CRLF the message (RFC 1939 §3): a bare LF in a letter,
// which a server may pass on without stuffing the dot behind it, must not end it, or its
// sender could write replies of the server. From a server that ends even its status line by
// LF alone, every LF ends a line, and becomes CRLF.
type body struct {
	s       *Session
	pending []byte // to be given out, in the session's buffer
	octets  int64
	start   bool // at the begin of a line
	cr      bool // the octet in front is a CR
	lf      bool // LF alone ends lines
	guarded bool // a text that begins with a status line is not the message
	err     error
}

var crlf = []byte("\r\n")

// begin makes the body that of the reply whose status line was read.
func (b *body) begin(guarded bool) {
	*b = body{s: b.s, start: true, lf: b.s.bareLF, guarded: guarded}
	b.s.flow()
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if len(b.pending) == 0 {
		var err error
		if b.pending, err = b.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.pending)
	b.pending = b.pending[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: it writes what was read without copying it.
func (b *body) WriteTo(w io.Writer) (n int64, err error) {
	for {
		piece := b.pending
		if b.pending = nil; len(piece) == 0 {
			if piece, err = b.next(); err != nil {
				return n, b.failure()
			}
		}
		m, err := w.Write(piece)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
}

// drain reads the rest, at most so many octets more; negative is without limit.
func (b *body) drain(most int64) error {
	b.pending = nil
	for from := b.octets; ; {
		if _, err := b.next(); err != nil {
			return b.failure()
		}
		if most >= 0 && b.octets-from > most {
			b.s.fail()
			return ErrLimit
		}
	}
}

// failure returns why the text has not come whole; nil when it has, or may yet.
func (b *body) failure() error {
	if b.err == io.EOF { //nolint:errorlint // set as it is, and nothing else counts as the end
		return nil
	}
	return b.err
}

// strange reports whether the text begins with a status line: then a reply was too many or
// too few, and this is another message. more says that what came does not tell yet.
func (b *body) strange(in []byte) (strange, more bool) {
	if len(in) < 5 && bytes.IndexByte(in, '\n') < 0 {
		return false, true
	}
	rest, found := bytes.CutPrefix(in, []byte("+OK"))
	if !found {
		rest, found = bytes.CutPrefix(in, []byte("-ERR"))
	}
	return found && len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\r' || rest[0] == '\n'), false
}

// next returns the next piece of the text, in the session's buffer.
func (b *body) next() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	s := b.s
	for {
		if s.broken {
			return nil, b.lost(ErrClosed)
		}
		in := s.buf[s.r:s.w]
		if b.guarded {
			strange, more := b.strange(in)
			if strange {
				return nil, b.lost(ErrUnsolicited)
			}
			if b.guarded = more; more {
				in = nil
			}
		}
		if b.start && len(in) > 0 {
			skip, more, end := b.dot(in)
			if !more {
				s.r += skip
				if end {
					b.err = io.EOF
					return nil, io.EOF
				}
				b.start, b.cr, in = false, false, in[skip:]
			} else {
				in = nil
			}
		}
		if len(in) > 0 {
			piece := b.piece(in)
			if b.octets += int64(len(piece)); b.octets > s.cfg.MaxMessageOctets {
				return nil, b.lost(fmt.Errorf("%w: a message of more than %d octets", ErrLimit, s.cfg.MaxMessageOctets))
			}
			return piece, nil
		}
		if err := s.fill(); err != nil {
			return nil, b.lost(err)
		}
	}
}

// lost ends the session in the middle of a message.
func (b *body) lost(err error) error {
	b.s.cfg.Dialogue.note(err.Error())
	b.s.fail()
	b.err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	return b.err
}

// dot looks at the begin of a line: how many octets are to be skipped, whether more are
// needed to tell, whether this is the end.
func (b *body) dot(in []byte) (skip int, more, end bool) {
	switch {
	case in[0] != '.':
		return 0, false, false
	case len(in) == 1:
		return 0, true, false
	case b.lf && in[1] == '\n':
		return 2, false, true
	case in[1] != '\r':
		return 1, false, false
	case len(in) == 2:
		return 0, true, false
	case in[2] == '\n':
		return 3, false, true
	}
	return 1, false, false
}

// piece takes from in, which is not at the begin of a line that has a dot, as much as can be
// given out as it is.
func (b *body) piece(in []byte) []byte {
	n := len(in)
	for i := 0; i < n; {
		k := bytes.IndexByte(in[i:], '\n')
		if k < 0 {
			break
		}
		k += i
		cr := b.cr
		if k > 0 {
			cr = in[k-1] == '\r'
		}
		switch {
		case !cr && !b.lf: // a bare LF is an octet like others
		case !cr && k > 0: // up to the LF, which comes next
			b.s.r += k
			b.cr = false
			return in[:k]
		case !cr:
			b.s.r++
			b.start = true
			return crlf
		case k+1 == n || in[k+1] == '.':
			b.s.r += k + 1
			b.start = true
			return in[:k+1]
		}
		i = k + 1
	}
	b.s.r += n
	b.cr = in[n-1] == '\r'
	return in
}
