package store_test

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mailfile"
	"poczta.example/poczta/internal/mua/store"
)

// openMeanwhile opens a store that does something, once it was set, between a look at where letters lie and what is done to
// them there: then the store asks for the name of their account.
func openMeanwhile(t *testing.T) (h *house, meanwhile func(func())) {
	t.Helper()
	h = open(t)
	var do func()
	h.cfg.Login = func(envelope.AccountID) string {
		if now := do; now != nil {
			do = nil
			now()
		}
		return ""
	}
	h.reopen()
	return h, func(f func()) { do = f }
}

func (h *house) move(id store.LetterID, folder string) {
	h.t.Helper()
	if n, err := h.Move(h.t.Context(), []store.LetterID{id}, folder); n != 1 || err != nil {
		h.t.Fatalf("moved %d letters to %s: %v", n, folder, err)
	}
}

// lies fails unless a letter lies in a folder.
func (h *house) lies(id store.LetterID, folder string) {
	h.t.Helper()
	if m, err := h.Summary(h.t.Context(), id); err != nil || m.Folder != folder || !m.Removed.IsZero() {
		h.t.Errorf("letter %d lies in %s, removed %v, want %s: %v", id, m.Folder, m.Removed, folder, err)
	}
}

// TestFiledMeanwhile has a person file a letter while something else is about to file it: it stays where the person put it.
func TestFiledMeanwhile(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		from, to string // to by the person
		do       func(*house, store.LetterID) error
	}{
		"restored from Trash": {store.Trash, "Work", func(h *house, id store.LetterID) error {
			_, err := h.Restore(h.t.Context(), []store.LetterID{id})
			return err
		}},
		"its folder removed": {"Old", store.Inbox, func(h *house, _ store.LetterID) error { return h.RemoveFolder(h.t.Context(), ala, "Old") }},
		"its folder renamed": {"Old", store.Inbox, func(h *house, _ store.LetterID) error { return h.RenameFolder(h.t.Context(), ala, "Old", "New") }},
		"filed by a rule": {store.Inbox, store.Trash, func(h *house, _ store.LetterID) error {
			if _, err := h.SaveRule(h.t.Context(), store.Rule{Name: "r", Move: "Work"}); err != nil {
				return err
			}
			_, _, err := h.ApplyRules(h.t.Context(), store.Query{Folder: store.Inbox})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, meanwhile := openMeanwhile(t)
			id := h.add(ala, "Start", letter("one", "\nalpha\n"))[0]
			h.move(id, tt.from)
			meanwhile(func() { h.move(id, tt.to) })
			if err := tt.do(h, id); err != nil {
				t.Fatal(err)
			}
			h.lies(id, tt.to)
		})
	}
}

// TestFlaggedMeanwhile moves letters while they are marked: they are marked all the same.
func TestFlaggedMeanwhile(t *testing.T) {
	t.Parallel()
	h, meanwhile := openMeanwhile(t)
	ids := h.add(ala, store.Inbox, letter("one", "\nalpha\n"), letter("two", "\nalpha\n"))
	meanwhile(func() { h.move(ids[0], store.Archive) })
	if n, err := h.SetFlags(t.Context(), ids, mailbox.Seen, 0); n != 2 || err != nil {
		t.Errorf("marked %d letters, want 2: %v", n, err)
	}
	for _, id := range ids {
		if m, err := h.Summary(t.Context(), id); err != nil || m.Flags != mailbox.Seen {
			t.Errorf("letter %d has flags %b: %v", id, m.Flags, err)
		}
	}
}

// TestTrashedMeanwhile has a person take a letter that has lain in Trash for long out of it, and throw it away again, while Trash
// is emptied of such letters: it stays there anew.
func TestTrashedMeanwhile(t *testing.T) {
	t.Parallel()
	h := open(t)
	id := h.add(ala, store.Inbox, letter("one", "\nalpha\n"))[0]
	h.move(id, store.Trash)
	before := h.clock.Now().Add(time.Hour)
	h.clock.Advance(2 * time.Hour)
	n, err := h.EmptyTrashLate(t.Context(), ala, before, func() { h.move(id, store.Inbox); h.move(id, store.Trash) })
	if n != 0 || err != nil {
		t.Errorf("%d letters went into retention: %v", n, err)
	}
	h.lies(id, store.Trash)
}

// TestPurgedMeanwhile purges a letter while it is restored: it is not counted.
func TestPurgedMeanwhile(t *testing.T) {
	t.Parallel()
	h, meanwhile := openMeanwhile(t)
	ids := h.add(ala, store.Inbox, letter("one", "\nalpha\n"))
	if n, err := h.Retain(t.Context(), ids); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	meanwhile(func() {
		if n, err := h.Mailboxes().Purge(t.Context(), ala, mailbox.Selection{}); n != 1 || err != nil {
			t.Error(n, err)
		}
	})
	if n, err := h.Restore(t.Context(), ids); n != 0 || err != nil {
		t.Errorf("restored %d letters that are gone: %v", n, err)
	}
}

// TestRestoreOfTwins restores one of two letters in retention that have the same unique-id, as one imported from two
// folders has: the other stays there.
func TestRestoreOfTwins(t *testing.T) {
	t.Parallel()
	h := open(t)
	var batch []mailbox.Import
	for _, folder := range []string{store.Inbox, "Work"} {
		im := h.stage(letter("one", "\nalpha\n"))
		im.Mailbox, im.UniqueID = folder, "twin"
		batch = append(batch, im)
	}
	ids := h.addAll(ala, batch)
	for range 2 {
		if n, err := h.Remove(t.Context(), ids); n != 2 || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, err := h.Restore(t.Context(), ids[:1]); n != 1 || err != nil {
		t.Errorf("restored %d letters, want 1: %v", n, err)
	}
	h.lies(ids[0], store.Inbox)
	if m, err := h.Summary(t.Context(), ids[1]); err != nil || m.Removed.IsZero() {
		t.Errorf("the other one lies in %s: %v", m.Folder, err)
	}
}

// TestRemoveFolderOfOneSpelling removes a folder beside one that differs by a capital: that one keeps its letters.
func TestRemoveFolderOfOneSpelling(t *testing.T) {
	t.Parallel()
	h := open(t)
	low, high := h.add(ala, "work", letter("low", "\nalpha\n"))[0], h.add(ala, "Work", letter("high", "\nalpha\n"))[0]
	if err := h.RemoveFolder(t.Context(), ala, "work"); err != nil {
		t.Fatal(err)
	}
	h.lies(low, store.Trash)
	h.lies(high, "Work")
	if all, err := h.Folders(t.Context()); err != nil || !slices.ContainsFunc(all, func(f store.Folder) bool { return f.Name == "Work" && f.Messages == 1 }) {
		t.Errorf("folders: %+v %v", all, err)
	}
}

// TestExportedMeanwhile moves a large letter between the look at where it lies and another, if there is one, while it is exported:
// it is in the file.
func TestExportedMeanwhile(t *testing.T) {
	t.Parallel()
	h := open(t)
	id := h.add(ala, store.Inbox, letter("one", "\n"+strings.Repeat("alpha\n", 300_000)))[0]
	if err := h.Late(2, func() { h.move(id, store.Archive) }); err != nil {
		t.Fatal(err)
	}
	out, err := h.Export(t.Context(), store.Query{}, mailfile.NewMboxWriter(io.Discard), nil)
	if err != nil || out.Letters != 1 || out.Failed != 0 {
		t.Errorf("exported %+v: %v", out, err)
	}
}
