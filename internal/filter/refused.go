package filter

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/verdict"
)

// Bounds of what the trace keeps of mail that was not taken. What is beyond stands in the log alone:
// a flood of spam must not become a flood of rows.
const (
	refusedRecipients = 20               // of one message
	refusedBurst      = 20               // messages of one network at first
	refusedEvery      = time.Minute      // and then one each
	refusedBurstAll   = 1000             // of all networks at first
	refusedEveryAll   = 3 * time.Second  // and then one each
	maxMessageID      = 998              // octets
	ruleGreylist      = "greylist"       // what the trace names of who is to come again
	refusedTimeout    = 10 * time.Second // for writing it
)

// refusals bounds what is traced of mail that is not taken.
type refusals struct {
	network *limit.Buckets[netip.Prefix]
	all     *limit.Buckets[struct{}]
}

func newRefusals() (r refusals, err error) {
	var all error
	r.network, err = limit.NewBuckets[netip.Prefix](limit.Rate{Burst: refusedBurst, Every: refusedEvery}, 0)
	r.all, all = limit.NewBuckets[struct{}](limit.Rate{Burst: refusedBurstAll, Every: refusedEveryAll}, 0)
	return r, errors.Join(err, all)
}

// allow reports whether one more from a peer is traced.
func (r refusals) allow(peer netip.Addr, now time.Time) bool {
	return r.network.Allow(limit.Networks{}.Of(peer), now) && r.all.Allow(struct{}{}, now)
}

// notTaken writes a message that is refused, or put off, with its evidence into the trace, under
// the id that the reply names. It is written before the reply goes out; that it can't be is
// logged, and changes nothing of the reply.
func (i *inspection) notTaken(ctx context.Context, reply error, v verdict.Verdict) {
	f, env := i.f, i.in.Envelope
	now := f.c.Now()
	if i.quiet || f.c.Trace == nil || !f.refusals.allow(env.Origin.Peer.Addr(), now) {
		return
	}
	said := v.Action.String()
	if known, ok := errors.AsType[*smtp.Error](reply); ok {
		said = known.Reply.String()
	}
	r := trace.Record{ID: i.in.ID, Accepted: now, Peer: env.Origin.Peer.Addr(), ConnID: env.Origin.ConnID, Account: env.Origin.Account, Login: env.Origin.Login, Octets: i.whole.Size}
	if !env.ReversePath.IsNull() {
		r.ReversePath = env.ReversePath.Address().String()
	}
	r.MessageID, _ = message.Get(i.in.Header, "Message-ID")
	r.MessageID = r.MessageID[:min(len(r.MessageID), maxMessageID)]
	for n, to := range env.Recipients[:min(len(env.Recipients), refusedRecipients)] {
		r.Fates = append(r.Fates, trace.Fate{N: n, Recipient: recipientOf(to), State: trace.Refused, Changed: now, Detail: said})
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusedTimeout)
	defer cancel()
	i.note("trace", f.c.Trace.Alone(ctx, &r, trace.Event{At: now, N: -1, Kind: KindVerdict, Detail: explain(v)}))
}

// recipientOf is a recipient's forward-path as the trace has it.
func recipientOf(r envelope.Recipient) string {
	if r.ForwardPath.IsPostmaster() {
		return "postmaster"
	}
	return r.ForwardPath.Address().String()
}
