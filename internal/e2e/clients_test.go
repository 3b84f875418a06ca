package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tool finds a program; without it the test is skipped, or fails where services are required.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
			t.Fatalf("%s is not installed; make test installs it", name)
		}
		t.Skipf("%s is not installed; make test installs it", name)
	}
	return path
}

// execute runs a program with its home in a temporary folder and wants it to succeed.
func execute(t *testing.T, home, stdin, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home+"/.config", "LANG=C.UTF-8")
	cmd.Dir, cmd.Stdin = home, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// keep writes a file that only its owner reads.
func keep(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// clientServer is a server for one program's test, with passwords allowed only as
// that program can send them: under TLS.
func clientServer(t *testing.T) *server {
	t.Helper()
	s := setup(t)
	s.start()
	return s
}

// letter is what the clients send; the dots must come through as they are.
const letter = "From: Ala <ala@example.org>\r\nTo: ala@example.org\r\nSubject: %s\r\n\r\n.begins with a dot\r\n..two\r\n\r\nend\r\n"

// fetched fails unless the text holds the letter's body as it was sent.
func fetched(t *testing.T, text, subject string) {
	t.Helper()
	text = strings.ReplaceAll(text, "\r\n", "\n")
	for _, want := range []string{"Subject: " + subject + "\n", "\n.begins with a dot\n..two\n\nend\n"} {
		if !strings.Contains(text, want) {
			t.Fatalf("fetched message lacks %q:\n%s", want, text)
		}
	}
}

func TestPythonClients(t *testing.T) {
	t.Parallel()
	python := tool(t, "python3")
	s := clientServer(t)
	home := t.TempDir()
	script := keep(t, home, "client.py", `
import poplib, smtplib, ssl, sys
host, submission, submissions, pop3, pop3s, password = sys.argv[1:]
ctx = ssl.create_default_context(); ctx.check_hostname = False; ctx.verify_mode = ssl.CERT_NONE
letter = sys.stdin.buffer.read()
def send(c):
    c.login("ala@example.org", password)
    refused = c.sendmail("ala@example.org", ["ala@example.org"], letter)
    assert refused == {}, refused
    c.quit()
c = smtplib.SMTP(host, int(submission)); c.starttls(context=ctx); send(c)
send(smtplib.SMTP_SSL(host, int(submissions), context=ctx))
def fetch(p, delete):
    p.user("ala@example.org"); p.pass_(password)
    n, size = p.stat()
    assert n == 2, n
    uids = [u.split()[1] for u in p.uidl()[1]]
    assert len(set(uids)) == 2, uids
    total = 0
    for i in (1, 2):
        _, lines, octets = p.retr(i)
        text = b"\r\n".join(lines) + b"\r\n"
        assert text.endswith(b".begins with a dot\r\n..two\r\n\r\nend\r\n"), text
        assert int(p.list(i).split()[2]) == len(text), (p.list(i), len(text))
        total += len(text)
        assert p.top(i, 1)[1][-1] == b".begins with a dot", p.top(i, 1)
        if delete: p.dele(i)
    assert total == size, (total, size)
    p.quit()
    return uids
p = poplib.POP3(host, int(pop3)); p.stls(ctx); p.utf8 if False else None
first = fetch(p, False)
second = fetch(poplib.POP3_SSL(host, int(pop3s), context=ctx), True)
assert first == second, (first, second)
p = poplib.POP3_SSL(host, int(pop3s), context=ctx); p.user("ala@example.org"); p.pass_(password)
assert p.stat() == (0, 0), p.stat()
p.quit()
print("all well")
`)
	out := execute(t, home, fmt.Sprintf(letter, "python"), python, script, "127.0.0.1", s.port(587), s.port(465), s.port(110), s.port(995), password)
	if !strings.Contains(out, "all well") {
		t.Fatal(out)
	}
}

func TestCurl(t *testing.T) {
	t.Parallel()
	curl := tool(t, "curl")
	s := clientServer(t)
	home := t.TempDir()
	file := keep(t, home, "letter.eml", fmt.Sprintf(letter, "curl"))
	creds := keep(t, home, ".netrc", "machine 127.0.0.1 login ala@example.org password \""+password+"\"\n")
	execute(t, home, "", curl, "-sS", "--insecure", "--ssl-reqd", "--netrc-file", creds, "--mail-from", "ala@example.org", "--mail-rcpt", "ala@example.org",
		"--upload-file", file, "smtp://"+s.addr(587)+"/client.test")
	fetched(t, execute(t, home, "", curl, "-sS", "--insecure", "--netrc-file", creds, "pop3s://"+s.addr(995)+"/1"), "curl")
	fetched(t, execute(t, home, "", curl, "-sS", "--insecure", "--ssl-reqd", "--netrc-file", creds, "pop3://"+s.addr(110)+"/1"), "curl")
}

func TestSwaks(t *testing.T) {
	t.Parallel()
	swaks := tool(t, "swaks")
	s := clientServer(t)
	home := t.TempDir()
	file := keep(t, home, "letter.eml", fmt.Sprintf(letter, "swaks"))
	auth := keep(t, home, "swaks.conf", "--auth-password "+password+"\n")
	for _, how := range []string{"PLAIN", "LOGIN"} {
		execute(t, home, "", swaks, "--config", auth, "--server", "127.0.0.1", "--port", s.port(587), "-tls", "--auth", how, "--auth-user", "ala@example.org",
			"--from", "ala@example.org", "--to", "ala@example.org", "--data", "@"+file)
	}
	// a stranger on port 25
	execute(t, home, "", swaks, "--server", "127.0.0.1", "--port", s.port(25), "--from", "ola@elsewhere.test", "--to", "ala@example.org", "--data", "@"+file)
	if rows := s.list("mailbox", "list", "ala@example.org"); len(rows) == 0 || rows[0]["messages"] != 3.0 {
		t.Errorf("mailbox list: got %v, want 3 messages in INBOX", rows)
	}
}

func TestMsmtpMpop(t *testing.T) {
	t.Parallel()
	msmtp, mpop := tool(t, "msmtp"), tool(t, "mpop")
	s := clientServer(t)
	home := t.TempDir()
	conf := keep(t, home, "msmtprc", "account default\nhost 127.0.0.1\nport "+s.port(587)+"\ntls on\ntls_certcheck off\nauth on\nuser ala@example.org\npassword \""+
		password+"\"\nfrom ala@example.org\ndomain client.test\n")
	execute(t, home, fmt.Sprintf(letter, "msmtp"), msmtp, "-C", conf, "ala@example.org")
	scram := keep(t, home, "msmtprc2", "account default\nhost 127.0.0.1\nport "+s.port(465)+"\ntls on\ntls_starttls off\ntls_certcheck off\nauth scram-sha-256\nuser ala@example.org\npassword \""+
		password+"\"\nfrom ala@example.org\ndomain client.test\n")
	execute(t, home, fmt.Sprintf(letter, "msmtp"), msmtp, "-C", scram, "ala@example.org")
	box := filepath.Join(home, "mbox")
	conf = keep(t, home, "mpoprc", "account default\nhost 127.0.0.1\nport "+s.port(995)+"\ntls on\ntls_starttls off\ntls_certcheck off\nauth on\nuser ala@example.org\npassword \""+
		password+"\"\nuidls_file "+home+"/uidls\ndelivery mbox "+box+"\nkeep off\n")
	execute(t, home, "", mpop, "-C", conf)
	text, err := os.ReadFile(box)
	if err != nil {
		t.Fatal(err)
	}
	fetched(t, string(text), "msmtp")
	if rows := s.list("mailbox", "list", "ala@example.org"); len(rows) == 0 || rows[0]["messages"] != 0.0 {
		t.Errorf("mailbox list after mpop: got %v, want none left", rows)
	}
}

func TestFetchmail(t *testing.T) {
	t.Parallel()
	fetchmail := tool(t, "fetchmail")
	s := clientServer(t)
	home := t.TempDir()
	deliver(t, s, "fetchmail")
	conf := keep(t, home, "fetchmailrc", "poll 127.0.0.1 service "+s.port(995)+" protocol pop3 uidl:\n user \"ala@example.org\" password \""+password+
		"\" ssl no sslcertck keep mda \"tee -a "+home+"/got >/dev/null\"\n")
	env := []string{"-f", conf, "--idfile", home + "/ids", "--pidfile", home + "/pid", "--nosyslog"}
	execute(t, home, "", fetchmail, env...)
	text, err := os.ReadFile(home + "/got")
	if err != nil {
		t.Fatal(err)
	}
	fetched(t, string(text), "fetchmail")
}

func TestGetmail(t *testing.T) {
	t.Parallel()
	getmail := tool(t, "getmail")
	s := clientServer(t)
	home := t.TempDir()
	deliver(t, s, "getmail")
	keep(t, home, ".getmail/getmailrc", "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = 127.0.0.1\nport = "+s.port(995)+
		"\nusername = ala@example.org\npassword = "+password+"\n\n[destination]\ntype = MDA_external\npath = /usr/bin/tee\narguments = (\"-a\", \""+home+"/got\")\nignore_stderr = true\nallow_root_commands = true\n\n[options]\nread_all = false\ndelete = true\n")
	execute(t, home, "", getmail, "--getmaildir", home+"/.getmail")
	text, err := os.ReadFile(home + "/got")
	if err != nil {
		t.Fatal(err)
	}
	fetched(t, string(text), "getmail")
}

// deliver sends a letter as a stranger does.
func deliver(t *testing.T, s *server, subject string) {
	t.Helper()
	c := dial(t, s.addr(25))
	c.expect("220")
	c.say("EHLO client.test", "250")
	c.message("ola@elsewhere.test", "ala@example.org", fmt.Sprintf(letter, subject))
	c.say("QUIT", "221")
}
