package e2e_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLaptopIsTheServersBackup loses a server of which there is no backup. What a person's computer had
// fetched, and an archive of old mail beside it, come back from that computer's backup into a mailbox of a new server, under
// the unique-ids of before, and nothing comes twice.
func TestLaptopIsTheServersBackup(t *testing.T) {
	t.Parallel()
	m := newMortal(t)
	copies := filepath.Join(m.dir, "copies")
	m.env = append(m.env, "POCZTA_MAIL="+filepath.Join(m.dir, "mail"), "POCZTA_MAIL_PASSPHRASE_FILE="+keep(t, m.dir, "passphrase", "correct horse\n"),
		"DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent", "LANG=C.UTF-8")
	lost := setup(t, plaintext, unlimited, "[spam]\ngreylist = false")
	lost.start()
	l := newLog()
	lost.send(l, post{id: "1@test", to: []string{ala}}, post{id: "2@test", to: []string{ala}}, post{id: "3@test", to: []string{ala}})
	had := uidl(t, lost, ala)
	m.does("add", "mail", "add", ala, "--incoming", lost.addr(110), "--outgoing", lost.addr(587), "--security", "none", "--yes", "--password-file", keep(t, m.dir, "password", password+"\n"))
	m.does("sync", "mail", "sync")
	maildir(t, filepath.Join(m.dir, "old"), 20, 3000)
	m.does("archive", "mail", "add", "--archive", "Old mail")
	m.does("import", "mail", "import", filepath.Join(m.dir, "old"), "--account", "Old mail")
	m.does("create", "mail", "backup", "create", "--to", copies)
	lost.stop()

	s := setup(t, plaintext, unlimited, "[spam]\ngreylist = false")
	s.start()
	from := []string{"backup", "restore", "--to", copies, "--into", ala}
	if _, said, code := s.command("", append(from, "Mail")...); code == 0 || !strings.Contains(said, `which has "`+ala+`", "Old mail"`) {
		t.Errorf("an account that is not there: exit %d, %s", code, said)
	}
	for range 2 {
		for _, who := range []string{ala, "Old mail"} {
			s.run("", append(from, who)...)
		}
	}
	now := uidl(t, s, ala)
	if len(now) != 23 {
		t.Errorf("the new mailbox has %d letters, want 3 and 20", len(now))
	}
	for _, id := range had {
		if !slices.Contains(now, id) {
			t.Errorf("unique-id %s is gone", id)
		}
	}
}
