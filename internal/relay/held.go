package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/smtp"
)

// Local delivers to mailboxes here what was held for later (RFC 4865): such mail waits in
// the queue for all its recipients. *intake.Intake is one.
type Local interface {
	// ReleaseJob delivers those of j's recipients that are ours, whose indexes it tells
	// within, which runs in the transaction that delivers and may run more than once. as is
	// the id they were delivered under; zero when there was none. results has an entry for
	// each recipient: nil was delivered, account.ErrNotLocal is not ours, an *smtp.Error of
	// class 5 is refused for good, others are to be tried again. err: nothing was done.
	ReleaseJob(ctx context.Context, j *queue.Job, stored io.Reader, within func(tx db.Tx, taken []int) error) (as message.ID, results []error, err error)
}

// releaseHere delivers those recipients of a held message that are ours and settles them.
// It returns the others, for whom the message takes the usual way.
func (s *shift) releaseHere(ctx context.Context, l *line, j *queue.Job) []queue.Recipient {
	if s.cfg.Local == nil || j.Message.HoldUntil.IsZero() {
		return j.Recipients
	}
	var rest []queue.Recipient
	held := *j
	held.Recipients = nil
	for _, r := range j.Recipients {
		if r.State == queue.Returning || r.Forward != "" {
			rest = append(rest, r)
		} else {
			held.Recipients = append(held.Recipients, r)
		}
	}
	if len(held.Recipients) == 0 {
		return rest
	}
	results, err := s.release(ctx, &held)
	switch {
	case err == nil:
		return append(rest, s.sortReleased(l, &held, results)...)
	case ctx.Err() != nil, errors.Is(err, ErrLease):
		s.withdraw(&task{line: l, msg: &held.Message, rcpts: held.Recipients})
		return rest
	}
	s.cfg.Logger.Error("a held message can't be delivered here, it is tried again", "queue_id", held.Message.ID.String(), "error", err)
	s.endHere(l, &held.Message, held.Recipients, smtp.Reply{Code: 451, Subject: 3, Text: "The message can't be delivered here at present"})
	return rest
}

// release hands a job to Local and settles, in its transaction, who was delivered to.
func (s *shift) release(ctx context.Context, j *queue.Job) ([]error, error) {
	if !s.node.Valid() {
		return nil, ErrLease
	}
	stored, err := s.cfg.Bodies.Open(ctx, j.Message.ID, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("open held message: %w", err)
	}
	defer stored.Close()
	var after func()
	_, results, err := s.cfg.Local.ReleaseJob(ctx, j, stored, func(tx db.Tx, taken []int) (err error) {
		now := s.cfg.Now()
		relayed := make([]queue.Result, 0, len(taken))
		for _, i := range taken {
			relayed = append(relayed, queue.Result{ID: j.Message.ID, N: j.Recipients[i].N, Outcome: queue.Relayed, At: now, Status: "250 2.0.0 Delivered here"})
		}
		after, err = s.node.SettleTx(tx, relayed)
		return err
	})
	if _, ok := errors.AsType[*queue.NotAppliedError](err); ok { // another node has settled them
		return nil, fmt.Errorf("%w: %w", ErrLease, err)
	}
	if err == nil && after != nil {
		after()
	}
	return results, err
}

// sortReleased sees to the recipients that were not delivered to, and returns those that
// are not ours.
func (s *shift) sortReleased(l *line, j *queue.Job, results []error) []queue.Recipient {
	var elsewhere []queue.Recipient
	delivered := 0
	for i, err := range results {
		r := j.Recipients[i]
		refusal, ok := errors.AsType[*smtp.Error](err)
		switch {
		case err == nil:
			delivered++
		case errors.Is(err, account.ErrNotLocal):
			elsewhere = append(elsewhere, r)
		case ok:
			s.endHere(l, &j.Message, []queue.Recipient{r}, refusal.Reply)
		default:
			s.cfg.Logger.Error("a held message can't be routed, it is tried again", "queue_id", j.Message.ID.String(), "forward_path", r.ForwardPath, "error", err)
			s.endHere(l, &j.Message, []queue.Recipient{r}, smtp.Reply{Code: 451, Subject: 3, Text: "The recipient can't be looked up at present"})
		}
	}
	if delivered > 0 {
		s.landed(l, delivered)
	}
	return elsewhere
}

// endHere ends recipients with a reply of ours, by their own clock.
func (s *shift) endHere(l *line, m *queue.Message, rcpts []queue.Recipient, r smtp.Reply) {
	v := Verdict{Fate: PutOff, Clock: OwnClock, Ours: true, Reply: r}
	if r.Code/100 == 5 {
		v.Fate = Refused
	}
	a := newAttempt(s, &task{line: l, msg: m, rcpts: rcpts})
	a.endAll(v, spot{})
	s.file(a, time.Time{})
}
