package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/resolver"
)

// asked is somebody at a terminal: what they were told and asked.
type asked struct {
	password  string
	agrees    bool
	said      strings.Builder
	questions []string
	passwords int
}

func (a *asked) Say(text string) { a.said.WriteString(text + "\n") }

func (a *asked) Confirm(question string) (bool, error) {
	a.questions = append(a.questions, question)
	return a.agrees, nil
}

func (a *asked) Password(string) (string, error) {
	a.passwords++
	return a.password, nil
}

func (a *asked) Browse(string) error { return errors.New("there is no browser") }

// names answers with the lines of domain dns that fit keep.
func (f *findable) names(t *testing.T, keep string) resolver.Resolver {
	t.Helper()
	fits := regexp.MustCompile(keep)
	zone := "mx." + domain + ". A 127.0.0.1\n"
	for line := range strings.Lines(f.lines) {
		if !strings.HasPrefix(line, ";") && fits.MatchString(line) {
			zone += line
		}
	}
	names, err := resolver.NewZone(zone)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestPersonSetsUp has people find a server of ours from their address alone, fetch, send and find.
func TestPersonSetsUp(t *testing.T) {
	t.Parallel()
	f := newFindable(t)
	for _, c := range []struct {
		name, address, keep string
		who                 asked
		questions           int
		fails               string // part of the error
	}{
		{"by autoconfig", "ala@" + domain, ".", asked{password: password}, 0, ""},
		{"a host outside the domain, agreed", "ola@second.example", `^_(pop3|submission)`, asked{password: password, agrees: true}, 1, ""},
		{"a host outside the domain, not agreed", "ola@second.example", `^_(pop3|submission)`, asked{password: password}, 1, "no server was confirmed"},
		{"a wrong password", "ala@" + domain, ".", asked{password: "wrong"}, 0, "was refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			names := f.names(t, c.keep)
			dial := func(ctx context.Context, network, hostport string) (net.Conn, error) {
				host, _, err := net.SplitHostPort(hostport)
				if err != nil {
					return nil, err
				}
				if _, err := resolver.Addrs(ctx, names, host); err != nil {
					return nil, err
				}
				return f.dial(ctx, network, hostport)
			}
			s := &mua.Setup{Person: &c.who, Resolver: names, Roots: f.ca.Pool(), Dial: dial}
			n, err := s.Account(t.Context(), mua.Wish{Address: c.address})
			if len(c.who.questions) != c.questions {
				t.Errorf("asked %q", c.who.questions)
			}
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("got %v, want %q", err, c.fails)
				}
				if c.questions > 0 && c.who.passwords > 0 {
					t.Error("a password was asked for though no server was confirmed")
				}
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, &c.who.said)
			}
			m, err := mua.Open(t.Context(), mua.Config{Folder: t.TempDir(), VaultFile: true, VaultWork: 10, Ask: func(bool) (string, error) { return "a passphrase", nil }, Roots: f.ca.Pool(), Dial: dial, Resolver: names})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}()
			livesWith(t, m, n)
		})
	}
}

// livesWith saves an account, sends a letter to it by its own server, fetches and finds it.
func livesWith(t *testing.T, m *mua.Mail, n mua.NewAccount) {
	t.Helper()
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	d := &mua.Desk{Mail: m, In: bytes.NewReader(text), Out: &out, Err: &out}
	body := "the pelican is here"
	if err := d.AccountAdd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Send(t.Context(), mua.Writing{To: []string{n.Account.Address}, Subject: "hello", Text: &body, Unchecked: true}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if err := d.Sync(t.Context(), nil); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	page, err := m.Store.List(t.Context(), store.Query{Text: "pelican"})
	if err != nil || len(page.Letters) != 2 { // here and in Sent
		t.Errorf("%d letters are found (%v)\n%s", len(page.Letters), err, &out)
	}
}

// laptop is a person's computer, where they use the command line.
type laptop struct {
	t   *testing.T
	dir string
	env []string
}

func newLaptop(t *testing.T) *laptop {
	t.Helper()
	l := &laptop{t: t, dir: t.TempDir()}
	l.write("passphrase", "correct horse\n")
	l.write("password", password+"\n")
	l.env = append(os.Environ(), "POCZTA_MAIL="+filepath.Join(l.dir, "mail"), "POCZTA_MAIL_PASSPHRASE_FILE="+filepath.Join(l.dir, "passphrase"),
		"LANG=C.UTF-8", "LC_ALL=", "LC_MESSAGES=", "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent")
	return l
}

func (l *laptop) write(name, text string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// start starts a command; all that it prints is collected.
func (l *laptop) start(stdin string, args ...string) (*exec.Cmd, *lockedBuffer) {
	l.t.Helper()
	bin, err := binary()
	if err != nil {
		l.t.Fatal(err)
	}
	out := &lockedBuffer{}
	cmd := exec.CommandContext(l.t.Context(), bin, append([]string{"mail", "--secrets-file"}, args...)...)
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = l.dir, l.env, strings.NewReader(stdin), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	return cmd, out
}

// does runs a command that must succeed, and returns what it printed.
func (l *laptop) does(stdin string, args ...string) string {
	l.t.Helper()
	cmd, out := l.start(stdin, args...)
	if err := cmd.Wait(); err != nil {
		l.t.Fatalf("poczta mail %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out.String()
}

// fails runs a command that must fail and say text.
func (l *laptop) fails(text string, args ...string) string {
	l.t.Helper()
	cmd, out := l.start("", args...)
	if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), text) {
		l.t.Fatalf("poczta mail %s: %v, want %q in\n%s", strings.Join(args, " "), err, text, out)
	}
	return out.String()
}

func (l *laptop) lists(args ...string) (rows []mua.LetterRow) {
	l.t.Helper()
	bin, err := binary()
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.CommandContext(l.t.Context(), bin, append(append([]string{"mail"}, args...), "--json")...)
	cmd.Dir, cmd.Env = l.dir, l.env
	var notes bytes.Buffer
	cmd.Stderr = &notes
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &rows)
	}
	if err != nil {
		l.t.Fatalf("poczta mail %v: %v: %s%s", args, err, out, &notes)
	}
	return rows
}

// TestPersonAtTheCommandLine sets up by hand with an authority of their own, and uses the commands,
// also while another one has the folder, and after that one was killed.
func TestPersonAtTheCommandLine(t *testing.T) {
	t.Parallel()
	f := newFindable(t)
	l := newLaptop(t)
	authority := l.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.ca.Cert.Raw})))
	pop, smtp := "127.0.0.1:"+f.port(995), "127.0.0.1:"+f.port(465)
	add := []string{"add", "ala@" + domain, "--incoming", pop, "--outgoing", smtp, "--password-file", "password"}
	l.fails("there is no mail in", "list")
	refusal := l.fails("is not trusted", add...)
	l.fails("is not trusted", append(add, "--ca", authority)...) // for other names than 127.0.0.1
	sha := regexp.MustCompile(`--accept ([0-9a-f]{64})`).FindStringSubmatch(refusal)
	if sha == nil {
		t.Fatalf("no way to accept the certificate in %s", refusal)
	}
	l.fails("login name or password is wrong", append(add, "--accept", sha[1], "--password-file", "passphrase")...)
	l.fails("there is no mail in", "list") // nothing was saved
	l.does("", append(add, "--accept", sha[1], "--keep", "days:30")...)
	l.fails("there is an account with this address already", append(add, "--accept", sha[1])...)
	c := dial(t, f.addr(25))
	c.expect("220")
	c.say("EHLO client.test", "250")
	for i := range 12 {
		c.message("ola@elsewhere.test", "ala@"+domain, fmt.Sprintf(letter, fmt.Sprintf("letter %d", i)))
	}
	c.say("QUIT", "221")
	if out := l.does("", "sync"); !strings.Contains(out, "12 new letters") {
		t.Fatalf("sync: %s", out)
	}
	if got := l.lists("list"); len(got) != 12 {
		t.Fatalf("%d letters are listed", len(got))
	}
	l.whileWatching(f)
	l.scripts(f)
	l.does("", "remove", "ala@"+domain, "--yes")
	if got := l.lists("list"); len(got) == 0 {
		t.Error("the letters went with the account")
	}
}

// whileWatching runs commands beside sync --watch, and after it was killed.
func (l *laptop) whileWatching(f *findable) {
	l.t.Helper()
	watch, out := l.start("", "sync", "--watch")
	f.await("the accounts are watched", 20*time.Second, func() bool { return strings.Contains(out.String(), "Watching 1 accounts") })
	l.does("", "export", "box", "--folder", "INBOX") // a path of the caller's folder
	if text, err := os.ReadFile(filepath.Join(l.dir, "box")); err != nil || bytes.Count(text, []byte("\nSubject: letter ")) != 12 {
		l.t.Errorf("export: %v, %d octets", err, len(text))
	}
	l.does("", "send", "ala@"+domain, "-s", "from the shell", "--text", "by way of the outbox", "--unchecked")
	f.await("the letter has left", 20*time.Second, func() bool { return len(l.lists("list", "--folder", "Sent")) == 1 })
	f.await("it has come", 20*time.Second, func() bool {
		cmd, _ := l.start("", "sync") // may meet the look of the watch
		_ = cmd.Wait()
		return len(l.lists("search", "subject:shell", "--folder", "INBOX")) == 1
	})
	_ = watch.Process.Kill()
	_ = watch.Wait()
	if got := l.lists("list", "--folder", "INBOX"); len(got) != 13 {
		l.t.Errorf("after the kill %d letters are here, want 13", len(got))
	}
	watch, out = l.start("", "sync", "--watch")
	f.await("the accounts are watched again", 20*time.Second, func() bool { return strings.Contains(out.String(), "Watching 1 accounts") })
	if err := errors.Join(watch.Process.Signal(syscall.SIGINT), watch.Wait()); err != nil {
		l.t.Errorf("watch ended with %v\n%s", err, out)
	}
}

// scripts sends as programs do.
func (l *laptop) scripts(f *findable) {
	l.t.Helper()
	l.does("From: ala@"+domain+"\nTo: ala@"+domain+"\nSubject: by sendmail\n\n.\nthe dot stays\n", "sendmail", "-t", "-oi")
	l.does("Subject: by cron\n\nno From\n", "sendmail", "-FCron", "-i", "-f", "ala@"+domain, "ala@"+domain)
	f.await("both have come", 20*time.Second, func() bool {
		l.does("", "sync")
		return len(l.lists("search", "subject:sendmail OR subject:cron", "--folder", "INBOX")) == 2 || len(l.lists("search", "subject:by", "--folder", "INBOX")) == 2
	})
	found := l.lists("search", "subject:sendmail", "--folder", "INBOX")
	if len(found) != 1 {
		l.t.Fatalf("found %+v", found)
	}
	if text := l.does("", "read", fmt.Sprint(found[0].ID)); !strings.Contains(text, "\n.\nthe dot stays\n") {
		l.t.Errorf("read: %s", text)
	}
	box := l.does("", "accounts", "--json")
	var list []profile.Account
	if err := json.Unmarshal([]byte(box), &list); err != nil || len(list) != 1 || list[0].Policy.Days != 30 || strings.Contains(box, password) {
		l.t.Errorf("accounts: %v %s", err, box)
	}
}
