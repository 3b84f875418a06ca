package post

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/trace"
)

// job is a Delivery with its Also-messages, planned: all that does not depend on
// the database is computed before the transaction.
type job struct {
	letters []letter
	records []body.Record
	copies  []copied // of all letters, in order of (account, mailbox)
	queued  int      // remote recipients
	octets  int64

	entries []mailbox.Entry // what the last run of the transaction made
}

// letter is one message of a job.
type letter struct {
	d     *Delivery
	loc   body.Location
	refs  int
	queue *queue.Message // nil without remote recipients
	trace trace.Record
}

// copied is one mailbox entry to be.
type copied struct{ mailbox.Copy }

// maxAlso bounds the messages of one Accept.
const maxAlso = 1000

func (j *job) ids() []message.ID {
	ids := make([]message.ID, len(j.letters))
	for i := range j.letters {
		ids[i] = j.letters[i].d.ID
	}
	return ids
}

// queue is the messages that were enqueued.
func (j *job) queue() []*queue.Message {
	var all []*queue.Message
	for i := range j.letters {
		if m := j.letters[i].queue; m != nil {
			all = append(all, m)
		}
	}
	return all
}

// plan checks d and makes the job.
func (p *Post) plan(d *Delivery) (*job, error) {
	j := &job{letters: make([]letter, 0, 1+len(d.Also))}
	now := p.cfg.Now()
	if err := p.add(j, d, now); err != nil {
		return nil, err
	}
	slices.SortFunc(j.copies, func(a, b copied) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), strings.Compare(a.Mailbox, b.Mailbox))
	})
	return j, nil
}

// add plans one message and those that must be stored with it.
func (p *Post) add(j *job, d *Delivery, now time.Time) error {
	if err := check(d); err != nil {
		return err
	}
	if len(j.letters) > maxAlso {
		return fmt.Errorf("more than %d messages in one transaction", maxAlso)
	}
	l := letter{d: d}
	l.trace = traceRecord(d, now)
	meta := body.Meta{Received: now, ReversePath: reversePath(d.Envelope.ReversePath)}
	uniqueID := d.ID.String()
	for i := range d.Locals {
		if d.Locals[i].State == trace.Discarded {
			continue
		}
		c, err := p.copyFor(d, &d.Locals[i], now)
		if err != nil {
			return err
		}
		l.refs++
		j.copies = append(j.copies, copied{c})
		meta.Owners = append(meta.Owners, body.Owner{Account: int64(c.Account), Login: c.Login, Mailbox: c.Mailbox, UniqueID: uniqueID, Prefix: c.Prefix})
	}
	if len(d.Remotes) > 0 {
		l.refs++
		l.queue = queueMessage(d, now)
		j.queued += len(d.Remotes)
		for i := range l.queue.Recipients {
			meta.Queued = append(meta.Queued, l.queue.Recipients[i].ForwardPath)
		}
	}
	j.letters = append(j.letters, l)
	if l.refs > 0 { // nothing is kept of what everybody has discarded
		j.records = append(j.records, body.Record{ID: d.ID, Head: d.Head, Staged: d.Staged, Meta: meta})
	}
	for i := range d.Also {
		if err := p.add(j, &d.Also[i], now); err != nil {
			return err
		}
	}
	return nil
}

// check refuses a delivery that would leave a recipient without a fate.
func check(d *Delivery) error {
	if d.ID.IsZero() || d.Staged == nil {
		return errors.New("delivery needs an id and a staged message")
	}
	n := len(d.Envelope.Recipients)
	has := make([]bool, n)
	mark := func(i int) error {
		if i < 0 || i >= n {
			return fmt.Errorf("delivery names recipient %d of %d", i, n)
		}
		has[i] = true
		return nil
	}
	type place struct {
		account int64
		mailbox string
	}
	var seen map[place]bool
	if len(d.Locals) > 1 {
		seen = make(map[place]bool, len(d.Locals))
	}
	for i := range d.Locals {
		l := &d.Locals[i]
		if l.Account == 0 && l.State != trace.Discarded || len(l.Recipients) == 0 {
			return errors.New("local delivery without an account or a recipient")
		}
		for _, r := range l.Recipients {
			if err := mark(r); err != nil {
				return err
			}
		}
		if seen == nil || l.State == trace.Discarded {
			continue
		}
		name, err := mailbox.CheckName(l.Mailbox)
		if err != nil {
			return err
		}
		at := place{int64(l.Account), name}
		if seen[at] {
			return fmt.Errorf("two local deliveries into mailbox %q of account %d: fold them into one", name, l.Account)
		}
		seen[at] = true
	}
	for i := range d.Remotes {
		if err := mark(d.Remotes[i].Recipient); err != nil {
			return err
		}
	}
	if i := slices.Index(has, false); i >= 0 || n == 0 {
		return fmt.Errorf("delivery leaves recipient %d of %d without a fate", i, n)
	}
	return nil
}

// copyFor makes the entry to be of a local recipient.
func (p *Post) copyFor(d *Delivery, l *Local, now time.Time) (mailbox.Copy, error) {
	name, err := mailbox.CheckName(l.Mailbox)
	if err != nil {
		return mailbox.Copy{}, err
	}
	c := mailbox.Copy{Account: l.Account, Login: l.Login, Mailbox: name, Body: d.ID, Prefix: l.Prefix, Received: now,
		Octets: int64(len(l.Prefix)) + int64(len(d.Head)) + d.Staged.Octets()}
	if d.UTF8 || message.NeedsUTF8(l.Prefix) {
		if c.Surrogate, err = p.cfg.Mailboxes.SurrogateOctets(l.Prefix, d.Head, d.Staged, d.Staged.Octets()); err != nil {
			return mailbox.Copy{}, err
		}
	}
	return c, nil
}

// The printed forms of paths, without brackets.
func reversePath(p address.ReversePath) string {
	if p.IsNull() {
		return ""
	}
	return p.Address().String()
}

func forwardPath(p address.ForwardPath) string {
	if p.IsPostmaster() {
		return "postmaster"
	}
	return p.Address().String()
}

// queueMessage makes the queue's message of the remote recipients. Their fates
// follow those of the local ones.
func queueMessage(d *Delivery, now time.Time) *queue.Message {
	e := &d.Envelope
	m := &queue.Message{ID: d.ID, Queued: now, ReversePath: reversePath(e.ReversePath), Body: e.Body, SMTPUTF8: e.SMTPUTF8, Return: e.Return,
		EnvelopeID: e.EnvelopeID, Octets: int64(len(d.Head)) + d.Staged.Octets(), Account: e.Origin.Account, Login: e.Origin.Login,
		UTF8: d.UTF8, Ours: d.Ours, RequireTLS: e.RequireTLS, TLSOptional: d.TLSOptional, Priority: e.Priority, HoldUntil: e.HoldUntil, DeliverBy: e.DeliverBy}
	first := localFates(d)
	for i := range d.Remotes {
		r := &d.Remotes[i]
		to := &e.Recipients[r.Recipient]
		q := queue.Recipient{N: i, Fate: first + i, ForwardPath: forwardPath(r.ForwardPath),
			Destination: r.ForwardPath.Address().Domain().String(), ReversePath: reversePath(r.ReversePath), Notify: to.Notify, Original: to.Original, State: queue.Waiting}
		if r.Held != "" {
			q.State, q.LastStatus = queue.Held, r.Held
		}
		if r.Forward != "" {
			q.Forward, q.Notify, q.Written = r.Forward, r.Notify, forwardPath(to.ForwardPath)
		}
		m.Recipients = append(m.Recipients, q)
	}
	return m
}

// localFates is how many fates the local recipients have.
func localFates(d *Delivery) int {
	n := 0
	for i := range d.Locals {
		n += len(d.Locals[i].Recipients)
	}
	return n
}

// traceRecord makes the trace's record: a fate for each recipient and place it leads to.
func traceRecord(d *Delivery, now time.Time) trace.Record {
	e := &d.Envelope
	r := trace.Record{ID: d.ID, Accepted: now, ReversePath: reversePath(e.ReversePath), MessageID: d.MessageID, Peer: e.Origin.Peer.Addr(), ConnID: e.Origin.ConnID,
		Account: e.Origin.Account, Login: e.Origin.Login, Octets: int64(len(d.Head)) + d.Staged.Octets(), SHA256: d.Staged.SHA256()}
	for i := range d.Locals {
		l := &d.Locals[i]
		name := cmp.Or(l.Mailbox, mailbox.Inbox)
		for _, n := range l.Recipients {
			f := trace.Fate{N: len(r.Fates), Recipient: forwardPath(e.Recipients[n].ForwardPath), Account: l.Account, State: trace.Delivered, Changed: now, Detail: name}
			if l.Account != 0 && !strings.EqualFold(l.Login, f.Recipient) {
				f.Target = l.Login
			}
			if l.State != 0 {
				f.State, f.Detail = l.State, cmp.Or(l.Why, name)
			}
			r.Fates = append(r.Fates, f)
		}
	}
	for i := range d.Remotes {
		f := trace.Fate{N: len(r.Fates), Recipient: forwardPath(e.Recipients[d.Remotes[i].Recipient].ForwardPath), State: trace.Queued, Changed: now}
		if target := forwardPath(d.Remotes[i].ForwardPath); target != f.Recipient {
			f.Target = target
		}
		if why := d.Remotes[i].Held; why != "" {
			f.State, f.Detail = trace.Held, why
		}
		r.Fates = append(r.Fates, f)
	}
	return r
}

// noteVERP tells the trace of a message whose recipients have reverse-paths of their own,
// which what comes back to them is matched by.
func (p *Post) noteVERP(tx db.Tx, l *letter) error {
	own := func(r envelope.Recipient) bool { return !r.ReversePath.IsNull() }
	if !slices.ContainsFunc(l.d.Envelope.Recipients, own) {
		return nil
	}
	return p.cfg.Trace.Note(tx, l.d.ID, trace.Event{At: l.trace.Accepted, N: -1, Kind: trace.VERP, Detail: "each recipient has a reverse-path of their own"})
}

// write is the transaction. It may run more than once.
func (p *Post) write(tx db.Tx, j *job) error {
	j.entries = j.entries[:0]
	for i := range j.letters {
		l := &j.letters[i]
		if l.refs == 0 {
			continue
		}
		if err := body.Insert(tx, l.d.ID, l.loc, l.refs); err != nil {
			return fmt.Errorf("insert body: %w", err)
		}
	}
	for i := range j.copies {
		e, err := p.cfg.Mailboxes.Deliver(tx, &j.copies[i].Copy)
		if err != nil {
			return err
		}
		j.entries = append(j.entries, e)
	}
	for i := range j.letters {
		l := &j.letters[i]
		if l.queue != nil {
			if err := p.cfg.Queue.Enqueue(tx, l.queue); err != nil {
				return err
			}
		}
		if err := p.cfg.Trace.Record(tx, &l.trace); err != nil {
			return err
		}
		if err := p.noteVERP(tx, l); err != nil {
			return err
		}
	}
	for i := range j.letters {
		if within := j.letters[i].d.Within; within != nil {
			if err := within(tx); err != nil {
				return err
			}
		}
	}
	return nil
}
