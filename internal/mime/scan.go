package mime

import (
	"bytes"
	"errors"
	"io"
)

// chunk is how much is read at once. A boundary line is looked at whole if it fits.
const chunk = 32 << 10

// scanner yields the lines of an io.ReaderAt.
type scanner struct {
	r      io.ReaderAt
	next   int64 // offset of what is read next
	end    int64
	buf    []byte
	lo, hi int
	inside bool // the last piece did not end its line
}

// piece is a line with its line end, or a part of one that is longer than chunk.
type piece struct {
	b     []byte // valid until the next call
	off   int64
	start bool // begins a line
	whole bool // ends it, by LF or the end of the message
}

// read returns the next piece; ok is false at the end.
func (s *scanner) read() (p piece, ok bool, err error) {
	seen := s.lo
	for {
		if i := bytes.IndexByte(s.buf[seen:s.hi], '\n'); i >= 0 {
			return s.take(seen + i + 1 - s.lo), true, nil
		}
		if s.next == s.end || s.hi-s.lo == chunk {
			if s.lo == s.hi {
				return piece{}, false, nil
			}
			return s.take(s.hi - s.lo), true, nil
		}
		if s.buf == nil {
			s.buf = make([]byte, min(chunk, s.end-s.next))
		}
		if s.lo > 0 {
			s.hi = copy(s.buf, s.buf[s.lo:s.hi])
			s.lo = 0
		}
		seen = s.hi
		want := int(min(int64(len(s.buf)-s.hi), s.end-s.next))
		n, err := s.r.ReadAt(s.buf[s.hi:s.hi+want], s.next)
		if n < want {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return piece{}, false, err
		}
		s.hi += n
		s.next += int64(n)
	}
}

// take cuts n octets off the buffer.
func (s *scanner) take(n int) piece {
	b := s.buf[s.lo : s.lo+n]
	p := piece{b: b, off: s.next - int64(s.hi-s.lo), start: !s.inside}
	s.lo += n
	p.whole = b[n-1] == '\n' || s.lo == s.hi && s.next == s.end
	s.inside = b[n-1] != '\n'
	return p
}

// text is the piece without its line end.
func (p piece) text() []byte {
	b := p.b
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
		if n > 1 && b[n-2] == '\r' {
			b = b[:n-2]
		}
	}
	return b
}
