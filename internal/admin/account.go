package admin

import (
	"context"
	"fmt"
	"strconv"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/config"
)

// AccountRow is an account in lists.
type AccountRow struct {
	ID        int64    `json:"id"`
	Address   string   `json:"address"`
	Login     string   `json:"login"`
	Name      string   `json:"name"`
	Language  string   `json:"language"`
	Quota     int64    `json:"quota"` // octets; 0 is no limit
	State     string   `json:"state"`
	Password  bool     `json:"password"`
	Foreign   bool     `json:"foreign_hash"`
	Messages  int64    `json:"messages"`
	Octets    int64    `json:"octets"`
	Created   string   `json:"created"`
	Addresses []string `json:"addresses,omitempty"`
	// Forward is where its mail is forwarded to; none without.
	Forward  *ForwardRow `json:"forward,omitempty"`
	Vacation bool        `json:"vacation"` // out-of-office replies are set up
}

func parseAddress(s string) (address.Address, error) {
	a, err := address.Parse(s)
	if err != nil {
		return address.Address{}, fmt.Errorf("%w: %q is not an address: %w; write as in ala@example.org", ErrUsage, s, err)
	}
	return a, nil
}

// find returns an account by one of its addresses or its login name.
func (d *Desk) find(ctx context.Context, who string) (account.Account, error) {
	a, err := d.Rooms.Accounts.Get(ctx, who)
	if err != nil {
		return account.Account{}, explain(err, "")
	}
	return a, nil
}

// AccountOptions are what AccountAdd may be told.
type AccountOptions struct {
	Login, Name, Language string
	Quota                 string
	NoPassword            bool
}

// AccountAdd makes an account; the input's first line is its password.
func (d *Desk) AccountAdd(ctx context.Context, addr string, o AccountOptions) error {
	a, err := parseAddress(addr)
	if err != nil {
		return err
	}
	n := account.NewAccount{Address: a, Login: o.Login, Name: o.Name, Language: o.Language}
	if n.Quota, err = parseQuota(o.Quota); err != nil {
		return err
	}
	if !o.NoPassword {
		if n.Password, err = d.secret(); err != nil {
			return err
		}
	}
	made, err := d.Rooms.Accounts.Add(ctx, n)
	if err != nil {
		return explain(err, "add account "+addr)
	}
	d.say("%s has a mailbox now; the login name is %s.", made.Address, made.Login)
	return nil
}

func parseQuota(s string) (int64, error) {
	if s == "" || s == "none" {
		return 0, nil
	}
	var size config.Size
	if err := size.UnmarshalText([]byte(s)); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	return int64(size), nil
}

// AccountList lists accounts; domain and search may be empty.
func (d *Desk) AccountList(ctx context.Context, domain, search string, removed bool) error {
	f := account.Filter{Search: search, Removed: removed}
	if domain != "" {
		var err error
		if f.Domain, err = parseDomain(domain); err != nil {
			return err
		}
	}
	var rows []AccountRow
	for {
		page, err := d.Rooms.Accounts.List(ctx, f)
		if err != nil {
			return explain(err, "list accounts")
		}
		for _, a := range page {
			row := accountRow(a)
			use, err := d.Rooms.Mailboxes.Usage(ctx, a.ID)
			if err != nil {
				return explain(err, "read usage of "+a.Login)
			}
			row.Messages, row.Octets = use.Messages, use.Octets
			if a.Forwards {
				f, err := d.Rooms.Accounts.Forward(ctx, a.ID)
				if err != nil {
					return explain(err, "read forwarding of "+a.Login)
				}
				forward := forwardRow(a, f)
				row.Forward = &forward
			}
			rows = append(rows, row)
		}
		if len(page) == 0 {
			break
		}
		f.After = page[len(page)-1].ID
	}
	return table(d, rows, "ADDRESS\tLOGIN\tSTATE\tMESSAGES\tOCTETS\tQUOTA\tNAME", func(r AccountRow) string {
		quota := "-"
		if r.Quota > 0 {
			quota = config.Size(r.Quota).String()
		}
		return fmt.Sprintf("%s\t%s\t%s\t%d\t%d\t%s\t%s", r.Address, r.Login, r.State, r.Messages, r.Octets, quota, r.Name)
	})
}

func accountRow(a account.Account) AccountRow {
	row := AccountRow{ID: int64(a.ID), Address: a.Address.String(), Login: a.Login, Name: a.Name, Language: a.Language, Quota: a.Quota,
		State: stateWord(a.State), Password: a.HasPassword, Foreign: a.Foreign, Vacation: a.Vacation, Created: stamp(a.Created)}
	for _, x := range a.Addresses {
		row.Addresses = append(row.Addresses, x.String())
	}
	return row
}

func stateWord(s account.State) string {
	switch s {
	case account.Active:
		return "active"
	case account.Disabled:
		return "disabled"
	}
	return "removed"
}

// AccountPassword sets the password: the input's first line.
func (d *Desk) AccountPassword(ctx context.Context, who string) error {
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	password, err := d.secret()
	if err != nil {
		return err
	}
	if err := d.Rooms.Accounts.SetPassword(ctx, a.ID, password); err != nil {
		return explain(err, "set password of "+who)
	}
	d.say("The password of %s is changed.", a.Address)
	return nil
}

// AccountQuota sets the quota: a size, or "none".
func (d *Desk) AccountQuota(ctx context.Context, who, size string) error {
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	n, err := parseQuota(size)
	if err != nil {
		return err
	}
	if err := d.Rooms.Accounts.SetQuota(ctx, a.ID, n); err != nil {
		return explain(err, "set quota of "+who)
	}
	d.say("The quota of %s is %s.", a.Address, size)
	return nil
}

// AccountEnable lets an account log in and get mail, or no longer.
func (d *Desk) AccountEnable(ctx context.Context, who string, on bool) error {
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	if on {
		err = d.Rooms.Accounts.Enable(ctx, a.ID)
	} else {
		err = d.Rooms.Accounts.Disable(ctx, a.ID)
	}
	if err != nil {
		return explain(err, "change account "+who)
	}
	d.say("%s is %s.", a.Address, map[bool]string{true: "enabled", false: "disabled: it can't log in, and mail for it is refused"}[on])
	return nil
}

// AccountRemove ends an account. Its mail goes into retention, or with purge is
// gone for ever. The account itself goes last: until then the command can be given again.
func (d *Desk) AccountRemove(ctx context.Context, who string, purge bool) error {
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	if err := d.Rooms.Accounts.Disable(ctx, a.ID); err != nil {
		return explain(err, "remove account "+who)
	}
	n, err := d.Rooms.Mailboxes.RemoveAccount(ctx, a.ID)
	if err == nil && purge {
		n, err = d.Rooms.Mailboxes.PurgeAccount(ctx, a.ID)
	}
	if err != nil {
		return explain(err, "remove mail of "+who)
	}
	if purge {
		if err := d.Rooms.NotePurge(ctx, d.Now()); err != nil {
			return err
		}
	}
	if err = d.Rooms.Forget(ctx, a.ID); err == nil {
		err = d.Rooms.Accounts.Remove(ctx, a.ID)
	}
	if err != nil {
		return explain(err, "remove account "+who)
	}
	if purge {
		d.say("%s is removed, and its %d messages are gone for ever.", a.Address, n)
		return nil
	}
	d.say("%s is removed. Its %d messages can be restored until their retention ends, by the account's id %d.", a.Address, n, a.ID)
	return nil
}

// AccountAddress adds or takes away a further address.
func (d *Desk) AccountAddress(ctx context.Context, who, addr string, add bool) error {
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	x, err := parseAddress(addr)
	if err != nil {
		return err
	}
	if add {
		err = d.Rooms.Accounts.AddAddress(ctx, a.ID, x)
	} else {
		err = d.Rooms.Accounts.RemoveAddress(ctx, a.ID, x)
	}
	return explain(err, "change addresses of "+who)
}

// ImportRow is the outcome of an import.
type ImportRow struct {
	Lines    int `json:"lines"`
	Added    int `json:"added"`
	Existing int `json:"existing"`
	Bad      int `json:"bad"`
}

// AccountImport adds the accounts that the input lists: lines of CSV or of
// Dovecot's passwd-file.
func (d *Desk) AccountImport(ctx context.Context, format, domain string, addDomains bool) error {
	formats := map[string]account.ImportFormat{"": account.ImportAuto, "auto": account.ImportAuto, "csv": account.ImportCSV, "dovecot": account.ImportDovecot}
	f, ok := formats[format]
	if !ok {
		return fmt.Errorf("%w: %q is not a format; there are auto, csv and dovecot", ErrUsage, format)
	}
	o := account.ImportOptions{Format: f, AddDomains: addDomains,
		Report:   func(line int, err error) { fmt.Fprintf(d.Err, "line %d: %v\n", line, err) },
		Progress: func(r account.ImportResult) { fmt.Fprintf(d.Err, "%d lines, %d added\n", r.Lines, r.Added) }}
	if domain != "" {
		var err error
		if o.Domain, err = parseDomain(domain); err != nil {
			return err
		}
	}
	r, err := d.Rooms.Accounts.Import(ctx, d.In, o)
	if err != nil {
		return explain(err, "import accounts")
	}
	if addDomains {
		if err := d.openDomains(ctx); err != nil {
			return err
		}
	}
	row := ImportRow{r.Lines, r.Added, r.Existing, r.Bad}
	if err := table(d, []ImportRow{row}, "LINES\tADDED\tEXISTING\tBAD", func(r ImportRow) string {
		return fmt.Sprintf("%d\t%d\t%d\t%d", r.Lines, r.Added, r.Existing, r.Bad)
	}); err != nil {
		return err
	}
	if r.Bad > 0 {
		return fmt.Errorf("%d lines could not be imported; correct them and import the file again, what is there stays as it is", r.Bad)
	}
	return nil
}

// AppPasswordRow is a password for one program.
type AppPasswordRow struct {
	ID       int64  `json:"id"`
	Label    string `json:"label"`
	Created  string `json:"created"`
	Password string `json:"password,omitempty"` // only when it was made just now
}

// AppPasswordAdd makes a random password for one program and prints it, once.
func (d *Desk) AppPasswordAdd(ctx context.Context, who, label string) error {
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	app, password, err := d.Rooms.Accounts.AddAppPassword(ctx, a.ID, label)
	if err != nil {
		return explain(err, "make password for "+who)
	}
	if d.JSON {
		return table(d, []AppPasswordRow{{app.ID, app.Label, stamp(app.Created), password}}, "", nil)
	}
	fmt.Fprintf(d.Out, "%s\n", password)
	fmt.Fprintf(d.Err, "It is shown this once. To take it back: poczta account app-password remove %s %d\n", a.Login, app.ID)
	return nil
}

// AppPasswordList lists an account's passwords for programs.
func (d *Desk) AppPasswordList(ctx context.Context, who string) error {
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	list, err := d.Rooms.Accounts.AppPasswords(ctx, a.ID)
	if err != nil {
		return explain(err, "list passwords of "+who)
	}
	var rows []AppPasswordRow
	for _, x := range list {
		rows = append(rows, AppPasswordRow{ID: x.ID, Label: x.Label, Created: stamp(x.Created)})
	}
	return table(d, rows, "ID\tLABEL\tCREATED", func(r AppPasswordRow) string { return fmt.Sprintf("%d\t%s\t%s", r.ID, r.Label, r.Created) })
}

// AppPasswordRemove takes one back.
func (d *Desk) AppPasswordRemove(ctx context.Context, who, id string) error {
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: %q is not the number of a password; poczta account app-password list shows them", ErrUsage, id)
	}
	return explain(d.Rooms.Accounts.RemoveAppPassword(ctx, a.ID, n), "remove password of "+who)
}

// SendAsRow is a grant.
type SendAsRow struct {
	Account string `json:"account"`
	SendAs  string `json:"send_as"`
}

// SendAs adds or takes back a grant: an address or @domain.
func (d *Desk) SendAs(ctx context.Context, who, what string, add bool) error {
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	g, err := account.ParseSendAs(what)
	if err != nil {
		return fmt.Errorf("%w: %q is neither an address nor @domain: %w", ErrUsage, what, err)
	}
	if add {
		err = d.Rooms.Accounts.AddSendAs(ctx, a.ID, g)
	} else {
		err = d.Rooms.Accounts.RemoveSendAs(ctx, a.ID, g)
	}
	return explain(err, "change what "+who+" may send as")
}

// SendAsList lists an account's grants.
func (d *Desk) SendAsList(ctx context.Context, who string) error {
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	list, err := d.Rooms.Accounts.SendAs(ctx, a.ID)
	if err != nil {
		return explain(err, "list grants of "+who)
	}
	var rows []SendAsRow
	for _, g := range list {
		rows = append(rows, SendAsRow{a.Login, g.String()})
	}
	return table(d, rows, "ACCOUNT\tMAY SEND AS", func(r SendAsRow) string { return r.Account + "\t" + r.SendAs })
}
