package holdings_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/mailbox"
)

// index is what a person's store makes anew: full text, with its own tables behind it.
var index = db.Component{Name: "index", Steps: []db.Step{{Number: 1, SQL: `
CREATE VIRTUAL TABLE word USING fts5(text);
CREATE TABLE summary (letter {int} NOT NULL PRIMARY KEY, subject {text} NOT NULL) {rowid};
CREATE TABLE letter (id {int} NOT NULL PRIMARY KEY, account {int} NOT NULL, number {int} NOT NULL, uid {int} NOT NULL, whole {int} NOT NULL) {rowid}`}}}

// TestPersonToServer backs a person's store up, restores it onto a new machine, drills, and
// puts its mail, removed letters too, into a server's mailbox: the laptop is the server's backup.
func TestPersonToServer(t *testing.T) {
	t.Parallel()
	own := []db.Component{body.Schema, mailbox.Schema, index}
	laptop := open(t, dbtest.SQLite(t))
	if err := db.Migrate(t.Context(), laptop.db, own); err != nil {
		t.Fatal(err)
	}
	laptop.ids = append(laptop.ids, 7)
	for i := range 30 {
		laptop.put(t, 0, laptop.letter(t, i, 500))
	}
	if _, err := laptop.mail.Remove(t.Context(), 7, login(0), "INBOX", []mailbox.UID{1, 2}); err != nil {
		t.Fatal(err)
	}
	c := holdings.Config{Kind: "person", DB: laptop.db, Body: laptop.body, Components: own, Scratch: filepath.Join(t.TempDir(), "moment.db"), Skip: []string{"summary"},
		Accounts: func(_ context.Context, _ db.Database, fn func(holdings.Account) error) error {
			return fn(holdings.Account{ID: 7, Login: login(0)})
		}}
	m, err := holdings.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	r := repository(t, disk.NewFault(4))
	report, err := r.Create(t.Context(), m, m.Time())
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.At(t.Context(), "person", time.Time{})
	if err != nil || s.ID != report.Snapshot {
		t.Fatalf("the newest backup of a person is %v, %v", s, err)
	}
	if x, err := holdings.Drill(t.Context(), r, s, t.TempDir(), own, c.Skip); err != nil || x.Compared.Messages != 30 {
		t.Errorf("drill: %+v, %v", x, err)
	}
	fresh := open(t, dbtest.SQLite(t))
	done, err := holdings.All(t.Context(), r, s, holdings.Into{DB: fresh.db, Body: fresh.body, Components: own, Mailboxes: fresh.mail, Skip: c.Skip})
	if err != nil || done.Messages != 28 || done.Retained != 2 {
		t.Errorf("new machine: %+v, %v", done, err)
	}
	sameButUIDs(t, laptop.state(t, 7), fresh.state(t, 7))

	for name, engine := range engines {
		server := open(t, engine(t))
		server.furnish(t, 1)
		room := holdings.Mailroom{Body: server.body, Mailboxes: server.mail, Account: server.ids[0], Login: login(0)}
		done, err := holdings.Mail(t.Context(), r, s, holdings.Selection{Account: login(0)}, room)
		if err != nil || done.Messages != 28 {
			t.Errorf("%s: %+v, %v", name, done, err)
		}
		sameButUIDs(t, laptop.state(t, 7), server.state(t, server.ids[0]))
		done, err = holdings.Mail(t.Context(), r, s, holdings.Selection{Account: login(0), Removed: true}, room)
		if err != nil || done.Messages != 2 || done.Duplicates != 28 {
			t.Errorf("%s, removed ones: %+v, %v", name, done, err)
		}
	}
	if _, err := r.Verify(t.Context(), func(f backup.Fault) { t.Errorf("fault: %s", f.Text()) }); err != nil {
		t.Error(err)
	}
}

// TestPartial restores from a store that had only the header sections of some letters: they are
// left out, and counted, in a mailbox and in retention.
func TestPartial(t *testing.T) {
	t.Parallel()
	own := []db.Component{body.Schema, mailbox.Schema, index}
	laptop := open(t, dbtest.SQLite(t))
	if err := db.Migrate(t.Context(), laptop.db, own); err != nil {
		t.Fatal(err)
	}
	laptop.ids = append(laptop.ids, 7)
	for i := range 10 {
		laptop.put(t, 0, laptop.letter(t, i, 500))
	}
	if _, err := laptop.mail.Remove(t.Context(), 7, login(0), "INBOX", []mailbox.UID{1, 2}); err != nil {
		t.Fatal(err)
	}
	err := laptop.db.Update(t.Context(), func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO letter (id, account, number, uid, whole)
			SELECT 100 * e.number + e.uid, e.account, e.number, e.uid, CASE WHEN m.name || e.uid IN ('INBOX2', 'INBOX3', 'Work/Offers1') THEN 9000 ELSE 0 END
			FROM (SELECT account, number, uid FROM entry UNION SELECT account, number, uid FROM retained) e JOIN mailbox m ON m.account = e.account AND m.number = e.number
			UNION SELECT 1, 8, 1, 4, 9000`) // another account's
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := holdings.Open(t.Context(), holdings.Config{Kind: "person", DB: laptop.db, Body: laptop.body, Components: own, Scratch: filepath.Join(t.TempDir(), "moment.db"),
		Accounts: func(_ context.Context, _ db.Database, fn func(holdings.Account) error) error {
			return fn(holdings.Account{ID: 7, Login: login(0)})
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	r := repository(t, disk.NewFault(4))
	if _, err := r.Create(t.Context(), m, m.Time()); err != nil {
		t.Fatal(err)
	}
	s, err := r.At(t.Context(), "person", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	server := open(t, dbtest.SQLite(t))
	server.furnish(t, 1)
	room := holdings.Mailroom{Body: server.body, Mailboxes: server.mail, Account: server.ids[0], Login: login(0)}
	for _, x := range []struct {
		name                          string
		removed                       bool
		messages, duplicates, partial int64
	}{{"in mailboxes", false, 6, 0, 2}, {"in retention, too", true, 1, 6, 3}} {
		done, err := holdings.Mail(t.Context(), r, s, holdings.Selection{Account: login(0), Removed: x.removed}, room)
		if err != nil || done.Messages != x.messages || done.Duplicates != x.duplicates || done.Partial != x.partial {
			t.Errorf("%s: %+v, %v", x.name, done, err)
		}
	}
	listed := 0
	err = holdings.Find(t.Context(), r, s, holdings.Selection{Account: login(0)}, false, func(l holdings.Letter) error {
		if l.Partial != (l.UniqueID == "uid-6" || l.UniqueID == "uid-1") {
			t.Errorf("listed %s: %v", l.UniqueID, l.Partial)
		}
		listed++
		return nil
	})
	if err != nil || listed != 8 {
		t.Errorf("%d letters listed: %v", listed, err)
	}
}

// TestExplain says of faults which letters they concern.
func TestExplain(t *testing.T) {
	t.Parallel()
	h := open(t, dbtest.SQLite(t))
	h.furnish(t, 2)
	for i := range 9 {
		h.put(t, i%2, h.letter(t, i, 500))
	}
	r := repository(t, disk.NewFault(5))
	s := h.save(t, r)
	var faults []backup.Fault
	mark := func(mailboxes ...string) {
		t.Helper()
		err := holdings.Find(t.Context(), r, s, holdings.Selection{Account: login(1)}, false, func(l holdings.Letter) error {
			if slices.Contains(mailboxes, l.Mailbox) {
				faults = append(faults, backup.Fault{Snapshot: s.ID, Section: "bodies", Key: l.Body[:], Items: 1, Problem: "gone"})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	mark("INBOX", "Zażółć")
	key := binary.BigEndian.AppendUint64(nil, uint64(h.ids[0])^1<<63)
	key = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(key, 77^1<<63), 1^1<<63)
	faults = append(faults, backup.Fault{Snapshot: s.ID, Section: "table/entry", Key: key, Items: 232, Problem: "gone"}, backup.Fault{Snapshot: s.ID, Section: "bodies", Key: make([]byte, 16), Items: 1},
		backup.Fault{Snapshot: s.ID, Section: "files", Problem: "gone"}, backup.Fault{Snapshot: "another", Section: "bodies", Key: []byte{1}, Items: 9}, backup.Fault{Object: "packs/1", Problem: "gone"})
	got, err := holdings.Explain(t.Context(), r, s, faults)
	if err != nil {
		t.Fatal(err)
	}
	want := []holdings.Trouble{
		{Snapshot: s.ID, Time: s.Time, Account: login(0), Mailbox: "mailbox 77", Letters: 232},
		{Snapshot: s.ID, Time: s.Time, Account: login(1), Mailbox: "INBOX", Letters: 1, Named: []holdings.NamedLetter{{Number: 1, UniqueID: "uid-3"}}},
		{Snapshot: s.ID, Time: s.Time, Account: login(1), Mailbox: "Zażółć", Letters: 1, Named: []holdings.NamedLetter{{Number: 1, UniqueID: "uid-5"}}},
		{Snapshot: s.ID, Time: s.Time, What: "files: gone"},
		{Snapshot: s.ID, Time: s.Time, What: "the octets of 1 messages can't be read, which are in no mailbox, or the backup does not know in which"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("trouble (-want +got):\n%s", diff)
	}
	if text := got[1].Text(); !strings.HasSuffix(text, "can't give back 1 letter of person1@example.org in INBOX: uid-3.") {
		t.Error(text)
	}
}

// TestExplainLeaf says of a leaf of bodies that can't be read whose letters it held.
func TestExplainLeaf(t *testing.T) {
	t.Parallel()
	h := open(t, dbtest.SQLite(t))
	h.furnish(t, 1)
	for i := range 7 {
		h.put(t, 0, h.letter(t, 3*i, 500)) // all into the INBOX
	}
	r := repository(t, disk.NewFault(5))
	s := h.save(t, r)
	var ids [][]byte
	err := holdings.Find(t.Context(), r, s, holdings.Selection{Account: login(0)}, false, func(l holdings.Letter) error {
		ids = append(ids, bytes.Clone(l.Body[:]))
		return nil
	})
	if err != nil || len(ids) != 7 {
		t.Fatalf("%d letters: %v", len(ids), err)
	}
	slices.SortFunc(ids, bytes.Compare)
	first := ids[2]
	got, err := holdings.Explain(t.Context(), r, s, []backup.Fault{{Snapshot: s.ID, Section: "bodies", Key: first, Items: 4, Problem: "gone"}})
	if err != nil || len(got) != 1 || got[0].Letters != 4 || got[0].Mailbox != "INBOX" || len(got[0].Named) != 4 {
		t.Errorf("a leaf of 4: %+v, %v", got, err)
	}
	got, err = holdings.Explain(t.Context(), r, s, []backup.Fault{{Snapshot: s.ID, Section: "bodies", Key: first, Items: 9, Problem: "gone"}})
	if err != nil || len(got) != 2 || got[0].Letters != 5 || !strings.Contains(got[1].What, "4 more messages") {
		t.Errorf("a leaf of 9: %+v, %v", got, err)
	}
}
