package discover

import (
	"context"
	"errors"
	"slices"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/resolver"
)

// service is a kind of SRV record (RFC 6186 §3, RFC 8314 §5.1).
type service struct {
	label    string
	protocol clientconfig.Protocol
	security clientconfig.Security
}

// services are looked up in this order, TLS from the first octet before STARTTLS. IMAP
// is looked up to tell people why nothing was found.
func services() []service {
	return []service{
		{"_pop3s", clientconfig.POP3, clientconfig.TLS},
		{"_pop3", clientconfig.POP3, clientconfig.StartTLS},
		{"_submissions", clientconfig.SMTP, clientconfig.TLS},
		{"_submission", clientconfig.SMTP, clientconfig.StartTLS},
		{"_imaps", clientconfig.IMAP, clientconfig.TLS},
	}
}

// srv asks DNS for the servers (RFC 6186).
func (s *search) srv(ctx context.Context) findings {
	var o findings
	c := Candidate{Source: SRV}
	imap := ""
	for _, v := range services() {
		name := v.label + "._tcp." + s.domain().String()
		records, secure, result := s.targets(ctx, name)
		if result != Found {
			if v.protocol != clientconfig.IMAP {
				o.step(SRV, name, result, "")
			}
			continue
		}
		if v.protocol == clientconfig.IMAP {
			imap = name
			continue
		}
		var hosts []string
		for _, r := range records {
			from := origin{SRV, name, secure}
			x := s.server(from, clientconfig.Server{Protocol: v.protocol, Host: r.Host, Port: r.Port, Security: v.security})
			hosts = append(hosts, r.Host)
			if v.protocol == clientconfig.SMTP {
				c.Outgoing = append(c.Outgoing, x)
			} else {
				c.Incoming = append(c.Incoming, x)
			}
		}
		o.step(SRV, name, Found, joinWords(hosts))
	}
	if imap != "" && len(c.Incoming) == 0 {
		o.step(SRV, imap, OnlyIMAP, "")
	}
	if len(c.Incoming)+len(c.Outgoing) > 0 {
		o.candidates = append(o.candidates, c)
	}
	return o
}

// targets looks an SRV record up: its hosts by priority, then by weight. A person's
// program needs no spreading of load, so the order is the same at each time.
func (s *search) targets(ctx context.Context, name string) ([]resolver.Record, Trust, Result) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Request)
	defer cancel()
	ans, err := s.cfg.Resolver.Lookup(ctx, name, resolver.SRV)
	switch {
	case errors.Is(err, resolver.ErrNotFound):
		return nil, "", Absent
	case err != nil:
		return nil, "", NoDNS
	}
	records := slices.Clone(ans.Records)
	slices.SortStableFunc(records, func(a, b resolver.Record) int {
		if a.Preference != b.Preference {
			return int(a.Preference) - int(b.Preference)
		}
		return int(b.Weight) - int(a.Weight)
	})
	// RFC 2782: the root as target says that the service isn't there.
	records = slices.DeleteFunc(records, func(r resolver.Record) bool { return r.Host == "" || r.Port == 0 })
	if len(records) == 0 {
		return nil, "", Declined
	}
	return records[:min(len(records), maxTargets)], proof(ans.Secure), Found
}

// proof is the trust in an answer of DNS.
func proof(secure bool) Trust {
	if secure {
		return DNSSEC
	}
	return Unproven
}

// exchangers are the domain's MX hosts, at most maxExchangers.
func (s *search) exchangers(ctx context.Context) ([]string, Trust, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Request)
	defer cancel()
	ans, err := s.cfg.Resolver.Lookup(ctx, s.domain().String(), resolver.MX)
	if err != nil {
		return nil, "", err
	}
	records := slices.Clone(ans.Records)
	slices.SortStableFunc(records, func(a, b resolver.Record) int { return int(a.Preference) - int(b.Preference) })
	var hosts []string
	for _, r := range records {
		if r.Host != "" && len(hosts) < maxExchangers {
			hosts = append(hosts, r.Host)
		}
	}
	if len(hosts) == 0 {
		return nil, "", resolver.ErrNotFound
	}
	return hosts, proof(ans.Secure), nil
}
