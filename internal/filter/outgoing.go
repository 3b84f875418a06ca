package filter

import (
	"context"
	"slices"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/verdict"
)

// decideOutgoing decides about what one of our own people sends: what is dangerous, or what a
// rule of the operator says, is refused where they can read why. The score alone refuses
// nothing; it tells when an account sends unlike itself.
func (i *inspection) decideOutgoing(ctx context.Context) (intake.Judgement, error) {
	v := verdict.Decide(i.items, i.f.c.Settings)
	strict := outgoing(v)
	if strict.Action == verdict.Defer || strict.Action == verdict.Refuse {
		i.tellDecided(strict.Action)
		return intake.Judgement{}, i.refusal(ctx, []verdict.Verdict{strict})
	}
	spam := i.looksLikeSpam(ctx, v)
	held, err := i.conduct(ctx, spam)
	if err != nil {
		strict.Action, strict.Rule = verdict.Refuse, string(verdict.OutOfHabit)
		i.notTaken(ctx, err, strict)
		return intake.Judgement{}, err
	}
	d := decision{locals: slices.Repeat([]verdict.Verdict{strict}, len(i.whole.Locals)), remotes: slices.Repeat([]verdict.Verdict{strict}, len(i.whole.Remotes))}
	j := intake.Judgement{Locals: make([]intake.Placement, len(d.locals)), Remotes: make([]string, len(d.remotes))}
	for k := range d.remotes {
		j.Remotes[k] = held
		if strict.Action == verdict.Discard {
			j.Remotes[k] = quarantine.HeldReason + strict.Rule
		}
	}
	if strict.Action == verdict.Discard {
		for k := range j.Locals {
			j.Locals[k] = intake.Placement{State: trace.Discarded, Why: strict.Rule}
		}
	}
	j.AddedPlace, j.AddedHeld = placement(&strict), held
	i.tellDecided(strict.Action)
	i.edit(&j)
	if len(strict.Items) > 0 || held != "" || i.resent != "" {
		j.Within = i.within(&d, nil)
	}
	after := context.WithoutCancel(ctx) // ours ends with the judgement
	j.Accepted = func() { i.sent(after) }
	return j, nil
}

// outgoing is what becomes of what our own people send: what would be set apart is refused, as they
// can read why.
func outgoing(v verdict.Verdict) verdict.Verdict {
	strict := onlyDemands(v)
	switch {
	case strict.Action != verdict.Quarantine:
	case verdict.Name(strict.Rule) == verdict.FilterDown:
		strict.Action = verdict.Defer // the filter will be back
	default:
		strict.Action = verdict.Refuse
	}
	return strict
}

// onlyDemands is a verdict by what its evidence demands, whatever the score.
func onlyDemands(v verdict.Verdict) verdict.Verdict {
	v.Action, v.Rule = verdict.Deliver, "sent by one of our own people"
	for _, w := range v.Items {
		if w.Demand > v.Action {
			v.Action, v.Rule = w.Demand, string(w.Name)
		}
	}
	return v
}

// looksLikeSpam reports what the classifier would call spam.
func (i *inspection) looksLikeSpam(ctx context.Context, v verdict.Verdict) bool {
	f := i.f
	if v.Score >= f.c.Settings.Thresholds.Junk {
		return true
	}
	if f.c.Classifier == nil || f.c.NoScore || i.in.Envelope.Origin.Account == 0 {
		return false
	}
	j, err := f.c.Classifier.JudgeLazily(ctx, classifier.Common, func() classifier.Features { return classifier.FeaturesOf(i.content) })
	i.note("classifier", err)
	return err == nil && j.Answer() == classifier.Spam
}

// recipients are the addresses elsewhere that the message goes to.
func (i *inspection) recipients() []address.Address {
	var out []address.Address
	for k := range i.whole.Remotes {
		if p := i.whole.Remotes[k].ForwardPath; !p.IsPostmaster() && i.whole.Remotes[k].Forward == "" {
			out = append(out, p.Address())
		}
	}
	return out
}

// conduct judges whether the account sends unlike itself: the reason why its mail is held, or
// the refusal.
func (i *inspection) conduct(ctx context.Context, spam bool) (held string, err error) {
	f, account := i.f, i.in.Envelope.Origin.Account
	if f.c.Conduct == nil || account == 0 {
		return "", nil
	}
	// What is sent counts before it is judged: many transactions at once see each other.
	s := i.sending(ctx, account, spam)
	f.c.Conduct.Count(ctx, account, s)
	d, err := f.c.Conduct.Judge(ctx, account, conduct.Sent{})
	i.note("conduct", err)
	if err == nil && (d.Action == conduct.Slow || d.Action == conduct.Refuse) {
		f.c.Conduct.Count(ctx, account, conduct.Sent{Messages: -s.Messages, Recipients: -s.Recipients, Fresh: -s.Fresh, Spam: -s.Spam}) // it is not sent
	}
	if err != nil {
		return "", nil
	}
	i.items = append(i.items, d.Items()...)
	switch d.Action {
	case conduct.Slow:
		return "", smtp.Refuse(450, 7, 1, "Your account sends unlike itself ("+d.Trip.Detail+"): try again later, and change your password if this was not you")
	case conduct.Refuse:
		return "", smtp.Refuse(550, 7, 1, "Your account sends unlike itself ("+d.Trip.Detail+") and must not send until your postmaster has looked: change your password if this was not you")
	case conduct.Hold:
		return quarantine.HeldReason + "the account sends unlike itself: " + d.Trip.Detail, nil
	}
	return "", nil
}

// sending is what the account is about to send.
func (i *inspection) sending(ctx context.Context, account envelope.AccountID, spam bool) conduct.Sent {
	to := i.recipients()
	s := conduct.Sent{Messages: 1, Recipients: int64(len(to))}
	if spam {
		s.Spam = 1
	}
	if i.f.c.Reputation != nil && len(to) > 0 {
		fresh, err := i.f.c.Reputation.Strangers(ctx, account, to)
		i.note("correspondents", err)
		s.Fresh = int64(fresh)
	}
	return s
}

// sent notes what an account has sent.
func (i *inspection) sent(ctx context.Context) {
	f, account := i.f, i.in.Envelope.Origin.Account
	if account == 0 {
		return
	}
	if to := i.recipients(); f.c.Reputation != nil && len(to) > 0 {
		f.c.Reputation.Wrote(ctx, account, to...)
	}
}
