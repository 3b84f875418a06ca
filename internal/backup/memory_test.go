package backup_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/disk"
)

// many is a Source of n bodies that are made when they are read.
type many struct{ n int }

func (many) Kind() string                               { return "many" }
func (many) Origin() string                             { return "one" }
func (many) Facts() ([]byte, error)                     { return []byte("{}"), nil }
func (many) Sections(context.Context) ([]string, error) { return []string{"rows", "bodies"}, nil }

func (s many) Items(_ context.Context, section string, fn func(backup.Item) error) error {
	for i := range s.n {
		key := binary.BigEndian.AppendUint64(nil, uint64(i))
		it := backup.Item{Key: key, Data: bytes.Repeat(key, 12)}
		if section == "bodies" {
			it.Octets, it.Open = 600, func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(strings.NewReader(fmt.Sprintf("%600d", i))), nil
			}
		}
		if err := fn(it); err != nil {
			return err
		}
	}
	return nil
}

// heap is the octets in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemory makes, repeats, verifies and reads a backup of many items in memory that is
// bounded: packs and blocks, and some 100 octets an item for the index.
func TestMemory(t *testing.T) {
	const n = 30_000
	folder := t.TempDir()
	r := open(t, onDisk(t, folder), secret, nil)
	before := heap()
	var most int64
	watch := func(what string) {
		now := heap() - before
		most = max(most, now)
		if limit := int64(96<<20 + 100*n); now > limit {
			t.Errorf("%s: %d MiB in use, at most %d", what, now>>20, limit>>20)
		}
	}
	var report backup.Report
	for range 2 {
		var err error
		if report, err = r.Create(t.Context(), watched{many{n}, watch}, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if report.Items != 2*n || report.NewItems != 0 {
		t.Errorf("second backup: %+v", report)
	}
	sound(t, r)
	watch("verify")
	s, err := r.Snapshot(t.Context(), report.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	err = r.Items(t.Context(), s, "bodies", nil, nil, func(it backup.Stored) error {
		if i++; i%10_000 == 0 {
			watch("read")
		}
		return nil
	})
	if err != nil || i != n {
		t.Errorf("read %d items: %v", i, err)
	}
	t.Logf("%d MiB at most for %d items", most>>20, 2*n)
}

// onDisk is a folder of the real disk.
func onDisk(t *testing.T, folder string) backup.Target {
	t.Helper()
	files, err := disk.OS(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.Close() })
	return backup.NewFolder(files, ".")
}

// watched looks at the memory now and then.
type watched struct {
	many
	look func(string)
}

func (w watched) Items(ctx context.Context, section string, fn func(backup.Item) error) error {
	i := 0
	return w.many.Items(ctx, section, func(it backup.Item) error {
		if i++; i%10_000 == 0 {
			w.look(section)
		}
		return fn(it)
	})
}
