package tlspolicy

import (
	"context"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dane"
	"poczta.example/poczta/internal/mtasts"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/tlsrpt"
)

// Plan is what one domain demands of one attempt. Safe for concurrent use.
type Plan struct {
	Domain address.Domain
	// Policy and PolicyID are the MTA-STS policy in force; Policy.Mode is None without one.
	Policy   mtasts.Policy
	PolicyID string

	store    *Store
	route    mx.Route
	override Override
	fixed    bool          // override counts
	fetching tlsrpt.Result // why there is no policy though there is a record
	detail   string
	memory   map[string]memory // by host
}

// Requirement is what one host must do to be given mail.
type Requirement struct {
	Domain     address.Domain
	Host       address.Domain // zero for an address literal
	Level      Level
	ServerName string       // to send as SNI; "" for an address literal
	Names      []string     // names that the certificate may have; .example.net is all below
	TLSA       dane.Records // usable ones, at level DANE
	// Testing tells that an MTA-STS policy in mode testing applies: a session that
	// does not meet it goes on, and is counted as a failure.
	Testing bool
	// Trusted tells that Names come from a source that nobody on the way can write:
	// DNSSEC, MTA-STS, configuration. REQUIRETLS needs that (RFC 8689 §4.2.1).
	Trusted bool
	// Source says where Level comes from, for the trace: "dane", "mta-sts",
	// "mta-sts testing", "configuration", "default".
	Source string
	// Expected is the level that the host, or if it is new every other host of the
	// domain, has shown before.
	Expected Level

	store   *Store
	refuse  Level
	applied Applied
	memory  memory
	fixed   bool  // of no recipients' domain
	crowded bool  // enough hosts of the domain are remembered
	left    error // why the host is left out for all mail but that with TLS-Required: No
}

// HostError says why a host must not be tried at all: it fits no pattern of the
// MTA-STS policy, or its TLSA records are kept from us. The attempt is to be
// repeated later (RFC 8461 §5, RFC 7672 §2.1.2).
type HostError struct {
	Host   address.Domain
	Result tlsrpt.Result
	Err    error
	req    Requirement
}

// Requirement is what the host must do to be given a message with TLS-Required: No,
// for which the reason does not count (RFC 8689 §4.2.2). Permit lets nothing else over
// a session that was opened by it.
func (e *HostError) Requirement() Requirement {
	r := e.req
	r.Level, r.Source, r.refuse, r.left = min(r.Level, Opportunistic), "TLS-Required: No", None, e
	return r
}

// Error names the host and the reason.
func (e *HostError) Error() string { return fmt.Sprintf("host %s is left out: %v", e.Host, e.Err) }

// Unwrap returns the reason.
func (e *HostError) Unwrap() error { return e.Err }

// Plan decides for a domain whose hosts route has. It asks DNS for the domain's
// MTA-STS record, and fetches the policy when there is a new one, for up to the
// Fetcher's timeout; a policy that cannot be fetched is as none, and the one in the
// cache holds for its time. The error is the database's.
func (s *Store) Plan(ctx context.Context, domain address.Domain, route mx.Route) (*Plan, error) {
	p := &Plan{Domain: domain, store: s, route: route}
	p.override, p.fixed = s.override(domain)
	known, err := s.load(ctx, domain)
	if err != nil {
		return nil, fmt.Errorf("decide on TLS for %s: %w", domain, err)
	}
	p.memory = known.memory
	if s.cfg.Fetcher == nil || domain.IsLiteral() || p.ignores() {
		return p, nil
	}
	return p, p.discover(ctx, known.sts)
}

// Fixed is the requirement of a host that the configuration names, as of a smart host: no
// MX, MTA-STS or DANE comes in, nothing is remembered, and Note leaves it out. level is
// None, Opportunistic, Encrypt or Verify; Verify wants a certificate for the host's name
// or, of an address literal, its address.
func (s *Store) Fixed(host address.Domain, level Level) Requirement {
	r := Requirement{
		Domain: host, Host: host, Level: min(level, Verify), Names: []string{host.String()}, Trusted: true,
		Source: "configuration", store: s, fixed: true,
	}
	if addr, literal := host.LiteralAddr(); literal {
		r.Names = []string{addr.String()}
	} else {
		r.ServerName = host.String()
	}
	return r
}

// ignores reports whether what the domain publishes does not count.
func (p *Plan) ignores() bool { return p.fixed && p.override.Level <= Opportunistic }

// Host decides for one host of the route: DANE before MTA-STS (RFC 8461 §2) before
// the operator's policy. It asks DNS for TLSA records. The error is a *HostError:
// the next host is to be tried. It is to be noted like a session's outcome.
func (p *Plan) Host(ctx context.Context, h mx.Host) (Requirement, error) {
	r := p.base(h)
	if p.ignores() {
		return r, nil
	}
	found := dane.Found{}
	if !p.store.cfg.NoDANE && len(h.Bases) > 0 {
		var err error
		if found, err = dane.Lookup(ctx, p.store.cfg.Resolver, h.Bases, p.store.cfg.Port); err != nil {
			r.applied = Applied{Type: tlsrpt.TLSA, Domain: h.Name.String()}
			return Requirement{}, &HostError{Host: h.Name, Result: tlsrpt.DNSSECInvalid, Err: err, req: r}
		}
	}
	usable := found.Records.Usable()
	switch {
	case len(usable) > 0:
		return p.dane(r, h, found, usable), nil
	case p.fixed && p.override.Level == DANE:
		r.applied = Applied{Type: tlsrpt.TLSA, Domain: h.Name.String()}
		return Requirement{}, &HostError{Host: h.Name, Result: tlsrpt.DANERequired, Err: fmt.Errorf("it has no usable TLSA records, which the configuration demands"), req: r}
	}
	if p.Policy.Mode != mtasts.None {
		return p.sts(r, h, len(found.Records) > 0)
	}
	if len(found.Records) > 0 && r.Level < Encrypt {
		// RFC 7672 §2.2: records that nobody can use still say that there is TLS.
		r.Level, r.Source = Encrypt, "dane"
		r.applied = Applied{Type: tlsrpt.TLSA, Domain: found.Base, Text: strings.Join(found.Records.Strings(), "\n")}
	}
	return r, nil
}

// base is the requirement by configuration alone.
func (p *Plan) base(h mx.Host) Requirement {
	r := Requirement{
		Domain: p.Domain, Host: h.Name, Level: Opportunistic, Source: "default", ServerName: h.Name.String(),
		store: p.store, refuse: p.store.cfg.Refuse, applied: Applied{Type: tlsrpt.NoPolicy, Domain: p.Domain.String()},
	}
	if !h.Name.IsZero() {
		r.Names = []string{h.Name.String()}
		r.Trusted = p.route.Secure
	}
	if p.fetching != tlsrpt.Success {
		r.applied = Applied{Type: tlsrpt.STS, Domain: p.Domain.String(), failure: p.fetching, detail: p.detail}
	}
	if p.fixed {
		r.Level, r.Source = p.override.Level, "configuration"
		if p.override.Level == Verify && len(p.override.Names) > 0 {
			r.Names, r.Trusted = p.override.Names, true
		}
		if p.override.Level == None {
			r.refuse = None
		}
	}
	r.memory, r.Expected = p.expected(h.Name.String())
	r.crowded = !r.memory.known && len(p.memory) >= maxHosts // whoever makes up names fills no tables
	return r
}

// dane is the requirement of usable TLSA records.
func (p *Plan) dane(r Requirement, h mx.Host, found dane.Found, usable dane.Records) Requirement {
	r.Level, r.Source, r.TLSA, r.ServerName, r.Trusted = DANE, "dane", usable, found.Base, true
	// RFC 7672 §3.2.2: the TLSA base domain, the MX host it stands for, and the next-hop domain.
	names := []string{found.Base, h.Name.String()}
	if p.route.Secure {
		names = append(names, p.Domain.String())
		if p.route.CanonicalName != "" {
			names = append(names, p.route.CanonicalName)
		}
	}
	r.Names = nil
	for _, n := range names {
		if n != "" && !contains(r.Names, n) {
			r.Names = append(r.Names, n)
		}
	}
	r.applied = Applied{Type: tlsrpt.TLSA, Domain: found.Base, Text: strings.Join(found.Records.Strings(), "\n")}
	return r
}

// sts is the requirement of an MTA-STS policy; encrypted says that unusable TLSA
// records demand TLS anyhow.
func (p *Plan) sts(r Requirement, h mx.Host, encrypted bool) (Requirement, error) {
	r.applied = Applied{Type: tlsrpt.STS, Domain: p.Domain.String(), Text: strings.Join(p.Policy.Lines(), "\n")}
	fits := p.Policy.Matches(h.Name)
	if p.Policy.Mode == mtasts.Testing {
		r.Testing = true
		if encrypted {
			r.Level = max(r.Level, Encrypt)
		}
		if r.Level <= Opportunistic {
			r.Source = "mta-sts testing"
		}
		if fits {
			r.Trusted = true
		} else {
			r.applied.failure, r.applied.detail = tlsrpt.ValidationFailure, "the MTA-STS policy does not name the host"
		}
		return r, nil
	}
	if !fits {
		return Requirement{}, &HostError{Host: h.Name, Result: tlsrpt.ValidationFailure, req: r,
			Err: fmt.Errorf("the MTA-STS policy of %s does not name it", p.Domain)}
	}
	r.Level, r.Source, r.Names, r.Trusted = STS, "mta-sts", []string{h.Name.String()}, true
	return r, nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}
