package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"poczta.example/poczta/internal/authres"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpserver"
)

// Data takes the mail data and returns once the message is durable for every
// accepted recipient (RFC 5321 §4.2.5). It ends the transaction.
func (t *Transaction) Data(ctx context.Context, msg io.Reader) (smtpserver.Outcome, error) {
	defer t.release()
	began := t.in.c.Now()
	d, header, err := t.read(ctx, msg)
	if err != nil {
		return smtpserver.Outcome{}, t.refuse(ctx, err)
	}
	defer d.Staged.Discard()
	before, err := t.repeated(ctx, d)
	if err != nil {
		return smtpserver.Outcome{}, t.refuse(ctx, err)
	}
	if !before.IsZero() {
		t.logRepeated(ctx, before)
		return t.outcome(before), nil
	}
	if err := t.rewrite(ctx, d); err != nil {
		return smtpserver.Outcome{}, t.refuse(ctx, err)
	}
	if err := t.attachReports(ctx, d, header); err != nil {
		return smtpserver.Outcome{}, t.refuse(ctx, err)
	}
	if err := t.handOver(ctx, d, header); err != nil {
		return smtpserver.Outcome{}, t.refuse(ctx, err)
	}
	t.passWishes(d)
	t.answer(ctx, d, header)
	for i := range d.Also {
		defer d.Also[i].Staged.Discard()
	}
	returned := t.returned(d, header)
	if err := t.late(); err != nil {
		return smtpserver.Outcome{}, t.refuse(ctx, err)
	}
	if err := t.in.c.Accepter.Accept(ctx, d); err != nil {
		return smtpserver.Outcome{}, t.refuse(ctx, fmt.Errorf("accept message %s: %w", d.ID, err))
	}
	switch {
	case returned != nil:
		t.in.c.Returns.Returned(ctx, d, returned)
	case t.mayBeReturned():
		t.in.c.Returns.CameBack(ctx, d, header)
	}
	t.logAccepted(ctx, d)
	if t.accepting != nil {
		t.accepting()
	}
	if t.in.c.Hooks.Accepted != nil {
		t.in.c.Hooks.Accepted(d.Staged.Octets(), len(d.Locals), len(d.Remotes), t.in.c.Now().Sub(began))
	}
	return t.outcome(d.ID), nil
}

// refuse turns the error of a message into its refusal, counted and logged.
func (t *Transaction) refuse(ctx context.Context, err error) error {
	err = refusal(err)
	t.logRefused(ctx, nil, err)
	return t.in.refused(err)
}

// outcome is the reply to DATA, and with LMTP one for each accepted RCPT.
func (t *Transaction) outcome(id message.ID) smtpserver.Outcome {
	reply := smtp.Reply{Code: 250, Text: "Accepted as " + id.String()}
	o := smtpserver.Outcome{Reply: reply}
	if t.lmtp() {
		o.Recipients = make([]smtp.Reply, t.accepted)
		for i := range o.Recipients {
			o.Recipients[i] = reply
			if refused, ok := t.replies[t.order[i]]; ok {
				o.Recipients[i] = refused
			}
		}
	}
	return o
}

// lmtp reports whether each recipient gets a reply of its own.
func (t *Transaction) lmtp() bool { return strings.Contains(t.env.Origin.Protocol, "LMTP") }

// read takes the message from its first octet to its last into staging. On an
// error nothing stays staged. The header section returned is a copy of the edited
// one, for reports and replies; nil when none is asked for.
func (t *Transaction) read(ctx context.Context, msg io.Reader) (*post.Delivery, []byte, error) {
	buf, err := t.in.newBuffer()
	if err != nil {
		return nil, nil, err
	}
	defer buf.free()
	h, err := buf.readHeader(msg, message.MaxHeaderOctets)
	if err != nil {
		return nil, nil, err
	}
	draft := Draft{Envelope: &t.env, Time: t.in.c.Now()}
	if draft.ID, err = message.NewID(draft.Time, t.in.c.Random); err != nil {
		return nil, nil, err
	}
	hashing := t.hash(buf.b[:h.section:h.section])
	looking, err := t.inspect(ctx, &draft, buf.b[:h.section:h.section])
	if err != nil {
		return nil, nil, err
	}
	defer looking.abort()
	if err := t.edit(ctx, &draft, buf.b[:h.section:h.section]); err != nil {
		return nil, nil, err
	}
	signing, err := t.sign(ctx, &draft)
	if err != nil {
		return nil, nil, err
	}
	d := t.delivery(&draft)
	if d.Staged, err = t.in.c.Accepter.Stage(ctx, t.env.Size); err != nil {
		return nil, nil, fmt.Errorf("stage message: %w", err)
	}
	err = fill(d.Staged, draft.Header, buf.b[h.section:h.have])
	rest := buf.b[h.section:h.have]
	gap := emptyLine(rest)
	w := hashing.tee(looking.tee(signing.tee(d.Staged, rest), rest), rest)
	if err == nil && !h.eof {
		err = buf.copyBody(w, msg, h.section)
	}
	if err == nil {
		err = signing.finish(d, draft.Time)
	}
	t.letter = hashing.letter(t)
	if err == nil {
		err = t.judge(ctx, looking, d, &draft, gap)
	}
	if err != nil {
		d.Staged.Discard()
		return nil, nil, err
	}
	if !t.asksReport() && len(t.away) == 0 && !t.mayBeReturned() && len(t.officed) == 0 {
		return d, nil, nil
	}
	return d, append([]byte(nil), draft.Header...), nil // the buffer goes back to its pool
}

// emptyLine is how many octets part the staged header section from the body.
func emptyLine(rest []byte) int64 {
	switch {
	case len(rest) == 0:
		return 0
	case rest[0] != '\r' && rest[0] != '\n':
		return int64(len("\r\n")) // fill makes one
	}
	return int64(len(rest) - len(dkim.AfterEmptyLine(rest)))
}

// asksReport says whether a success report may have to be written.
func (t *Transaction) asksReport() bool {
	if t.env.ReversePath.IsNull() {
		return false
	}
	for i := range t.env.Recipients {
		if t.env.Recipients[i].Notify&envelope.NotifySuccess != 0 {
			return true
		}
	}
	return false
}

// fill writes the edited header section and what was read behind it. A body that
// no empty line parts from a header section gets one.
func fill(w io.Writer, header, rest []byte) error {
	if len(header) > 0 {
		if _, err := w.Write(header); err != nil {
			return fmt.Errorf("stage header section: %w", err)
		}
	}
	if len(rest) > 0 && rest[0] != '\r' && rest[0] != '\n' {
		if _, err := w.Write([]byte("\r\n")); err != nil {
			return fmt.Errorf("stage message: %w", err)
		}
	}
	if len(rest) > 0 {
		if _, err := w.Write(rest); err != nil {
			return fmt.Errorf("stage message: %w", err)
		}
	}
	return nil
}

// copyBody streams the rest, behind a header section of so many octets; errors of the reader
// are returned as they are.
func (b *buffer) copyBody(w io.Writer, msg io.Reader, section int) error {
	buf, err := b.room(section)
	if err != nil {
		return err
	}
	for {
		n, err := msg.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return fmt.Errorf("stage message: %w", werr)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// edit removes what must go, refuses loops, and lets the rules judge.
func (t *Transaction) edit(ctx context.Context, draft *Draft, header []byte) error {
	var way passage
	draft.Header = message.Strip(header, func(f message.Field) bool {
		switch {
		case f.Is("Received"), f.Is("Delivered-To"), f.Is(markField):
			way.note(t, f)
			return false
		case f.Is("TLS-Required"):
			t.noteTLSRequired(f.Value())
			return false
		}
		return t.unwanted(f)
	})
	if err := way.judge(ctx, t); err != nil {
		return err
	}
	if t.rules.Judge == nil {
		return nil
	}
	return t.rules.Judge(ctx, draft)
}

// unwanted reports a field that must not stay in a message: what only final delivery
// writes, what claims to be ours, and Bcc of a submission.
func (t *Transaction) unwanted(f message.Field) bool {
	switch {
	case message.IsReturnPath(f), message.IsMboxLine(f):
		return true
	case f.Is("Authentication-Results"):
		return authres.Claims(f.Value(), t.in.c.Hostname.String())
	case f.Is(VerdictField):
		return true
	}
	return t.rules.StripBcc && message.IsBcc(f)
}

// VerdictField is the field by which a copy tells its reader what the filters found; nobody
// else may write it.
const VerdictField = "X-Poczta-Verdict"

// maxMessageIDOctets is how much of a Message-ID the trace keeps: a line's length.
const maxMessageIDOctets = 998

// delivery makes the delivery of a judged draft.
func (t *Transaction) delivery(draft *Draft) *post.Delivery {
	d := &post.Delivery{
		ID: draft.ID, Envelope: t.env, Head: t.traceFields(draft),
		Locals: t.plan.locals, Remotes: t.plan.remotes, Ours: t.rules.Ours, TLSOptional: t.tlsOptional(),
	}
	if d.MessageID, _ = message.Get(draft.Header, "Message-ID"); len(d.MessageID) > maxMessageIDOctets {
		d.MessageID = d.MessageID[:maxMessageIDOctets]
	}
	d.UTF8 = message.NeedsUTF8(draft.Header) || message.NeedsUTF8(d.Head)
	for _, l := range d.Locals {
		d.UTF8 = d.UTF8 || message.NeedsUTF8(l.Prefix)
	}
	return d
}

// traceFields makes our Received and what stands with it.
func (t *Transaction) traceFields(draft *Draft) []byte {
	origin := &t.env.Origin
	trace := message.Received{
		Helo: origin.Helo, PeerName: origin.PeerName, Peer: origin.Peer.Addr(), HideClient: t.rules.HideClient,
		By: t.in.c.Hostname.String(), With: origin.Protocol, TLS: origin.TLS, ID: draft.ID, Time: draft.Time,
		Priority: t.env.Priority,
	}
	if len(t.env.Recipients) == 1 {
		trace.For = t.env.Recipients[0].ForwardPath
	}
	return t.appendMarks(trace.Append(make([]byte, 0, 256)))
}

// attachReports adds the reports that NOTIFY=SUCCESS asks for now: delivery into
// mailboxes here, and expansion of an alias that leads to several places, some of
// them elsewhere (RFC 3461 §5.2.2, §5.2.7). An alias to one other address passes
// the request on with the message instead.
func (t *Transaction) attachReports(ctx context.Context, d *post.Delivery, header []byte) error {
	if !t.asksReport() {
		return nil
	}
	var told []dsn.Recipient
	for i := range d.Envelope.Recipients {
		r := d.Envelope.Recipients[i]
		if r.Notify&envelope.NotifySuccess == 0 || r.Notify == envelope.NotifyNever {
			continue
		}
		action := dsn.Delivered
		if !t.plan.success[i] {
			if !t.expands(d, i) {
				continue
			}
			action = dsn.Expanded
			d.Envelope.Recipients[i].Notify = withoutSuccess(r.Notify)
		}
		told = append(told, dsn.Recipient{
			Final: r.ForwardPath, Original: r.Original, Action: action,
			Status: dsn.Status{Class: 2, Subject: 0, Detail: 0}, Attempted: t.in.c.Now(),
		})
	}
	if len(told) == 0 {
		return nil
	}
	also, err := t.in.c.Reporter.Prepare(ctx, report.Original{ID: d.ID, Envelope: d.Envelope, Header: header}, told)
	if err != nil {
		return fmt.Errorf("prepare success report: %w", err)
	}
	if also != nil {
		d.Also = append(d.Also, *also)
	}
	return nil
}

// targets counts where recipient i leads to.
func (t *Transaction) targets(i int) int {
	n := 0
	for _, l := range t.plan.locals {
		for _, r := range l.Recipients {
			if r == i {
				n++
			}
		}
	}
	for _, r := range t.plan.remotes {
		if r.Recipient == i {
			n++
		}
	}
	return n
}

// withoutSuccess is what the members of an expanded alias are asked for.
func withoutSuccess(n envelope.Notify) envelope.Notify {
	if n &^= envelope.NotifySuccess; n == 0 {
		return envelope.NotifyNever
	}
	return n
}

// CodeOf returns the reply code of a refusal, 451 for other errors.
func CodeOf(err error) int {
	var e *smtp.Error
	if errors.As(err, &e) {
		return e.Reply.Code
	}
	return 451
}

// cutAt parts an address key at its last "@".
func cutAt(key string) (local, domain string, ok bool) {
	i := strings.LastIndexByte(key, '@')
	if i < 0 {
		return key, "", false
	}
	return key[:i], key[i+1:], true
}

var _ smtpserver.Transaction = (*Transaction)(nil)
