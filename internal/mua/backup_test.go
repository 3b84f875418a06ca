package mua_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/backup/place"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/outbox"
	"poczta.example/poczta/internal/mua/profile"
)

// TestBackup backs mail up twice, drills, brings deleted letters back, and everything onto another
// machine, which knows the password, finds letters, fetches nothing again and sends nothing by itself.
func TestBackup(t *testing.T) {
	t.Parallel()
	all := letters(20)
	h := newHouse(t)
	a := h.add(poppeer.Dovecot(t, all), profile.Leave)
	h.must(h.desk("", false).Sync(t.Context(), nil))
	text := "not yet"
	h.must(h.desk("", false).Send(t.Context(), mua.Writing{To: []string{"ola@house.example"}, Subject: "later", Text: &text, At: time.Now().Add(time.Hour), Unchecked: true}))
	at := place.Place{To: filepath.Join(t.TempDir(), "backups")}
	for range 2 {
		h.must(h.desk("", false).BackupCreate(t.Context(), at, "test"))
	}
	r, end, err := place.Open(t.Context(), at, place.Options{})
	h.must(err)
	defer end()
	report, err := mua.Drill(t.Context(), r, "", t.TempDir())
	if err != nil || report.Compared.Messages != int64(len(all))+1 {
		t.Errorf("drill: %+v %v", report, err)
	}
	found := h.rows(mua.Listing{Text: "pelican"})
	if err := h.desk("", false).Remove(t.Context(), a.Address, true); err == nil || !strings.Contains(err.Error(), "outbox undo 1") {
		t.Errorf("removed with a letter that waits: %v", err)
	}
	h.must(h.desk("", false).OutgoingUndo(t.Context(), 1))
	h.must(h.desk("", false).Remove(t.Context(), a.Address, true))
	onto(t, r, all, found[0])
}

// onto restores everything into a new folder.
func onto(t *testing.T, r *backup.Repository, all []poppeer.Message, pelican mua.LetterRow) {
	t.Helper()
	c := mua.Config{Folder: filepath.Join(t.TempDir(), "mail"), Ask: func(bool) (string, error) { return "correct horse battery", nil }}
	if err := os.MkdirAll(filepath.Join(c.Folder+".restoring", "half"), 0o700); err != nil {
		t.Fatal(err)
	}
	done, err := mua.Restore(t.Context(), r, "", time.Time{}, c, nil)
	if err != nil || done.Messages != int64(len(all))+1 {
		t.Fatalf("restore: %+v %v", done, err)
	}
	if _, err := mua.Restore(t.Context(), r, "", time.Time{}, c, nil); !errors.Is(err, holdings.ErrNotEmpty) {
		t.Errorf("restore over mail: %v", err)
	}
	n := &house{t: t, folder: c.Folder}
	if n.Mail, err = mua.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if got := n.rows(mua.Listing{Text: "pelican"}); len(got) != 1 || got[0].UniqueID != pelican.UniqueID || got[0].ID != pelican.ID {
		t.Errorf("found %+v, want %+v", got, pelican)
	}
	waits, err := n.Outbox.List(t.Context())
	if err != nil || len(waits) != 1 || waits[0].State != outbox.Held {
		t.Errorf("outbox: %+v %v", waits, err)
	}
	n.must(n.desk("", false).Sync(t.Context(), nil))
	if !bytes.Contains(n.out.Bytes(), []byte("nothing new")) {
		t.Errorf("sync on the new machine: %s", &n.out)
	}
	one := n.rows(mua.Listing{Folder: "INBOX"})
	if len(one) != len(all) {
		t.Errorf("%d letters in INBOX, want %d", len(one), len(all))
	}
}

// TestBackupOfOneLetter brings one deleted letter back.
func TestBackupOfOneLetter(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.add(poppeer.Dovecot(t, letters(5)), profile.Leave)
	h.must(h.desk("", false).Sync(t.Context(), nil))
	at := place.Place{To: filepath.Join(t.TempDir(), "backups")}
	h.must(h.desk("", false).BackupCreate(t.Context(), at, "test"))
	found := h.rows(mua.Listing{Text: "pelican"})
	if len(found) != 1 {
		t.Fatalf("found %+v", found)
	}
	gone := []string{fmt.Sprint(found[0].ID)}
	for range 2 {
		h.must(h.desk("", false).Delete(t.Context(), gone))
	}
	before := h.rows(mua.Listing{})
	h.must(h.desk("", false).BackupRestore(t.Context(), at, mua.BackupRestoring{Selection: holdings.Selection{Account: a.Address}}))
	after := h.rows(mua.Listing{})
	if len(before) != 5 || len(after) != 6 {
		t.Errorf("%d letters before, %d after: want 5 and 6", len(before), len(after))
	}
	if got := h.rows(mua.Listing{Text: "pelican"}); len(got) != 1 {
		t.Errorf("found %+v", got)
	}
}

// TestBackupAt brings mail back as it was three days ago: everything onto another machine, and the
// letter that was deleted since.
func TestBackupAt(t *testing.T) {
	t.Parallel()
	h, c := scheduled(t)
	h.add(&poppeer.Real{Plain: "127.0.0.1:9"}, profile.Leave)
	at := place.Place{To: filepath.Join(t.TempDir(), "backups")}
	arrives := func(subject string) {
		file := filepath.Join(t.TempDir(), "letter.eml")
		h.must(os.WriteFile(file, []byte("From: ola@example.org\r\nTo: ala@house.example\r\nSubject: "+subject+"\r\nMessage-ID: <"+subject+"@example.org>\r\n\r\ntext\r\n"), 0o600))
		h.must(h.desk("", false).Import(t.Context(), mua.ImportFrom{Path: file}))
	}
	arrives("first")
	before := h.rows(mua.Listing{})
	old := c.Now()
	h.must(h.desk("", false).BackupCreate(t.Context(), at, "test"))
	c.set(old.AddDate(0, 0, 3))
	arrives("second")
	for range 2 {
		h.must(h.desk("", false).Delete(t.Context(), []string{fmt.Sprint(before[0].ID)}))
	}
	h.must(h.desk("", false).BackupCreate(t.Context(), at, "test"))
	r, end, err := place.Open(t.Context(), at, place.Options{})
	h.must(err)
	defer end()
	if _, err := mua.Restore(t.Context(), r, "", old.Add(-time.Hour), mua.Config{Folder: filepath.Join(t.TempDir(), "mail")}, nil); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("before the first backup: %v", err)
	}
	for when, subjects := range map[time.Time]string{old.Add(time.Hour): "first", c.Now(): "second"} {
		n := &house{t: t, folder: filepath.Join(t.TempDir(), "mail")}
		conf := mua.Config{Folder: n.folder, VaultFile: true, VaultWork: 10, Ask: func(bool) (string, error) { return "correct horse battery", nil }}
		if _, err := mua.Restore(t.Context(), r, "", when, conf, nil); err != nil {
			t.Fatal(err)
		}
		n.Mail, err = mua.Open(t.Context(), conf)
		n.must(err)
		got := n.rows(mua.Listing{})
		if len(got) != 1 || got[0].Subject != subjects {
			t.Errorf("as of %s: %+v, want %s", when, got, subjects)
		} else if subjects == "first" && (got[0].ID != before[0].ID || got[0].UniqueID != before[0].UniqueID) {
			t.Errorf("the letter is %+v, want %+v", got[0], before[0])
		}
		n.must(n.Close())
	}
	h.must(h.desk("", false).BackupRestore(t.Context(), at, mua.BackupRestoring{Selection: holdings.Selection{Account: "ala@house.example", MessageID: "first@example.org"}, At: old.Add(time.Hour)}))
	if got := h.rows(mua.Listing{}); len(got) != 2 {
		t.Errorf("after the letter came back: %+v", got)
	}
}

// TestBackupOfHeaders backs up letters of which only the header section is here, and restores them into
// another account: they are left out and said, never there under the unique-id of the whole letter.
func TestBackupOfHeaders(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.add(poppeer.Dovecot(t, letters(5)), profile.Leave)
	a.Policy.HeadersAbove = 890 // only the turtle is shorter
	h.must(h.Accounts.Update(t.Context(), a))
	h.must(h.desk("", false).Sync(t.Context(), nil))
	other := a
	other.ID, other.Address, other.Aliases = 0, "ewa@house.example", nil
	text, err := json.Marshal(mua.NewAccount{Account: other, Password: "secret"})
	h.must(err)
	h.must(h.desk(string(text), false).AccountAdd(t.Context()))
	at := place.Place{To: filepath.Join(t.TempDir(), "backups")}
	h.must(h.desk("", false).BackupCreate(t.Context(), at, "test"))
	h.must(h.desk("", false).BackupRestore(t.Context(), at, mua.BackupRestoring{Selection: holdings.Selection{Account: a.Address}, Into: other.Address}))
	if !bytes.Contains(h.out.Bytes(), []byte("1 letter; 0 were here already")) || !bytes.Contains(h.out.Bytes(), []byte("5 left out")) {
		t.Errorf("restored: %s", &h.out)
	}
	var listed []struct {
		Subject string
		Partial bool `json:"headers_only"`
	}
	h.must(h.desk("", true).BackupRestore(t.Context(), at, mua.BackupRestoring{Selection: holdings.Selection{Account: a.Address}, List: true}))
	h.must(json.Unmarshal(h.out.Bytes(), &listed))
	for _, l := range listed {
		if l.Partial == (l.Subject == "Żółw") {
			t.Errorf("listed %+v", l)
		}
	}
	if len(listed) != 6 {
		t.Errorf("%d letters listed", len(listed))
	}
	for name, sel := range map[string]holdings.Selection{"text": {Text: "pelican"}, "since": {Since: time.Now().AddDate(9, 0, 0)}, "before": {Before: time.Unix(0, 0)}} {
		for _, list := range []bool{false, true} {
			sel.Account = a.Address
			if err := h.desk("", false).BackupRestore(t.Context(), at, mua.BackupRestoring{Selection: sel, List: list}); err == nil || !strings.Contains(err.Error(), "no letter of the backup matches") {
				t.Errorf("%s that nothing has: %v", name, err)
			}
		}
	}
	got := h.rows(mua.Listing{Accounts: []string{other.Address}})
	if len(got) != 1 || got[0].Partial || got[0].Subject != "Żółw" {
		t.Errorf("restored %+v", got)
	}
}
