package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mtasts"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/relay"
	"poczta.example/poczta/internal/relaydomain"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/smtpclient"
	"poczta.example/poczta/internal/tlspolicy"
	"poczta.example/poczta/internal/tlsreport"
)

// outbound is what mail to other hosts needs.
type outbound struct {
	dns     *resolver.Cache
	mx      *mx.Lookup
	tls     *tlspolicy.Store
	relay   *relay.Relay // nil when it is turned off
	domains *relaydomain.Domains
	reports *tlsreport.Reporter // nil when none are sent
}

// newOutbound builds the sending side.
func newOutbound(ctx context.Context, r *Rooms, in *intake.Intake, rep *report.Reporter, forwards relay.Forwards, metrics *obs.Metrics, log *slog.Logger) (*outbound, error) {
	c, o := r.Config, &outbound{}
	var err error
	if o.dns, err = NewResolver(c, metrics); err != nil {
		return nil, err
	}
	if o.mx, err = newMX(c, o.dns); err != nil {
		return nil, err
	}
	if o.tls, err = newTLSPolicy(r, o, metrics, log); err != nil {
		return nil, err
	}
	if o.domains, err = newRelayDomains(r, o, metrics, log); err != nil {
		return nil, err
	}
	if o.reports, err = newTLSReports(ctx, r, o, log); err != nil {
		return nil, err
	}
	if !c.Relay.Enabled {
		return o, nil
	}
	o.relay, err = newRelay(r, o, in, rep, forwards, metrics, log)
	return o, err
}

// NewStub makes the client of DNS that the configuration asks for, without a cache: for
// questions whose answer may have changed a minute ago.
func NewStub(c *config.Config) (*resolver.Stub, error) {
	stub, err := resolver.New(resolver.Config{Servers: c.DNS.Servers, Timeout: c.DNS.Timeout.Duration(), TrustAll: c.DNS.Trusted})
	if err != nil {
		return nil, fmt.Errorf("dns.servers: %w", err)
	}
	return stub, nil
}

// NewResolver makes the client of DNS that the configuration asks for, with its cache.
func NewResolver(c *config.Config, metrics *obs.Metrics) (*resolver.Cache, error) {
	stub, err := NewStub(c)
	if err != nil {
		return nil, err
	}
	rc := resolver.CacheConfig{Resolver: stub, MaxOctets: int(c.DNS.Cache)}
	if metrics != nil {
		rc.Hooks = metrics.Resolver()
	}
	return resolver.NewCache(rc)
}

// newMX makes the look-up of routes, which knows our own names and addresses.
func newMX(c *config.Config, dns resolver.Resolver) (*mx.Lookup, error) {
	own, err := address.ParseDomain(c.Hostname)
	if err != nil {
		return nil, fmt.Errorf("hostname %q: %w", c.Hostname, err)
	}
	return mx.New(mx.Config{Resolver: dns, Names: []address.Domain{own}, Addrs: ownAddresses(), AllowLoopback: c.Relay.AllowLoopback,
		NoIPv4: c.Relay.Families == "ipv6", NoIPv6: c.Relay.Families == "ipv4"})
}

// ownAddresses are this host's addresses, those of loopback left out.
func ownAddresses() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil // a loop is found by our name, too
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out
}

// newTLSPolicy opens what TLS is demanded and remembered.
func newTLSPolicy(r *Rooms, o *outbound, metrics *obs.Metrics, log *slog.Logger) (*tlspolicy.Store, error) {
	c := r.Config
	fetcher, err := mtasts.NewFetcher(mtasts.FetcherConfig{Resolver: o.dns, Barred: o.mx.Barred})
	if err != nil {
		return nil, err
	}
	tc := tlspolicy.Config{DB: r.DB, Resolver: o.dns, Fetcher: fetcher, NoDANE: !c.DNS.Trusted, Port: uint16(c.Relay.Port), Overrides: map[string]tlspolicy.Override{},
		NoReports: !c.TLSReports.Send, Logger: log, Hooks: metrics.TLSPolicy()}
	if c.Relay.Downgrade != "notice" {
		if tc.Refuse, err = tlspolicy.ParseLevel(c.Relay.Downgrade); err != nil {
			return nil, fmt.Errorf("relay.downgrade: %w", err)
		}
	}
	for _, p := range c.Relay.TLSPolicy {
		level, err := tlspolicy.ParseLevel(p.Level)
		if err != nil {
			return nil, fmt.Errorf("relay.tls_policy %s: %w", p.Domain, err)
		}
		tc.Overrides[p.Domain] = tlspolicy.Override{Level: level}
	}
	if c.Relay.TLS != "opportunistic" {
		level, err := tlspolicy.ParseLevel(c.Relay.TLS)
		if err != nil {
			return nil, fmt.Errorf("relay.tls: %w", err)
		}
		tc.Default = level
	}
	return tlspolicy.New(tc)
}

// domainKey is a domain pattern in A-labels.
func domainKey(s string) string {
	dot := ""
	if rest, ok := strings.CutPrefix(s, "."); ok {
		dot, s = ".", rest
	}
	if d, err := address.ParseDomain(s); err == nil {
		s = d.String()
	}
	return dot + s
}

// newRelay builds the worker.
func newRelay(r *Rooms, o *outbound, in *intake.Intake, rep *report.Reporter, forwards relay.Forwards, metrics *obs.Metrics, log *slog.Logger) (*relay.Relay, error) {
	c := r.Config
	rc := relay.Config{
		Queue: relay.FromQueue(r.Queue), Bodies: r.Body, MX: o.mx, Reports: rep, Accepter: r.Post, TLS: o.tls, Local: in, Forwards: forwards,
		Hello: c.Hostname, Port: uint16(c.Relay.Port), Sources: addresses(c.Relay.Sources),
		Schedule:   relay.Schedule{Retry: durations(c.Relay.Retry), Probe: durations(c.Relay.Probe)},
		DelayAfter: c.Relay.DelayWarning.Duration(), Connections: c.Relay.Connections, PerSite: c.Relay.ConnectionsPerSite,
		RatePerSite: c.Relay.RatePerSite, PerConnection: c.Relay.MessagesPerConnection, Grace: c.Limits.Grace.Duration(),
		Logger: log.With("service", "relay"), Hooks: metrics.Relay(),
	}
	if rc.DelayAfter == 0 {
		rc.DelayAfter = -1
	}
	if c.Conduct.Enabled {
		rc.Hooks.Refused = func(id envelope.AccountID) {
			r.Conduct.Count(context.Background(), id, conduct.Sent{Refused: 1}) // memory takes it
		}
	}
	if c.DKIM.Sign {
		rc.Signer = resigner{r.Keys}
	}
	var err error
	if rc.Routes, err = relayRoutes(&c.Relay); err != nil {
		return nil, err
	}
	return relay.New(rc)
}

// relayRoutes are the ways in the order in which they count: those of relay domains go
// before the first that is for all recipients, lest a smart host gets their mail.
func relayRoutes(c *config.Relay) ([]relay.Route, error) {
	var out, domains []relay.Route
	for _, d := range c.Domains {
		route := relay.Route{Name: "relay domain " + d.Domain, Domains: []string{domainKey(d.Domain)}, Level: tlspolicy.Opportunistic}
		if d.Host != "" {
			if err := setTarget(&route, d.Host); err != nil {
				return nil, fmt.Errorf("relay.domain %s: %w", d.Domain, err)
			}
		}
		domains = append(domains, route)
	}
	for i := range c.Routes {
		route, err := newRoute(&c.Routes[i])
		if err != nil {
			return nil, fmt.Errorf("relay.route %s: %w", c.Routes[i].Name, err)
		}
		if len(route.Domains) == 0 {
			out, domains = append(out, domains...), nil
		}
		out = append(out, route)
	}
	return append(out, domains...), nil
}

// newRoute makes a route of its configuration.
func newRoute(c *config.RelayRoute) (relay.Route, error) {
	out := relay.Route{Name: c.Name, Senders: c.Senders, LMTP: c.Protocol == "lmtp", Implicit: c.TLS == "implicit", Sources: addresses(c.Sources), Fallback: c.Fallback}
	for _, d := range c.Domains {
		out.Domains = append(out.Domains, domainKey(d))
	}
	if err := setTarget(&out, c.Host); err != nil || c.Host == "mx" {
		return out, err
	}
	level := c.TLS
	if out.Implicit {
		level = "verify"
	}
	var err error
	if out.Level, err = tlspolicy.ParseLevel(level); err != nil || c.User == "" {
		return out, err
	}
	password, err := firstLineOf(c.PasswordFile)
	if err != nil {
		return out, err
	}
	out.Login = &smtpclient.Credentials{Username: c.User, Password: password}
	return out, nil
}

// setTarget sets where a route leads: host:port, unix:FILE or mx.
func setTarget(r *relay.Route, target string) error {
	if path, ok := strings.CutPrefix(target, "unix:"); ok {
		r.Socket = path
		return nil
	}
	if target == "mx" {
		return nil
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return fmt.Errorf("%q is not a host with a port", target)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("%q is not a port", port)
	}
	r.Port = uint16(n)
	if a, err := netip.ParseAddr(host); err == nil {
		r.Host = address.LiteralDomain(a)
		return nil
	}
	r.Host, err = address.ParseDomain(host)
	return err
}

// firstLineOf reads a secret.
func firstLineOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	defer f.Close()
	octets, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	line, _, _ := strings.Cut(string(octets), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", fmt.Errorf("read password: the first line of %s is empty", file)
	}
	return line, nil
}

func addresses(list []string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

func durations(list []config.Duration) []time.Duration {
	out := make([]time.Duration, len(list))
	for i, d := range list {
		out[i] = d.Duration()
	}
	return out
}

// stsHandler serves our own MTA-STS policy for every domain of ours.
func stsHandler(r *Rooms) http.Handler {
	c := r.Config
	policy, serves := STSPolicy(c)
	return mtasts.Handler(func(ctx context.Context, domain address.Domain) (mtasts.Policy, bool) {
		if !serves {
			return policy, false
		}
		ours, err := r.Accounts.IsLocal(ctx, domain)
		return policy, err == nil && ours
	})
}

// STSPolicy is the policy that the configuration asks others to follow.
func STSPolicy(c *config.Config) (mtasts.Policy, bool) {
	mode, ok := mtasts.ParseMode(c.MTASTS.Mode)
	p := mtasts.Policy{Mode: mode, MaxAge: c.MTASTS.MaxAge.Duration(), MX: c.MTASTS.MX}
	if len(p.MX) == 0 {
		p.MX = []string{c.Hostname}
	}
	return p, ok && mode != mtasts.None
}
