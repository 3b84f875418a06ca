package mua_test

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// TestBackupOfWhatWaits backs up a store with a letter that is durable and not filed yet: it is
// filed here and where the backup is restored.
func TestBackupOfWhatWaits(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.add(poppeer.Dovecot(t, letters(3)), profile.Leave)
	h.must(h.desk("", false).Sync(t.Context(), nil))
	staged, err := h.Store.Body().Stage(t.Context(), 0)
	h.must(err)
	_, err = io.WriteString(staged, "From: ola@example.org\r\nSubject: waits\r\n\r\nwalrus\r\n")
	h.must(err)
	h.must(h.Store.Land(t.Context(), a.ID, []store.Landing{{Import: mailbox.Import{Staged: staged, Received: time.Now()}}}))
	at := place.Place{To: filepath.Join(t.TempDir(), "backups")}
	h.must(h.desk("", false).BackupCreate(t.Context(), at, "test"))
	r, end, err := place.Open(t.Context(), at, place.Options{})
	h.must(err)
	defer end()
	if report, err := mua.Drill(t.Context(), r, "", t.TempDir()); err != nil {
		t.Errorf("drill: %+v %v", report, err)
	}
	c := mua.Config{Folder: filepath.Join(t.TempDir(), "mail"), Ask: func(bool) (string, error) { return "correct horse battery", nil }}
	if _, err := mua.Restore(t.Context(), r, "", time.Time{}, c, nil); err != nil {
		t.Fatal(err)
	}
	n := &house{t: t, folder: c.Folder}
	if n.Mail, err = mua.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	h.must(h.Store.File(t.Context(), nil))
	for where, m := range map[string]*house{"here": h, "where it was restored": n} {
		m.must(m.Store.Catchup(t.Context(), nil))
		page, err := m.Store.List(t.Context(), store.Query{Text: "walrus"})
		if err != nil || len(page.Letters) != 1 || page.Letters[0].Subject != "waits" {
			t.Errorf("%s: %+v, %v", where, page.Letters, err)
			continue
		}
		l, err := m.Store.Letter(t.Context(), page.Letters[0].ID)
		m.must(err)
		text, err := io.ReadAll(io.NewSectionReader(l, 0, l.Size))
		if err != nil || !strings.HasSuffix(string(text), "walrus\r\n") {
			t.Errorf("%s: the letter is %q, %v", where, text, err)
		}
		m.must(l.Close())
	}
}
