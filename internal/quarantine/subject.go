package quarantine

import (
	"context"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/authres"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/trace"
)

// subject says whom a message of ours comes from: the host by the trace, domain and address by our
// own Authentication-Results, which nobody else can write into what is stored here (RFC 8601 §5).
func (r *Room) subject(ctx context.Context, e *mailbox.Entry) reputation.Subject {
	var sub reputation.Subject
	if found, err := r.cfg.Trace.Find(ctx, trace.Viewer{Operator: true}, trace.Query{ID: e.Body}); err == nil && len(found) == 1 {
		if found[0].Account != 0 {
			return sub // our own people's mail has no reputation
		}
		sub.Peer = found[0].Peer
	}
	octets, err := r.head(ctx, e, message.MaxHeaderOctets)
	if err != nil {
		return sub
	}
	header, _, _ := message.SplitHeader(octets)
	sub.Domain, sub.Address = proven(header, r.cfg.Hostname)
	return sub
}

// proven reads the From domain that DMARC proved, by the first field of ours.
func proven(header []byte, hostname string) (domain address.Domain, from address.Address) {
	if hostname == "" {
		return domain, from
	}
	for f := range message.Fields(header) {
		if !f.Is("Authentication-Results") || !authres.Claims(f.Value(), hostname) {
			continue
		}
		field, err := authres.Parse(f.Value())
		if err != nil {
			return domain, from
		}
		for _, res := range field.Of("dmarc") {
			d, err := address.ParseDomain(res.Get("header", "from"))
			if err != nil || res.Value != "pass" || res.Get("policy", "direct") == "no" { // a letter that somebody sends again
				continue
			}
			domain = d
		}
		break
	}
	if domain.IsZero() || message.Count(header, "From") != 1 {
		return domain, from
	}
	value, _ := message.Get(header, "From")
	all, err := message.ParseAddressList(value)
	if err == nil && len(all) == 1 && strings.EqualFold(all[0].Address.Domain().String(), domain.String()) {
		from = all[0].Address
	}
	return domain, from
}
