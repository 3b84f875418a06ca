package post_test

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/post/posttest"
)

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchAccounts is over how many accounts the messages spread.
const benchAccounts = 100

// BenchmarkAccept accepts 4 KiB messages for one recipient each from 64 writers,
// durable, trace on.
func BenchmarkAccept(b *testing.B) {
	var batches, callers, running, committing atomic.Int64
	d, err := db.OpenSQLite(context.Background(), db.SQLiteConfig{Path: filepath.Join(b.TempDir(), "poczta.db"), Hooks: db.SQLiteHooks{
		Batch: func(n int, run, commit time.Duration) {
			batches.Add(1)
			callers.Add(int64(n))
			running.Add(int64(run))
			committing.Add(int64(commit))
		}}})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	if err := db.Migrate(context.Background(), d, posttest.Components()); err != nil {
		b.Fatal(err)
	}
	h := posttest.Open(b, d, posttest.Options{})
	text := posttest.Long(4096)
	const writers = 64
	var next atomic.Int64
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	used := cpu()
	for range writers {
		wg.Go(func() {
			var mine []time.Duration
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					break
				}
				began := time.Now()
				dl := h.Delivery(b, text, []envelope.AccountID{envelope.AccountID(n*7919%benchAccounts + 1)})
				if err := h.Post.Accept(context.Background(), dl); err != nil {
					b.Error(err)
					return
				}
				dl.Staged.Discard()
				mine = append(mine, time.Since(began))
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	b.StopTimer()
	used = cpu() - used
	slices.Sort(all)
	if len(all) > 0 {
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
	}
	b.ReportMetric(float64(callers.Load())/float64(max(1, batches.Load())), "accepts/batch")
	b.ReportMetric(float64(running.Load())/float64(b.N)/1000, "sql-µs/op")
	b.ReportMetric(float64(committing.Load())/float64(b.N)/1000, "commit-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "accepts/s")
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N)/1000, "cpu-µs/op")
}
