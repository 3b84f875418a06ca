package mua

import (
	"context"
	"errors"
	"sync"

	"poczta.example/poczta/internal/mua/fetch"
)

// ErrRunning means that Run runs already.
var ErrRunning = errors.New("the mail is being watched already by another command; end that one first")

// Run keeps the store in order and sends what waits, and with watch fetches all accounts by their policies and makes the scheduled backups, until ctx
// ends. tell is called after each look at an account; a value on now looks at once. ErrRunning.
func (m *Mail) Run(ctx context.Context, watch bool, now <-chan struct{}, tell func(fetch.Round)) error {
	if !m.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer m.running.Store(false)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	failed := make(chan error, 4)
	work := func(f func(context.Context) error) {
		wg.Go(func() {
			err := f(ctx)
			if err != nil && ctx.Err() == nil {
				failed <- err
				stop()
			}
		})
	}
	work(m.Store.Run)
	work(m.Outbox.Run)
	if watch {
		work(m.backups)
		work(func(ctx context.Context) error { return m.Fetcher.Watch(ctx, m.withServers, now, tell) })
	}
	wg.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
