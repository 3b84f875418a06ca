package smtp

import "strings"

// Extensions is the set of extensions whose parameters MAIL and RCPT may carry.
type Extensions uint16

// The members of Extensions.
const (
	ExtSize          Extensions = 1 << iota // RFC 1870
	Ext8BitMIME                             // RFC 6152
	ExtSMTPUTF8                             // RFC 6531
	ExtDSN                                  // RFC 3461
	ExtAuth                                 // RFC 4954
	ExtRequireTLS                           // RFC 8689
	ExtFutureRelease                        // RFC 4865
	ExtDeliverBy                            // RFC 2852
	ExtPriority                             // RFC 6710
	ExtXVERP                                // of Postfix, no RFC
)

// maxParams bounds the parameters of a command; all that we know are fewer.
const maxParams = 16

// param is one esmtp-param (RFC 5321 §4.1.2).
type param struct {
	keyword string // upper case
	value   string
	has     bool // whether "=" stood there
}

// eachParam calls fn for each parameter in s, which is what follows a path. It
// refuses a malformed or repeated one. The order of parameters has no meaning.
func eachParam(s string, fn func(param) error) error {
	if s == "" {
		return nil
	}
	if s[0] != ' ' {
		return Refuse(501, 5, 4, "A blank must part the path from what follows")
	}
	var seen [maxParams]string
	n := 0
	for word := range strings.FieldsSeq(s) {
		p := param{}
		p.keyword, p.value, p.has = strings.Cut(word, "=")
		if !isKeyword(p.keyword) || p.has && !isValue(p.value) && !strings.EqualFold(p.keyword, verpKeyword) {
			return Refuse(501, 5, 4, "A parameter is malformed")
		}
		p.keyword = strings.ToUpper(p.keyword)
		if n == maxParams {
			return Refuse(501, 5, 4, "Too many parameters")
		}
		for _, k := range seen[:n] {
			if k == p.keyword {
				return Refuse(501, 5, 4, "Parameter "+p.keyword+" is repeated")
			}
		}
		seen[n] = p.keyword
		n++
		if err := fn(p); err != nil {
			return err
		}
	}
	return nil
}

// isKeyword reports whether s is an esmtp-keyword.
func isKeyword(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (c != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

// isValue reports whether s is an esmtp-value; UTF-8 is let through for ORCPT
// (RFC 6531 §3.3 widens esmtp-value).
func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < '!' || c == '=' || c == 0x7f {
			return false
		}
	}
	return s != ""
}

// badValue is the refusal of a known parameter's value.
func badValue(p param, want string) error {
	return Refuse(501, 5, 4, "Parameter "+p.keyword+" must be "+want)
}

// unknownParam is the refusal of a parameter that is not on offer (RFC 5321 §4.1.1.11).
func unknownParam(p param) error {
	k := p.keyword
	if len(k) > 32 {
		k = k[:32]
	}
	return Refuse(555, 5, 4, "Parameter "+k+" is not recognised")
}
