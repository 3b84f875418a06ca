package spf

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// macro is %{letter transformers delimiters} (RFC 7208 §7.1).
type macro struct {
	letter  byte // in lower case
	escape  bool // it was in upper case: URL-escaped
	parts   int  // right-hand parts to keep; 0: all
	reverse bool
	delims  string // empty: "."
}

// Errors of macro-strings.
var (
	errPercent = errors.New("a % begins no macro")
	errMacro   = errors.New("no such macro")
	errLiteral = errors.New("it holds octets that are not visible ASCII")
)

const delimiters = ".-+,/_="

// cutMacro takes what begins with % from s. literal stands for it when m has no letter.
func cutMacro(s string, explaining bool) (m macro, literal, rest string, err error) {
	if len(s) < 2 {
		return m, "", "", errPercent
	}
	switch s[1] {
	case '%':
		return m, "%", s[2:], nil
	case '_':
		return m, " ", s[2:], nil
	case '-':
		return m, "%20", s[2:], nil
	case '{':
	default:
		return m, "", "", errPercent
	}
	body, rest, closed := strings.Cut(s[2:], "}")
	if !closed || body == "" {
		return m, "", "", errMacro
	}
	m.letter, m.escape = body[0]|0x20, body[0] < 'a'
	known := "slodiphv"
	if explaining {
		known = "slodiphvcrt" // RFC 7208 §7.2
	}
	if !isAlpha(body[0]) || strings.IndexByte(known, m.letter) < 0 {
		return m, "", "", errMacro
	}
	body = body[1:]
	digits := 0
	for digits < len(body) && isDigit(body[digits]) {
		m.parts = min(m.parts*10+int(body[digits]-'0'), 1<<16)
		digits++
	}
	if digits > 0 && m.parts == 0 {
		return m, "", "", errMacro // RFC 7208 §7.3: nonzero
	}
	body = body[digits:]
	if body != "" && body[0]|0x20 == 'r' {
		m.reverse, body = true, body[1:]
	}
	if strings.Trim(body, delimiters) != "" {
		return m, "", "", errMacro
	}
	m.delims = body
	return m, "", rest, nil
}

// checkMacros checks a macro-string.
func checkMacros(s string, explaining bool) error {
	for s != "" {
		if c := s[0]; c != '%' {
			if c <= ' ' || c > '~' {
				return errLiteral
			}
			s = s[1:]
			continue
		}
		var err error
		if _, _, s, err = cutMacro(s, explaining); err != nil {
			return err
		}
	}
	return nil
}

// checkDomainSpec checks a domain-spec: a macro-string that ends in a macro or in a dot and a
// top label (RFC 7208 §7.1).
func checkDomainSpec(s string) error {
	if s == "" {
		return errors.New("a domain is missing")
	}
	end := 0 // behind the last macro
	for i := 0; i < len(s); {
		if c := s[i]; c != '%' {
			if c <= ' ' || c > '~' {
				return errLiteral
			}
			i++
			continue
		}
		_, _, rest, err := cutMacro(s[i:], false)
		if err != nil {
			return err
		}
		i = len(s) - len(rest)
		end = i
	}
	if end == len(s) {
		return nil
	}
	tail := strings.TrimSuffix(s[end:], ".")
	dot := strings.LastIndexByte(tail, '.')
	if dot < 0 || !isTopLabel(tail[dot+1:]) {
		return errors.New("the domain does not end in a top-level domain")
	}
	return nil
}

// isTopLabel: letters, digits and hyphens, not all digits, no hyphen at an end.
func isTopLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	digits := true
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '-' {
			return false
		}
		digits = digits && isDigit(s[i])
	}
	return !digits
}

// expand writes a macro-string, whose syntax was checked, with its macros filled in. Of what
// grows beyond need the left side is dropped when tail is set, else the right.
func (e *evaluation) expand(ctx context.Context, s, domain string, explaining, tail bool) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	b := make([]byte, 0, 128)
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			i = len(s)
		}
		b, s = append(b, s[:i]...), s[i:]
		if s == "" {
			break
		}
		m, literal, rest, err := cutMacro(s, explaining)
		if err != nil {
			return "", err
		}
		s = rest
		if m.letter == 0 {
			b = append(b, literal...)
		} else {
			value, err := e.value(ctx, m.letter, domain)
			if err != nil && explaining {
				value, err = "unknown", nil // RFC 7208 §7.3 of %{p}; the result stands already
			}
			if err != nil {
				return "", err
			}
			b = m.appendTo(b, value)
		}
		if len(b) > maxTextRecordOctets {
			if !tail {
				break
			}
			b = append(b[:0], b[len(b)-512:]...) // more than a name's octets are cut off anyway
		}
	}
	return string(b), nil
}

// appendTo writes the macro's value as its transformers say (RFC 7208 §7.3).
func (m macro) appendTo(b []byte, value string) []byte {
	if m.parts != 0 || m.reverse || m.delims != "" {
		delims := m.delims
		if delims == "" {
			delims = "."
		}
		parts := make([]string, 0, 8)
		for from := 0; ; {
			i := strings.IndexAny(value[from:], delims)
			if i < 0 {
				parts = append(parts, value[from:])
				break
			}
			parts = append(parts, value[from:from+i])
			from += i + 1
		}
		if m.reverse {
			slices.Reverse(parts)
		}
		if m.parts > 0 && m.parts < len(parts) {
			parts = parts[len(parts)-m.parts:]
		}
		value = strings.Join(parts, ".")
	}
	if !m.escape {
		return append(b, value...)
	}
	for i := range len(value) { // RFC 3986 §2.3: all but unreserved characters
		c := value[i]
		if isAlnum(c) || c == '-' || c == '.' || c == '_' || c == '~' {
			b = append(b, c)
			continue
		}
		b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
	}
	return b
}

const hexDigits = "0123456789ABCDEF"

// value is what a macro letter stands for (RFC 7208 §7.2).
func (e *evaluation) value(ctx context.Context, letter byte, domain string) (string, error) {
	switch letter {
	case 's':
		return e.local + "@" + e.senderDomain, nil
	case 'l':
		return e.local, nil
	case 'o':
		return e.senderDomain, nil
	case 'd':
		return domain, nil
	case 'i':
		return e.dotted(), nil
	case 'p':
		return e.validatedName(ctx, domain)
	case 'v':
		if e.ip.Is4() {
			return "in-addr", nil
		}
		return "ip6", nil
	case 'h':
		return e.helo, nil
	case 'c':
		return e.ip.String(), nil
	case 'r':
		return e.receiver, nil
	case 't':
		return strconv.FormatInt(e.cfg.Now().Unix(), 10), nil
	}
	return "", errMacro
}

// dotted is the address as numbers between dots: octets of IPv4, half octets of IPv6.
func (e *evaluation) dotted() string {
	if e.ip.Is4() {
		return e.ip.String()
	}
	octets := e.ip.As16()
	b := make([]byte, 0, 64)
	for i, o := range octets {
		if i > 0 {
			b = append(b, '.')
		}
		b = append(b, hexDigits[o>>4], '.', hexDigits[o&15])
	}
	return string(b)
}
