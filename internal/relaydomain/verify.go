package relaydomain

import (
	"context"
	"log/slog"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/smtp"
)

// Verify judges a recipient. relayed is false when its domain is none of ours to
// relay for; then nothing else was looked at. The error is an *smtp.Error: 550 for
// a recipient that its domain does not have, or that holds a route, 451 when that
// can't be known now. It blocks for twice Config.Timeout at most.
func (d *Domains) Verify(ctx context.Context, to address.ForwardPath) (relayed bool, err error) {
	if to.IsPostmaster() {
		return false, nil
	}
	one := d.byName[to.Address().Domain()]
	if one == nil {
		return false, nil
	}
	if one.Recipients != List && strings.ContainsAny(to.Address().Local(), "@%!") {
		// The domain's host trusts us, and might send on what it takes for a route
		// (RFC 5321 §3.6.1): x%elsewhere.example@relayed.example.
		return true, smtp.Refuse(550, 1, 3, "An address with a route in its local-part is not relayed")
	}
	switch one.Recipients {
	case Any:
		return true, nil
	case List:
		if one.list[to.Key()] || strings.EqualFold(to.Address().Local(), "postmaster") { // RFC 5321 §4.5.1
			return true, nil
		}
		return true, smtp.Refuse(550, 1, 1, "No such mailbox in a domain that this host relays for")
	case Call:
	}
	return true, d.call(ctx, one, to)
}

// call looks for an answer in memory, and asks the domain's host if there is none.
func (d *Domains) call(ctx context.Context, one *domain, to address.ForwardPath) error {
	now := d.c.Now()
	key := d.cache.key(to.Key())
	known, ok := d.cache.get(key)
	age := now.Sub(known.at)
	switch {
	case ok && age >= 0 && known.outcome == good && age < d.c.Fresh:
		return nil
	case ok && age >= 0 && known.outcome == unknown && age < d.c.Unknown:
		return known.refusal()
	}
	a := d.ask(ctx, one, to)
	switch {
	case a.outcome == good, a.outcome == unknown && a.lasting:
		a.at = now
		d.cache.put(key, a)
	case a.outcome == unreachable && ok && known.outcome == good && age < d.c.Keep:
		return nil
	case a.outcome == unreachable && one.AcceptWhenDown && !a.busy:
		d.c.Logger.LogAttrs(ctx, slog.LevelInfo, "recipient taken without being verified", slog.String("forward_path", to.String()), slog.Any("error", a.err))
		return nil
	}
	if a.outcome == good {
		return nil
	}
	return a.refusal()
}

// outcome is what a domain's host says of a recipient.
type outcome uint8

const (
	good outcome = iota
	unknown
	deferred    // it answers, and does not say
	unreachable // nothing was to be learned
)

func (o outcome) String() string {
	switch o {
	case good:
		return "good"
	case unknown:
		return "unknown"
	case deferred:
		return "deferred"
	case unreachable:
	}
	return "unreachable"
}

// refusal is what the peer hears of an answer that is not good. The host's own
// words go into the log alone.
func (a *answer) refusal() error {
	r := smtp.Reply{Code: 451, Subject: int(a.subject), Detail: int(a.detail)}
	switch a.outcome {
	case unknown:
		r.Code, r.Text = 550, "The domain's own server refuses this recipient"
	case deferred:
		r.Text = "The domain's own server does not say now whether it takes this recipient; try again later"
	case unreachable, good:
		r.Subject, r.Detail, r.Text = 4, 1, "The domain's own server can't be asked about this recipient now; try again later"
	}
	return &smtp.Error{Reply: r, Err: a.err}
}
