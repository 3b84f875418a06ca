package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
)

// ForwardRow is where an account's mail is forwarded to.
type ForwardRow struct {
	Account   string   `json:"account"`
	Keep      bool     `json:"keep"` // a copy stays in the mailbox
	Targets   []string `json:"targets"`
	Suspended []string `json:"suspended,omitempty"` // targets that get nothing, since mail failed
}

func forwardRow(a account.Account, f account.Forward) ForwardRow {
	row := ForwardRow{Account: a.Address.String(), Keep: f.Keep}
	for _, t := range f.Targets {
		row.Targets = append(row.Targets, t.Address.String())
		if !t.Suspended.IsZero() {
			row.Suspended = append(row.Suspended, t.Address.String())
		}
	}
	return row
}

// ForwardOptions are what AccountForward is told. Without any it shows what there is.
type ForwardOptions struct {
	Targets []string
	Keep    bool // counts with Targets
	Off     bool
	Resume  bool
}

// AccountForward sets, shows, ends or resumes an account's forwarding.
func (d *Desk) AccountForward(ctx context.Context, who string, o ForwardOptions) error {
	if o.Off && (o.Resume || len(o.Targets) > 0) || o.Resume && len(o.Targets) > 0 {
		return fmt.Errorf("%w: give either targets, or --off, or --resume", ErrUsage)
	}
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	switch {
	case o.Off:
		if err := d.Rooms.Accounts.RemoveForward(ctx, a.ID); err != nil {
			return explain(err, "end forwarding of "+who)
		}
		d.say("Mail for %s stays in its mailbox.", a.Address)
		return nil
	case o.Resume:
		n, err := d.Rooms.Accounts.ResumeForward(ctx, a.ID)
		if err != nil {
			return explain(err, "resume forwarding of "+who)
		}
		d.say("%d targets get mail of %s again.", n, a.Address)
		return nil
	case len(o.Targets) > 0:
		return d.setForward(ctx, a, o)
	}
	f, err := d.Rooms.Accounts.Forward(ctx, a.ID)
	if err != nil {
		return explain(err, "read forwarding of "+who)
	}
	var rows []ForwardRow
	if len(f.Targets) > 0 {
		rows = append(rows, forwardRow(a, f))
	}
	return table(d, rows, "ACCOUNT\tCOPY HERE\tTARGETS\tSUSPENDED", func(r ForwardRow) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s", r.Account, yesNo(r.Keep), strings.Join(r.Targets, ", "), strings.Join(r.Suspended, ", "))
	})
}

func yesNo(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }

func (d *Desk) setForward(ctx context.Context, a account.Account, o ForwardOptions) error {
	var targets []address.Address
	for _, t := range o.Targets {
		x, err := parseAddress(t)
		if err != nil {
			return err
		}
		targets = append(targets, x)
	}
	err := d.Rooms.Accounts.SetForward(ctx, a.ID, targets, o.Keep)
	if errors.Is(err, account.ErrUnknownUser) {
		return fmt.Errorf("forward mail of %s: %w; add the mailbox first, or correct the address", a.Address, err)
	}
	if err != nil {
		return explain(err, "forward mail of "+a.Address.String())
	}
	d.say("Mail for %s is forwarded to %s, %s.", a.Address, strings.Join(o.Targets, ", "),
		map[bool]string{true: "and a copy stays in its mailbox", false: "and no copy stays"}[o.Keep])
	return nil
}

// SuspendedRow is a target that gets nothing.
type SuspendedRow struct {
	Source string `json:"source"` // an account's address, an alias, or @domain
	Alias  bool   `json:"alias"`
	Target string `json:"target"`
	Since  string `json:"since"`
	Reason string `json:"reason"`
}

// remedy is the command that lets the target get mail again.
func (r SuspendedRow) remedy() string {
	if r.Alias {
		return "poczta alias add " + r.Source + " " + r.Target
	}
	return "poczta account forward " + r.Source + " --resume"
}

// SuspendedForwards lists the targets of accounts and aliases that are suspended.
func (d *Desk) SuspendedForwards(ctx context.Context) error {
	list, err := d.Rooms.Accounts.SuspendedForwards(ctx, 0)
	if err != nil {
		return explain(err, "list suspended forwards")
	}
	var rows []SuspendedRow
	for _, s := range list {
		rows = append(rows, SuspendedRow{s.Source, s.Alias, s.Target.Address.String(), stamp(s.Target.Suspended), s.Target.Reason})
	}
	return table(d, rows, "MAIL FOR\tTARGET\tSINCE\tREASON", func(r SuspendedRow) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s", r.Source, r.Target, r.Since, r.Reason)
	})
}

// CheckForwards turns suspended forwards into findings.
func CheckForwards(rows []SuspendedRow) []Finding {
	var out []Finding
	for _, r := range rows {
		out = append(out, Finding{Level: Warning, Area: "forwards", Text: fmt.Sprintf("mail for %s is not forwarded to %s since %s: %s", r.Source, r.Target, r.Since, r.Reason),
			Remedy: "once the address works: " + r.remedy()})
	}
	return out
}

// VacationRow is an out-of-office reply.
type VacationRow struct {
	Account string `json:"account"`
	Active  bool   `json:"active"` // at this moment
	From    string `json:"from,omitempty"`
	Until   string `json:"until,omitempty"` // replies end at this moment
	Subject string `json:"subject,omitempty"`
	Text    string `json:"text,omitempty"`
	Days    int    `json:"days"`
}

// VacationOptions are what AccountVacation is told. Set without a text has ours sent.
type VacationOptions struct {
	Set, Off    bool
	From, Until string // a date, or RFC 3339; Until's date is its last day
	Subject     string
	Text        bool // the input is the text
	Days        int
}

// AccountVacation sets, shows or ends an account's out-of-office replies.
func (d *Desk) AccountVacation(ctx context.Context, who string, o VacationOptions) error {
	if o.Off && o.Set {
		return fmt.Errorf("%w: give either --off or what is to be sent", ErrUsage)
	}
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	switch {
	case o.Off:
		if err := d.Rooms.Accounts.RemoveVacation(ctx, a.ID); err != nil {
			return explain(err, "end out-of-office replies of "+who)
		}
		d.say("%s sends no out-of-office replies.", a.Address)
		return nil
	case o.Set:
		return d.setVacation(ctx, a, o)
	}
	v, err := d.Rooms.Accounts.Vacation(ctx, a.ID)
	var rows []VacationRow
	if err == nil {
		rows = append(rows, VacationRow{a.Address.String(), v.Active(d.Now()), stamp(v.From), stamp(v.Until), v.Subject, v.Text, v.Days})
	} else if !errors.Is(err, account.ErrNotFound) {
		return explain(err, "read out-of-office reply of "+who)
	}
	return table(d, rows, "ACCOUNT\tACTIVE\tFROM\tUNTIL\tDAYS\tSUBJECT", func(r VacationRow) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%d\t%s", r.Account, yesNo(r.Active), r.From, r.Until, r.Days, r.Subject)
	})
}

func (d *Desk) setVacation(ctx context.Context, a account.Account, o VacationOptions) error {
	v := account.Vacation{Subject: o.Subject, Days: o.Days}
	var err error
	if v.From, err = parseDay(o.From, 0); err != nil {
		return err
	}
	if v.Until, err = parseDay(o.Until, 1); err != nil {
		return err
	}
	if o.Text {
		b, err := io.ReadAll(io.LimitReader(d.In, account.MaxVacationTextOctets+1))
		if err != nil {
			return fmt.Errorf("read text: %w", err)
		}
		if v.Text = string(b); strings.TrimSpace(v.Text) == "" {
			return errors.New("the text is empty: write it into the file, or leave --text-file out for a standard text")
		}
	}
	if err := d.Rooms.Accounts.SetVacation(ctx, a.ID, v); err != nil {
		return explain(err, "set out-of-office reply of "+a.Address.String())
	}
	until := ""
	if !v.Until.IsZero() {
		until = " until " + o.Until
	}
	d.say("%s answers that its owner is away%s, once to each sender in %d days.", a.Address, until, max(v.Days, 1))
	return nil
}

// parseDay reads a date of the local time zone, to which days are added, or a time as in
// RFC 3339; "" is the zero time.
func parseDay(s string, days int) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return t.AddDate(0, 0, days), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %q is neither a date as in 2026-12-24 nor a time as in 2026-12-24T08:00:00+01:00", ErrUsage, s)
	}
	return t, nil
}
