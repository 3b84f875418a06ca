package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mailfile"
	"poczta.example/poczta/internal/mua/store"
)

// work adds, moves and completes letters until something fails; told are those whose Add returned.
func work(h *house) (told map[store.LetterID]string) {
	told = map[store.LetterID]string{}
	ctx := context.Background()
	for n := range 6 {
		text := letter(fmt.Sprint("n", n), fmt.Sprintf("\nword%dx\n", n))
		st, err := h.Body().Stage(ctx, 0)
		if err != nil {
			return told
		}
		defer st.Discard()
		if _, err := st.Write([]byte(text)); err != nil {
			return told
		}
		var id store.LetterID
		_, err = h.Add(ctx, ala, []mailbox.Import{{Mailbox: store.Inbox, Staged: st, Received: h.clock.Now()}}, func(tx db.Tx, _ int, a mailbox.Appended) (err error) {
			id, err = h.LetterOf(tx, ala, a.Entry.Number, a.Entry.UID)
			return err
		})
		if err != nil {
			return told
		}
		told[id] = text
		if n%2 == 0 {
			if _, err := h.Move(ctx, []store.LetterID{id}, store.Archive); err != nil {
				return told
			}
		}
		if n == 4 {
			if err := h.Mailboxes().Sweep(ctx); err != nil {
				return told
			}
		}
	}
	return told
}

// TestPowerCutAtEveryCall has the disk below the bodies lose power during each of its calls: what Add
// told is there, whole, and every letter that is listed can be read.
func TestPowerCutAtEveryCall(t *testing.T) {
	t.Parallel()
	for k := 1; ; k++ {
		fsys := disk.NewFault(uint64(k))
		h := &house{t: t, clock: newClock()}
		h.cfg = store.Config{Folder: t.TempDir(), Now: h.clock.Now, FS: fsys}
		fsys.CutAt(k)
		s, err := store.Open(t.Context(), h.cfg)
		var told map[store.LetterID]string
		if err == nil {
			h.Store = s
			told = work(h)
			_ = s.Close() // without power
		}
		done := fsys.Calls() < k
		h.cfg.FS, h.Store = fsys.Reopen(uint64(k)), nil
		h.reopen()
		if err := errors.Join(h.Reconcile(t.Context()), h.Catchup(t.Context(), nil)); err != nil {
			t.Fatalf("cut at %d: %v", k, err)
		}
		page, err := h.List(t.Context(), store.Query{})
		if err != nil || len(page.Letters) < len(told) || len(page.Letters) > len(told)+1 {
			t.Fatalf("cut at %d: %d letters, told were %d, %v", k, len(page.Letters), len(told), err)
		}
		for _, m := range page.Letters {
			var b bytes.Buffer
			if err := h.Raw(t.Context(), m.ID, &b); err != nil || told[m.ID] != "" && b.String() != told[m.ID] {
				t.Fatalf("cut at %d: letter %d is %q, %v", k, m.ID, b.String(), err)
			}
		}
		if len(told) > 0 && h.found("word0x") != "n0" {
			t.Fatalf("cut at %d: the first letter is not found", k)
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

// TestDiskFull has the disk run full: Add says so, nothing is half there, and it goes on when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	h := &house{t: t, clock: newClock()}
	h.cfg = store.Config{Folder: t.TempDir(), Now: h.clock.Now, FS: fsys}
	h.reopen()
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	h.add(ala, store.Inbox, letter("before", "\nx\n"))
	fsys.SetCapacity(fsys.Used() + 100<<10)
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		im := h.stage(letter(fmt.Sprint("n", n), "\n"+string(bytes.Repeat([]byte("0123456789\n"), 3000))))
		im.Mailbox = store.Inbox
		_, err = h.Add(t.Context(), ala, []mailbox.Import{im}, nil)
	}
	if !errors.Is(err, body.ErrFull) && !errors.Is(err, body.ErrFailed) {
		t.Fatalf("after %d letters: %v", n, err)
	}
	if got := len(h.subjects(store.Query{})); got != n {
		t.Errorf("%d letters are listed, %d were added", got, n)
	}
	fsys.SetCapacity(0)
	h.add(ala, store.Inbox, letter("after", "\nfresh\n"))
	h.index()
	if got := h.found("fresh"); got != "after" {
		t.Errorf("found %q", got)
	}
}

// TestRun has Run index what is added, by itself.
func TestRun(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.add(ala, store.Inbox, letter("before", "\nalpha\n"))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.add(ala, store.Inbox, letter("during", "\nalpha\n"))
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for h.found("alpha") != "before during" {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after two minutes a search finds %q", h.found("alpha"))
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestDamagedLetter has one letter's octets change on the disk: it is listed, told, and the others are indexed.
func TestDamagedLetter(t *testing.T) {
	t.Parallel()
	fsys := disk.NewFault(1)
	h := &house{t: t, clock: newClock()}
	h.cfg = store.Config{Folder: t.TempDir(), Now: h.clock.Now, FS: fsys}
	h.reopen()
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	ids := h.add(ala, store.Inbox, letter("good", "\nalpha\n"), letter("bad", "\nalpha beta\n"))
	names, err := fsys.List(store.SegmentFolder)
	if err != nil {
		t.Fatal(err)
	}
	flipped := false
	for _, name := range names {
		name = store.SegmentFolder + "/" + name
		b, err := disk.ReadFile(fsys, name, 1<<30)
		if err != nil {
			continue // a folder
		}
		if at := bytes.Index(b, []byte("alpha beta")); at >= 0 {
			if err := fsys.Flip(name, int64(at), 1); err != nil {
				t.Fatal(err)
			}
			flipped = true
		}
	}
	if !flipped {
		t.Fatal("the letter is in no segment")
	}
	h.index()
	if got := h.found("alpha"); got != "good" {
		t.Errorf("found %q", got)
	}
	if _, err := h.Letter(t.Context(), ids[1]); !errors.Is(err, body.ErrDamaged) {
		t.Errorf("the damaged letter: %v", err)
	}
	if got := h.subjects(store.Query{}); len(got) != 2 {
		t.Errorf("listed: %v", got)
	}
	var out bytes.Buffer
	w := mailfile.NewMboxWriter(&out)
	tr, err := h.Export(t.Context(), store.Query{}, w, nil)
	if err := errors.Join(err, w.Close()); err != nil || tr.Letters != 1 || tr.Failed != 1 || len(tr.Failures) != 1 || !bytes.Contains(out.Bytes(), []byte("Subject: good")) {
		t.Errorf("exported %+v, %v", tr, err)
	}
}
