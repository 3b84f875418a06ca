package e2e_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailtest/peer"
)

// TestRestoredBackupSendsNothing loses a machine three days, as it were, after its
// backup: what waited then was sent since, and mail came. The machine made anew from the
// backup has what the backup had, under its unique-ids; it sends nothing by itself, and no
// unique-id and no uid under one UIDVALIDITY means two messages.
func TestRestoredBackupSendsNothing(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, peer.Config{Discard: true})
	s := setup(t, plaintext, unlimited, hub(p.Listen(t)), "[spam]\ngreylist = false", "[conduct]\nenabled = false", "[tls_reports]\nsend = false", "[relay]\nenabled = false")
	place := []string{"--to", filepath.Join(s.dir, "copies"), "--key-file", filepath.Join(s.dir, "backup.key")}
	s.run("", "backup", "key", place[3])
	s.start()
	l := newLog()
	s.send(l, post{id: "old-1@test", to: []string{"x@far.test", ala}}, post{id: "old-2@test", to: []string{"y@far.test", ala}})
	had := seen(t, s)
	s.run("", append([]string{"backup", "create"}, place...)...)
	s.stop()

	s.rewrite("[relay]\nenabled = false", "[relay]\nenabled = true")
	s.start()
	s.idle(30 * time.Second)
	s.send(l, post{id: "since@test", to: []string{ala}})
	since := seen(t, s)
	s.stop()
	before := s.validities()

	if err := os.Rename(filepath.Join(s.dir, "data"), filepath.Join(s.dir, "lost")); err != nil {
		t.Fatal(err)
	}
	s.run("", append([]string{"backup", "restore", "--all"}, place...)...)
	after := s.validities()
	for name, v := range after {
		if v <= before[name] {
			t.Errorf("UIDVALIDITY of %s is %d, on the lost machine it was %d", name, v, before[name])
		}
	}
	s.start()
	s.send(l, post{id: "new@test", to: []string{"z@far.test", ala}})
	s.await("the new letter has left", 30*time.Second, func() bool { return copies(p)[peer.Copy{MessageID: "new@test", Rcpt: "z@far.test"}] == 1 })
	for c, n := range copies(p) {
		if n != 1 {
			t.Errorf("%s got %s %d times", c.Rcpt, c.MessageID, n)
		}
	}
	if held := s.list("queue", "list", "--state", "held"); len(held) != 2 {
		t.Errorf("on hold: %v, want both old letters", held)
	}
	if waiting := s.list("queue", "list", "--state", "waiting"); len(waiting) != 0 {
		t.Errorf("waiting: %v", waiting)
	}
	now := seen(t, s)
	if len(now) != 3 {
		t.Errorf("the mailbox has %d letters, want the two of the backup and the new one", len(now))
	}
	for id := range had {
		if !now[id] {
			t.Errorf("unique-id %s of the backup is gone", id)
		}
		delete(now, id)
	}
	for id := range now {
		if since[id] {
			t.Errorf("unique-id %s meant another letter on the lost machine", id)
		}
	}
	s.run("", append([]string{"backup", "create"}, place...)...)
	s.run("", append([]string{"backup", "verify"}, place...)...)
	s.run("", append([]string{"backup", "drill"}, place...)...)
	s.stop()
	s.run("", "store", "check")
}

// seen are the unique-ids of ala's INBOX.
func seen(t *testing.T, s *server) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, id := range uidl(t, s, ala) {
		all[id] = true
	}
	return all
}

// validities reads the UIDVALIDITY of ala's mailboxes from the stopped server's database.
func (s *server) validities() map[string]int64 {
	s.t.Helper()
	d, err := db.OpenSQLite(s.t.Context(), db.SQLiteConfig{Path: s.dir + "/data/poczta.db"})
	if err != nil {
		s.t.Fatal(err)
	}
	defer d.Close()
	all := map[string]int64{}
	err = d.View(s.t.Context(), func(tx db.Tx) error {
		rows, err := tx.Query(`SELECT name, uidvalidity FROM mailbox`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			var v int64
			if err := rows.Scan(&name, &v); err != nil {
				return err
			}
			all[name] = v
		}
		return rows.Err()
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}
