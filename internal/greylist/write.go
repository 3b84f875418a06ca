package greylist

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/upkeep"
)

// seen notes that a known network came, to be written when the row is a day old.
func (l *List) seen(network, seen int64, now time.Time) {
	if now.Sub(db.FromMicros(seen)) < refreshEvery {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.refresh[network]; ok || len(l.refresh) < maxCached {
		l.refresh[network] = db.Micros(now)
	}
}

// Run writes which known networks came again and drops what is old, until ctx ends; then it
// writes once more. First tries don't wait for it.
func (l *List) Run(ctx context.Context) error {
	r := upkeep.Rounds{Write: l.Flush, Sweep: l.Sweep, WriteEvery: writeEvery, SweepEvery: sweepEvery,
		Logger: l.cfg.Logger, Failed: "the greylist could not be kept"}
	r.Tell(l.Sweep(ctx))
	return r.Run(ctx)
}

// Flush writes which known networks came again. What could not be written waits for the next call.
func (l *List) Flush(ctx context.Context) error {
	l.mu.Lock()
	batch := l.refresh
	l.refresh = map[int64]int64{}
	l.mu.Unlock()
	for some := range slices.Chunk(slices.Sorted(maps.Keys(batch)), 250) { // rows are locked in one order by all nodes
		err := l.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
			for _, n := range some {
				if err := writeKnown(tx, n, batch[n]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			l.mu.Lock()
			for n, seen := range batch {
				l.refresh[n] = max(seen, l.refresh[n])
			}
			l.mu.Unlock()
			return fmt.Errorf("write the greylist: %w", err)
		}
		for _, n := range some {
			l.known.Put(n, batch[n], l.cfg.Now())
			delete(batch, n)
		}
	}
	return nil
}

// Sweep drops first tries that nobody came again for and networks not seen for long, in
// chunks, and counts what is left. Run calls it every ten minutes.
func (l *List) Sweep(ctx context.Context) error {
	now := l.cfg.Now()
	err := db.DropWhere(ctx, l.cfg.DB, "greylist_try", "hash", "first < ?", db.Micros(now.Add(-l.cfg.Window)))
	if err == nil {
		err = db.DropWhere(ctx, l.cfg.DB, "greylist_known", "network", "seen < ?", db.Micros(now.Add(-l.cfg.Keep)))
	}
	if err != nil {
		return fmt.Errorf("drop old rows of the greylist: %w", err)
	}
	var rows int64
	if err := l.cfg.DB.View(ctx, func(tx db.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM greylist_try`).Scan(&rows) }); err != nil {
		return fmt.Errorf("count the greylist: %w", err)
	}
	l.tries.Store(rows)
	return nil
}
