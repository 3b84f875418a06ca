package pdf

import (
	"bytes"
	"strings"

	enc "golang.org/x/text/encoding"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
)

// font says what codes mean and how wide they are.
type font struct {
	wide    bool // codes of more than one octet
	unicode *cmap
	lengths *cmap        // of a CMap in the file
	charset enc.Encoding // of a CMap with a name
	simple  [256]string
	widths  map[int]float64 // in thousandths of the size
	other   float64         // the width of the rest
	scale   float64         // from a width to the size
	glyphs  map[int]rune    // of a TrueType font, by glyph
	known   map[int]letter  // codes that were met
}

// letter is a code of a text that is shown.
type letter struct {
	text  string
	width float64 // of the size
	blank bool    // the code 32 of one octet, for which word spacing counts
}

// loadFont reads a font.
func (f *file) loadFont(v any) *font {
	r, isRef := v.(ref)
	if t, ok := f.fonts[r.num]; ok && isRef {
		return t
	}
	d := f.dict(v)
	if d == nil {
		return nil
	}
	t := &font{widths: make(map[int]float64), known: make(map[int]letter), scale: 0.001, other: 500}
	if s, ok := f.resolve(d["ToUnicode"]).(stream); ok {
		t.unicode = readCMap(f.decode(s), f.w)
	}
	if f.name(d["Subtype"]) == "Type0" {
		f.loadWide(t, d)
	} else {
		f.loadSimple(t, d)
	}
	if isRef {
		n := t.entries()
		if f.entries += n; len(f.fonts) >= maxFonts || f.entries > maxEntries {
			clear(f.fonts)
			f.entries = n
		}
		f.fonts[r.num] = t
	}
	return t
}

// entries is how much a font holds.
func (t *font) entries() int {
	n := len(t.widths) + len(t.glyphs)
	for _, c := range []*cmap{t.unicode, t.lengths} {
		if c != nil {
			n += len(c.one) + 2*len(c.ranges)
		}
	}
	return n
}

// loadSimple reads a font of codes of one octet (ISO 32000-2 §9.6).
func (f *file) loadSimple(t *font, d dict) {
	base := f.name(d["BaseFont"])
	about := f.dict(d["FontDescriptor"])
	start := f.name(d["Encoding"])
	e := f.dict(d["Encoding"])
	if e != nil {
		start = f.name(e["BaseEncoding"])
	}
	if start == "" && f.name(d["Subtype"]) == "TrueType" {
		start = "WinAnsiEncoding"
	}
	t.simple = encoding(start)
	if start == "" {
		f.builtin(t, about)
	}
	at := 0
	for _, v := range f.list(e["Differences"]) {
		switch v := f.resolve(v).(type) {
		case float64:
			at = int(v)
		case name:
			if at >= 0 && at < 256 {
				if s := glyph(string(v)); s != "" || f.name(d["Subtype"]) != "Type3" {
					t.simple[at] = s
				}
			}
			at++
		}
	}
	if f.name(d["Subtype"]) == "Type3" {
		if m := f.list(d["FontMatrix"]); len(m) == 6 {
			t.scale = f.number(m[0])
		}
	}
	list := f.list(d["Widths"])
	first := f.integer(d["FirstChar"])
	for i, v := range list[:min(len(list), 256)] {
		t.widths[first+i] = f.number(v)
	}
	if n := f.number(about["MissingWidth"]); n > 0 {
		t.other = n
	}
	if len(list) == 0 {
		known(t, string(base))
	}
}

// builtin reads the encoding in the clear part of an embedded Type 1 font: dup 65 /A put.
func (f *file) builtin(t *font, about dict) {
	s, ok := f.resolve(about["FontFile"]).(stream)
	if !ok {
		return
	}
	b := f.decode(s)
	if i := bytes.Index(b, []byte("eexec")); i >= 0 {
		b = b[:i]
	}
	i := bytes.Index(b, []byte("/Encoding"))
	if i < 0 {
		return
	}
	l := lexer{b: b, at: i, w: f.w}
	var last [2]any
	for range 4096 {
		v := l.token()
		if v == op("put") {
			n, ok1 := last[0].(float64)
			g, ok2 := last[1].(name)
			if ok1 && ok2 && n >= 0 && n < 256 {
				t.simple[int(n)] = glyph(string(g))
			}
		}
		if v == end || v == op("def") || v == op("readonly") {
			return
		}
		last[0], last[1] = last[1], v
	}
}

// charsets are the charsets of CMaps with names (ISO 32000-2 §9.7.5.2), by a part of the name.
var charsets = []struct {
	part string
	e    enc.Encoding
}{
	{"UCS2", unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)}, {"UTF16", unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)},
	{"RKSJ", japanese.ShiftJIS}, {"GBK", simplifiedchinese.GBK}, {"GB-EUC", simplifiedchinese.GBK}, {"GBpc-EUC", simplifiedchinese.GBK}, {"B5", traditionalchinese.Big5},
	{"KSC-EUC", korean.EUCKR}, {"KSCms-UHC", korean.EUCKR}, {"KSCpc-EUC", korean.EUCKR}, {"EUC-H", japanese.EUCJP}, {"EUC-V", japanese.EUCJP},
}

// loadWide reads a composite font (ISO 32000-2 §9.7).
func (f *file) loadWide(t *font, d dict) {
	t.wide, t.other = true, 1000
	switch e := f.resolve(d["Encoding"]).(type) {
	case stream:
		t.lengths = readCMap(f.decode(e), f.w)
	case name:
		for _, c := range charsets {
			if strings.Contains(string(e), c.part) {
				t.charset = c.e
				break
			}
		}
	}
	below := f.list(d["DescendantFonts"])
	if len(below) == 0 {
		return
	}
	sub := f.dict(below[0])
	if n, ok := f.resolve(sub["DW"]).(float64); ok {
		t.other = n
	}
	f.wideWidths(t, f.list(sub["W"]))
	if t.unicode == nil && t.charset == nil {
		if s, ok := f.resolve(f.dict(sub["FontDescriptor"])["FontFile2"]).(stream); ok {
			t.glyphs = trueType(f.decode(s), f.w)
		}
	}
}

// wideWidths reads W: a code and a list, or two codes and a width.
func (f *file) wideWidths(t *font, w []any) {
	for len(w) >= 2 && f.w.spend(16) {
		first := f.integer(w[0])
		if list, ok := f.resolve(w[1]).([]any); ok {
			for i, v := range list[:min(len(list), maxCodes-min(len(t.widths), maxCodes))] {
				t.widths[first+i] = f.number(v)
			}
			w = w[2:]
			continue
		}
		if len(w) < 3 {
			return
		}
		last, width := f.integer(w[1]), f.number(w[2])
		if last-first > 256 { // for a whole script
			t.other = width
		}
		for c := first; c <= min(last, first+256) && len(t.widths) < maxCodes && f.w.spend(8); c++ {
			t.widths[c] = width
		}
		w = w[3:]
	}
}

// letters reads the codes of a string.
func (t *font) letters(s []byte, yield func(letter)) {
	if !t.wide {
		for _, c := range s {
			yield(t.letter(int(c), 1))
		}
		return
	}
	if t.charset != nil && t.unicode == nil {
		out, _ := t.charset.NewDecoder().Bytes(s) // what can't be read becomes U+FFFD
		for _, r := range string(out) {
			w := 1.0
			if r < 0x80 {
				w = 0.5
			}
			yield(letter{text: plain(r), width: w})
		}
		return
	}
	for len(s) > 0 {
		n := min(2, len(s))
		if t.lengths != nil {
			n = t.lengths.size(s)
		}
		c := code(s[:n])
		yield(t.letter(c, n))
		s = s[n:]
	}
}

// letter is what a code of n octets means.
func (t *font) letter(c, n int) letter {
	l, ok := t.known[c]
	if ok {
		return l
	}
	if l = (letter{width: t.width(c), blank: n == 1 && c == ' '}); t.wide {
		l.text = t.spell(c)
	} else {
		l.text = t.narrow(byte(c))
	}
	if len(t.known) < maxKnown {
		t.known[c] = l
	}
	return l
}

func (t *font) width(c int) float64 {
	if w, ok := t.widths[c]; ok {
		return w * t.scale
	}
	return t.other * t.scale
}

// narrow is what a code of one octet means.
func (t *font) narrow(c byte) string {
	if t.unicode != nil {
		if s, ok := t.unicode.lookup(int(c)); ok && s != "" {
			return s
		}
	}
	return t.simple[c]
}

// spell is what a longer code means.
func (t *font) spell(c int) string {
	if t.unicode != nil {
		s, _ := t.unicode.lookup(c)
		return s
	}
	if r, ok := t.glyphs[c]; ok {
		return plain(r)
	}
	return ""
}
