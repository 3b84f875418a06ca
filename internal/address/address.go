// Package address holds mailbox addresses, domains and the two paths of an SMTP
// envelope as parsed values (RFC 5321 §4.1.2, RFC 6531 §3.3). A value in hand is
// valid. Comparison is by Key: local-parts case-folded and NFC-normalised,
// domains as A-labels.
package address

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Limits in octets. RFC 5321 §4.5.3.1 gives the first three as what every
// implementation must take, and asks to take more where possible: VERP and SRS
// local-parts of more than 64 octets are daily mail, so paths take up to
// MaxLongLocalPartOctets. Whoever makes new addresses keeps to MaxLocalPartOctets.
const (
	MaxLocalPartOctets     = 64  // RFC 5321 §4.5.3.1.1
	MaxDomainOctets        = 255 // RFC 5321 §4.5.3.1.2
	MaxPathOctets          = 256 // RFC 5321 §4.5.3.1.3, with the brackets
	MaxLongLocalPartOctets = 256
	MaxLongPathOctets      = 1024 // with brackets and source route
)

// Errors that callers branch on; test with errors.Is. Their wrapped text says
// what is wrong with which part.
var (
	ErrSyntax   = errors.New("address is malformed")
	ErrTooLong  = errors.New("address is too long")
	ErrNonASCII = errors.New("address needs SMTPUTF8") // RFC 6531: 553 5.6.7
)

// Domain is a domain name or an address literal. It holds the A-label form in
// lower case without a final dot; the zero Domain is no domain. Comparable with ==.
type Domain struct{ name string }

// Address is a mailbox address, local-part@domain. The local-part is kept as
// written, unquoted (the semantic value). The zero Address is no address.
// Compare with Key, not ==.
type Address struct {
	local  string
	domain Domain
}

// ReversePath is the argument of MAIL FROM. The zero value is the null
// reverse-path, <>.
type ReversePath struct{ addr Address }

// ForwardPath is the argument of RCPT TO: an Address, or the bare <Postmaster>
// of RFC 5321 §4.1.1.3 (then Address is zero and IsPostmaster reports true).
type ForwardPath struct {
	addr       Address
	postmaster bool
}

// Parse reads local-part@domain as people type it: the grammar Mailbox of
// RFC 5321 §4.1.2 with the additions of RFC 6531 §3.3, so a U-label domain and a
// quoted local-part are taken. Errors wrap ErrSyntax or ErrTooLong.
func Parse(s string) (Address, error) { return parseMailbox(s, true) }

// New makes an address of a local-part's semantic value (unquoted) and a domain.
// The local-part may hold any characters that a quoted-string can carry.
func New(local string, d Domain) (Address, error) {
	if d.IsZero() {
		return Address{}, fmt.Errorf("%w: the domain is missing", ErrSyntax)
	}
	if err := checkLocal(local); err != nil {
		return Address{}, err
	}
	return Address{local: local, domain: d}, nil
}

// Local returns the local-part as written, unquoted.
func (a Address) Local() string { return a.local }

// Domain returns the domain.
func (a Address) Domain() Domain { return a.domain }

// IsZero reports whether a is no address.
func (a Address) IsZero() bool { return a.domain.name == "" }

// IsASCII reports whether the local-part is ASCII; then the address can travel
// without SMTPUTF8, since a domain always can.
func (a Address) IsASCII() bool { return isASCII(a.local) }

// WithLocal returns a with another local-part.
func (a Address) WithLocal(local string) (Address, error) { return New(local, a.domain) }

// String returns the address as the SMTP envelope carries it, the local-part
// quoted when needed and the domain as A-labels; "" for the zero Address.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	return quoteLocal(a.local) + "@" + a.domain.name
}

// AppendTo appends what String returns to b.
func (a Address) AppendTo(b []byte) []byte {
	if a.IsZero() {
		return b
	}
	if isDotString(a.local) {
		b = append(b, a.local...)
	} else {
		b = append(b, quoteLocal(a.local)...)
	}
	return append(append(b, '@'), a.domain.name...)
}

// Unicode returns the address for people, with U-labels.
func (a Address) Unicode() string {
	if a.IsZero() {
		return ""
	}
	return quoteLocal(a.local) + "@" + a.domain.Unicode()
}

// Key returns the form under which addresses are compared and stored: the
// local-part case-folded and NFC-normalised, unquoted, "@", the domain as
// A-labels. It is not an address to send to. Keys never begin with "@".
func (a Address) Key() string {
	if a.IsZero() {
		return ""
	}
	return foldLocal(a.local) + "@" + a.domain.name
}

// foldLocal does canonical caseless folding (Unicode §3.13 D145), ending in NFC.
func foldLocal(local string) string {
	if isASCII(local) {
		return strings.ToLower(local)
	}
	folded := cases.Fold().String(norm.NFD.String(local))
	return norm.NFC.String(folded)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
