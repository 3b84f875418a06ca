package db_test

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
)

// openSQLite opens a database in a folder of the test.
func openSQLite(tb testing.TB, cfg db.SQLiteConfig) *db.SQLite {
	tb.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(tb.TempDir(), "poczta.db")
	}
	d, err := db.OpenSQLite(context.Background(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return d
}

// exec runs one statement in an Update and fails the test if that fails.
func exec(tb testing.TB, d db.Database, query string, args ...any) {
	tb.Helper()
	err := d.Update(context.Background(), func(tx db.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// number reads one integer.
func number(tb testing.TB, d db.Database, query string, args ...any) int64 {
	tb.Helper()
	var n int64
	err := d.View(context.Background(), func(tx db.Tx) error {
		return tx.QueryRow(query, args...).Scan(&n)
	})
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func BenchmarkSQLiteUpdate(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(map[int]string{1: "1caller", 64: "64callers"}[callers], func(b *testing.B) {
			var batches, sum atomic.Int64
			var run, commit atomic.Int64
			d := openSQLite(b, db.SQLiteConfig{Hooks: db.SQLiteHooks{Batch: func(n int, r, c time.Duration) {
				batches.Add(1)
				sum.Add(int64(n))
				run.Add(int64(r))
				commit.Add(int64(c))
			}}})
			exec(b, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER NOT NULL, b TEXT NOT NULL, c BLOB NOT NULL) STRICT")
			blob := make([]byte, 100)
			b.ReportAllocs()
			b.ResetTimer()
			var next atomic.Int64
			var worst atomic.Int64
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						start := time.Now()
						err := d.Update(context.Background(), func(tx db.Tx) error {
							_, err := tx.Exec("INSERT INTO t (id, a, b, c) VALUES (?, ?, ?, ?)", i, i*2, "a line of text", blob)
							return err
						})
						if err != nil {
							b.Error(err)
							return
						}
						took := int64(time.Since(start))
						for old := worst.Load(); took > old && !worst.CompareAndSwap(old, took); old = worst.Load() {
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
			b.ReportMetric(float64(sum.Load())/float64(batches.Load()), "callers/batch")
			b.ReportMetric(float64(run.Load())/float64(sum.Load()), "run-ns/caller")
			b.ReportMetric(float64(commit.Load())/float64(batches.Load())/1e3, "commit-µs")
			b.ReportMetric(float64(worst.Load())/1e6, "worst-ms")
		})
	}
}

func BenchmarkSQLiteView(b *testing.B) {
	d := openSQLite(b, db.SQLiteConfig{})
	exec(b, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER NOT NULL, b TEXT NOT NULL) STRICT")
	for i := range 1000 {
		exec(b, d, "INSERT INTO t VALUES (?, ?, ?)", i, i, "a line of text")
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		var a int64
		var s string
		err := d.View(context.Background(), func(tx db.Tx) error {
			return tx.QueryRow("SELECT a, b FROM t WHERE id = ?", i%1000).Scan(&a, &s)
		})
		if err != nil || a != int64(i%1000) {
			b.Fatal(a, err)
		}
	}
}
