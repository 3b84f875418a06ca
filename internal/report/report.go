// Package report sends what we have to tell about messages: delivery status
// notifications to their reverse-path (RFC 3461, RFC 3464).
package report

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
)

// Router says where mail for a forward-path goes; *account.Accounts is one.
// account.ErrNotLocal means that it leaves this house.
type Router interface {
	Route(ctx context.Context, to address.ForwardPath) (account.Route, error)
}

// Config is what a Reporter needs. Hostname, Accepter and Router are required.
type Config struct {
	Hostname address.Domain
	Accepter post.Accepter
	Router   Router
	Signers  Signers          // sign what leaves this house; nil leaves it unsigned
	Language string           // of reports to people without an account here; default "en"
	Now      func() time.Time // default time.Now
	Random   io.Reader        // default crypto/rand
	Logger   *slog.Logger     // nil discards
}

// Reporter writes reports. Safe for concurrent use.
type Reporter struct {
	c         Config
	strangers strangers
}

// New checks the configuration and fills in defaults.
func New(c Config) (*Reporter, error) {
	var errs []error
	if c.Hostname.IsZero() {
		errs = append(errs, errors.New("report: Hostname is required"))
	}
	if c.Accepter == nil {
		errs = append(errs, errors.New("report: Accepter is required"))
	}
	if c.Router == nil {
		errs = append(errs, errors.New("report: Router is required"))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := newStrangers()
	return &Reporter{c: c, strangers: s}, errors.Join(append(errs, err)...)
}

// Original is the message that a report is about.
type Original struct {
	ID       message.ID
	Envelope envelope.Envelope
	Header   []byte    // its header section
	Content  io.Reader // the whole message, for RET=FULL with failures; nil returns the header
	Foreign  bool      // it is a stranger's, though Envelope does not say from where it came
}

// Prepare stages a notification about recipients of o and returns the delivery
// for Accept; the caller discards its Staged afterwards. It returns nil without
// an error when nobody can be told: the reverse-path is null (RFC 5321 §4.5.5),
// or leads to no mailbox of ours, or a stranger asks for more reports of success than there
// are for strangers; both are logged.
func (r *Reporter) Prepare(ctx context.Context, o Original, recipients []dsn.Recipient) (*post.Delivery, error) {
	if o.Envelope.ReversePath.IsNull() || len(recipients) == 0 {
		return nil, nil
	}
	to := o.Envelope.ReversePath.Address()
	if r.strangers.asks(&o, recipients) {
		if !r.strangers.allow(&o, r.c.Now()) {
			r.c.Logger.Info("report of success left out: a stranger asks for too many", "queue_id", o.ID.String(), "reverse_path", to.String(), "peer", o.Envelope.Origin.Peer.String())
			return nil, nil
		}
		o.Header = brief(o.Header)
	}
	d, language, err := r.deliveryTo(ctx, to)
	if err != nil {
		if lost(err) {
			r.c.Logger.Info("report has no reader", "queue_id", o.ID.String(), "reverse_path", to.String(), "cause", err.Error())
			return nil, nil
		}
		return nil, fmt.Errorf("route report to %s: %w", to, err)
	}
	d.Envelope.RequireTLS = o.Envelope.RequireTLS // RFC 8689 §5
	d.Envelope.Priority = o.Envelope.Priority     // RFC 6710 §4.6
	rep := dsn.Report{
		ID: d.ID, ReportingMTA: r.c.Hostname, To: to, Language: language, Now: d.Envelope.Origin.Time,
		EnvelopeID: o.Envelope.EnvelopeID, Arrival: o.Envelope.Origin.Time, Return: o.Envelope.Return,
		Recipients: recipients, Header: o.Header, Content: o.Content,
	}
	d.UTF8, d.Envelope.SMTPUTF8 = rep.NeedsUTF8(), rep.NeedsUTF8()
	d.MessageID = message.NewMessageID(d.ID, r.c.Hostname)
	d.Staged, err = r.c.Accepter.Stage(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("stage report: %w", err)
	}
	if err := r.write(ctx, r.c.Hostname, rep.Write, d); err != nil {
		d.Staged.Discard()
		return nil, err
	}
	return d, nil
}

// lost reports a route's error that says for good that nobody is there.
func lost(err error) bool {
	return errors.Is(err, account.ErrUnknownUser) || errors.Is(err, account.ErrDisabled) || errors.Is(err, account.ErrLoop)
}

// deliveryTo makes the delivery of a report with a null reverse-path and
// NOTIFY=NEVER (RFC 3461 §6.1), and says in which language to write it.
func (r *Reporter) deliveryTo(ctx context.Context, to address.Address) (*post.Delivery, string, error) {
	now := r.c.Now()
	id, err := message.NewID(now, r.c.Random)
	if err != nil {
		return nil, "", err
	}
	path := address.NewForwardPath(to)
	d := &post.Delivery{ID: id, Ours: true, Envelope: envelope.Envelope{
		Recipients: []envelope.Recipient{{ForwardPath: path, Notify: envelope.NotifyNever}},
		Body:       envelope.Body8BitMIME,
		Origin:     envelope.Origin{Protocol: "local", Time: now},
	}}
	route, err := r.c.Router.Route(ctx, path)
	if errors.Is(err, account.ErrNotLocal) {
		d.Remotes = []post.Remote{{ForwardPath: path}}
		return d, r.c.Language, nil
	}
	if err != nil {
		return nil, "", err
	}
	language := r.c.Language
	for i, l := range route.Locals {
		if i == 0 && l.Language != "" {
			language = l.Language
		}
		d.Locals = append(d.Locals, post.Local{
			Recipients: []int{0}, Account: l.Account, Login: l.Login,
			Prefix: message.AppendPrefix(nil, address.ReversePath{}, to),
		})
	}
	for i, a := range route.Remotes {
		remote := post.Remote{ForwardPath: address.NewForwardPath(a)}
		if i < len(route.Forwarders) {
			remote.Forward, remote.Notify = route.Forwarders[i].Source, envelope.NotifyNever
		}
		d.Remotes = append(d.Remotes, remote)
	}
	return d, language, nil
}

// Send prepares a notification and accepts it on its own: it returns nil once
// the report is durable, or there is nobody to tell. Errors are temporary.
func (r *Reporter) Send(ctx context.Context, o Original, recipients []dsn.Recipient) error {
	d, err := r.Prepare(ctx, o, recipients)
	if d == nil || err != nil {
		return err
	}
	defer d.Staged.Discard()
	if err := r.c.Accepter.Accept(ctx, d); err != nil {
		return fmt.Errorf("accept report about %s: %w", o.ID, err)
	}
	return nil
}
