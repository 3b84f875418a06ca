package mime

import (
	"bytes"
	"strings"
)

// uublock watches a text for uuencoded blocks (POSIX uuencode): "begin", an octal mode and a
// name, lines of the right length, "end".
type uublock struct {
	name  string // of a begin line, until the next line says whether it is one
	start int64
	body  int64
	part  *Part // the open block
}

// line takes a line of a text.
func (u *uublock) line(p *parser, l piece) {
	text := l.text()
	switch {
	case u.part != nil:
		if string(text) == "end" {
			u.end(p, l.off+int64(len(text)))
		}
	case u.name != "":
		if name := u.name; uuLine(text) {
			u.name = ""
			u.begin(p, name)
		} else {
			u.name = ""
		}
	case len(text) > 10 && text[0] == 'b' && string(text[:6]) == "begin ":
		mode, name, _ := bytes.Cut(text[6:], []byte{' '})
		if octal(mode) {
			u.name, u.start, u.body = toUTF8(strings.TrimSpace(string(name))), l.off, l.off+int64(len(l.b))
		}
	}
}

func octal(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '7' {
			return false
		}
	}
	return len(b) == 3 || len(b) == 4
}

// uuLine reports whether the line says its own length.
func uuLine(b []byte) bool {
	if len(b) == 0 || b[0] < ' ' || b[0] > '`' {
		return false
	}
	n := (int(b[0]-' ')&63 + 2) / 3 * 4
	return n > 0 && len(b) >= 1+n-3 && len(b) <= 1+n+2 // blanks at the end get lost, a check character is added
}

func (u *uublock) begin(p *parser, name string) {
	q := p.newPart(p.cur, u.start)
	if q == nil {
		return
	}
	p.cur.Defects |= UUEncoded
	q.Body, q.Type, q.Subtype, q.Encoding, q.Filename, q.Disposition = u.body, "application", "octet-stream", UUEncode, name, "attachment"
	u.part = q
}

// end closes the open block at an offset.
func (u *uublock) end(_ *parser, at int64) {
	if u.part != nil {
		u.part.End = max(at, u.part.Body)
	}
	*u = uublock{}
}
