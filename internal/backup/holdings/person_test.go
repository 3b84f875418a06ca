package holdings_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

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
CREATE TABLE summary (letter {int} NOT NULL PRIMARY KEY, subject {text} NOT NULL) {rowid}`}}}

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
