package classifier

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// sequence reads the words of a text, each alone and with the one before it.
func (b *builder) sequence(kind byte, s string) {
	b.last = 0
	b.fields(s, func(w []byte) { b.pair(kind, b.add(kind, w), w) })
}

// alone reads the words of a short text, without pairs.
func (b *builder) alone(kind byte, s string) {
	b.fields(s, func(w []byte) { b.add(kind, w) })
}

// fields calls found for each word while words are left. What is written as a URL counts as
// the word "url": links are read by themselves.
func (b *builder) fields(s string, found func([]byte)) {
	for b.left > 0 {
		if s = unblanked(s); s == "" {
			return
		}
		end, plain, url := 0, true, false
		for end < len(s) {
			if c := s[end]; c < utf8.RuneSelf {
				if asciiBlank[c] {
					break
				}
				url = url || c == ':' && strings.HasPrefix(s[end:], "://")
				end++
				continue
			}
			r, n := utf8.DecodeRuneInString(s[end:])
			if unicode.IsSpace(r) {
				break
			}
			plain = false
			end += n
		}
		field := s[:end]
		s = s[end:]
		switch {
		case url, len(field) > 4 && field[3] == '.' && strings.EqualFold(field[:3], "www"):
			b.left--
			found([]byte("url"))
		case plain:
			b.splitPlain(field, found)
		default:
			b.split(field, found)
		}
	}
}

// unblanked is a text without the white space at its beginning.
func unblanked(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || !asciiBlank[c] {
			s = s[i:]
			break
		}
	}
	if s == "" || s[0] < utf8.RuneSelf && !asciiBlank[s[0]] {
		return s
	}
	return strings.TrimLeftFunc(s, unicode.IsSpace)
}

// splitPlain is split for a field of ASCII alone, which most are.
func (b *builder) splitPlain(field string, found func([]byte)) {
	b.word = b.word[:0]
	size := 0
	for i := range len(field) {
		c := field[i]
		if !asciiWord[c] {
			size = b.flush(size, found)
			continue
		}
		if size++; size > 2*maxWord {
			continue
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b.word = append(b.word, c)
	}
	b.flush(size, found)
}

// split calls found for each word of a field. Letters, digits and marks make words, and so
// do some signs beside them.
func (b *builder) split(field string, found func([]byte)) {
	b.word = b.word[:0]
	size := 0 // of the word, more than what is kept
	for _, r := range field {
		switch {
		case r < utf8.RuneSelf && asciiWord[r]:
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
		case r < utf8.RuneSelf:
			size = b.flush(size, found)
			continue
		case invisible(r):
			continue
		case ideographic(r):
			size = b.flush(size, found)
			b.word = utf8.AppendRune(b.word[:0], r)
			b.flush(1, found)
			continue
		case unicode.IsLetter(r), unicode.IsMark(r), unicode.IsDigit(r), unicode.Is(unicode.Sc, r):
			r = unicode.ToLower(r)
		default:
			size = b.flush(size, found)
			continue
		}
		if size++; size <= 2*maxWord {
			b.word = utf8.AppendRune(b.word, r)
		}
	}
	b.flush(size, found)
}

// asciiWord says which ASCII characters stand in words.
var asciiWord = func() (t [utf8.RuneSelf]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'$!-.,%" {
		t[c] = true
	}
	return t
}()

// asciiBlank says which ASCII characters are white space.
var asciiBlank = [utf8.RuneSelf]bool{' ': true, '\t': true, '\n': true, '\v': true, '\f': true, '\r': true}

// invisible reports characters that are put into words to hide them from filters.
func invisible(r rune) bool {
	return r == 0xAD || r == 0x34F || r >= 0x200B && r <= 0x200F || r >= 0x2060 && r <= 0x2064 || r == 0xFEFF || r >= 0xFE00 && r <= 0xFE0F
}

// ideographic reports characters of scripts that are written without blanks between words:
// there, each counts as a word.
func ideographic(r rune) bool {
	return r >= 0x0E00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// flush normalises the word that was collected and gives it to found.
func (b *builder) flush(size int, found func([]byte)) int {
	w := trim(b.word)
	b.word = b.word[:0]
	if len(w) == 0 || b.left <= 0 {
		return 0
	}
	digits, letters, ascii := count(w)
	if !ascii {
		b.folded = norm.NFKC.Append(b.folded[:0], w...)
		w = []byte(strings.ToLower(string(b.folded)))
	}
	switch {
	case digits+letters == 0 && ascii && w[0] != '$' && w[0] != '!':
		return 0
	case digits > 0 && letters == 0:
		for i, c := range w {
			if '0' <= c && c <= '9' {
				w[i] = '#'
			}
		}
		if len(w) > 12 {
			w = []byte("############+")
		}
	case len(w) > maxWord:
		w = fmt.Appendf(nil, "long word of %d0 characters", min(size/10, 9))
	}
	b.left--
	found(w)
	return 0
}

// count tells how many digits and letters a word in lower case has, and whether it is of ASCII alone.
func count(w []byte) (digits, letters int, ascii bool) {
	for i, c := range w {
		switch {
		case 'a' <= c && c <= 'z':
			letters++
		case '0' <= c && c <= '9':
			digits++
		case c >= utf8.RuneSelf:
			for _, r := range string(w[i:]) {
				switch {
				case '0' <= r && r <= '9':
					digits++
				case 'a' <= r && r <= 'z', r >= utf8.RuneSelf && !unicode.Is(unicode.Sc, r):
					letters++
				}
			}
			return digits, letters, false
		}
	}
	return digits, letters, true
}

// trim takes signs off a word that belong to the sentence, and more than one exclamation mark.
func trim(w []byte) []byte {
	for len(w) > 0 && ofSentence(w[0]) {
		w = w[1:]
	}
	for n := len(w); n > 0 && (ofSentence(w[n-1]) || n > 1 && w[n-1] == '!' && w[n-2] == '!'); n = len(w) {
		w = w[:n-1]
	}
	return w
}

func ofSentence(c byte) bool { return c == '.' || c == ',' || c == '-' || c == '\'' }

// subject takes off what replies, forwards and lists put before a subject.
func subject(s string) string {
	for range 8 {
		s = strings.TrimSpace(s)
		if i := strings.IndexByte(s, ':'); i >= 2 && i <= 3 && replyWord(s[:i]) {
			s = s[i+1:]
		} else if i := strings.IndexByte(s, ']'); i > 0 && i < 40 && s[0] == '[' {
			s = s[i+1:]
		} else {
			break
		}
	}
	return s
}

func replyWord(s string) bool {
	switch strings.ToLower(s) {
	case "re", "fw", "fwd", "aw", "wg", "odp", "sv", "vs", "rif", "ref":
		return true
	}
	return false
}

// The last lines of a text among which a list's footer is looked for.
const footerLines = 15

// withoutFooter takes the footers of mailing lists off a text: what follows a line of signs
// near its end, if it speaks of the list.
func withoutFooter(s string) string {
	for range 3 {
		cut := footer(s)
		if cut < 0 {
			break
		}
		s = s[:cut]
	}
	return s
}

// footer is where a footer begins; negative for none.
func footer(s string) int {
	s = strings.TrimRightFunc(s, unicode.IsSpace)
	end := len(s)
	for n := 0; n < footerLines && end > 0; n++ {
		begin := strings.LastIndexByte(s[:end], '\n') + 1
		if len(s)-begin > 4<<10 {
			break
		}
		if rule(strings.TrimSpace(s[begin:end])) {
			if tail := strings.ToLower(s[begin:]); strings.Contains(tail, "mailing list") || strings.Contains(tail, "unsubscribe") ||
				strings.Contains(tail, "listinfo") || strings.Contains(tail, "list maintainer") {
				return begin
			}
		}
		end = begin - 1
	}
	return -1
}

// rule reports a line that parts a footer from the text.
func rule(l string) bool {
	return l == "--" || len(l) >= 20 && (strings.Trim(l, "_") == "" || strings.Trim(l, "-") == "" || strings.Trim(l, "-~>") == "")
}
