package tlspolicy

import "poczta.example/poczta/internal/address"

// Fixed is the requirement of a host that the configuration names, as of a smart host: no
// MX, MTA-STS or DANE comes in. level is None, Opportunistic, Encrypt or Verify; Verify
// wants a certificate for the host's name.
func (s *Store) Fixed(host address.Domain, level Level) Requirement {
	r := Requirement{Domain: host, Host: host, Level: level, Source: "configuration", store: s}
	if !host.IsLiteral() {
		r.ServerName, r.Names, r.Trusted = host.String(), []string{host.String()}, true
	}
	return r
}
