package mua

import (
	"context"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/store"
)

// OutgoingRow is a letter of the outbox in lists.
type OutgoingRow struct {
	Account string `json:"account"` // its address, in place of the Item's number
	outbox.Item
}

// Outgoing lists the outbox.
func (d *Desk) Outgoing(ctx context.Context) error {
	list, err := d.Mail.Outbox.List(ctx)
	if err != nil {
		return err
	}
	name, err := d.names(ctx)
	if err != nil {
		return err
	}
	rows := make([]OutgoingRow, 0, len(list))
	for _, i := range list {
		rows = append(rows, OutgoingRow{name(i.Account), i})
	}
	return table(d, rows, "ID\tSTATE\tWRITTEN\tTO\tSUBJECT\tNEXT\tWHY", func(i OutgoingRow) string {
		to := make([]string, 0, len(i.Recipients))
		for _, r := range i.Recipients {
			to = append(to, r.Address)
			if r.State == outbox.Refused && i.Reason == "" {
				i.Reason = r.Reply
			}
		}
		next := "-"
		if at := i.Next; !at.IsZero() {
			next = at.Local().Format("2006-01-02 15:04")
		}
		return fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%s\t%s", i.ID, i.State, i.Created.Local().Format("2006-01-02 15:04"), clip(strings.Join(to, " "), 40), clip(i.Subject, 40), next, flat(i.Reason))
	})
}

// OutgoingUndo keeps a letter from leaving.
func (d *Desk) OutgoingUndo(ctx context.Context, id int64) error {
	draft, err := d.Mail.Outbox.Undo(ctx, outbox.ID(id))
	if err != nil {
		return fmt.Errorf("letter %d: %w", id, err)
	}
	d.say("It is not sent, and lies in %s as letter %d; poczta mail send --saved %d sends it.", store.Drafts, draft, draft)
	return nil
}

// OutgoingRetry tries a letter again now.
func (d *Desk) OutgoingRetry(ctx context.Context, id int64) error {
	if err := d.Mail.Outbox.Retry(ctx, outbox.ID(id)); err != nil {
		return fmt.Errorf("letter %d: %w", id, err)
	}
	return d.sent(ctx, outbox.ID(id))
}

// OutgoingDecide settles a letter that was perhaps sent.
func (d *Desk) OutgoingDecide(ctx context.Context, id int64, again bool) error {
	what := outbox.Done
	if again {
		what = outbox.Again
	}
	if err := d.Mail.Outbox.Decide(ctx, outbox.ID(id), what); err != nil {
		return fmt.Errorf("letter %d: %w", id, err)
	}
	if again {
		return d.sent(ctx, outbox.ID(id))
	}
	d.say("Letter %d is settled.", id)
	return nil
}
