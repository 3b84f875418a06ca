package mailbox_test

import (
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/post/posttest"
)

// flagsOf lists the flags of INBOX as a fresh listing has them.
func flagsOf(t *testing.T, h *posttest.House) []mailbox.Flags {
	t.Helper()
	l, release, err := h.Mailboxes.Listing(t.Context(), ala, "")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	var all []mailbox.Flags
	for i := range l.Len() {
		all = append(all, l.Flags(i))
	}
	return all
}

func TestSetFlags(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		const many = 600 // more than what a listing is read anew for after removals
		for range many / 100 {
			var specs []string
			for range 100 {
				specs = append(specs, "|"+h.ID(t).String()+"|x")
			}
			appendAll(t, h, imports(t, h, "", specs...))
		}
		if got := flagsOf(t, h); len(got) != many || got[1] != mailbox.Seen {
			t.Fatalf("%d messages", len(got))
		}
		var within []mailbox.Entry
		change := mailbox.FlagChange{Account: ala, Mailbox: "inbox", UIDs: []mailbox.UID{2, 3, 9999}, Set: mailbox.Flagged, Unset: mailbox.Seen,
			Within: func(_ db.Tx, changed []mailbox.Entry) error { within = changed; return nil }}
		changed, err := h.Mailboxes.SetFlags(t.Context(), change)
		if err != nil || len(changed) != 2 || changed[0].UID != 2 || changed[0].Flags != mailbox.Flagged {
			t.Fatalf("changed %+v, %v", changed, err)
		}
		if diff := cmp.Diff(changed, within); diff != "" {
			t.Errorf("within: %s", diff)
		}
		if got := flagsOf(t, h)[:4]; !cmp.Equal(got, []mailbox.Flags{mailbox.Seen, mailbox.Flagged, mailbox.Flagged, mailbox.Seen}) {
			t.Errorf("listed flags are %v", got)
		}
		if changed, err = h.Mailboxes.SetFlags(t.Context(), change); err != nil || len(changed) != 0 {
			t.Errorf("changed again: %+v, %v", changed, err)
		}
		change.Unset, change.Set = mailbox.Flagged, 0
		change.Within = func(db.Tx, []mailbox.Entry) error { return io.ErrShortWrite }
		if _, err := h.Mailboxes.SetFlags(t.Context(), change); !errors.Is(err, io.ErrShortWrite) || flagsOf(t, h)[1] != mailbox.Flagged {
			t.Errorf("a change that fails: %v", err)
		}
		change.Mailbox = "None"
		if _, err := h.Mailboxes.SetFlags(t.Context(), change); !errors.Is(err, mailbox.ErrNotFound) {
			t.Errorf("no such mailbox: %v", err)
		}
		change.UIDs = make([]mailbox.UID, 501)
		if _, err := h.Mailboxes.SetFlags(t.Context(), change); !errors.Is(err, mailbox.ErrBatch) {
			t.Errorf("too many: %v", err)
		}
	})
}

// content reads an entry.
func content(t *testing.T, h *posttest.House, e *mailbox.Entry) string {
	t.Helper()
	r, err := h.Mailboxes.OpenEntry(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReplace(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		out, err := h.Mailboxes.Append(t.Context(), ala, posttest.Login(ala), imports(t, h, "", "theirs-1||head", "|2|head"))
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range out {
			was := a.Entry
			whole := posttest.Text("head") + "And the rest.\r\n"
			within := 0
			is, err := h.Mailboxes.Replace(t.Context(), mailbox.Replacement{Account: ala, UID: was.UID, Staged: h.Stage(t, whole),
				Within: func(_ db.Tx, is mailbox.Entry) error { within = int(is.UID); return nil }})
			if err != nil || within != int(was.UID) {
				t.Fatal(err, within)
			}
			if is.UID != was.UID || is.UniqueID != was.UniqueID || is.Flags != was.Flags || is.Octets != int64(len(whole)) || is.Body == was.Body {
				t.Errorf("%d: was %+v, is %+v", i, was, is)
			}
			if got := content(t, h, &is); got != whole {
				t.Errorf("content is %q", got)
			}
			err = h.DB.View(t.Context(), func(tx db.Tx) error { _, err := body.Lookup(tx, was.Body); return err })
			if !errors.Is(err, body.ErrNotFound) {
				t.Errorf("the old body's row: %v", err)
			}
			again := imports(t, h, "", was.UniqueID+"||head")
			again[0].Staged = h.Stage(t, whole)
			if got := appendAll(t, h, again); got != "dup" {
				t.Errorf("the whole one imported again is %s", got)
			}
		}
		boxes, err := h.Mailboxes.Mailboxes(t.Context(), ala)
		if err != nil || boxes[0].Octets != 2*int64(len(posttest.Text("head"))+len("And the rest.\r\n")) {
			t.Errorf("mailbox %+v, %v", boxes, err)
		}
		_, err = h.Mailboxes.Replace(t.Context(), mailbox.Replacement{Account: ala, UID: 99, Staged: h.Stage(t, "x")})
		if !errors.Is(err, mailbox.ErrNotFound) {
			t.Errorf("no such message: %v", err)
		}
	})
}

// TestReplaceMoved replaces a message that was moved since its import: the mailbox of the import knows the new content.
func TestReplaceMoved(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		out, err := h.Mailboxes.Append(t.Context(), ala, posttest.Login(ala), imports(t, h, "", "theirs-1||head"))
		if err != nil {
			t.Fatal(err)
		}
		moved, err := h.Mailboxes.Move(t.Context(), mailbox.Move{Account: ala, UID: out[0].Entry.UID, To: "Work"})
		if err != nil {
			t.Fatal(err)
		}
		whole := posttest.Text("head") + "And the rest.\r\n"
		if _, err := h.Mailboxes.Replace(t.Context(), mailbox.Replacement{Account: ala, Mailbox: "Work", UID: moved.UID, Staged: h.Stage(t, whole)}); err != nil {
			t.Fatal(err)
		}
		again := imports(t, h, "", "theirs-1||head")
		again[0].Staged = h.Stage(t, whole)
		if got := appendAll(t, h, again); got != "dup" {
			t.Errorf("the whole one imported again is %s", got)
		}
	})
}

func TestAppendWithin(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		appendAll(t, h, imports(t, h, "", "a||a"))
		var seen []bool
		within := func(_ db.Tx, i int, a mailbox.Appended) error {
			if i == 0 {
				seen = nil
			}
			seen = append(seen, a.Duplicate)
			if a.Duplicate != (a.Entry.UID == 0) {
				t.Errorf("%d is %+v", i, a)
			}
			return nil
		}
		if _, err := h.Mailboxes.AppendWithin(t.Context(), ala, "", imports(t, h, "", "a||a", "b||b"), within); err != nil || !cmp.Equal(seen, []bool{true, false}) {
			t.Errorf("within saw %v, %v", seen, err)
		}
		fail := func(_ db.Tx, i int, _ mailbox.Appended) error {
			if i == 1 {
				return io.ErrShortWrite
			}
			return nil
		}
		if _, err := h.Mailboxes.AppendWithin(t.Context(), ala, "", imports(t, h, "", "c||c", "d||d"), fail); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("within failed: %v", err)
		}
		if n := len(flagsOf(t, h)); n != 2 {
			t.Errorf("%d messages after a failed import, want 2", n)
		}
	})
}

func TestMoveManyAndRestoreWithin(t *testing.T) {
	each(t, func(t *testing.T, h *posttest.House) {
		appendAll(t, h, imports(t, h, "", "a||a", "b||b", "c||c"))
		moves := []mailbox.Move{{Account: ala, From: "INBOX", UID: 1, To: "A"}, {Account: ala, From: "INBOX", UID: 7, To: "A"}, {Account: ala, From: "INBOX", UID: 3, To: "B"}}
		out, err := h.Mailboxes.MoveMany(t.Context(), moves)
		if err != nil || out[0].UniqueID != "a" || out[1].UID != 0 || out[2].Mailbox != "B" {
			t.Fatalf("moved %+v, %v", out, err)
		}
		if _, err := h.Mailboxes.MoveMany(t.Context(), []mailbox.Move{{Account: ala, From: "A", UID: 1, To: "A"}}); !errors.Is(err, mailbox.ErrExists) {
			t.Errorf("a move to where it is: %v", err)
		}
		if _, err := h.Mailboxes.MoveMany(t.Context(), make([]mailbox.Move, mailbox.MaxAppend+1)); !errors.Is(err, mailbox.ErrBatch) {
			t.Errorf("too many: %v", err)
		}
		if _, err := h.Mailboxes.Remove(t.Context(), ala, "", "A", []mailbox.UID{1}); err != nil {
			t.Fatal(err)
		}
		var was, is mailbox.Entry
		n, err := h.Mailboxes.RestoreWithin(t.Context(), ala, "", mailbox.Selection{}, func(_ db.Tx, a, b mailbox.Entry) error { was, is = a, b; return nil })
		if err != nil || n != 1 || was.UniqueID != "a" || was.UID != 1 || is.UID != 2 || is.Mailbox != "A" {
			t.Errorf("restored %d: was %+v, is %+v, %v", n, was, is, err)
		}
	})
}
