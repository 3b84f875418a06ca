package body_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/body/bodytest"
	"poczta.example/poczta/internal/disk"
)

func TestCombineCRC(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 7, 64, 1000, 65537} {
		a, b := bodytest.Octets(n/2+3, 1), bodytest.Octets(n, 2)
		want := body.UpdateCRC(body.UpdateCRC(0, a), b)
		if got := body.CombineCRC(body.UpdateCRC(0, a), body.UpdateCRC(0, b), int64(n)); got != want {
			t.Errorf("%d octets: got %08x, want %08x", n, got, want)
		}
	}
}

// Optional fields of the future are skipped, required ones refused.
func TestUnknownMetadata(t *testing.T) {
	t.Parallel()
	want := body.Meta{ReversePath: "a@b", Queued: []string{"c@d"}}
	b := body.AppendField(body.EncodeMeta(want), 77, []byte("from the future"))
	got, err := body.DecodeMeta(b)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("optional field: %v, %s", err, diff)
	}
	if _, err := body.DecodeMeta(body.AppendField(b, 0x8000|77, nil)); !errors.Is(err, body.ErrNewer) {
		t.Errorf("required field: %v, want ErrNewer", err)
	}
	for i := 1; i < len(b); i++ {
		if _, err := body.DecodeMeta(b[:i]); err != nil && !errors.Is(err, body.ErrDamaged) {
			t.Errorf("cut at %d: %v, want ErrDamaged", i, err)
		}
	}
}

func FuzzMeta(f *testing.F) {
	f.Add(body.EncodeMeta(body.Meta{Received: time.UnixMicro(7), ReversePath: "a@b", Owners: []body.Owner{{Account: -1, Login: "l", Prefix: []byte("p")}}, Queued: []string{"q"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := body.DecodeMeta(b)
		if err != nil {
			if !errors.Is(err, body.ErrDamaged) && !errors.Is(err, body.ErrNewer) {
				t.Errorf("error %v", err)
			}
			return
		}
		again, err := body.DecodeMeta(body.EncodeMeta(m))
		if diff := cmp.Diff(m, again); err != nil || diff != "" {
			t.Errorf("read, written and read again: %v\n%s", err, diff)
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add(body.EncodeEvents([]body.Event{{Kind: body.EventMoved, Account: -5, UID: 1, Login: "l", Mailbox: "m", UniqueID: "u", Time: time.UnixMicro(1)}, {}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := body.DecodeEvents(b)
		if err != nil {
			if !errors.Is(err, body.ErrDamaged) {
				t.Errorf("error %v", err)
			}
			return
		}
		again, err := body.DecodeEvents(body.EncodeEvents(events))
		if diff := cmp.Diff(events, again); err != nil || diff != "" {
			t.Errorf("read, written and read again: %v\n%s", err, diff)
		}
	})
}

// segmentOctets returns a segment file with bodies, events and a seal.
func segmentOctets(t testing.TB) []byte {
	t.Helper()
	fsys := disk.NewFault(1)
	s, err := body.OpenSegments(t.Context(), body.Config{FS: fsys, Locate: newTable().locate})
	if err != nil {
		t.Fatal(err)
	}
	s.Append(body.Event{Kind: body.EventPurged, ID: bodytest.NewID(t), Time: time.UnixMicro(1)})
	for i := range 3 {
		mustCommit(t, s, bodytest.Octets(50*i, uint64(i)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := disk.ReadFile(fsys, segmentsIn(t, fsys)[0], 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every octet of a segment is covered by exactly one piece, whatever it holds.
func FuzzScan(f *testing.F) {
	whole := segmentOctets(f)
	f.Add(whole, uint16(0))
	f.Add(whole[:len(whole)-7], uint16(96))
	f.Add(bytes.Repeat(whole, 2), uint16(400))
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		b = bytes.Clone(b)
		body.FixSegment(b)
		body.FixRecord(b, int(at))
		covered, ok, err := body.ScanOctets(t.Context(), b)
		if err != nil || !ok {
			t.Errorf("covered %d, in order: %v, %v", covered, ok, err)
		}
		if len(b) >= 96 && covered != int64(len(b)-96) {
			t.Errorf("covered %d of %d octets", covered, len(b)-96)
		}
	})
}
