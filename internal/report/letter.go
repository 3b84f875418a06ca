package report

import (
	"context"
	"fmt"
	"io"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// Letter is a message of this house to one of its people, about their mail.
type Letter struct {
	From address.Address // of the From field; for whose domain it is signed
	To   address.Address
	// UTF8 says that the header section will hold UTF-8.
	UTF8 bool
	// Write writes the message with CRLF lines; id is what it is known by here.
	Write func(w io.Writer, id message.ID) error
	// Within is run in the transaction that accepts it, see post.Delivery; nil is nothing.
	Within func(tx db.Tx) error
}

// SendLetter accepts a letter, with a null reverse-path so that nothing comes back (RFC 3834 §3.3),
// signed if it leaves this house. It returns nil once the letter is durable, or there is for
// good nobody to get it (then Within does not run, and sent is false). Other errors are temporary,
// or Within's own.
func (r *Reporter) SendLetter(ctx context.Context, l Letter) (sent bool, err error) {
	d, _, err := r.deliveryTo(ctx, l.To)
	if err != nil {
		if lost(err) {
			r.c.Logger.Info("letter has no reader", "forward_path", l.To.String(), "cause", err.Error())
			return false, nil
		}
		return false, fmt.Errorf("route letter to %s: %w", l.To, err)
	}
	d.UTF8, d.Envelope.SMTPUTF8 = l.UTF8, l.UTF8
	d.MessageID = message.NewMessageID(d.ID, r.c.Hostname)
	d.Within = l.Within
	if d.Staged, err = r.c.Accepter.Stage(ctx, 0); err != nil {
		return false, fmt.Errorf("stage letter: %w", err)
	}
	defer d.Staged.Discard()
	err = r.write(ctx, l.From.Domain(), func(w io.Writer) error { return l.Write(w, d.ID) }, d)
	if err != nil {
		return false, err
	}
	if err := r.c.Accepter.Accept(ctx, d); err != nil {
		return false, fmt.Errorf("accept letter: %w", err)
	}
	return true, nil
}
