// Package upkeep runs what a store does beside its work: it writes what was gathered in memory, and
// drops what is old.
package upkeep

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// lastWrite is how long the last write may take when the process ends.
const lastWrite = 5 * time.Second

// Rounds are the upkeep of one store. Write, Sweep, their times and Logger are required.
type Rounds struct {
	Write, Sweep           func(ctx context.Context) error
	WriteEvery, SweepEvery time.Duration
	Kick                   <-chan struct{} // asks for a Write before its time; nil: never
	Logger                 *slog.Logger    // is told what failed
	Failed                 string          // its message
}

// Run makes the rounds, one step at a time, until ctx ends; then it writes once more, within five
// seconds, and returns the error of that.
func (r Rounds) Run(ctx context.Context) error {
	write, sweep := time.NewTicker(r.WriteEvery), time.NewTicker(r.SweepEvery)
	defer write.Stop()
	defer sweep.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
			defer cancel()
			return r.Write(last)
		case <-write.C:
			err = r.Write(ctx)
		case <-r.Kick:
			err = r.Write(ctx)
		case <-sweep.C:
			err = r.Sweep(ctx)
		}
		r.Tell(err)
	}
}

// Tell logs what failed; nil and the end of a context are no failures.
func (r Rounds) Tell(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		r.Logger.Warn(r.Failed, "error", err)
	}
}
