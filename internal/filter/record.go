package filter

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/milter"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/verdict"
)

// KindVerdict is the kind of the trace's events that explain a decision: the first line is the
// decision, each further one a piece of evidence with its points, name and detail.
const KindVerdict = "verdict"

// KindReversePath is the kind of the trace's event of a message whose reverse-path a milter changed.
const KindReversePath = "reverse-path"

// explain is a verdict in lines: what decided, and the evidence, the weightiest first.
// ParseVerdict reads it.
func explain(v verdict.Verdict) string {
	var b strings.Builder
	b.Grow(100 * (1 + len(v.Items)))
	fmt.Fprintf(&b, "%s, score %.1f: %s", v.Action, v.Score, v.Rule)
	var number [32]byte
	for _, w := range weightiest(v.Items) {
		b.WriteByte('\n')
		if !math.Signbit(w.Points) {
			b.WriteByte('+')
		}
		b.Write(strconv.AppendFloat(number[:0], w.Points, 'f', 1, 64))
		b.WriteByte(' ')
		b.WriteString(string(w.Name))
		if w.Detail != "" {
			b.WriteByte(' ')
			b.WriteString(oneLined(w.Detail))
		}
	}
	return b.String()
}

// weightiest is evidence sorted by how much it weighs.
func weightiest(items []verdict.Weighed) []verdict.Weighed {
	items = slices.Clone(items)
	slices.SortStableFunc(items, func(x, y verdict.Weighed) int { return cmp.Compare(abs(y.Points), abs(x.Points)) })
	return items
}

// oneLined makes text a part of a line.
func oneLined(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strings.ToValidUTF8(strings.Map(oneLine, s), "?")
		}
	}
	return s
}

// oneLine turns into a blank what ends a line, moves a terminal's cursor or turns the direction
// of writing: who sends a message has a hand in what is found of it.
func oneLine(r rune) rune {
	if !unicode.IsPrint(r) {
		return ' '
	}
	return r
}

func abs(x float64) float64 { return max(x, -x) }

// within makes what is written with the message: the explanation, once when it is the same for
// all, and what was set apart.
func (i *inspection) within(d *decision, apart []SetApart) func(*post.Delivery) func(tx db.Tx) error {
	f, id := i.f, i.in.ID
	texts := make([]string, 0, 1)
	for _, v := range d.all() {
		texts = append(texts, explain(v))
	}
	same := len(slices.Compact(slices.Clone(texts))) == 1
	return func(dl *post.Delivery) func(tx db.Tx) error {
		first, noted := fates(dl), func(db.Tx) error { return nil }
		more := len(dl.Locals) - len(d.locals) // that a filter has added
		first = slices.Delete(first, len(d.locals), len(d.locals)+more)
		if all := i.apart(apart, dl); f.c.SetApart != nil && len(all) > 0 {
			noted = f.c.SetApart(dl, all)
		}
		at := f.c.Now()
		return func(tx db.Tx) error {
			if f.c.Trace != nil && i.resent != "" {
				if err := f.c.Trace.Note(tx, id, trace.Event{At: at, N: -1, Kind: KindReversePath, Detail: i.resent}); err != nil {
					return err
				}
			}
			if f.c.Trace != nil {
				for k, text := range texts {
					e := trace.Event{At: at, N: first[k], Kind: KindVerdict, Detail: text}
					if same {
						e.N = -1
					}
					if err := f.c.Trace.Note(tx, id, e); err != nil {
						return err
					}
					if same {
						break
					}
				}
			}
			return noted(tx)
		}
	}
}

// apart is what is set apart of a delivery, with the mailboxes that a filter has added.
func (i *inspection) apart(apart []SetApart, dl *post.Delivery) []SetApart {
	var all []SetApart
	for _, s := range apart {
		if s.Local != added {
			all = append(all, s)
			continue
		}
		for s.Local = len(i.whole.Locals); s.Local < len(dl.Locals); s.Local++ {
			all = append(all, s)
		}
	}
	return all
}

// fates is the number of the first fate of each local, then of each remote recipient.
func fates(d *post.Delivery) []int {
	var first []int
	n := 0
	for i := range d.Locals {
		first = append(first, n)
		n += len(d.Locals[i].Recipients)
	}
	for range d.Remotes {
		first = append(first, n)
		n++
	}
	return first
}

// edit hands on what filters have changed in the message.
func (i *inspection) edit(j *intake.Judgement) {
	if len(i.edits) == 0 {
		return
	}
	if !bytes.Equal(i.changed.Header, i.in.Header) {
		j.Header = i.changed.Header
	}
	for _, c := range i.edits {
		switch c.Kind {
		case milter.ReplaceBody:
			j.Body = bytes.NewReader(nil)
			if i.changed.Body != nil {
				j.Body = io.NewSectionReader(i.changed.Body, 0, i.changed.Size)
			}
		case milter.ChangeFrom:
			j.Sender = i.newSender(c)
		}
	}
	kept := map[string]bool{}
	for k := range i.changed.Envelope.Recipients {
		kept[i.changed.Envelope.Recipients[k].ForwardPath.Key()] = true
	}
	here := map[string]bool{}
	for k := range i.in.Envelope.Recipients {
		here[i.in.Envelope.Recipients[k].ForwardPath.Key()] = true
	}
	for k := range i.changed.Envelope.Recipients {
		if p := i.changed.Envelope.Recipients[k].ForwardPath; !here[p.Key()] {
			j.Added = append(j.Added, p)
		}
	}
	i.drop(j, kept)
}

// newSender is what a milter makes of MAIL. Of its parameters RET and ENVID are carried out; the
// others say what is known of the message already. What can't be read is left out.
func (i *inspection) newSender(c milter.Change) *intake.Sender {
	s := &intake.Sender{ReversePath: c.ReversePath}
	if c.Args == "" {
		return s
	}
	m, err := smtp.ParseMail("FROM:<> "+strings.Trim(c.Args, " "), senderParams)
	if err != nil {
		i.f.c.Logger.Warn("a milter's parameters for the reverse-path are not carried out", "queue_id", i.in.ID.String(), "error", err)
		return s
	}
	s.Return, s.EnvelopeID = m.Return, m.EnvelopeID
	return s
}

// senderParams are the parameters that a milter may give with a reverse-path.
const senderParams = smtp.ExtSize | smtp.Ext8BitMIME | smtp.ExtSMTPUTF8 | smtp.ExtDSN | smtp.ExtAuth

// drop leaves out the recipients that milters have deleted.
func (i *inspection) drop(j *intake.Judgement, kept map[string]bool) {
	gone := func(n int) bool { return !kept[i.in.Envelope.Recipients[n].ForwardPath.Key()] }
	for k := range i.whole.Locals {
		if !slices.ContainsFunc(i.whole.Locals[k].Recipients, func(n int) bool { return !gone(n) }) {
			j.Locals[k] = intake.Placement{State: trace.Discarded, Why: "a milter took the recipient out"}
		}
	}
	for k := range i.whole.Remotes {
		if gone(i.whole.Remotes[k].Recipient) {
			j.Remotes[k] = quarantine.HeldReason + "a milter took the recipient out"
		}
	}
}

// remember notes what the verdict says about who sent the message.
func (i *inspection) remember(ctx context.Context, v verdict.Verdict) {
	f := i.f
	if f.c.Reputation == nil || f.c.NoScore {
		return
	}
	t := f.c.Settings.Thresholds
	switch spam := v.Score >= t.Junk; {
	case spam:
		f.c.Reputation.Note(ctx, i.subject(), true, 1)
	case v.Score < t.Tag:
		f.c.Reputation.Note(ctx, i.subject(), false, 1)
		if f.c.Probing != nil && i.peer.IsValid() {
			f.c.Probing.Forgive(i.peer, f.c.Now())
		}
	}
}

// arriving tells of a message that is about to be accepted, and returns what is to be called then.
func (i *inspection) arriving(ctx context.Context) func() {
	var proven address.Domain
	if i.proven {
		proven = i.report.From
	}
	return i.f.c.Hooks.Arriving(ctx, i.whole.Message, i.whole.Size, i.content, proven)
}

// accepted notes what follows from a message that is durable.
func (i *inspection) accepted(ctx context.Context, d *decision) {
	f := i.f
	if f.c.Reputation != nil && i.proven {
		for k := range d.locals {
			if d.locals[k].Action <= verdict.Tag {
				f.c.Reputation.Received(ctx, i.whole.Locals[k].Account, i.from)
			}
		}
	}
}
