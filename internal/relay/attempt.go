package relay

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/smtp"
	"poczta.example/poczta/internal/smtpclient"
	"poczta.example/poczta/internal/trace"
)

// attempt is what has become of a task so far.
type attempt struct {
	t      *task
	at     time.Time
	ends   []ending // by recipient
	left   []int    // recipients without an ending
	last   Verdict  // of those
	where  spot     // where last came from
	policy bool     // a host has refused us, not the mail
	gone   bool     // withdrawn
}

// ending is what became of one recipient.
type ending struct {
	v     Verdict
	where spot
	// noDSN: the host sends no reports of success, so we do (RFC 3461 §5.2.1).
	noDSN bool
	// noDeliverBy: it does not know DELIVERBY (RFC 2852).
	noDeliverBy bool
	final       bool // the host is where the mailbox is (LMTP)
}

// spot is where something was said.
type spot struct {
	label, mta, tls string
	dialogue        []byte
}

func newAttempt(s *shift, t *task) *attempt {
	a := &attempt{t: t, at: s.cfg.Now(), ends: make([]ending, len(t.rcpts))}
	for i := range t.rcpts {
		a.left = append(a.left, i)
	}
	return a
}

// work is a worker: it takes the tasks of a site one by one, over one connection at a time.
func (s *shift) work(ctx context.Context, x *site, own *seat) {
	var c *conn
	for {
		idle := time.Duration(0)
		if c != nil {
			idle = s.cfg.Idle
		}
		t, keep := s.next(x, idle)
		if !keep {
			break
		}
		end := own.watch()
		c = s.perform(ctx, x, c, t)
		end()
		if own.try() {
			continue
		}
		if c != nil {
			s.leave(ctx, c)
			c = nil
		}
		if !s.resume(ctx, x, own) {
			break
		}
	}
	if c != nil {
		s.leave(ctx, c)
	}
}

// perform tries a task over the open connection if it fits, then over new ones, host by host.
// It returns the connection to go on with.
func (s *shift) perform(ctx context.Context, x *site, c *conn, t *task) *conn {
	a := newAttempt(s, t)
	if c != nil {
		if s.fits(ctx, c, t) && s.alive(ctx, c) {
			s.transact(ctx, c, a)
			if len(a.left) == 0 || a.gone {
				s.conclude(a)
				return s.still(c)
			}
			a.last = Verdict{} // the connection had grown old: nothing is said against the host
		}
		s.leave(ctx, c)
		c = nil
	}
	for i, to := range s.candidates(t.way) {
		if ctx.Err() != nil {
			a.gone = true
			break
		}
		var err error
		if c, err = s.connect(ctx, t, t.way, to); err != nil {
			a.note(JudgeError(err), spot{label: label(t.route, to), mta: to.host.Name.String()})
		} else {
			s.transact(ctx, c, a)
			if len(a.left) == 0 || a.gone {
				break
			}
			s.leave(ctx, c)
			c = nil
		}
		if !a.last.Next || i > 0 && s.cfg.Now().Sub(a.at) >= attemptTime {
			break
		}
	}
	if ctx.Err() != nil && len(a.left) > 0 {
		a.gone = true
	}
	if len(a.left) > 0 && !a.gone && s.elsewhere(ctx, x, a) {
		return nil
	}
	s.conclude(a)
	return s.still(c)
}

// still returns the connection if it can be used again.
func (s *shift) still(c *conn) *conn {
	if c != nil && !c.sess.Usable() {
		s.shut(c)
		return nil
	}
	return c
}

// note remembers a verdict over those that are left. One that lets them be tried again
// counts more than one that refuses them.
func (a *attempt) note(v Verdict, where spot) {
	a.policy = a.policy || v.Reputation
	if a.last.Fate == PutOff && v.Fate == Refused {
		return
	}
	a.last, a.where = v, where
}

// elsewhere gives what is left to the fallback route, or back to the site when that
// works for others. It reports whether the task goes on.
func (s *shift) elsewhere(ctx context.Context, x *site, a *attempt) bool {
	t := a.t
	if len(a.left) == len(t.rcpts) && a.last.Fate == PutOff && a.last.Clock == HostClock && a.last.Slow && s.again(x, t) {
		return true
	}
	if t.route.Fallback || t.route.fixed() || !a.policy && !s.blocked.blocked(s.cfg.Now()) {
		return false
	}
	f := fallback(s.cfg.Routes, t.msg, t.line.domain)
	if f == nil {
		return false
	}
	rest := &task{line: t.line, msg: t.msg, from: t.from, route: f, refusal: strings.TrimPrefix(a.where.label+": "+a.last.Reply.String(), ": ")}
	for _, i := range a.left {
		rest.rcpts = append(rest.rcpts, t.rcpts[i])
	}
	s.cfg.Logger.Info("mail takes the fallback route", "queue_id", t.msg.ID.String(), "destination", t.line.claim.Destination, "route", f.Name, "status", a.last.Reply.String())
	if len(a.left) < len(t.rcpts) {
		s.conclude(a.without(a.left))
	}
	s.send(ctx, rest)
	return true
}

// without is the attempt for all but some recipients.
func (a *attempt) without(gone []int) *attempt {
	b := &attempt{t: &task{line: a.t.line, msg: a.t.msg, from: a.t.from, route: a.t.route, way: a.t.way, refusal: a.t.refusal}, at: a.at}
	skip := make(map[int]bool, len(gone))
	for _, i := range gone {
		skip[i] = true
	}
	for i := range a.t.rcpts {
		if !skip[i] {
			b.t.rcpts = append(b.t.rcpts, a.t.rcpts[i])
			b.ends = append(b.ends, a.ends[i])
		}
	}
	return b
}

// end ends a recipient.
func (a *attempt) end(i int, e ending) { a.ends[i] = e }

// transact sends the message to those that are left, in as many transactions as the host
// wants. What stays left has a.last.
func (s *shift) transact(ctx context.Context, c *conn, a *attempt) {
	for len(a.left) > 0 {
		before := len(a.left)
		c.mails++
		if c.mails > 1 {
			c.dialogue.Reset()
		}
		again := s.once(ctx, c, a)
		c.used = s.cfg.Now()
		if !again || len(a.left) == before || !c.sess.Usable() || c.sess.Full() {
			return
		}
	}
}

// once is one transaction; again says that those who are left are worth another one.
func (s *shift) once(ctx context.Context, c *conn, a *attempt) (again bool) {
	p, err := s.prepare(ctx, c, a)
	if err != nil {
		s.cfg.Logger.Error("relay can't read a message", "queue_id", a.t.msg.ID.String(), "error", err)
		a.endAll(Verdict{Fate: PutOff, Ours: true, Reply: smtp.Reply{Code: 451, Subject: 3, Text: "The message can't be read here at present"}}, spot{})
		return false
	}
	if len(a.left) == 0 {
		return false
	}
	out, err := c.sess.Send(ctx, p)
	here := spot{label: c.label, mta: c.mta, tls: c.tls}
	taken := anyTaken(out)
	ext := c.sess.Extensions()
	said := here // with the dialogue, which is copied once at most
	failure := func() spot {
		if said.dialogue == nil {
			said = s.failure(c)
		}
		return said
	}
	left := a.left[:0]
	for k, i := range a.left {
		r := out.Recipients[k]
		if !r.Settled() {
			left = append(left, i)
			continue
		}
		v := Judge(r.Stage, r.Reply, taken || r.Local)
		v.Ours = r.Local
		if a.t.route.fixed() {
			v = v.ofFixed(r.Stage)
		}
		switch {
		case v.Fate == Delivered:
			a.end(i, ending{v: v, where: here, noDSN: !ext.DSN, noDeliverBy: !ext.DeliverBy, final: c.route.LMTP})
			a.t.line.works()
			continue
		case v.Again:
			again = true
			a.t.line.works()
		case v.Clock == HostClock || v.Reputation && s.hasFallback(a.t):
		default:
			a.end(i, ending{v: v, where: failure()})
			a.t.line.works()
			continue
		}
		a.note(v, failure())
		left = append(left, i)
	}
	a.left = left
	if taken && len(left) == 0 || anyDelivered(out) {
		s.took(ctx, a.t.way.site)
	}
	if err != nil {
		s.broke(ctx, c, a, err)
		return false
	}
	return again
}

// anyTaken reports whether some recipient was accepted at RCPT, as far as is known.
func anyTaken(out smtpclient.Outcome) bool {
	for _, r := range out.Recipients {
		if r.Accepted || !r.Settled() || r.Stage >= smtpclient.StageData {
			return true
		}
	}
	return false
}

func anyDelivered(out smtpclient.Outcome) bool {
	for _, r := range out.Recipients {
		if r.Accepted {
			return true
		}
	}
	return false
}

func (s *shift) hasFallback(t *task) bool {
	return !t.route.Fallback && !t.route.fixed() && fallback(s.cfg.Routes, t.msg, t.line.domain) != nil
}

// failure is a spot with its dialogue.
func (s *shift) failure(c *conn) spot {
	return spot{label: c.label, mta: c.mta, tls: c.tls, dialogue: c.dialogue.Bytes()}
}

// endAll ends all that are left.
func (a *attempt) endAll(v Verdict, where spot) {
	for _, i := range a.left {
		a.end(i, ending{v: v, where: where})
	}
	a.left = a.left[:0]
}

// broke judges a session that broke.
func (s *shift) broke(ctx context.Context, c *conn, a *attempt, err error) {
	v := JudgeError(err)
	if u, ok := errors.AsType[*smtpclient.Unsupported](err); ok {
		v = Verdict{Fate: Refused, Ours: true, Reply: smtp.Reply{Code: 554, Subject: 6, Detail: 3, Text: u.Error()}}
	}
	if e, ok := errors.AsType[*smtpclient.Error](err); ok && errors.Is(err, smtpclient.ErrArgument) && e.Local {
		v = Verdict{Fate: Refused, Ours: true, Reply: smtp.Reply{Code: 553, Subject: 1, Detail: 3, Text: "The address can't be sent to this host"}}
	}
	if ctx.Err() != nil && !v.Lost {
		v = Verdict{Fate: Withdrawn}
	}
	if v.Slow {
		c.way.site.slow()
	}
	if v.Fate == Withdrawn && len(a.left) == len(a.t.rcpts) {
		a.gone = true
		return
	}
	if v.Clock == OwnClock || v.Fate == Withdrawn {
		if v.Fate == Withdrawn {
			v = Verdict{Fate: PutOff, Ours: true, Reply: smtp.Reply{Code: 451, Subject: 3, Detail: 2, Text: "The attempt was cut off here"}}
		}
		a.endAll(v, s.failure(c))
		return
	}
	a.note(v, s.failure(c))
}

// hostFailed is the end of an attempt that no host took part in: the line, and where
// it concerns all, the site are down.
func (s *shift) hostFailed(a *attempt) (until time.Time) {
	t := a.t
	status := a.last.Reply.String()
	failures := t.line.claim.Failures
	if t.line.hasAnswered() {
		failures = 0
	}
	until = s.cfg.Now().Add(s.cfg.Schedule.ProbeAfter(failures+1, s.cfg.Random()))
	tr := t.line.fail(trouble{until: until, status: status, probed: true})
	if t.way != nil && (a.last.Slow || t.route.fixed()) {
		s.sink(t.way.site, tr.until, status)
	}
	return tr.until
}

func (l *line) hasAnswered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answered
}

// conclude settles a task, or gives it back when it was not attempted.
func (s *shift) conclude(a *attempt) {
	if a.gone && len(a.left) == len(a.t.rcpts) {
		s.withdraw(a.t)
		return
	}
	if len(a.left) > 0 {
		if a.gone || a.last.Fate == 0 {
			a.last = Verdict{Fate: PutOff, Ours: true, Reply: smtp.Reply{Code: 451, Subject: 3, Detail: 2, Text: "The attempt was cut off here"}}
		}
		if a.last.Again { // nobody was taken any more: each by its own time
			a.last.Clock = OwnClock
		}
		if a.last.Fate == PutOff && a.last.Clock == HostClock && a.t.ownClock() {
			a.last.Clock = OwnClock
		}
		a.endAll(a.last, a.where)
		if a.last.Fate == PutOff && a.last.Clock == HostClock {
			until := s.hostFailed(a)
			s.file(a, until)
			return
		}
	}
	s.file(a, time.Time{})
}

// ownClock reports whether the failure of the task's route says nothing of the
// destination: it is a route of some senders, or the fallback.
func (t *task) ownClock() bool {
	return t.route != nil && (t.route.Fallback || len(t.route.Senders) > 0)
}

// commit is asked before the final dot.
func (s *shift) commit() error {
	if !s.node.Valid() {
		return ErrLease
	}
	return nil
}

// reader opens a message's octets.
func (s *shift) reader(ctx context.Context, m *queue.Message) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return s.cfg.Bodies.Open(ctx, m.ID, 0, -1) }
}

// packed is the dialogue as the trace keeps it.
func (w *spot) packed() []byte { return trace.PackDialogue(w.dialogue) }
