// Package search is the language of a person's searches as values: how words are folded, and
// what a person may write. It does no I/O.
package search

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxWord is how many octets of a word count, in the index and in a search.
const MaxWord = 40

// Fold turns text into words parted by blanks, at most limit octets of them: lower case, without
// diacritics (also those that no composition has: ł, ø, ß), everything else that is neither
// letter nor digit left out. Each character of Chinese and Japanese is a word, since nothing parts theirs.
func Fold(text string, limit int) string {
	return string(AppendFold(make([]byte, 0, min(len(text), limit)), text, limit))
}

// AppendFold is Fold, appended to dst behind a blank; limit bounds all of dst.
func AppendFold(dst []byte, text string, limit int) []byte {
	f := folder{out: dst, limit: limit}
	f.blank = len(dst) > 0
	for len(text) > 0 && !f.full {
		n := f.ascii(text)
		text = text[n:]
		end := n
		for end = 0; end < len(text) && text[end] >= utf8.RuneSelf; end++ {
		}
		if end == 0 {
			continue
		}
		// what follows in ASCII does not combine with what stands before it
		f.foreign(text[:end])
		text = text[end:]
	}
	return f.out
}

// folder is a text on its way through Fold.
type folder struct {
	out   []byte
	limit int
	blank bool // a blank is due in front of the next word
	word  int  // octets of the word at work
	full  bool
}

// ascii takes the ASCII that text begins with.
func (f *folder) ascii(text string) int {
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= utf8.RuneSelf || f.full:
			return i
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			f.octet(c)
		case c >= 'A' && c <= 'Z':
			f.octet(c | 0x20)
		case c == '\'' && f.word > 0 && i+1 < len(text) && isLetter(text[i+1]): // don't is one word
		default:
			f.end()
		}
	}
	return len(text)
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// octet adds an ASCII letter or digit.
func (f *folder) octet(c byte) {
	if !f.begin(1) || f.word >= MaxWord {
		return
	}
	f.out = append(f.out, c)
	f.word++
}

// begin makes room for n octets, with the blank that is due.
func (f *folder) begin(n int) bool {
	if len(f.out)+n+1 > f.limit {
		f.full = true
		return false
	}
	if f.blank {
		f.out = append(f.out, ' ')
		f.blank, f.word = false, 0
	}
	return true
}

// end ends the word.
func (f *folder) end() {
	if f.word > 0 {
		f.blank, f.word = true, 0
	}
}

// foreign takes text beyond ASCII.
func (f *folder) foreign(text string) {
	var it norm.Iter
	it.InitString(norm.NFKD, text)
	for !it.Done() && !f.full {
		for _, r := range string(it.Next()) {
			f.rune(r)
		}
	}
}

// rune takes a character, decomposed.
func (f *folder) rune(r rune) {
	if r < utf8.RuneSelf { // decomposed from what is beyond
		f.ascii(string(r))
		return
	}
	if s, ok := plain[r]; ok {
		f.ascii(s)
		return
	}
	switch {
	case unicode.Is(unicode.Mn, r), invisible(r):
		return
	case r == '’' && f.word > 0:
		return
	case ideographic(r):
		f.end()
		f.letter(r)
		f.end()
	case unicode.IsLetter(r), unicode.IsDigit(r), unicode.Is(unicode.Mc, r):
		f.letter(unicode.ToLower(r))
	default:
		f.end()
	}
}

// letter adds a letter beyond ASCII.
func (f *folder) letter(r rune) {
	n := utf8.RuneLen(r)
	if n < 0 || !f.begin(n) || f.word+n > MaxWord {
		return
	}
	f.out = utf8.AppendRune(f.out, r)
	f.word += n
}

// invisible are characters that are not seen and split words.
func invisible(r rune) bool {
	switch r {
	case '\u00ad', '\u034f', '\u180e', '\u200b', '\u200c', '\u200d', '\u200e', '\u200f', '\u2060', '\ufeff':
		return true
	}
	return false
}

// ideographic reports scripts that put no blanks between words.
func ideographic(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana)
}

// plain are letters that Unicode does not decompose but people do.
var plain = map[rune]string{
	'ł': "l", 'Ł': "l", 'ø': "o", 'Ø': "o", 'đ': "d", 'Đ': "d", 'ð': "d", 'Ð': "d", 'ħ': "h", 'Ħ': "h",
	'ı': "i", 'ß': "ss", 'ẞ': "ss", 'æ': "ae", 'Æ': "ae", 'œ': "oe", 'Œ': "oe", 'þ': "th", 'Þ': "th", 'ŧ': "t", 'Ŧ': "t",
}

// Words are the words of text, folded.
func Words(text string) []string { return strings.Fields(Fold(text, 1<<16)) }
