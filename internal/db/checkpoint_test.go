package db_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
)

// TestLogStaysShort writes without a pause while others read without a pause: the
// log must be used anew all the same.
func TestLogStaysShort(t *testing.T) {
	t.Parallel()
	const pages, rounds = 50, 1000
	var checkpoints atomic.Int64
	path := filepath.Join(t.TempDir(), "poczta.db")
	d := openSQLite(t, db.SQLiteConfig{Path: path, CheckpointPages: pages, Hooks: db.SQLiteHooks{
		Checkpoint: func(int, int, time.Duration) { checkpoints.Add(1) },
	}})
	exec(t, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT")
	done := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					number(t, d, "SELECT COUNT(*) FROM t WHERE id < 100")
				}
			}
		})
	}
	var next atomic.Int64
	for range 4 {
		writers.Go(func() {
			for n := next.Add(1); n <= rounds; n = next.Add(1) {
				err := d.Update(context.Background(), func(tx db.Tx) error {
					_, err := tx.Exec("INSERT INTO t (id, data) VALUES (?, ?)", n, make([]byte, 5000))
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	wantRows(t, d, rounds)
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	most := int64(hugeLog*pages*walFrame) + 8<<20
	if info.Size() > most {
		t.Errorf("the log grew to %d octets, want at most %d", info.Size(), most)
	}
	t.Logf("log of %d octets after %d octets of rows, %d checkpoints", info.Size(), rounds*5000, checkpoints.Load())
	if checkpoints.Load() == 0 {
		t.Error("no checkpoint was made")
	}
}

// hugeLog is the engine's limit, as a multiple of CheckpointPages.
const hugeLog = 16

// TestLongReadDoesNotStopWriting holds one snapshot while the log becomes longer
// than its limit.
func TestLongReadDoesNotStopWriting(t *testing.T) {
	t.Parallel()
	d := openSQLite(t, db.SQLiteConfig{CheckpointPages: 10})
	exec(t, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT")
	err := d.View(context.Background(), func(tx db.Tx) error {
		var before, after int64
		if err := tx.QueryRow("SELECT COUNT(*) FROM t").Scan(&before); err != nil {
			return err
		}
		for i := range 20 {
			writeRows(t, d, i*2, 2)
		}
		if err := tx.QueryRow("SELECT COUNT(*) FROM t").Scan(&after); err != nil {
			return err
		}
		if after != before {
			t.Errorf("the snapshot moved from %d rows to %d", before, after)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantRows(t, d, 40)
}

// counted counts what is logged.
type counted struct{ n atomic.Int64 }

func (c *counted) Enabled(context.Context, slog.Level) bool  { return true }
func (c *counted) Handle(context.Context, slog.Record) error { c.n.Add(1); return nil }
func (c *counted) WithAttrs([]slog.Attr) slog.Handler        { return c }
func (c *counted) WithGroup(string) slog.Handler             { return c }

// TestHugeLogWaitsForReaders lets a stuck reader keep the log in use beyond its
// limit: writing stops for a moment, not for ever and not again within a minute,
// and the log is short again once the reader has left.
func TestHugeLogWaitsForReaders(t *testing.T) {
	t.Parallel()
	const pages = 10
	var waits counted
	start := time.Now()
	d := openSQLite(t, db.SQLiteConfig{CheckpointPages: pages, Logger: slog.New(&waits)})
	exec(t, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT")
	begun, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		d.View(context.Background(), func(tx db.Tx) error {
			var n int64
			if err := tx.QueryRow("SELECT COUNT(*) FROM t").Scan(&n); err != nil {
				t.Error(err)
			}
			close(begun)
			<-release
			return nil
		})
	})
	<-begun
	id := 0
	for d.LogPages() < (hugeLog+4)*pages {
		writeRows(t, d, id, 2)
		id += 2
	}
	for range 20 {
		writeRows(t, d, id, 2)
		id += 2
	}
	if n := waits.n.Load(); n > 1+int64(time.Since(start)/time.Minute) {
		t.Errorf("writing stopped %d times within %v", n, time.Since(start))
	}
	close(release)
	wg.Wait()
	for range 2000 {
		writeRows(t, d, id, 2)
		id += 2
		if d.LogPages() < hugeLog*pages/2 {
			wantRows(t, d, int64(id))
			return
		}
	}
	t.Errorf("log still has %d pages", d.LogPages())
}
