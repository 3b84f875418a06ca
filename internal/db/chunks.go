package db

import (
	"context"
	"slices"
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

// DropWhere removes the rows of a table that match a condition, in Chunks; args are the condition's, key
// is the columns that tell its rows apart. The condition is asked twice: PostgreSQL does not choose rows anew when it
// has waited for another transaction, and that may have changed one so that it matches no more. Rows that others
// hold at that moment may be left for the next call.
func DropWhere(ctx context.Context, d Database, table, key, condition string, args ...any) error {
	query := "DELETE FROM " + table + " WHERE " + condition + " AND (" + key + ") IN (SELECT " + key + " FROM " + table + " WHERE " + condition + " LIMIT ?)"
	twice := slices.Concat(args, args)
	return Chunks(ctx, d, func(tx Tx, limit int) (int, error) {
		n, err := tx.Exec(query, append(slices.Clip(twice), int64(limit))...)
		return int(n), err
	})
}

// nextChunk moves limit towards what takes chunkTarget, at most by a factor of two.
func nextChunk(limit int, took time.Duration) int {
	want := 2 * limit
	if took > 0 {
		want = min(want, int(float64(limit)*float64(chunkTarget)/float64(took)))
	}
	return min(max(want, limit/2, minChunk), MaxChunk)
}
