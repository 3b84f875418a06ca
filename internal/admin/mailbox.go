package admin

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
)

// MailboxRow is a mailbox in lists.
type MailboxRow struct {
	Name        string `json:"name"`
	Messages    int64  `json:"messages"`
	Octets      int64  `json:"octets"`
	Retained    int64  `json:"retained_octets"`
	UIDValidity uint32 `json:"uid_validity"`
	UIDNext     uint32 `json:"uid_next"`
}

// owner finds an account, also a removed one by its id, so that its mail can be
// looked after.
func (d *Desk) owner(ctx context.Context, who string) (account.Account, error) {
	a, err := d.Rooms.Accounts.Get(ctx, who)
	if n, bad := strconv.ParseInt(who, 10, 64); err != nil && bad == nil {
		a, err = d.Rooms.Accounts.ByID(ctx, envelope.AccountID(n))
	}
	if err != nil {
		return account.Account{}, explain(err, "")
	}
	return a, nil
}

// MailboxList lists an account's mailboxes.
func (d *Desk) MailboxList(ctx context.Context, who string) error {
	a, err := d.owner(ctx, who)
	if err != nil {
		return err
	}
	all, err := d.Rooms.Mailboxes.Mailboxes(ctx, a.ID)
	if err != nil {
		return explain(err, "list mailboxes of "+who)
	}
	var rows []MailboxRow
	for _, m := range all {
		rows = append(rows, MailboxRow{m.Name, m.Messages, m.Octets, m.Retained, m.UIDValidity, uint32(m.UIDNext)})
	}
	return table(d, rows, "MAILBOX\tMESSAGES\tOCTETS\tRETAINED", func(r MailboxRow) string {
		return fmt.Sprintf("%s\t%d\t%d\t%d", r.Name, r.Messages, r.Octets, r.Retained)
	})
}

// DeletedRow is a deleted message that can be restored.
type DeletedRow struct {
	UniqueID string `json:"unique_id"`
	Mailbox  string `json:"mailbox"`
	Received string `json:"received"`
	Deleted  string `json:"deleted"`
	Until    string `json:"until"`
	Octets   int64  `json:"octets"`
}

// Selection chooses deleted messages; empty fields choose all.
type Selection struct {
	UniqueIDs []string
	Mailbox   string
	Since     string // RFC 3339, a date, or a duration back from now
}

func (d *Desk) selection(s Selection) (mailbox.Selection, error) {
	sel := mailbox.Selection{UniqueIDs: s.UniqueIDs, Mailbox: s.Mailbox}
	if s.Since == "" {
		return sel, nil
	}
	at, err := d.moment(s.Since)
	sel.Since = at
	return sel, err
}

// moment reads a time: RFC 3339, a date, or a duration back from now.
func (d *Desk) moment(s string) (time.Time, error) {
	if back, err := time.ParseDuration(s); err == nil {
		return d.Now().Add(-back), nil
	}
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(form, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%w: %q is not a time; write as in 2026-11-23, 2026-11-23T10:00:00Z, or 2h for two hours ago", ErrUsage, s)
}

// MailboxDeleted lists what was deleted and can be restored.
func (d *Desk) MailboxDeleted(ctx context.Context, who string, s Selection) error {
	a, err := d.owner(ctx, who)
	if err != nil {
		return err
	}
	sel, err := d.selection(s)
	if err != nil {
		return err
	}
	kept := max(d.Rooms.Config.Store.Retention.Duration(), mailbox.MinRetention)
	var rows []DeletedRow
	for after := ""; ; {
		page, next, err := d.Rooms.Mailboxes.Deleted(ctx, a.ID, sel, after, 0)
		if err != nil {
			return explain(err, "list deleted mail of "+who)
		}
		for _, r := range page {
			rows = append(rows, DeletedRow{r.UniqueID, r.Mailbox, stamp(r.Received), stamp(r.Removed), stamp(r.Removed.Add(kept)), r.Octets})
		}
		if after = next; next == "" {
			break
		}
	}
	return table(d, rows, "UNIQUE-ID\tMAILBOX\tRECEIVED\tDELETED\tUNTIL\tOCTETS", func(r DeletedRow) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%d", r.UniqueID, r.Mailbox, r.Received, r.Deleted, r.Until, r.Octets)
	})
}

// MailboxRestore puts deleted messages back; programs fetch them again.
func (d *Desk) MailboxRestore(ctx context.Context, who string, s Selection) error {
	a, err := d.owner(ctx, who)
	if err != nil {
		return err
	}
	if a.State == account.Removed {
		return fmt.Errorf("account %s is removed; its mail can be exported with poczta mailbox deleted and read from the trace, but nobody could log in to a restored mailbox: add the account again, then ask for its mail by import", who)
	}
	sel, err := d.selection(s)
	if err != nil {
		return err
	}
	n, err := d.Rooms.Mailboxes.Restore(ctx, a.ID, a.Login, sel)
	if err != nil {
		return explain(err, "restore mail of "+who)
	}
	if n == 0 {
		return fmt.Errorf("nothing that matches can be restored; poczta mailbox deleted %s shows what there is", who)
	}
	d.say("%d messages are back.", n)
	return nil
}

// MailboxPurge removes deleted messages for ever.
func (d *Desk) MailboxPurge(ctx context.Context, who string, s Selection) error {
	a, err := d.owner(ctx, who)
	if err != nil {
		return err
	}
	sel, err := d.selection(s)
	if err != nil {
		return err
	}
	n, err := d.Rooms.Mailboxes.Purge(ctx, a.ID, sel)
	if err != nil {
		return explain(err, "purge mail of "+who)
	}
	if err := d.Rooms.NotePurge(ctx, d.Now()); err != nil {
		return err
	}
	d.say("%d deleted messages are gone for ever; their octets leave the disk within a day, or now with: poczta store merge.", n)
	return nil
}
