package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// listing is what a POP3 program sees: unique-ids and subjects.
func listing(t *testing.T, s *server, login string) (uids, subjects []string) {
	t.Helper()
	c := dial(t, s.addr(110))
	c.expect("+OK")
	c.say("USER "+login, "+OK")
	c.say("PASS "+password, "+OK")
	c.say("UIDL", "+OK")
	for _, line := range c.lines() {
		_, uid, _ := strings.Cut(line, " ")
		uids = append(uids, uid)
	}
	for i := range uids {
		c.say(fmt.Sprintf("TOP %d 0", i+1), "+OK")
		for _, line := range c.lines() {
			if v, ok := strings.CutPrefix(line, "Subject: "); ok {
				subjects = append(subjects, v)
			}
		}
	}
	c.say("QUIT", "+OK")
	return uids, subjects
}

// remove deletes the messages with the numbers by POP3.
func remove(t *testing.T, s *server, login string, numbers ...int) {
	t.Helper()
	c := dial(t, s.addr(110))
	c.expect("+OK")
	c.say("USER "+login, "+OK")
	c.say("PASS "+password, "+OK")
	for _, n := range numbers {
		c.say(fmt.Sprintf("DELE %d", n), "+OK")
	}
	c.say("QUIT", "+OK")
}

const plaintext = "[auth]\nplaintext_from = [\"127.0.0.0/8\"]"

// TestRebuild loses the database: deliver, delete, purge, merge, rebuild, and
// nothing deleted is in INBOX, unique-ids are equal, queued mail is held.
func TestRebuild(t *testing.T) {
	t.Parallel()
	for _, withSnapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot=%t", withSnapshot), func(t *testing.T) {
			t.Parallel()
			s := setup(t, plaintext, "[relay]\nenabled = false")
			s.start()
			login := "ala@" + domain
			for i := range 12 {
				deliver(t, s, fmt.Sprintf("letter %d", i))
			}
			remove(t, s, login, 2, 4)
			s.run("", "mailbox", "purge", login, "--yes")
			s.run("", "store", "merge")
			if withSnapshot {
				s.run("", "store", "snapshot")
			}
			remove(t, s, login, 1)
			deliver(t, s, "letter 12")
			c := dial(t, s.addr(587))
			c.expect("220")
			c.say("EHLO client.test", "250")
			c.say("AUTH PLAIN "+plain(login, password), "235")
			c.message(login, "far@away.test", "From: <"+login+">\r\nSubject: queued\r\n\r\ntext\r\n")
			uids, subjects := listing(t, s, login)
			s.stop()
			for _, f := range glob(t, s.dir+"/data/*.db*") {
				if err := os.Remove(f); err != nil {
					t.Fatal(err)
				}
			}
			if !withSnapshot {
				if err := os.RemoveAll(s.dir + "/data/snapshots"); err != nil {
					t.Fatal(err)
				}
			}
			t.Log(s.run("", "store", "rebuild", "--yes"))
			if !withSnapshot {
				s.run(password+"\n", "account", "password", login)
			}
			s.start()
			gotUIDs, gotSubjects := listing(t, s, login)
			if !slices.Equal(gotUIDs, uids) {
				t.Errorf("unique-ids after rebuild:\n got %v\nwant %v", gotUIDs, uids)
			}
			if !slices.Equal(gotSubjects, subjects) {
				t.Errorf("subjects after rebuild:\n got %v\nwant %v", gotSubjects, subjects)
			}
			if rows := s.list("queue", "list"); len(rows) != 1 || rows[0]["held"] != true {
				t.Errorf("queue after rebuild: %v, want one message, held", rows)
			}
		})
	}
}

// TestDamage flips a bit in a stored message and loses a whole segment: store
// check names both, and the rest stays readable.
func TestDamage(t *testing.T) {
	t.Parallel()
	s := setup(t, plaintext)
	s.start()
	login := "ala@" + domain
	for i := range 3 {
		deliver(t, s, fmt.Sprintf("first life %d", i))
	}
	s.stop()
	s.start()
	for i := range 3 {
		deliver(t, s, fmt.Sprintf("second life %d", i))
	}
	s.stop()
	var first, second string
	for _, f := range glob(t, s.dir+"/data/segments/*.seg") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.Contains(string(text), "Subject: first life 1"):
			first = f
			i := strings.Index(string(text), "Subject: first life 1")
			text[i+10] ^= 0x20
			if err := os.WriteFile(f, text, 0o600); err != nil {
				t.Fatal(err)
			}
		case strings.Contains(string(text), "Subject: second life 0"):
			second = f
		}
	}
	if first == "" || second == "" || first == second {
		t.Fatalf("the messages lie in segments %q and %q, want two", first, second)
	}
	out, errOut, code := s.command("", "store", "check")
	if code != 1 || !strings.Contains(out+errOut, filepath.Base(first)) {
		t.Errorf("store check with a flipped bit: exit %d, want 1 and the name of the segment\n%s%s", code, out, errOut)
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	out, errOut, code = s.command("", "store", "check")
	if code != 1 || !strings.Contains(out+errOut, filepath.Base(second)) {
		t.Errorf("store check with a missing segment: exit %d, want 1 and the name of the segment\n%s%s", code, out, errOut)
	}
	s.start()
	c := dial(t, s.addr(110))
	c.expect("+OK")
	c.say("USER "+login, "+OK")
	c.say("PASS "+password, "+OK")
	c.say("STAT", "+OK 6 ")
	c.say("RETR 1", "+OK")
	c.lines()
	c.say("RETR 4", "-ERR [SYS/PERM]")
	c.say("RETR 3", "+OK")
	if lines := c.lines(); !slices.Contains(lines, "Subject: first life 2") {
		t.Errorf("the message behind the damage can't be read: %q", lines)
	}
	c.say("QUIT", "+OK")
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file matches %s (%v)", pattern, err)
	}
	return files
}
