package e2e_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scripted is a laptop with an account at a provider, where sendmail is this program.
func scripted(t *testing.T) (*laptop, *provider, string) {
	t.Helper()
	p := newProvider(t, nil, "").postfix()
	l := newLaptop(t)
	l.write("password", secret+"\n")
	l.does("", append([]string{"add", "ala@provider.test", "--password-file", "password", "--ca", p.authority(l)}, p.servers()...)...)
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	sendmail := filepath.Join(l.dir, "sendmail") // the program under that name
	if err := os.Symlink(bin, sendmail); err != nil {
		t.Fatal(err)
	}
	return l, p, sendmail
}

// program runs a program without a terminal, as cron does, and returns its exit code.
func (l *laptop) program(stdin, name string, args ...string) (out string, code int) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second // what it has started may hold its output
	var said lockedBuffer
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = l.dir, append(l.env, "HOME="+l.dir, "XDG_CONFIG_HOME="+l.dir, "GIT_CONFIG_NOSYSTEM=1"), strings.NewReader(stdin), &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL} // no terminal
	err := cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return said.String(), exit.ExitCode()
	} else if err != nil {
		l.t.Fatalf("%s: %v", name, err)
	}
	return said.String(), 0
}

// works runs a program that must succeed.
func (l *laptop) works(stdin, name string, args ...string) string {
	l.t.Helper()
	out, code := l.program(stdin, name, args...)
	if code != 0 {
		l.t.Fatalf("%s %s: exit %d\n%s", name, strings.Join(args, " "), code, out)
	}
	return out
}

// TestGitSendEmail sends a series of patches, which is one thread when it comes.
func TestGitSendEmail(t *testing.T) {
	t.Parallel()
	git := tool(t, "git")
	l, p, _ := scripted(t)
	if out, code := l.program("", git, "send-email", "--help-is-not-asked"); code == 1 && strings.Contains(out, "is not a git command") {
		absent(t, "git send-email is not installed: apt-get install git-email")
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"config", "user.name", "Ala Żółw"}, {"config", "user.email", "ala@provider.test"},
		{"config", "sendemail.sendmailcmd", bin + " sendmail"}, {"commit", "-q", "--allow-empty", "-m", "begin"}} {
		l.works("", git, args...)
	}
	for _, n := range []string{"one", "two"} {
		l.write("file", strings.Repeat(n+"\n.\n", 3))
		l.works("", git, "add", "file")
		l.works("", git, "commit", "-q", "-m", "zmiana "+n)
	}
	l.works("", git, "format-patch", "-q", "-2", "--cover-letter", "--subject-prefix=PATCH poczta", "-o", "out")
	cover := glob(t, filepath.Join(l.dir, "out/0000-*"))
	text := strings.NewReplacer("*** SUBJECT HERE ***", "two changes", "*** BLURB HERE ***", "both").Replace(readFile(t, cover[0]))
	l.write(filepath.Join("out", filepath.Base(cover[0])), text)
	l.works("", git, "send-email", "--to=ola@provider.test", "--cc=ala@provider.test", "--confirm=never", "--quiet", "out")
	l.arrives("[PATCH poczta 2/2] zmiana two")
	if n := p.holds("ola", "[PATCH poczta 1/2] zmiana one"); n != 1 {
		t.Errorf("%d letters with the first patch came to ola", n)
	}
	threads := map[int64]int{}
	for _, r := range l.lists("list", "--folder", "INBOX") {
		threads[r.Thread]++
	}
	if len(threads) != 1 {
		t.Errorf("the series is not one thread: %v", threads)
	}
	// What comes can be applied: it is what was sent.
	got := l.lists("search", "subject:zmiana", "subject:one", "--folder", "INBOX")
	if len(got) != 1 {
		t.Fatalf("found %+v", got)
	}
	l.works("", git, "checkout", "-q", "HEAD~2")
	l.write("letter.eml", l.does("", "read", id(got[0].ID), "--raw"))
	l.works("", git, "am", "-q", "letter.eml")
	if text := readFile(t, filepath.Join(l.dir, "file")); text != strings.Repeat("one\n.\n", 3) {
		t.Errorf("applied: %q", text)
	}
	// Somebody refused: git stops and says so.
	if out, code := l.program("", git, "send-email", "--to=picky@provider.test", "--suppress-cc=all", "--confirm=never", "--quiet", glob(t, filepath.Join(l.dir, "out/0002-*"))[0]); code == 0 || !strings.Contains(out, "picky@provider.test") {
		t.Errorf("a refused patch: exit %d %s", code, out)
	}
}

// TestSendmailForPrograms is called as bsd-mailx, mutt and cron call sendmail.
func TestSendmailForPrograms(t *testing.T) {
	t.Parallel()
	mailx := tool(t, "bsd-mailx")
	l, p, sendmail := scripted(t)
	rc := l.write("mailrc", "set sendmail="+sendmail+"\nset sendcharsets=utf-8\n")
	l.env = append(l.env, "MAILRC="+rc, "LC_ALL=C.UTF-8")
	l.works("Dear Ola,\n.starts with a dot\nżółw\n", mailx, "-s", "by mailx", "-r", "ala@provider.test", "ola@provider.test")
	// mutt calls: sendmail -oem -oi -f ADDRESS -- RECIPIENTS
	l.works("From: Ala <ala@provider.test>\nTo: ola@provider.test\nSubject: by mutt\n\n.\nafter a dot\n", sendmail, "-oem", "-oi", "-f", "ala@provider.test", "--", "ola@provider.test", "ala@provider.test")
	// cron calls: sendmail -FCronDaemon -i -B8BITMIME -oem root
	l.works("From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@laptop> /bin/true\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\nżółw\n",
		sendmail, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "ala@provider.test")
	l.works("To: ola@provider.test\nBcc: ala@provider.test\nSubject: by -t\n\nto whom the fields name\n", sendmail, "-t")
	l.works("", sendmail, "-bp")
	l.arrives("by mutt")
	l.arrives("by -t")
	l.arrives("Cron <root@laptop> /bin/true")
	for _, subject := range []string{"by mailx", "by mutt", "by -t"} {
		if n := p.holds("ola", subject); n != 1 {
			t.Errorf("%d letters %q came to ola", n, subject)
		}
	}
	for _, name := range glob(t, filepath.Join(p.dir, "mail/ola/new/*")) {
		if text := readFile(t, name); strings.Contains(text, "Bcc:") || strings.Contains(text, "by mailx") && !strings.Contains(text, "\n.starts with a dot\n") {
			t.Errorf("not as it was handed in: %s", text)
		}
	}
	for _, tt := range []struct {
		name, stdin string
		args        []string
		code        int
	}{
		{"no recipients", "Subject: x\n\nx\n", []string{"-i"}, 64},
		{"an option that is not known", "", []string{"-Z"}, 64},
		{"a server", "", []string{"-bs"}, 64},
		{"no address", "Subject: x\n\nx\n", []string{"no address at all@"}, 65},
		{"refused", "Subject: x\n\nx\n", []string{"picky@provider.test"}, 69},
		{"another's account", "Subject: x\n\nx\n", []string{"--account=nobody@provider.test", "ola@provider.test"}, 77},
	} {
		if out, code := l.program(tt.stdin, sendmail, tt.args...); code != tt.code || !strings.HasPrefix(out, "sendmail: ") {
			t.Errorf("%s: exit %d, want %d: %s", tt.name, code, tt.code, out)
		}
	}
	l.waits(sendmail)
}

// waits hands a letter in while the server is away: that is no error, and it is told as waiting.
func (l *laptop) waits(sendmail string) {
	l.t.Helper()
	l.does("", "server", "--outgoing", "127.0.0.1:9", "--security", "tls", "--untried")
	l.works("Subject: later\n\nx\n", sendmail, "ala@provider.test")
	if out := l.works("", sendmail, "-bp"); !strings.Contains(out, "later") {
		l.t.Errorf("sendmail -bp: %s", out)
	}
}

// TestSendmailFromCron has cron's few variables, no terminal and no passphrase, as root: the mail lies
// where it does without a word, and a letter is taken, waits, and leaves with the next sync.
func TestSendmailFromCron(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil, "").postfix()
	l := newLaptop(t)
	l.write("password", secret+"\n")
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cron := []string{"HOME=" + l.dir, "LOGNAME=root", "SHELL=/bin/sh", "PATH=/usr/bin:/bin"}
	passphrase := "POCZTA_MAIL_PASSPHRASE_FILE=" + filepath.Join(l.dir, "passphrase")
	l.env = append(cron, passphrase)
	l.does("", append([]string{"add", "ala@provider.test", "--password-file", "password", "--ca", p.authority(l)}, p.servers()...)...)
	if _, err := os.Stat(filepath.Join(l.dir, ".local/share/poczta-mail/secrets.age")); err != nil {
		t.Error(err)
	}
	l.env = cron
	if out := l.works("Subject: backup done\n\nall is well\n", bin, "sendmail", "-i", "ala@provider.test"); out != "" {
		t.Errorf("cron would send this to somebody: %s", out)
	}
	if out := l.works("", bin, "mail", "outbox"); !strings.Contains(out, "backup done") || !strings.Contains(out, "--passphrase-file") {
		t.Errorf("the outbox does not say what is missing: %s", out)
	}
	if out, code := l.program("", bin, "mail", "sync"); code != 1 || !strings.Contains(out, "--passphrase-file") {
		t.Errorf("sync without a passphrase: exit %d %s", code, out)
	}
	l.env = append(cron, passphrase)
	l.does("", "outbox", "retry", "1")
	l.arrives("backup done")
}
