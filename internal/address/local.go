package address

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// isAtext reports whether c is atext of RFC 5322 §3.2.3 (ASCII part).
func isAtext(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c != 0 && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// badRune reports characters that no local-part may carry even with SMTPUTF8:
// C1 controls and the separators that some programs print as line ends. The
// grammar of RFC 6531 §3.3 would admit them; nobody's mailbox needs them.
func badRune(r rune) bool {
	return 0x80 <= r && r <= 0x9f || r == 0x2028 || r == 0x2029
}

// checkLocal judges a local-part's semantic value. The empty local-part, which
// the grammar can write as "", is refused: it names no mailbox, and its key
// would be that of a domain's catch-all.
func checkLocal(local string) error {
	switch {
	case local == "":
		return fmt.Errorf("%w: the local-part before @ is empty", ErrSyntax)
	case len(local) > MaxLongLocalPartOctets:
		return fmt.Errorf("%w: the local-part has %d octets, at most %d are possible", ErrTooLong, len(local), MaxLongLocalPartOctets)
	case !utf8.ValidString(local):
		return fmt.Errorf("%w: the local-part is not UTF-8", ErrSyntax)
	}
	for _, r := range local {
		if r < ' ' || r == 0x7f || badRune(r) {
			return fmt.Errorf("%w: the local-part holds the control character U+%04X", ErrSyntax, r)
		}
	}
	return nil
}

// quoteLocal writes a local-part as Dot-string when that is possible, else as
// Quoted-string (RFC 5321 §4.1.2: quoting only when needed).
func quoteLocal(local string) string {
	if isDotString(local) {
		return local
	}
	var b strings.Builder
	b.Grow(len(local) + 2)
	b.WriteByte('"')
	for i := range len(local) {
		if local[i] == '"' || local[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(local[i])
	}
	b.WriteByte('"')
	return b.String()
}

func isDotString(s string) bool {
	n := dotStringLen(s)
	return n > 0 && n == len(s)
}

// dotStringLen returns the length of the Dot-string that s begins with, 0 if
// there is none. UTF-8 octets count as atext; checkLocal judges them.
func dotStringLen(s string) int {
	atom := false
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 0x80 || isAtext(c):
			atom = true
		case c == '.' && atom:
			atom = false
		case atom:
			return i
		default:
			return 0
		}
	}
	if !atom {
		return 0
	}
	return len(s)
}

// cutLocal takes the Local-part off the front of s and returns its semantic
// value and what follows.
func cutLocal(s string) (local, rest string, err error) {
	if s != "" && s[0] == '"' {
		local, rest, err = cutQuoted(s)
	} else {
		n := dotStringLen(s)
		if n == 0 && s != "" && s[0] != '@' {
			return "", "", fmt.Errorf("%w: the local-part of %q has a character or dot that must be quoted", ErrSyntax, clip(s))
		}
		local, rest = s[:n], s[n:]
	}
	if err != nil {
		return "", "", err
	}
	if err := checkLocal(local); err != nil {
		return "", "", err
	}
	return local, rest, nil
}

// cutQuoted takes a Quoted-string off the front of s, which begins with a quote.
// qtextSMTP and quoted-pairSMTP are %d32-126; UTF-8 octets are left to checkLocal.
func cutQuoted(s string) (value, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c == '\\':
			i++
			if i == len(s) || s[i] < ' ' || s[i] > '~' {
				return "", "", fmt.Errorf("%w: the backslash in %q does not quote a printable character", ErrSyntax, clip(s))
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("%w: the quote in %q is not closed", ErrSyntax, clip(s))
}

// clip keeps error texts short, whatever a peer sent.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
