package filter

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/milter"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/verdict"
	"poczta.example/poczta/internal/verify"
)

// inspection is one message being looked at.
type inspection struct {
	f    *Filter
	in   intake.Incoming
	peer netip.Addr // of a stranger on the open network; invalid for others

	verifying *verify.Verification // nil when the sender is not verified
	waiting   chan []verdict.Item  // what is known of the host, found beside the body; nil when nothing is
	stop      context.CancelFunc   // ends what is found beside the body; nil when nothing is

	whole   *intake.Whole
	report  *verify.Report // nil when the sender was not verified
	content *content.Content
	from    address.Address // author, when there is one
	proven  bool            // that the author's domain is
	items   []verdict.Item  // evidence for all recipients
	changed milter.Message  // the message as milters have left it
	edits   []milter.Change
	resent  string                  // who changed the reverse-path, in words; "" is nobody
	refused map[int]verdict.Item    // recipients that milters refuse, by their index in the envelope
	replies map[verdict.Name]string // what the peer is told
	quiet   bool                    // nothing is noted
}

// Inspect implements intake.Inspector. Mail that comes in, of which nobody wants to know anything,
// is not looked at: the inspection is nil.
func (f *Filter) Inspect(ctx context.Context, m intake.Incoming) (intake.Inspection, error) {
	if !m.Outgoing && !f.c.looksIn() {
		return nil, nil
	}
	return f.inspect(ctx, m), nil
}

// inspect begins to look at a message.
func (f *Filter) inspect(ctx context.Context, m intake.Incoming) *inspection {
	i := &inspection{f: f, in: m}
	origin := m.Envelope.Origin
	if a := origin.Peer.Addr().Unmap(); a.IsValid() && !a.IsLoopback() && !m.Outgoing && !f.trusted(a) {
		i.peer = a
	}
	if !i.peer.IsValid() { // of our own, of this host, or of one that has looked before us
		return i
	}
	if f.c.Verifier != nil {
		i.verifying = f.c.Verifier.Begin(ctx, verify.Message{Origin: origin, ReversePath: m.Envelope.ReversePath, Recipients: m.Envelope.Recipients, Header: m.Header})
	}
	i.begin(ctx)
	return i
}

// trusted reports a host that verifies senders before us.
func (f *Filter) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(f.c.Trusted, func(p netip.Prefix) bool { return p.Contains(a) })
}

// begin starts what can be found out about the host before the body has come.
func (i *inspection) begin(ctx context.Context) {
	f := i.f
	if f.c.NoScore || f.c.Lists == nil && f.c.Greeting == nil {
		return
	}
	found := make(chan []verdict.Item, 1)
	i.waiting = found
	helo, peer, path := i.in.Envelope.Origin.Helo, i.peer, i.in.Envelope.ReversePath
	ctx, i.stop = context.WithCancel(ctx)
	go func() {
		var items []verdict.Item
		if f.c.Greeting != nil {
			items = append(items, f.c.Greeting.Helo(ctx, helo, peer)...)
			if !path.IsNull() {
				items = append(items, f.c.Greeting.Reachable(ctx, path.Address().Domain())...)
			}
		}
		if f.c.Lists != nil {
			items = append(items, f.c.Lists.Host(ctx, peer)...)
			if !path.IsNull() {
				items = append(items, f.c.Lists.Domains(ctx, []string{path.Address().Domain().String()})...)
			}
		}
		found <- items
	}()
}

// Write implements io.Writer; it never fails.
func (i *inspection) Write(p []byte) (int, error) {
	if i.verifying != nil {
		_, _ = i.verifying.Write(p) // hashes take everything
	}
	return len(p), nil
}

// Abort implements intake.Inspection.
func (i *inspection) Abort() {
	if i.stop != nil {
		i.stop()
	}
	if i.verifying != nil {
		i.verifying.Abort()
	}
}

// Judge implements intake.Inspection.
func (i *inspection) Judge(ctx context.Context, w *intake.Whole) (intake.Judgement, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, i.f.c.Timeout)
	defer cancel()
	i.whole = w
	i.changed = milter.Message{Origin: i.in.Envelope.Origin, Envelope: *i.in.Envelope, Header: i.in.Header, Body: w.Body, Size: w.BodySize, QueueID: i.in.ID.String()}
	if err := i.gather(ctx); err != nil {
		return intake.Judgement{}, err
	}
	if i.f.c.Hooks.Found != nil {
		for k := range i.items {
			i.f.c.Hooks.Found(i.items[k].Name)
		}
	}
	j, err := i.decide(ctx)
	if i.f.c.Hooks.Judged != nil {
		i.f.c.Hooks.Judged(time.Since(began))
	}
	return j, err
}

// gather finds the evidence that holds for all recipients.
func (i *inspection) gather(ctx context.Context) error {
	f := i.f
	if i.verifying != nil {
		i.report = i.verifying.Results(ctx)
		i.items = append(i.items, i.report.Items...)
	}
	facts := content.Facts{Now: f.c.Now()}
	if !i.in.Envelope.ReversePath.IsNull() {
		facts.From = i.in.Envelope.ReversePath.Address()
	}
	if !i.in.Outgoing && f.c.Own != nil {
		facts.OurDomain = func(d string) bool {
			a, err := address.ParseDomain(d)
			return err == nil && f.c.Own(ctx, a)
		}
	}
	var err error
	if i.content, err = content.Read(i.whole.Message, i.whole.Size, facts, f.c.Limits); err != nil {
		return err
	}
	if len(i.content.From) == 1 {
		i.from = i.content.From[0].Address
		i.proven = i.report != nil && i.authorProven()
	}
	i.add(i.content.Items, !f.c.NoScore && !i.in.Outgoing, verdict.Danger)
	if f.c.Attachments != nil && len(i.content.Parts) > 0 {
		i.items = append(i.items, f.c.Attachments.Inspect(ctx, i.whole.Message, i.content.Parts)...)
	}
	if i.waiting != nil {
		select {
		case items := <-i.waiting:
			i.items = append(i.items, items...)
		case <-ctx.Done():
		}
	}
	if !f.c.NoScore {
		i.strangers(ctx)
	}
	return i.outside(ctx)
}

// add appends evidence: all of it, or what is of one group.
func (i *inspection) add(items []verdict.Item, all bool, group verdict.Group) {
	for _, it := range items {
		if all || verdict.Rows[it.Name].Group == group {
			i.items = append(i.items, it)
		}
	}
}

// authorProven reports whether the author's domain is proven, by DMARC or a trusted forwarder. A
// From field that programs may read in several ways proves nobody.
func (i *inspection) authorProven() bool {
	if i.report.FromErr != nil || i.report.From != i.from.Domain() {
		return false
	}
	return slices.Contains(i.report.Proven, i.report.From) || i.report.Override == verify.TrustedForwarder
}

// strangers adds what is known of the host and of the links, for mail that comes in.
func (i *inspection) strangers(ctx context.Context) {
	f := i.f
	if i.in.Outgoing {
		return
	}
	if f.c.Lists != nil {
		hosts := make([]string, 0, len(i.content.Links))
		for _, l := range i.content.Links {
			if l.Host != "" {
				hosts = append(hosts, l.Host)
			}
		}
		i.items = append(i.items, f.c.Lists.URIs(ctx, hosts)...)
	}
	if f.c.Probing != nil && i.peer.IsValid() {
		i.items = append(i.items, f.c.Probing.Items(i.peer, f.c.Now())...)
	}
	if f.c.Reputation != nil {
		items, err := f.c.Reputation.Seen(ctx, i.subject())
		i.note("reputation", err)
		i.items = append(i.items, items...)
	}
	if i.trapped(ctx) {
		i.items = append(i.items, verdict.Item{Name: verdict.SpamTrap, Detail: "one of its recipients is a spam trap"})
	}
}

// trapped reports whether a recipient is a spam trap, and remembers who wrote there.
func (i *inspection) trapped(ctx context.Context) bool {
	f := i.f
	for k := range i.in.Envelope.Recipients {
		p := i.in.Envelope.Recipients[k].ForwardPath
		if p.IsPostmaster() {
			continue
		}
		trap, err := f.trap(ctx, p.Address(), f.c.Nobody)
		i.note("spam traps", err)
		if trap {
			if f.c.Reputation != nil && i.peer.IsValid() && !i.quiet {
				f.c.Reputation.NoteTrap(ctx, i.peer)
			}
			return true
		}
	}
	return false
}

// trap reports whether an address is a spam trap; nobody is asked about those that a pattern makes one.
func (f *Filter) trap(ctx context.Context, a address.Address, nobody func(context.Context, address.Address) bool) (bool, error) {
	if f.c.Preferences == nil {
		return false, nil
	}
	kind, err := f.c.Preferences.IsTrap(ctx, a)
	return kind == preference.ExactTrap || kind == preference.PatternTrap && nobody != nil && nobody(ctx, a), err
}

// Unknown notes that a host has asked for an address that does not exist: it may be a spam trap.
func (f *Filter) Unknown(ctx context.Context, peer netip.Addr, a address.Address) {
	peer = peer.Unmap()
	if f.c.NoScore || f.c.Reputation == nil || !peer.IsValid() || peer.IsLoopback() || f.trusted(peer) {
		return
	}
	trap, err := f.trap(ctx, a, func(context.Context, address.Address) bool { return true })
	if err != nil {
		f.c.Logger.Warn("spam traps could not be looked up", "error", err)
	}
	if trap {
		f.c.Reputation.NoteTrap(ctx, peer)
	}
}

// note logs a room that could not answer: the message is judged without it.
func (i *inspection) note(room string, err error) {
	if err != nil {
		i.f.c.Logger.Warn("evidence is missing", "queue_id", i.in.ID.String(), "room", room, "error", err)
	}
}

// section reads the message from its beginning.
func (i *inspection) section() *io.SectionReader {
	return io.NewSectionReader(i.whole.Message, 0, i.whole.Size)
}
