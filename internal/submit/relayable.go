package submit

import (
	"context"
	"strings"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
)

// relayable judges the domain of a recipient elsewhere: names that can never be
// reached are refused while the sender still sees it (RFC 6761, RFC 7505 shows
// the code).
func relayable(_ context.Context, r envelope.Recipient) error {
	d := r.ForwardPath.Address().Domain()
	if d.IsLiteral() {
		ip, ok := d.LiteralAddr()
		if !ok || ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() {
			return intake.Refuse(550, 1, 2, "The address literal "+d.String()+" can't be reached from here", nil)
		}
		return nil
	}
	name := d.String()
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case strings.Trim(last, "0123456789") == "":
		return intake.Refuse(550, 1, 2, "The domain "+name+" looks like a number; write an address literal in brackets", nil)
	case last == "invalid", last == "localhost":
		return intake.Refuse(550, 1, 2, "The domain "+d.Unicode()+" does not exist", nil)
	}
	return nil
}
