package pdf

import (
	"math"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// sheet is text that is put together from pieces with places.
type sheet struct {
	b     []byte
	limit int
	x, y  float64 // where the last piece ended
	begun bool    // there was a piece since the page began
}

func (s *sheet) full() bool { return len(s.b) >= s.limit }

// Shares of the size of the letters, measured at files of many programs.
const (
	wordGap = 0.16 // a gap that parts words
	jump    = 0.6  // back, or across: another line
)

// put adds a piece that begins at x, y, in letters of a size; ux, uy is the direction of the line.
func (s *sheet) put(text string, x, y, ux, uy, size float64) {
	if text == "" || s.full() {
		return
	}
	if s.begun {
		dx, dy := x-s.x, y-s.y
		along, across := dx*ux+dy*uy, math.Abs(dy*ux-dx*uy)
		switch {
		case across > jump*size || along < -jump*size || along > 12*size || math.IsNaN(along):
			s.line(text)
		case along > wordGap*size:
			s.space()
		}
	}
	s.begun = true
	s.write(text)
}

// ended says where the last piece ended.
func (s *sheet) ended(x, y float64) { s.x, s.y = x, y }

// line begins a line; a word that was parted at the end of the last one is joined if text goes on with it.
func (s *sheet) line(text string) {
	for n := len(s.b); n > 0 && s.b[n-1] == ' '; n-- {
		s.b = s.b[:n-1]
	}
	n := len(s.b)
	if n == 0 || s.b[n-1] == '\n' {
		return
	}
	hyphen, size := utf8.DecodeLastRune(s.b)
	if hyphen == '-' || hyphen == '\u2010' || hyphen == '\u00ad' {
		before, _ := utf8.DecodeLastRune(s.b[:n-size])
		if after, _ := utf8.DecodeRuneInString(text); unicode.IsLower(after) && unicode.IsLetter(before) {
			s.b = s.b[:n-size]
			return
		}
	}
	s.write("\n")
}

// space parts words.
func (s *sheet) space() {
	if n := len(s.b); n > 0 && s.b[n-1] != ' ' && s.b[n-1] != '\n' {
		s.write(" ")
	}
}

// break begins a line for what has no place.
func (s *sheet) fresh() {
	s.line("")
	s.begun = false
}

func (s *sheet) write(text string) {
	if len(text) <= s.limit-len(s.b) {
		s.b = append(s.b, text...)
		return
	}
	for _, r := range text {
		if utf8.RuneLen(r) > s.limit-len(s.b) {
			break
		}
		s.b = utf8.AppendRune(s.b, r)
	}
	s.limit = len(s.b)
}

// text is a text string of a file: in UTF-16, UTF-8, or an octet a character (ISO 32000-2 §7.9.2.2).
func text(b []byte) string {
	switch {
	case len(b) >= 2 && b[0] == 0xfe && b[1] == 0xff:
		u := make([]uint16, 0, len(b)/2)
		for i := 2; i+1 < len(b); i += 2 {
			u = append(u, uint16(be16(b, i)))
		}
		return string(utf16.Decode(u))
	case len(b) >= 3 && b[0] == 0xef && b[1] == 0xbb && b[2] == 0xbf:
		return string([]rune(string(b[3:])))
	}
	out := make([]byte, 0, len(b))
	for _, c := range b {
		r := charmap.ISO8859_1.DecodeByte(c)
		if c >= 0x80 && c < 0xa1 {
			r = documentHigh[c-0x80]
		}
		if r >= ' ' || r == '\n' || r == '\t' {
			out = utf8.AppendRune(out, r)
		} else {
			out = append(out, ' ')
		}
	}
	return string(out)
}

// documentHigh are the characters from 0x80 on of PDFDocEncoding (ISO 32000-2 annex D.3).
var documentHigh = []rune("•†‡…—–ƒ⁄‹›−‰„“”‘’‚™ﬁﬂŁŒŠŸŽılœšž €")
