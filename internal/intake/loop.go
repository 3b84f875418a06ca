package intake

import (
	"context"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
)

// Bounds of loop detection.
const (
	// MaxPasses is how often a message that goes on elsewhere may have passed this very
	// host: fewer than MaxReceived, since each pass of a forward that keeps a copy fills
	// a mailbox.
	MaxPasses = 10
	// maxDeliveredTo is how many Delivered-To fields are looked at.
	maxDeliveredTo = 100
	// maxMarksRead is how many marks of forwards are looked at.
	maxMarksRead = 1000
)

// passage is what the trace fields of a message say of its way so far.
type passage struct {
	received    int
	ours        int             // Received fields of this host
	deliveredTo map[string]bool // keys of the addresses in Delivered-To, when any alias leads elsewhere
	marks       map[string]bool // of forwards that it has passed through here
}

// note takes a field of the header section.
func (p *passage) note(t *Transaction, f message.Field) {
	switch {
	case f.Is("Received"):
		p.received++
		if receivedBy(f.Value(), t.in.c.Hostname.String()) {
			p.ours++
		}
	case f.Is("Delivered-To") && len(p.deliveredTo) < maxDeliveredTo && t.forwards():
		if a, err := address.Parse(strings.TrimSpace(f.Value())); err == nil {
			if p.deliveredTo == nil {
				p.deliveredTo = map[string]bool{}
			}
			p.deliveredTo[a.Key()] = true
		}
	case f.Is(markField) && t.forwards():
		for mark := range strings.FieldsSeq(f.Value()) {
			if len(p.marks) >= maxMarksRead {
				break
			}
			if p.marks == nil {
				p.marks = map[string]bool{}
			}
			p.marks[strings.ToLower(mark)] = true
		}
	}
}

// judge refuses a message that goes in circles (RFC 5321 §6.3), and leaves out the
// copies of an alias that have been where they would go.
func (p *passage) judge(ctx context.Context, t *Transaction) error {
	if p.received > MaxReceived {
		return Refuse(554, 4, 6, fmt.Sprintf("The message has passed through %d hosts: it is in a loop", p.received), nil)
	}
	if p.ours > MaxPasses && len(t.plan.remotes) > 0 {
		return Refuse(554, 4, 6, fmt.Sprintf("The message has passed through this host %d times: it is in a loop", p.ours), nil)
	}
	again, err := t.mark(ctx, p.marks)
	if err != nil {
		return err
	}
	if len(p.deliveredTo)+len(again) == 0 {
		return nil
	}
	return t.dropBeen(p.deliveredTo, again)
}

// forwards reports whether a recipient's alias leads elsewhere.
func (t *Transaction) forwards() bool {
	for i := range t.plan.remotes {
		if t.isForward(&t.plan.remotes[i]) {
			return true
		}
	}
	return false
}

// isForward reports whether the sender did not name where r goes.
func (t *Transaction) isForward(r *post.Remote) bool {
	return r.ForwardPath != t.env.Recipients[r.Recipient].ForwardPath
}

// dropBeen leaves out forwards to addresses that the message was delivered to before,
// as mail that two mailboxes forward to each other was. A recipient who has no other
// target keeps them: a fate is due, and MaxPasses ends the loop; but when that is so
// for all recipients, the message is refused.
//
// again are the forwards, as Remote.Forward, that this message has taken before.
func (t *Transaction) dropBeen(been, again map[string]bool) error {
	isBeen := func(r *post.Remote) bool {
		return t.isForward(r) && been[r.ForwardPath.Key()] || r.Forward != "" && again[r.Forward]
	}
	lives := make([]int, len(t.env.Recipients)) // targets that are left
	for _, l := range t.plan.locals {
		for _, i := range l.Recipients {
			lives[i]++
		}
	}
	live := len(t.plan.locals)
	for i := range t.plan.remotes {
		if r := &t.plan.remotes[i]; !isBeen(r) {
			lives[r.Recipient]++
			live++
		}
	}
	if live == 0 {
		return Refuse(554, 4, 6, "The message was delivered already where it would be forwarded to: it is in a loop", nil)
	}
	left := make([]int, len(lives))
	kept := t.plan.remotes[:0]
	for _, r := range t.plan.remotes {
		if isBeen(&r) && lives[r.Recipient] > 0 {
			t.in.c.Logger.Info("copy left out, its target has the message", "conn_id", t.env.Origin.ConnID, "forward_path", r.ForwardPath.String())
			continue
		}
		kept = append(kept, r)
		left[r.Recipient]++
	}
	t.plan.remotes = kept
	for i := range left {
		t.plan.success[i] = t.plan.success[i] || left[i] == 0
	}
	return nil
}

// receivedBy reports whether a Received field's by-clause names host.
func receivedBy(value, host string) bool {
	depth, by := 0, false
	for word := range strings.FieldsSeq(value) {
		outside := depth == 0
		depth += strings.Count(word, "(") - strings.Count(word, ")")
		switch {
		case !outside || strings.HasPrefix(word, "("):
		case by:
			return strings.EqualFold(strings.TrimSuffix(word, ";"), host)
		default:
			by = strings.EqualFold(word, "by")
		}
	}
	return false
}
