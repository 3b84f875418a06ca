package pop3

import "bytes"

// Stuffer byte-stuffs the octets of one multi-line reply (RFC 1939 §3): every
// line that begins with the termination octet gets one more in front. Feed it
// blocks of any size. The zero value stands at the begin of the first line.
//
// A line ends at LF. Stored mail has no LF without CR, so this is RFC 1939's
// rule; where a bare LF does occur, the dot after it is stuffed too, so that no
// reader, however tolerant, takes a line of the message for the end.
type Stuffer struct {
	mid bool // the last octet was not LF
}

// Append appends the stuffed form of p to dst.
func (s *Stuffer) Append(dst, p []byte) []byte {
	if len(p) == 0 {
		return dst
	}
	if !s.mid && p[0] == '.' {
		dst = append(dst, '.')
	}
	s.mid = p[len(p)-1] != '\n'
	for {
		i := bytes.Index(p, []byte("\n."))
		if i < 0 {
			return append(dst, p...)
		}
		dst = append(dst, p[:i+2]...)
		dst = append(dst, '.')
		p = p[i+2:]
	}
}

// Skip tells the Stuffer that p went out as it is, because no line of the
// message begins with a dot.
func (s *Stuffer) Skip(p []byte) {
	if len(p) > 0 {
		s.mid = p[len(p)-1] != '\n'
	}
}

// End appends what closes the reply: a CRLF if the last line has none, and the
// line with the termination octet.
func (s *Stuffer) End(dst []byte) []byte {
	if s.mid {
		dst = append(dst, '\r', '\n')
	}
	*s = Stuffer{}
	return append(dst, '.', '\r', '\n')
}

// Unstuffer undoes what Stuffer does, for clients. The zero value stands before
// the first octet after the status line. It takes CRLF as line end, and LF alone
// as well.
type Unstuffer struct {
	state unstuffState
}

type unstuffState uint8

const (
	lineBegin unstuffState = iota
	inLine
	dot   // a line began with the termination octet
	dotCR // and CR followed
)

// Append appends the octets of the message in p to dst and tells how many of p
// it used. done is true when the line with the termination octet was found; what
// follows in p belongs to the next reply.
func (u *Unstuffer) Append(dst, p []byte) (out []byte, used int, done bool) {
	for i := 0; i < len(p); {
		switch u.state {
		case inLine:
			n := bytes.IndexByte(p[i:], '\n')
			if n < 0 {
				return append(dst, p[i:]...), len(p), false
			}
			dst = append(dst, p[i:i+n+1]...)
			i += n + 1
			u.state = lineBegin
			continue
		case lineBegin:
			if p[i] == '.' {
				u.state = dot
				i++
				continue
			}
			u.state = inLine
			continue
		case dot:
			switch p[i] {
			case '\r':
				u.state = dotCR
				i++
				continue
			case '\n':
				u.state = lineBegin
				return dst, i + 1, true
			}
			u.state = inLine
			continue
		case dotCR:
			if p[i] == '\n' {
				u.state = lineBegin
				return dst, i + 1, true
			}
			dst = append(dst, '\r') // a stuffed line that begins with a bare CR
			u.state = inLine
		}
	}
	return dst, len(p), false
}
