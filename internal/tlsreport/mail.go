package tlsreport

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/tlsrpt"
)

// letter is a report on its way into the mail.
type letter struct {
	day    int64
	domain address.Domain
	id     message.ID
	report tlsrpt.Report
}

// errUnsigned: nobody reads a report without a signature (RFC 8460 §3).
var errUnsigned = errors.New("the sender's domain has no DKIM key; make one with `poczta domain rotate`")

// mail sends the report by mail. That it was sent is noted in the transaction
// that accepts it.
func (r *Reporter) mail(ctx context.Context, u *url.URL, l letter) error {
	text, err := url.PathUnescape(u.Opaque)
	if err != nil {
		return err
	}
	to, err := address.Parse(text)
	if err != nil || !to.IsASCII() {
		return fmt.Errorf("%q is no address that a report can go to", text)
	}
	msg, err := l.report.Message(tlsrpt.Mail{
		From: r.cfg.From, To: to, Domain: l.domain, Date: r.cfg.Now(), MessageID: message.NewMessageID(l.id, r.cfg.From.Domain()),
	})
	if err != nil {
		return err
	}
	d, err := r.delivery(ctx, l, to)
	if err != nil {
		return err
	}
	if d.Head, err = r.cfg.Sign(ctx, r.cfg.From.Domain(), msg); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	if len(d.Head) == 0 {
		return errUnsigned
	}
	if d.Staged, err = r.cfg.Accepter.Stage(ctx, int64(len(msg))); err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	defer d.Staged.Discard()
	if _, err := d.Staged.Write(msg); err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	return r.cfg.Accepter.Accept(ctx, d)
}

// delivery is the report's way: NOTIFY=NEVER, since nobody waits for news of a
// report, and TLS-Required: No, since it may be about TLS that fails (RFC 8460 §3).
func (r *Reporter) delivery(ctx context.Context, l letter, to address.Address) (*post.Delivery, error) {
	path := address.NewForwardPath(to)
	d := &post.Delivery{
		ID: l.id, MessageID: message.NewMessageID(l.id, r.cfg.From.Domain()), Ours: true, TLSOptional: true,
		Envelope: envelope.Envelope{
			ReversePath: address.NewReversePath(r.cfg.From), Body: envelope.Body7Bit,
			Recipients: []envelope.Recipient{{ForwardPath: path, Notify: envelope.NotifyNever}},
			Origin:     envelope.Origin{Protocol: "local", Time: r.cfg.Now()},
		},
		Within: func(tx db.Tx) error { return r.cfg.Store.MarkReported(tx, l.day, l.domain) },
	}
	route, err := r.cfg.Router.Route(ctx, path)
	if errors.Is(err, account.ErrNotLocal) {
		d.Remotes = []post.Remote{{ForwardPath: path}}
		return d, nil
	}
	if err != nil {
		return nil, fmt.Errorf("route: %w", err)
	}
	for _, x := range route.Locals {
		d.Locals = append(d.Locals, post.Local{
			Recipients: []int{0}, Account: x.Account, Login: x.Login, Prefix: message.AppendPrefix(nil, d.Envelope.ReversePath, to),
		})
	}
	for _, a := range route.Remotes {
		d.Remotes = append(d.Remotes, post.Remote{ForwardPath: address.NewForwardPath(a), Forward: to.String(), ReversePath: d.Envelope.ReversePath, Notify: envelope.NotifyNever})
	}
	return d, nil
}
