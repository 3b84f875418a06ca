package db_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"poczta.example/poczta/internal/db"
)

// Sizes of the write-ahead log's file, https://sqlite.org/fileformat2.html §4.
const (
	walHeader = 32
	walFrame  = 24 + 4096
)

// disk is what lies on stable storage at some moment.
type disk struct {
	file, log []byte
	end       int // of the log's last commit
	rows      int64
}

// record copies the files of a database at rest.
func record(t *testing.T, d *db.SQLite, path string, rows int64) disk {
	t.Helper()
	file, err1 := os.ReadFile(path)
	log, err2 := os.ReadFile(path + "-wal")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return disk{file, log, walHeader + int(d.LogPages())*walFrame, rows}
}

// writeRows commits n rows in a transaction, from id first.
func writeRows(t *testing.T, d *db.SQLite, first, n int) {
	t.Helper()
	err := d.Update(context.Background(), func(tx db.Tx) error {
		for i := range n {
			if _, err := tx.Exec("INSERT INTO t (id, data) VALUES (?, ?)", first+i, bytes.Repeat([]byte{byte(first + i)}, 3000)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPowerLoss cuts the log at places after a commit that was reported, while
// the next commit is being written: the first must be there, whole; the second as
// well or not at all.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		before     int // transactions before the ones looked at
		checkpoint int // pages
	}{
		{"log never emptied", 3, 1 << 20},
		{"log used anew", 60, 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "poczta.db")
			d := openSQLite(t, db.SQLiteConfig{Path: path, CheckpointPages: test.checkpoint})
			exec(t, d, "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT")
			rows := 0
			for range test.before {
				writeRows(t, d, rows, 2)
				rows += 2
			}
			var first, second disk
			for range 100 { // until no checkpoint comes between
				d.SettleLog(20)
				writeRows(t, d, rows, 2)
				first = record(t, d, path, int64(rows+2))
				writeRows(t, d, rows+2, 2)
				second = record(t, d, path, int64(rows+4))
				rows += 4
				if bytes.Equal(first.file, second.file) && second.end > first.end {
					break
				}
			}
			if !bytes.Equal(first.file, second.file) || second.end <= first.end {
				t.Fatalf("a checkpoint always came between: log ends at %d, then at %d", first.end, second.end)
			}
			if test.checkpoint < 1000 && len(first.log) <= second.end {
				t.Fatalf("log has %d octets, its last commit ends at %d: it was not used anew", len(first.log), second.end)
			}
			cutEverywhere(t, first, second)
		})
	}
}

// cutEverywhere tries cuts between two commits, with three kinds of litter behind.
func cutEverywhere(t *testing.T, first, second disk) {
	t.Helper()
	cuts := []int{first.end, first.end + 1, second.end - 1, second.end}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for cut := first.end + r.IntN(251); cut < second.end; cut += 251 { // other octets each time
		cuts = append(cuts, cut)
	}
	for i, cut := range cuts {
		log := bytes.Clone(second.log[:cut])
		tail := make([]byte, len(second.log)-cut)
		switch i % 4 {
		case 1: // the file was extended, its octets not written
			log = append(log, tail...)
		case 2: // what lay there before
			if len(first.log) > cut {
				log = append(log, first.log[cut:]...)
			}
		case 3: // sectors written out of order
			copy(tail, second.log[cut:])
			for at := 0; at < len(tail); at += 512 {
				if at == 0 || r.IntN(2) == 0 {
					clear(tail[at:min(at+512, len(tail))])
				}
			}
			log = append(log, tail...)
		}
		want := []int64{first.rows}
		if cut == second.end {
			want = []int64{second.rows}
		}
		recoverAndCount(t, second.file, log, cut-first.end, want)
	}
}

// recoverAndCount opens what is on the disk and looks at it.
func recoverAndCount(t *testing.T, file, log []byte, cut int, want []int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "poczta.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"-wal", log, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := db.OpenSQLite(context.Background(), db.SQLiteConfig{Path: path})
	if err != nil {
		t.Fatalf("cut %d octets after the commit: %v", cut, err)
	}
	defer d.Close()
	rows := number(t, d, "SELECT COUNT(*) FROM t")
	whole := number(t, d, "SELECT COUNT(*) FROM t WHERE LENGTH(data) = 3000")
	highest := number(t, d, "SELECT MAX(id) FROM t")
	found := false
	for _, n := range want {
		found = found || n == rows
	}
	if !found || whole != rows || highest != rows-1 {
		t.Errorf("cut %d octets after the commit: got %d rows, %d whole, the last %d; want %v", cut, rows, whole, highest, want)
	}
}
