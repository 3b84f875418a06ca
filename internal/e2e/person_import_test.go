package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPersonImportsWhatIsNoMail imports what never ends, what waits for ever, and what leads elsewhere.
func TestPersonImportsWhatIsNoMail(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "", nil)
	dir := filepath.Join(s.dir, "odd")
	for _, sub := range []string{"cur", "new", "tmp", "loop"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	secret := s.write("elsewhere.eml", "Subject: elsewhere\n\nof another folder\n")
	pipe := filepath.Join(s.dir, "pipe")
	for _, err := range []error{
		syscall.Mkfifo(pipe, 0o600), syscall.Mkfifo(filepath.Join(dir, "cur", "1.pipe:2,S"), 0o600), os.Symlink("..", filepath.Join(dir, "loop", "again")),
		os.Symlink(secret, filepath.Join(dir, "cur", "2.link:2,S")), os.Symlink("/dev/zero", filepath.Join(dir, "cur", "3.zero:2,S")),
		os.WriteFile(filepath.Join(dir, "cur", "4.good:2,S"), []byte("Subject: good\n\nx\n"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/dev/zero", "/dev/null", pipe, "/proc/self/mem", filepath.Join(s.dir, "none"), "/proc/1"} {
		done := make(chan ran, 1)
		go func() { done <- s.tries("import", path) }()
		select {
		case r := <-done:
			if strings.Contains(r.out, "panic") || r.code == 0 && path != "/dev/null" && path != "/proc/1" {
				t.Errorf("import %s: exit %d: %.500s", path, r.code, r.out)
			}
		case <-time.After(20 * time.Second * patience):
			t.Fatalf("import %s does not end", path)
		}
	}
	r := s.tries("import", dir)
	if got := s.lists("list"); len(got) != 1 || got[0].Subject != "good" {
		t.Errorf("%d letters came of a Maildir with one: %+v\n%.1000s", len(got), got, r.out)
	}
}
