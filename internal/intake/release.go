package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
)

// Held is a message whose release was put off (RFC 4865) and whose time has come.
type Held struct {
	ID       message.ID        // under which it waited, for the log
	Envelope envelope.Envelope // its recipients are those to be delivered now
	Message  io.Reader         // the octets as stored, our trace fields included
	// TLSOptional is as in post.Delivery.
	TLSOptional bool
	// Within runs in the transaction that delivers, and is told which of the recipients
	// it delivers, so that their fate in the queue is settled in the same step. It may
	// run more than once.
	Within func(tx db.Tx, taken []int) error
}

// Released says what became of a held message.
type Released struct {
	ID message.ID // under which it was delivered; zero when no recipient was taken
	// Results has an entry for each recipient: nil when it was delivered, an error that
	// is account.ErrNotLocal when its domain isn't ours (any more) and it is relay's
	// matter, an *smtp.Error when it is refused for good, and others to try again.
	Results []error
}

// Release delivers the recipients of a held message that are ours: it routes them
// as they stand now and accepts the message for their mailboxes, and for what their
// aliases lead to elsewhere, under a new id. Room was held when the message came,
// so that no mailbox is too full. Reports that NOTIFY=SUCCESS asks for come with
// it. The error is temporary, and nothing was delivered then.
//
// Recipients given in one call that lead to one mailbox share one entry.
func (in *Intake) Release(ctx context.Context, h Held) (Released, error) {
	t := &Transaction{in: in, env: h.Envelope}
	t.env.Recipients, t.env.HoldUntil = nil, time.Time{}
	out := Released{Results: make([]error, len(h.Envelope.Recipients))}
	var taken []int
	for i := range h.Envelope.Recipients {
		if out.Results[i] = t.routeHeld(ctx, h.Envelope.Recipients[i]); out.Results[i] == nil {
			taken = append(taken, i)
		}
	}
	if len(taken) == 0 {
		return out, nil
	}
	d, header, err := t.readHeld(ctx, h)
	if err != nil {
		return Released{}, fmt.Errorf("release message %s: %w", h.ID, err)
	}
	defer d.Staged.Discard()
	if err := t.rewrite(ctx, d); err != nil {
		return Released{}, fmt.Errorf("release message %s: %w", h.ID, err)
	}
	if err := t.attachReports(ctx, d, header); err != nil {
		return Released{}, fmt.Errorf("release message %s: %w", h.ID, err)
	}
	t.passWishes(d)
	t.answer(ctx, d, header)
	for i := range d.Also {
		defer d.Also[i].Staged.Discard()
	}
	if h.Within != nil {
		d.Within = func(tx db.Tx) error { return h.Within(tx, taken) }
	}
	if err := in.c.Accepter.Accept(ctx, d); err != nil {
		return Released{}, fmt.Errorf("release message %s: %w", h.ID, err)
	}
	out.ID = d.ID
	in.c.Logger.LogAttrs(ctx, slog.LevelInfo, "held message released", slog.String("queue_id", h.ID.String()), slog.String("delivered_as", d.ID.String()))
	t.logAccepted(ctx, d)
	return out, nil
}

// routeHeld puts a recipient into the plan if it is ours.
func (t *Transaction) routeHeld(ctx context.Context, r envelope.Recipient) error {
	if i, ok := t.named(r.ForwardPath); ok {
		t.merge(i, r)
		return nil
	}
	route, err := t.in.c.Router.Route(ctx, r.ForwardPath)
	if errors.Is(err, account.ErrNotLocal) {
		return fmt.Errorf("release to %s: %w", r.ForwardPath, err)
	}
	if err != nil {
		return routeRefusal(err)
	}
	t.addRoute(r, route)
	return nil
}

// readHeld stages the message as it is. The header section returned is for reports.
func (t *Transaction) readHeld(ctx context.Context, h Held) (*post.Delivery, []byte, error) {
	buf, err := t.in.newBuffer()
	if err != nil {
		return nil, nil, err
	}
	defer buf.free()
	found, err := buf.readHeader(h.Message, message.MaxHeaderOctets+bufferOctets/2) // our trace fields came on top
	if err != nil {
		return nil, nil, err
	}
	header := append([]byte(nil), buf.b[:found.section]...) // the buffer goes back to its pool
	id, err := message.NewID(t.in.c.Now(), t.in.c.Random)
	if err != nil {
		return nil, nil, err
	}
	d := &post.Delivery{ID: id, Envelope: t.env, Locals: t.plan.locals, Remotes: t.plan.remotes, Ours: true, TLSOptional: h.TLSOptional, UTF8: message.NeedsUTF8(header)}
	if d.MessageID, _ = message.Get(header, "Message-ID"); len(d.MessageID) > maxMessageIDOctets {
		d.MessageID = d.MessageID[:maxMessageIDOctets]
	}
	for _, l := range d.Locals {
		d.UTF8 = d.UTF8 || message.NeedsUTF8(l.Prefix)
	}
	if d.Staged, err = t.in.c.Accepter.Stage(ctx, t.env.Size); err != nil {
		return nil, nil, fmt.Errorf("stage message: %w", err)
	}
	err = fill(d.Staged, header, buf.b[found.section:found.have])
	if err == nil && !found.eof {
		err = buf.copyBody(d.Staged, h.Message, found.section)
	}
	if err != nil {
		d.Staged.Discard()
		return nil, nil, err
	}
	return d, header, nil
}
