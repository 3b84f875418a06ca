// Package address holds mailbox addresses, domains and the two paths of an SMTP
// envelope as parsed values (RFC 5321 §4.1.2, RFC 6531 §3.3). A value in hand is
// valid. Comparison is by Key: local-parts case-folded and NFC-normalised,
// domains as A-labels.
package address

// Limits of RFC 5321 §4.5.3.1, in octets.
const (
	MaxLocalPartOctets = 64  // RFC 5321 §4.5.3.1.1
	MaxDomainOctets    = 255 // RFC 5321 §4.5.3.1.2
	MaxPathOctets      = 256 // RFC 5321 §4.5.3.1.3, with the brackets
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
