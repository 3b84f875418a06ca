package db_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/mailtest/pgtest"
)

// BenchmarkSQLiteLatency measures Updates of eight paced callers while nothing
// else happens, while rows are purged in the low lane, and while the database is
// copied.
func BenchmarkSQLiteLatency(b *testing.B) {
	for _, test := range []struct {
		name string
		load func(ctx context.Context, d *db.SQLite, dir string) error
	}{
		{"quiet", func(ctx context.Context, d *db.SQLite, dir string) error { <-ctx.Done(); return ctx.Err() }},
		{"purge", purge},
		{"snapshot", func(ctx context.Context, d *db.SQLite, dir string) error {
			return d.Snapshot(ctx, filepath.Join(dir, "copy"+time.Now().Format("150405.000000")))
		}},
	} {
		b.Run(test.name, func(b *testing.B) {
			dir := b.TempDir()
			d := openSQLite(b, db.SQLiteConfig{Path: filepath.Join(dir, "poczta.db")})
			exec(b, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER NOT NULL, data BLOB NOT NULL) STRICT")
			exec(b, d, "CREATE INDEX t_a ON t (a)")
			prefill(b, d, 300_000)
			ctx, cancel := context.WithCancel(context.Background())
			var background sync.WaitGroup
			var chunks atomic.Int64
			background.Go(func() {
				for ctx.Err() == nil {
					if err := test.load(ctx, d, dir); err != nil {
						if !errors.Is(err, context.Canceled) {
							b.Error(err)
						}
						return
					}
					chunks.Add(1)
				}
			})
			b.ResetTimer()
			took := paced(b, d, 8, 2*time.Millisecond)
			b.StopTimer()
			cancel()
			background.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2])/1e6, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100])/1e6, "p99-ms")
			b.ReportMetric(float64(took[len(took)-1])/1e6, "worst-ms")
			b.ReportMetric(float64(chunks.Load()), "loads")
			b.ReportMetric(float64(number(b, d, "SELECT COUNT(*) FROM t WHERE id < 1000000")), "rows-left")
		})
	}
}

// purge removes all rows in the low lane.
func purge(ctx context.Context, d *db.SQLite, _ string) error {
	return db.Chunks(ctx, d, func(tx db.Tx, limit int) (int, error) {
		n, err := tx.Exec("DELETE FROM t WHERE id IN (SELECT id FROM t WHERE id < 1000000 ORDER BY id LIMIT ?)", limit)
		return int(n), err
	})
}

func prefill(b *testing.B, d *db.SQLite, rows int) {
	for i := 0; i < rows; i += 5000 {
		err := d.Update(context.Background(), func(tx db.Tx) error {
			for id := i; id < i+5000; id++ {
				if _, err := tx.Exec("INSERT INTO t VALUES (?, ?, ?)", id, id*7919%rows, make([]byte, 100)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// paced runs b.N Updates from some callers, each one pausing in between.
func paced(b *testing.B, d db.Database, callers int, pause time.Duration) []time.Duration {
	var mu sync.Mutex
	var all []time.Duration
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			tick := time.NewTicker(pause)
			defer tick.Stop()
			var took []time.Duration
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				<-tick.C
				start := time.Now()
				err := d.Update(context.Background(), func(tx db.Tx) error {
					_, err := tx.Exec("INSERT INTO t VALUES (?, ?, ?)", 1_000_000+n, n, make([]byte, 100))
					return err
				})
				if err != nil {
					b.Error(err)
					return
				}
				took = append(took, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	wg.Wait()
	return all
}

func BenchmarkPostgres(b *testing.B) {
	d := dbtest.OpenPostgres(b, pgtest.URL(b, pgtest.Options{}))
	exec(b, d, "CREATE TABLE t (id BIGINT PRIMARY KEY, a BIGINT NOT NULL)")
	b.Run("update/16callers", func(b *testing.B) {
		exec(b, d, "DELETE FROM t")
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
					if _, err := try(d, "INSERT INTO t (id, a) VALUES (?, ?)", n, n); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
	b.Run("view", func(b *testing.B) {
		for b.Loop() {
			number(b, d, "SELECT COUNT(*) FROM t WHERE id = ?", 1)
		}
	})
}
