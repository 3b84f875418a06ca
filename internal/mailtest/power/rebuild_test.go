package power_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/rebuild"
)

// survivor runs the script, with a snapshot after one of its steps, to be rebuilt.
type survivor struct {
	runner
	data     string
	files    *disk.OSFS
	fault    *disk.Fault
	snapshot string // its name, "" for none
	taken    time.Time
	store    string
}

// survive runs the script with a snapshot after step at; 0 is none. The merges drop
// what the snapshot covers.
func survive(t *testing.T, at int) *survivor {
	t.Helper()
	d, path := openDB(t)
	s := &survivor{fault: disk.NewFault(1), data: filepath.Join(filepath.Dir(path), "data"), store: d.StoreID()}
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.files, err = disk.OS(s.data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.files.Close() })
	s.runner = *newRunner(t, s.fault, d)
	s.failed = func(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
	s.adjust = func(c *body.Config) { c.Covered = func(context.Context) (time.Time, error) { return s.taken, nil } }
	s.after = func(step int) {
		if step != at {
			return
		}
		if err := rebuild.Mark(t.Context(), d, s.segments.Settled()); err != nil {
			t.Fatal(err)
		}
		if err := d.Snapshot(t.Context(), filepath.Join(s.data, "snapshot.db")); err != nil {
			t.Fatal(err)
		}
		s.snapshot, s.taken = "snapshot.db", s.clock.Now()
	}
	if err := s.script(); err != nil {
		t.Fatal(err)
	}
	return s
}

// rebuild runs a rebuild, from the snapshot if it is asked for and there is one.
func (s *survivor) rebuild(t *testing.T, withSnapshot bool) rebuild.Report {
	t.Helper()
	c := s.config()
	if withSnapshot && s.snapshot != "" {
		c.Snapshots = []string{s.snapshot}
	}
	r, err := rebuild.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *survivor) config() rebuild.Config {
	return rebuild.Config{FS: s.files, Data: s.data, Database: "poczta.db", Components: components(), Segments: small(s.fault, storeID(s.store)), Now: s.clock.Now}
}

// compare holds the rebuilt store against what its users knew.
func (s *survivor) compare(t *testing.T, when string) {
	t.Helper()
	d, err := db.OpenSQLite(t.Context(), db.SQLiteConfig{Path: filepath.Join(s.data, "poczta.db"), ReadConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.StoreID() != s.store {
		t.Errorf("%s: store id is %s, was %s", when, d.StoreID(), s.store)
	}
	h, segments, err := openHouse(t, s.fault, d, s.clock)
	if err != nil {
		t.Fatal(err)
	}
	defer segments.Close()
	got, err := look(t.Context(), h)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if diff := s.now.differs(got); diff != "" {
		t.Errorf("%s: %s", when, diff)
	}
	if err := whole(t.Context(), segments); err != nil {
		t.Errorf("%s: %v", when, err)
	}
	all, err := h.Queue.List(t.Context(), queue.Filter{State: queue.Waiting}, queue.Page{})
	if err != nil || len(all) > 0 {
		t.Errorf("%s: %d queued messages would be sent (%v)", when, len(all), err)
	}
	counters(t, d, when)
}

// counters compares counters and references with what they count.
func counters(t *testing.T, d db.Database, when string) {
	t.Helper()
	for what, query := range map[string]string{
		"mailboxes with wrong counters": `SELECT COUNT(*) FROM mailbox m WHERE messages <> (SELECT COUNT(*) FROM entry e WHERE e.account = m.account AND e.number = m.number)
			OR octets <> (SELECT COALESCE(SUM(octets), 0) FROM entry e WHERE e.account = m.account AND e.number = m.number)
			OR retained <> (SELECT COALESCE(SUM(octets), 0) FROM retained e WHERE e.account = m.account AND e.number = m.number)
			OR uidnext <= (SELECT COALESCE(MAX(uid), 0) FROM entry e WHERE e.account = m.account AND e.number = m.number)`,
		"bodies with wrong references": `SELECT COUNT(*) FROM body b WHERE refs <> (SELECT COUNT(*) FROM entry e WHERE e.body = b.id) +
			(SELECT COUNT(*) FROM retained r WHERE r.body = b.id) + (SELECT COUNT(*) FROM queued_message q WHERE q.id = b.id)`,
		"entries without a body":   `SELECT COUNT(*) FROM entry e WHERE NOT EXISTS (SELECT 1 FROM body b WHERE b.id = e.body)`,
		"messages without a trace": `SELECT COUNT(*) FROM body b WHERE NOT EXISTS (SELECT 1 FROM trace t WHERE t.id = b.id)`,
		"scratch tables left":      `SELECT COUNT(*) FROM sqlite_schema WHERE name LIKE 'rebuild_%' AND name <> 'rebuild_mark'`,
	} {
		var n int64
		if err := d.View(context.Background(), func(tx db.Tx) error { return tx.QueryRow(query).Scan(&n) }); err != nil {
			t.Fatalf("%s: %s: %v", when, what, err)
		}
		if n > 0 {
			t.Errorf("%s: %d %s", when, n, what)
		}
	}
}

// TestRebuildAfterTheScript loses the database after deliveries, removals, restores,
// purges, merges and queueing, with a snapshot after each step in turn: everything is
// as it was, twice in a row, with the snapshot and without.
func TestRebuildAfterTheScript(t *testing.T) {
	t.Parallel()
	stride := 1
	if testing.Short() {
		stride = 8
	}
	steps := 1
	for at := 0; at < steps; at += stride {
		s := survive(t, at)
		steps = s.steps
		for _, withSnapshot := range []bool{true, false, true} {
			when := fmt.Sprintf("snapshot after step %d, used: %t", at, withSnapshot)
			if !withSnapshot && s.snapshot != "" {
				continue // merges have dropped what the snapshot covers
			}
			r := s.rebuild(t, withSnapshot)
			if r.Recovered != 0 || r.Damaged != 0 || r.Lost != 0 {
				t.Errorf("%s: %+v", when, r)
			}
			if withSnapshot && r.Snapshot != s.snapshot {
				t.Errorf("%s: began with %q", when, r.Snapshot)
			}
			s.compare(t, when)
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}
