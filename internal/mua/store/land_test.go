package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
)

// notes has a house note, in the database, what Config.Filed is told: "note=id".
func notes(h *house) {
	h.cfg.Components = []db.Component{{Name: "test-notes", Steps: []db.Step{{Number: 1, SQL: `CREATE TABLE test_note (n {id}, account {int} NOT NULL, note {text} NOT NULL, letter {int} NOT NULL) {strict}`}}}}
	h.cfg.Filed = func(tx db.Tx, account envelope.AccountID, note []byte, id store.LetterID) error {
		_, err := tx.Exec(`INSERT INTO test_note (account, note, letter) VALUES (?, ?, ?)`, int64(account), string(note), int64(id))
		return err
	}
	h.reopen()
}

// noted is what was told since the first time, in order.
func (h *house) noted() (all []string, ids []store.LetterID) {
	h.t.Helper()
	err := h.DB().View(context.Background(), func(tx db.Tx) error {
		rows, err := tx.Query(`SELECT note, letter FROM test_note ORDER BY n`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var note string
			var id store.LetterID
			if err := rows.Scan(&note, &id); err != nil {
				return err
			}
			all, ids = append(all, note), append(ids, id)
		}
		return rows.Err()
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return all, ids
}

// land lands texts, each with its subject's number as unique-id and note.
func (h *house) land(account envelope.AccountID, from, to int) error {
	var batch []store.Landing
	for n := from; n < to; n++ {
		im := h.stage(letter(fmt.Sprintf("s%d", n), fmt.Sprintf("Message-ID: <%d@x>\nIn-Reply-To: <%d@x>\n\nalpha %d\n", n, n-n%3, n)))
		im.UniqueID = fmt.Sprint("u", n)
		batch = append(batch, store.Landing{Import: im, Note: fmt.Append(nil, n)})
	}
	return h.Land(context.Background(), account, batch)
}

// count counts rows.
func (h *house) count(table string) (n int) {
	h.t.Helper()
	err := h.DB().View(context.Background(), func(tx db.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM ` + table).Scan(&n) })
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

func TestLandAndFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		file func(h *house) error
	}{
		{"at once", func(h *house) error { return h.File(t.Context(), nil) }},
		{"at the next start", func(h *house) error { h.reopen(); return nil }},
		{"after a crash", func(h *house) error { return h.crash() }},
		{"hourly", func(h *house) error { return h.Tidy(t.Context()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			notes(h)
			if _, err := h.SaveRule(t.Context(), store.Rule{Name: "odd", Conditions: []store.Condition{{Field: "subject", Op: "matches", Value: "[13579]$"}}, Move: "Odd", Flag: true}); err != nil {
				t.Fatal(err)
			}
			h.add(ala, store.Inbox, letter("here", "\nbeta\n"))
			if err := errors.Join(h.land(ala, 0, 260), h.land(ewa, 0, 2), h.land(ala, 260, 263), h.land(ala, 5, 7)); err != nil {
				t.Fatal(err)
			}
			h.index()
			if got := h.subjects(store.Query{Everywhere: true, Limit: 3}); !slices.Equal(got, []string{"here"}) {
				t.Fatalf("listed before they are filed: %v", got)
			}
			if err := c.file(h); err != nil {
				t.Fatal(err)
			}
			h.index()
			all, ids := h.noted()
			if len(all) != 267 || all[0] != "0" || all[259] != "259" || all[260] != "0" || all[264] != "262" || all[266] != "6" || ids[265] != 0 || ids[266] != 0 || ids[264] == 0 {
				t.Errorf("%d notes: %v %v", len(all), all, ids[260:])
			}
			if n := h.count("landed"); n != 0 {
				t.Errorf("%d rows wait", n)
			}
			if n := h.count("body"); n != 266 {
				t.Errorf("%d bodies, those of duplicates should be gone", n)
			}
			m, err := h.Summary(t.Context(), ids[3])
			if err != nil || m.Subject != "s3" || m.UniqueID != "u3" || m.Folder != "Odd" || m.Flags != mailbox.Flagged {
				t.Errorf("%+v, %v", m, err)
			}
			if n := h.count("letter WHERE indexed = 1"); n != 266 {
				t.Errorf("%d letters are indexed", n)
			}
			if got := h.subjects(store.Query{Text: "alpha 258", Everywhere: true}); !slices.Equal(got, []string{"s258"}) {
				t.Errorf("found %v", got)
			}
			if page, err := h.List(t.Context(), store.Query{Accounts: []envelope.AccountID{ala}, Thread: m.Thread}); err != nil || len(page.Letters) != 3 {
				t.Errorf("its thread has %d letters, %v", len(page.Letters), err)
			}
			before := len(all)
			h.reopen()
			if err := h.File(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if all, _ := h.noted(); len(all) != before {
				t.Errorf("%d letters were filed again", len(all)-before)
			}
		})
	}
}

// TestLandedPartial lands the beginning of a letter, which is completed as any other.
func TestLandedPartial(t *testing.T) {
	t.Parallel()
	h := open(t)
	im := h.stage(letter("big", "\n"))
	if err := errors.Join(h.Land(t.Context(), ala, []store.Landing{{Import: im, Whole: 5000}}), h.File(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	page, err := h.List(t.Context(), store.Query{})
	if err != nil || len(page.Letters) != 1 || !page.Letters[0].Partial || page.Letters[0].Octets != 5000 || page.Letters[0].Folder != store.Inbox {
		t.Errorf("%+v, %v", page, err)
	}
}

// TestLandedWithoutFiled has a store opened by who does not know what the notes mean: nothing is lost.
func TestLandedWithoutFiled(t *testing.T) {
	t.Parallel()
	h := open(t)
	notes(h)
	filed := h.cfg.Filed
	if err := h.land(ala, 0, 2); err != nil {
		t.Fatal(err)
	}
	h.cfg.Filed = nil
	h.reopen()
	if err := h.File(t.Context(), nil); err == nil || len(h.subjects(store.Query{})) != 0 {
		t.Errorf("filed without Filed: %v", err)
	}
	h.cfg.Filed = filed
	h.reopen()
	if got := h.subjects(store.Query{}); len(got) != 2 {
		t.Errorf("listed: %v", got)
	}
}

// TestPurgeLanded removes an account whose letters wait: those of the other account stay.
func TestPurgeLanded(t *testing.T) {
	t.Parallel()
	h := open(t)
	notes(h)
	if err := errors.Join(h.land(ala, 0, 300), h.land(ewa, 0, 3), h.PurgeAccount(t.Context(), ala), h.File(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	if got := h.subjects(store.Query{}); len(got) != 3 {
		t.Errorf("listed: %v", got)
	}
	if n := h.count("body"); n != 3 {
		t.Errorf("%d bodies", n)
	}
}

// TestLandedPowerCut has the disk below the bodies lose power during each of its calls: what Land told
// is there, once and whole.
func TestLandedPowerCut(t *testing.T) {
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
			for n := range 4 {
				im := h.stage(letter(fmt.Sprint("n", n), fmt.Sprintf("\nword%dx\n", n)))
				if h.Land(t.Context(), ala, []store.Landing{{Import: im}}) != nil {
					break
				}
				told++
				if n == 2 {
					_ = h.File(t.Context(), nil) // a letter that can't be read is filed all the same
				}
			}
			_ = s.Close() // without power
		}
		done := fsys.Calls() < k
		h.cfg.FS, h.Store = fsys.Reopen(uint64(k)), nil
		h.reopen()
		h.index()
		page, err := h.List(t.Context(), store.Query{})
		if err != nil || len(page.Letters) < told || len(page.Letters) > told+1 {
			t.Fatalf("cut at %d: %d letters, told were %d, %v", k, len(page.Letters), told, err)
		}
		for _, m := range page.Letters {
			r, size, err := h.Octets(t.Context(), m.ID)
			if err != nil {
				t.Fatalf("cut at %d: letter %d: %v", k, m.ID, err)
			}
			b := make([]byte, size)
			if _, err := r.ReadAt(b, 0); err != nil || !strings.HasSuffix(string(b), "x\r\n") {
				t.Fatalf("cut at %d: letter %d is %q, %v", k, m.ID, b, err)
			}
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

// FuzzLanded reads rows of letters that wait to be filed.
func FuzzLanded(f *testing.F) {
	f.Add([]byte{1, 0})
	f.Add(store.PackLanded("u1", "POP3 u1", []byte("note"), 7))
	f.Fuzz(func(t *testing.T, b []byte) {
		again, err := store.RepackLanded(b)
		if err != nil {
			return
		}
		third, err := store.RepackLanded(again)
		if err != nil || string(third) != string(again) {
			t.Errorf("%x becomes %x, %v", again, third, err)
		}
	})
}
