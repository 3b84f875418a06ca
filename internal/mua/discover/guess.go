package discover

import (
	"context"
	"slices"
	"sync"

	"poczta.example/poczta/internal/clientconfig"
)

// attempt is one usual place to look at.
type attempt struct {
	server Server
	result Result
	detail string
}

// guess looks at usual names: those of the domain, the domain itself and its MX hosts.
// A server counts that speaks its protocol under TLS with a certificate for its name.
// Of each host the port with TLS from the first octet is tried first, and STARTTLS
// where that is not there.
func (s *search) guess(ctx context.Context) findings {
	d := s.domain().String()
	in := s.usual(clientconfig.POP3, "pop."+d, "pop3."+d, "mail."+d, d)
	out := s.usual(clientconfig.SMTP, "smtp."+d, "mail."+d, d)
	if hosts, trust, err := s.exchangers(ctx); err == nil {
		for _, h := range hosts[:min(len(hosts), 2)] {
			in = append(in, s.places(clientconfig.POP3, h, trust)...)
			out = append(out, s.places(clientconfig.SMTP, h, trust)...)
		}
	}
	all := once(slices.Concat(in, out))
	s.look(ctx, all)
	c := Candidate{Source: Guess}
	var o findings
	for _, a := range all {
		o.step(Guess, a.server.place(), a.result, a.detail)
		if a.result != Found {
			continue
		}
		if a.server.Protocol == clientconfig.POP3 {
			c.Incoming = append(c.Incoming, a.server)
		} else {
			c.Outgoing = append(c.Outgoing, a.server)
		}
	}
	c.Incoming, c.Outgoing = foremost(c.Incoming), foremost(c.Outgoing)
	if len(c.Incoming)+len(c.Outgoing) > 0 {
		o.candidates = append(o.candidates, c)
	}
	return o
}

// usual are the places of hosts of the domain.
func (s *search) usual(p clientconfig.Protocol, hosts ...string) []*attempt {
	var out []*attempt
	for _, h := range hosts {
		out = append(out, s.places(p, h, Unproven)...)
	}
	return out
}

// places are a host's two ports for a protocol.
func (s *search) places(p clientconfig.Protocol, host string, trust Trust) []*attempt {
	ports := map[clientconfig.Protocol][2]uint16{clientconfig.POP3: {995, 110}, clientconfig.SMTP: {465, 587}}[p]
	var out []*attempt
	for i, kind := range []clientconfig.Security{clientconfig.TLS, clientconfig.StartTLS} {
		out = append(out, &attempt{server: s.server(origin{Guess, host, trust}, clientconfig.Server{Protocol: p, Host: host, Port: ports[i], Security: kind})})
	}
	return out
}

// once drops places that are named before.
func once(all []*attempt) []*attempt {
	var out []*attempt
	for _, a := range all {
		if !slices.ContainsFunc(out, func(b *attempt) bool { return a.server.Host == b.server.Host && a.server.Port == b.server.Port }) {
			out = append(out, a)
		}
	}
	return out
}

// look visits all places, at most maxParallel at one time: first those under TLS from
// the first octet, then the other port of hosts where that was not found.
func (s *search) look(ctx context.Context, all []*attempt) {
	for _, kind := range []clientconfig.Security{clientconfig.TLS, clientconfig.StartTLS} {
		gate := make(chan struct{}, maxParallel)
		var wg sync.WaitGroup
		for _, a := range all {
			if a.server.Security != kind {
				continue
			}
			if kind == clientconfig.StartTLS {
				if b := beside(all, a); b.result == Found || b.result == Absent || b.result == NoDNS {
					a.result = b.result // nothing more to learn there
					if b.result == Found {
						a.result = ""
					}
					continue
				}
			}
			wg.Go(func() {
				gate <- struct{}{}
				defer func() { <-gate }()
				a.result, a.detail = s.probe(ctx, a.server)
			})
		}
		wg.Wait()
	}
}

// beside is the place under TLS of the same host and protocol.
func beside(all []*attempt, a *attempt) *attempt {
	i := slices.IndexFunc(all, func(b *attempt) bool {
		return b.server.Host == a.server.Host && b.server.Protocol == a.server.Protocol && b.server.Security == clientconfig.TLS
	})
	return all[i]
}

// foremost keeps the two best servers, those of the domain before MX hosts outside it.
func foremost(list []Server) []Server {
	slices.SortStableFunc(list, func(a, b Server) int {
		if a.NeedsConfirmation() != b.NeedsConfirmation() {
			if b.NeedsConfirmation() {
				return -1
			}
			return 1
		}
		return rankSecurity(a) - rankSecurity(b)
	})
	if len(list) > 1 && !list[0].NeedsConfirmation() {
		list = slices.DeleteFunc(list, Server.NeedsConfirmation)
	}
	return list[:min(len(list), 2)]
}
