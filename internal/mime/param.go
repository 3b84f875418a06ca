package mime

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// maxParams bounds the parameters of one field, segments of RFC 2231 counted one by one.
const maxParams = 1000

// token reports whether s is a token (RFC 2045 §5.1), UTF-8 allowed.
func token(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// cutValue parts a field's value into its first word, without comments, and the parameters.
// A semicolon that is missing is found by the parameter behind it.
func cutValue(s string) (word, params string, bad bool) {
	if strings.IndexByte(s, '(') >= 0 {
		s = dropComments(s)
	}
	s = strings.TrimSpace(s)
	word, params, _ = strings.Cut(s, ";")
	word = strings.TrimRight(word, " \t")
	if eq := strings.IndexByte(word, '='); eq >= 0 {
		name := strings.TrimRight(word[:eq], " \t")
		if blank := strings.LastIndexAny(name, " \t"); blank >= 0 {
			return strings.TrimSpace(word[:blank]), s[blank:], true
		}
	}
	return word, params, false
}

// dropComments removes comments (RFC 5322 §3.2.2) in front of the first parameter and between
// parameters; those in values stay, since file names have parentheses.
func dropComments(s string) string {
	var b strings.Builder
	depth, quoted, value := 0, false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && (quoted || depth > 0) && i+1 < len(s):
			if depth == 0 {
				b.WriteString(s[i : i+2])
			}
			i++
			continue
		case depth > 0:
			if c == '(' {
				depth++
			} else if c == ')' {
				depth--
			}
			continue
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(' && !value:
			depth++
			continue
		case c == '=':
			value = true
		case c == ';':
			value = false
		}
		b.WriteByte(c)
	}
	return b.String()
}

// param is a parameter as written.
type param struct {
	name, value string
	quoted      bool
}

// nextParam reads one parameter; ok is false at the end.
func nextParam(s string) (p param, rest string, bad, ok bool) {
	s = strings.TrimLeft(s, "; \t\r\n")
	if s == "" {
		return param{}, "", false, false
	}
	eq := strings.IndexAny(s, "=;")
	if eq < 0 {
		return param{}, "", true, false
	}
	p.name = strings.ToLower(strings.TrimSpace(s[:eq]))
	if s[eq] == ';' {
		return param{}, s[eq+1:], true, true
	}
	s = strings.TrimLeft(s[eq+1:], " \t\r\n")
	if s != "" && s[0] == '"' {
		p.quoted = true
		p.value, rest, bad = quoted(s)
		return p, rest, bad, true
	}
	end, fine := bareEnd(s)
	p.value = strings.TrimSpace(s[:end])
	if open := strings.Index(p.value, " ("); open >= 0 && p.name != "name" && p.name != "filename" {
		p.value = strings.TrimSpace(p.value[:open])
	}
	return p, s[end:], !fine, true
}

// bareEnd returns where a value without quotes ends: at a semicolon, or at a blank behind which
// another parameter begins; that is not fine.
func bareEnd(s string) (end int, fine bool) {
	end = strings.IndexByte(s, ';')
	if end < 0 {
		end = len(s)
	}
	for at := 0; ; {
		i := strings.IndexAny(s[at:end], " \t")
		if i < 0 {
			return end, true
		}
		at += i + 1
		rest := s[at:end]
		if eq := strings.IndexByte(rest, '='); eq > 0 && token(strings.TrimSpace(rest[:eq])) {
			return at, false
		} else if eq < 0 {
			return end, true
		}
	}
}

// quoted reads a quoted-string; one that is not closed goes to the end.
func quoted(s string) (value, rest string, bad bool) {
	if i := strings.IndexAny(s[1:], `"\`); i >= 0 && s[i+1] == '"' {
		return s[1 : i+1], s[i+2:], false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], false
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\' || s[i+1] == '\''):
			i++
			b.WriteByte(s[i])
		default: // a backslash in front of anything else is that of a path: C:\file
			b.WriteByte(c)
		}
	}
	return b.String(), "", true
}

// segment is a piece of a parameter of RFC 2231.
type segment struct {
	name, value string
	n           int // -1: whole
	encoded     bool
}

// readParams reads the parameters of a field. raw is the value of the one named so, undecoded.
func readParams(s, name string) (params map[string]string, raw string, defects Defects) {
	var segments []segment
	for n := 0; ; n++ {
		p, rest, bad, ok := nextParam(s)
		if bad || n == maxParams {
			defects |= BadParam
		}
		if !ok || n == maxParams {
			break
		}
		s = rest
		if p.name == "" || p.value == "" && !p.quoted {
			if p.name != "" {
				defects |= BadParam
			}
			continue
		}
		if strings.IndexByte(p.name, '*') >= 0 {
			segments = append(segments, cutSegment(p))
			continue
		}
		if params == nil {
			params = make(map[string]string, 4)
		}
		if _, twice := params[p.name]; twice {
			defects |= RepeatedParam
			continue
		}
		if p.name == name {
			raw = p.value
		}
		params[p.name] = paramValue(p.value)
	}
	if len(segments) > 0 {
		params = joinSegments(segments, params)
		if raw == "" {
			raw = params[name]
		}
	}
	return params, raw, defects
}

// paramValue decodes the encoded-words that many programs put into parameters, against
// RFC 2047 §5.
func paramValue(s string) string {
	if strings.Contains(s, "=?") {
		return DecodeWords(s)
	}
	return toUTF8(s)
}

// cutSegment reads name*, name*1, name*1* (RFC 2231 §3, §4).
func cutSegment(p param) segment {
	name, rest, _ := strings.Cut(p.name, "*")
	s := segment{name: strings.TrimSpace(name), value: p.value, n: -1}
	rest = strings.TrimSpace(rest)
	if number, ext := strings.CutSuffix(rest, "*"); ext || rest == "" {
		s.encoded = true
		rest = number
	}
	if n, err := strconv.Atoi(strings.TrimSpace(strings.TrimRight(rest, "*"))); err == nil && n >= 0 {
		s.n = n
	}
	return s
}

// joinSegments puts the segments of each parameter together and decodes them.
func joinSegments(segments []segment, params map[string]string) map[string]string {
	slices.SortStableFunc(segments, func(a, b segment) int {
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.n, b.n))
	})
	if params == nil {
		params = make(map[string]string, 4)
	}
	for len(segments) > 0 {
		n := 1
		for n < len(segments) && segments[n].name == segments[0].name {
			n++
		}
		if name := segments[0].name; name != "" {
			params[name] = joinSegment(segments[:n]) // preferred to the plain one, which is for older programs
		}
		segments = segments[n:]
	}
	return params
}

func joinSegment(segments []segment) string {
	var b []byte
	charset := ""
	for i, s := range segments {
		v := s.value
		if s.encoded {
			c, rest, ok := strings.Cut(v, "'")
			switch _, value, lang := strings.Cut(rest, "'"); {
			case ok && i == 0 && lang:
				charset, v = strings.ToLower(c), value
			case ok && i > 0 && charset != "" && strings.EqualFold(c, charset): // as some programs repeat it
				v = rest
			}
			b = appendUnescaped(b, v)
			continue
		}
		b = append(b, v...)
	}
	return decode(charset, b)
}

// appendUnescaped undoes %XX; what is no hexadecimal number stays.
func appendUnescaped(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if hi, lo := unhex(s[i+1]), unhex(s[i+2]); hi >= 0 && lo >= 0 {
				b = append(b, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return b
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c - 'A' + 10)
	case 'a' <= c && c <= 'f':
		return int(c - 'a' + 10)
	}
	return -1
}
