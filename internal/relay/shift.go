package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"poczta.example/poczta/internal/queue"
)

// Waits that are not part of Config.
const (
	rejoinAfter = 5 * time.Second        // between two incarnations, and after the database failed
	leastPause  = 5 * time.Millisecond   // between two looks at the queue
	settleGrace = 20 * time.Second       // for results, once the work has been cut off
	claimAtOnce = 100                    // destinations of one look
	delayEvery  = time.Minute            // between two looks for delays
	delayAtOnce = 100                    // recipients of one
	settleFirst = 100 * time.Millisecond // pause before a result is written again, growing
	settleMost  = 5 * time.Second
)

// Run works the queue until ctx ends. Then transactions that have begun get
// Config.Grace to end, what was not begun is given back, and nil is returned. When the
// lease is lost, everything is cut off and begun anew.
func (r *Relay) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := r.shift(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.cfg.Logger.Error("relay begins anew", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(rejoinAfter):
		}
	}
	return nil
}

// shift is the work of one incarnation, from Join to Leave.
type shift struct {
	*Relay
	node     Node
	window   *quota // recipients
	slots    *quota // connections
	patient  *quota // connections to hosts that keep us waiting
	room     *quota // lines
	sites    siteTable
	down     downTable
	outcomes chan *outcome // to the clerk
	letters  chan *outcome // to the writers of reports
	released chan queue.Claim
	kick     chan struct{} // a claim was released
	workers  sync.WaitGroup
	lines    sync.WaitGroup
}

// shift joins, works until ctx ends or the lease is lost, and leaves.
func (r *Relay) shift(ctx context.Context) error {
	node, err := r.cfg.Queue.Join(ctx, r.cfg.Node)
	if err != nil {
		return err
	}
	s := &shift{Relay: r, node: node, window: newQuota(r.cfg.Window), slots: newQuota(r.cfg.Connections), patient: newQuota(max(r.cfg.Patient, 0)), room: newQuota(r.cfg.Lines),
		outcomes: make(chan *outcome, 256), letters: make(chan *outcome, 64), released: make(chan queue.Claim, 256), kick: make(chan struct{}, 1)}
	base := context.WithoutCancel(ctx)
	soft, stop := context.WithCancel(ctx) // ends the taking of work
	defer stop()
	work, cut := context.WithCancel(base) // ends the work itself
	defer cut()
	paper, drop := context.WithCancel(base) // ends the writing of results
	defer drop()
	live, die := context.WithCancel(base) // ends the lease
	defer die()

	var lost error
	var lease, clerks sync.WaitGroup
	lease.Go(func() {
		if lost = node.Run(live); lost != nil {
			stop()
			cut()
		}
	})
	s.clerks(paper, &clerks)
	s.lines.Go(func() { s.delays(soft, paper) })
	s.dispatch(soft, work)

	stop()
	grace := time.AfterFunc(r.cfg.Grace, cut)
	defer grace.Stop()
	s.sites.stop(s)
	s.lines.Wait()
	s.workers.Wait()
	late := time.AfterFunc(settleGrace, drop)
	defer late.Stop()
	close(s.letters)
	close(s.outcomes)
	close(s.released)
	clerks.Wait()
	die()
	lease.Wait()
	if lost != nil {
		return fmt.Errorf("relay: %w", lost)
	}
	leave, cancel := context.WithTimeout(base, settleGrace)
	defer cancel()
	return node.Leave(leave)
}

// dispatch claims destinations and starts a line for each, until soft ends.
func (s *shift) dispatch(soft, work context.Context) {
	for soft.Err() == nil {
		got := s.room.take(soft, claimAtOnce)
		claims, next, err := s.node.Claim(soft, got)
		s.room.give(got - len(claims))
		for _, c := range claims {
			s.lines.Go(func() { s.tend(soft, work, c) })
		}
		wait := s.cfg.Poll
		switch {
		case errors.Is(err, queue.ErrLeaseLost):
			wait = rejoinAfter // the lease's own goroutine ends the shift
		case err != nil && soft.Err() == nil:
			s.cfg.Logger.Error("relay can't claim destinations", "error", err)
			wait = rejoinAfter
		case got > 0 && len(claims) == got:
			wait = leastPause
		case !next.IsZero():
			wait = min(wait, max(next.Sub(s.cfg.Now()), leastPause))
		}
		s.pause(soft, wait)
	}
}

// pause waits for a sign of work, but not longer than wait nor less than leastPause.
func (s *shift) pause(soft context.Context, wait time.Duration) {
	select {
	case <-soft.Done():
		return
	case <-time.After(leastPause):
	}
	select {
	case <-soft.Done():
	case <-s.cfg.Queue.Wake():
	case <-s.kick:
	case <-time.After(wait - leastPause):
	}
}
