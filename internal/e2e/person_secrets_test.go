package e2e_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
	"poczta.example/poczta/internal/mailtest/poppeer"
)

// TestPersonSecrets looks for the password in all that a person's commands print and write, and for
// files that others may read, whatever the umask says.
func TestPersonSecrets(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "", poppeer.Letters(3, 500))
	s.umask("sync")
	s.umask("sync")
	s.umask("send", "ola@peer.example", "-s", "x", "--text", "x", "--unchecked", "-a", "passphrase")
	s.umask("read", "1", "--save", "saved")
	s.umask("export", "box")
	s.umask("export", "maildir", "--format", "maildir")
	s.umask("backup", "key", filepath.Join(s.dir, "backup.key"))
	s.umask("backup", "create", "--to", filepath.Join(s.dir, "backup"), "--key-file", "backup.key")
	said := s.does("", "accounts", "--json") + s.does("", "accounts") + s.does("", "outbox", "list", "--json") + s.does("", "list", "--json") +
		s.does("", "backup", "list", "--to", filepath.Join(s.dir, "backup"), "--key-file", "backup.key")
	s.pop.SetRules(poppeer.Rule{Stage: poppeer.Pass, Do: poppeer.Reply("-ERR you said " + password)}, poppeer.Rule{Stage: poppeer.Auth, Do: poppeer.Reply("-ERR [AUTH] no")})
	s.smtp.SetRules(peer.Rule{Stage: peer.Auth, Do: peer.Reply("535 5.7.8 no")})
	for _, args := range [][]string{{"sync"}, {"sync", "--json"}, {"send", "ola@peer.example", "--text", "x", "--unchecked"}, {"password", "--password-file", "passphrase"}} {
		said += s.runs("", args...).out
	}
	for _, secret := range []string{password, "correct horse"} {
		if i := strings.Index(strings.ReplaceAll(said, "you said "+password, ""), secret); i >= 0 {
			t.Errorf("%q was printed: …%.200q", secret, said[max(0, i-100):])
		}
	}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if path != s.dir && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v", path, info.Mode())
		}
		if !d.Type().IsRegular() || path == filepath.Join(s.dir, "password") || path == filepath.Join(s.dir, "passphrase") {
			return nil
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(password)) {
			t.Errorf("the password stands in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// umask runs a command that lets others read what it makes, if it does not see to that itself.
func (s *siege) umask(args ...string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "/bin/sh", append([]string{"-c", `umask 0; exec "$@"`, "sh", s.bin, "mail", "--secrets-file"}, args...)...)
	cmd.Dir, cmd.Env = s.dir, s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Errorf("%v: %v\n%s", args, err, out)
	}
}

// TestPersonArguments looks at the command lines of all processes while secrets are used.
func TestPersonArguments(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "", poppeer.Letters(3, 500))
	s.pop.SetRules(poppeer.Rule{Stage: poppeer.List, Do: poppeer.Late(time.Second)})
	cmd, _ := s.start("", "sync")
	await(t, "the server is asked", func() bool { return s.pop.Seen(poppeer.List) > 0 })
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(lines) == 0 {
		t.Fatalf("%d processes, %v", len(lines), err)
	}
	for _, path := range lines {
		text, err := os.ReadFile(path)
		if err == nil && (bytes.Contains(text, []byte(password)) || bytes.Contains(text, []byte("correct horse"))) && bytes.Contains(text, []byte(s.mail)) {
			t.Errorf("a secret stands in a command line: %q", text)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestPersonPassphrase opens the encrypted secrets by passphrases as files have them.
func TestPersonPassphrase(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "", poppeer.Letters(1, 500))
	for name, c := range map[string]struct{ text, fails string }{
		"as it is":           {"correct horse", ""},
		"with CRLF":          {"correct horse\r\n", ""},
		"with more lines":    {"correct horse\nsecond\n", ""},
		"with a mark":        {"\ufeffcorrect horse\r\n", ""},
		"wrong":              {"wrong horse\n", "the passphrase is wrong"},
		"another case":       {"Correct horse\n", "the passphrase is wrong"},
		"a blank at the end": {"correct horse \n", "the passphrase is wrong"},
		"empty":              {"", "first line of"},
		"an empty line":      {"\ncorrect horse\n", "first line of"},
		"UTF-16":             {"\xff\xfec\x00o\x00r\x00", "UTF-8"},
	} {
		file := s.write("asked", c.text)
		r := s.runs("", "sync", "--passphrase-file", file)
		if c.fails == "" && r.code != 0 {
			t.Errorf("%s: %s", name, r.out)
		} else if c.fails != "" {
			s.plainly(r, c.fails)
		}
		if strings.Contains(r.out, "horse") {
			t.Errorf("%s: the passphrase is printed: %s", name, r.out)
		}
	}
	if seen := s.pop.Logins(); len(seen) == 0 {
		t.Error("nobody logged in")
	}
	s.plainly(s.runs("", "sync", "--passphrase-file", filepath.Join(s.dir, "none")), "no such file")
	if err := os.WriteFile(filepath.Join(s.mail, "secrets.age"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.plainly(s.runs("", "sync"), "it is damaged")
	s.does("", "list")
}
