// Package authres reads the Authentication-Results field as far as trust goes:
// which authserv-id it claims (RFC 8601 §2.2, §5).
package authres

import (
	"errors"
	"strings"

	"poczta.example/poczta/internal/address"
)

// ErrSyntax is returned by ParseID for a field that names no authserv-id.
var ErrSyntax = errors.New("authserv-id is missing or malformed")

// ParseID returns the authserv-id of an unfolded field value, unquoted, without
// the comments that may stand around it. Absent is an error: ErrSyntax.
func ParseID(value string) (string, error) {
	rest, ok := skip(value)
	if !ok || rest == "" {
		return "", ErrSyntax
	}
	if rest[0] == '"' {
		return quoted(rest)
	}
	n := 0
	for n < len(rest) && isToken(rest[n]) {
		n++
	}
	if n == 0 {
		return "", ErrSyntax
	}
	return rest[:n], nil
}

// Claims reports whether a field value claims authserv-id id, so that a border
// must remove it (RFC 8601 §5). Names are compared as domains, in A-labels and
// without regard to case. A field that can't be read claims every id: what we
// doubt, others may read otherwise.
func Claims(value, id string) bool {
	got, err := ParseID(value)
	if err != nil {
		return true
	}
	if strings.EqualFold(strings.TrimSuffix(got, "."), id) {
		return true
	}
	a, errA := address.ParseDomain(got)
	b, errB := address.ParseDomain(id)
	return errA == nil && errB == nil && a == b
}

// isToken reports an octet of a token (RFC 2045 §5.1) or of UTF-8 (RFC 8616 §3).
func isToken(c byte) bool {
	return c > ' ' && c != 0x7f && strings.IndexByte(`()<>@,;:\"/[]?=`, c) < 0
}

// skip passes blanks and nested comments.
func skip(s string) (rest string, ok bool) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '(':
			depth++
		case depth > 0 && c == '\\':
			i++
		case depth > 0 && c == ')':
			depth--
		case depth > 0, c == ' ', c == '\t', c == '\r', c == '\n':
		default:
			return s[i:], true
		}
	}
	return "", depth == 0
}

// quoted reads a quoted-string.
func quoted(s string) (string, error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			if b.Len() == 0 {
				return "", ErrSyntax
			}
			return b.String(), nil
		case '\\':
			i++
			if i < len(s) {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return "", ErrSyntax
}
