package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestRebuildAfterKill kills the server under load and loses its database at the same
// moment: a rebuild refuses to work beside a server, and then finds every message that got its
// 250, in INBOX or in Recovered, from a snapshot made beside the running server and without.
func TestRebuildAfterKill(t *testing.T) {
	t.Parallel()
	s := setup(t, plaintext)
	s.run(password+"\n", "account", "add", "ola@"+domain)
	s.start()
	snapshot := strings.TrimSpace(s.run("", "store", "snapshot"))
	if _, err := os.Stat(snapshot); err != nil {
		t.Errorf("store snapshot printed %q: %v", snapshot, err)
	}
	if out, errOut, code := s.command("", "store", "rebuild", "--yes"); code != 1 || !strings.Contains(errOut, "stop it") {
		t.Errorf("store rebuild beside a server: exit %d\n%s%s", code, out, errOut)
	}
	l := newLedger()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { sendUntilDead(s.addr(25), l, fmt.Sprintf("c%d", i)) })
	}
	s.await("200 messages are accepted", 60*time.Second, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.acked) >= 200
	})
	s.kill()
	wg.Wait()
	if _, _, code := s.command("", "store", "rebuild"); code != 2 {
		t.Errorf("store rebuild without a terminal and without --yes: exit %d, want 2", code)
	}
	for _, args := range [][]string{{"store", "rebuild", "--yes"}, {"store", "rebuild", "--yes", "--scratch"}} {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(filepath.Join(s.dir, "data", "poczta.db"+suffix)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		t.Log(s.run("", args...))
		s.run("", "store", "check")
		for _, login := range []string{"ala@" + domain, "ola@" + domain} {
			have := exported(t, s, login)
			for subject := range l.acked {
				if have[subject] != 1 {
					t.Fatalf("%v: accepted message %q is there %d times for %s", args, subject, have[subject], login)
				}
			}
			for subject := range have {
				if !l.tried[subject] {
					t.Errorf("%v: message %q was never sent", args, subject)
				}
			}
		}
	}
}

// exported counts an account's messages by subject, in all mailboxes.
func exported(t *testing.T, s *server, login string) map[string]int {
	t.Helper()
	file := filepath.Join(t.TempDir(), "all.mbox")
	s.run("", "mailbox", "export", login, file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if subject, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "Subject: "); ok {
			have[subject]++
		}
	}
	return have
}
