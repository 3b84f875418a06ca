package authres

import (
	"strings"
	"unicode/utf8"
)

// Field is an Authentication-Results field: what the host ID found (RFC 8601 §2.2).
type Field struct {
	ID      string   // authserv-id
	Results []Result // none is "none": nothing was looked at
}

// Result is the outcome of one method.
type Result struct {
	Method     string // "spf", "dkim" …, in lower case
	Value      string // "pass", "fail" …, in lower case
	Reason     string // in words; "" is none
	Properties []Property
}

// Property says what a method looked at.
type Property struct {
	Type  string // ptype: "smtp", "header", "body" or "policy", in lower case; "" where the writer left it out
	Name  string // in lower case
	Value string // unquoted
}

// Get returns the first value of a property; "" when there is none.
func (r Result) Get(ptype, name string) string {
	for _, p := range r.Properties {
		if p.Type == ptype && p.Name == name {
			return p.Value
		}
	}
	return ""
}

// Of yields the results of a method, in their order.
func (f Field) Of(method string) []Result {
	var out []Result
	for _, r := range f.Results {
		if r.Method == method {
			out = append(out, r)
		}
	}
	return out
}

// foldAt is where lines end at the latest, unless one word is longer (RFC 5322 §2.1.1).
const foldAt = 78

// MaxValueOctets is how long a property's value or a reason is written; more is cut.
const MaxValueOctets = 320

// Append appends the field with its name, folded, and its final CRLF. Each result begins a line.
// Values are quoted where they must be; control characters and what is not UTF-8 become "?".
// Methods and names of properties must be keywords; a property without type is left out, as
// the grammar has no place for it. UTF-8 is written as it is (RFC 8616 §4).
func (f Field) Append(b []byte) []byte {
	w := writer{b: append(b, "Authentication-Results:"...), line: len("Authentication-Results:")}
	w.word(string(appendValue(nil, f.ID)) + ";")
	if len(f.Results) == 0 {
		w.word("none")
	}
	for i, r := range f.Results {
		w.fold()
		words := []string{r.Method + "=" + r.Value}
		if r.Reason != "" {
			words = append(words, "reason="+string(appendQuoted(nil, cut(r.Reason))))
		}
		for _, p := range r.Properties {
			if p.Type != "" {
				words = append(words, p.Type+"."+p.Name+"="+string(appendProperty(nil, cut(p.Value))))
			}
		}
		if i+1 < len(f.Results) {
			words[len(words)-1] += ";"
		}
		for _, word := range words {
			w.word(word)
		}
	}
	return append(w.b, "\r\n"...)
}

// writer puts words into lines.
type writer struct {
	b    []byte
	line int // octets of the last line
	open bool
}

// fold begins a line with the next word.
func (w *writer) fold() {
	w.b = append(w.b, "\r\n\t"...)
	w.line, w.open = 8, true
}

func (w *writer) word(s string) {
	switch {
	case w.open:
	case w.line+1+len(s) > foldAt && w.line > 0:
		w.fold()
	default:
		w.b = append(w.b, ' ')
		w.line++
	}
	w.open = false
	w.b = append(w.b, s...)
	w.line += len(s)
}

func cut(s string) string {
	if len(s) <= MaxValueOctets {
		return s
	}
	n := MaxValueOctets
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// appendValue writes a token, or a quoted-string (RFC 2045 §5.1).
func appendValue(b []byte, s string) []byte {
	if isWord(s) {
		return append(b, s...)
	}
	return appendQuoted(b, s)
}

// appendProperty writes a pvalue: a value, or a mailbox or "@" and a domain without quotes
// (RFC 8601 §2.2).
func appendProperty(b []byte, s string) []byte {
	local, domain, ok := strings.Cut(s, "@")
	if ok && (local == "" || isWord(local)) && isDomain(domain) {
		return append(b, s...)
	}
	return appendValue(b, s)
}

// isWord reports a token (RFC 2045 §5.1) without control characters of UTF-8 (U+0080 to U+009F).
func isWord(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || r >= 0x80 && r < 0xa0 || r < 0x80 && !isToken(byte(r)) {
			return false
		}
	}
	return s != ""
}

// isDomain reports labels of letters, digits and hyphens parted by dots.
func isDomain(s string) bool {
	if !isWord(s) || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c == '.' || c == '-' || c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80) {
			return false
		}
	}
	return true
}

func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == utf8.RuneError, r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0:
			b = append(b, '?')
		case r == '"', r == '\\':
			b = append(b, '\\', byte(r))
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
