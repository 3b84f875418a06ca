package verify

import (
	"net/mail"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/spf"
)

// Bounds of Report.Direct.
const (
	directFor    = 3 * 24 * time.Hour // a signed letter comes straight from its signer that long
	directAhead  = time.Hour          // and clocks differ by so much
	directOctets = 64 << 10           // of a To or Cc field that is read
)

// direct says whether the author's domain is proven in a way that nobody can repeat elsewhere. A
// signature holds wherever the signed message is sent from and to (RFC 6376 §8.6), so what only
// signatures prove must be signed lately and addressed, in fields that are signed, to somebody it
// came for.
func (r *Report) direct(header []byte, to []envelope.Recipient, now time.Time) bool {
	if r.From.IsZero() || !slices.Contains(r.Proven, r.From) {
		return false
	}
	if r.DMARC.Status == dmarc.Pass && r.DMARC.AlignedSPF || r.MailFrom.Status == spf.Pass && r.Peer.IsValid() && r.Identity() == r.From {
		return true
	}
	return slices.ContainsFunc(r.DKIM, func(d dkim.Result) bool {
		return d.Status == dkim.Pass && (d.Signature.Domain == r.From || r.DMARC.AlignedDKIM && related(d.Signature.Domain, r.From)) &&
			lately(d.Signature, header, now) && addressed(d.Signature, header, to)
	})
}

// related reports whether one domain is the other or below it; with DMARC's word that some
// signature is aligned that is near enough.
func related(a, b address.Domain) bool { return under(a, b) || under(b, a) }

// lately reports whether a message was signed lately, by its signature or else its signed date.
func lately(s *dkim.Signature, header []byte, now time.Time) bool {
	at := s.Time
	if at.IsZero() {
		value, ok := message.Get(header, "Date")
		if !ok || !covers(s, header, "Date") {
			return false
		}
		var err error
		if at, err = mail.ParseDate(value); err != nil {
			return false
		}
	}
	return now.Sub(at) <= directFor && at.Sub(now) <= directAhead
}

// covers reports whether a signature holds for all fields of a name.
func covers(s *dkim.Signature, header []byte, name string) bool {
	signed := 0
	for _, f := range s.Fields {
		if strings.EqualFold(f, name) {
			signed++
		}
	}
	return signed >= message.Count(header, name)
}

// addressed reports whether signed fields name a recipient.
func addressed(s *dkim.Signature, header []byte, to []envelope.Recipient) bool {
	for _, name := range []string{"To", "Cc"} {
		if !covers(s, header, name) {
			continue
		}
		for f := range message.Fields(header) {
			if !f.Is(name) || len(f.Raw) > directOctets {
				continue
			}
			list, _ := message.ParseAddressList(f.Value()) // what can't be read names nobody
			for _, m := range list {
				if slices.ContainsFunc(to, func(r envelope.Recipient) bool {
					return !r.ForwardPath.IsPostmaster() && r.ForwardPath.Address().Key() == m.Address.Key()
				}) {
					return true
				}
			}
		}
	}
	return false
}
