// Package rtf reads the text of documents in Rich Text Format (version 1.9.1 of Microsoft's
// specification), for a search: without pictures, objects, styles and what is hidden. It is a
// pure function of the octets, in linear time and bounded memory, and never fails: what is no
// RTF has no text.
package rtf

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// Bounds of a document.
const (
	maxDepth = 1000    // of groups; deeper ones belong to the last
	maxFonts = 4096    // that are known
	maxParam = 1 << 30 // of a control word
)

// Text returns the text of raw in UTF-8, at most limit octets. It is empty unless raw begins as RTF.
func Text(raw []byte, limit int) []byte {
	if !bytes.HasPrefix(raw, []byte(`{\rtf`)) {
		return nil
	}
	r := reader{b: raw, limit: limit, page: charmap.Windows1252, fonts: make(map[int]encoding.Encoding)}
	r.g.skipAfter = 1
	r.run()
	return r.out
}

// group is what holds within braces.
type group struct {
	silent    bool // a destination that is no text
	hidden    bool
	fontTable bool
	font      int
	skipAfter int // octets that stand for the same as a \u in front of them
}

// reader reads a document.
type reader struct {
	b     []byte
	at    int
	limit int
	out   []byte
	page  encoding.Encoding // of the document
	fonts map[int]encoding.Encoding

	g        group
	stack    []group
	too      int    // groups that are open beyond maxDepth
	star     bool   // \* was read: the destination may be left out
	fallback int    // octets to leave out behind \u
	high     uint16 // the first half of a pair
	pending  []byte // octets not yet decoded
	pendFont int    // the font they are in
}

func (r *reader) full() bool { return len(r.out) >= r.limit }

// run reads to the end.
func (r *reader) run() {
	for r.at < len(r.b) && !r.full() {
		c := r.b[r.at]
		r.at++
		switch c {
		case '{':
			r.flush()
			r.fallback = 0
			if len(r.stack) >= maxDepth {
				r.too++
				continue
			}
			r.stack = append(r.stack, r.g)
		case '}':
			r.flush()
			r.fallback = 0
			if r.too > 0 {
				r.too--
				continue
			}
			n := len(r.stack)
			if n <= 1 {
				return
			}
			r.g, r.stack, r.star = r.stack[n-1], r.stack[:n-1], false
		case '\\':
			r.control()
		case '\r', '\n', 0:
		default:
			r.octet(c)
		}
	}
	r.flush()
}

// control reads what a backslash begins.
func (r *reader) control() {
	if r.at >= len(r.b) {
		return
	}
	c := r.b[r.at]
	if c|0x20 >= 'a' && c|0x20 <= 'z' {
		r.word()
		return
	}
	r.at++
	switch c {
	case '\'':
		if r.at+2 > len(r.b) {
			r.at = len(r.b)
		} else {
			h, l := digit(r.b[r.at]), digit(r.b[r.at+1])
			if r.at += 2; h < 16 && l < 16 {
				r.octet(h<<4 | l)
			}
		}
	case '*':
		r.star = true
	case '~':
		r.text(" ")
	case '_':
		r.text("-")
	case '\r', '\n':
		r.line()
	case '\\', '{', '}':
		r.octet(c)
	}
}

func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}

// word reads a control word and its number.
func (r *reader) word() {
	from := r.at
	for r.at < len(r.b) && r.b[r.at]|0x20 >= 'a' && r.b[r.at]|0x20 <= 'z' {
		r.at++
	}
	w := string(r.b[from:min(r.at, from+32)])
	negative, has, n := false, false, 0
	if r.at+1 < len(r.b) && r.b[r.at] == '-' && digit(r.b[r.at+1]) < 10 {
		negative = true
		r.at++
	}
	for r.at < len(r.b) && digit(r.b[r.at]) < 10 {
		if has = true; n < maxParam/10 {
			n = n*10 + int(digit(r.b[r.at]))
		}
		r.at++
	}
	if r.at < len(r.b) && r.b[r.at] == ' ' {
		r.at++
	}
	if negative {
		n = -n
	}
	star := r.star
	r.star = false
	if w == "bin" {
		r.at = min(len(r.b), r.at+max(0, n))
		return
	}
	r.obey(w, n, has, star)
}

// silent are destinations that are no text a person reads.
var silent = map[string]bool{
	"colortbl": true, "stylesheet": true, "info": true, "pict": true, "objdata": true, "objclass": true, "objname": true, "fldinst": true, "themedata": true, "datastore": true, "listtable": true,
	"listoverridetable": true, "rsidtbl": true, "generator": true, "xmlnstbl": true, "latentstyles": true, "filetbl": true, "revtbl": true, "bkmkstart": true, "bkmkend": true,
	"nonshppict": true, "pntext": true, "listtext": true, "pgptbl": true, "sn": true, "sv": true, "colorschememapping": true, "xe": true, "tc": true, "nextfile": true, "template": true, "htmltag": true,
	"atnid": true, "atnref": true, "atndate": true, "atntime": true, "atnicn": true, "picprop": true, "blipuid": true, "falt": true, "panose": true,
}

// starred are destinations that hold text though they may be left out.
var starred = map[string]bool{"shpinst": true, "annotation": true, "footnote": true, "shppict": true}

// marks are characters with a control word of their own.
var marks = map[string]string{
	"emdash": "—", "endash": "–", "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "bullet": "•", "emspace": " ", "enspace": " ", "qmspace": " ", "tab": " ", "cell": " ", "nestcell": " ",
}

// obey does what a control word says.
func (r *reader) obey(w string, n int, has, star bool) {
	if s, ok := marks[w]; ok {
		if r.fallback > 0 {
			r.fallback--
		} else {
			r.text(s)
		}
		return
	}
	switch w {
	case "par", "line", "sect", "page", "row", "nestrow", "column":
		r.line()
	case "u":
		r.unit(uint16(int32(n)))
		return
	case "uc":
		r.g.skipAfter = min(max(n, 0), 16)
	case "ansicpg":
		if e := pages[n]; e != nil {
			r.page = e
		}
	case "mac":
		r.page = charmap.Macintosh
	case "pc":
		r.page = charmap.CodePage437
	case "pca":
		r.page = charmap.CodePage850
	case "v":
		r.g.hidden = !has || n != 0
	case "plain":
		r.g.hidden, r.g.font = false, 0
	case "f":
		r.g.font = n
	case "fonttbl":
		r.g.fontTable, r.g.silent = true, true
	case "fcharset", "cpg":
		r.charset(w, n)
	default:
		if silent[w] || star && !starred[w] {
			r.g.silent = true
		}
	}
}

// charset notes the code page of a font of the font table.
func (r *reader) charset(w string, n int) {
	if !r.g.fontTable || len(r.fonts) >= maxFonts {
		return
	}
	if w == "fcharset" {
		n = charsets[n]
	}
	if e := pages[n]; e != nil {
		r.fonts[r.g.font] = e
	}
}

// octet takes an octet of text.
func (r *reader) octet(c byte) {
	if r.fallback > 0 {
		r.fallback--
		return
	}
	if r.g.silent || r.g.hidden {
		return
	}
	if c < 0x80 && len(r.pending) == 0 {
		r.out = append(r.out, c)
		return
	}
	if r.pendFont != r.g.font {
		r.flush()
	}
	r.pendFont = r.g.font
	if r.pending = append(r.pending, c); len(r.pending) >= 4096 {
		r.flush()
	}
}

// flush decodes what is pending.
func (r *reader) flush() {
	if len(r.pending) == 0 {
		return
	}
	e := r.fonts[r.pendFont]
	if e == nil {
		e = r.page
	}
	out, _ := e.NewDecoder().Bytes(r.pending) // what can't be decoded becomes U+FFFD
	r.pending = r.pending[:0]
	r.append(out)
}

// unit takes a code unit of UTF-16.
func (r *reader) unit(u uint16) {
	r.fallback = r.g.skipAfter
	c := rune(u)
	switch {
	case u >= 0xd800 && u < 0xdc00:
		r.high = u
		return
	case u >= 0xdc00 && u < 0xe000:
		c = utf16.DecodeRune(rune(r.high), c)
	case u >= 0xf020 && u < 0xf100: // of a font of symbols
		c = rune(u - 0xf000)
	}
	r.high = 0
	if c >= ' ' && utf8.ValidRune(c) {
		keep := r.fallback
		r.text(string(c))
		r.fallback = keep
	}
}

// text takes text that needs no decoding.
func (r *reader) text(s string) {
	r.flush()
	if r.fallback = 0; r.g.silent || r.g.hidden {
		return
	}
	r.append([]byte(s))
}

// line ends a line.
func (r *reader) line() {
	if n := len(r.out); n > 0 && r.out[n-1] == '\n' && len(r.pending) == 0 {
		return
	}
	r.text("\n")
}

// append adds text as far as it fits, whole characters.
func (r *reader) append(s []byte) {
	room := max(0, r.limit-len(r.out))
	if len(s) > room {
		for s = s[:room]; len(s) > 0; s = s[:len(s)-1] {
			if c, n := utf8.DecodeLastRune(s); c != utf8.RuneError || n > 1 {
				break
			}
		}
		r.limit = len(r.out) + len(s)
	}
	r.out = append(r.out, s...)
}

// charsets are the code pages of \fcharset.
var charsets = map[int]int{0: 1252, 77: 10000, 128: 932, 129: 949, 134: 936, 136: 950, 161: 1253, 162: 1254, 163: 1258, 177: 1255, 178: 1256, 186: 1257, 204: 1251, 222: 874, 238: 1250, 254: 437}

// pages are the code pages by number.
var pages = map[int]encoding.Encoding{
	437: charmap.CodePage437, 850: charmap.CodePage850, 852: charmap.CodePage852, 866: charmap.CodePage866, 874: charmap.Windows874, 932: japanese.ShiftJIS, 936: simplifiedchinese.GBK,
	949: korean.EUCKR, 950: traditionalchinese.Big5, 1250: charmap.Windows1250, 1251: charmap.Windows1251, 1252: charmap.Windows1252, 1253: charmap.Windows1253, 1254: charmap.Windows1254,
	1255: charmap.Windows1255, 1256: charmap.Windows1256, 1257: charmap.Windows1257, 1258: charmap.Windows1258, 10000: charmap.Macintosh,
}
