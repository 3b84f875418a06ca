package admin

import (
	"context"
	"fmt"

	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
)

// QueueRow is a queued message in lists.
type QueueRow struct {
	ID          string         `json:"id"`
	Queued      string         `json:"queued"`
	ReversePath string         `json:"reverse_path"`
	Login       string         `json:"login"`
	Octets      int64          `json:"octets"`
	Held        bool           `json:"held"` // every recipient waits for an operator
	Recipients  []RecipientRow `json:"recipients"`
}

// RecipientRow is a recipient of a queued message.
type RecipientRow struct {
	ForwardPath string `json:"forward_path"`
	Destination string `json:"destination"`
	State       string `json:"state"`
	Attempts    int    `json:"attempts"`
	NextAttempt string `json:"next_attempt"`
	LastStatus  string `json:"last_status"`
}

func queueRow(m queue.Message) QueueRow {
	row := QueueRow{ID: m.ID.String(), Queued: stamp(m.Queued), ReversePath: m.ReversePath, Login: m.Login, Octets: m.Octets, Held: len(m.Recipients) > 0}
	for _, r := range m.Recipients {
		row.Held = row.Held && r.State == queue.Held
		row.Recipients = append(row.Recipients, RecipientRow{r.ForwardPath, r.Destination, r.State.String(), r.Attempts, stamp(r.NextAttempt), r.LastStatus})
	}
	return row
}

// QueueFilter selects queued mail; empty fields select all.
type QueueFilter struct{ From, To, Domain string }

func (f QueueFilter) filter() queue.Filter {
	return queue.Filter{ReversePath: f.From, ForwardPath: f.To, Destination: f.Domain}
}

// QueueList lists what waits for relay.
func (d *Desk) QueueList(ctx context.Context, f QueueFilter) error {
	var rows []QueueRow
	for p := (queue.Page{Limit: queue.MaxPage}); ; {
		page, err := d.Rooms.Queue.List(ctx, f.filter(), p)
		if err != nil {
			return explain(err, "list queue")
		}
		for _, m := range page {
			rows = append(rows, queueRow(m))
			p.After = m.ID
		}
		if len(page) < p.Limit {
			break
		}
	}
	return table(d, rows, "ID\tQUEUED\tOCTETS\tFROM\tTO\tSTATE", func(r QueueRow) string {
		to, state := "", ""
		for i, x := range r.Recipients {
			if i == 0 {
				to, state = x.ForwardPath, x.State
			}
		}
		if n := len(r.Recipients); n > 1 {
			to += fmt.Sprintf(" and %d more", n-1)
		}
		return fmt.Sprintf("%s\t%s\t%d\t<%s>\t%s\t%s", r.ID, r.Queued, r.Octets, r.ReversePath, to, state)
	})
}

func parseID(s string) (message.ID, error) {
	id, err := message.ParseID(s)
	if err != nil {
		return message.ID{}, fmt.Errorf("%w: %q is not a queue id: %w; poczta queue list shows them", ErrUsage, s, err)
	}
	return id, nil
}

// QueueShow prints one message with all its recipients.
func (d *Desk) QueueShow(ctx context.Context, id string) error {
	x, err := parseID(id)
	if err != nil {
		return err
	}
	m, err := d.Rooms.Queue.Show(ctx, x)
	if err != nil {
		return explain(err, "show message "+id)
	}
	row := queueRow(m)
	if d.JSON {
		return table(d, []QueueRow{row}, "", nil)
	}
	d.say("Message %s of <%s>, %d octets, queued %s", row.ID, row.ReversePath, row.Octets, row.Queued)
	return table(d, row.Recipients, "TO\tSTATE\tATTEMPTS\tNEXT\tLAST REPLY", func(r RecipientRow) string {
		return fmt.Sprintf("%s\t%s\t%d\t%s\t%s", r.ForwardPath, r.State, r.Attempts, r.NextAttempt, r.LastStatus)
	})
}

// QueueRemove takes messages from the queue without telling anybody: one by its
// id, or those that the filter selects; with all, everything.
func (d *Desk) QueueRemove(ctx context.Context, id string, f QueueFilter, all bool) error {
	filter := f.filter()
	filter.All = all
	if id != "" {
		var err error
		if filter.ID, err = parseID(id); err != nil {
			return err
		}
		if filter.ID.IsZero() {
			return fmt.Errorf("%s is not in the queue; poczta queue list shows what is", id)
		}
	}
	if id == "" && f == (QueueFilter{}) && !all {
		return fmt.Errorf("%w: name a queue id, or --from, --to, --domain, or --all", ErrUsage)
	}
	n, err := d.Rooms.Queue.Remove(ctx, filter, "removed by an operator")
	if err != nil {
		return explain(err, "remove from queue")
	}
	if n == 0 {
		return fmt.Errorf("nothing in the queue matches; poczta queue list shows what there is")
	}
	d.say("%d recipients are removed; nobody was told.", n)
	return nil
}
