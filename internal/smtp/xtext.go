package smtp

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

var errXtext = errors.New("xtext is malformed")

// DecodeXtext decodes xtext (RFC 3461 §4): "+" and two upper-case hexadecimal
// digits stand for an octet; other characters are "!" to "~" without "+" and "=".
// The result may hold any octet.
func DecodeXtext(s string) (string, error) { return decodeXtext(s, false) }

// decodeXtext decodes xtext. With utf8Too octets from 0x80 stand for themselves, as
// Postfix and RFC 6533's unitext have it.
func decodeXtext(s string, utf8Too bool) (string, error) {
	plain := true
	for i := range len(s) {
		c := s[i]
		if c == '+' {
			plain = false
		} else if c < '!' || c == '=' || c == 0x7f || c >= 0x80 && !utf8Too {
			return "", errXtext
		}
	}
	if plain {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+2 >= len(s) || !isUpperHex(s[i+1]) || !isUpperHex(s[i+2]) {
				return "", errXtext
			}
			c = unhex(s[i+1])<<4 | unhex(s[i+2])
			i += 2
		}
		b = append(b, c)
	}
	return string(b), nil
}

// EncodeXtext encodes any octets as xtext.
func EncodeXtext(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' || c == '+' || c == '=' {
			b.WriteByte('+')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// decodeUTF8Address decodes utf-8-addr-xtext or, with unitext, utf-8-addr-unitext
// (RFC 6533 §3): "\x{" and hexadecimal digits and "}" stand for a character. The
// backslash is always written so, hence no ambiguity.
func decodeUTF8Address(s string, unitext bool) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '\\':
			r, n, err := embeddedChar(s[i:])
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
			i += n
		case c >= utf8.RuneSelf && unitext:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				return "", errXtext
			}
			b.WriteRune(r)
			i += n
		case c < '!' || c > '~' || c == '+' || c == '=':
			return "", errXtext
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), nil
}

// embeddedChar reads an EmbeddedUnicodeChar at the beginning of s and how long it is.
func embeddedChar(s string) (rune, int, error) {
	end := strings.IndexByte(s, '}')
	if !strings.HasPrefix(s, `\x{`) || end < len(`\x{`)+2 || end > len(`\x{`)+6 {
		return 0, 0, errXtext
	}
	digits := s[len(`\x{`):end]
	for i := range len(digits) {
		if !isUpperHex(digits[i]) {
			return 0, 0, errXtext
		}
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	if r := rune(n); err != nil || n == 0 || n > utf8.MaxRune || !utf8.ValidRune(r) {
		return 0, 0, errXtext
	}
	return rune(n), end + 1, nil
}

func isUpperHex(c byte) bool { return '0' <= c && c <= '9' || 'A' <= c && c <= 'F' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'A' + 10
}
