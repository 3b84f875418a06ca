package admin

import (
	"context"
	"fmt"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/envelope"
)

// quietAfterRelease is for how long no rule strikes an account that an operator has released.
const quietAfterRelease = 24 * time.Hour

// ConductRow is an account that is held back since it sends unlike itself.
type ConductRow struct {
	Account string `json:"account"`
	Rule    string `json:"rule"`
	Detail  string `json:"detail"`
	Action  string `json:"action"` // slow, hold or refuse
	Since   string `json:"since"`
	Until   string `json:"until"`
}

// HabitRow is what an account sent within the hour, and is used to.
type HabitRow struct {
	Account        string       `json:"account"`
	Messages       int64        `json:"messages"`
	Recipients     int64        `json:"recipients"`
	NewRecipients  int64        `json:"new_recipients"`
	Refused        int64        `json:"refused_recipients"`
	Spam           int64        `json:"spam"`
	Networks       int64        `json:"networks"`
	MostMessages   int64        `json:"most_messages"` // of an hour within 14 days
	MostRecipients int64        `json:"most_recipients"`
	MostNew        int64        `json:"most_new_recipients"`
	MayNew         int64        `json:"may_new_recipients"` // an hour
	Quiet          string       `json:"quiet_until"`        // until when no rule strikes
	Held           []ConductRow `json:"held"`
}

// trips are the rules that hold accounts back, of one account or (0) of all.
func (d *Desk) trips(ctx context.Context, only envelope.AccountID) (rows []ConductRow, err error) {
	for after := envelope.AccountID(0); ; {
		page, err := d.Rooms.Conduct.List(ctx, after)
		if err != nil {
			return nil, fmt.Errorf("list accounts that are held back: %w", err)
		}
		if len(page) == 0 {
			return rows, nil
		}
		for _, t := range page {
			if after = t.Account; only != 0 && t.Account != only {
				continue
			}
			name := fmt.Sprint(t.Account)
			if a, err := d.Rooms.Accounts.ByID(ctx, t.Account); err == nil {
				name = a.Address.String()
			}
			rows = append(rows, ConductRow{name, t.Rule, t.Detail, t.Action.String(), stamp(t.Since), stamp(t.Until)})
		}
	}
}

// AccountConduct lists the accounts that are held back since they send unlike themselves, or
// tells what one sent within the hour and is used to; with release that one may send again.
func (d *Desk) AccountConduct(ctx context.Context, who string, release bool) error {
	if who == "" {
		if release {
			return fmt.Errorf("%w: name the account that is to be released", ErrUsage)
		}
		rows, err := d.trips(ctx, 0)
		if err != nil {
			return err
		}
		return table(d, rows, "ACCOUNT\tACTION\tSINCE\tUNTIL\tBECAUSE", func(r ConductRow) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", r.Account, r.Action, r.Since, r.Until, r.Detail)
		})
	}
	a, err := d.find(ctx, who)
	if err != nil {
		return err
	}
	if release {
		if err := d.Rooms.Conduct.Release(ctx, a.ID, quietAfterRelease); err != nil {
			return fmt.Errorf("release account %s: %w", who, err)
		}
		d.say("%s may send again, and no rule strikes for a day. What is on hold goes with: poczta queue release. Was the password stolen, change it first: poczta account password %s", a.Address, a.Address)
		return nil
	}
	return d.habit(ctx, a)
}

// habit tells what an account sends.
func (d *Desk) habit(ctx context.Context, a account.Account) error {
	h, err := d.Rooms.Conduct.Habit(ctx, a.ID)
	if err != nil {
		return fmt.Errorf("read habit of %s: %w", a.Address, err)
	}
	row := HabitRow{Account: a.Address.String(), Messages: h.Sent.Messages, Recipients: h.Sent.Recipients, NewRecipients: h.Sent.Fresh, Refused: h.Sent.Refused, Spam: h.Sent.Spam,
		Networks: h.Networks, MostMessages: h.Usual.Messages, MostRecipients: h.Usual.Recipients, MostNew: h.Usual.Fresh, MayNew: h.Fresh, Quiet: stamp(h.Quiet)}
	if row.Held, err = d.trips(ctx, a.ID); err != nil {
		return err
	}
	if d.JSON {
		return table(d, []HabitRow{row}, "", nil)
	}
	d.say("%s, within the last hour: %d messages to %d recipients, %d of them new (%d allowed), %d refused elsewhere, %d messages like spam; logins from %d networks",
		row.Account, row.Messages, row.Recipients, row.NewRecipients, row.MayNew, row.Refused, row.Spam, row.Networks)
	d.say("  the most of an hour within 14 days: %d messages, %d recipients, %d new", row.MostMessages, row.MostRecipients, row.MostNew)
	if row.Quiet != "" {
		d.say("  no rule strikes until %s", row.Quiet)
	}
	for _, t := range row.Held {
		d.say("  %s since %s, until %s: %s; poczta account conduct %s --release ends that", t.Action, t.Since, t.Until, t.Detail, row.Account)
	}
	return nil
}
