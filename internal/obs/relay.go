package obs

import (
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/forward"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/relaydomain"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/tlspolicy"
)

// waits are the buckets of the time from the queue to a fate, in seconds.
var waits = []float64{.1, .5, 1, 5, 30, 120, 600, 3600, 4 * 3600, 24 * 3600, 5 * 24 * 3600}

// outboundFigures are those of the sending side.
type outboundFigures struct {
	attempts    *family // site, outcome
	wait        *family // outcome
	connections *family // site, outcome
	open        *figure //
	lines       *figure //
	blocked     *figure //
	sessions    *family // level, result
	downgrades  *figure //
	policies    *family // result
	lookups     *family // from
	asked       *family // outcome
	forwards    *family // outcome
}

func (m *Metrics) outbound() *outboundFigures {
	return &outboundFigures{
		attempts:    counters(m, "poczta_relay_attempts_total", "Attempts to deliver to a recipient elsewhere.", "site", "outcome"),
		wait:        histograms(m, "poczta_relay_wait_seconds", "From entering the queue to an outcome.", waits, "outcome"),
		connections: counters(m, "poczta_relay_connections_total", "Connections to other hosts.", "site", "outcome"),
		open:        gauge(m, "poczta_relay_connections", "Connections to other hosts open now."),
		lines:       gauge(m, "poczta_relay_destinations", "Destinations that this node works on."),
		blocked:     counter(m, "poczta_relay_blocked_total", "Times that port 25 seemed to be blocked on its way out."),
		sessions:    counters(m, "poczta_relay_tls_sessions_total", "Sessions with other hosts by the TLS they showed.", "level", "result"),
		downgrades:  counter(m, "poczta_relay_tls_downgrades_total", "Hosts that showed less TLS than before."),
		policies:    counters(m, "poczta_mta_sts_fetches_total", "MTA-STS policies fetched.", "result"),
		asked:       counters(m, "poczta_relay_domain_questions_total", "Recipients that a relay domain's host was asked about.", "outcome"),
		forwards:    counters(m, "poczta_forward_failures_total", "Forwarded copies that failed for good, and forwards that were suspended for it.", "outcome"),
		lookups:     counters(m, "poczta_dns_lookups_total", "Questions to DNS.", "from"),
	}
}

// Relay returns the hooks of package relay.
func (m *Metrics) Relay() relay.Hooks {
	o := m.out
	return relay.Hooks{
		Attempt: func(site, outcome string, waited time.Duration) {
			o.attempts.with(site, outcome).inc()
			o.wait.with(outcome).observe(waited.Seconds())
		},
		Connection: func(site, outcome string) { o.connections.with(site, outcome).inc() },
		Open:       func(delta int) { o.open.add(float64(delta)) },
		Lines:      func(delta int) { o.lines.add(float64(delta)) },
		Blocked:    func() { o.blocked.inc() },
	}
}

// TLSPolicy returns the hooks of package tlspolicy, which logs downgrades itself.
func (m *Metrics) TLSPolicy() tlspolicy.Hooks {
	o := m.out
	return tlspolicy.Hooks{
		Fetched:   func(ok bool) { o.policies.with(result(ok)).inc() },
		Session:   func(shown tlspolicy.Level, ok bool) { o.sessions.with(shown.String(), result(ok)).inc() },
		Downgrade: func(_, _ address.Domain, _, _ tlspolicy.Level) { o.downgrades.inc() },
	}
}

// RelayDomains returns the hooks of package relaydomain.
func (m *Metrics) RelayDomains() relaydomain.Hooks {
	return relaydomain.Hooks{Asked: func(outcome string, _ time.Duration) { m.out.asked.with(outcome).inc() }}
}

// Forwards returns the hooks of package forward.
func (m *Metrics) Forwards() forward.Hooks {
	failed, suspended := m.out.forwards.with("failed"), m.out.forwards.with("suspended")
	return forward.Hooks{Failed: failed.inc, Suspended: suspended.inc}
}

// Resolver returns the hooks of the cache of DNS.
func (m *Metrics) Resolver() resolver.CacheHooks {
	memory, asked := m.out.lookups.with("memory"), m.out.lookups.with("server")
	return resolver.CacheHooks{Lookup: func(hit bool) {
		if hit {
			memory.inc()
			return
		}
		asked.inc()
	}}
}

// result is how figures name success.
func result(ok bool) string {
	if ok {
		return "ok"
	}
	return "failed"
}
