package daemon

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/queue"
)

// announceEvery is how soon other nodes hear of mail that a node without relay accepted.
const announceEvery = time.Second

// announcer tells the other nodes of PostgreSQL what this one, whose relay is turned
// off, has put into the queue.
func announcer(q *queue.Queue, name string, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		for ctx.Err() == nil {
			if err := announce(ctx, q, name); err != nil && ctx.Err() == nil {
				log.Warn("the queue can't be told of new mail; other nodes find it within minutes", "error", err)
			}
			wait(ctx, announceEvery)
		}
		return nil
	}
}

// announce is one incarnation.
func announce(ctx context.Context, q *queue.Queue, name string) (err error) {
	n, err := q.Join(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Leave(context.WithoutCancel(ctx))) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer func() { cancel(); err = errors.Join(err, <-ended) }()
	for wait(ctx, announceEvery) {
		if _, _, err := n.Claim(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

// wait pauses and reports whether ctx is still good.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
