package store_test

import (
	"fmt"
	"io"
	"slices"
	"testing"

	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
)

// TestSince lists letters in the order in which they came, without those that were removed.
func TestSince(t *testing.T) {
	t.Parallel()
	h := open(t)
	var ids []store.LetterID
	for n := range 5 {
		staged, err := h.Body().Stage(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(staged, fmt.Sprintf("Subject: %d\r\n\r\n", n)); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Add(t.Context(), ala, []mailbox.Import{{Staged: staged}}, nil); err != nil {
			t.Fatal(err)
		}
		staged.Discard()
	}
	since := func(after store.LetterID, limit int) (got []store.LetterID) {
		all, err := h.Since(t.Context(), after, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			got = append(got, m.ID)
		}
		return got
	}
	if ids = since(0, 10); len(ids) != 5 || !slices.IsSorted(ids) {
		t.Fatalf("got %v", ids)
	}
	if got := since(ids[1], 2); !slices.Equal(got, ids[2:4]) {
		t.Errorf("got %v, want %v", got, ids[2:4])
	}
	for range 2 {
		if _, err := h.Remove(t.Context(), ids[4:]); err != nil {
			t.Fatal(err)
		}
	}
	if got := since(ids[3], 10); len(got) != 0 {
		t.Errorf("got %v of what was removed", got)
	}
}
