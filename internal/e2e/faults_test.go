package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// smallDisk mounts a file system of its own for a data folder.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
			t.Fatal("a small file system can be mounted by root only")
		}
		t.Skip("a small file system can be mounted by root only")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", mib), "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount a small file system: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// try sends one message and returns the reply to its final dot, or the reply
// that ended the transaction before.
func (c *client) try(from, to, text string) string {
	c.t.Helper()
	for _, line := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<" + to + ">", "DATA"} {
		if _, err := fmt.Fprintf(c.conn, "%s\r\n", line); err != nil {
			c.t.Fatal(err)
		}
		r, err := c.reply()
		if err != nil {
			c.t.Fatal(err)
		}
		if r[0] != '2' && r[0] != '3' {
			c.say("RSET", "250")
			return r
		}
	}
	if _, err := fmt.Fprintf(c.conn, "%s.\r\n", text); err != nil {
		c.t.Fatal(err)
	}
	r, err := c.reply()
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// TestDiskFull fills the disk: mail is refused with 452 4.3.1 while what is there
// can still be read and deleted; when there is room again, mail is accepted
// without a restart; every message that got its 250 is there.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	s := setupIn(t, smallDisk(t, 48), "[store]\nreserve = \"8MiB\"\nsegment_size = \"4MiB\"", "[auth]\nplaintext_from = [\"127.0.0.0/8\"]")
	s.start()
	c := dial(t, s.addr(25))
	c.expect("220")
	c.say("EHLO client.test", "250")
	text := "Subject: filling\r\n\r\n" + strings.Repeat(strings.Repeat("z", 70)+"\r\n", 6000)
	accepted, refused := 0, ""
	for range 300 {
		if r := c.try("x@elsewhere.test", "ala@"+domain, text); strings.HasPrefix(r, "250") {
			accepted++
		} else {
			refused = r
			break
		}
	}
	if !strings.HasPrefix(refused, "452 4.3.1") {
		t.Fatalf("after %d messages got %q, want 452 4.3.1", accepted, refused)
	}
	// A file of somebody else takes the rest, the reserve too.
	hog := filepath.Join(s.dir, "hog")
	fillUp(t, hog)
	if r := c.try("x@elsewhere.test", "ala@"+domain, "Subject: small\r\n\r\nx\r\n"); !strings.HasPrefix(r, "452 4.3.1") {
		t.Fatalf("with no octet left got %q, want 452 4.3.1", r)
	}
	p := dial(t, s.addr(110))
	p.expect("+OK")
	p.say("USER ala@"+domain, "+OK")
	p.say("PASS "+password, "+OK")
	p.say("STAT", fmt.Sprintf("+OK %d ", accepted))
	p.say("RETR 1", "+OK")
	if lines := p.lines(); len(lines) < 6000 {
		t.Errorf("the first message has %d lines, want more than 6000", len(lines))
	}
	p.say("QUIT", "+OK")
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	p = dial(t, s.addr(110))
	p.expect("+OK")
	p.say("USER ala@"+domain, "+OK")
	p.say("PASS "+password, "+OK")
	for i := range accepted {
		p.say(fmt.Sprintf("DELE %d", i+1), "+OK")
	}
	p.say("QUIT", "+OK")
	s.run("", "mailbox", "purge", "ala@"+domain, "--yes")
	s.run("", "store", "merge")
	s.await("mail is accepted again", 30*time.Second, func() bool {
		return strings.HasPrefix(c.try("x@elsewhere.test", "ala@"+domain, "Subject: again\r\n\r\nx\r\n"), "250")
	})
	if out, errOut, code := s.command("", "store", "check"); code != 0 {
		t.Errorf("store check: exit %d\n%s%s", code, out, errOut)
	}
}

// fillUp writes a file until the disk is full.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096, 1} {
		block := make([]byte, size)
		for {
			if _, err := f.Write(block); err != nil {
				break
			}
		}
	}
}

// TestDrain stops the server in the middle of a transaction: the transaction is
// finished, new ones are refused, idle sessions are told.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.start()
	busy, idle := dial(t, s.addr(25)), dial(t, s.addr(25))
	for _, c := range []*client{busy, idle} {
		c.expect("220")
		c.say("EHLO client.test", "250")
	}
	busy.say("MAIL FROM:<x@elsewhere.test>", "250")
	busy.say("RCPT TO:<ala@example.org>", "250")
	busy.say("DATA", "354")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	idle.expect("421")
	busy.say("Subject: in time\r\n\r\ntext\r\n.", "250")
	select {
	case err := <-s.done:
		if err != nil {
			t.Errorf("the server ended badly: %v\n%s", err, s.log)
		}
	case <-time.After(20 * time.Second * patience):
		t.Errorf("the server did not end\n%s", s.log)
	}
	s.cmd = nil
	s.start()
	if rows := s.list("mailbox", "list", "ala@"+domain); len(rows) == 0 || rows[0]["messages"] != 1.0 {
		t.Errorf("after the drain: %v, want 1 message", rows)
	}
}

// TestReload keeps the old configuration when the new one is wrong, and says why.
func TestReload(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.start()
	good, err := os.ReadFile(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.conf, append(good, "\n[smtp_]\nmax_sise = \"1MiB\"\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	reload := func(want string) {
		t.Helper()
		before := len(s.log.String())
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		s.await("the log says "+want, 10*time.Second, func() bool { return strings.Contains(s.log.String()[before:], want) })
	}
	reload("smtp_")
	deliver(t, s, "still here")
	if err := os.WriteFile(s.conf, good, 0o644); err != nil {
		t.Fatal(err)
	}
	reload("reloaded")
	deliver(t, s, "and here")
}
