package e2e_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
)

// outsider connects as a host of the open network.
func (s *server) outsider(addr, helo string) *client {
	s.t.Helper()
	c := dial(s.t, s.addr(25))
	c.expect("220")
	c.say("EHLO gateway.example.net", "250")
	c.say("XCLIENT ADDR="+addr+" NAME=[UNAVAILABLE]", "220")
	c.say("EHLO "+helo, "250")
	return c
}

// data sends one message and returns the reply to its end.
func (c *client) data(from, to, text, prefix string) string {
	c.t.Helper()
	c.say("MAIL FROM:<"+from+">", "250")
	c.say("RCPT TO:<"+to+">", "250")
	c.say("DATA", "354")
	return c.say(text+".", prefix)
}

var acceptedAs = regexp.MustCompile(`Accepted as (\S+)`)

// fate is what the trace says of the message that a reply accepted.
func (s *server) fate(reply string) string {
	s.t.Helper()
	id := acceptedAs.FindStringSubmatch(reply)
	if id == nil {
		s.t.Fatalf("reply %q names no message", reply)
	}
	return s.run("", "trace", id[1])
}

// signedBy is a message that a foreign signer has signed.
func signedBy(t *testing.T, key crypto.Signer, domain, msg string) string {
	t.Helper()
	var out bytes.Buffer
	if err := msgauth.Sign(&out, strings.NewReader(msg), &msgauth.SignOptions{Domain: domain, Selector: "s1", Signer: key,
		HeaderCanonicalization: msgauth.CanonicalizationRelaxed, BodyCanonicalization: msgauth.CanonicalizationRelaxed}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestSendersAreVerified lets strangers claim to be others, and one prove who it is.
func TestSendersAreVerified(t *testing.T) {
	t.Parallel()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	zone := newNames(t,
		`bank.test. TXT "v=spf1 ip4:192.0.2.10 -all"`, `bank.test. MX 10 mx.bank.test.`, `mx.bank.test. A 192.0.2.10`,
		`10.2.0.192.in-addr.arpa. PTR mx.bank.test.`, `_dmarc.bank.test. TXT "v=DMARC1; p=reject"`,
		`s1._domainkey.bank.test. TXT "v=DKIM1; k=ed25519; p=`+base64.StdEncoding.EncodeToString(public)+`"`,
		`thief.test. A 203.0.113.9`, `9.113.0.203.in-addr.arpa. PTR thief.test.`)
	s := setup(t, "[xclient]\nfrom = [\"127.0.0.1\"]", fmt.Sprintf("[dns]\nservers = [%q]\ntimeout = \"10s\"", zone.addr),
		"[spam]\ngreylist = false", "[auth]\nplaintext_from = [\"127.0.0.0/8\"]", "[tls_reports]\nsend = false", "[dmarc_reports]\nsend = false")
	s.start()
	login := "ala@" + domain
	fields := func(from, subject string) string {
		return "From: " + from + "\r\nTo: " + login + "\r\nSubject: " + subject + "\r\nDate: " + time.Now().Format(time.RFC1123Z) + "\r\nMessage-ID: <" + subject + "@x.test>\r\n\r\nHello.\r\n"
	}

	forged := s.fate(s.outsider("203.0.113.9", "thief.test").data("boss@bank.test", login, fields("boss@bank.test", "forged"), "250"))
	if !strings.Contains(forged, "dmarc_reject") || !strings.Contains(forged, "spf_fail") || !strings.Contains(forged, "Quarantine") {
		t.Errorf("mail in the name of a bank that forbids it:\n%s", forged)
	}
	ours := s.fate(s.outsider("203.0.113.9", "thief.test").data("boss@thief.test", login, fields(login, "ours"), "250"))
	if !strings.Contains(ours, "own_domain") || !strings.Contains(ours, "Quarantine") {
		t.Errorf("mail from a stranger in our name:\n%s", ours)
	}
	proven := s.fate(s.outsider("192.0.2.10", "mx.bank.test").data("boss@bank.test", login, signedBy(t, key, "bank.test", fields("boss@bank.test", "proven")), "250"))
	if !strings.Contains(proven, "dmarc_pass") || strings.Contains(proven, "Quarantine") {
		t.Errorf("mail that its domain has signed:\n%s", proven)
	}

	msg := strings.Join(pop3List(t, s.addr(110), login, password, "RETR 1"), "\n")
	for _, want := range []string{"Subject: proven", "Authentication-Results: mx." + domain, "iprev=pass", "spf=pass", "dkim=pass", "dmarc=pass"} {
		if !strings.Contains(msg, want) {
			t.Errorf("the INBOX' first message lacks %q:\n%s", want, msg)
		}
	}
	if n := len(pop3List(t, s.addr(110), login, password, "LIST")); n != 1 {
		t.Errorf("the INBOX has %d messages, want the one that is proven", n)
	}
}

// eicar is the test string of virus scanners, in pieces lest this file is taken for one.
func eicar() string {
	return `X5O!P%@AP[4\PZX54(P^)7CC)7}` + `$EICAR-STANDARD-` + `ANTIVIRUS-TEST-FILE!$H+H*`
}

// scanner starts the real clamd with one signature, and returns its socket and what ends it.
func scanner(t *testing.T) (socket string, stop func()) {
	t.Helper()
	program := "/usr/sbin/clamd"
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("POCZTA_REQUIRE_SERVICES") != "" {
			t.Fatal("no clamd: install the package clamav-daemon")
		}
		t.Skip("skipped: no clamd: install the package clamav-daemon")
	}
	dir, err := os.MkdirTemp("", "clamd") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	files := map[string]string{
		"conf":      fmt.Sprintf("Foreground true\nLocalSocket %s\nDatabaseDirectory %s\nTemporaryDirectory %s\n", socket, dir, dir),
		"local.ndb": "Poczta.Test.EICAR:0:*:" + hex.EncodeToString([]byte(eicar())) + "\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var said lockedBuffer
	cmd := exec.Command(program, "-c", filepath.Join(dir, "conf"))
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	stop = func() { _ = cmd.Process.Kill(); <-ended; _ = os.Remove(socket) }
	t.Cleanup(stop)
	(&server{t: t, log: &said}).await("clamd", time.Minute, func() bool { return strings.Contains(said.String(), "Self checking") })
	return socket, stop
}

// TestVirusesAreRefused scans with the real ClamAV, and goes on when it is gone.
func TestVirusesAreRefused(t *testing.T) {
	t.Parallel()
	socket, stop := scanner(t)
	s := setup(t, fmt.Sprintf("[clamd]\naddress = %q\nwhen_down = \"defer\"", "unix:"+socket))
	s.start()
	login := "ala@" + domain
	message := func(body string) string {
		return "From: jan@example.net\r\nTo: " + login + "\r\nSubject: x\r\n\r\n" + body + "\r\n"
	}
	c := dial(t, s.addr(25))
	c.expect("220")
	c.say("EHLO mx.example.net", "250")
	c.data("jan@example.net", login, message("Hello."), "250")
	if got := c.data("jan@example.net", login, message(eicar()), "550"); !strings.Contains(got, "5.7.1") || !strings.Contains(got, "virus") {
		t.Errorf("a virus is refused by %q", got)
	}
	stop()
	if got := c.data("jan@example.net", login, message("Hello."), "451"); !strings.Contains(got, "4.7.1") {
		t.Errorf("without a scanner: %q", got)
	}
	c.say("QUIT", "221")
}
