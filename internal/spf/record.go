package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// kind is a mechanism's.
type kind uint8

const (
	kindAll kind = iota
	kindInclude
	kindA
	kindMX
	kindPTR
	kindIP4
	kindIP6
	kindExists
)

var kinds = [...]string{"all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"}

// term is a directive: a qualifier with a mechanism (RFC 7208 §4.6.1).
type term struct {
	text   string // as written
	kind   kind
	result Status       // what a match is, by the qualifier
	domain string       // domain-spec, its syntax checked; empty: the record's domain
	bits4  uint8        // prefix lengths of a and mx
	bits6  uint8        //
	prefix netip.Prefix // ip4, ip6
}

// Record is a domain's policy, read and found to be without errors of syntax.
type Record struct {
	terms    []term
	redirect string // domain-spec; empty: none, or of no effect because of "all" (RFC 7208 §6.1)
	exp      string // domain-spec; empty: none
}

// ErrSyntax says that a record does not follow the grammar of RFC 7208 §12; what is wrong
// stands beside it.
var ErrSyntax = errors.New("the SPF record is malformed")

const version = "v=spf1"

// isRecord reports whether a TXT record is one of SPF (RFC 7208 §4.5).
func isRecord(txt string) bool {
	return len(txt) >= len(version) && strings.EqualFold(txt[:len(version)], version) &&
		(len(txt) == len(version) || txt[len(version)] == ' ')
}

// ParseRecord reads a record whole: an error anywhere in it makes it void (RFC 7208 §4.6). The
// error wraps ErrSyntax and names the term.
func ParseRecord(txt string) (*Record, error) {
	if !isRecord(txt) {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrSyntax, version)
	}
	if len(txt) > MaxRecordOctets {
		return nil, fmt.Errorf("%w: it has %d octets, more than %d", ErrSyntax, len(txt), MaxRecordOctets)
	}
	rest := txt[len(version):]
	r := &Record{terms: make([]term, 0, strings.Count(rest, " ")+1)}
	var redirected, explained, all bool
	for rest != "" {
		var text string
		text, rest, _ = strings.Cut(rest, " ")
		if text == "" {
			continue
		}
		name, value, modifier := cutModifier(text)
		var err error
		switch {
		case !modifier:
			var t term
			t, err = parseDirective(text)
			r.terms = append(r.terms, t)
			all = all || t.kind == kindAll
		case strings.EqualFold(name, "redirect"):
			err = once(&redirected, value)
			r.redirect = value
		case strings.EqualFold(name, "exp"):
			err = once(&explained, value)
			r.exp = value
		default:
			err = checkMacros(value, true) // ignored, but not its syntax (RFC 7208 §6)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %+q: %w", ErrSyntax, clip(text, maxMechanismOctets), err)
		}
	}
	if all {
		r.redirect = "" // RFC 7208 §5.1
	}
	return r, nil
}

// once checks a modifier that may stand once (RFC 7208 §6).
func once(seen *bool, spec string) error {
	if *seen {
		return errors.New("it stands there twice")
	}
	*seen = true
	return checkDomainSpec(spec)
}

// cutModifier splits name=value; ok is false for what is no modifier (RFC 7208 §4.6.1).
func cutModifier(text string) (name, value string, ok bool) {
	i := strings.IndexAny(text, "=:/")
	if i <= 0 || text[i] != '=' || !isAlpha(text[0]) {
		return "", "", false
	}
	for j := range i {
		if c := text[j]; !isAlnum(c) && c != '-' && c != '_' && c != '.' {
			return "", "", false
		}
	}
	return text[:i], text[i+1:], true
}

// parseDirective reads a qualifier and a mechanism.
func parseDirective(text string) (term, error) {
	t := term{text: text, result: Pass, bits4: 32, bits6: 128}
	rest := text
	if i := strings.IndexByte("+-~?", rest[0]); i >= 0 {
		t.result = [...]Status{Pass, Fail, SoftFail, Neutral}[i]
		rest = rest[1:]
	}
	end := strings.IndexAny(rest, ":/")
	if end < 0 {
		end = len(rest)
	}
	known := false
	for k, name := range kinds {
		if strings.EqualFold(rest[:end], name) {
			t.kind, known = kind(k), true
		}
	}
	if !known {
		return t, errors.New("no such mechanism")
	}
	rest = rest[end:]
	switch t.kind {
	case kindAll:
		if rest != "" {
			return t, errors.New("nothing may follow")
		}
		return t, nil
	case kindIP4, kindIP6:
		return t, t.parseNetwork(rest)
	case kindA, kindMX:
		var err error
		if rest, err = t.cutCIDR(rest); err != nil {
			return t, err
		}
	}
	if rest == "" && (t.kind == kindA || t.kind == kindMX || t.kind == kindPTR) {
		return t, nil
	}
	spec, ok := strings.CutPrefix(rest, ":")
	if !ok {
		return t, errors.New("a domain is missing")
	}
	t.domain = spec
	return t, checkDomainSpec(spec)
}

// parseNetwork reads ":" network [ "/" length ] of ip4 and ip6 (RFC 7208 §5.6).
func (t *term) parseNetwork(rest string) error {
	text, ok := strings.CutPrefix(rest, ":")
	if !ok {
		return errors.New("an address is missing")
	}
	text, length, given := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" || addr.Is4() != (t.kind == kindIP4) {
		return errors.New("not an address of this kind")
	}
	bits := addr.BitLen()
	if given {
		if bits, err = prefixLength(length, bits); err != nil {
			return err
		}
	}
	t.prefix = netip.PrefixFrom(addr, bits)
	return nil
}

// cutCIDR takes a dual-cidr-length from the end of rest (RFC 7208 §5.6).
func (t *term) cutCIDR(rest string) (string, error) {
	digits := func() (string, int) {
		i := len(rest)
		for i > 0 && isDigit(rest[i-1]) {
			i--
		}
		return rest[i:], i
	}
	length, i := digits()
	if i > 1 && rest[i-1] == '/' && rest[i-2] == '/' {
		bits, err := prefixLength(length, 128)
		if err != nil {
			return rest, err
		}
		t.bits6, rest = uint8(bits), rest[:i-2]
		length, i = digits()
	}
	if i > 0 && rest[i-1] == '/' {
		bits, err := prefixLength(length, 32)
		if err != nil {
			return rest, err
		}
		t.bits4, rest = uint8(bits), rest[:i-1]
	}
	return rest, nil
}

// prefixLength reads a number of bits without leading zeros.
func prefixLength(s string, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || len(s) > 3 || !isDigit(s[0]) || len(s) > 1 && s[0] == '0' || n > most {
		return 0, fmt.Errorf("not a prefix length from 0 to %d", most)
	}
	return n, nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isAlpha(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isAlnum(c byte) bool { return isDigit(c) || isAlpha(c) }
