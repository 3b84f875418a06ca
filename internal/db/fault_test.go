package db_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"poczta.example/poczta/internal/db"
)

func TestDatabaseFull(t *testing.T) {
	t.Parallel()
	d, _ := openTable(t)
	limit := func(pages int) {
		d.OnWriter(func(run func(string) error) {
			if err := run(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
				t.Error(err)
			}
		})
	}
	limit(40)
	big := func(id int) func(db.Tx) error {
		return func(tx db.Tx) error {
			_, err := tx.Exec("INSERT INTO t (id, data) VALUES (?, ?)", id, make([]byte, 100_000))
			return err
		}
	}
	errs := together(t, d, insert(1), big(2), insert(3), big(4), insert(5), big(6), insert(7))
	stored := int64(0)
	for i, err := range errs {
		switch {
		case err == nil:
			stored++
		case !errors.Is(err, db.ErrFull) || i%2 == 0:
			t.Errorf("caller %d: got %v", i, err)
		}
	}
	if stored < 4 || stored > 5 {
		t.Errorf("%d callers were served, want the four small ones and at most one big one", stored)
	}
	wantRows(t, d, stored)
	limit(100_000)
	for i, err := range together(t, d, big(12), big(14)) {
		if err != nil {
			t.Errorf("with room again, caller %d: %v", i, err)
		}
	}
	wantRows(t, d, stored+2)
}

// smallDisk mounts a file system of its own, where that is allowed.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("skipped: a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "4m")
	d := openSQLite(t, db.SQLiteConfig{Path: filepath.Join(dir, "poczta.db"), CheckpointPages: 100})
	exec(t, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB) STRICT")
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(filler, zeros{}, 3<<20); err != nil {
		t.Fatal(err)
	}
	filler.Close()
	stored := fill(t, d, 0)
	wantRows(t, d, int64(len(stored)))
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		exec(t, d, "INSERT INTO t (id, data) VALUES (?, ?)", 1_000_000+i, make([]byte, 1000))
	}
	for id := range stored {
		if number(t, d, "SELECT COUNT(*) FROM t WHERE id = ?", id) != 1 {
			t.Errorf("row %d was reported stored and is gone", id)
		}
	}
	wantRows(t, d, int64(len(stored)+20))
}

// zeros is an endless source.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// fill writes from eight goroutines until each met ErrFull, and returns the ids
// whose Update succeeded.
func fill(t *testing.T, d *db.SQLite, from int) map[int]bool {
	t.Helper()
	stored := make(map[int]bool)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 10_000 {
				id := from + i*8 + w
				err := d.Update(context.Background(), func(tx db.Tx) error {
					_, err := tx.Exec("INSERT INTO t (id, data) VALUES (?, ?)", id, make([]byte, 2000))
					return err
				})
				if errors.Is(err, db.ErrFull) {
					return
				}
				if err != nil {
					t.Errorf("row %d: got %v, want ErrFull", id, err)
					return
				}
				mu.Lock()
				stored[id] = true
				mu.Unlock()
			}
			t.Error("the disk never became full")
		})
	}
	wg.Wait()
	return stored
}

func TestCommitFails(t *testing.T) {
	t.Parallel()
	d, _ := openTable(t)
	full := &db.Error{Engine: "sqlite", Code: "13", Err: db.ErrFull}
	d.SetCommit(func(func() error) error { return full })
	mine := errors.New("mine")
	errs := together(t, d, insert(1), insert(1), insert(2), func(db.Tx) error { return mine })
	for i, err := range errs {
		if !errors.Is(err, db.ErrFull) {
			t.Errorf("caller %d: got %v, want ErrFull: what it saw is undone", i, err)
		}
	}
	wantRows(t, d, 0)
	d.SetCommit(nil)
	for i, err := range together(t, d, insert(1), insert(2)) {
		if err != nil {
			t.Errorf("afterwards, caller %d: %v", i, err)
		}
	}
	wantRows(t, d, 2)
}

func TestSyncFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "poczta.db")
	d := openSQLite(t, db.SQLiteConfig{Path: path})
	exec(t, d, "CREATE TABLE t (id INTEGER PRIMARY KEY) STRICT")
	exec(t, d, "INSERT INTO t VALUES (1)")
	d.SetCommit(func(func() error) error { return db.ErrSyncFailed() })
	if err := d.Update(context.Background(), insert(2)); !errors.Is(err, db.ErrUnknownOutcome) {
		t.Errorf("got %v, want ErrUnknownOutcome", err)
	}
	d.SetCommit(nil)
	ran := false
	err := d.Update(context.Background(), func(tx db.Tx) error { ran = true; return nil })
	if err == nil || ran {
		t.Errorf("after a failed fsync: got %v, function ran: %v; want nothing written any more", err, ran)
	}
	wantRows(t, d, 1)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again := openSQLite(t, db.SQLiteConfig{Path: path})
	exec(t, again, "INSERT INTO t VALUES (3)")
	wantRows(t, again, 2)
}
