package db

import (
	"context"
	"time"
)

// MaxChunk is how many rows one call of UpdateLow may touch.
const MaxChunk = 500

// Limits of Chunks.
const (
	minChunk    = 8
	chunkTarget = 2 * time.Millisecond // of one function
)

// Chunks does long work in the low lane, a chunk a transaction. step does at most
// limit rows and returns how many it did; Chunks calls it until it did fewer than limit
// rows, fails, or ctx ends. The limit grows and shrinks so that a chunk takes some two
// milliseconds, between 8 rows and MaxChunk. Chunks done before an error stay done.
func Chunks(ctx context.Context, d Database, step func(tx Tx, limit int) (done int, err error)) error {
	limit := 64
	for {
		var done int
		var took time.Duration
		err := d.UpdateLow(ctx, func(tx Tx) error {
			start := time.Now()
			var err error
			done, err = step(tx, limit)
			took = time.Since(start)
			return err
		})
		if err != nil {
			return err
		}
		if done < limit {
			return nil
		}
		limit = nextChunk(limit, took)
	}
}

// nextChunk moves limit towards what takes chunkTarget, at most by a factor of two.
func nextChunk(limit int, took time.Duration) int {
	want := 2 * limit
	if took > 0 {
		want = min(want, int(float64(limit)*float64(chunkTarget)/float64(took)))
	}
	return min(max(want, limit/2, minChunk), MaxChunk)
}
