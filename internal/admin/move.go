package admin

import (
	"context"
	"fmt"
	"slices"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/quarantine"
)

// MoveMost is how many messages one command moves.
const MoveMost = 256

// MovedRow is a message that was moved.
type MovedRow struct {
	ID     string `json:"id"`
	From   string `json:"from"`
	To     string `json:"to"`
	Taught string `json:"taught"` // what the filters learned: spam, ham, or nothing
}

// MailboxMove moves messages of an account, by the ids that the trace names them with, into another
// mailbox. As when their owner moves them, the filters learn: into Junk or Quarantine from
// elsewhere a message is spam, out of them it is wanted. A message that is nowhere in the account
// ends it with an error before anything is moved; one that is there already is passed over.
func (d *Desk) MailboxMove(ctx context.Context, who string, ids []string, to string) error {
	to, err := mailbox.CheckName(to)
	if err != nil {
		return fmt.Errorf("%w: --to: %w", ErrUsage, err)
	}
	a, err := d.owner(ctx, who)
	if err != nil {
		return err
	}
	if a.State == account.Removed {
		return fmt.Errorf("account %s is removed; add it again before its mail is moved", who)
	}
	found, err := d.entries(ctx, a, ids)
	if err != nil {
		return err
	}
	var rows []MovedRow
	for i := range found {
		e := &found[i]
		if e.Mailbox == to {
			continue
		}
		_, err := d.Rooms.Quarantine.Move(ctx, quarantine.Move{Account: a.ID, Login: a.Login, From: e.Mailbox, UID: e.UID, To: to, By: byOperator})
		if err != nil {
			return fmt.Errorf("move message %s of %s: %w; %s", e.Body, who, err, plural(len(rows), "message was moved before", "messages were moved before"))
		}
		rows = append(rows, MovedRow{e.Body.String(), e.Mailbox, to, taught(e.Mailbox, to)})
	}
	return table(d, rows, "ID\tFROM\tTO\tTAUGHT", func(r MovedRow) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s", r.ID, r.From, r.To, r.Taught)
	})
}

// taught is what the filters learn of a move.
func taught(from, to string) string {
	switch was, is := mailbox.SetApart(from), mailbox.SetApart(to); {
	case is && !was:
		return "spam"
	case was && !is:
		return "ham"
	}
	return "nothing"
}

// entries finds an account's messages.
func (d *Desk) entries(ctx context.Context, a account.Account, ids []string) ([]mailbox.Entry, error) {
	if len(ids) > MoveMost {
		return nil, fmt.Errorf("%w: %d messages at once; name %d at most", ErrUsage, len(ids), MoveMost)
	}
	var wanted []message.ID
	for _, s := range ids {
		id, err := message.ParseID(s)
		if err != nil {
			return nil, fmt.Errorf("%w: %q is not a message's id: %w; poczta trace %s shows them", ErrUsage, s, err, a.Login)
		}
		wanted = append(wanted, id)
	}
	found, err := d.Rooms.Mailboxes.FindBodies(ctx, a.ID, wanted)
	if err != nil {
		return nil, explain(err, "find mail of "+a.Login)
	}
	for _, id := range wanted {
		if !slices.ContainsFunc(found, func(e mailbox.Entry) bool { return e.Body == id }) {
			return nil, fmt.Errorf("message %s is in no mailbox of %s, and nothing was moved; poczta trace %s shows what came, poczta mailbox deleted %s what was deleted", id, a.Login, a.Login, a.Login)
		}
	}
	return found, nil
}
