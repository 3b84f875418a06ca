package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/smtp"
)

const (
	settleBatch = 200      // results of one call
	writers     = 4        // of reports, at one time
	clerks      = 2        // of plain results
	maxReturned = 10 << 20 // octets of a message that RET=FULL brings back whole
	reportTries = 4
	reportLater = 10 * time.Minute
)

// outcome is what has to be written of a task.
type outcome struct {
	line   *line // nil: nothing is in flight
	msg    *queue.Message
	landed int
	plain  []queue.Result
	// Results that go with a report, in one transaction each.
	failed, relayed, delayed sheet
	// forwarded are copies of a forward that were taken.
	forwarded []*queue.Recipient
}

// sheet is a report to be, with the results that it tells of.
type sheet struct {
	results []queue.Result
	about   []dsn.Recipient
	// asked are forwarded copies, over which Config.Forwards decides; by result.
	asked map[int]*queue.Recipient
}

func (s *sheet) add(res queue.Result, about dsn.Recipient) {
	s.results = append(s.results, res)
	s.about = append(s.about, about)
}

// file makes the results of an attempt and hands them on to be written. until is
// when the host is tried again, for those that wait with it.
func (s *shift) file(a *attempt, until time.Time) {
	o := &outcome{line: a.t.line, msg: a.t.msg, landed: len(a.t.rcpts)}
	now := s.cfg.Now()
	first := true
	for i := range a.t.rcpts {
		r, e := &a.t.rcpts[i], &a.ends[i]
		res := queue.Result{ID: a.t.msg.ID, N: r.N, At: now, Status: e.v.Reply.String(), Host: e.where.label, TLS: e.where.tls}
		if e.v.Lost {
			res.Status += " (it may have been delivered)"
		}
		if e.v.Fate != Delivered && first {
			res.Dialogue, first = e.where.packed(), false
		}
		switch {
		case e.v.Fate == Delivered:
			s.relayed(o, r, e, res)
		case e.v.Fate == PutOff && now.Before(a.t.msg.Expires):
			s.deferred(o, r, e, res, until)
		default:
			s.refused(o, r, e, res)
		}
		s.counted(a, res)
	}
	s.hand(o)
}

// counted tells the metrics.
func (s *shift) counted(a *attempt, res queue.Result) {
	if s.cfg.Hooks.Attempt == nil {
		return
	}
	name := "none"
	if a.t.way != nil {
		name = a.t.way.site.name
	}
	s.cfg.Hooks.Attempt(name, res.Outcome.String(), res.At.Sub(a.t.msg.Queued))
}

// hand gives an outcome to those who write it.
func (s *shift) hand(o *outcome) {
	if len(o.failed.results)+len(o.relayed.results)+len(o.delayed.results)+len(o.forwarded) > 0 {
		s.letters <- o
		return
	}
	s.outcomes <- o
}

// relayed is a recipient whom a host has taken. A report of it is due where the host sends
// none (RFC 3461 §5.2.1).
func (s *shift) relayed(o *outcome, r *queue.Recipient, e *ending, res queue.Result) {
	res.Outcome = queue.Relayed
	if r.Forward != "" && s.cfg.Forwards != nil {
		o.forwarded = append(o.forwarded, r)
	}
	if r.Notify&envelope.NotifySuccess == 0 || !e.noDSN {
		o.plain = append(o.plain, res)
		return
	}
	about := s.about(r, e.v.Reply, e.where.mta, dsn.Relayed, res.At)
	if e.final {
		about.Action = dsn.Delivered
	}
	about.Diagnostic = ""
	o.relayed.add(res, about)
}

// deferred is a recipient to be tried again: by its own time, or with the host.
func (s *shift) deferred(o *outcome, r *queue.Recipient, e *ending, res queue.Result, until time.Time) {
	res.Outcome = queue.Deferred
	res.Next = res.At.Add(s.cfg.Schedule.RetryAfter(r.Attempts+1, s.cfg.Random()))
	if e.v.Clock == HostClock && !until.IsZero() {
		res.Next = until
	}
	o.plain = append(o.plain, res)
	if by := o.msg.DeliverBy; by.Mode == envelope.ByNotify && !r.Warned && res.At.After(by.Time) { // RFC 2852 §4
		s.warn(o, r, res)
	}
}

// warn adds a report of delay, where the sender is to get one.
func (s *shift) warn(o *outcome, r *queue.Recipient, res queue.Result) {
	late := queue.Result{ID: res.ID, N: res.N, Outcome: queue.Warned, At: res.At, Status: res.Status}
	if r.Forward != "" || r.Notify != 0 && r.Notify&envelope.NotifyDelay == 0 {
		o.plain = append(o.plain, late)
		return
	}
	about := s.about(r, parseStatus(res.Status), "", dsn.Delayed, res.At)
	about.RetryUntil = o.msg.Expires
	o.delayed.add(late, about)
}

// refused is a recipient for whom it is over.
func (s *shift) refused(o *outcome, r *queue.Recipient, e *ending, res queue.Result) {
	res.Outcome = queue.Returned
	reply := e.v.Reply
	mta := e.where.mta
	if e.v.Ours {
		mta = ""
	}
	about := s.about(r, reply, mta, dsn.Failed, res.At)
	if e.v.Fate == PutOff { // RFC 3463 §3.5: X.4.7, delivery time expired
		about.Status = dsn.Status{Class: 5, Subject: 4, Detail: 7}
		res.Status = "554 5.4.7 given up after the time for delivery; last: " + res.Status
	}
	if r.Notify != 0 && r.Notify&envelope.NotifyFailure == 0 {
		o.plain = append(o.plain, res)
		if r.Forward == "" || s.cfg.Forwards == nil {
			return
		}
		// The owner of the forward is told nevertheless.
		o.plain = o.plain[:len(o.plain)-1]
	}
	if r.Forward != "" && s.cfg.Forwards != nil {
		if o.failed.asked == nil {
			o.failed.asked = make(map[int]*queue.Recipient)
		}
		o.failed.asked[len(o.failed.results)] = r
	}
	o.failed.add(res, about)
}

// about is what a report says of a recipient. What a host said of the target of a forward
// stays here: it may name the target, which the sender did not write.
func (s *shift) about(r *queue.Recipient, reply smtp.Reply, mta string, action dsn.Action, at time.Time) dsn.Recipient {
	written := r.ForwardPath
	if r.Written != "" {
		written = r.Written
	}
	d := dsn.Recipient{Original: r.Original, Action: action, Attempted: at, RemoteMTA: mta, Diagnostic: reply.String(),
		Status: dsn.Status{Class: reply.Code / 100, Subject: reply.Subject, Detail: reply.Detail}}
	if strings.EqualFold(written, "postmaster") {
		d.Final = address.Postmaster()
	} else if a, err := address.Parse(written); err == nil {
		d.Final = address.NewForwardPath(a)
	}
	if r.Forward != "" {
		d.RemoteMTA, d.Diagnostic = "", ""
	}
	return d
}

// parseStatus reads a status as Reply.String writes it.
func parseStatus(s string) smtp.Reply {
	r := smtp.Reply{Text: s}
	var code, class, subject, detail int
	if n, _ := fmt.Sscanf(s, "%3d %1d.%3d.%3d", &code, &class, &subject, &detail); n == 4 && code/100 == class {
		r = smtp.Reply{Code: code, Subject: subject, Detail: detail}
		if parts := strings.SplitN(s, " ", 3); len(parts) == 3 {
			r.Text = parts[2]
		}
		return r
	}
	r.Code = 451
	return r
}

// expired returns recipients whose time is over, as a failed probe has shown.
func (s *shift) expired(l *line, j *queue.Job, status string) {
	s.overAll(l, j, Verdict{Fate: PutOff, Ours: true, Reply: parseStatus(status)})
}

// returned returns recipients as an operator said.
func (s *shift) returned(t *task) {
	a := newAttempt(s, t)
	a.left = a.left[:0]
	for i := range t.rcpts {
		text := t.rcpts[i].Reason
		if text == "" {
			text = "The postmaster has returned the message"
		}
		a.end(i, ending{v: Verdict{Fate: Refused, Ours: true, Reply: smtp.Reply{Code: 554, Text: text}}})
	}
	s.file(a, time.Time{})
}

// overAll ends all recipients of a job whose time is over.
func (s *shift) overAll(l *line, j *queue.Job, v Verdict) {
	a := newAttempt(s, &task{line: l, msg: &j.Message, rcpts: j.Recipients})
	a.endAll(v, spot{})
	s.file(a, time.Time{})
}

// clerks starts those who write.
func (s *shift) clerks(ctx context.Context, group *sync.WaitGroup) {
	for range clerks {
		group.Go(func() { s.clerk(ctx) })
	}
	for range writers {
		group.Go(func() {
			for o := range s.letters {
				s.write(ctx, o)
			}
		})
	}
	group.Go(func() { s.releaser(ctx) })
}

// clerk writes plain results, as many at a time as there are.
func (s *shift) clerk(ctx context.Context) {
	for o := range s.outcomes {
		batch := []*outcome{o}
		results := o.plain
		for more := true; more && len(results) < settleBatch; {
			select {
			case o, ok := <-s.outcomes:
				if more = ok; ok {
					batch, results = append(batch, o), append(results, o.plain...)
				}
			default:
				more = false
			}
		}
		s.settle(ctx, results)
		for _, o := range batch {
			if o.line != nil {
				s.landed(o.line, o.landed)
			}
		}
	}
}

// settle writes results, again and again until they are written or ctx ends: mail that
// went out must not go out again.
func (s *shift) settle(ctx context.Context, results []queue.Result) {
	if len(results) == 0 {
		return
	}
	for pause := settleFirst; ; pause = min(2*pause, settleMost) {
		err := s.node.Settle(ctx, results)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			s.cfg.Logger.Error("relay could not write results; mail may go out twice", "recipients", len(results), "error", err)
			return
		}
		s.cfg.Logger.Error("relay can't write results, it tries again", "recipients", len(results), "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// write writes an outcome with its reports.
func (s *shift) write(ctx context.Context, o *outcome) {
	s.settle(ctx, o.plain)
	for _, r := range o.forwarded {
		s.cfg.Forwards.Succeeded(ctx, o.msg, r)
	}
	if len(o.failed.asked) > 0 {
		s.forwarded(ctx, o)
	}
	for _, sh := range []*sheet{&o.failed, &o.relayed, &o.delayed} {
		if len(sh.results) > 0 {
			s.post(ctx, o, sh)
		}
	}
	if o.line != nil {
		s.landed(o.line, o.landed)
	}
}

// forwarded asks whom failures of forwards are told to, and settles those that the sender
// is not told of.
func (s *shift) forwarded(ctx context.Context, o *outcome) {
	var rest sheet
	var silent []queue.Result
	for i, res := range o.failed.results {
		r := o.failed.asked[i]
		decision := TellSender
		if r != nil {
			var err error
			if decision, err = s.cfg.Forwards.Failed(ctx, o.msg, r, res.Status); err != nil {
				s.cfg.Logger.Error("forward could not be judged, nobody is told", "queue_id", o.msg.ID.String(), "forward", r.Forward, "error", err)
				decision = TellNobody
			}
			if r.Notify != 0 && r.Notify&envelope.NotifyFailure == 0 {
				decision = TellNobody
			}
		}
		if decision == TellNobody {
			silent = append(silent, res)
			continue
		}
		rest.add(res, o.failed.about[i])
	}
	o.failed = rest
	s.settle(ctx, silent)
}

// post makes a report durable together with the fates that it tells of. Without a
// report, because nobody can be told, the fates are settled alone.
func (s *shift) post(ctx context.Context, o *outcome, sh *sheet) {
	pause := settleFirst
	for range reportTries {
		done, err := s.tryPost(ctx, o, sh)
		if done {
			return
		}
		if _, ok := errors.AsType[*queue.NotAppliedError](err); ok { // settled already, or taken over
			s.settle(ctx, sh.results)
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.cfg.Logger.Error("relay can't make a report, it tries again", "queue_id", o.msg.ID.String(), "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(4*pause, settleMost)
	}
	s.postpone(ctx, sh)
}

// postpone puts recipients off whose report can't be made, so that they are not lost
// in silence.
func (s *shift) postpone(ctx context.Context, sh *sheet) {
	later := make([]queue.Result, 0, len(sh.results))
	for _, r := range sh.results {
		switch r.Outcome {
		case queue.Returned:
			r.Outcome, r.Next, r.Status = queue.Deferred, s.cfg.Now().Add(reportLater), "451 4.3.0 the report can't be made at present: "+r.Status
		case queue.Warned:
			continue
		}
		later = append(later, r)
	}
	s.settle(ctx, later)
}

// tryPost is one attempt of post.
func (s *shift) tryPost(ctx context.Context, o *outcome, sh *sheet) (done bool, err error) {
	if o.msg.ReversePath == "" {
		s.settle(ctx, sh.results)
		return true, nil
	}
	original, content, err := s.original(ctx, o.msg, sh)
	if err != nil {
		return false, err
	}
	if content != nil {
		defer content.Close()
	}
	d, err := s.cfg.Reports.Prepare(ctx, original, sh.about)
	if err != nil {
		return false, err
	}
	if d == nil {
		s.settle(ctx, sh.results)
		return true, nil
	}
	defer d.Staged.Discard()
	var after func()
	d.Within = func(tx db.Tx) (err error) {
		after, err = s.node.SettleTx(tx, sh.results)
		return err
	}
	if err := s.cfg.Accepter.Accept(ctx, d); err != nil {
		return false, err
	}
	if after != nil {
		after()
	}
	return true, nil
}

// original is the message that a report is about.
func (s *shift) original(ctx context.Context, m *queue.Message, sh *sheet) (report.Original, io.ReadCloser, error) {
	header, content, err := s.header(ctx, m)
	if err != nil {
		s.cfg.Logger.Error("report without the message's header section, which can't be read", "queue_id", m.ID.String(), "error", err)
	}
	from, err := address.Parse(m.ReversePath)
	if err != nil {
		return report.Original{}, nil, fmt.Errorf("reverse-path of message %s: %w", m.ID, err)
	}
	o := report.Original{ID: m.ID, Header: header, Envelope: envelope.Envelope{ReversePath: address.NewReversePath(from), Return: m.Return, EnvelopeID: m.EnvelopeID,
		SMTPUTF8: m.SMTPUTF8, RequireTLS: m.RequireTLS, Priority: m.Priority, Origin: envelope.Origin{Time: m.Queued}}}
	if m.Return == envelope.ReturnFull && !m.RequireTLS && content && m.Octets <= maxReturned && sh.about[0].Action == dsn.Failed {
		r, err := s.cfg.Bodies.Open(ctx, m.ID, 0, -1)
		if err != nil {
			return report.Original{}, nil, err
		}
		o.Content = r
		return o, r, nil
	}
	return o, nil, nil
}

// header reads a message's header section; content says that the message could be read.
func (s *shift) header(ctx context.Context, m *queue.Message) (header []byte, content bool, err error) {
	r, err := s.cfg.Bodies.Open(ctx, m.ID, 0, min(m.Octets, message.MaxHeaderOctets+(64<<10)))
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	h := &headReader{r: r}
	header, err = h.read()
	return header, err == nil, err
}

// releaser gives claims back, as many at a time as there are.
func (s *shift) releaser(ctx context.Context) {
	for c := range s.released {
		batch := []queue.Claim{c}
		for more := true; more && len(batch) < claimAtOnce; {
			select {
			case c, ok := <-s.released:
				if more = ok; ok {
					batch = append(batch, c)
				}
			default:
				more = false
			}
		}
		for pause := settleFirst; ; pause = min(2*pause, settleMost) {
			err := s.node.Release(ctx, batch...)
			if err == nil || ctx.Err() != nil || errors.Is(err, queue.ErrLeaseLost) {
				break
			}
			s.cfg.Logger.Error("relay can't give destinations back, it tries again", "destinations", len(batch), "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
		s.room.give(len(batch))
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
}

// delays tells our own people, once, of messages that wait for long.
func (s *shift) delays(soft, paper context.Context) {
	if s.cfg.DelayAfter < 0 {
		return
	}
	tick := time.NewTicker(delayEvery)
	defer tick.Stop()
	for {
		select {
		case <-soft.Done():
			return
		case <-tick.C:
		}
		for s.someDelays(soft, paper) {
		}
	}
}

// someDelays reports some delays, and says whether there may be more.
func (s *shift) someDelays(soft, paper context.Context) bool {
	jobs, err := s.node.Overdue(soft, s.cfg.Now().Add(-s.cfg.DelayAfter), delayAtOnce)
	if err != nil {
		if soft.Err() == nil && !errors.Is(err, queue.ErrLeaseLost) {
			s.cfg.Logger.Error("relay can't look for delays", "error", err)
		}
		return false
	}
	for i := range jobs {
		o := &outcome{msg: &jobs[i].Message}
		for k := range jobs[i].Recipients {
			r := &jobs[i].Recipients[k]
			s.warn(o, r, queue.Result{ID: jobs[i].Message.ID, N: r.N, At: s.cfg.Now(), Status: statusOf(r)})
		}
		s.write(paper, o)
	}
	return len(jobs) > 0 && soft.Err() == nil
}
