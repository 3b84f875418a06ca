package intake

import (
	"context"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/srs"
)

// Forwarding makes the reverse-paths of copies that aliases and accounts send on, and
// knows those of its making; *forward.Forwarding is one. Safe for concurrent use.
type Forwarding interface {
	// Rewrite returns the reverse-path of a copy that by sends on. verified says that the
	// reverse-path is known to be the sender's own.
	Rewrite(ctx context.Context, from address.ReversePath, by account.Forwarder, verified bool) (address.ReversePath, error)
	// Marks returns the marks of a message that by has sent on; the first is to be written.
	Marks(ctx context.Context, by account.Forwarder) ([]string, error)
	// Return says where mail to an SRS address goes. The error is account.ErrNotLocal when
	// its domain isn't ours, account.ErrUnknownUser when it was not made here or not lately;
	// others are temporary.
	Return(ctx context.Context, to address.ForwardPath) (account.Route, error)
}

// markField is the header field by which a forward knows a message that it sent on.
const markField = "X-Poczta-Forwarded"

// maxMarks bounds what markField holds.
const maxMarks = 20

// route asks where a recipient's mail goes. An SRS address of ours takes notifications
// alone, so that nobody sends mail through us by it.
func (t *Transaction) route(ctx context.Context, r envelope.Recipient) (account.Route, error) {
	if t.in.c.Forwarding == nil || r.ForwardPath.IsPostmaster() || !srs.Is(r.ForwardPath.Address()) {
		return t.in.c.Router.Route(ctx, r.ForwardPath)
	}
	route, err := t.in.c.Forwarding.Return(ctx, r.ForwardPath)
	if err == nil && !t.env.ReversePath.IsNull() {
		return account.Route{}, Refuse(550, 7, 1, "This address takes notifications with a null reverse-path alone", nil)
	}
	return route, err
}

// forwardedBy notes whose forward a copy is.
func (t *Transaction) forwardedBy(r *post.Remote, by account.Forwarder) {
	r.Forward = by.Source
	if t.plan.by == nil {
		t.plan.by = map[string]account.Forwarder{}
	}
	t.plan.by[by.Source] = by
}

// verified reports whether the reverse-path is known to be the sender's own: that of people
// and devices who submit here, and what SPF or DKIM has proven.
func (t *Transaction) verified() bool {
	return t.rules.Ours || t.env.Origin.Account != 0 || t.proven
}

// rewrite gives the copies that go on elsewhere their reverse-path.
func (t *Transaction) rewrite(ctx context.Context, d *post.Delivery) error {
	if t.in.c.Forwarding == nil || d.Envelope.ReversePath.IsNull() {
		return nil
	}
	for i := range d.Remotes {
		r := &d.Remotes[i]
		if r.Forward == "" {
			continue
		}
		rewritten, err := t.in.c.Forwarding.Rewrite(ctx, t.pathFor(&d.Envelope.Recipients[r.Recipient]), t.plan.by[r.Forward], t.verified())
		if err != nil {
			return fmt.Errorf("forward for %s: %w", r.Forward, err)
		}
		if !rewritten.IsNull() {
			r.ReversePath = rewritten
		}
	}
	return nil
}

// oneWay reports a copy whose reports don't come back to the sender, but to the owner of
// the forward.
func (t *Transaction) oneWay(r *post.Remote) bool {
	return r.ReversePath != t.env.Recipients[r.Recipient].ReversePath && !t.verified()
}

// expands reports whether recipient i is told of as expanded, instead of passing the wish
// for a report of success on (RFC 3461 §5.2.7.3 c): several targets, or one from which no
// report would come back.
func (t *Transaction) expands(d *post.Delivery, i int) bool {
	if t.targets(i) > 1 {
		return true
	}
	for k := range d.Remotes {
		if d.Remotes[k].Recipient == i && t.oneWay(&d.Remotes[k]) {
			return true
		}
	}
	return false
}

// passWishes gives the copies what their sender asked to be told (RFC 3461 §5.2.7.2 and
// §5.2.7.3 c): attachReports has taken SUCCESS away where a recipient was expanded. The
// owner of a forward is to hear of failures alone.
func (t *Transaction) passWishes(d *post.Delivery) {
	for i := range d.Remotes {
		r := &d.Remotes[i]
		if r.Forward == "" {
			continue
		}
		r.Notify = d.Envelope.Recipients[r.Recipient].Notify
		switch {
		case !t.oneWay(r):
		case r.Notify == 0 || r.Notify&envelope.NotifyFailure != 0:
			r.Notify = envelope.NotifyFailure
		default:
			r.Notify = envelope.NotifyNever
		}
	}
}

// mark collects the marks of the forwards that the message takes, and returns those
// forwards that been shows it has taken before.
func (t *Transaction) mark(ctx context.Context, been map[string]bool) (again map[string]bool, err error) {
	if t.in.c.Forwarding == nil {
		return nil, nil
	}
	for source, by := range t.plan.by {
		marks, err := t.in.c.Forwarding.Marks(ctx, by)
		if err != nil {
			return nil, fmt.Errorf("forward for %s: %w", source, err)
		}
		for _, m := range marks {
			if been[m] {
				if again == nil {
					again = map[string]bool{}
				}
				again[source] = true
			}
		}
		if len(marks) > 0 && len(t.marks) < maxMarks {
			t.marks = append(t.marks, marks[0])
		}
	}
	return again, nil
}

// appendMarks adds the field of the marks to the trace fields. It is the same in all
// copies, and says nothing to anybody else.
func (t *Transaction) appendMarks(head []byte) []byte {
	if len(t.marks) == 0 {
		return head
	}
	return message.AppendField(head, markField, strings.Join(t.marks, " "))
}
