package admin

import (
	"context"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/mtasts"
)

// DomainRow is a domain in lists.
type DomainRow struct {
	Domain     string `json:"domain"`
	Accounts   int64  `json:"accounts"`
	Aliases    int64  `json:"aliases"`
	Postmaster string `json:"postmaster,omitempty"`
	Created    string `json:"created"`
	// DKIM are the domain's signing keys, the active ones behind those that wait.
	DKIM []KeyRow `json:"dkim"`
}

func parseDomain(s string) (address.Domain, error) {
	d, err := address.ParseDomain(strings.TrimPrefix(s, "@"))
	if err != nil || d.IsLiteral() {
		return address.Domain{}, fmt.Errorf("%w: %q is not a domain name; write as in example.org", ErrUsage, s)
	}
	return d, nil
}

// DomainAdd begins to serve a domain.
func (d *Desk) DomainAdd(ctx context.Context, name string) error {
	domain, err := parseDomain(name)
	if err != nil {
		return err
	}
	if err := d.Rooms.Accounts.AddDomain(ctx, domain); err != nil {
		return explain(err, "add domain "+name)
	}
	if _, err := d.createKeys(ctx, domain); err != nil {
		return err
	}
	d.say("Mail for %s is taken now. Its DNS records: poczta domain dns %s", domain.Unicode(), domain)
	return nil
}

// DomainRemove ends the service of a domain that has no accounts and aliases.
func (d *Desk) DomainRemove(ctx context.Context, name string) error {
	domain, err := parseDomain(name)
	if err != nil {
		return err
	}
	if err := d.Rooms.Accounts.RemoveDomain(ctx, domain); err != nil {
		return explain(err, "remove domain "+name)
	}
	if err := d.Rooms.Keys.Forget(ctx, domain); err != nil {
		return explain(err, "")
	}
	d.say("%s is not served any more; remove its MX record too, and in a week its DKIM records.", domain.Unicode())
	return nil
}

// DomainList lists the domains.
func (d *Desk) DomainList(ctx context.Context) error {
	all, err := d.Rooms.Accounts.Domains(ctx)
	if err != nil {
		return explain(err, "list domains")
	}
	signing, err := d.keysByDomain(ctx)
	if err != nil {
		return explain(err, "")
	}
	var rows []DomainRow
	for _, x := range all {
		row := DomainRow{Domain: x.Name.String(), Accounts: x.Accounts, Aliases: x.Aliases, Created: stamp(x.Created), DKIM: keyRows(signing[x.Name])}
		if x.Postmaster != 0 {
			if a, err := d.Rooms.Accounts.ByID(ctx, x.Postmaster); err == nil {
				row.Postmaster = a.Address.String()
			}
		}
		rows = append(rows, row)
	}
	return table(d, rows, "DOMAIN\tACCOUNTS\tALIASES\tCREATED\tDKIM", func(r DomainRow) string {
		return fmt.Sprintf("%s\t%d\t%d\t%s\t%s", r.Domain, r.Accounts, r.Aliases, r.Created, keySummary(r.DKIM))
	})
}

// RecordRow is a DNS record that a domain needs.
type RecordRow struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

// Records are the DNS records that a domain needs under a configuration. A
// service that is off is said not to be there (RFC 2782: the target "."), so that
// mail programs do not look for it.
func Records(domain address.Domain, c *config.Config) []RecordRow {
	name, host := domain.String()+".", c.Hostname+"."
	srv := func(service string, port int) RecordRow {
		value := fmt.Sprintf("0 1 %d %s", port, host)
		if port == 0 {
			value = "0 0 0 ."
		}
		return RecordRow{"_" + service + "._tcp." + name, "SRV", value, "mail programs find the server (RFC 6186, RFC 8314)"}
	}
	rows := []RecordRow{
		{name, "MX", "10 " + host, "mail for the domain comes here"},
		{name, "TXT", `"v=spf1 mx -all"`, "only this server sends for the domain (SPF)"},
		{"_dmarc." + name, "TXT", `"v=DMARC1; p=none; rua=mailto:postmaster@` + domain.String() + `"`,
			"others report who sends as the domain (RFC 9989); write p=quarantine or p=reject once the reports show that your own mail passes"},
	}
	for _, service := range []string{"submissions", "submission", "pop3s", "pop3"} {
		rows = append(rows, srv(service, daemon.PortOf(c, service)))
	}
	rows = append(rows, settingsRecords(domain, c)...)
	return append(rows, transportRecords(domain, c)...)
}

// settingsRecords lead mail programs that don't ask for SRV to the settings that the
// server tells over HTTPS; none where it does not.
func settingsRecords(domain address.Domain, c *config.Config) []RecordRow {
	if !c.Autoconfigures() {
		return nil
	}
	name, host, why := domain.String()+".", c.Hostname+".", "mail programs ask here for their settings (autoconfig, autodiscover)"
	var rows []RecordRow
	for _, h := range daemon.SettingsHosts(domain) {
		rows = append(rows, RecordRow{h + ".", "CNAME", host, why})
	}
	return append(rows, RecordRow{"_autodiscover._tcp." + name, "SRV", fmt.Sprintf("0 1 %d %s", daemon.PortOf(c, "https"), host), why})
}

// transportRecords are those about TLS between servers: where others report about it
// (RFC 8460) and, when a policy is served, that there is one (RFC 8461).
func transportRecords(domain address.Domain, c *config.Config) []RecordRow {
	name := domain.String() + "."
	to := c.TLSReports.To
	if to == "" {
		to = "mailto:postmaster@" + domain.String()
		if https, ok := daemon.TLSReportURL(c); ok {
			to += "," + https
		}
	}
	rows := []RecordRow{{"_smtp._tls." + name, "TXT", `"v=TLSRPTv1; rua=` + to + `"`, "other servers report failures of TLS (RFC 8460)"}}
	policy, serves := daemon.STSPolicy(c)
	if !serves {
		return rows
	}
	return append(rows,
		RecordRow{"_mta-sts." + name, "TXT", `"` + mtasts.Record{ID: policy.ID()}.String() + `"`, "other servers fetch the policy of MTA-STS (RFC 8461); the id changes with it"},
		RecordRow{"mta-sts." + name, "CNAME", c.Hostname + ".", "where the policy is served over HTTPS"})
}

// DomainDNS prints the zone lines to add for a domain.
func (d *Desk) DomainDNS(ctx context.Context, name string) error {
	domain, err := d.local(ctx, name)
	if err != nil {
		return err
	}
	all, err := d.Rooms.Keys.List(ctx, domain)
	if err != nil {
		return explain(err, "")
	}
	return d.printRecords(append(Records(domain, d.Rooms.Config), KeyRecords(all)...))
}

func (d *Desk) printRecords(rows []RecordRow) error {
	if d.JSON {
		return table(d, rows, "", nil)
	}
	fmt.Fprint(d.Out, ZoneLines(rows, d.Rooms.Config.Hostname))
	return nil
}

// ZoneLines writes records as lines of a zone file, and what they can't say as comments.
func ZoneLines(rows []RecordRow, hostname string) string {
	return zoneText(rows) + fmt.Sprintf("; %s. needs A (and AAAA) records with this host's public addresses,\n; and the reverse name (PTR) of these addresses must be %s.\n", hostname, hostname)
}

// zoneText writes records as lines of a zone file.
func zoneText(rows []RecordRow) string {
	var b strings.Builder
	width := 0
	for _, r := range rows {
		width = max(width, len(r.Name))
	}
	last := ""
	for _, r := range rows {
		if r.Why != last {
			fmt.Fprintf(&b, "; %s\n", r.Why)
			last = r.Why
		}
		fmt.Fprintf(&b, "%-*s  3600  IN  %-4s %s\n", width, r.Name, r.Type, r.Value)
	}
	return b.String()
}
