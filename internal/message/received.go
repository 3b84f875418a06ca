package message

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
)

// Received is a trace field (RFC 5321 §4.4).
type Received struct {
	Helo       string              // what the client called itself; any text
	PeerName   string              // verified reverse name, "" when none
	Peer       netip.Addr          // the client's address; invalid when there is none (a socket)
	HideClient bool                // name neither client nor address: submission
	By         string              // our host name
	With       string              // ESMTP, ESMTPSA, LMTP … (RFC 3848, RFC 6531)
	TLS        string              // "" or as in "TLS1.3 TLS_AES_128_GCM_SHA256"
	ID         ID                  // left out when zero
	For        address.ForwardPath // only for transactions of one recipient; zero for none
	Priority   int                 // of the message; 0 leaves it out (RFC 6710 §4.1)
	Time       time.Time
}

// Append appends the field to b, folded so that no line passes 78 octets unless
// one word does. A hidden client leaves no from clause at all, rather than an
// invented one. Text from the peer is cut to 255 octets of printable ASCII
// without the characters that have a meaning here.
func (r Received) Append(b []byte) []byte {
	f := newFolder(b, "Received")
	if !r.HideClient {
		r.from(f)
	}
	f.word("by " + word(r.By))
	if r.With != "" {
		f.word("with " + word(r.With))
	}
	if r.TLS != "" {
		f.word("(" + commentText(r.TLS) + ")")
	}
	if !r.ID.IsZero() {
		f.word("id " + r.ID.String())
	}
	if !r.For.IsZero() {
		f.word("for " + r.For.String())
	}
	if r.Priority != 0 {
		f.word("PRIORITY " + strconv.Itoa(r.Priority))
	}
	f.b = append(f.b, ';')
	f.line++
	f.word(FormatDate(r.Time))
	return f.end()
}

// from writes Extended-Domain: the HELO name, or the address when that is no
// word, and TCP-info in a comment.
func (r Received) from(f *folder) {
	literal := ""
	if r.Peer.IsValid() {
		literal = address.LiteralDomain(r.Peer.Unmap()).String()
	}
	helo := word(r.Helo)
	if r.Helo == "" && literal != "" {
		helo = literal
	}
	f.word("from " + helo)
	switch {
	case literal != "" && r.PeerName != "":
		f.word("(" + word(r.PeerName) + " " + literal + ")")
	case literal != "":
		f.word("(" + literal + ")")
	}
}

// maxPeerWordOctets cuts what a peer can put into our trace fields.
const maxPeerWordOctets = 255

// word makes a peer's text harmless as one word of a structured field.
func word(s string) string {
	if s != "" && len(s) <= maxPeerWordOctets && harmless(s) {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>;,"\`, r) {
			return '?'
		}
		return r
	}, clip(s, maxPeerWordOctets))
	if s == "" {
		return "unknown"
	}
	return s
}

// harmless reports text of letters, digits, hyphens and dots.
func harmless(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}

// commentText makes text harmless inside a comment.
func commentText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f || r == '(' || r == ')' || r == '\\' {
			return '?'
		}
		return r
	}, clip(s, maxPeerWordOctets))
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
