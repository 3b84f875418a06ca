package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mua/store"
)

// unload unloads texts, each with its subject's number.
func (h *house) unload(from, to int) (*store.Unloaded, error) {
	var batch []store.Landing
	for n := from; n < to; n++ {
		batch = append(batch, store.Landing{Import: h.stage(letter(fmt.Sprint("n", n), fmt.Sprintf("\nword%dx\n", n)))})
	}
	return h.Unload(context.Background(), ala, batch)
}

// TestUnloaded has three batches unloaded before the first lands: each lands by itself, a merge in between
// leaves their octets alone, and those of a batch that never lands go with the next one.
func TestUnloaded(t *testing.T) {
	t.Parallel()
	h := open(t)
	var all []*store.Unloaded
	for n := range 3 {
		u, err := h.unload(2*n, 2*n+2)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	if n := h.count("body"); n != 0 {
		t.Errorf("%d bodies have rows before they land", n)
	}
	merge := func() body.MergeResult {
		res, err := h.Segments().Merge(t.Context(), body.MergeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if res := merge(); res.Segments != 0 {
		t.Errorf("a merge emptied %d segments with unloaded letters", res.Segments)
	}
	if err := errors.Join(all[2].Land(t.Context()), all[0].Land(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, u := range all {
		u.Release()
		u.Release()
	}
	if res := merge(); res.Segments != 1 || res.Freed == 0 {
		t.Errorf("the octets of letters that never landed stay: %+v", res)
	}
	if err := h.File(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	got := h.subjects(store.Query{})
	slices.Sort(got)
	if !slices.Equal(got, []string{"n0", "n1", "n4", "n5"}) {
		t.Errorf("listed: %v", got)
	}
	h.mustRead("after the merge")
}

// TestUnloadFails has the tables refuse a batch: nothing of it is known, and the next lands.
func TestUnloadFails(t *testing.T) {
	t.Parallel()
	h := open(t)
	first, err := h.unload(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.unload(2, 4)
	if err != nil {
		t.Fatal(err)
	}
	over, stop := context.WithCancel(t.Context())
	stop()
	if err := first.Land(over); !errors.Is(err, context.Canceled) {
		t.Errorf("landed when it was over: %v", err)
	}
	first.Release()
	if err := errors.Join(second.Land(t.Context()), h.File(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	second.Release()
	if got := h.subjects(store.Query{}); len(got) != 2 || h.count("body") != 2 {
		t.Errorf("listed: %v, %d bodies", got, h.count("body"))
	}
}

// mustRead fails unless each letter that is listed can be read, and returns how many there are.
func (h *house) mustRead(when string) int {
	h.t.Helper()
	page, err := h.List(h.t.Context(), store.Query{})
	if err != nil {
		h.t.Fatalf("%s: %v", when, err)
	}
	for _, m := range page.Letters {
		r, size, err := h.Octets(h.t.Context(), m.ID)
		if err != nil {
			h.t.Fatalf("%s: letter %d: %v", when, m.ID, err)
		}
		b := make([]byte, size)
		if _, err := r.ReadAt(b, 0); err != nil || !strings.HasSuffix(string(b), "x\r\n") {
			h.t.Fatalf("%s: letter %d is %q, %v", when, m.ID, b, err)
		}
	}
	return len(page.Letters)
}

// TestUnloadedPowerCut has the disk lose power during each of its calls while every letter is unloaded before the
// one before it lands: what Land told is there, and nothing that did not land.
func TestUnloadedPowerCut(t *testing.T) {
	t.Parallel()
	for k := 1; ; k++ {
		fsys := disk.NewFault(uint64(k))
		h := &house{t: t, clock: newClock()}
		h.cfg = store.Config{Folder: t.TempDir(), Now: h.clock.Now, FS: fsys}
		fsys.CutAt(k)
		s, err := store.Open(t.Context(), h.cfg)
		told := 0
		if err == nil {
			h.Store = s
			told = h.landAhead(4)
			_ = s.Close() // without power
		}
		done := fsys.Calls() < k
		h.cfg.FS, h.Store = fsys.Reopen(uint64(k)), nil
		h.reopen()
		when := fmt.Sprint("cut at ", k)
		if n := h.mustRead(when); n != told {
			t.Fatalf("%s: %d letters, told were %d", when, n, told)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if done {
			t.Logf("%d calls", k-1)
			return
		}
	}
}

// landAhead lands letters, each when the next is unloaded, until the disk fails, and returns how many.
func (h *house) landAhead(letters int) (told int) {
	h.t.Helper()
	before, err := h.unload(0, 1)
	for n := 1; err == nil && n <= letters; n++ {
		var next *store.Unloaded
		next, err = h.unload(n, n+1)
		if landed := before.Land(h.t.Context()); landed != nil { // the tables lie on another disk
			h.t.Fatal(landed)
		}
		told++
		before.Release()
		before = next
	}
	if before != nil {
		before.Release()
	}
	return told
}
