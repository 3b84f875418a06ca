package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/relaydomain"
	"poczta.example/poczta/internal/tlspolicy"
	"poczta.example/poczta/internal/tlsreport"
)

// newRelayDomains builds the domains that we relay for.
func newRelayDomains(r *Rooms, o *outbound, metrics *obs.Metrics, log *slog.Logger) (*relaydomain.Domains, error) {
	c := r.Config
	rc := relaydomain.Config{Hello: c.Hostname, Finder: &relaydomain.MX{Lookup: o.mx, Port: uint16(c.Relay.Port)}, Queue: etrnQueue{r.Queue}, Logger: log, Hooks: metrics.RelayDomains()}
	for _, d := range c.Relay.Domains {
		x, err := relayDomain(&d)
		if err != nil {
			return nil, fmt.Errorf("relay.domain %s: %w", d.Domain, err)
		}
		rc.Domains = append(rc.Domains, x)
	}
	return relaydomain.New(rc)
}

func relayDomain(d *config.RelayDomain) (relaydomain.Domain, error) {
	ways := map[string]relaydomain.Recipients{"call": relaydomain.Call, "list": relaydomain.List, "any": relaydomain.Any}
	out := relaydomain.Domain{Host: d.Host, Recipients: ways[d.Recipients], AcceptWhenDown: d.WhenDown == "accept", ETRN: config.Prefixes(d.ETRN)}
	var err error
	if out.Name, err = address.ParseDomain(d.Domain); err != nil || d.RecipientFile == "" {
		return out, err
	}
	f, err := os.Open(d.RecipientFile)
	if err != nil {
		return out, fmt.Errorf("read recipients: %w", err)
	}
	defer f.Close()
	if out.List, err = relaydomain.ReadList(f, out.Name); err != nil {
		return out, fmt.Errorf("read recipients from %s: %w", d.RecipientFile, err)
	}
	return out, nil
}

// etrnQueue runs a domain's queue at once.
type etrnQueue struct{ q *queue.Queue }

// Run implements relaydomain.Queue.
func (e etrnQueue) Run(ctx context.Context, domain address.Domain) (int, error) {
	return e.q.Retry(ctx, queue.Filter{Destination: domain.String()})
}

// newTLSReports builds the reporter; nil when nobody here could be its sender.
func newTLSReports(ctx context.Context, r *Rooms, o *outbound, log *slog.Logger) (*tlsreport.Reporter, error) {
	c := r.Config
	if !c.TLSReports.Send || !c.DKIM.Sign {
		return nil, nil
	}
	from, err := reportSender(ctx, r)
	if err != nil || from.IsZero() {
		return nil, err
	}
	return tlsreport.New(tlsreport.Config{Store: o.tls, Reported: tlspolicy.ErrReported, DB: r.DB, Resolver: o.dns, Accepter: r.Post, Router: r.Accounts,
		From: from, Sign: resigner{r.Keys}.signWhole, Barred: o.mx.BarredURL, Logger: log})
}

// reportSender is tls_reports.from, or the postmaster of the first domain; zero
// while there is none.
func reportSender(ctx context.Context, r *Rooms) (address.Address, error) {
	if r.Config.TLSReports.From != "" {
		return address.Parse(r.Config.TLSReports.From)
	}
	domains, err := r.Accounts.Domains(ctx)
	if err != nil || len(domains) == 0 {
		return address.Address{}, err
	}
	return address.New("postmaster", domains[0].Name)
}
