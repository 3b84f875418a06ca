package tlspolicy

import "poczta.example/poczta/internal/address"

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
