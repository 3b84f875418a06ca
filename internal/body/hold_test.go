package body_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"poczta.example/poczta/internal/body"
)

// TestHold reads bodies at places of an earlier moment, after they were purged and merged.
func TestHold(t *testing.T) {
	t.Parallel()
	s, d, fsys := openWithDB(t, body.Config{SegmentOctets: 8000, LargeOctets: 4096, Grace: time.Nanosecond})
	secret := bytes.Repeat([]byte("held "), 20)
	dead, loc := mustCommit(t, s, secret)
	keepRow(t, d, dead, loc)
	large := bytes.Repeat(secret, 90)
	deadLarge, locLarge := mustCommit(t, s, large)
	keepRow(t, d, deadLarge, locLarge)
	fillAndForget(t, s, d)
	release := s.Hold()
	forgetRow(t, d, dead)
	forgetRow(t, d, deadLarge)
	for range 3 {
		if _, err := s.Merge(t.Context(), body.MergeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		loc  body.Location
		id   [16]byte
		want []byte
	}{{loc, dead, secret}, {locLarge, deadLarge, large}} {
		rd, err := s.OpenAt(t.Context(), tt.id, tt.loc, 0, -1)
		if err != nil {
			t.Fatalf("a body that is held: %v", err)
		}
		got, err := io.ReadAll(rd)
		rd.Close()
		if err != nil || !bytes.Equal(got, tt.want) {
			t.Errorf("a body that is held has %d octets, want %d: %v", len(got), len(tt.want), err)
		}
	}
	release()
	release()
	if _, err := s.Merge(t.Context(), body.MergeOptions{}); err != nil {
		t.Fatal(err)
	}
	if holds(t, fsys, secret) {
		t.Error("purged octets stay on the disk after the release")
	}
}
