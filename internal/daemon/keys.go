package daemon

import (
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/keys"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/submit"
)

// newKeys opens the signing keys. They ask DNS without a cache: a record that was
// not there a minute ago may be there now.
func newKeys(d db.Database, c *config.Config, o RoomOptions) (*keys.Keys, error) {
	dns, err := resolver.New(resolver.Config{Servers: c.DNS.Servers, Timeout: c.DNS.Timeout.Duration()})
	if err != nil {
		return nil, err
	}
	kc := keys.Config{DB: d, Records: keys.DNS{Resolver: dns}, Logger: o.Logger, Hooks: o.Metrics.Keys()}
	for _, a := range c.DKIM.Algorithms {
		kc.Algorithms = append(kc.Algorithms, keys.Algorithm(a))
	}
	return keys.New(kc)
}

// signers are what submission and reports sign with; nil when nothing is signed.
func signers(r *Rooms) (submit.Signers, report.Signers) {
	if !r.Config.DKIM.Sign {
		return nil, nil
	}
	return r.Keys, r.Keys
}
