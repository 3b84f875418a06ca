package address

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of names in the DNS (RFC 1035 §2.3.4): the 255 octets of a whole name
// count length octets and the root, which leaves 253 as it is written.
const (
	maxLabelOctets = 63
	maxNameOctets  = 253
)

// ParseDomain reads a domain name, in A- or U-labels, with or without a final
// dot, or an address literal such as [192.0.2.1] or [IPv6:2001:db8::1]. U-labels
// are mapped and checked by the lookup profile of UTS #46 (IDNA2008,
// non-transitional), which includes NFC. A name that is ASCII and has no A-label
// needs letters, digits and inner hyphens only (RFC 5321 §4.1.2). Errors wrap
// ErrSyntax or ErrTooLong.
func ParseDomain(s string) (Domain, error) {
	if strings.HasPrefix(s, "[") {
		return parseLiteral(s)
	}
	if len(s) > 1 && s[len(s)-1] == '.' {
		s = s[:len(s)-1]
	}
	return parseName(s)
}

// parseName reads a domain name without a final dot.
func parseName(s string) (Domain, error) {
	if s == "" {
		return Domain{}, fmt.Errorf("%w: the domain is empty", ErrSyntax)
	}
	if len(s) > 4*maxNameOctets { // the Unicode form can be longer than its A-labels, but not so much
		return Domain{}, fmt.Errorf("%w: the domain has %d octets, at most %d are possible", ErrTooLong, len(s), maxNameOctets)
	}
	if !utf8.ValidString(s) {
		return Domain{}, fmt.Errorf("%w: the domain is not UTF-8", ErrSyntax)
	}
	ace, ascii := scanName(s)
	name := s
	if !ascii || ace {
		var err error
		if name, err = idna.Lookup.ToASCII(s); err != nil {
			return Domain{}, fmt.Errorf("%w: the domain %q is not a valid internationalised name: %v", ErrSyntax, clip(s), err)
		}
	}
	if err := checkName(name); err != nil {
		return Domain{}, err
	}
	return Domain{name: strings.ToLower(name)}, nil
}

// scanName reports whether some label begins with the ACE prefix, and whether
// the name is ASCII.
func scanName(s string) (ace, ascii bool) {
	ascii = isASCII(s)
	for label := range strings.SplitSeq(s, ".") {
		if len(label) >= 4 && strings.EqualFold(label[:4], "xn--") {
			ace = true
		}
	}
	return ace, ascii
}

// checkName judges an ASCII name by RFC 5321 §4.1.2: sub-domain *("." sub-domain).
func checkName(name string) error {
	if len(name) > maxNameOctets {
		return fmt.Errorf("%w: the domain has %d octets, at most %d are possible", ErrTooLong, len(name), maxNameOctets)
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return fmt.Errorf("%w: the domain %q has an empty label", ErrSyntax, clip(name))
		case len(label) > maxLabelOctets:
			return fmt.Errorf("%w: a label of the domain %q has more than %d octets", ErrTooLong, clip(name), maxLabelOctets)
		case label[0] == '-' || label[len(label)-1] == '-':
			return fmt.Errorf("%w: a label of the domain %q begins or ends with a hyphen", ErrSyntax, clip(name))
		}
		for i := range len(label) {
			c := label[i]
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
				return fmt.Errorf("%w: the domain %q holds the character %q", ErrSyntax, clip(name), rune(c))
			}
		}
	}
	return nil
}

// parseLiteral reads IPv4-address-literal or IPv6-address-literal of RFC 5321
// §4.1.3. Numbers with leading zeros are refused (is 010 eight or ten?), as are
// general literals, for which no tag but IPv6 was ever registered.
func parseLiteral(s string) (Domain, error) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return Domain{}, fmt.Errorf("%w: the address literal %q has no closing bracket", ErrSyntax, clip(s))
	}
	v6 := len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:")
	if v6 {
		inner = inner[5:]
	}
	ip, err := netip.ParseAddr(inner)
	if err != nil || ip.Zone() != "" || ip.Is4() == v6 {
		return Domain{}, fmt.Errorf("%w: the address literal %q must be like [192.0.2.1] or [IPv6:2001:db8::1]", ErrSyntax, clip(s))
	}
	return LiteralDomain(ip), nil
}

// LiteralDomain returns the address literal of ip; the zero Domain for an invalid one.
func LiteralDomain(ip netip.Addr) Domain {
	switch {
	case !ip.IsValid():
		return Domain{}
	case ip.Is4():
		return Domain{name: "[" + ip.String() + "]"}
	}
	return Domain{name: "[IPv6:" + ip.WithZone("").String() + "]"}
}

// String returns the A-label form in lower case, or the literal with brackets.
func (d Domain) String() string { return d.name }

// Unicode returns the domain in U-labels, for people.
func (d Domain) Unicode() string {
	if d.IsLiteral() || !strings.Contains(d.name, "xn--") {
		return d.name
	}
	u, err := idna.Display.ToUnicode(d.name)
	if err != nil {
		return d.name
	}
	return u
}

// IsZero reports whether d is no domain.
func (d Domain) IsZero() bool { return d.name == "" }

// IsLiteral reports whether d is an address literal.
func (d Domain) IsLiteral() bool { return strings.HasPrefix(d.name, "[") }

// LiteralAddr returns the address of a literal.
func (d Domain) LiteralAddr() (netip.Addr, bool) {
	if !d.IsLiteral() {
		return netip.Addr{}, false
	}
	s := strings.TrimPrefix(d.name[1:len(d.name)-1], "IPv6:")
	ip, err := netip.ParseAddr(s)
	return ip, err == nil
}
