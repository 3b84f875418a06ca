package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store"
)

// TestSideBySide has many do all at once, and then compares the letters with the entries and the index.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	h := open(t)
	var mu sync.Mutex
	var ids []store.LetterID
	some := func(r *rand.Rand) (picked []store.LetterID) {
		mu.Lock()
		defer mu.Unlock()
		for range min(5, len(ids)) {
			picked = append(picked, ids[r.IntN(len(ids))])
		}
		return picked
	}
	var wg sync.WaitGroup
	for w := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(w, 1))
			for n := range 60 {
				var err error
				switch r.IntN(9) {
				case 0, 1:
					added := h.add(ala, store.Inbox, letter("s", fmt.Sprintf("Message-ID: <%d.%d@x>\nReferences: <%d@y>\n\nalpha %d %d\n", w, n, r.IntN(20), w, n)))
					mu.Lock()
					ids = append(ids, added...)
					mu.Unlock()
				case 2:
					_, err = h.SetFlags(t.Context(), some(r), mailbox.Flags(r.IntN(8)), mailbox.Flags(r.IntN(8)))
				case 3:
					_, err = h.Move(t.Context(), some(r), []string{store.Inbox, store.Archive, "Work"}[r.IntN(3)])
				case 4:
					_, err = h.Remove(t.Context(), some(r))
				case 5:
					_, err = h.Restore(t.Context(), some(r))
				case 6:
					err = h.Catchup(t.Context(), nil)
				case 7:
					_, err = h.Threads(t.Context(), store.Query{Text: "alpha", Limit: 3})
				case 8:
					for _, id := range some(r) {
						if l, err2 := h.Letter(t.Context(), id); err2 == nil {
							err = l.Close()
						} else if !errors.Is(err2, store.ErrNotFound) {
							err = err2
						}
					}
				}
				if err != nil {
					t.Errorf("worker %d, step %d: %v", w, n, err)
				}
			}
		})
	}
	wg.Wait()
	h.index()
	for what, query := range map[string]string{
		"entries without a letter":         `SELECT COUNT(*) FROM entry e WHERE NOT EXISTS (SELECT 1 FROM letter l WHERE l.account = e.account AND l.number = e.number AND l.uid = e.uid AND l.removed = 0 AND l.flags = e.flags AND l.octets = e.octets)`,
		"letters without an entry":         `SELECT COUNT(*) FROM letter l WHERE removed = 0 AND NOT EXISTS (SELECT 1 FROM entry e WHERE l.account = e.account AND l.number = e.number AND l.uid = e.uid)`,
		"removed letters not in retention": `SELECT COUNT(*) FROM letter l WHERE removed <> 0 AND NOT EXISTS (SELECT 1 FROM retained e WHERE l.account = e.account AND l.number = e.number AND l.uid = e.uid)`,
		"letters not in the index":         `SELECT COUNT(*) FROM letter WHERE removed = 0 AND rank NOT IN (SELECT rowid FROM letter_text WHERE letter_text MATCH 'alpha')`,
		"texts without a letter":           `SELECT COUNT(*) FROM letter_text WHERE letter_text MATCH 'alpha' AND rowid NOT IN (SELECT rank FROM letter WHERE removed = 0)`,
		"places that two letters have":     `SELECT COUNT(*) FROM (SELECT rank FROM letter GROUP BY rank HAVING COUNT(*) > 1)`,
		"trashed letters elsewhere":        `SELECT COUNT(*) FROM letter l JOIN mailbox m ON m.account = l.account AND m.number = l.number WHERE l.removed = 0 AND (l.trashed <> 0) <> (m.name = 'Trash')`,
	} {
		err := h.DB().View(t.Context(), func(tx db.Tx) error {
			var n int64
			err := tx.QueryRow(query).Scan(&n)
			if n != 0 {
				t.Errorf("%d %s", n, what)
			}
			return err
		})
		if err != nil {
			t.Error(what, err)
		}
	}
}

// TestMovedMeanwhile moves letters between somebody's look at where they lie and what is done to them there:
// they stay where they were moved to, and are found.
func TestMovedMeanwhile(t *testing.T) {
	t.Parallel()
	h := open(t)
	ids := h.add(ala, store.Inbox, letter("one", "\nalpha\n"), letter("two", "\nalpha\n"))
	h.index()
	move := func() {
		if n, err := h.Move(t.Context(), ids, store.Archive); n != 2 || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, err := h.RetainLate(t.Context(), ids[:1], move); n != 0 || err != nil {
		t.Errorf("put %d letters into retention, %v", n, err)
	}
	back := func() {
		if n, err := h.Move(t.Context(), ids, store.Inbox); n != 2 || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := h.ForgetLate(t.Context(), ids[1:], back); err != nil {
		t.Error(err)
	}
	if got := h.subjects(store.Query{Text: "alpha"}); len(got) != 2 {
		t.Errorf("found %v, want both", got)
	}
}
