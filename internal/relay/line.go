package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/queue"
)

// lineRecipients is how many recipients one destination has taken at a time, so that
// a large one leaves room for the others.
const lineRecipients = 400

// firstRecipients is how many a line looks for first: most have fewer.
const firstRecipients = 50

// How long a line waits, while some of its recipients are in flight, before it looks for
// others that have become due; longer each time it finds none.
const (
	firstPatience   = 5 * time.Second
	longestPatience = 40 * time.Second
)

// line is a destination on lease, tended by one goroutine.
type line struct {
	claim  queue.Claim
	domain address.Domain

	mu       sync.Mutex
	flying   int // recipients taken and not settled
	finished chan struct{}
	ways     map[*Route]*way
	trouble  *trouble // the host is down
	answered bool     // the host has taken part in a transaction
}

// trouble is a host that is down.
type trouble struct {
	until  time.Time
	status string
	probed bool // an attempt of ours has just found it so: what is over may be returned
}

// task is one mail transaction to be: recipients of one message with one reverse-path.
type task struct {
	line  *line
	msg   *queue.Message
	from  string // reverse-path
	rcpts []queue.Recipient
	route *Route
	way   *way
	tries int // times it was put back for another connection
	// refusal is what sent the task to the fallback route, for the trace; "" else.
	refusal string
}

// job is the task as it was taken.
func (t *task) job() queue.Job {
	return queue.Job{Message: *t.msg, Destination: t.line.claim.Destination, Recipients: t.rcpts}
}

// tend takes a destination's recipients and sees them settled, until none is due, the
// host is down, or soft ends. Then it gives the claim back.
func (s *shift) tend(soft, work context.Context, c queue.Claim) {
	if s.cfg.Hooks.Lines != nil {
		s.cfg.Hooks.Lines(1)
		defer s.cfg.Hooks.Lines(-1)
	}
	l := &line{claim: c, finished: make(chan struct{}, 1), ways: make(map[*Route]*way)}
	l.domain, _ = address.ParseDomain(c.Destination) // the zero domain has no route, and its recipients are told so
	ask, patience := firstRecipients, firstPatience
	for soft.Err() == nil && l.inTrouble() == nil {
		want := min(ask, max(1, lineRecipients-l.count()))
		got := s.window.take(soft, want)
		if got == 0 {
			break
		}
		jobs, err := s.node.Take(work, c, got)
		taken := l.take(jobs)
		s.window.give(got - taken)
		if err != nil {
			if !errors.Is(err, queue.ErrLeaseLost) && soft.Err() == nil {
				s.cfg.Logger.Error("relay can't take recipients", "destination", c.Destination, "error", err)
			}
			break
		}
		for i := range jobs {
			s.begin(work, l, &jobs[i])
		}
		ask = firstRecipients
		switch {
		case taken < got:
			// No other is due now, and looking for new ones reads those in flight again: few looks
			// are enough while they land, but one that is stuck must not hide what came after it.
			l.waitFor(l.count()/4, patience)
			patience = min(2*patience, longestPatience)
		case got < want: // so much is in flight elsewhere: rather some at a time than one by one
			l.waitFor(l.count()/2, patience)
		default:
			ask, patience = lineRecipients, firstPatience
			l.wait(lineRecipients / 2)
		}
		if taken < got && l.count() == 0 {
			break // Release looks once more
		}
	}
	l.wait(0)
	s.hostClock(work, l)
	s.released <- c
}

func (l *line) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flying
}

// take notes what was taken and returns how many recipients that is.
func (l *line) take(jobs []queue.Job) int {
	n := 0
	for i := range jobs {
		n += len(jobs[i].Recipients)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flying += n
	return n
}

// wait waits until at most n recipients are in flight. It always ends: tasks are settled or
// given back, at the latest when the work is cut off.
func (l *line) wait(n int) {
	for l.count() > n {
		<-l.finished
	}
}

// waitFor is wait that ends after a while, too.
func (l *line) waitFor(n int, most time.Duration) {
	late := time.NewTimer(most)
	defer late.Stop()
	for l.count() > n {
		select {
		case <-l.finished:
		case <-late.C:
			return
		}
	}
}

// landed notes recipients that are settled or given back.
func (s *shift) landed(l *line, n int) {
	l.mu.Lock()
	l.flying -= n
	l.mu.Unlock()
	s.window.give(n)
	select {
	case l.finished <- struct{}{}:
	default:
	}
}

func (l *line) inTrouble() *trouble {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trouble
}

// fail notes that the host is down. The first time counts; a probe of our own adds to it.
func (l *line) fail(tr trouble) *trouble {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trouble == nil {
		l.trouble = &tr
	}
	l.trouble.probed = l.trouble.probed || tr.probed
	return l.trouble
}

// works notes that the host has taken part in a transaction.
func (l *line) works() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered = true
}

// begin makes tasks of a job: one for each reverse-path, of at most
// Config.PerTransaction recipients.
func (s *shift) begin(work context.Context, l *line, j *queue.Job) {
	tasks := make(map[string]*task)
	var order []*task
	for _, r := range s.releaseHere(work, l, j) {
		from := j.Message.ReversePath
		if r.ReversePath != "" {
			from = r.ReversePath
		}
		key := fmt.Sprintf("%d %s", r.State, from)
		t := tasks[key]
		if t == nil || len(t.rcpts) == s.cfg.PerTransaction {
			t = &task{line: l, msg: &j.Message, from: from}
			tasks[key] = t
			order = append(order, t)
		}
		t.rcpts = append(t.rcpts, r)
	}
	for _, t := range order {
		if t.rcpts[0].State == queue.Returning {
			s.returned(t)
			continue
		}
		t.route = choose(s.cfg.Routes, t.msg, l.domain)
		if s.cfg.Port == 25 && t.route == byMX && s.blocked.avoid(s.cfg.Now()) {
			if f := fallback(s.cfg.Routes, t.msg, l.domain); f != nil {
				t.route = f
			}
		}
		s.send(work, t)
	}
}

// send finds the way of a task and puts it into its site's queue.
func (s *shift) send(work context.Context, t *task) {
	w, err := s.way(work, t.line, t.route)
	if err != nil {
		if work.Err() != nil {
			s.withdraw(t)
			return
		}
		a := newAttempt(s, t)
		a.last = JudgeError(err)
		s.conclude(a)
		return
	}
	t.way = w
	s.add(work, w.site, t)
}

// withdraw gives a task back that was not attempted.
func (s *shift) withdraw(t *task) {
	s.node.Return(t.job())
	s.landed(t.line, len(t.rcpts))
}

// hostClock writes what became of the host, and returns recipients whose time is over
// when a probe has just failed.
func (s *shift) hostClock(work context.Context, l *line) {
	tr := l.inTrouble()
	if tr == nil {
		if l.answered && l.claim.Failures > 0 {
			s.complain("host is up", l, s.node.HostUp(work, l.claim))
		}
		return
	}
	s.complain("host is down", l, s.node.HostDown(work, l.claim, tr.until, tr.status))
	for tr.probed && work.Err() == nil {
		got := s.window.take(work, s.cfg.PerTransaction)
		if got == 0 {
			return
		}
		jobs, err := s.node.Expired(work, l.claim, got)
		taken := l.take(jobs)
		s.window.give(got - taken)
		s.complain("recipients are over", l, err)
		for i := range jobs {
			s.expired(l, &jobs[i], tr.status)
		}
		l.wait(0)
		if taken == 0 || err != nil {
			return
		}
	}
}

// complain logs a failure of the database that costs nothing but time.
func (s *shift) complain(what string, l *line, err error) {
	if err != nil && !errors.Is(err, queue.ErrLeaseLost) && !errors.Is(err, context.Canceled) {
		s.cfg.Logger.Error("relay can't write to the queue", "work", what, "destination", l.claim.Destination, "error", err)
	}
}
