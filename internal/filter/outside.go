package filter

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"poczta.example/poczta/internal/clamd"
	"poczta.example/poczta/internal/hook"
	"poczta.example/poczta/internal/milter"
	"poczta.example/poczta/internal/rspamd"
	"poczta.example/poczta/internal/verdict"
)

// asks reports whether a filter is asked about the message.
func (i *inspection) asks(u Use) bool {
	if i.in.Outgoing {
		return u.Outgoing
	}
	return u.Incoming
}

// outside asks the other filters: clamd and Rspamd beside each other, since they change
// nothing, then the milters in order, and last the hook, which is told of all evidence.
func (i *inspection) outside(ctx context.Context) error {
	var virus, opinion []verdict.Item
	var wg sync.WaitGroup
	if c := i.f.c.Clamd; c != nil && i.asks(c.Use) {
		wg.Go(func() { virus = i.scan(ctx, c) })
	}
	if c := i.f.c.Rspamd; c != nil && i.asks(c.Use) {
		wg.Go(func() { opinion = i.ask(ctx, c) })
	}
	wg.Wait()
	i.items = append(append(i.items, virus...), opinion...)
	for k := range i.f.c.Milters {
		if m := &i.f.c.Milters[k]; i.asks(m.Use) {
			if stop := i.milter(ctx, m); stop {
				break
			}
		}
	}
	if c := i.f.c.Hook; c != nil && i.asks(c.Use) {
		i.items = append(i.items, i.call(ctx, c)...)
	}
	return nil
}

// unavailable is the evidence of a filter that could not look.
func (i *inspection) unavailable(name string, err error, demand verdict.Action) []verdict.Item {
	i.f.c.Logger.Warn("filter could not look at a message", "queue_id", i.in.ID.String(), "filter", name, "then", demand.String(), "error", err)
	detail := err.Error() // most begin with who they are from
	if !strings.HasPrefix(strings.ToLower(detail), strings.ToLower(name)) {
		detail = name + ": " + detail
	}
	return []verdict.Item{{Name: verdict.FilterDown, Detail: detail, Demand: demand}}
}

// scan asks clamd.
func (i *inspection) scan(ctx context.Context, c *Clamd) []verdict.Item {
	r, err := c.Scan(ctx, i.section())
	switch {
	case errors.Is(err, clamd.ErrTooLarge):
		return i.unavailable("clamd", err, c.Large)
	case err != nil:
		return i.unavailable("clamd", err, c.Down)
	}
	return r.Items()
}

// ask asks Rspamd.
func (i *inspection) ask(ctx context.Context, c *Rspamd) []verdict.Item {
	r, err := c.Check(ctx, rspamd.Message{Origin: i.in.Envelope.Origin, Envelope: *i.in.Envelope, QueueID: i.in.ID.String(), Size: i.whole.Size}, i.section())
	switch {
	case errors.Is(err, rspamd.ErrTooLarge):
		return i.unavailable("Rspamd", err, c.Large)
	case err != nil:
		return i.unavailable("Rspamd", err, c.Down)
	}
	items := r.Items()
	for k := range items {
		if c.Scale != 0 {
			items[k].Scale *= c.Scale
		}
	}
	return items
}

// milter asks one milter, and reports whether its verdict ends the asking.
func (i *inspection) milter(ctx context.Context, m *Milter) (stop bool) {
	r, err := m.Filter(ctx, i.changed)
	if err != nil {
		i.items = append(i.items, i.unavailable("milter "+m.Name(), err, m.Down)...)
		return false
	}
	i.items = append(i.items, r.Items(m.Name())...)
	for _, one := range r.Recipients {
		items := milter.Result{Action: one.Action, Reply: one.Reply, Stage: "rcpt"}.Items(m.Name())
		if key := i.changed.Envelope.Recipients[one.Index].ForwardPath.Key(); len(items) > 0 && r.Action <= milter.Quarantine {
			i.refuse(key, items[0])
		}
	}
	if r.Action == milter.Reject || r.Action == milter.TempFail {
		i.tell(verdict.Milter, r.Reply.Text)
		return true
	}
	if r.Action == milter.Discard {
		return true
	}
	i.changed = i.changed.Apply(r.Changes)
	i.edits = append(i.edits, r.Changes...)
	if slices.ContainsFunc(r.Changes, func(c milter.Change) bool { return c.Kind == milter.ChangeFrom }) {
		i.resent = "milter " + m.Name() + " changed the reverse-path from " + i.in.Envelope.ReversePath.String() + " to " + i.changed.Envelope.ReversePath.String()
	}
	return false
}

// refuse remembers that a milter refuses a recipient.
func (i *inspection) refuse(key string, it verdict.Item) {
	if i.refused == nil {
		i.refused = map[int]verdict.Item{}
	}
	for n := range i.in.Envelope.Recipients {
		if i.in.Envelope.Recipients[n].ForwardPath.Key() == key {
			i.refused[n] = it
		}
	}
}

// refusals is the evidence that milters refuse these recipients, all of them.
func (i *inspection) refusals(recipients ...int) []verdict.Item {
	var it verdict.Item
	for _, n := range recipients {
		var ok bool
		if it, ok = i.refused[n]; !ok {
			return nil
		}
	}
	return []verdict.Item{it}
}

// tell remembers what the peer is told when evidence of that name decides.
func (i *inspection) tell(name verdict.Name, text string) {
	if i.replies == nil {
		i.replies = map[verdict.Name]string{}
	}
	i.replies[name] = text
}

// call asks the HTTP hook.
func (i *inspection) call(ctx context.Context, c *Hook) []verdict.Item {
	m := hook.Message{Origin: i.in.Envelope.Origin, Envelope: *i.in.Envelope, QueueID: i.in.ID.String(), Outgoing: i.in.Outgoing,
		Header: i.in.Header, Content: i.whole.Message, Size: i.whole.Size, Evidence: i.items}
	if i.report != nil {
		for _, d := range i.report.Proven {
			m.Verified = append(m.Verified, d.String())
		}
	}
	r, err := c.Ask(ctx, m)
	switch {
	case errors.Is(err, hook.ErrTooLarge):
		return i.unavailable("hook", err, c.Large)
	case err != nil:
		return i.unavailable("hook", err, c.Down)
	}
	if r.Reason != "" {
		i.tell(verdict.Hook, r.Reason)
	}
	for _, h := range r.Headers {
		i.edits = append(i.edits, milter.Change{Kind: milter.InsertHeader, Name: h.Name, Value: " " + h.Value})
	}
	if len(r.Headers) > 0 {
		i.changed = i.changed.Apply(i.edits[len(i.edits)-len(r.Headers):])
	}
	return r.Items()
}
