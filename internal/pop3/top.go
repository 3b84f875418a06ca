package pop3

import "bytes"

// TopCutter finds where the reply to TOP ends: after the header section, the
// blank line, and the given number of body lines (RFC 1939 §7). A message
// without a blank line is all header section. Make it with NewTopCutter.
type TopCutter struct {
	left   int64 // body lines still wanted
	body   bool
	length int  // octets of the current line so far, at most 2
	cr     bool // and its only octet is CR
}

// NewTopCutter makes a cutter for the given number of body lines.
func NewTopCutter(lines int64) *TopCutter { return &TopCutter{left: lines} }

// Cut returns how many octets of p, the next block of the message, belong to the
// reply. done is true when the end was found; nothing after it belongs.
func (t *TopCutter) Cut(p []byte) (n int, done bool) {
	if t.body && t.left <= 0 {
		return 0, true
	}
	for n < len(p) {
		i := bytes.IndexByte(p[n:], '\n')
		if i < 0 {
			t.note(p[n:])
			return len(p), false
		}
		t.note(p[n : n+i])
		blank := t.length == 0 || t.length == 1 && t.cr
		t.length, t.cr = 0, false
		n += i + 1
		switch {
		case t.body:
			t.left--
		case blank:
			t.body = true
		}
		if t.body && t.left <= 0 {
			return n, true
		}
	}
	return n, false
}

// note adds octets of the current line.
func (t *TopCutter) note(p []byte) {
	if len(p) == 0 {
		return
	}
	t.cr = t.length == 0 && len(p) == 1 && p[0] == '\r'
	t.length = min(t.length+len(p), 2)
}
