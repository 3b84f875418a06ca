package intake

import (
	"context"
	"errors"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/repeat"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/vacation"
)

// Transaction is one mail transaction: recipients gather, then comes Data or
// Abort. It is a smtpserver.Transaction; used by one goroutine.
type Transaction struct {
	in       *Intake
	rules    Rules
	env      envelope.Envelope
	plan     plan
	accepted int // RCPT commands accepted, repeated ones included
	optional int // TLS-Required fields that say No; another counts for many
	releases []func()
	marks    []string // of the forwards that this message takes
	away     []vacation.Away

	proven    bool   // an inspection has verified the reverse-path
	accepting func() // to be called once the message is durable
	order     []int  // index of each accepted RCPT command into the envelope; LMTP's alone
	replies   map[int]smtp.Reply
	officed   []officed
	author    address.Address // that an inspection has proven; zero otherwise
	letter    *repeat.Letter  // as Rules.Repeats knows it; nil for what it is not asked about
}

// plan is where a message goes.
type plan struct {
	seen    map[address.ForwardPath]int // index into the envelope; made for the second recipient
	locals  []post.Local
	byBox   map[envelope.AccountID]int // index into locals; made for the second mailbox
	remotes []post.Remote
	success []bool                       // by recipient: every target is a mailbox here
	by      map[string]account.Forwarder // of remotes, by their Forward
}

// Begin opens a transaction after MAIL was judged by the caller. It refuses a
// declared size over the limit (552 5.3.4, RFC 1870 §6.1).
func (in *Intake) Begin(env envelope.Envelope, rules Rules) (*Transaction, error) {
	if in.c.MaxOctets > 0 && env.Size > in.c.MaxOctets {
		return nil, in.refused(Refuse(552, 3, 4, "Message exceeds the size limit", nil))
	}
	env.Recipients = nil
	if env.RequireTLS { // RFC 8689 §5: RET=FULL counts for nothing
		env.Return = envelope.ReturnHeaders
	}
	return &Transaction{in: in, rules: rules, env: env}, nil
}

// refused counts a refusal for metrics.
func (in *Intake) refused(err error) error {
	if in.c.Hooks.Refused != nil {
		in.c.Hooks.Refused(CodeOf(err))
	}
	return err
}

// Rcpt routes a recipient and holds room for it. A forward-path named before is
// accepted and folded into the first.
func (t *Transaction) Rcpt(ctx context.Context, r envelope.Recipient) error {
	if i, ok := t.named(r.ForwardPath); ok {
		t.merge(i, r)
		t.accept(i)
		return nil
	}
	err := t.ownPath(&r)
	if err == nil {
		err = t.add(ctx, r)
	}
	if err != nil {
		t.logRefused(ctx, &r, err)
		return t.in.refused(err)
	}
	t.accept(len(t.env.Recipients) - 1)
	return nil
}

// accept counts an accepted RCPT command, that of recipient i.
func (t *Transaction) accept(i int) {
	t.accepted++
	if t.lmtp() {
		t.order = append(t.order, i)
	}
}

// named finds a forward-path that was accepted before. Most transactions have one
// recipient, which needs no map.
func (t *Transaction) named(p address.ForwardPath) (int, bool) {
	if t.plan.seen != nil {
		i, ok := t.plan.seen[p]
		return i, ok
	}
	return 0, len(t.env.Recipients) == 1 && t.env.Recipients[0].ForwardPath == p
}

// box finds the entry of an account's mailbox in the plan.
func (t *Transaction) box(id envelope.AccountID) (int, bool) {
	if t.plan.byBox != nil {
		i, ok := t.plan.byBox[id]
		return i, ok
	}
	return 0, len(t.plan.locals) == 1 && t.plan.locals[0].Account == id
}

// merge folds a repeated recipient into the first: whoever asked for more
// notifications gets them, unless one of both asked for none.
func (t *Transaction) merge(i int, r envelope.Recipient) {
	first := &t.env.Recipients[i]
	if first.Original.Address == "" {
		first.Original = r.Original
	}
	switch {
	case first.Notify == 0 || r.Notify == envelope.NotifyNever:
		first.Notify = r.Notify
	case first.Notify != envelope.NotifyNever:
		first.Notify |= r.Notify
	}
}

// add judges a new recipient and puts it into the plan.
func (t *Transaction) add(ctx context.Context, r envelope.Recipient) error {
	route, err := t.route(ctx, r)
	if taken, oerr := t.office(ctx, r, err); taken || oerr != nil {
		return oerr
	}
	if errors.Is(err, account.ErrNotLocal) {
		return t.addRemote(ctx, r)
	}
	if err != nil {
		return routeRefusal(err)
	}
	if len(t.plan.locals)+len(t.plan.remotes)+len(route.Locals)+len(route.Remotes) > MaxTargets {
		return Refuse(452, 5, 3, "Too many recipients behind the aliases of this message; send the rest separately", nil)
	}
	for _, s := range route.Skipped {
		t.in.c.Logger.Warn("alias target skipped", "conn_id", t.env.Origin.ConnID, "forward_path", r.ForwardPath.String(),
			"target", s.Target.String(), "cause", s.Err.Error())
	}
	releases, err := t.reserve(ctx, r, route)
	if err != nil {
		return err
	}
	if err := t.count(ctx, r); err != nil {
		for _, release := range releases {
			release()
		}
		return err
	}
	if !t.env.HoldUntil.IsZero() {
		for _, release := range releases {
			release()
		}
		return t.hold(r)
	}
	t.releases = append(t.releases, releases...)
	t.addRoute(r, route)
	return nil
}

func (t *Transaction) count(ctx context.Context, r envelope.Recipient) error {
	if t.rules.Count == nil {
		return nil
	}
	return t.rules.Count(ctx, r)
}

// routeRefusal turns a route's error into a reply; others are temporary.
func routeRefusal(err error) error {
	switch {
	case errors.Is(err, account.ErrUnknownUser):
		return Refuse(550, 1, 1, "No such mailbox here", err)
	case errors.Is(err, account.ErrDisabled):
		return Refuse(550, 2, 1, "Mailbox is disabled, not accepting messages", err)
	case errors.Is(err, account.ErrLoop):
		return Refuse(550, 4, 6, "The alias leads back to itself; its owner must repair it", err)
	}
	return err
}

// addRemote takes a recipient of another host, if the rules relay.
func (t *Transaction) addRemote(ctx context.Context, r envelope.Recipient) error {
	if t.rules.Relay == nil {
		return Refuse(550, 7, 1, "Relaying denied", nil)
	}
	if len(t.plan.locals)+len(t.plan.remotes) >= MaxTargets {
		return Refuse(452, 5, 3, "Too many recipients; send the rest separately", nil)
	}
	if err := t.rules.Relay(ctx, r); err != nil {
		return err
	}
	if err := t.count(ctx, r); err != nil {
		return err
	}
	i := t.append(r, false)
	t.plan.remotes = append(t.plan.remotes, post.Remote{Recipient: i, ForwardPath: r.ForwardPath, ReversePath: r.ReversePath})
	return nil
}

// append adds r to the envelope and returns its index.
func (t *Transaction) append(r envelope.Recipient, allLocal bool) int {
	i := len(t.env.Recipients)
	t.env.Recipients = append(t.env.Recipients, r)
	t.plan.success = append(t.plan.success, allLocal)
	if i == 1 {
		t.plan.seen = map[address.ForwardPath]int{t.env.Recipients[0].ForwardPath: 0}
	}
	if i > 0 {
		t.plan.seen[r.ForwardPath] = i
	}
	return i
}

// reserve holds room in the route's mailboxes that this transaction does not yet
// write to. A recipient is refused when none of its mailboxes has room: one full
// mailbox behind an alias must not keep the others from their mail; it takes the
// message all the same. The postmaster's and abuse mailboxes always have room
// (RFC 5321 §4.5.1, RFC 2142).
func (t *Transaction) reserve(ctx context.Context, r envelope.Recipient, route account.Route) ([]func(), error) {
	var releases []func()
	var full error
	room := len(route.Remotes) > 0 || roleAccount(r.ForwardPath, route)
	for _, l := range route.Locals {
		if _, already := t.box(l.Account); already {
			room = true
			continue
		}
		release, err := t.in.c.Rooms.Reserve(ctx, l.Account, l.Quota, t.env.Size)
		switch {
		case err == nil:
			releases = append(releases, release)
			room = true
		case errors.Is(err, mailbox.ErrOverQuota):
			full = err
		default:
			for _, release := range releases {
				release()
			}
			return nil, err
		}
	}
	if full != nil && !room {
		return nil, Refuse(452, 2, 2, "Mailbox is full; try again later", full)
	}
	return releases, nil
}

// roleAccount reports the addresses that always accept.
func roleAccount(p address.ForwardPath, route account.Route) bool {
	if route.Match == account.MatchPostmaster || p.IsPostmaster() {
		return true
	}
	local, _, _ := cutAt(p.Address().Key())
	return local == "postmaster" || local == "abuse"
}

// addRoute puts a local recipient's targets into the plan, one entry per mailbox.
func (t *Transaction) addRoute(r envelope.Recipient, route account.Route) {
	i := t.append(r, len(route.Remotes) == 0)
	for _, l := range route.Locals {
		if at, already := t.box(l.Account); already {
			t.plan.locals[at].Recipients = append(t.plan.locals[at].Recipients, i)
			continue
		}
		n := len(t.plan.locals)
		if n == 1 {
			t.plan.byBox = map[envelope.AccountID]int{t.plan.locals[0].Account: 0}
		}
		if n > 0 {
			t.plan.byBox[l.Account] = n
		}
		t.plan.locals = append(t.plan.locals, post.Local{
			Recipients: []int{i}, Account: l.Account, Login: l.Login,
			Prefix: message.AppendPrefix(make([]byte, 0, 96), t.pathFor(&r), deliveredTo(r.ForwardPath, route.Match, l)),
		})
	}
	for k, a := range route.Remotes {
		remote := post.Remote{Recipient: i, ForwardPath: address.NewForwardPath(a), ReversePath: r.ReversePath}
		if k < len(route.Forwarders) {
			t.forwardedBy(&remote, route.Forwarders[k])
		}
		t.plan.remotes = append(t.plan.remotes, remote)
	}
	t.noteAway(i, route)
}

// deliveredTo is the address of the mailbox: with its subaddress when that was
// used, the account's own behind an alias.
func deliveredTo(p address.ForwardPath, m account.Match, l account.Local) address.Address {
	if (m == account.MatchAddress || m == account.MatchSubaddress) && !p.IsPostmaster() || l.Address.IsZero() {
		return p.Address()
	}
	return l.Address
}

// Abort ends the transaction without Data.
func (t *Transaction) Abort() { t.release() }

// release gives back the room that was held; harmless twice.
func (t *Transaction) release() {
	for _, release := range t.releases {
		release()
	}
	t.releases = nil
}
