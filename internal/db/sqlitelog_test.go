//go:build linux

package db_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"poczta.example/poczta/internal/db"
)

// A transaction larger than the page cache and the log's buffer reads back what it
// wrote, is undone whole, and stands whole after its commit.
func TestLogLargeTransaction(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "poczta.db")
	d := openSQLite(t, db.SQLiteConfig{Path: path, CacheKiB: 64, CheckpointPages: 200})
	exec(t, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT")
	undone := errors.New("undo")
	for _, end := range []error{undone, nil, undone} {
		err := d.Update(t.Context(), func(tx db.Tx) error {
			for id := range 1000 {
				if _, err := tx.Exec("INSERT INTO t (id, data) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET data = excluded.data", id, make([]byte, 3000+id%500)); err != nil {
					return err
				}
			}
			var n, octets int64
			if err := tx.QueryRow("SELECT COUNT(*), SUM(LENGTH(data)) FROM t").Scan(&n, &octets); err != nil {
				return err
			}
			if n != 1000 || octets != 3_249_500 {
				t.Errorf("the transaction sees %d rows of %d octets", n, octets)
			}
			return end
		})
		if !errors.Is(err, end) {
			t.Fatal(err)
		}
	}
	wantRows(t, d, 1000)
	again := copyOf(t, d, path)
	wantRows(t, again, 1000)
	var verdict string
	err := again.View(t.Context(), func(tx db.Tx) error {
		return tx.QueryRow("SELECT integrity_check FROM pragma_integrity_check").Scan(&verdict)
	})
	if err != nil || verdict != "ok" {
		t.Errorf("integrity check: %q, %v", verdict, err)
	}
}

// copyOf opens a copy of the files of a database at rest: what a crash leaves.
func copyOf(t *testing.T, d *db.SQLite, path string) *db.SQLite {
	t.Helper()
	dir := t.TempDir()
	d.OnWriter(func(func(string) error) {
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(path + suffix)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "copy.db"+suffix), b, 0o600)
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	return openSQLite(t, db.SQLiteConfig{Path: filepath.Join(dir, "copy.db")})
}

// When Update has returned, the commit stands in the files.
func TestLogIsWrittenAtCommit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "poczta.db")
	d := openSQLite(t, db.SQLiteConfig{Path: path})
	exec(t, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT")
	for n := range 20 {
		writeRows(t, d, n, 1)
		wantRows(t, copyOf(t, d, path), int64(n+1))
	}
}

// A log that does not sync is trusted no more.
func TestLogFailsToSync(t *testing.T) {
	t.Parallel()
	d := openSQLite(t, db.SQLiteConfig{Path: filepath.Join(t.TempDir(), "poczta.db")})
	exec(t, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT")
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0) // takes every write and can't be synced
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := unix.Dup3(int(null.Fd()), d.LogFD(), unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	insert := func(tx db.Tx) error {
		_, err := tx.Exec("INSERT INTO t (id, data) VALUES (1, x'')")
		return err
	}
	if err := d.Update(context.Background(), insert); !errors.Is(err, db.ErrUnknownOutcome) {
		t.Errorf("commit without a sync: %v, want ErrUnknownOutcome", err)
	}
	if err := d.Update(context.Background(), insert); err == nil {
		t.Error("a commit after a failed sync was taken")
	}
}
