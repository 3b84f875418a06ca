package body_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/body/bodytest"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/message"
)

// openWithDB opens a store in memory over a real database.
func openWithDB(t *testing.T, config body.Config) (*body.Segments, db.Database, *disk.Fault) {
	t.Helper()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{body.Schema}); err != nil {
		t.Fatal(err)
	}
	fsys := disk.NewFault(1)
	config.FS, config.DB = fsys, d
	return open(t, config), d, fsys
}

// holds reports whether any segment holds the octets.
func holds(t *testing.T, fsys disk.FS, octets []byte) bool {
	t.Helper()
	for _, name := range segmentsIn(t, fsys) {
		b, err := disk.ReadFile(fsys, name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, octets) {
			return true
		}
	}
	return false
}

func TestMergeFreesDeadOctets(t *testing.T) {
	t.Parallel()
	s, d, fsys := openWithDB(t, body.Config{SegmentOctets: 8000, LargeOctets: 4096, Grace: time.Nanosecond})
	secret := []byte("the secret that must be gone")
	dead, loc := mustCommit(t, s, secret)
	keepRow(t, d, dead, loc)
	deadLarge, loc := mustCommit(t, s, bytes.Repeat(secret, 300))
	keepRow(t, d, deadLarge, loc)
	live := fillAndForget(t, s, d)
	forgetRow(t, d, dead)
	forgetRow(t, d, deadLarge)
	if !holds(t, fsys, secret) {
		t.Fatal("the secret was never stored")
	}
	before := fsys.Used()
	result, err := s.Merge(t.Context(), body.MergeOptions{Rate: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	if result.Segments < 3 || result.Freed <= 0 || result.Kept != 0 {
		t.Errorf("merge: %+v", result)
	}
	again, err := s.Merge(t.Context(), body.MergeOptions{}) // unlinks, and finds nothing more
	if err != nil || again != (body.MergeResult{}) {
		t.Errorf("second merge: %+v, %v", again, err)
	}
	if holds(t, fsys, secret) {
		t.Error("the secret is still on the disk")
	}
	if after := fsys.Used(); after >= before {
		t.Errorf("the disk holds %d octets, before the merge %d", after, before)
	}
	for id, want := range live {
		got, err := bodytest.Read(t.Context(), s, id, 0, -1)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("body %s: %v", id, err)
		}
	}
	all := scanAll(t, s)
	checkReplay(t, all.events, "after the merge")
	if len(all.bodies) != len(live) || len(all.damage) != 0 {
		t.Errorf("scan found %d bodies, want %d; damage %v", len(all.bodies), len(live), all.damage)
	}
}

func TestMergeKeepsPinned(t *testing.T) {
	t.Parallel()
	s, d, _ := openWithDB(t, body.Config{Grace: time.Nanosecond, LargeOctets: 4096})
	var recs []body.Record
	var wants [][]byte
	for i, size := range []int{100, 9000} {
		octets := bodytest.Octets(size, uint64(i))
		st, err := bodytest.Stage(t.Context(), s, octets, 0)
		if err != nil {
			t.Fatal(err)
		}
		recs, wants = append(recs, body.Record{ID: bodytest.NewID(t), Staged: st}), append(wants, octets)
	}
	locs, release, err := s.Commit(t.Context(), recs)
	if err != nil {
		t.Fatal(err)
	}
	staging, err := bodytest.Stage(t.Context(), s, bodytest.Octets(10_000, 1), 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the rows are not there yet, but may come
		if _, err := s.Merge(t.Context(), body.MergeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range recs {
		keepRow(t, d, recs[i].ID, locs[i])
	}
	release()
	for range 2 {
		if _, err := s.Merge(t.Context(), body.MergeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range recs {
		if got, err := bodytest.Read(t.Context(), s, recs[i].ID, 0, -1); err != nil || !bytes.Equal(got, wants[i]) {
			t.Errorf("body %d: %v", i, err)
		}
	}
	if _, release, err := s.Commit(t.Context(), []body.Record{{ID: bodytest.NewID(t), Staged: staging}}); err != nil {
		t.Errorf("commit of what was being staged during merges: %v", err)
	} else {
		release()
	}
}

func TestMergeDropsCoveredEvents(t *testing.T) {
	t.Parallel()
	covered := time.Time{}
	s, d, _ := openWithDB(t, body.Config{SegmentOctets: 3000, Grace: time.Nanosecond,
		Covered: func(context.Context) (time.Time, error) { return covered, nil }})
	live := fillAndForget(t, s, d)
	if _, err := s.Merge(t.Context(), body.MergeOptions{}); err != nil {
		t.Fatal(err)
	}
	all := len(scanAll(t, s).events)
	if want := 14 + 2*4; all != want {
		t.Fatalf("%d events without a snapshot, want %d", all, want)
	}
	covered = time.Now()
	other, loc := mustCommit(t, s, []byte("dies, so that there is something to merge"))
	keepRow(t, d, other, loc)
	forgetRow(t, d, other)
	for range 3 {
		if _, err := s.Merge(t.Context(), body.MergeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range scanAll(t, s).events {
		if _, ok := live[e.ID]; ok {
			all--
		}
	}
	if want := 22 - len(live); all != want {
		t.Errorf("events of bodies that live are missing: %d, want %d", all, want)
	}
}

func TestMergeLeavesDamageAlone(t *testing.T) {
	t.Parallel()
	s, d, fsys := openWithDB(t, body.Config{Grace: time.Nanosecond})
	live := fillAndForget(t, s, d)
	var bad message.ID
	for bad = range live {
		break
	}
	var loc body.Location
	err := d.View(t.Context(), func(tx db.Tx) (err error) { loc, err = body.Lookup(tx, bad); return err })
	if err != nil {
		t.Fatal(err)
	}
	if err := fsys.Flip(pathOf(loc), loc.Offset+loc.Stored-10, 1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		result, err := s.Merge(t.Context(), body.MergeOptions{})
		if err != nil || result.Kept != 1 {
			t.Errorf("merge: %+v, %v; want one segment kept", result, err)
		}
	}
	for id, want := range live {
		got, err := bodytest.Read(t.Context(), s, id, 0, -1)
		if id != bad && (err != nil || !bytes.Equal(got, want)) {
			t.Errorf("body %s: %v", id, err)
		}
	}
}

// Deliveries, reads, purges and merges at the same time.
func TestMergeUnderLoad(t *testing.T) {
	t.Parallel()
	s, d, _ := openWithDB(t, body.Config{SegmentOctets: 30_000, LargeOctets: 4096, Grace: time.Nanosecond, OpenFiles: 3})
	ctx, stop := context.WithCancel(t.Context())
	var workers, merger sync.WaitGroup
	merger.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.Merge(t.Context(), body.MergeOptions{}); err != nil {
				t.Errorf("merge: %v", err)
				return
			}
		}
	})
	for w := range 4 {
		workers.Go(func() { deliverAndPurge(t, s, d, uint64(w)) })
	}
	workers.Wait()
	stop()
	merger.Wait()
	if err := s.Check(t.Context(), func(f body.Finding) error { t.Errorf("finding %+v", f); return nil }); err != nil {
		t.Error(err)
	}
}

// deliverAndPurge stores messages, reads one of its own after each, and purges some.
func deliverAndPurge(t *testing.T, s *body.Segments, d db.Database, w uint64) {
	r := rand.New(rand.NewPCG(w, 1))
	var ids []message.ID
	var wants [][]byte
	for i := range 60 {
		octets := bodytest.Octets(r.IntN(6000), w*1000+uint64(i))
		st, err := bodytest.Stage(t.Context(), s, octets, 0)
		if err != nil {
			t.Error(err)
			return
		}
		id := bodytest.NewID(t)
		locs, release, err := s.Commit(t.Context(), []body.Record{{ID: id, Staged: st}})
		if err != nil {
			t.Error(err)
			return
		}
		keepRow(t, d, id, locs[0])
		release()
		ids, wants = append(ids, id), append(wants, octets)
		n := r.IntN(len(ids))
		rd, err := s.Open(t.Context(), ids[n], 0, -1)
		if err != nil {
			t.Errorf("open: %v", err)
			return
		}
		if got, err := io.ReadAll(rd); err != nil || !bytes.Equal(got, wants[n]) {
			t.Errorf("read: %d octets, %v", len(got), err)
		}
		rd.Close()
		if i%3 == 1 {
			n := r.IntN(len(ids))
			forgetRow(t, d, ids[n])
			ids, wants = append(ids[:n:n], ids[n+1:]...), append(wants[:n:n], wants[n+1:]...)
		}
	}
}
