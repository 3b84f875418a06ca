package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/resolver"
)

// CheckPrograms looks whether mail programs find the server by each domain's records.
func CheckPrograms(ctx context.Context, c *config.Config, r resolver.Resolver, domains []string) []Finding {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var out []Finding
	for _, d := range domains {
		out = append(out, checkPrograms(ctx, c, r, d)...)
	}
	return out
}

// checkPrograms looks whether mail programs find the server by a domain's records: SRV,
// and the names of autoconfiguration and autodiscovery where the server answers there.
func checkPrograms(ctx context.Context, c *config.Config, r resolver.Resolver, name string) []Finding {
	domain, err := address.ParseDomain(name)
	if err != nil {
		return nil
	}
	remedy := "the records are printed by poczta domain dns " + name
	var missing, strange, silent []string
	for _, row := range Records(domain, c) {
		if row.Type != "SRV" {
			continue
		}
		label, _, _ := strings.Cut(row.Name, ".")
		switch told, err := toldSRV(ctx, r, row.Name); {
		case errors.Is(err, resolver.ErrNotFound):
			if !strings.HasSuffix(row.Value, " .") { // that a service is not there need not be said
				missing = append(missing, label)
			}
		case err != nil:
			silent = append(silent, label)
		case !slices.ContainsFunc(told, func(v string) bool { return sameServer(v, row.Value) }):
			strange = append(strange, label+" ("+told[0]+")")
		}
	}
	f := Finding{Level: Warning, Area: "dns", Remedy: remedy}
	switch {
	case len(strange) > 0:
		f.Text = fmt.Sprintf("mail programs are led elsewhere for %s by the SRV records %s", name, strings.Join(strange, ", "))
	case len(missing) > 0:
		f.Text = fmt.Sprintf("mail programs don't find all servers of %s: it has no SRV record %s", name, strings.Join(missing, ", "))
	case len(silent) > 0:
		f.Text, f.Remedy = fmt.Sprintf("SRV records of %s: not known, since DNS gave no answer", name), "check dns.servers, then run poczta check again"
	default:
		f = Finding{Level: Fine, Area: "dns", Text: fmt.Sprintf("mail programs find the servers of %s by SRV records", name)}
	}
	return append([]Finding{f}, checkSettingsHosts(ctx, c, r, domain)...)
}

// toldSRV are the values of an SRV record as zone files have them.
func toldSRV(ctx context.Context, r resolver.Resolver, name string) ([]string, error) {
	ans, err := r.Lookup(ctx, name, resolver.SRV)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, rec := range ans.Records {
		out = append(out, fmt.Sprintf("%d %d %d %s.", rec.Preference, rec.Weight, rec.Port, rec.Host))
	}
	return out, nil
}

// sameServer compares port and host of two SRV values; priorities and weights are the
// operator's choice.
func sameServer(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	return len(x) == 4 && len(y) == 4 && x[2] == y[2] && strings.EqualFold(x[3], y[3])
}

// checkSettingsHosts looks whether autoconfig.DOMAIN and autodiscover.DOMAIN lead here,
// and whether a certificate is for them.
func checkSettingsHosts(ctx context.Context, c *config.Config, r resolver.Resolver, domain address.Domain) []Finding {
	if !c.Autoconfigures() {
		return nil
	}
	ours, err := resolver.Addrs(ctx, r, c.Hostname)
	if err != nil {
		return nil // said already
	}
	var out []Finding
	for _, host := range daemon.SettingsHosts(domain) {
		addrs, err := resolver.Addrs(ctx, r, host)
		switch {
		case err != nil:
			out = append(out, dnsTrouble(err, "address of "+host, fmt.Sprintf("add: %s. CNAME %s.", host, c.Hostname)))
		case !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(ours, a) }):
			out = append(out, Finding{Level: Warning, Area: "dns", Text: fmt.Sprintf("%s is not this host: mail programs don't get their settings from it", host),
				Remedy: fmt.Sprintf("add: %s. CNAME %s., or set autoconfig.mode = \"off\"", host, c.Hostname)})
		default:
			out = append(out, settingsCertificate(c, host))
		}
	}
	return out
}

// settingsCertificate looks whether a name that leads here has a certificate.
func settingsCertificate(c *config.Config, host string) Finding {
	good := Finding{Level: Fine, Area: "tls", Text: "mail programs ask " + host + " for their settings"}
	bad := Finding{Level: Warning, Area: "tls", Text: "no certificate is for " + host + ": mail programs refuse the settings it tells"}
	switch c.TLS.Mode {
	case "acme":
		bad.Key, bad.Remedy = "autoconfig.certificates", "set it to true, or add the name to tls.names"
		if c.Autoconfig.Certificates || slices.Contains(c.TLSNames(), host) {
			return good
		}
	case "files":
		bad.Key, bad.Remedy = "tls.certificate", "add a certificate with that name"
		for _, p := range c.TLS.Certificates {
			pair, err := tls.LoadX509KeyPair(p.Cert, p.Key)
			if err == nil && pair.Leaf.VerifyHostname(host) == nil {
				return good
			}
		}
	default:
		bad.Key, bad.Remedy = "tls.mode", `set tls.mode = "acme", or name files`
	}
	return bad
}
