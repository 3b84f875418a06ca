package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
)

// TestStrictData wants the options that refuse mail data to reach the server.
func TestStrictData(t *testing.T) {
	t.Parallel()
	s := setup(t, "[smtp]\nrefuse_long_lines = true\nrefuse_nul = true\nrefuse_undeclared_8bit = true")
	s.start()
	for name, tt := range map[string]struct{ param, text, want string }{
		"plain":             {"", "plain", "250 "},
		"NUL":               {"", "a\x00b", "550 5.6.0"},
		"long line":         {"", strings.Repeat("x", 999), "550 5.6.0"},
		"longest line":      {"", strings.Repeat("x", 998), "250 "},
		"undeclared 8-bit":  {"", "\xc5\xbc\xc3\xb3\xc5\x82w", "550 5.6.3"},
		"declared 8-bit":    {" BODY=8BITMIME", "\xc5\xbc\xc3\xb3\xc5\x82w", "250 "},
		"declared SMTPUTF8": {" SMTPUTF8", "\xc5\xbc\xc3\xb3\xc5\x82w", "250 "},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, s.addr(25))
			c.expect("220")
			c.say("EHLO client.test", "250")
			c.say("MAIL FROM:<x@elsewhere.test>"+tt.param, "250")
			c.say("RCPT TO:<ala@"+domain+">", "250")
			c.say("DATA", "354")
			c.say("Subject: x\r\n\r\n"+tt.text+"\r\n.", tt.want)
			c.say("QUIT", "221")
		})
	}
}

// TestHostileImport imports a Maildir of somebody who means harm. What can't be
// read is named and left out, everything else is there, and the terminal is
// spared what does not print.
func TestHostileImport(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("running=%v", running), func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			if running {
				s.start()
			}
			dir := hostileMaildir(t, filepath.Join(s.dir, "secret"))
			stdout, stderr, code := s.command("", "mailbox", "import", "ala@"+domain, dir, "--json")
			if code != 1 || !strings.Contains(stderr, "4 messages could not be read and were left out; all others are imported") {
				t.Errorf("exit %d, want 1\n%s%s", code, stdout, stderr)
			}
			if strings.ContainsAny(stderr, "\x1b\x07") || !utf8.ValidString(stderr) {
				t.Errorf("the terminal would obey %q", stderr)
			}
			got := map[string]any{}
			for _, row := range s.list("mailbox", "list", "ala@"+domain) {
				got[fmt.Sprint(row["name"])] = row["messages"]
			}
			if got["INBOX"] != 2.0 || got["Za?"] != 1.0 {
				t.Errorf("mailboxes %v, want 2 messages in INBOX and 1 in Za?", got)
			}
		})
	}
}

// hostileMaildir makes three messages that can be read and four things that can't.
func hostileMaildir(t *testing.T, secret string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"cur/1:2,S", "cur/2.line\nend\x1b[31m:2,S", ".Za\xff/cur/3", "...x/cur/4"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("Subject: x\n\nx\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(secret, filepath.Join(dir, "cur/5\x1b]0;x\x07")), os.Symlink("/", filepath.Join(dir, ".Root")),
		syscall.Mkfifo(filepath.Join(dir, "cur/6"), 0o600), syscall.Mkfifo(filepath.Join(dir, "dovecot-uidlist"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}
