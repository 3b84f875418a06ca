package intake

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/trace"
)

// Incoming is a message whose header section has come in, as it came.
type Incoming struct {
	ID       message.ID
	Envelope *envelope.Envelope
	Header   []byte // before any edit, without the empty line; it stays as it is until the inspection has ended
	Outgoing bool   // Rules.Ours
}

// Inspection looks at a message while it comes in, and judges it when it is here. It is a
// writer for the body, the octets behind the empty line. Used by one goroutine; Judge or
// Abort is called once.
type Inspection interface {
	io.Writer
	// Judge says what shall become of the message. An error is temporary (451), or an
	// *smtp.Error that refuses the message.
	Judge(ctx context.Context, w *Whole) (Judgement, error)
	// Abort ends an inspection without a judgement. It is harmless after Judge.
	Abort()
}

// Whole is a message that has come in.
type Whole struct {
	Message  io.ReaderAt // as it came: header section, empty line, body
	Size     int64       // octets
	Header   []byte      // as Incoming.Header
	Body     io.ReaderAt // behind the empty line
	BodySize int64
	Locals   []post.Local  // who gets it here
	Remotes  []post.Remote // and elsewhere
	// LMTP gives each recipient a reply of its own.
	LMTP bool
}

// Judgement is what shall become of a message.
type Judgement struct {
	// Verified says that the reverse-path is proven to be the sender's own.
	Verified bool
	Author   address.Address // in From, if it is proven; zero otherwise
	PeerName string          // the peer's verified name, for Received; "" leaves it
	// Fields stand below our Received, for all recipients: Authentication-Results.
	Fields []byte
	// Locals and Remotes are in the order of Whole's; nil delivers to all.
	Locals  []Placement
	Remotes []string // why a recipient is held; "" sends
	// Header, where not nil, replaces the message's header section, Body its body: both as a
	// filter has changed them. They come without and behind the empty line.
	Header []byte
	Body   io.Reader
	// Within makes what runs in the transaction that accepts the message, and may run more than
	// once; nil is nothing.
	Within func(d *post.Delivery) func(tx db.Tx) error
	// Sender, where not nil, takes the reverse-path's place: a filter of the operator said so.
	Sender *Sender
	// Added are further recipients, whoever they are: a filter of the operator named them. Their
	// copies here go to AddedPlace, and those elsewhere are held for AddedHeld; "" sends.
	Added      []address.ForwardPath
	AddedPlace Placement
	AddedHeld  string
	// Accepted is called once the message is durable.
	Accepted func()
}

// Sender is what a filter may change of MAIL.
type Sender struct {
	ReversePath address.ReversePath
	Return      envelope.Return // undeclared leaves what was asked for
	EnvelopeID  string          // "" leaves it
}

// Placement is where a copy goes.
type Placement struct {
	Mailbox string      // "" is INBOX
	Prefix  []byte      // fields of this copy alone, above its others
	State   trace.State // zero is trace.Delivered; trace.Quarantined, trace.Discarded
	Why     string      // the rule, for State
	// Reply, where not zero, is what an LMTP client is told of the recipients (RFC 2033 §4.2);
	// they are refused then, and State is trace.Discarded.
	Reply smtp.Reply
}

// inspecting is what inspects a message, if anything does.
type inspecting struct {
	Inspection
	original []byte // the header section as it came
}

// inspect begins to look at a message whose header section has come in.
func (t *Transaction) inspect(ctx context.Context, draft *Draft, header []byte) (inspecting, error) {
	if t.rules.Inspect == nil {
		return inspecting{}, nil
	}
	i, err := t.rules.Inspect(ctx, Incoming{ID: draft.ID, Envelope: &t.env, Header: header, Outgoing: t.rules.Ours})
	if err != nil {
		return inspecting{}, fmt.Errorf("inspect message %s: %w", draft.ID, err)
	}
	return inspecting{Inspection: i, original: header}, nil
}

// tee gives the beginning of the body to the inspection, and returns where the
// remaining octets go.
func (i inspecting) tee(w io.Writer, rest []byte) io.Writer {
	if i.Inspection == nil {
		return w
	}
	_, _ = i.Write(dkim.AfterEmptyLine(rest)) // an error is kept and comes with Judge
	return io.MultiWriter(w, i)
}

// abort ends an inspection that came to nothing.
func (i inspecting) abort() {
	if i.Inspection != nil {
		i.Abort()
	}
}

// judge has the inspection decide, and carries it out on the delivery.
func (t *Transaction) judge(ctx context.Context, i inspecting, d *post.Delivery, draft *Draft, gap int64) error {
	if i.Inspection == nil {
		return nil
	}
	body := int64(len(draft.Header)) + gap
	w := &Whole{Header: i.original, Body: io.NewSectionReader(d.Staged, body, d.Staged.Octets()-body), BodySize: d.Staged.Octets() - body,
		Locals: t.plan.locals, Remotes: t.plan.remotes, LMTP: t.lmtp()}
	if bytes.Equal(draft.Header, i.original) {
		w.Message, w.Size = d.Staged, d.Staged.Octets()
	} else {
		rest := int64(len(draft.Header))
		w.Message = &joined{head: i.original, body: io.NewSectionReader(d.Staged, rest, d.Staged.Octets()-rest)}
		w.Size = int64(len(i.original)) + d.Staged.Octets() - rest
	}
	j, err := i.Judge(ctx, w)
	if err != nil {
		return err
	}
	return t.carryOut(ctx, &j, d, draft)
}

// carryOut applies a judgement.
func (t *Transaction) carryOut(ctx context.Context, j *Judgement, d *post.Delivery, draft *Draft) error {
	t.proven, t.author = j.Verified, j.Author
	if j.PeerName != "" {
		t.env.Origin.PeerName = j.PeerName
		d.Envelope.Origin.PeerName = j.PeerName
		if !t.rules.Ours { // signatures stand there, and names of our own people's hosts do not
			d.Head = t.traceFields(draft)
		}
	}
	d.Head = append(d.Head, j.Fields...)
	for i := range j.Locals {
		p, l := &j.Locals[i], &d.Locals[i]
		if l.Account == 0 { // an office's
			continue
		}
		l.Mailbox, l.State, l.Why = p.Mailbox, p.State, p.Why
		if p.Reply.Code != 0 {
			t.refuseEach(l.Recipients, p.Reply)
		}
		if len(p.Prefix) > 0 {
			l.Prefix = append(append(make([]byte, 0, len(l.Prefix)+len(p.Prefix)), l.Prefix...), p.Prefix...)
		}
	}
	for i, why := range j.Remotes {
		d.Remotes[i].Held = why
	}
	t.accepting = j.Accepted
	if j.Sender != nil {
		t.changeSender(j.Sender, d)
	}
	if err := t.addAll(ctx, j, d); err != nil {
		return err
	}
	if j.Header != nil || j.Body != nil {
		if err := t.restage(ctx, j, d, draft); err != nil {
			return err
		}
	}
	if j.Within != nil {
		d.Within = j.Within(d)
	}
	return nil
}

// changeSender puts another reverse-path in place of the first, in the envelope and in every
// copy. What was proven of the first does not hold for it, XVERP ends, and people who are away do
// not answer a null one.
func (t *Transaction) changeSender(s *Sender, d *post.Delivery) {
	t.env.ReversePath, t.env.VERP, t.proven = s.ReversePath, "", false
	if s.Return != envelope.ReturnUndeclared && !t.env.RequireTLS { // RFC 8689 §5
		t.env.Return = s.Return
	}
	if s.EnvelopeID != "" {
		t.env.EnvelopeID = s.EnvelopeID
	}
	for i := range t.env.Recipients {
		t.env.Recipients[i].ReversePath = address.ReversePath{}
	}
	for i := range d.Locals {
		if l := &d.Locals[i]; len(l.Prefix) > 0 {
			rest := message.Strip(l.Prefix, message.IsReturnPath)
			l.Prefix = append(message.AppendPrefix(make([]byte, 0, len(rest)+64), s.ReversePath, address.Address{}), rest...)
			d.UTF8 = d.UTF8 || message.NeedsUTF8(l.Prefix)
		}
	}
	for i := range d.Remotes {
		d.Remotes[i].ReversePath = address.ReversePath{}
	}
	if s.ReversePath.IsNull() {
		t.away = nil
	}
	recipients := t.env.Recipients
	d.Envelope = t.env
	d.Envelope.Recipients = recipients
}

// refuseEach remembers the replies of recipients that are refused one by one.
func (t *Transaction) refuseEach(recipients []int, reply smtp.Reply) {
	if t.replies == nil {
		t.replies = map[int]smtp.Reply{}
	}
	for _, n := range recipients {
		t.replies[n] = reply
	}
}

// addAll adds recipients that a filter has named.
func (t *Transaction) addAll(ctx context.Context, j *Judgement, d *post.Delivery) error {
	t.plan.locals, t.plan.remotes = d.Locals, d.Remotes // with their placements
	had, sent := make([]int, len(d.Locals)), len(d.Remotes)
	for k := range d.Locals {
		had[k] = len(d.Locals[k].Recipients)
	}
	for _, p := range j.Added {
		if _, ok := t.named(p); ok {
			continue
		}
		r := envelope.Recipient{ForwardPath: p, Notify: envelope.NotifyNever}
		err := t.add(ctx, r)
		if CodeOf(err) == 550 && errors.Is(errOf(t.route(ctx, r)), account.ErrNotLocal) {
			i := t.append(r, false)
			t.plan.remotes, err = append(t.plan.remotes, post.Remote{Recipient: i, ForwardPath: p}), nil
		}
		if err != nil {
			return fmt.Errorf("add recipient %s that a filter named: %w", p, err)
		}
	}
	for k := range t.plan.locals {
		l := &t.plan.locals[k]
		if k >= len(had) || l.State == trace.Discarded && len(l.Recipients) > had[k] { // a mailbox that lost one recipient and got another
			l.Mailbox, l.State, l.Why = j.AddedPlace.Mailbox, j.AddedPlace.State, j.AddedPlace.Why
		}
	}
	for k := sent; k < len(t.plan.remotes); k++ {
		t.plan.remotes[k].Held = j.AddedHeld
	}
	d.Locals, d.Remotes, d.Envelope.Recipients = t.plan.locals, t.plan.remotes, t.env.Recipients
	return nil
}

// errOf is the error of a route.
func errOf(_ account.Route, err error) error { return err }

// restage stores the message anew, as a filter has changed it.
func (t *Transaction) restage(ctx context.Context, j *Judgement, d *post.Delivery, draft *Draft) error {
	header, body := draft.Header, j.Body
	if j.Header != nil {
		header = message.Strip(j.Header, t.unwanted)
		if t.rules.Judge != nil { // it completes the header section, and its demands hold for filters too
			draft.Header = header
			if err := t.rules.Judge(ctx, draft); err != nil {
				return err
			}
			header = draft.Header
		}
	}
	if body == nil {
		rest := int64(len(draft.Header))
		body = io.NewSectionReader(d.Staged, rest, d.Staged.Octets()-rest)
	} else {
		body = io.MultiReader(bytes.NewReader([]byte("\r\n")), body)
	}
	staged, err := t.in.c.Accepter.Stage(ctx, d.Staged.Octets())
	if err != nil {
		return fmt.Errorf("stage message: %w", err)
	}
	if _, err = staged.Write(header); err == nil {
		_, err = io.Copy(staged, body)
	}
	if err != nil {
		staged.Discard()
		return fmt.Errorf("stage message: %w", err)
	}
	d.Staged.Discard()
	d.Staged, draft.Header = staged, header
	d.UTF8 = d.UTF8 || message.NeedsUTF8(header)
	return t.signAnew(ctx, d, draft, j.Fields)
}

// signAnew signs a message that a filter has changed, in place of its first signatures.
func (t *Transaction) signAnew(ctx context.Context, d *post.Delivery, draft *Draft, fields []byte) error {
	s, err := t.sign(ctx, draft)
	if err != nil || s.Signing == nil {
		return err
	}
	rest := int64(len(draft.Header))
	body := bufio.NewReader(io.NewSectionReader(d.Staged, rest, d.Staged.Octets()-rest))
	begin, _ := body.Peek(len("\r\n"))
	if _, err := body.Discard(len(begin) - len(dkim.AfterEmptyLine(begin))); err != nil {
		return fmt.Errorf("sign message %s: %w", d.ID, err)
	}
	if _, err := io.Copy(s, body); err != nil {
		return fmt.Errorf("sign message %s: %w", d.ID, err)
	}
	d.Head = append(t.traceFields(draft), fields...)
	return s.finish(d, draft.Time)
}

// joined is a header section in front of what is staged.
type joined struct {
	head []byte
	body *io.SectionReader
}

// ReadAt implements io.ReaderAt.
func (j *joined) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(j.head)) {
		n = copy(p, j.head[off:])
	}
	if n == len(p) {
		return n, nil
	}
	m, err := j.body.ReadAt(p[n:], off+int64(n)-int64(len(j.head)))
	return n + m, err
}

// Inspector begins inspections; *filter.Filter is one. A nil Inspection looks at nothing. Safe for
// concurrent use.
type Inspector interface {
	Inspect(ctx context.Context, m Incoming) (Inspection, error)
}
