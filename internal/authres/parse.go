package authres

import (
	"fmt"
	"strings"
)

// Limits of Parse.
const (
	MaxFieldOctets = 32 << 10 // a value that is longer is not read
	MaxResults     = 100
	MaxProperties  = 100 // of one result
)

// Parse reads the value of an Authentication-Results field, folded or not, and what follows
// the instance of an ARC-Authentication-Results field. It takes what others write: comments
// anywhere, versions, blanks around "=" and ".", properties without a type, values with
// characters that should be quoted. A result that can't be read is passed over up to the next
// semicolon. Errors wrap ErrSyntax: there is no authserv-id, or the field passes a limit, or a
// quoted-string or comment is not closed; what was read until then is returned.
func Parse(value string) (Field, error) {
	if len(value) > MaxFieldOctets {
		return Field{}, fmt.Errorf("%w: field has more than %d octets", ErrSyntax, MaxFieldOctets)
	}
	s := scanner{rest: value}
	var f Field
	id, ok := s.value(";")
	if !ok || id == "" {
		return Field{}, ErrSyntax
	}
	f.ID = id
	s.until() // the version
	for s.semicolon() {
		if len(f.Results) == MaxResults {
			return f, fmt.Errorf("%w: more than %d results", ErrSyntax, MaxResults)
		}
		if r, ok := s.result(); ok {
			f.Results = append(f.Results, r)
		}
		s.until()
	}
	if s.broken {
		return f, fmt.Errorf("%w: quotation or comment is not closed", ErrSyntax)
	}
	return f, nil
}

// scanner reads a value from left to right.
type scanner struct {
	rest   string
	broken bool // a comment or quoted-string is not closed
}

// skip passes blanks and comments.
func (s *scanner) skip() {
	rest, ok := skip(s.rest)
	s.rest = rest
	s.broken = s.broken || !ok
}

// until passes everything in front of the next semicolon, minding quotes and comments.
func (s *scanner) until() {
	for s.skip(); s.rest != "" && s.rest[0] != ';'; s.skip() {
		if s.rest[0] == '"' {
			s.quoted()
		} else {
			s.rest = s.rest[1:]
		}
	}
}

// take passes one octet, if it comes next.
func (s *scanner) take(c byte) bool {
	s.skip()
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) semicolon() bool { return s.take(';') }

// keyword reads letters, digits, hyphens and underscores, in lower case.
func (s *scanner) keyword() string {
	s.skip()
	n := 0
	for n < len(s.rest) {
		c := s.rest[n]
		if !(c == '-' || c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z') {
			break
		}
		n++
	}
	var word string
	word, s.rest = s.rest[:n], s.rest[n:]
	return strings.ToLower(word)
}

// quoted reads a quoted-string; one without end is all that follows.
func (s *scanner) quoted() string {
	var b strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; c {
		case '"':
			s.rest = s.rest[i+1:]
			return b.String()
		case '\r', '\n': // of folding
		case '\\':
			if i++; i < len(s.rest) {
				b.WriteByte(s.rest[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	s.rest, s.broken = "", true
	return b.String()
}

// value reads words and quoted-strings that touch, as in "a b"@example.org, up to a blank, a
// comment, a semicolon or an octet of stop. Not ok: there is none.
func (s *scanner) value(stop string) (string, bool) {
	s.skip()
	var b strings.Builder
	read := false
	for s.rest != "" {
		c := s.rest[0]
		if c == '"' {
			b.WriteString(s.quoted())
			read = true
			continue
		}
		if c <= ' ' || c == 0x7f || c == ';' || c == '(' || strings.IndexByte(stop, c) >= 0 {
			break
		}
		b.WriteByte(c)
		s.rest = s.rest[1:]
		read = true
	}
	return b.String(), read
}

// result reads method, version, value, reason and properties (RFC 8601 §2.2). Not ok: "none", or
// what is no result.
func (s *scanner) result() (r Result, ok bool) {
	if r.Method = s.keyword(); r.Method == "" {
		return r, false
	}
	if s.take('/') {
		s.keyword()
	}
	if !s.take('=') {
		return r, false
	}
	if r.Value = s.keyword(); r.Value == "" {
		return r, false
	}
	for len(r.Properties) < MaxProperties && s.property(&r) {
	}
	return r, true
}

// property reads the reason or one property into r, and reports whether more may follow.
func (s *scanner) property(r *Result) bool {
	var p Property
	p.Name = s.keyword()
	if p.Name == "" {
		return false
	}
	if s.take('.') {
		p.Type = p.Name
		if p.Name = s.keyword(); p.Name == "" {
			return false
		}
	}
	if !s.take('=') {
		return false
	}
	var ok bool
	if p.Value, ok = s.value(""); !ok {
		return false
	}
	if p.Type == "" && p.Name == "reason" {
		r.Reason = p.Value
		return true
	}
	r.Properties = append(r.Properties, p)
	return true
}
