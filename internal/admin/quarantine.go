package admin

import (
	"context"
	"fmt"
	"io"

	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/trace"
)

// QuarantineRow is a message set apart for one recipient.
type QuarantineRow struct {
	ID          string  `json:"id"`
	Kind        string  `json:"kind"` // quarantine, junk, or queue: on hold on its way out
	Account     string  `json:"account"`
	Recipient   string  `json:"recipient"` // of kind queue
	ReversePath string  `json:"reverse_path"`
	Octets      int64   `json:"octets"`
	SetApart    string  `json:"set_apart"`
	Rule        string  `json:"rule"`
	Score       float64 `json:"score"`
}

func quarantineRow(it quarantine.Item) QuarantineRow {
	return QuarantineRow{it.ID.String(), string(it.Kind), it.Login, it.Recipient, it.Sender, it.Octets, stamp(it.Noted), it.Rule, tenths(it.Score)}
}

// QuarantineFilter selects messages that are set apart; empty fields select all.
type QuarantineFilter struct {
	ID, Account, Kind, Rule, Sender string
	Older                           string // as in 2h, or a time
	All                             bool
}

// by names an operator in the trace.
const byOperator = "an operator"

func (d *Desk) quarantineFilter(ctx context.Context, f QuarantineFilter) (quarantine.Filter, error) {
	out := quarantine.Filter{Kind: quarantine.Kind(f.Kind), Rule: f.Rule, Sender: f.Sender, All: f.All}
	var err error
	if f.ID != "" {
		if out.ID, err = message.ParseID(f.ID); err != nil {
			return out, fmt.Errorf("%w: %q is no id of a message: %w; poczta quarantine list shows them", ErrUsage, f.ID, err)
		}
	}
	if f.Account != "" {
		a, err := d.owner(ctx, f.Account)
		if err != nil {
			return out, err
		}
		out.Account = a.ID
	}
	if f.Older != "" {
		out.Before, err = d.moment(f.Older)
	}
	return out, err
}

// items lists all that a filter selects.
func (d *Desk) items(ctx context.Context, f quarantine.Filter) (items []quarantine.Item, err error) {
	for after := ""; ; {
		page, next, err := d.Rooms.Quarantine.List(ctx, f, after, quarantine.MaxPage)
		if err != nil {
			return nil, fmt.Errorf("list quarantine: %w", err)
		}
		items = append(items, page...)
		if after = next; next == "" {
			return items, nil
		}
	}
}

// QuarantineList lists what is set apart.
func (d *Desk) QuarantineList(ctx context.Context, f QuarantineFilter) error {
	filter, err := d.quarantineFilter(ctx, f)
	if err != nil {
		return err
	}
	items, err := d.items(ctx, filter)
	if err != nil {
		return err
	}
	var rows []QuarantineRow
	for _, it := range items {
		rows = append(rows, quarantineRow(it))
	}
	return table(d, rows, "ID\tSET APART\tWHERE\tFOR\tFROM\tSCORE\tRULE", func(r QuarantineRow) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s\t<%s>\t%.1f\t%s", r.ID, r.SetApart, r.Kind, r.Account+r.Recipient, r.ReversePath, r.Score, r.Rule)
	})
}

// noItem is the error about a filter that selects nothing.
func noItem(what string) error {
	return fmt.Errorf("%s: nothing like that is set apart; poczta quarantine list shows what is", what)
}

// QuarantineShow tells why a message is set apart; with raw it writes the message's octets.
func (d *Desk) QuarantineShow(ctx context.Context, f QuarantineFilter, raw bool) error {
	only, err := d.quarantineFilter(ctx, f)
	if err != nil {
		return err
	}
	items, err := d.items(ctx, only)
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return noItem("show message " + f.ID)
	}
	if raw {
		return d.quarantineRaw(ctx, items[0])
	}
	type shown struct {
		QuarantineRow
		Verdicts []EventRow `json:"verdicts"`
	}
	var rows []shown
	for _, it := range items {
		row := shown{QuarantineRow: quarantineRow(it), Verdicts: []EventRow{}}
		events, err := d.Rooms.Trace.Events(ctx, trace.Viewer{Operator: true}, it.ID)
		if err != nil && !notTraced(err) {
			return fmt.Errorf("read trace of message %s: %w", it.ID, err)
		}
		for _, e := range events {
			if e.Kind == filter.KindVerdict {
				row.Verdicts = append(row.Verdicts, eventRow(e, ""))
			}
		}
		rows = append(rows, row)
	}
	if d.JSON {
		return table(d, rows, "", nil)
	}
	for _, r := range rows {
		d.say("%s  for %s, from <%s>, %d octets, in %s since %s", r.ID, r.Account+r.Recipient, r.ReversePath, r.Octets, r.Kind, r.SetApart)
		d.say("  rule: %s, score %.1f", r.Rule, r.Score)
		for _, e := range r.Verdicts {
			if e.Verdict != nil {
				d.tellVerdict(e)
			}
		}
	}
	return nil
}

// quarantineRaw writes a message as it is stored.
func (d *Desk) quarantineRaw(ctx context.Context, it quarantine.Item) error {
	if it.Kind == quarantine.Queue {
		return fmt.Errorf("message %s waits in the queue; poczta queue show %s tells of it", it.ID, it.ID)
	}
	r, err := d.Rooms.Quarantine.Open(ctx, it)
	if err != nil {
		return fmt.Errorf("read message %s: %w", it.ID, err)
	}
	defer r.Close()
	if _, err := io.Copy(onlyWriter{d.Out}, r); err != nil {
		return fmt.Errorf("read message %s: %w", it.ID, err)
	}
	return nil
}

// chosen is the filter of a command that changes something: it must say what is meant.
func (d *Desk) chosen(ctx context.Context, f QuarantineFilter) (quarantine.Filter, error) {
	none := f
	none.All = false
	if none == (QuarantineFilter{}) && !f.All {
		return quarantine.Filter{}, fmt.Errorf("%w: name an id, an account, or what is meant by --older, --rule, --sender or --kind; --all is everything", ErrUsage)
	}
	return d.quarantineFilter(ctx, f)
}

// QuarantineRelease moves what is selected into the INBOX of its recipients, and sends on what
// is on hold.
func (d *Desk) QuarantineRelease(ctx context.Context, f QuarantineFilter) error {
	filter, err := d.chosen(ctx, f)
	if err != nil {
		return err
	}
	n, err := d.Rooms.Quarantine.Release(ctx, filter, byOperator)
	if err != nil {
		return fmt.Errorf("release mail, after %d: %w", n, err)
	}
	if n == 0 {
		return noItem("release mail")
	}
	d.say("%s released.", plural(n, "message is", "messages are"))
	return nil
}

// QuarantineDelete deletes what is selected; with spam the recipients' classifiers learn of it.
func (d *Desk) QuarantineDelete(ctx context.Context, f QuarantineFilter, spam bool) error {
	filter, err := d.chosen(ctx, f)
	if err != nil {
		return err
	}
	n, err := d.Rooms.Quarantine.Delete(ctx, filter, byOperator, spam)
	if err != nil {
		return fmt.Errorf("delete mail, after %d: %w", n, err)
	}
	if n == 0 {
		return noItem("delete mail")
	}
	d.say("%s deleted; what lay in mailboxes can be restored for a while: poczta mailbox deleted.", plural(n, "message is", "messages are"))
	return nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
