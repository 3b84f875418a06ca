package daemon_test

import (
	"path/filepath"
	"testing"
	"time"

	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/rebuild"
)

func TestMergeDue(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, c := range []struct {
		name                 string
		daily, whole, purged time.Duration
		share                float64
		due                  bool
	}{
		{"just done", time.Hour, time.Hour, 0, 0, false},
		{"a day later", day, day, 0, 0.25, true},
		{"a month later", time.Hour, 29 * day, 0, 0, true},
		{"purged an hour ago", time.Hour, 2 * day, time.Hour, 0, false},
		{"purged yesterday", time.Hour, 2 * day, 20 * time.Hour, 0, true},
		{"a clock that went back", -day, time.Hour, 0, 0.25, true},
		{"a clock that went back a year", time.Hour, -365 * day, 0, 0, true},
	} {
		share, due := daemon.MergeDue(c.daily, c.whole, c.purged)
		if due != c.due || due && share != c.share {
			t.Errorf("%s: share %v, due %t; want %v, %t", c.name, share, due, c.share, c.due)
		}
	}
}

func TestPurgedMailIsMergedWithinADay(t *testing.T) {
	t.Parallel()
	c, _ := parse(t, t.TempDir(), "")
	r, err := daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	begin := time.Now().Truncate(time.Microsecond)
	merged := func(after time.Duration, want bool) {
		t.Helper()
		done, err := daemon.MergeIfDue(t.Context(), r, begin.Add(after))
		if err != nil || done != want {
			t.Errorf("after %s: merged %t, %v; want %t", after, done, err, want)
		}
	}
	merged(0, false)
	if err := r.NotePurge(t.Context(), begin.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := r.NotePurge(t.Context(), begin.Add(15*time.Hour)); err != nil { // the first one counts
		t.Fatal(err)
	}
	merged(20*time.Hour, false)
	merged(22*time.Hour, true)
	merged(23*time.Hour, false)
	merged(45*time.Hour, false)
	merged(46*time.Hour, true) // the daily one
}

func TestSevenSnapshotsAreKept(t *testing.T) {
	t.Parallel()
	c, _ := parse(t, t.TempDir(), "")
	r, err := daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	last := ""
	for i := range 9 {
		if last, err = r.Snapshot(t.Context(), begin.Add(time.Duration(i)*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := daemon.DropSnapshots(r); err != nil {
			t.Fatal(err)
		}
	}
	files, err := r.Snapshots()
	if err != nil || len(files) != 7 || files[6] != last {
		t.Errorf("%d snapshots are kept (%v), the newest %s, want 7 and %s", len(files), err, files[len(files)-1], last)
	}
	if _, err := daemon.Rebuild(t.Context(), c, daemon.RoomOptions{}, false, nil); err == nil {
		t.Error("a rebuild began while the folder was in use")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := daemon.Rebuild(t.Context(), c, daemon.RoomOptions{}, false, func(rebuild.Progress) {})
	if err != nil || filepath.Base(report.Snapshot) != filepath.Base(last) {
		t.Errorf("rebuild: %+v, %v; want it to begin with %s", report, err, last)
	}
	if report, err = daemon.Rebuild(t.Context(), c, daemon.RoomOptions{}, true, nil); err != nil || report.Snapshot != "" {
		t.Errorf("rebuild from scratch: %+v, %v", report, err)
	}
}
