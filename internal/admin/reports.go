package admin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dmarcreport"
	"poczta.example/poczta/internal/feedback"
	"poczta.example/poczta/internal/tlsreport"
)

// reportsBack is how far back reports are listed when no time is given.
const reportsBack = 30 * 24 * time.Hour

// ReportsOptions say which reports DomainReports is to list.
type ReportsOptions struct {
	Domain string // "" is all of ours
	TLS    bool
	Show   string // one report with its details
	// Sources sums up by host, Failures lists reports of single messages; of DMARC.
	Sources, Failures bool
	Since             string // as in 48h, or a time
	Limit             int
}

// DomainReports lists what other servers report about mail in our domains' name (DMARC), or
// about TLS with our hosts.
func (d *Desk) DomainReports(ctx context.Context, o ReportsOptions) error {
	if o.TLS && (o.Sources || o.Failures) || o.Sources && o.Failures || o.Show != "" && (o.Sources || o.Failures) {
		return fmt.Errorf("%w: --show, --sources and --failures go one at a time, the latter two without --tls", ErrUsage)
	}
	since := d.Now().Add(-reportsBack)
	if o.Since != "" {
		var err error
		if since, err = d.moment(o.Since); err != nil {
			return err
		}
	}
	domain := ""
	if o.Domain != "" {
		name, err := address.ParseDomain(o.Domain)
		if err != nil {
			return fmt.Errorf("%w: %q is not a domain: %w", ErrUsage, o.Domain, err)
		}
		domain = name.String()
	}
	switch {
	case o.TLS && o.Show != "":
		return d.showTLS(ctx, o.Show)
	case o.Show != "":
		return d.showDMARC(ctx, o.Show)
	case o.TLS:
		return d.listTLS(ctx, domain, since, o.Limit)
	case o.Sources:
		return d.listSources(ctx, domain, since, o.Limit)
	case o.Failures:
		return d.listFailures(ctx, domain, since, o.Limit)
	}
	rows, err := d.Rooms.DMARCReports.List(ctx, domain, since, o.Limit)
	if err != nil {
		return fmt.Errorf("list reports: %w", err)
	}
	return table(d, rows, "ID\tDOMAIN\tFROM\tUNTIL\tREPORTER\tMESSAGES\tPASSED", func(r dmarcreport.Received) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%d\t%d", r.ID, r.Domain, stamp(r.Begin), stamp(r.End), reporter(r.Organization, r.Reporter), r.Messages, r.Passed)
	})
}

// reporter is who reports, and whether anything proves it.
func reporter(organization, proven string) string {
	if proven == "" {
		return organization + " (unproven)"
	}
	if strings.EqualFold(organization, proven) || organization == "" {
		return proven
	}
	return organization + " (" + proven + ")"
}

func (d *Desk) listSources(ctx context.Context, domain string, since time.Time, limit int) error {
	rows, err := d.Rooms.DMARCReports.Sources(ctx, domain, since, limit)
	if err != nil {
		return fmt.Errorf("sum up reports: %w", err)
	}
	return table(d, rows, "HOST\tMESSAGES\tPASSED\tREPORTS", func(r dmarcreport.Source) string {
		host := r.Address
		if host == "" {
			host = "(unnamed)"
		}
		return fmt.Sprintf("%s\t%d\t%d\t%d", host, r.Messages, r.Passed, r.Reports)
	})
}

func (d *Desk) listFailures(ctx context.Context, domain string, since time.Time, limit int) error {
	rows, err := d.Rooms.DMARCReports.Failures(ctx, domain, since, limit)
	if err != nil {
		return fmt.Errorf("list failure reports: %w", err)
	}
	return table(d, rows, "ID\tDOMAIN\tHOST\tTYPE\tFAILURE\tARRIVED\tREPORTER\tMESSAGES", func(r dmarcreport.Failure) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d", r.ID, r.Domain, r.Source, r.Type, r.Failure, stamp(r.Arrived), reporter("", r.Reporter), r.Incidents)
	})
}

func (d *Desk) listTLS(ctx context.Context, domain string, since time.Time, limit int) error {
	rows, err := d.Rooms.TLSReports.List(ctx, domain, since, limit)
	if err != nil {
		return fmt.Errorf("list TLS reports: %w", err)
	}
	return table(d, rows, "ID\tDOMAIN\tFROM\tUNTIL\tREPORTER\tSUCCESSES\tFAILURES", func(r tlsreport.Received) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%d\t%d", r.ID, r.Domain, stamp(r.Begin), stamp(r.End), reporter(r.Organization, r.Reporter), r.Successes, r.Failures)
	})
}

func (d *Desk) showDMARC(ctx context.Context, id string) error {
	r, err := d.Rooms.DMARCReports.Show(ctx, id)
	if err != nil {
		return fmt.Errorf("show report %s: %w", id, err)
	}
	if d.JSON {
		return table(d, []dmarcreport.Shown{r}, "", nil)
	}
	d.say("%s  %s, %s to %s, by %s", r.ID, r.Domain, stamp(r.Begin), stamp(r.End), reporter(r.Organization, r.Reporter))
	d.say("  policy p=%s, %d messages, %d of them passed", r.Policy.Policy, r.Messages, r.Passed)
	if r.Damaged != "" {
		d.say("  the report could not be read to its end: %s", r.Damaged)
	}
	return table(d, r.Records, "HOST\tMESSAGES\tDKIM\tSPF\tDONE\tFROM\tREVERSE-PATH", func(x feedback.Record) string {
		return fmt.Sprintf("%s\t%d\t%s\t%s\t%s\t%s\t%s", x.Source, x.Count, x.DKIM, x.SPF, x.Disposition, x.HeaderFrom, x.EnvelopeFrom)
	})
}

func (d *Desk) showTLS(ctx context.Context, id string) error {
	r, err := d.Rooms.TLSReports.Show(ctx, id)
	if err != nil {
		return fmt.Errorf("show report %s: %w", id, err)
	}
	if d.JSON {
		return table(d, []tlsreport.Shown{r}, "", nil)
	}
	d.say("%s  %s, %s to %s, by %s", r.ID, r.Domain, stamp(r.Begin), stamp(r.End), reporter(r.Organization, r.Reporter))
	for _, p := range r.Policies {
		d.say("  policy %s of %s: %d sessions succeeded, %d failed", p.Policy.Type, p.Policy.Domain, p.Summary.Success, p.Summary.Failure)
		for _, f := range p.Failures {
			d.say("    %d times %s: from %s to %s %s %s", f.Sessions, f.Result, f.SendingIP, f.ReceivingHost, f.ReceivingIP, f.Reason)
		}
	}
	return nil
}
