package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"poczta.example/poczta/internal/queue"
)

const (
	settleBatch = 200      // results of one call
	writers     = 4        // of reports, at one time
	clerks      = 2        // of plain results
	maxReturned = 10 << 20 // octets of a message that RET=FULL brings back whole
	reportTries = 4
	reportLater = 10 * time.Minute
)

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
			s.refusals(o, o.plain)
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
	s.refusals(o, o.plain)
	for _, r := range o.forwarded {
		s.cfg.Forwards.Succeeded(ctx, o.msg, r)
	}
	if len(o.failed.asked) > 0 {
		s.forwarded(ctx, o)
	}
	for _, sh := range []*sheet{&o.failed, &o.relayed, &o.delayed} {
		for _, part := range sh.parts() {
			s.post(ctx, o, part)
		}
	}
	if o.line != nil {
		s.landed(o.line, o.landed)
	}
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
			s.warn(o, r, queue.Result{ID: jobs[i].Message.ID, N: r.N, At: s.cfg.Now(), Status: statusOf(r)}, time.Time{})
		}
		s.write(paper, o)
	}
	return len(jobs) > 0 && soft.Err() == nil
}
