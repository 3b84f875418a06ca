package filter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/greylist"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/spf"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/verdict"
	"poczta.example/poczta/internal/verify"
)

// decision is what was decided for all recipients.
type decision struct {
	locals  []verdict.Verdict // as Whole.Locals
	remotes []verdict.Verdict // as Whole.Remotes
}

// all are the decisions in one list.
func (d *decision) all() []verdict.Verdict { return slices.Concat(d.locals, d.remotes) }

// least is the mildest action that any recipient takes.
func (d *decision) least() verdict.Verdict {
	return slices.MinFunc(d.all(), func(a, b verdict.Verdict) int { return int(a.Action) - int(b.Action) })
}

// decide has the evidence weighed for each recipient, and says what becomes of the message.
func (i *inspection) decide(ctx context.Context) (intake.Judgement, error) {
	f := i.f
	if i.in.Outgoing {
		return i.decideOutgoing(ctx)
	}
	i.unverifiable()
	d := i.weigh(ctx)
	least := d.least()
	if reply := i.greylisted(ctx, &d); reply != nil {
		i.tellDecided(verdict.Defer)
		i.tellVerified(ctx, verdict.Defer)
		v := d.all()[0]
		v.Action, v.Rule = verdict.Defer, ruleGreylist
		i.notTaken(ctx, reply, v)
		return intake.Judgement{}, reply
	}
	i.remember(ctx, least)
	if least.Action == verdict.Defer || least.Action == verdict.Refuse {
		i.tellDecided(least.Action)
		i.tellVerified(ctx, least.Action)
		return intake.Judgement{}, i.refusal(ctx, d.all())
	}
	j := i.place(&d)
	for _, v := range d.all() {
		i.tellDecided(v.Action)
	}
	i.tellVerified(ctx, least.Action)
	var arrived func()
	if f.c.Hooks.Arriving != nil {
		arrived = i.arriving(ctx)
	}
	j.Accepted = func() {
		i.accepted(ctx, &d)
		if arrived != nil {
			arrived()
		}
	}
	return j, nil
}

// unverifiable adds what follows when the sender can't be verified for now.
func (i *inspection) unverifiable() {
	if i.report != nil && i.report.TempError && i.f.c.Unavailable > verdict.Deliver {
		i.items = append(i.items, verdict.Item{Name: verdict.AuthTempError, Detail: "DNS did not answer for what decides about the sender", Demand: i.f.c.Unavailable})
	}
}

// tellDecided tells of what a recipient takes, or of a message that is refused.
func (i *inspection) tellDecided(a verdict.Action) {
	if h := i.f.c.Hooks.Decided; h != nil {
		h(i.in.Outgoing, a)
	}
}

// tellVerified tells of a message that was verified, with the mildest action.
func (i *inspection) tellVerified(ctx context.Context, a verdict.Action) {
	if h := i.f.c.Hooks.Verified; h != nil && i.report != nil {
		h(ctx, i.in.Envelope, i.report, a)
	}
}

// weigh decides for each recipient.
func (i *inspection) weigh(ctx context.Context) decision {
	f := i.f
	var d decision
	features := sync.OnceValue(func() classifier.Features { return classifier.FeaturesOf(i.content) })
	for k := range i.whole.Locals {
		d.locals = append(d.locals, i.weighFor(ctx, &i.whole.Locals[k], features))
	}
	if len(i.whole.Remotes) == 0 {
		return d
	}
	common := append(slices.Clip(i.items), i.judged(ctx, classifier.Common, features)...) // for all elsewhere
	var lists []verdict.Item
	if f.c.Preferences != nil {
		var err error
		lists, err = f.c.Preferences.MatchCommon(ctx, i.sender())
		i.note("lists", err)
	}
	for k := range i.whole.Remotes {
		items := slices.Concat(common, i.refusals(i.whole.Remotes[k].Recipient), lists)
		d.remotes = append(d.remotes, verdict.Decide(items, f.c.Settings))
	}
	return d
}

// weighFor decides for one mailbox.
func (i *inspection) weighFor(ctx context.Context, l *post.Local, features func() classifier.Features) verdict.Verdict {
	f := i.f
	settings := f.c.Settings
	settings.Role = i.role(l)
	items := slices.Clip(i.items)
	if f.c.Preferences != nil {
		wishes, err := f.c.Preferences.Settings(ctx, l.Account)
		i.note("settings", err)
		if wishes.Wish == "" {
			wishes.Wish = f.c.Wish
		}
		settings.Thresholds = wishes.Thresholds(settings.Thresholds)
		more, err := f.c.Preferences.Match(ctx, l.Account, i.sender())
		i.note("lists", err)
		items = append(items, more...)
		if !wishes.Bulk.Or(true) && i.bulk() {
			items = append(items, verdict.Item{Name: verdict.PreferenceBulk})
		}
	}
	if f.c.Reputation != nil && !i.from.IsZero() && !f.c.NoScore {
		known, err := f.c.Reputation.Knows(ctx, l.Account, i.from)
		i.note("correspondents", err)
		if err == nil {
			items = append(items, known.Items(i.proven)...)
		}
	}
	items = append(items, i.judged(ctx, l.Account, features)...)
	items = append(items, i.refusals(l.Recipients...)...)
	return verdict.Decide(items, settings)
}

// judged asks the classifier.
func (i *inspection) judged(ctx context.Context, account envelope.AccountID, features func() classifier.Features) []verdict.Item {
	f := i.f
	if f.c.Classifier == nil || f.c.NoScore {
		return nil
	}
	j, err := f.c.Classifier.JudgeLazily(ctx, account, features)
	i.note("classifier", err)
	if err != nil {
		return nil
	}
	return j.Items()
}

// bulk reports a message of a mailing list or other bulk mail.
func (i *inspection) bulk() bool {
	return slices.ContainsFunc(i.items, func(it verdict.Item) bool { return it.Name == verdict.MailingList })
}

// role reports a mailbox that gets the message as postmaster or abuse (RFC 5321 §4.5.1, RFC 2142).
func (i *inspection) role(l *post.Local) bool {
	for _, n := range l.Recipients {
		p := i.in.Envelope.Recipients[n].ForwardPath
		if p.IsPostmaster() {
			return true
		}
		if local := p.Address().Local(); strings.EqualFold(local, "postmaster") || strings.EqualFold(local, "abuse") {
			return true
		}
	}
	return false
}

// sender is who the message claims to come from.
func (i *inspection) sender() preference.Sender {
	return preference.Sender{From: i.from, ReversePath: i.in.Envelope.ReversePath, Peer: i.peer,
		FromProven: i.proven, PathProven: i.report != nil && i.report.Verified}
}

// subject is what is proven of who sent the message: its author, else the domain that SPF allows
// the host to send for, else the network alone. What only a signature proves counts if the message
// comes straight from its signer: a signed message can be sent again by anybody, to anybody.
func (i *inspection) subject() reputation.Subject {
	s := reputation.Subject{Peer: i.peer}
	if i.report == nil {
		return s
	}
	switch {
	case i.proven && (i.report.Direct || i.report.Override == verify.TrustedForwarder):
		s.Domain, s.Address = i.from.Domain(), i.from
	case i.report.MailFrom.Status == spf.Pass:
		s.Domain = i.report.Identity()
	}
	return s
}

// grey reports whether a message comes from a suspicious stranger who is asked to come again:
// a host of the open network, whose mail nobody has written for, which proves no author in good
// standing, and which no recipient is sure about.
func (i *inspection) grey(d *decision) bool {
	f := i.f
	t := f.c.Settings.Thresholds
	if f.c.Greylist == nil || f.c.NoScore || !i.peer.IsValid() || t.Grey <= 0 || len(d.locals) == 0 {
		return false
	}
	for _, v := range d.all() {
		if v.Score < t.Grey || v.Action >= verdict.Quarantine || i.standing(v) {
			return false
		}
	}
	return true
}

// greylisted asks a suspicious stranger to come again.
func (i *inspection) greylisted(ctx context.Context, d *decision) error {
	f := i.f
	if !i.grey(d) {
		return nil
	}
	p := i.in.Envelope.Recipients[d.firstRecipient(i.whole)].ForwardPath
	try := greylist.Try{Peer: i.peer, ReversePath: i.in.Envelope.ReversePath}
	if !p.IsPostmaster() {
		try.Domain = p.Address().Domain()
	}
	g, err := f.c.Greylist.Check(ctx, try)
	i.note("greylist", err)
	if err == nil && g.Action == greylist.Wait {
		return smtp.Refuse(451, 7, 1, fmt.Sprintf("This message looks suspicious and we do not know your network yet: try again in %d seconds (id %s)", int(g.After.Seconds())+1, i.in.ID))
	}
	for k := range d.locals {
		d.locals[k].Items = append(d.locals[k].Items, verdict.Weigh(g.Items(), nil)...)
	}
	return nil
}

// firstRecipient is the index of a recipient of the first mailbox.
func (d *decision) firstRecipient(w *intake.Whole) int { return w.Locals[0].Recipients[0] }

// standing reports whether a verdict rests on somebody in good standing, or whom the recipient knows.
func (i *inspection) standing(v verdict.Verdict) bool {
	aligned, bad := false, false
	for _, w := range v.Items {
		switch w.Name {
		case verdict.Correspondent, verdict.Allowed, verdict.AllowedCommon, verdict.GoodDomain, verdict.GoodSender, verdict.DNSAllowed:
			return true
		case verdict.BadDomain, verdict.BadSender:
			bad = true
		case verdict.DMARCPass:
			aligned = i.report != nil && i.report.DMARC.AlignedDKIM
		}
	}
	return aligned && !bad
}

// refusal is the reply to a message that every recipient refuses or puts off.
func (i *inspection) refusal(ctx context.Context, all []verdict.Verdict) error {
	decided := all[0]
	for _, v := range all {
		if v.Action == verdict.Defer { // what can't be said yet is not said
			decided = v
		}
	}
	reply := i.reply(decided)
	i.notTaken(ctx, reply, decided)
	return reply
}

// reply is what the peer is told of a verdict that takes nothing.
func (i *inspection) reply(v verdict.Verdict) *smtp.Error {
	code, text := 550, "This message was refused: "+i.plain(v)
	if v.Action == verdict.Defer {
		code, text = 451, "This message can't be taken now: "+i.plain(v)
	}
	e := smtp.Refuse(code, 7, 1, text+" (id "+i.in.ID.String()+")")
	e.Err = errors.New(explain(v))
	return e
}

// alone reports whether a mailbox's recipients lead nowhere else, so that a refusal is the
// whole truth about them.
func (i *inspection) alone(k int) bool {
	for _, n := range i.whole.Locals[k].Recipients {
		for other := range i.whole.Locals {
			if other != k && slices.Contains(i.whole.Locals[other].Recipients, n) {
				return false
			}
		}
		if slices.ContainsFunc(i.whole.Remotes, func(r post.Remote) bool { return r.Recipient == n }) {
			return false
		}
	}
	return true
}

// plain says in words that a sender understands why.
func (i *inspection) plain(v verdict.Verdict) string {
	rule := verdict.Name(v.Rule)
	for _, w := range v.Items { // a danger explains more than the score that it made
		if _, named := verdict.Rows[rule]; !named && w.Demand >= v.Action && verdict.Rows[w.Name].Group == verdict.Danger {
			rule = w.Name
		}
	}
	if said := i.replies[rule]; said != "" {
		return strings.TrimSuffix(said, ".")
	}
	switch row, ok := verdict.Rows[rule]; {
	case rule == verdict.Rspamd, rule == verdict.Hook, rule == verdict.Milter: // their rows explain the points
		return "a filter of this server objects"
	case rule == verdict.FilterDown:
		return "a filter that must look at it does not answer; try again later"
	case ok:
		return strings.ToLower(row.Meaning[:1]) + strings.TrimSuffix(row.Meaning[1:], ".")
	}
	return "it looks like spam (" + v.Rule + ")"
}

// place says where each copy goes.
func (i *inspection) place(d *decision) intake.Judgement {
	j := intake.Judgement{Locals: make([]intake.Placement, len(d.locals)), Remotes: make([]string, len(d.remotes))}
	if i.report != nil {
		j.Verified, j.PeerName = i.report.Verified, i.report.IPRev.Name
		if i.proven {
			j.Author = i.from
		}
		j.Fields = i.report.Field().Append(nil)
	}
	var apart []SetApart
	for k := range d.locals {
		v := &d.locals[k]
		p := &j.Locals[k]
		if (v.Action == verdict.Defer || v.Action == verdict.Refuse) && i.whole.LMTP && i.alone(k) {
			p.State, p.Why, p.Reply = trace.Discarded, "refused to the LMTP client: "+v.Rule, i.reply(*v).Reply
			continue
		}
		*p = placement(v)
		if p.Mailbox != "" {
			apart = append(apart, SetApart{Local: k, Rule: v.Apart(), Score: v.Score, Subject: i.subject()})
		}
		p.Prefix = message.AppendField(nil, intake.VerdictField, fmt.Sprintf("%s; score=%.1f; rule=%q", v.Action, v.Score, v.Rule))
	}
	for k := range d.remotes {
		if v := &d.remotes[k]; v.Action >= verdict.Quarantine {
			j.Remotes[k] = quarantine.HeldReason + v.Rule
		}
	}
	least := d.least() // whoever a filter adds gets no more than those who were written to
	j.AddedPlace = placement(&least)
	if least.Action >= verdict.Quarantine {
		j.AddedHeld = quarantine.HeldReason + least.Rule
	}
	i.edit(&j)
	apart = slices.DeleteFunc(apart, func(s SetApart) bool { return j.Locals[s.Local].State == trace.Discarded })
	if j.AddedPlace.Mailbox != "" {
		apart = append(apart, SetApart{Local: added, Rule: least.Apart(), Score: least.Score, Subject: i.subject()})
	}
	j.Within = i.within(d, apart)
	return j
}

// added stands in SetApart.Local for all mailboxes that a filter has added.
const added = -1

// placement is where a copy goes. What its recipient would put off or refuse is set apart: others
// take the message, and one reply is for all.
func placement(v *verdict.Verdict) (p intake.Placement) {
	switch v.Action {
	case verdict.Junk:
		p.Mailbox = mailbox.Junk
	case verdict.Quarantine, verdict.Defer, verdict.Refuse:
		p.Mailbox = mailbox.Quarantine
	case verdict.Discard:
		p.State, p.Why = trace.Discarded, v.Rule
	}
	if p.Mailbox != "" {
		p.State, p.Why = trace.Quarantined, p.Mailbox+": "+v.Rule
	}
	return p
}
