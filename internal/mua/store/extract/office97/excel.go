package office97

import (
	"golang.org/x/text/encoding/charmap"
)

// Records of a workbook ([MS-XLS] §2.3).
const (
	recordPassword = 0x2f
	recordContinue = 0x3c
	recordCodePage = 0x42
	recordSheet    = 0x85
	recordStrings  = 0xfc
	recordLabel    = 0x204
	recordResult   = 0x207
	recordObject   = 0x1b6 // a text in a drawing, as of a comment; the text is in the next record
	recordBegin    = 0x809

	version8 = 0x600
)

// workbook goes through the records.
type workbook struct {
	t    *sink
	old  bool // Excel 5 and 95: texts are octets of a code page
	page *charmap.Charmap
}

// excel takes the texts of a workbook.
func excel(t *sink, b []byte) error {
	w := &workbook{t: t, page: charmap.Windows1252}
	for first := true; len(b) >= 4 && !t.full(); first = false {
		id, n := u16(b, 0), u16(b, 2)
		if n > len(b)-4 {
			return nil
		}
		body := b[4 : 4+n]
		b = b[4+n:]
		switch id {
		case recordPassword:
			return ErrPassword
		case recordBegin:
			if first && n >= 2 {
				w.old = u16(body, 0) < version8
			}
		case recordStrings, recordObject:
			parts := [][]byte{body}
			for len(b) >= 4 && u16(b, 0) == recordContinue && u16(b, 2) <= len(b)-4 {
				parts = append(parts, b[4:4+u16(b, 2)])
				b = b[4+u16(b, 2):]
			}
			if id == recordStrings {
				w.strings(parts)
			} else {
				w.object(parts)
			}
		default:
			w.record(id, body)
		}
	}
	return nil
}

// record takes a record that holds one text.
func (w *workbook) record(id int, b []byte) {
	switch {
	case id == recordCodePage && len(b) >= 2:
		switch u16(b, 0) {
		case 1250:
			w.page = charmap.Windows1250
		case 1251:
			w.page = charmap.Windows1251
		}
	case id == recordSheet && len(b) > 7:
		w.text(b[6:], 1)
	case id == recordLabel && len(b) > 8:
		w.text(b[6:], 2)
	case id == recordResult && len(b) > 2:
		w.text(b, 2)
	}
}

// text takes a text behind its count of characters, of size octets.
func (w *workbook) text(b []byte, size int) {
	n := int(b[0])
	if size == 2 {
		n = u16(b, 0)
	}
	b = b[size:]
	switch {
	case w.old:
		w.t.narrow(b[:min(n, len(b))], w.page)
	case len(b) == 0:
	case b[0]&1 != 0:
		w.t.wide(b[1:min(1+2*n, len(b))])
	default:
		w.t.narrow(b[1:min(1+n, len(b))], charmap.ISO8859_1)
	}
	w.t.line()
}

// object takes the text of a drawing: a record of properties, then the text.
func (w *workbook) object(parts [][]byte) {
	if len(parts) < 2 || len(parts[0]) < 12 || len(parts[1]) < 2 {
		return
	}
	n, b := u16(parts[0], 10), parts[1]
	if b[0]&1 != 0 {
		w.t.wide(b[1:min(1+2*n, len(b))])
	} else {
		w.t.narrow(b[1:min(1+n, len(b))], charmap.ISO8859_1)
	}
	w.t.line()
}

// joined are octets that lie in several records.
type joined struct {
	parts [][]byte
	b     []byte
}

// more takes n octets, nil when there are none.
func (j *joined) more(n int) []byte {
	for len(j.b) == 0 && len(j.parts) > 0 {
		j.b, j.parts = j.parts[0], j.parts[1:]
	}
	if n > len(j.b) { // a number that is cut: as programs do not write it
		j.b, j.parts = nil, nil
		return nil
	}
	out := j.b[:n]
	j.b = j.b[n:]
	return out
}

// skip passes n octets over.
func (j *joined) skip(n int) {
	for n > 0 {
		if len(j.b) == 0 {
			if len(j.parts) == 0 {
				return
			}
			j.b, j.parts = j.parts[0], j.parts[1:]
		}
		k := min(n, len(j.b))
		j.b = j.b[k:]
		n -= k
	}
}

// strings takes the table of shared strings ([MS-XLS] §2.4.265, §2.5.293).
func (w *workbook) strings(parts [][]byte) {
	j := &joined{parts: parts}
	j.skip(8)
	for !w.t.full() {
		head := j.more(3)
		if head == nil {
			return
		}
		n, flags, runs, extra := u16(head, 0), head[2], 0, 0
		if flags&8 != 0 {
			if b := j.more(2); b != nil {
				runs = u16(b, 0)
			}
		}
		if flags&4 != 0 {
			if b := j.more(4); b != nil {
				extra = u32(b, 0)
			}
		}
		w.chars(j, n, flags&1 != 0)
		j.skip(4*runs + extra)
		w.t.line()
	}
}

// chars takes n characters; where a record ends among them, the next one says anew how wide they are.
func (w *workbook) chars(j *joined, n int, wide bool) {
	for n > 0 {
		if len(j.b) == 0 {
			if len(j.parts) == 0 || len(j.parts[0]) == 0 {
				return
			}
			j.b, j.parts = j.parts[0], j.parts[1:]
			wide = j.b[0]&1 != 0
			j.b = j.b[1:]
		}
		if !wide {
			k := min(n, len(j.b))
			w.t.narrow(j.b[:k], charmap.ISO8859_1)
			j.b = j.b[k:]
			n -= k
			continue
		}
		k := min(n, len(j.b)/2)
		if k == 0 {
			j.b = nil
			continue
		}
		w.t.wide(j.b[:2*k])
		j.b = j.b[2*k:]
		n -= k
	}
}
