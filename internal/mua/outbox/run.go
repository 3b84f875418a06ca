package outbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
)

// Times of Run.
const (
	longest = time.Minute      // between two looks at the outbox
	watched = 10 * time.Second // between two looks at this computer's addresses, while something waits after a failure
)

// Wake has Run look at the outbox at once. It does not block.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Run sends what is due until ctx ends, and reads the reports that come back. What waits after a
// failure is tried again after a while, and at once when this computer's addresses change. It
// returns nil when ctx ends.
func (o *Outbox) Run(ctx context.Context) error {
	network := o.c.Network()
	for force := false; ; {
		if err := o.round(ctx, force); err != nil && ctx.Err() == nil {
			o.c.Logger.Warn("while sending", "error", err)
		}
		if err := o.reports(ctx); err != nil && ctx.Err() == nil {
			o.c.Logger.Warn("while reading reports", "error", err)
		}
		force = false
		until, failing, err := o.next(ctx)
		if err != nil && ctx.Err() == nil {
			o.c.Logger.Warn("while reading the outbox", "error", err)
			until = longest
		}
		if failing {
			until = min(until, watched)
		}
		timer := time.NewTimer(until)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-o.wake:
		case <-timer.C:
		}
		timer.Stop()
		if now := o.c.Network(); now != network {
			network, force = now, true
		}
	}
}

// next says how long until something is due, and whether something waits after a failure.
func (o *Outbox) next(ctx context.Context) (until time.Duration, failing bool, err error) {
	var at, failed int64
	err = o.table.db.View(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT COALESCE(MIN(next), 0), COALESCE(MAX(failures), 0) FROM outgoing WHERE state = 1`).Scan(&at, &failed)
	})
	if err != nil || at == 0 {
		return longest, false, err
	}
	return min(longest, max(100*time.Millisecond, db.FromMicros(at).Sub(o.c.Now()))), failed > 0, nil
}

// Flush sends what is due now, and what waits after a failure, and returns why any of it waits on;
// nil when all of it is settled. What a person must decide, or what was refused, List tells.
func (o *Outbox) Flush(ctx context.Context) error {
	return errors.Join(o.round(ctx, true), o.reports(ctx))
}

// addresses describes this computer's network.
func addresses() string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Sprint(err)
	}
	var names []string
	for _, a := range all {
		names = append(names, a.String())
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
