package smtp

import "poczta.example/poczta/internal/address"

// Node is what an ETRN command names (RFC 1985 §5).
type Node struct {
	Domain     address.Domain
	Subdomains bool // "@": the domain and all below it (RFC 1985 §5.3)
}

// String is the node as it was written, with the domain's A-labels.
func (n Node) String() string {
	if n.Subdomains {
		return "@" + n.Domain.String()
	}
	return n.Domain.String()
}

// ParseETRN reads the argument of ETRN. A queue that is no domain ("#", RFC 1985
// §5.3) is a local matter and is refused, 459; the others are 500 without an
// argument and 501 for one that is no domain, as RFC 1985 §7 has them.
func ParseETRN(arg string) (Node, error) {
	if arg == "" {
		return Node{}, Refuse(500, 5, 4, "ETRN needs a domain")
	}
	var n Node
	switch arg[0] {
	case '#':
		return Node{}, Refuse(459, 5, 4, "There are no queues here but those of domains")
	case '@':
		n.Subdomains, arg = true, arg[1:]
	}
	d, err := address.ParseDomain(arg)
	if err != nil || d.IsLiteral() {
		return Node{}, &Error{Reply: Reply{Code: 501, Subject: 5, Detail: 4, Text: "ETRN needs a domain, or @ and a domain"}, Err: err}
	}
	n.Domain = d
	return n, nil
}
