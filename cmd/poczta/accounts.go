package main

import (
	"context"
	"fmt"
	"io"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/admin"
)

// asJSON is the flag of list commands.
type asJSON struct {
	JSON bool `name:"json" help:"Print one JSON array."`
}

// on gives a desk the flag.
func (j asJSON) on(d *admin.Desk) *admin.Desk {
	d.JSON = j.JSON
	return d
}

type domainCmd struct {
	Add     domainAddCmd     `cmd:"" help:"Begin to serve a domain."`
	List    domainListCmd    `cmd:"" help:"List the domains."`
	DNS     domainDNSCmd     `cmd:"" name:"dns" help:"Print the zone lines to add."`
	Rotate  domainRotateCmd  `cmd:"" help:"Change the domain's DKIM keys, by one step at a time."`
	Reports domainReportsCmd `cmd:"" help:"What other servers report: mail in our domains' name (DMARC), and TLS with our hosts."`
	Remove  domainRemoveCmd  `cmd:"" help:"End the service of a domain without accounts and aliases."`
}

type domainArg struct {
	Domain string `arg:"" help:"As in example.org."`
}

type domainAddCmd struct{ domainArg }

func (c *domainAddCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.DomainAdd(ctx, c.Domain)
}

type domainListCmd struct{ asJSON }

func (c *domainListCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).DomainList(ctx)
}

type domainDNSCmd struct {
	domainArg
	asJSON
}

func (c *domainDNSCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).DomainDNS(ctx, c.Domain)
}

type domainRotateCmd struct {
	domainArg
	asJSON
	Force bool `help:"Sign with the new keys at once, whatever DNS shows: for a key that has leaked."`
}

func (c *domainRotateCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).DomainRotate(ctx, c.Domain, c.Force)
}

type domainRemoveCmd struct {
	domainArg
	Yes bool `help:"Accepted for symmetry; nothing is destroyed." short:"y"`
}

func (c *domainRemoveCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.DomainRemove(ctx, c.Domain)
}

type accountCmd struct {
	Add         accountAddCmd      `cmd:"" help:"Make an account with a mailbox."`
	List        accountListCmd     `cmd:"" help:"List accounts."`
	Password    accountPasswordCmd `cmd:"" help:"Set a new password."`
	AppPassword appPasswordCmd     `cmd:"" help:"Random passwords, one for each program."`
	Quota       accountQuotaCmd    `cmd:"" help:"Set the quota."`
	SendAs      sendAsCmd          `cmd:"" help:"Further addresses that an account may send as."`
	Address     addressCmd         `cmd:"" help:"Further addresses of an account's own."`
	Forward     forwardCmd         `cmd:"" help:"Forward an account's mail to other addresses, with or without a copy in the mailbox."`
	Suspended   suspendedCmd       `cmd:"" help:"List forwards of accounts and aliases that are suspended, since mail to their targets failed."`
	Vacation    vacationCmd        `cmd:"" help:"Out-of-office replies."`
	Conduct     accountConductCmd  `cmd:"" help:"Accounts that are held back, since they send unlike themselves."`
	Disable     accountDisableCmd  `cmd:"" help:"Refuse logins and mail; nothing is removed."`
	Enable      accountEnableCmd   `cmd:"" help:"Undo disable."`
	Import      accountImportCmd   `cmd:"" help:"Make many accounts from a file, with foreign password hashes."`
	Remove      accountRemoveCmd   `cmd:"" help:"Remove an account; its mail stays in retention."`
}

type accountArg struct {
	Address string `arg:"" help:"An address or the login name of the account."`
}

type accountAddCmd struct {
	accountArg
	secret
	Login      string `help:"Login name, when it differs from the address."`
	Name       string `help:"Display name."`
	Language   string `help:"en or pl." enum:"en,pl," default:""`
	Quota      string `help:"As in 2GiB; none is no limit." default:"none"`
	NoPassword bool   `help:"No password: only app passwords and certificates log in."`
}

func (c *accountAddCmd) Input(ctx context.Context, p *process) (io.ReadCloser, error) {
	if _, err := address.Parse(c.Address); err != nil {
		return nil, fmt.Errorf("%w: %q is not an address: %w; write as in ala@example.org", admin.ErrUsage, c.Address, err)
	}
	if c.NoPassword {
		return io.NopCloser(eof{}), nil
	}
	return c.secret.Input(ctx, p)
}

func (c *accountAddCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.AccountAdd(ctx, c.Address, admin.AccountOptions{Login: c.Login, Name: c.Name, Language: c.Language, Quota: c.Quota, NoPassword: c.NoPassword})
}

type accountListCmd struct {
	asJSON
	Domain  string `help:"Only those of a domain."`
	Search  string `help:"Only those whose address, login or name holds the text."`
	Removed bool   `help:"Those that were removed."`
}

func (c *accountListCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).AccountList(ctx, c.Domain, c.Search, c.Removed)
}

type accountPasswordCmd struct {
	accountArg
	secret
}

func (c *accountPasswordCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.AccountPassword(ctx, c.Address)
}

type appPasswordCmd struct {
	Add    appPasswordAddCmd    `cmd:"" help:"Make an app password and print it, once."`
	List   appPasswordListCmd   `cmd:"" help:"List app passwords; they themselves are not known."`
	Remove appPasswordRemoveCmd `cmd:"" help:"Take an app password back; programs that use it are refused at once."`
}

type appPasswordAddCmd struct {
	accountArg
	asJSON
	Label string `help:"What it is for, as in phone." default:"app"`
}

func (c *appPasswordAddCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).AppPasswordAdd(ctx, c.Address, c.Label)
}

type appPasswordListCmd struct {
	accountArg
	asJSON
}

func (c *appPasswordListCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).AppPasswordList(ctx, c.Address)
}

type appPasswordRemoveCmd struct {
	accountArg
	ID string `arg:"" help:"Its number in the list."`
}

func (c *appPasswordRemoveCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.AppPasswordRemove(ctx, c.Address, c.ID)
}

type accountQuotaCmd struct {
	accountArg
	Quota string `arg:"" help:"As in 2GiB; none is no limit."`
}

func (c *accountQuotaCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.AccountQuota(ctx, c.Address, c.Quota)
}

type sendAsCmd struct {
	Add    sendAsAddCmd    `cmd:"" help:"Let an account send as a further address, or as all of a domain."`
	List   sendAsListCmd   `cmd:"" help:"List the addresses that an account may send as."`
	Remove sendAsRemoveCmd `cmd:"" help:"Take back what send-as add has granted."`
}

type sendAsArgs struct {
	accountArg
	As string `arg:"" help:"An address, or @example.org for all of a domain."`
}

type sendAsAddCmd struct{ sendAsArgs }

func (c *sendAsAddCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.SendAs(ctx, c.Address, c.As, true)
}

type sendAsRemoveCmd struct{ sendAsArgs }

func (c *sendAsRemoveCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.SendAs(ctx, c.Address, c.As, false)
}

type sendAsListCmd struct {
	accountArg
	asJSON
}

func (c *sendAsListCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).SendAsList(ctx, c.Address)
}

type addressCmd struct {
	Add    addressAddCmd    `cmd:"" help:"Give the account one more address."`
	Remove addressRemoveCmd `cmd:"" help:"Take an address away."`
}

type addressArgs struct {
	accountArg
	Further string `arg:"" name:"further-address" help:"The address to add or take away."`
}

type addressAddCmd struct{ addressArgs }

func (c *addressAddCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.AccountAddress(ctx, c.Address, c.Further, true)
}

type addressRemoveCmd struct{ addressArgs }

func (c *addressRemoveCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.AccountAddress(ctx, c.Address, c.Further, false)
}

type accountDisableCmd struct{ accountArg }

func (c *accountDisableCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.AccountEnable(ctx, c.Address, false)
}

type accountEnableCmd struct{ accountArg }

func (c *accountEnableCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.AccountEnable(ctx, c.Address, true)
}

type accountImportCmd struct {
	asJSON
	File       string `arg:"" help:"CSV (address,login,hash-or-password,quota,name) or Dovecot's passwd-file; - is the standard input."`
	Format     string `help:"auto, csv or dovecot." enum:"auto,csv,dovecot" default:"auto"`
	Domain     string `help:"Domain of users that are listed without one."`
	AddDomains bool   `help:"Add domains that are not served yet."`
}

func (c *accountImportCmd) Input(_ context.Context, p *process) (io.ReadCloser, error) {
	return p.open(c.File)
}

func (c *accountImportCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).AccountImport(ctx, c.Format, c.Domain, c.AddDomains)
}

type accountRemoveCmd struct {
	accountArg
	yes
	Purge bool `help:"Remove its mail for ever, at once."`
}

func (c *accountRemoveCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.AccountRemove(ctx, c.Address, c.Purge)
}

type aliasCmd struct {
	Add    aliasAddCmd    `cmd:"" help:"Let mail for an address go to others."`
	List   aliasListCmd   `cmd:"" help:"List the aliases."`
	Remove aliasRemoveCmd `cmd:"" help:"Remove an alias, or some of its targets."`
}

type aliasAddCmd struct {
	Alias   string   `arg:"" help:"An address, or @example.org for the catch-all."`
	Targets []string `arg:"" help:"Addresses that get the mail."`
}

func (c *aliasAddCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.AliasAdd(ctx, c.Alias, c.Targets)
}

type aliasListCmd struct {
	asJSON
	Domain string `arg:"" optional:"" help:"Only those of a domain."`
}

func (c *aliasListCmd) Work(ctx context.Context, d *admin.Desk) error {
	return c.on(d).AliasList(ctx, c.Domain)
}

type aliasRemoveCmd struct {
	Alias   string   `arg:"" help:"An address, or @example.org for the catch-all."`
	Targets []string `arg:"" optional:"" help:"Only these targets."`
}

func (c *aliasRemoveCmd) Work(ctx context.Context, d *admin.Desk) error {
	return d.AliasRemove(ctx, c.Alias, c.Targets)
}
