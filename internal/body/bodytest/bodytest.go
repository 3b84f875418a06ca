// Package bodytest is the conformance suite of body stores.
package bodytest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/message"
)

// Subject is a store under test and the table of its bodies.
type Subject struct {
	Store body.Store
	// Keep makes the row of a committed body, Forget removes it.
	Keep   func(t *testing.T, id message.ID, loc body.Location)
	Forget func(t *testing.T, id message.ID)
}

// Run runs the suite; open returns a new empty store whose messages may have 8 MiB
// at most, and whose memory budget is at least 16 MiB.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Subject){
		"sizes":      testSizes,
		"ranges":     testRanges,
		"dots":       testDots,
		"batch":      testBatch,
		"staging":    testStaging,
		"limits":     testLimits,
		"misuse":     testMisuse,
		"absent":     testAbsent,
		"cancelled":  testCancelled,
		"concurrent": testConcurrent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// NewID returns a new message id.
func NewID(t testing.TB) message.ID {
	t.Helper()
	id, err := message.NewID(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Octets returns n octets that follow from seed.
func Octets(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := mathrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 1})
	_, _ = r.Read(b) // never fails
	return b
}

// Stage stages octets in uneven parts.
func Stage(ctx context.Context, s body.Store, octets []byte, hint int64) (body.Staged, error) {
	st, err := s.Stage(ctx, hint)
	if err != nil {
		return nil, err
	}
	for part := 1; len(octets) > 0; part = part*3 + 1 {
		n := min(part, len(octets))
		if _, err := st.Write(octets[:n]); err != nil {
			st.Discard()
			return nil, err
		}
		octets = octets[n:]
	}
	return st, nil
}

// Commit stages and commits one message with its head, and releases its pin.
func Commit(ctx context.Context, s body.Store, id message.ID, head, octets []byte) (body.Location, error) {
	st, err := Stage(ctx, s, octets, 0)
	if err != nil {
		return body.Location{}, err
	}
	defer st.Discard()
	locs, release, err := s.Commit(ctx, []body.Record{{ID: id, Head: head, Staged: st}})
	if err != nil {
		return body.Location{}, err
	}
	release()
	return locs[0], nil
}

// Read returns what Open gives.
func Read(ctx context.Context, s body.Store, id message.ID, from, n int64) ([]byte, error) {
	r, err := s.Open(ctx, id, from, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// put commits and keeps a message.
func put(t *testing.T, s Subject, head, octets []byte) (message.ID, body.Location) {
	t.Helper()
	id := NewID(t)
	loc, err := Commit(t.Context(), s.Store, id, head, octets)
	if err != nil {
		t.Fatalf("commit %d octets: %v", len(octets), err)
	}
	s.Keep(t, id, loc)
	return id, loc
}

// expect fails the test unless the range of the body reads as want.
func expect(t *testing.T, s Subject, id message.ID, from, n int64, want []byte) {
	t.Helper()
	got, err := Read(t.Context(), s.Store, id, from, n)
	if err != nil {
		t.Fatalf("read [%d, +%d): %v", from, n, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("read [%d, +%d): got %d octets, want %d, or they differ", from, n, len(got), len(want))
	}
}

var head = []byte("Received: from a by b; Mon, 23 Nov 2026 03:35:00 +0000\r\n")

func testSizes(t *testing.T, s Subject) {
	for i, size := range []int{0, 1, 4 << 10, 64<<10 - 200, 64 << 10, 128<<10 - 1, 128 << 10, 256 << 10, 256<<10 + 1, 512 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 77} {
		octets := Octets(size, uint64(i))
		for _, h := range [][]byte{nil, head} {
			id, loc := put(t, s, h, octets)
			whole := append(bytes.Clone(h), octets...)
			if loc.Octets != int64(len(whole)) || loc.SHA256 != sha256.Sum256(octets) {
				t.Errorf("size %d: location says %d octets, want %d, or the hash differs", size, loc.Octets, len(whole))
			}
			expect(t, s, id, 0, -1, whole)
			opener, ok := s.Store.(body.OpenerAt)
			if !ok {
				continue
			}
			r, err := opener.OpenAt(t.Context(), id, loc, 0, -1)
			if err != nil {
				t.Fatalf("size %d: open at: %v", size, err)
			}
			var b bytes.Buffer
			if _, err := io.Copy(&b, r); err != nil || !bytes.Equal(b.Bytes(), whole) {
				t.Errorf("size %d: copied %d octets, want %d (%v)", size, b.Len(), len(whole), err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func testRanges(t *testing.T, s Subject) {
	for _, size := range []int{100, 70 << 10, 600 << 10, 2 << 20} {
		octets := Octets(size, 9)
		id, _ := put(t, s, head, octets)
		whole := append(bytes.Clone(head), octets...)
		all := int64(len(whole))
		for _, c := range []struct{ from, n int64 }{
			{0, 0}, {0, 1}, {0, 10}, {3, 70}, {0, all}, {0, all + 5}, {1, -1}, {all - 1, -1}, {all, -1}, {all + 9, -1},
			{all / 2, all}, {all / 2, 17}, {int64(len(head)), -1}, {all - 5, 5}, {all + 1, 1},
		} {
			from := min(c.from, all)
			to := all
			if c.n >= 0 {
				to = min(from+c.n, all)
			}
			expect(t, s, id, c.from, c.n, whole[from:to])
		}
	}
}

func testDots(t *testing.T, s Subject) {
	for text, want := range map[string]bool{
		"": false, ".": true, "a.": false, "a\r\n.b": true, "a\r\nb.\r\n": false, "a\r\n..\r\n": true, "\r\n\r\n .\r\n": false,
	} {
		for _, cut := range []int{0, len(text) / 2, max(len(text)-1, 0)} {
			st, err := s.Store.Stage(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err1 := io.WriteString(st, text[:cut])
			_, err2 := io.WriteString(st, text[cut:])
			locs, release, err3 := s.Store.Commit(t.Context(), []body.Record{{ID: NewID(t), Staged: st}})
			if err := errors.Join(err1, err2, err3); err != nil {
				t.Fatal(err)
			}
			release()
			if locs[0].Dots != want {
				t.Errorf("%q cut at %d: dots %v, want %v", text, cut, locs[0].Dots, want)
			}
		}
	}
}

func testBatch(t *testing.T, s Subject) {
	var recs []body.Record
	var wants [][]byte
	for i, size := range []int{10, 2 << 20, 0, 5000, 1200 << 10} {
		octets := Octets(size, uint64(i))
		st, err := Stage(t.Context(), s.Store, octets, int64(size))
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, body.Record{ID: NewID(t), Head: head, Staged: st})
		wants = append(wants, append(bytes.Clone(head), octets...))
	}
	locs, release, err := s.Store.Commit(t.Context(), recs)
	if err != nil {
		t.Fatal(err)
	}
	if len(locs) != len(recs) {
		t.Fatalf("%d locations, want %d", len(locs), len(recs))
	}
	for i := range recs {
		s.Keep(t, recs[i].ID, locs[i])
	}
	release()
	for i := range recs {
		expect(t, s, recs[i].ID, 0, -1, wants[i])
		recs[i].Staged.Discard()
		expect(t, s, recs[i].ID, 0, -1, wants[i])
	}
	if locs, _, err := s.Store.Commit(t.Context(), nil); err != nil || len(locs) != 0 {
		t.Errorf("empty commit: %d locations, %v", len(locs), err)
	}
}

func testStaging(t *testing.T, s Subject) {
	for _, size := range []int{0, 3000, 2<<20 + 5} {
		octets := Octets(size, 5)
		st, err := Stage(t.Context(), s.Store, octets, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(st, 0, int64(size)+10))
		if err != nil || !bytes.Equal(got, octets) {
			t.Errorf("size %d: read %d octets back, %v", size, len(got), err)
		}
		if diff := cmp.Diff(sha256.Sum256(octets), st.SHA256()); diff != "" || st.Octets() != int64(size) {
			t.Errorf("size %d: octets %d, hash %s", size, st.Octets(), diff)
		}
		if _, err := st.Write([]byte("more")); err != nil {
			t.Errorf("size %d: write after reading: %v", size, err)
		}
		st.Discard()
		st.Discard()
		if _, err := st.Write([]byte("x")); err == nil {
			t.Errorf("size %d: a discarded staging takes octets", size)
		}
	}
}

func testLimits(t *testing.T, s Subject) {
	if _, err := s.Store.Stage(t.Context(), 9<<20); !errors.Is(err, body.ErrTooLarge) {
		t.Errorf("stage of 9 MiB: %v, want ErrTooLarge", err)
	}
	st, err := s.Store.Stage(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Discard()
	part := Octets(1<<20, 1)
	for range 8 {
		if _, err := st.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.Write([]byte("x")); !errors.Is(err, body.ErrTooLarge) {
		t.Errorf("octet behind 8 MiB: %v, want ErrTooLarge", err)
	}
	if _, _, err := s.Store.Commit(t.Context(), []body.Record{{ID: NewID(t), Staged: st}}); err == nil {
		t.Error("a staging that failed was committed")
	}
}

func testMisuse(t *testing.T, s Subject) {
	st, err := Stage(t.Context(), s.Store, []byte("once"), 0)
	if err != nil {
		t.Fatal(err)
	}
	id := NewID(t)
	if _, _, err := s.Store.Commit(t.Context(), []body.Record{{Staged: st}}); err == nil {
		t.Error("a body without id was committed")
	}
	if _, _, err := s.Store.Commit(t.Context(), []body.Record{{ID: id, Staged: st, Head: make([]byte, body.MaxHeadOctets+1)}}); !errors.Is(err, body.ErrTooLarge) {
		t.Errorf("head too long: %v, want ErrTooLarge", err)
	}
	if _, release, err := s.Store.Commit(t.Context(), []body.Record{{ID: id, Staged: st}}); err != nil {
		t.Errorf("commit after refusals: %v", err)
	} else {
		release()
		release()
	}
	if _, release, err := s.Store.Commit(t.Context(), []body.Record{{ID: id, Staged: st}}); err == nil || release != nil {
		t.Errorf("a staging was committed twice: %v", err)
	}
}

func testAbsent(t *testing.T, s Subject) {
	if _, err := s.Store.Open(t.Context(), NewID(t), 0, -1); !errors.Is(err, body.ErrNotFound) {
		t.Errorf("unknown body: %v, want ErrNotFound", err)
	}
	id, _ := put(t, s, nil, Octets(300<<10, 1))
	s.Forget(t, id)
	if err := s.Store.Remove(t.Context(), []message.ID{id, NewID(t)}); err != nil {
		t.Errorf("remove: %v", err)
	}
	if _, err := s.Store.Open(t.Context(), id, 0, -1); !errors.Is(err, body.ErrNotFound) {
		t.Errorf("removed body: %v, want ErrNotFound", err)
	}
}

func testCancelled(t *testing.T, s Subject) {
	st, err := Stage(t.Context(), s.Store, []byte("x"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Discard()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Store.Stage(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("stage: %v, want context.Canceled", err)
	}
	if _, release, err := s.Store.Commit(ctx, []body.Record{{ID: NewID(t), Staged: st}}); !errors.Is(err, context.Canceled) || release != nil {
		t.Errorf("commit: %v, want context.Canceled", err)
	}
}

func testConcurrent(t *testing.T, s Subject) {
	const writers, each = 12, 15
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := roundTrip(t, s, uint64(w*each+i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// roundTrip commits a message and reads it; every 20th is a large one.
func roundTrip(t *testing.T, s Subject, seed uint64) error {
	octets := Octets(int(seed)*97%9000, seed)
	if seed%20 == 0 {
		octets = Octets(1<<20+int(seed), seed)
	}
	id := NewID(t)
	loc, err := Commit(t.Context(), s.Store, id, head, octets)
	if err != nil {
		return err
	}
	s.Keep(t, id, loc)
	got, err := Read(t.Context(), s.Store, id, int64(len(head)), -1)
	if err == nil && !bytes.Equal(got, octets) {
		err = fmt.Errorf("message %d reads otherwise", seed)
	}
	return err
}
