package mime

import (
	"strings"
)

// DecodeWords decodes the encoded-words of a field's value (RFC 2047), tolerantly: blanks
// and broken padding in them, words glued to text, characters split between two words, and
// unknown charsets are read as well as can be. The result is UTF-8. Linear in len(s).
func DecodeWords(s string) string {
	at := strings.Index(s, "=?")
	if at < 0 {
		return toUTF8(s)
	}
	d := wordDecoder{}
	for at >= 0 {
		w, n, ok := cutWord(s[at:])
		if !ok {
			d.text(s[:at+2])
			s = s[at+2:]
		} else {
			d.text(s[:at])
			d.word(w)
			s = s[at+n:]
		}
		at = strings.Index(s, "=?")
	}
	d.text(s)
	d.flush()
	return d.out.String()
}

// word is an encoded-word.
type word struct {
	charset, text string
	base64        bool
}

// cutWord reads an encoded-word at the beginning of s, which begins with "=?".
func cutWord(s string) (w word, n int, ok bool) {
	end := strings.IndexByte(s[2:min(len(s), 80)], '?')
	if end <= 0 {
		return word{}, 0, false
	}
	w.charset, _, _ = strings.Cut(strings.ToLower(s[2:2+end]), "*") // RFC 2231 §5
	rest := s[2+end+1:]
	if len(rest) < 2 || rest[1] != '?' || strings.ContainsAny(w.charset, " \t=<>") {
		return word{}, 0, false
	}
	switch rest[0] {
	case 'b', 'B':
		w.base64 = true
	case 'q', 'Q':
	default:
		return word{}, 0, false
	}
	rest = rest[2:]
	stop := strings.Index(rest[:min(len(rest), maxWordOctets)], "?=")
	if stop < 0 {
		return word{}, 0, false
	}
	w.text = rest[:stop]
	return w, len(s) - len(rest) + stop + 2, true
}

// maxWordOctets bounds an encoded-word; RFC 2047 §2 allows 75, programs write longer ones.
const maxWordOctets = 8192

// wordDecoder joins words of one charset before they are decoded.
type wordDecoder struct {
	out     strings.Builder
	charset string
	raw     []byte // of words in that charset
	behind  bool   // a word was last
	blank   string // blanks behind a word, which vanish in front of the next
}

// text takes what stands between words.
func (d *wordDecoder) text(s string) {
	if s == "" {
		return
	}
	if d.behind && strings.Trim(s, " \t\r\n") == "" {
		d.blank = s
		return
	}
	d.flush()
	d.out.WriteString(d.blank)
	d.out.WriteString(toUTF8(s))
	d.blank, d.behind = "", false
}

func (d *wordDecoder) word(w word) {
	d.blank = "" // RFC 2047 §6.2: blanks between words vanish
	if d.charset != w.charset {
		d.flush()
		d.charset = w.charset
	}
	d.behind = true
	if w.base64 {
		d.raw = appendBase64(d.raw, w.text)
	} else {
		d.raw = appendQ(d.raw, w.text)
	}
}

// flush decodes the words that were gathered. A blank behind the last word is kept for text.
func (d *wordDecoder) flush() {
	if len(d.raw) > 0 {
		d.out.WriteString(decode(d.charset, d.raw))
		d.raw = d.raw[:0]
	}
}

// appendQ decodes the Q encoding (RFC 2047 §4.2).
func appendQ(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			b = append(b, ' ')
		case c == '=' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			b = append(b, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		case c == '\r' || c == '\n':
		default:
			b = append(b, c)
		}
	}
	return b
}

// appendBase64 decodes base64, passing over what does not belong there.
func appendBase64(b []byte, s string) []byte {
	var bits uint32
	n := 0
	for i := range len(s) {
		v := sextet(s[i])
		if v < 0 {
			if s[i] == '=' {
				bits, n = 0, 0
			}
			continue
		}
		bits, n = bits<<6|uint32(v), n+6
		if n >= 8 {
			n -= 8
			b = append(b, byte(bits>>n))
		}
	}
	return b
}
