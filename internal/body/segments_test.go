package body_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/body/bodytest"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/message"
)

func TestSegmentsConform(t *testing.T) {
	t.Parallel()
	run := func(fsys func(t *testing.T) disk.FS, segment int64) func(*testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			bodytest.Run(t, func(t *testing.T) bodytest.Subject {
				rows := newTable()
				s := open(t, body.Config{FS: fsys(t), Locate: rows.locate, MaxOctets: 8 << 20, SegmentOctets: segment})
				return bodytest.Subject{
					Store: s,
					Keep:  func(_ *testing.T, id message.ID, loc body.Location) { rows.set(id, loc) },
					Forget: func(_ *testing.T, id message.ID) {
						rows.mu.Lock()
						defer rows.mu.Unlock()
						delete(rows.rows, id)
					},
				}
			})
		}
	}
	realDisk := func(t *testing.T) disk.FS {
		fsys, err := disk.OS(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { fsys.Close() })
		return fsys
	}
	t.Run("disk", run(realDisk, 0))
	t.Run("memory, short segments", run(func(*testing.T) disk.FS { return disk.NewFault(1) }, 20_000))
}

func TestSegmentsReopen(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	rows := newTable()
	config := body.Config{FS: fsys, Locate: rows.locate, StoreID: "one", SegmentOctets: 10_000}
	want := map[message.ID][]byte{}
	meta := body.Meta{
		Received: time.UnixMicro(1_700_000_000_123_456), ReversePath: "ala@example.org",
		Owners: []body.Owner{{Account: 1, Login: "ola", Mailbox: "INBOX", UniqueID: "u1", Flags: 3, Prefix: []byte("Return-Path: <>\r\n")}, {Account: -2}},
		Queued: []string{"a@b.example", "c@d.example"},
	}
	for range 3 {
		s, err := body.OpenSegments(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		for i, size := range []int{0, 500, 4000, 4000, 4000, 2 << 20} {
			octets := bodytest.Octets(size, uint64(i))
			st, err := bodytest.Stage(t.Context(), s, octets, 0)
			if err != nil {
				t.Fatal(err)
			}
			id := bodytest.NewID(t)
			locs, release, err := s.Commit(t.Context(), []body.Record{{ID: id, Head: []byte("H: 1\r\n"), Staged: st, Meta: meta}})
			if err != nil {
				t.Fatal(err)
			}
			release()
			rows.set(id, locs[0])
			want[id] = append([]byte("H: 1\r\n"), octets...)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, config)
	all := scanAll(t, s)
	if len(all.bodies) != len(want) || len(all.damage) != 0 || all.torn != 0 {
		t.Errorf("scan found %d bodies, %d damages, %d torn; want %d, 0, 0", len(all.bodies), len(all.damage), all.torn, len(want))
	}
	for id, octets := range want {
		got, err := bodytest.Read(t.Context(), s, id, 0, -1)
		if err != nil || !bytes.Equal(got, octets) {
			t.Errorf("body %s: %d octets, %v; want %d", id, len(got), err, len(octets))
		}
		found := all.bodies[id]
		loc, _ := rows.locate(t.Context(), id)
		if diff := cmp.Diff(body.Found{ID: id, Location: loc, HeadOctets: 6, Meta: meta}, found); diff != "" {
			t.Errorf("found (-want +got):\n%s", diff)
		}
	}
	config.StoreID = "two"
	if _, err := body.OpenSegments(t.Context(), config); err == nil || !strings.Contains(err.Error(), "store one") {
		t.Errorf("bodies of another store: %v", err)
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	rows := newTable()
	s := open(t, body.Config{FS: fsys, Locate: rows.locate})
	id := bodytest.NewID(t)
	var want []body.Event
	for i := range 5 {
		want = append(want, body.Event{Kind: body.EventKind(i + 1), ID: id, Account: int64(i), Login: "l", Mailbox: "INBOX/ą", UID: uint32(i), UniqueID: "u", Flags: 1 << 31, Time: time.UnixMicro(int64(i))})
	}
	s.Append(want[:2]...)
	before := s.Position()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	middle := s.Position()
	s.Append(want[2:]...)
	mustCommit(t, s, []byte("carries them"))
	if diff := cmp.Diff(want, scanAll(t, s).events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if before == middle {
		t.Error("position did not move")
	}
	var late []body.Event
	if err := s.Scan(t.Context(), middle, func(i body.Item) error { late = append(late, i.Events...); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[2:], late); diff != "" {
		t.Errorf("events behind a position (-want +got):\n%s", diff)
	}
}

func TestRunFlushesTheJournal(t *testing.T) {
	t.Parallel()
	flushed := make(chan struct{}, 1)
	s := open(t, body.Config{FS: disk.NewFault(1), Locate: newTable().locate, FlushEvery: time.Millisecond,
		Hooks: body.Hooks{Flushed: func(int, int64, time.Duration) { flushed <- struct{}{} }}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.Append(body.Event{Kind: body.EventRemoved, ID: bodytest.NewID(t), Time: time.UnixMicro(1)})
	<-flushed
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(scanAll(t, s).events); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

// A letter that contains the octets of a record, even of its own segment, adds
// nothing to what a scan finds, also behind damage.
func TestLetterThatContainsARecord(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	s := open(t, body.Config{FS: fsys, Locate: newTable().locate})
	id1, loc1 := mustCommit(t, s, []byte("first"))
	f, err := fsys.Open(pathOf(loc1))
	if err != nil {
		t.Fatal(err)
	}
	record := make([]byte, loc1.Stored)
	if _, err := f.ReadAt(record, loc1.Offset); err != nil {
		t.Fatal(err)
	}
	evil := append([]byte("Subject: hm\r\n\r\n"), bytes.Repeat(record, 20)...)
	id2, loc2 := mustCommit(t, s, evil)
	id3, _ := mustCommit(t, s, []byte("third"))
	if got := sortedIDs(scanAll(t, s).bodies); !cmp.Equal(got, inOrder(id1, id2, id3)) {
		t.Errorf("scan found %v", got)
	}
	if err := fsys.Flip(pathOf(loc2), loc2.Offset+30, 1); err != nil { // in the record header
		t.Fatal(err)
	}
	all := scanAll(t, s)
	if got := sortedIDs(all.bodies); !cmp.Equal(got, inOrder(id1, id3)) || len(all.damage) != 1 {
		t.Errorf("behind damage, scan found %v and %d damages", got, len(all.damage))
	}
}

func TestFlippedBits(t *testing.T) {
	t.Parallel()
	for name, offset := range map[string]int64{"magic": 0, "offset": 25, "length": 35, "id": 70, "metadata": 90, "octets": -100, "checksum": -1} {
		for _, size := range []int{5000, 200 << 10, 2 << 20} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				t.Parallel()
				fsys := disk.NewFault(1)
				d := dbtest.SQLite(t)
				if err := db.Migrate(t.Context(), d, []db.Component{body.Schema}); err != nil {
					t.Fatal(err)
				}
				s := open(t, body.Config{FS: fsys, DB: d})
				var ids []message.ID
				var locs []body.Location
				for range 3 {
					id, loc := mustCommit(t, s, bodytest.Octets(size, 1))
					keepRow(t, d, id, loc)
					ids, locs = append(ids, id), append(locs, loc)
				}
				at := locs[1].Offset + offset
				if offset < 0 {
					at += locs[1].Stored
				}
				if err := fsys.Flip(pathOf(locs[1]), at, 0x10); err != nil {
					t.Fatal(err)
				}
				for i, id := range ids {
					_, err := readAt(t.Context(), s, id, locs[i])
					if i == 1 != errors.Is(err, body.ErrDamaged) {
						t.Errorf("read of body %d: %v", i, err)
					}
				}
				var found []message.ID
				places := 0
				err := s.Check(t.Context(), func(f body.Finding) error {
					if f.ID.IsZero() {
						places++
					} else {
						found = append(found, f.ID)
					}
					return nil
				})
				if err != nil || places != 1 || !cmp.Equal(found, ids[1:2]) {
					t.Errorf("check: %v, %d places, bodies %v; want one place and %s", err, places, found, ids[1])
				}
			})
		}
	}
}

func TestMissingSegment(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{body.Schema}); err != nil {
		t.Fatal(err)
	}
	s, err := body.OpenSegments(t.Context(), body.Config{FS: fsys, DB: d})
	if err != nil {
		t.Fatal(err)
	}
	id, loc := mustCommit(t, s, []byte("gone soon"))
	large, largeLoc := mustCommit(t, s, bodytest.Octets(2<<20, 1))
	keepRow(t, d, id, loc)
	keepRow(t, d, large, largeLoc)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), id, 0, -1); !errors.Is(err, body.ErrClosed) {
		t.Errorf("open after close: %v", err)
	}
	for _, name := range []string{pathOf(loc), pathOf(largeLoc)} {
		if err := fsys.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, body.Config{FS: fsys, DB: d})
	if _, err := s.Open(t.Context(), id, 0, -1); !errors.Is(err, body.ErrDamaged) || !strings.Contains(err.Error(), loc.Segment) {
		t.Errorf("open: %v, want ErrDamaged and the segment's name", err)
	}
	var found []message.ID
	if err := s.Check(t.Context(), func(f body.Finding) error { found = append(found, f.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(found, inOrder(id, large)) {
		t.Errorf("check found %v", found)
	}
}

func TestFailedSync(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(7)
	rows := newTable()
	var failed []string
	s := open(t, body.Config{FS: fsys, Locate: rows.locate, Hooks: body.Hooks{Failed: func(name string, _ error) { failed = append(failed, name) }}})
	id1, loc1 := mustCommit(t, s, []byte("before"))
	s.Append(body.Event{Kind: body.EventDelivered, ID: id1, Time: time.UnixMicro(5)})
	fsys.FailAt(disk.OpSync, 1, syscall.EIO)
	st, err := bodytest.Stage(t.Context(), s, []byte("during"), 0)
	if err != nil {
		t.Fatal(err)
	}
	rec := body.Record{ID: bodytest.NewID(t), Staged: st}
	if _, release, err := s.Commit(t.Context(), []body.Record{rec}); !errors.Is(err, body.ErrFailed) || release != nil {
		t.Fatalf("commit with a failing fsync: %v, want ErrFailed", err)
	}
	if len(failed) != 1 || failed[0] != loc1.Segment {
		t.Errorf("failed segments %v, want %s", failed, loc1.Segment)
	}
	locs, release, err := s.Commit(t.Context(), []body.Record{rec})
	if err != nil {
		t.Fatalf("commit again: %v", err)
	}
	release()
	if locs[0].Segment == loc1.Segment {
		t.Error("the failed segment was written again")
	}
	for id, loc := range map[message.ID]body.Location{id1: loc1, rec.ID: locs[0]} {
		if _, err := readAt(t.Context(), s, id, loc); err != nil {
			t.Errorf("read %s: %v", id, err)
		}
	}
	if n := len(scanAll(t, s).events); n < 1 {
		t.Errorf("%d events survive the failure, want at least 1", n)
	}
	fsys.FailAt(disk.OpSync, 1, syscall.EIO) // a large message has its own file
	if _, err := bodytest.Commit(t.Context(), s, bodytest.NewID(t), nil, bodytest.Octets(2<<20, 3)); !errors.Is(err, body.ErrFailed) {
		t.Errorf("large message with a failing fsync: %v, want ErrFailed", err)
	}
	for _, name := range segmentsIn(t, fsys) {
		if strings.HasSuffix(name, ".big") {
			t.Errorf("segment %s of the refused message is still there", name)
		}
	}
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3000, 1500 << 10} {
		fsys := disk.NewFault(3)
		fsys.SetCapacity(4 << 20)
		s := open(t, body.Config{FS: fsys, Locate: newTable().locate, SegmentOctets: 100_000})
		want := map[message.ID]body.Location{}
		var err error
		for err == nil {
			id := bodytest.NewID(t)
			var loc body.Location
			if loc, err = bodytest.Commit(t.Context(), s, id, nil, bodytest.Octets(size, 1)); err == nil {
				want[id] = loc
			}
		}
		if !errors.Is(err, body.ErrFull) || len(want) < 2 {
			t.Fatalf("size %d: after %d messages: %v, want ErrFull", size, len(want), err)
		}
		s.Append(body.Event{Kind: body.EventPurged, ID: bodytest.NewID(t), Time: time.UnixMicro(1)})
		if err := s.Flush(t.Context()); err == nil {
			t.Logf("size %d: the journal still had room", size)
		}
		fsys.SetCapacity(8 << 20)
		id, loc := mustCommit(t, s, bodytest.Octets(size, 1))
		want[id] = loc
		all := scanAll(t, s)
		if !cmp.Equal(sortedIDs(all.bodies), sortedIDs(want)) || len(all.damage) != 0 || len(all.events) != 1 {
			t.Errorf("size %d: scan found %d bodies, %d events, damage %v; want %d, 1, none", size, len(all.bodies), len(all.events), all.damage, len(want))
		}
		for id, loc := range want {
			if _, err := readAt(t.Context(), s, id, loc); err != nil {
				t.Errorf("size %d: %v", size, err)
			}
		}
	}
}

func TestReserve(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(3)
	fsys.SetCapacity(10 << 20)
	s := open(t, body.Config{FS: fsys, Locate: newTable().locate, Reserve: 9 << 20})
	id, _ := mustCommit(t, s, bodytest.Octets(900<<10, 1))
	mustCommit(t, s, bodytest.Octets(900<<10, 1))
	if _, err := bodytest.Commit(t.Context(), s, bodytest.NewID(t), nil, []byte("x")); !errors.Is(err, body.ErrFull) {
		t.Errorf("commit into the reserve: %v, want ErrFull", err)
	}
	if _, err := bodytest.Commit(t.Context(), s, bodytest.NewID(t), nil, bodytest.Octets(2<<20, 1)); !errors.Is(err, body.ErrFull) {
		t.Errorf("large commit into the reserve: %v, want ErrFull", err)
	}
	s.Append(body.Event{Kind: body.EventRemoved, ID: id, Time: time.UnixMicro(1)})
	if err := s.Flush(t.Context()); err != nil {
		t.Errorf("journal into the reserve: %v", err)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	var used int64
	s := open(t, body.Config{FS: disk.NewFault(1), Locate: newTable().locate, MemoryOctets: 1 << 20, Hooks: body.Hooks{Staged: func(n int64) { used = n }}})
	var held []body.Staged
	var err error
	for range 1000 {
		var st body.Staged
		if st, err = bodytest.Stage(t.Context(), s, bodytest.Octets(10_000, 1), 0); err != nil {
			break
		}
		held = append(held, st)
	}
	if !errors.Is(err, body.ErrBudget) || len(held) < 50 {
		t.Fatalf("after %d stagings: %v, want ErrBudget", len(held), err)
	}
	for _, st := range held {
		st.Discard()
	}
	if used != 0 {
		t.Errorf("%d octets are still held", used)
	}
	mustCommit(t, s, bodytest.Octets(2<<20, 1))
	if used != 0 {
		t.Errorf("%d octets are held after a commit", used)
	}
}

// TestStalledMessages: messages that are half sent, or announced and not sent, take
// half of the memory at most, for what goes beyond 64 KiB lies in files; others are
// taken all the while, small ones without a file.
func TestStalledMessages(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	var used, most int64
	s := open(t, body.Config{FS: fsys, Locate: newTable().locate, MemoryOctets: 16 << 20, Hooks: body.Hooks{Staged: func(n int64) {
		used, most = n, max(n, most)
	}}})
	files := func() int {
		names, err := fsys.List(body.DefaultFolder + "/large")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	var held []body.Staged
	octets := bodytest.Octets(1<<20-1, 1)
	for i := range 60 {
		hint := int64(i%2) * (1 << 20)
		st, err := bodytest.Stage(t.Context(), s, octets[:100+i%3*400_000], hint)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		held = append(held, st)
	}
	if used > 12<<20 {
		t.Errorf("%d octets are held", used)
	}
	stalled := files()
	if stalled == 0 || stalled > 40 {
		t.Errorf("%d files, want one for each long message that found no memory", stalled)
	}
	for _, n := range []int{1, 4096, 64 << 10, 300_000, 1<<20 - 1} {
		mustCommit(t, s, octets[:n])
	}
	if n := files() - stalled; n != 2 {
		t.Errorf("%d of the other messages are in files, want the two longest", n)
	}
	for i, st := range held {
		got := make([]byte, st.Octets())
		if _, err := st.ReadAt(got, 0); err != nil || !bytes.Equal(got, octets[:len(got)]) || st.SHA256() != sha256.Sum256(got) {
			t.Errorf("message %d reads otherwise than written (%v)", i, err)
		}
		st.Discard()
	}
	if used != 0 || files() != 2 {
		t.Errorf("%d octets and %d files are left", used, files())
	}
	mustCommit(t, s, octets)
	if files() != 2 {
		t.Error("a message under 1 MiB lies in a file though memory is free")
	}
}

// TestStagedFilesAreBounded: messages that come in can't use up the open files.
func TestStagedFilesAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t, body.Config{FS: disk.NewFault(1), Locate: newTable().locate, MemoryOctets: 1 << 30})
	var held []body.Staged
	var err error
	for range 2000 {
		var st body.Staged
		if st, err = s.Stage(t.Context(), 2<<20); err != nil {
			break
		}
		held = append(held, st)
	}
	if !errors.Is(err, body.ErrBudget) || len(held) != 1000 {
		t.Errorf("after %d files: %v, want ErrBudget after 1000", len(held), err)
	}
	for _, st := range held {
		st.Discard()
	}
	mustCommit(t, s, bodytest.Octets(2<<20, 1))
}

// Metadata that does not fit in front of a large message moves the message.
func TestLargeWithManyOwners(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	s := open(t, body.Config{FS: fsys, Locate: newTable().locate})
	octets := bodytest.Octets(1<<20+5, 1)
	st, err := bodytest.Stage(t.Context(), s, octets, 0)
	if err != nil {
		t.Fatal(err)
	}
	meta := body.Meta{Owners: make([]body.Owner, 3000)}
	for i := range meta.Owners {
		meta.Owners[i] = body.Owner{Account: int64(i), Prefix: bodytest.Octets(500, uint64(i))}
	}
	id := bodytest.NewID(t)
	locs, release, err := s.Commit(t.Context(), []body.Record{{ID: id, Staged: st, Meta: meta}})
	if err != nil {
		t.Fatal(err)
	}
	release()
	if got, err := readAt(t.Context(), s, id, locs[0]); err != nil || !bytes.Equal(got, octets) {
		t.Errorf("read %d octets, %v", len(got), err)
	}
	if !reflect.DeepEqual(meta, scanAll(t, s).bodies[id].Meta) { // cmp takes a minute for 1.5 MB
		t.Error("metadata differs")
	}
	if n := len(segmentsIn(t, fsys)); n != 1 {
		t.Errorf("%d segments, want 1", n)
	}
}

// A message of 100 MiB goes in and out within a few MiB of memory.
func TestLargeMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 100 MiB")
	}
	fsys, err := disk.OS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	s := open(t, body.Config{FS: fsys, Locate: newTable().locate})
	const size = 100 << 20
	part := bodytest.Octets(64<<10, 1)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	st, err := s.Stage(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for range size / len(part) {
		if _, err := st.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	id := bodytest.NewID(t)
	locs, release, err := s.Commit(t.Context(), []body.Record{{ID: id, Staged: st}})
	if err != nil {
		t.Fatal(err)
	}
	release()
	r, err := s.OpenAt(t.Context(), id, locs[0], 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var n countWriter
	if _, err := io.Copy(&n, r); err != nil || n != size {
		t.Errorf("read %d octets, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if grew := after.TotalAlloc - before.TotalAlloc; grew > 8<<20 {
		t.Errorf("%d octets were allocated, want at most 8 MiB", grew)
	}
}

// countWriter counts octets.
type countWriter int64

func (c *countWriter) Write(p []byte) (int, error) {
	*c += countWriter(len(p))
	return len(p), nil
}
