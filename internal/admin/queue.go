package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
)

// QueueRow is a queued message in lists.
type QueueRow struct {
	ID          string         `json:"id"`
	Queued      string         `json:"queued"`
	Expires     string         `json:"expires"`
	ReversePath string         `json:"reverse_path"`
	Login       string         `json:"login"`
	Octets      int64          `json:"octets"`
	Priority    int            `json:"priority"`
	RequireTLS  bool           `json:"require_tls"`
	Held        bool           `json:"held"` // every recipient waits for an operator
	Recipients  []RecipientRow `json:"recipients"`
}

// RecipientRow is a recipient of a queued message.
type RecipientRow struct {
	ForwardPath string `json:"forward_path"`
	Destination string `json:"destination"`
	Forward     string `json:"forwarded_by"` // the alias or account here that forwards; "" for none
	State       string `json:"state"`
	Attempts    int    `json:"attempts"`
	NextAttempt string `json:"next_attempt"`
	LastStatus  string `json:"last_status"`
	Reason      string `json:"reason"` // an operator's
}

func queueRow(m queue.Message) QueueRow {
	row := QueueRow{ID: m.ID.String(), Queued: stamp(m.Queued), Expires: stamp(m.Expires), ReversePath: m.ReversePath, Login: m.Login, Octets: m.Octets,
		Priority: m.Priority, RequireTLS: m.RequireTLS, Held: len(m.Recipients) > 0}
	for _, r := range m.Recipients {
		row.Held = row.Held && r.State == queue.Held
		row.Recipients = append(row.Recipients, RecipientRow{r.ForwardPath, r.Destination, r.Forward, r.State.String(), r.Attempts, stamp(r.NextAttempt), r.LastStatus, r.Reason})
	}
	return row
}

// QueueFilter selects queued mail; empty fields select all.
type QueueFilter struct {
	From, To, Domain string
	State            string // waiting, held or returning
	Older            string // as in 2h, or a time
}

func (d *Desk) queueFilter(f QueueFilter) (queue.Filter, error) {
	out := queue.Filter{ReversePath: f.From, ForwardPath: f.To, Destination: f.Domain}
	if f.State != "" {
		for _, s := range []queue.State{queue.Waiting, queue.Held, queue.Returning} {
			if s.String() == f.State {
				out.State = s
			}
		}
		if out.State == 0 {
			return out, fmt.Errorf("%w: --state %q is none; there are waiting, held and returning", ErrUsage, f.State)
		}
	}
	if f.Older == "" {
		return out, nil
	}
	at, err := d.moment(f.Older)
	if err != nil {
		return out, err
	}
	out.Before = at
	return out, nil
}

// QueueList lists what waits for relay.
func (d *Desk) QueueList(ctx context.Context, f QueueFilter) error {
	filter, err := d.queueFilter(f)
	if err != nil {
		return err
	}
	var rows []QueueRow
	for p := (queue.Page{Limit: queue.MaxPage}); ; {
		page, err := d.Rooms.Queue.List(ctx, filter, p)
		if errors.Is(err, db.ErrTooLong) && p.Limit > 1 { // messages with very many recipients
			p.Limit = max(1, p.Limit/8)
			continue
		}
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
	d.say("Message %s of <%s>, %d octets, queued %s, tried until %s", row.ID, row.ReversePath, row.Octets, row.Queued, row.Expires)
	return table(d, row.Recipients, "TO\tSTATE\tATTEMPTS\tNEXT\tLAST REPLY", func(r RecipientRow) string {
		last := r.LastStatus
		if r.Reason != "" {
			last = r.Reason
		}
		return fmt.Sprintf("%s\t%s\t%d\t%s\t%s", r.ForwardPath, r.State, r.Attempts, r.NextAttempt, last)
	})
}

// QueueVerb is what an operator does with queued mail.
type QueueVerb string

// The verbs.
const (
	QueueRetry   QueueVerb = "retry"   // try now
	QueueHold    QueueVerb = "hold"    // until release
	QueueRelease QueueVerb = "release" // try again what was held
	QueueBounce  QueueVerb = "bounce"  // return to the sender with a report
	QueueRemove  QueueVerb = "remove"  // tell nobody
)

// QueueDo does a verb to messages: to one by its id, or to those that the filter
// selects; with all, to everything. reason is what bounce tells the sender, and
// what lists and the trace show.
func (d *Desk) QueueDo(ctx context.Context, verb QueueVerb, id string, f QueueFilter, all bool, reason string) error {
	filter, err := d.queueTarget(id, f, all)
	if err != nil {
		return err
	}
	q := d.Rooms.Queue
	n, said := 0, ""
	switch verb {
	case QueueRetry:
		n, err = q.Retry(ctx, filter)
		said = "are tried now"
	case QueueHold:
		n, err = q.Hold(ctx, filter, reason)
		said = "are on hold; poczta queue release ends that"
	case QueueRelease:
		n, err = q.Release(ctx, filter)
		said = "are tried now"
	case QueueBounce:
		n, err = q.Bounce(ctx, filter, cmp.Or(reason, "returned by the postmaster"))
		said = "go back to their senders"
	case QueueRemove:
		n, err = q.Remove(ctx, filter, cmp.Or(reason, "removed by an operator"))
		said = "are removed; nobody was told"
	default:
		return fmt.Errorf("%w: %q is nothing that can be done with the queue", ErrUsage, verb)
	}
	if err != nil {
		return explain(err, string(verb)+" queued mail")
	}
	if n == 0 {
		return fmt.Errorf("nothing in the queue that matches can be changed so; poczta queue list shows what there is")
	}
	if n == 1 {
		said = strings.Replace(strings.Replace(said, "are ", "is ", 1), "go back to their senders", "goes back to its sender", 1)
		d.say("1 recipient %s.", said)
		return nil
	}
	d.say("%d recipients %s.", n, said)
	return nil
}

// queueTarget makes the filter of a verb, which must name something.
func (d *Desk) queueTarget(id string, f QueueFilter, all bool) (queue.Filter, error) {
	filter, err := d.queueFilter(f)
	if err != nil {
		return filter, err
	}
	filter.All = all
	if id == "" {
		if f == (QueueFilter{}) && !all {
			return filter, fmt.Errorf("%w: name a queue id, or --from, --to, --domain, --state, --older, or --all", ErrUsage)
		}
		return filter, nil
	}
	if filter.ID, err = parseID(id); err == nil && filter.ID.IsZero() {
		err = fmt.Errorf("%s is not in the queue; poczta queue list shows what is", id)
	}
	return filter, err
}

// DestinationRow is a destination in lists.
type DestinationRow struct {
	Name      string   `json:"name"`
	Waiting   int64    `json:"waiting"`
	Held      int64    `json:"held"`
	Returning int64    `json:"returning"`
	Oldest    string   `json:"oldest"`
	NextDue   string   `json:"next_due"`
	Failures  int      `json:"failures"`
	LastError string   `json:"last_error"`
	Suspended bool     `json:"suspended"`
	Reason    string   `json:"reason"`
	Nodes     []string `json:"nodes"`
}

// QueueDestinations lists where queued mail goes, and how that stands.
func (d *Desk) QueueDestinations(ctx context.Context) error {
	var rows []DestinationRow
	for p := (queue.DestinationPage{Limit: queue.MaxPage}); ; {
		page, err := d.Rooms.Queue.Destinations(ctx, p)
		if err != nil {
			return explain(err, "list destinations")
		}
		for _, x := range page {
			rows = append(rows, DestinationRow{x.Name, x.Waiting, x.Held, x.Returning, stamp(x.Oldest), stamp(x.NextDue), x.Failures, x.LastError, x.Suspended, x.Reason,
				append([]string{}, x.Nodes...)})
			p.After = x.Name
		}
		if len(page) < p.Limit {
			break
		}
	}
	return table(d, rows, "DESTINATION\tWAITING\tHELD\tOLDEST\tNEXT\tSTATE\tLAST ERROR", func(r DestinationRow) string {
		state := "working"
		switch {
		case r.Suspended:
			state = "suspended"
			if r.Reason != "" {
				state += ": " + r.Reason
			}
		case r.Failures > 0:
			state = fmt.Sprintf("down, probed %d times", r.Failures)
		}
		return fmt.Sprintf("%s\t%d\t%d\t%s\t%s\t%s\t%s", r.Name, r.Waiting, r.Held, r.Oldest, r.NextDue, state, r.LastError)
	})
}

// QueueSuspend stops delivery to a destination until QueueResume.
func (d *Desk) QueueSuspend(ctx context.Context, destination, reason string) error {
	name, err := destinationName(destination)
	if err != nil {
		return err
	}
	if err := d.Rooms.Queue.Suspend(ctx, name, reason); err != nil {
		return explain(err, "suspend "+destination)
	}
	d.say("Mail for %s waits until: poczta queue resume %s", destination, destination)
	return nil
}

// QueueResume ends a suspension.
func (d *Desk) QueueResume(ctx context.Context, destination string) error {
	name, err := destinationName(destination)
	if err != nil {
		return err
	}
	was, err := d.Rooms.Queue.Resume(ctx, name)
	if err != nil {
		return explain(err, "resume "+destination)
	}
	if !was {
		return fmt.Errorf("%s is not suspended; poczta queue destinations shows what is", destination)
	}
	d.say("Mail for %s is tried again.", destination)
	return nil
}

// destinationName is a destination as the queue names it.
func destinationName(s string) (string, error) {
	dom, err := address.ParseDomain(s)
	if err != nil {
		return "", fmt.Errorf("%w: %q is not a destination: %w; name a domain", ErrUsage, s, err)
	}
	return dom.String(), nil
}
