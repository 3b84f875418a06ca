package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fullSize asks for the tests of imports at the size that is promised.
const fullSize = "POCZTA_FULL"

// maildir makes a Maildir of n messages of about octets each, with Dovecot's list,
// and returns the unique-ids that Dovecot would tell.
func maildir(t *testing.T, dir string, n, octets int) (uids []string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "cur"), 0o755), os.MkdirAll(filepath.Join(dir, "new"), 0o755), os.MkdirAll(filepath.Join(dir, "tmp"), 0o755)); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat(strings.Repeat("x", 71)+"\n", octets/72)
	list := bytes.NewBufferString(fmt.Sprintf("3 V1275660208 N%d G3085f01b7f11094c501100008c4a11c1\n", n+1))
	for i := range n {
		base := fmt.Sprintf("%d.M%dP1.host", 1700000000+i, i)
		message := fmt.Sprintf("From: a@elsewhere.test\nSubject: letter %d\n\n%d\n%s", i, i, text)
		if err := os.WriteFile(filepath.Join(dir, "cur", base+":2,S"), []byte(message), 0o644); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(list, "%d :%s\n", i+1, base)
		uids = append(uids, fmt.Sprintf("%08x%08x", i+1, 1275660208))
	}
	if err := os.WriteFile(filepath.Join(dir, "dovecot-uidlist"), list.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return uids
}

// importer is a command that imports, not yet started.
func importer(t *testing.T, s *server, login, path string) (*exec.Cmd, *lockedBuffer) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out := &lockedBuffer{}
	cmd := exec.Command(bin, "mailbox", "import", login, path, "--json", "--config", s.conf)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, out
}

var peakRSS = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// TestImportMemory imports many messages, without a server and with one: all
// processes together stay within 256 MiB. POCZTA_FULL=1 takes 200,000 messages.
func TestImportMemory(t *testing.T) {
	t.Parallel()
	n, most := 4_000, int64(160<<10) // KiB: what a server and a program of Go need anyway
	if os.Getenv(fullSize) != "" {
		n, most = 200_000, 256<<10
	}
	s := setup(t)
	dir := filepath.Join(t.TempDir(), "Maildir")
	maildir(t, dir, n, 2000)
	ela := "ela@" + domain
	s.run(password+"\n", "account", "add", ela)
	for _, login := range []string{"ala@" + domain, ela} {
		if login == ela {
			s.start()
		}
		cmd, out := importer(t, s, login, dir)
		began := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		client := watchPeak(cmd.Process.Pid)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		took := time.Since(began)
		if want := fmt.Sprintf(`"messages":%d,`, n); !strings.Contains(out.String(), want) {
			t.Errorf("got %s, want %s", out, want)
		}
		server := int64(0)
		if s.cmd != nil {
			server = peakOf(s.cmd.Process.Pid)
		}
		t.Logf("%d messages: %.0f/s, peak memory of the command %d KiB, of the server %d KiB", n, float64(n)/took.Seconds(), client(), server)
		if client()+server > most {
			t.Errorf("peak memory is %d KiB, want at most %d", client()+server, most)
		}
	}
	s.stop()
}

// peakOf is the most memory that a process has had, in KiB; 0 when it is gone.
func peakOf(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	m := peakRSS.FindSubmatch(status)
	if err != nil || m == nil {
		return 0
	}
	n, _ := strconv.ParseInt(string(m[1]), 10, 64)
	return n
}

// watchPeak looks at a program's memory until it has ended, and tells the most then. What
// the kernel says at its end would count what this very process had when it forked.
func watchPeak(pid int) func() int64 {
	most, done := int64(0), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			now := peakOf(pid)
			if now == 0 {
				return
			}
			most = max(most, now)
		}
	}()
	return func() int64 { <-done; return most }
}

// TestImportStopped kills imports in the middle and interrupts one; repeated, all
// messages are there once, in order, with the unique-ids that were known.
func TestImportStopped(t *testing.T) {
	t.Parallel()
	const n = 12_000 // more than is imported while it is asked three times how far it is
	login := "ala@" + domain
	s := setup(t, plaintext)
	dir := filepath.Join(t.TempDir(), "Maildir")
	want := maildir(t, dir, n, 500)
	logged := func() bool { // while no server runs, the database's log grows
		info, err := os.Stat(filepath.Join(s.dir, "data", "poczta.db-wal"))
		return err == nil && info.Size() > 200<<10
	}
	reached := func(most int) func() bool {
		return func() bool { got, _ := counted(s, login); return got > most }
	}
	// stop has an import running until it has come so far, and then sends it a signal.
	stop := func(sig syscall.Signal, far func() bool) (string, int) {
		cmd, out := importer(t, s, login, dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s.await("the import stores", 30*time.Second, far)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		return out.String(), cmd.ProcessState.ExitCode()
	}
	stop(syscall.SIGKILL, logged) // no server runs
	s.start()
	got, _ := counted(s, login)
	stop(syscall.SIGKILL, reached(got+200))
	got, _ = counted(s, login)
	out, code := stop(syscall.SIGINT, reached(got+200))
	if code != 1 || !strings.Contains(out, "run the same command again") || !strings.Contains(out, `"messages":`) {
		t.Errorf("interrupted: exit %d: %s; want 1, what was done, and how to go on", code, out)
	}
	if got, _ := counted(s, login); got == 0 || got == n {
		t.Fatalf("%d messages are there after the interrupts; this tests nothing", got)
	}
	s.run("", "mailbox", "import", login, dir)
	if got, octets := counted(s, login); got != n || octets == 0 {
		t.Errorf("%d messages are there, want %d", got, n)
	}
	if got := uidl(t, s, login); !slices.Equal(got, want) {
		t.Errorf("unique-ids differ: got %d, want %d; first %.60q", len(got), len(want), got[:min(3, len(got))])
	}
	if rows := s.list("mailbox", "import", login, dir); len(rows) != 1 || rows[0]["messages"] != 0.0 || rows[0]["duplicates"] != float64(n) {
		t.Errorf("once more: %v, want only duplicates", rows)
	}
	s.run("", "store", "check")
	s.stop()
}

// counted is what mailbox list says of INBOX.
func counted(s *server, login string) (messages int, octets int64) {
	s.t.Helper()
	for _, row := range s.list("mailbox", "list", login) {
		if row["name"] == "INBOX" {
			return int(row["messages"].(float64)), int64(row["octets"].(float64))
		}
	}
	return 0, 0
}

// uidl is what UIDL says by POP3.
func uidl(t *testing.T, s *server, login string) (uids []string) {
	t.Helper()
	for _, line := range pop3List(t, s.addr(110), login, password, "UIDL") {
		_, uid, _ := strings.Cut(line, " ")
		uids = append(uids, uid)
	}
	return uids
}

// pop3List is the answer to a command of many lines.
func pop3List(t *testing.T, addr, login, secret, command string) []string {
	t.Helper()
	c := dial(t, addr)
	c.expect("+OK")
	c.say("USER "+login, "+OK")
	c.say("PASS "+secret, "+OK")
	c.say(command, "+OK")
	lines := c.lines()
	c.say("QUIT", "+OK")
	return lines
}

// TestImportAsRoot has root import and export other people's mail while no server
// runs: the store's files stay their owner's, people's files are read and written by root.
func TestImportAsRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", "poczta-e2e-owner-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := setupIn(t, dir)
	const nobody = 65534
	own := func(fn func(path string, owner int)) {
		err := filepath.WalkDir(filepath.Join(dir, "data"), func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := os.Lstat(path)
			if err == nil {
				fn(path, int(info.Sys().(*syscall.Stat_t).Uid))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	own(func(path string, _ int) {
		if err := os.Lchown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	})
	private := filepath.Join(dir, "private")
	maildir(t, filepath.Join(private, "Maildir"), 50, 500)
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	login := "ala@" + domain
	if rows := s.list("mailbox", "import", login, filepath.Join(private, "Maildir")); len(rows) != 1 || rows[0]["messages"] != 50.0 {
		t.Errorf("import by root: %v, want 50 messages", rows)
	}
	s.run("", "mailbox", "export", login, filepath.Join(private, "out"), "--format", "maildir")
	if got, _ := filepath.Glob(filepath.Join(private, "out/cur/*")); len(got) != 50 {
		t.Errorf("export by root wrote %d messages, want 50", len(got))
	}
	if _, stderr, code := s.command("", "mailbox", "import", "who@"+domain, filepath.Join(private, "Maildir")); code != 1 || !strings.Contains(stderr, "who@"+domain) {
		t.Errorf("unknown account: exit %d: %s", code, stderr)
	}
	own(func(path string, owner int) {
		if owner != nobody {
			t.Errorf("%s belongs to user %d", path, owner)
		}
	})
}
