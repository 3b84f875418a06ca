package main

import (
	"context"
	"io"

	"poczta.example/poczta/internal/admin"
)

type quarantineCmd struct {
	List    quarantineListCmd    `cmd:"" help:"List mail that is set apart: in Quarantine and Junk, and on hold on its way out."`
	Show    quarantineShowCmd    `cmd:"" help:"Tell why a message is set apart."`
	Release quarantineReleaseCmd `cmd:"" help:"Put mail into the INBOX of its recipients, or send it on; the classifier learns that it is wanted."`
	Delete  quarantineDeleteCmd  `cmd:"" help:"Delete mail; what lay in mailboxes can be restored for a while."`
}

type quarantineFilter struct {
	Account string `help:"Only mail of this account." placeholder:"ADDRESS"`
	Kind    string `help:"Only what lies in quarantine, in junk, or on hold in the queue." enum:"quarantine,junk,queue," default:""`
	Older   string `help:"Only mail set apart longer ago: 2h, 2026-11-23, or with a time."`
	Rule    string `help:"Only where the rule holds this text."`
	Sender  string `help:"Only this reverse-path; <> is the null one."`
}

func (f quarantineFilter) admin(id string, all bool) admin.QuarantineFilter {
	return admin.QuarantineFilter{ID: id, Account: f.Account, Kind: f.Kind, Rule: f.Rule, Sender: f.Sender, Older: f.Older, All: all}
}

type quarantineListCmd struct {
	quarantineFilter
	asJSON
}

func (c *quarantineListCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).QuarantineList(ctx, c.admin("", false))
}

type quarantineShowCmd struct {
	ID      string `arg:"" help:"Queue id."`
	Account string `help:"Only the copy of this account." placeholder:"ADDRESS"`
	Message bool   `help:"Write the message itself, octet by octet. It may be dangerous."`
	asJSON
}

func (c *quarantineShowCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).QuarantineShow(ctx, admin.QuarantineFilter{ID: c.ID, Account: c.Account}, c.Message)
}

type quarantineTarget struct {
	ID string `arg:"" optional:"" help:"Queue id."`
	quarantineFilter
	All bool `help:"All that is set apart."`
}

type quarantineReleaseCmd struct{ quarantineTarget }

func (c *quarantineReleaseCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.QuarantineRelease(ctx, c.admin(c.ID, c.All))
}

type quarantineDeleteCmd struct {
	quarantineTarget
	Spam bool `help:"The classifier learns that it is spam."`
	yes
}

// Input implements asker.
func (c *quarantineDeleteCmd) Input(_ context.Context, p *process) (io.ReadCloser, error) {
	return io.NopCloser(eof{}), c.confirm(p, "What is on hold in the queue is gone for ever, and nobody is told.")
}

func (c *quarantineDeleteCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.QuarantineDelete(ctx, c.admin(c.ID, c.All), c.Spam)
}

type domainReportsCmd struct {
	Domain   string `arg:"" optional:"" help:"Only those about this domain."`
	TLS      bool   `name:"tls" help:"Reports about TLS with our hosts (RFC 8460) instead of DMARC."`
	Show     string `help:"Show one report with its details." placeholder:"ID"`
	Sources  bool   `help:"Sum up by host that sent in our name."`
	Failures bool   `help:"List reports about single messages that failed."`
	Since    string `help:"Reports that end since then: 48h, 2026-11-23, or with a time; 30 days when not given."`
	Limit    int    `help:"The newest to list." default:"1000"`
	asJSON
}

func (c *domainReportsCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).DomainReports(ctx, admin.ReportsOptions{Domain: c.Domain, TLS: c.TLS, Show: c.Show, Sources: c.Sources, Failures: c.Failures, Since: c.Since, Limit: c.Limit})
}

type accountConductCmd struct {
	Address string `arg:"" optional:"" help:"An address or the login name of the account."`
	Release bool   `help:"Let the account send again; no rule strikes for a day."`
	asJSON
}

func (c *accountConductCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).AccountConduct(ctx, c.Address, c.Release)
}
