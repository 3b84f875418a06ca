package body_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/body/bodytest"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/message"
)

// sizeOf returns the length of a location's segment.
func sizeOf(t *testing.T, fsys disk.FS, loc body.Location) int64 {
	t.Helper()
	st, err := fsys.Stat(pathOf(loc))
	if err != nil {
		t.Fatal(err)
	}
	return st.Size
}

// A segment grows in few steps, each at most as long as the segment was; a seal
// takes off what was written ahead.
func TestSegmentIsWrittenAhead(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	config := body.Config{FS: fsys, Locate: newTable().locate}
	s := open(t, config)
	var ids []message.ID
	var loc body.Location
	steps, size := 0, int64(0)
	for range 300 {
		var id message.ID
		id, loc = mustCommit(t, s, bodytest.Octets(1000, 1))
		ids = append(ids, id)
		now := sizeOf(t, fsys, loc)
		if end := loc.Offset + loc.Stored; now < end || now > 2*end {
			t.Fatalf("segment has %d octets, its records end at %d", now, end)
		}
		if now != size {
			steps, size = steps+1, now
		}
	}
	if steps > 12 {
		t.Errorf("the length of the segment changed %d times in 300 commits", steps)
	}

	// The process dies: nothing is sealed.
	crashed := config
	crashed.FS = fsys.Reopen(1)
	all := scanAll(t, open(t, crashed))
	if !cmp.Equal(sortedIDs(all.bodies), inOrder(ids...)) || len(all.damage) > 0 || all.torn > 0 {
		t.Errorf("scan found %d bodies, damage %v, %d torn; want %d, none, 0", len(all.bodies), all.damage, all.torn, len(ids))
	}

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if end, have := loc.Offset+loc.Stored, sizeOf(t, fsys, loc); have < end || have > end+200 {
		t.Errorf("sealed segment has %d octets, its bodies end at %d", have, end)
	}
	all = scanAll(t, open(t, config))
	if !cmp.Equal(sortedIDs(all.bodies), inOrder(ids...)) || len(all.damage) > 0 || all.torn > 0 {
		t.Errorf("after the seal, scan found %d bodies, damage %v, %d torn", len(all.bodies), all.damage, all.torn)
	}
}

// What is written ahead takes nothing from mail: neither the last octets of a full
// disk, nor the reserve.
func TestAheadOnFullDisk(t *testing.T) {
	t.Parallel()
	for name, reserve := range map[string]int64{"no reserve": 0, "reserve": 100_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fsys := disk.NewFault(1)
			fsys.SetCapacity(1_000_000)
			s := open(t, body.Config{FS: fsys, Locate: newTable().locate, Reserve: reserve})
			var ids []message.ID
			stored := int64(0)
			for {
				id := bodytest.NewID(t)
				loc, err := bodytest.Commit(t.Context(), s, id, nil, bodytest.Octets(1000, 1))
				if err != nil {
					break
				}
				ids, stored = append(ids, id), stored+loc.Stored
			}
			if stored < 990_000-reserve {
				t.Errorf("%d octets of mail were taken, a disk of 1,000,000 with a reserve of %d has room for more", stored, reserve)
			}
			if all := scanAll(t, s); !cmp.Equal(sortedIDs(all.bodies), inOrder(ids...)) || len(all.damage) > 0 {
				t.Errorf("scan found %d bodies, damage %v; want %d, none", len(all.bodies), all.damage, len(ids))
			}
		})
	}
}

// Zeros in place of a large body are damage, not an end.
func TestZerosInLargeBody(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	s := open(t, body.Config{FS: fsys, Locate: newTable().locate})
	_, loc := mustCommit(t, s, bodytest.Octets(2<<20, 1))
	f, err := fsys.OpenAppend(pathOf(loc))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, loc.Stored), loc.Offset); err != nil {
		t.Fatal(err)
	}
	if all := scanAll(t, s); len(all.damage) != 1 || all.torn != 0 {
		t.Errorf("scan found %d damages and %d torn ends, want 1 and 0", len(all.damage), all.torn)
	}
}
