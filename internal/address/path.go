package address

import (
	"fmt"
	"strings"
)

// parseMailbox reads Local-part "@" ( Domain / address-literal ).
func parseMailbox(s string, utf8 bool) (Address, error) {
	if !utf8 && !isASCII(s) {
		return Address{}, fmt.Errorf("%w: %q is not ASCII", ErrNonASCII, clip(s))
	}
	local, rest, err := cutLocal(s)
	if err != nil {
		return Address{}, err
	}
	host, ok := strings.CutPrefix(rest, "@")
	if !ok {
		return Address{}, fmt.Errorf("%w: %q must be local-part@domain", ErrSyntax, clip(s))
	}
	d, err := parseHost(host)
	if err != nil {
		return Address{}, err
	}
	return Address{local: local, domain: d}, nil
}

// parseHost reads a domain as the envelope's grammar has it: no final dot.
func parseHost(s string) (Domain, error) {
	if strings.HasPrefix(s, "[") {
		return parseLiteral(s)
	}
	return parseName(s)
}

// unwrap takes off the brackets and a source route, which is parsed and ignored
// (RFC 5321 §4.1.1.3 and appendix C).
func unwrap(s string, utf8 bool) (string, error) {
	if len(s) > MaxLongPathOctets {
		return "", fmt.Errorf("%w: the path has %d octets, at most %d are possible", ErrTooLong, len(s), MaxLongPathOctets)
	}
	if len(s) < 2 || s[0] != '<' || s[len(s)-1] != '>' {
		return "", fmt.Errorf("%w: the path %q must stand in angle brackets", ErrSyntax, clip(s))
	}
	if !utf8 && !isASCII(s) {
		return "", fmt.Errorf("%w: %q is not ASCII", ErrNonASCII, clip(s))
	}
	s = s[1 : len(s)-1]
	if !strings.HasPrefix(s, "@") {
		return s, nil
	}
	route, mailbox, ok := cutRoute(s)
	if !ok {
		return "", fmt.Errorf("%w: the source route in %q has no end", ErrSyntax, clip(s))
	}
	for hop := range strings.SplitSeq(route, ",") {
		if !strings.HasPrefix(hop, "@") {
			return "", fmt.Errorf("%w: the source route in %q must be like @one.example,@two.example: before the mailbox", ErrSyntax, clip(s))
		}
		if _, err := parseHost(hop[1:]); err != nil {
			return "", err
		}
	}
	return mailbox, nil
}

// cutRoute parts a path at the colon behind its source route; colons inside
// literals belong to them.
func cutRoute(s string) (route, mailbox string, ok bool) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '[':
			depth++
		case ']':
			depth--
		case ':':
			if depth <= 0 {
				return s[:i], s[i+1:], true
			}
		}
	}
	return "", "", false
}

// CutPath parts s, the argument of MAIL FROM: or RCPT TO:, behind its path,
// minding quoted local-parts, which may hold ">". It judges nothing else; ok is
// false when s does not begin with a path in angle brackets.
func CutPath(s string) (path, rest string, ok bool) {
	if s == "" || s[0] != '<' {
		return "", s, false
	}
	quoted := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			return s[:i+1], s[i+1:], true
		}
	}
	return "", s, false
}

// ParseReversePath reads a Reverse-path in its angle brackets; <> is the null
// reverse-path. Without utf8 anything but ASCII is ErrNonASCII; other errors
// wrap ErrSyntax or ErrTooLong.
func ParseReversePath(s string, utf8 bool) (ReversePath, error) {
	if s == "<>" {
		return ReversePath{}, nil
	}
	mailbox, err := unwrap(s, utf8)
	if err != nil {
		return ReversePath{}, err
	}
	a, err := parseMailbox(mailbox, utf8)
	return ReversePath{addr: a}, err
}

// ParseForwardPath reads a Forward-path in its angle brackets, or <Postmaster>
// in any case (RFC 5321 §4.1.1.3). Errors are those of ParseReversePath.
func ParseForwardPath(s string, utf8 bool) (ForwardPath, error) {
	mailbox, err := unwrap(s, utf8)
	if err != nil {
		return ForwardPath{}, err
	}
	if strings.EqualFold(mailbox, "postmaster") {
		return Postmaster(), nil
	}
	if mailbox == "" {
		return ForwardPath{}, fmt.Errorf("%w: a forward-path can't be null", ErrSyntax)
	}
	a, err := parseMailbox(mailbox, utf8)
	return ForwardPath{addr: a}, err
}

// NewReversePath returns the reverse-path of a; of the zero Address the null one.
func NewReversePath(a Address) ReversePath { return ReversePath{addr: a} }

// NewForwardPath returns the forward-path of a.
func NewForwardPath(a Address) ForwardPath { return ForwardPath{addr: a} }

// Postmaster returns the bare <Postmaster>.
func Postmaster() ForwardPath { return ForwardPath{postmaster: true} }

// Address returns the mailbox; zero for the null reverse-path.
func (p ReversePath) Address() Address { return p.addr }

// IsNull reports whether p is the null reverse-path.
func (p ReversePath) IsNull() bool { return p.addr.IsZero() }

// String returns the path in angle brackets, <> for the null one.
func (p ReversePath) String() string { return "<" + p.addr.String() + ">" }

// AppendTo appends what String returns to b.
func (p ReversePath) AppendTo(b []byte) []byte {
	return append(p.addr.AppendTo(append(b, '<')), '>')
}

// Address returns the mailbox; zero for the bare <Postmaster>.
func (p ForwardPath) Address() Address { return p.addr }

// IsPostmaster reports whether p is the bare <Postmaster>.
func (p ForwardPath) IsPostmaster() bool { return p.postmaster }

// IsZero reports whether p names nobody.
func (p ForwardPath) IsZero() bool { return !p.postmaster && p.addr.IsZero() }

// Key returns the form for comparison: Address.Key, or "postmaster".
func (p ForwardPath) Key() string {
	if p.postmaster {
		return "postmaster"
	}
	return p.addr.Key()
}

// String returns the path in angle brackets.
func (p ForwardPath) String() string {
	if p.postmaster {
		return "<Postmaster>"
	}
	return "<" + p.addr.String() + ">"
}
