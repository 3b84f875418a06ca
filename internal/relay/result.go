package relay

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/srs"
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
	// refused are recipients, by number, of whom Hooks.Refused is told once their results are
	// written: a report that has to wait for room is the end of another attempt.
	refused []int
}

// sheet is a report to be, with the results that it tells of.
type sheet struct {
	results []queue.Result
	about   []dsn.Recipient
	to      []string // reverse-paths that are the recipient's own; "" is the message's
	// asked are forwarded copies, over which Config.Forwards decides; by result.
	asked map[int]*queue.Recipient
}

func (s *sheet) add(res queue.Result, about dsn.Recipient, to string) {
	s.results = append(s.results, res)
	s.about = append(s.about, about)
	s.to = append(s.to, to)
}

// parts are the sheets of one reverse-path each.
func (s *sheet) parts() []*sheet {
	var all []*sheet
	at := make(map[string]int)
	for i, to := range s.to {
		k, ok := at[to]
		if !ok {
			k = len(all)
			at[to] = k
			all = append(all, &sheet{})
		}
		all[k].add(s.results[i], s.about[i], to)
	}
	return all
}

// ownPath is the reverse-path that XVERP gave a recipient, "" without one. Whose failure it
// was is told to that path, since programs look at nothing else; an SRS address leads back
// to the sender, who is told as ever.
func ownPath(r *queue.Recipient) string {
	if a, err := address.Parse(r.ReversePath); err != nil || srs.Is(a) {
		return ""
	}
	return r.ReversePath
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
		if a.t.refusal != "" {
			res.Status += " (after " + a.t.refusal + ")"
		}
		if e.v.Fate != Delivered && first {
			res.Dialogue, first = e.where.packed(), false
		}
		switch {
		case e.v.Fate == Delivered:
			res.Outcome = queue.Relayed
			s.relayed(o, r, e, res)
		case e.v.Fate == PutOff && now.Before(a.t.msg.Expires):
			res.Outcome, res.Next = queue.Deferred, s.nextAttempt(r, e, now, until)
			s.deferred(o, r, res)
		default:
			res.Outcome = queue.Returned
			if e.v.Fate == PutOff {
				res.Status = "554 5.4.7 given up after the time for delivery; last: " + res.Status
			} else if a.t.msg.Account != 0 && r.Forward == "" && r.State != queue.Returning {
				o.refused = append(o.refused, r.N)
			}
			s.refused(o, r, e, res)
		}
		s.counted(a, res)
		s.logged(a, r, &res)
	}
	s.hand(o)
}

// nextAttempt is when a recipient is tried again: by its own time, or with the host.
func (s *shift) nextAttempt(r *queue.Recipient, e *ending, now, until time.Time) time.Time {
	if e.v.Clock == HostClock && !until.IsZero() {
		return until
	}
	return now.Add(s.cfg.Schedule.RetryAfter(r.Attempts+1, s.cfg.Random()))
}

// refusals tells of those who were refused for good and whose results are written.
func (s *shift) refusals(o *outcome, written []queue.Result) {
	if s.cfg.Hooks.Refused == nil || len(o.refused) == 0 {
		return
	}
	for _, res := range written {
		if slices.Contains(o.refused, res.N) {
			s.cfg.Hooks.Refused(o.msg.Account)
		}
	}
}

// counted tells the metrics. What no host of a site took part in is "unresolved" where its
// hosts could not be found, and "here" where this house decided.
func (s *shift) counted(a *attempt, res queue.Result) {
	if s.cfg.Hooks.Attempt == nil {
		return
	}
	name := "here"
	switch {
	case a.t.way != nil:
		name = a.t.way.site.name
	case a.t.route != nil:
		name = "unresolved"
	}
	s.cfg.Hooks.Attempt(name, res.Outcome.String(), res.At.Sub(a.t.msg.Queued))
}

// logged writes the recipient's line of the log: by queue_id it is found from the
// message's acceptance to its fate.
func (s *shift) logged(a *attempt, r *queue.Recipient, res *queue.Result) {
	ctx := context.Background()
	if !s.cfg.Logger.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := make([]slog.Attr, 0, 9)
	attrs = append(attrs, slog.String("queue_id", res.ID.String()), slog.String("forward_path", r.ForwardPath), slog.String("outcome", res.Outcome.String()),
		slog.String("status", res.Status))
	if res.Host != "" {
		attrs = append(attrs, slog.String("host", res.Host))
	}
	if res.TLS != "" {
		attrs = append(attrs, slog.String("tls", res.TLS))
	}
	if res.Outcome == queue.Deferred {
		attrs = append(attrs, slog.Time("next_attempt", res.Next))
	}
	attrs = append(attrs, slog.Int("attempt", r.Attempts+1), slog.Duration("waited", res.At.Sub(a.t.msg.Queued).Round(time.Millisecond)))
	s.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "attempt ended", attrs...)
}

// hand gives an outcome to those who write it. Plain results do not wait behind the reports that
// others are writing: until they stand a crash makes mail go out once more.
func (s *shift) hand(o *outcome) {
	if len(o.failed.results)+len(o.relayed.results)+len(o.delayed.results)+len(o.forwarded) == 0 {
		s.outcomes <- o
		return
	}
	if len(o.plain) > 0 && len(o.delayed.results)+len(o.forwarded) == 0 { // these two want the plain ones written first
		first := &outcome{line: o.line, msg: o.msg, plain: o.plain, refused: o.refused}
		for _, r := range o.plain {
			if r.Outcome != queue.Warned { // which is a second one of its recipient
				first.landed++
			}
		}
		o.plain, o.landed = nil, o.landed-first.landed
		s.outcomes <- first
	}
	s.letters <- o
}

// relayed is a recipient whom a host has taken. A report of it is due where the host sends
// none (RFC 3461 §5.2.1), and where DELIVERBY asks for it.
func (s *shift) relayed(o *outcome, r *queue.Recipient, e *ending, res queue.Result) {
	if r.Forward != "" && s.cfg.Forwards != nil {
		o.forwarded = append(o.forwarded, r)
	}
	if !(r.Notify&envelope.NotifySuccess != 0 && e.noDSN) && !tellRelayed(o.msg, r, e) {
		o.plain = append(o.plain, res)
		return
	}
	about := s.about(r, e.v.Reply, e.where.mta, dsn.Relayed, res.At)
	if e.final {
		about.Action = dsn.Delivered
	}
	about.Diagnostic = ""
	o.relayed.add(res, about, "")
}

// tellRelayed reports whether DELIVERBY has a report made of a recipient whom a host has
// taken: each host does so where the sender wants to follow the message (T), and the
// last one that knows the extension does where the sender is to be told of delays that
// nobody beyond will tell of (N). NOTIFY=NEVER forbids both (RFC 2852 §4).
func tellRelayed(m *queue.Message, r *queue.Recipient, e *ending) bool {
	by := m.DeliverBy
	if by.Mode == envelope.ByUndeclared || r.Notify&envelope.NotifyNever != 0 || r.Forward != "" {
		return false
	}
	return by.Trace || by.Mode == envelope.ByNotify && e.noDeliverBy && !e.final
}

// deferred is a recipient to be tried again.
func (s *shift) deferred(o *outcome, r *queue.Recipient, res queue.Result) {
	o.plain = append(o.plain, res)
	if by := o.msg.DeliverBy; by.Mode == envelope.ByNotify && !r.Warned && res.At.After(by.Time) && (o.msg.Ours || o.msg.Account != 0) { // RFC 2852 §4, our own people alone
		s.warn(o, r, res, res.At)
	}
}

// warn adds a report of delay, where the sender is to get one. attempted is when the last
// attempt was; zero when that is not known.
func (s *shift) warn(o *outcome, r *queue.Recipient, res queue.Result, attempted time.Time) {
	late := queue.Result{ID: res.ID, N: res.N, Outcome: queue.Warned, At: res.At, Status: res.Status}
	if r.Forward != "" || r.Notify != 0 && r.Notify&envelope.NotifyDelay == 0 {
		o.plain = append(o.plain, late)
		return
	}
	about := s.about(r, parseStatus(res.Status), "", dsn.Delayed, attempted)
	about.RetryUntil = o.msg.Expires
	o.delayed.add(late, about, "")
}

// refused is a recipient for whom it is over.
func (s *shift) refused(o *outcome, r *queue.Recipient, e *ending, res queue.Result) {
	reply := e.v.Reply
	mta := e.where.mta
	if e.v.Ours {
		mta = ""
	}
	about := s.about(r, reply, mta, dsn.Failed, res.At)
	if e.v.Fate == PutOff { // RFC 3463 §3.5: X.4.7, delivery time expired
		about.Status = dsn.Status{Class: 5, Subject: 4, Detail: 7}
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
	o.failed.add(res, about, ownPath(r))
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
	if n, _ := fmt.Sscanf(s, "%3d %1d.%3d.%3d", &code, &class, &subject, &detail); n == 4 && code/100 == class && code >= 200 && code < 600 && min(subject, detail) >= 0 {
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
