package body_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/body/bodytest"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/message"
)

// promise is what a store has acknowledged before the power failed.
type promise struct {
	octets map[message.ID][]byte
	rows   *table
	staged map[message.ID][]byte // given to Commit, acknowledged or not
	events int                   // acknowledged by Flush or a later Commit
}

// script is a run with rotation, batches, large messages, journal events, and a
// restart in the middle. It ends at the first error.
func script(ctx context.Context, t *testing.T, fsys disk.FS, p *promise) error {
	for life := range 2 {
		s, err := body.OpenSegments(ctx, body.Config{FS: fsys, Locate: p.rows.locate, StoreID: "s", SegmentOctets: 6000, LargeOctets: 4096})
		if err != nil {
			return err
		}
		for i, sizes := range [][]int{{10}, {2000, 300}, {2500}, {900}, {1, 6000, 700}, {3000}, {3000}} {
			if err := commitBatch(ctx, t, s, p, sizes, uint64(life*100+i)); err != nil {
				return errors.Join(err, s.Close())
			}
			s.Append(body.Event{Kind: body.EventDelivered, ID: bodytest.NewID(t), UID: uint32(life*100 + i), Time: time.UnixMicro(1)})
			if i == 3 {
				if err := s.Flush(ctx); err != nil {
					return errors.Join(err, s.Close())
				}
				p.events = life*7 + i + 1
			}
		}
		if err := s.Close(); err != nil {
			return err
		}
		p.events = life*7 + 7
	}
	return nil
}

// commitBatch commits messages of the given sizes together.
func commitBatch(ctx context.Context, t *testing.T, s *body.Segments, p *promise, sizes []int, seed uint64) error {
	var recs []body.Record
	for i, size := range sizes {
		octets := bodytest.Octets(size, seed*10+uint64(i))
		st, err := bodytest.Stage(ctx, s, octets, int64(size))
		if err != nil {
			return err
		}
		defer st.Discard()
		id := bodytest.NewID(t)
		p.staged[id] = octets
		recs = append(recs, body.Record{ID: id, Staged: st})
	}
	locs, release, err := s.Commit(ctx, recs)
	if err != nil {
		return err
	}
	release()
	for i := range recs {
		p.rows.set(recs[i].ID, locs[i])
		p.octets[recs[i].ID] = p.staged[recs[i].ID]
	}
	return nil
}

// keptOn compares a file system after a power cut with what was promised.
func (p *promise) keptOn(t *testing.T, fsys disk.FS) error {
	t.Helper()
	s, err := body.OpenSegments(t.Context(), body.Config{FS: fsys, Locate: p.rows.locate, StoreID: "s"})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	for id, want := range p.octets {
		got, err := bodytest.Read(t.Context(), s, id, 0, -1)
		if err != nil {
			return fmt.Errorf("acknowledged body %s: %w", id, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("acknowledged body %s reads otherwise", id)
		}
	}
	all := scanAll(t, s)
	for id, found := range all.bodies {
		want, ok := p.staged[id]
		if !ok {
			return fmt.Errorf("scan found body %s, which never was", id)
		}
		got, err := readAt(t.Context(), s, id, found.Location)
		if err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("scanned body %s reads otherwise: %w", id, err)
		}
	}
	for id := range p.octets {
		if _, ok := all.bodies[id]; !ok {
			return fmt.Errorf("scan misses acknowledged body %s", id)
		}
	}
	if len(all.damage) > 0 {
		return fmt.Errorf("scan takes what was never acknowledged for damage: %+v", all.damage[0])
	}
	if len(all.events) < p.events {
		return fmt.Errorf("scan found %d events, want at least %d", len(all.events), p.events)
	}
	// The office opens again: it takes mail, and the next start finds that, too.
	id, loc := mustCommit(t, s, []byte("after the power came back"))
	if err := s.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	again, closeIt := opened(t, body.Config{FS: fsys, Locate: p.rows.locate})
	defer closeIt()
	if _, err := readAt(t.Context(), again, id, loc); err != nil {
		return fmt.Errorf("body stored after the cut: %w", err)
	}
	return nil
}

func newPromise() *promise {
	return &promise{octets: map[message.ID][]byte{}, staged: map[message.ID][]byte{}, rows: newTable()}
}

// The power fails at every call of the script, with several outcomes each.
func TestPowerCutAtEveryCall(t *testing.T) {
	t.Parallel()
	whole := disk.NewFault(1)
	p := newPromise()
	if err := script(t.Context(), t, whole, p); err != nil {
		t.Fatal(err)
	}
	if err := p.keptOn(t, whole.Reopen(1)); err != nil {
		t.Fatalf("without a cut: %v", err)
	}
	seeds := uint64(4)
	if testing.Short() {
		seeds = 2
	}
	calls := whole.Calls()
	if calls < 60 {
		t.Fatalf("the script makes %d calls only", calls)
	}
	for k := 1; k <= calls; k++ {
		fsys := disk.NewFault(uint64(k))
		fsys.CutAt(k)
		p := newPromise()
		if err := script(t.Context(), t, fsys, p); err == nil {
			t.Fatalf("cut at call %d: the script did not notice", k)
		}
		for seed := range seeds {
			if err := p.keptOn(t, fsys.Reopen(seed)); err != nil {
				t.Fatalf("cut at call %d of %d, seed %d: %v", k, calls, seed, err)
			}
		}
	}
}

// The power fails at every call while a merge runs: every body with a row stays
// readable, and the purged ones go with a later merge.
func TestPowerCutInMerge(t *testing.T) {
	t.Parallel()
	for k := 1; ; k++ {
		if cut := mergeWithCut(t, k); !cut {
			if k < 8 {
				t.Errorf("merge made %d calls only", k-1)
			}
			return
		}
	}
}

// mergeWithCut runs a merge whose power fails during its k-th call, and reports
// whether it came to that.
func mergeWithCut(t *testing.T, k int) (cut bool) {
	t.Helper()
	fsys := disk.NewFault(uint64(k))
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{body.Schema}); err != nil {
		t.Fatal(err)
	}
	config := body.Config{FS: fsys, DB: d, SegmentOctets: 8000, LargeOctets: 4096, Grace: time.Nanosecond}
	s, err := body.OpenSegments(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	live := fillAndForget(t, s, d)
	fsys.CutAt(fsys.Calls() + k)
	_, mergeErr := s.Merge(t.Context(), body.MergeOptions{})
	if _, err := s.Merge(t.Context(), body.MergeOptions{}); mergeErr == nil {
		mergeErr = err
	}
	cut = mergeErr != nil
	_ = s.Close() // the power is off, or not
	for seed := range uint64(4) {
		config.FS = fsys.Reopen(seed)
		after, closeIt := opened(t, config)
		for id, want := range live {
			got, err := bodytest.Read(t.Context(), after, id, 0, -1)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("cut at call %d, seed %d: body %s: %v", k, seed, id, err)
			}
		}
		if err := after.Check(t.Context(), func(f body.Finding) error { return fmt.Errorf("%+v", f) }); err != nil {
			t.Fatalf("cut at call %d, seed %d: check: %v", k, seed, err)
		}
		checkReplay(t, scanAll(t, after).events, fmt.Sprintf("cut at call %d, seed %d", k, seed))
		closeIt()
	}
	// The database knows of moves to segments as of one of these disks only; merge
	// there until nothing dead is left.
	config.FS = fsys.Reopen(3)
	after, closeIt := opened(t, config)
	defer closeIt()
	for range 3 {
		if _, err := after.Merge(t.Context(), body.MergeOptions{}); err != nil {
			t.Fatalf("cut at call %d: merge afterwards: %v", k, err)
		}
	}
	if all := scanAll(t, after); len(all.bodies) != len(live) {
		t.Fatalf("cut at call %d: after merges %d bodies are stored, want %d", k, len(all.bodies), len(live))
	}
	checkReplay(t, scanAll(t, after).events, fmt.Sprintf("cut at call %d, after merges", k))
	return cut
}

// fillAndForget stores messages in several segments with a journal event each,
// deletes the rows of every third with two more events, and returns the others.
func fillAndForget(t *testing.T, s *body.Segments, d db.Database) map[message.ID][]byte {
	t.Helper()
	live := map[message.ID][]byte{}
	for i := range 14 {
		octets := bodytest.Octets(1000+i, uint64(i))
		if i%6 == 5 {
			octets = bodytest.Octets(9000, uint64(i))
		}
		id, loc := mustCommit(t, s, octets)
		keepRow(t, d, id, loc)
		s.Append(body.Event{Kind: body.EventDelivered, ID: id, UID: uint32(i), Time: time.Now()})
		if i%3 == 2 {
			s.Append(body.Event{Kind: body.EventRemoved, ID: id, UID: uint32(i), Time: time.Now()},
				body.Event{Kind: body.EventPurged, ID: id, UID: uint32(i), Time: time.Now()})
			forgetRow(t, d, id)
		} else {
			live[id] = octets
		}
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return live
}

// checkReplay replays the events of fillAndForget: what was purged stays purged.
func checkReplay(t *testing.T, events []body.Event, when string) {
	t.Helper()
	last := map[uint32]body.EventKind{}
	for _, e := range events {
		last[e.UID] = e.Kind
	}
	for i := range uint32(14) {
		want := body.EventDelivered
		if i%3 == 2 {
			want = body.EventPurged
		}
		if last[i] != want {
			t.Fatalf("%s: entry %d ends with event %d, want %d", when, i, last[i], want)
		}
	}
}
