package e2e_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/message"
)

// records are the keys that "domain list" shows, as DNS would.
type records map[string]string

// TXT implements dkim.Records.
func (r records) TXT(_ context.Context, name string) ([]string, error) {
	if text, ok := r[name]; ok {
		return []string{text}, nil
	}
	return nil, fmt.Errorf("%w: %s", dkim.ErrNoKey, name)
}

// TestSubmissionIsSigned: what a person submits holds, as it comes out of the
// mailbox, for our verifier, for go-msgauth and, where it is installed, for dkimpy;
// mail from outside is not signed.
func TestSubmissionIsSigned(t *testing.T) {
	t.Parallel()
	s := setup(t, "[auth]\nplaintext_from = [\"127.0.0.0/8\"]")
	s.start()
	zone := records{}
	for _, k := range s.list("domain", "list")[0]["dkim"].([]any) {
		key := k.(map[string]any)
		zone[key["name"].(string)] = key["record"].(string)
	}
	if len(zone) != 2 {
		t.Fatalf("the domain has keys %v", zone)
	}
	login := "ala@" + domain
	c := dial(t, s.addr(587))
	c.expect("220")
	c.say("EHLO laptop.example.org", "250")
	c.say("AUTH PLAIN "+plain(login, password), "235")
	body := strings.Repeat(".A line with  blanks \t\r\n\r\n", 3000) + "\r\n\r\n"
	c.message(login, login, "From: Ala <"+login+">\r\nTo: "+login+"\r\nSubject: Is dinner\r\n ready?\r\nBcc: jan@example.net\r\n\r\n"+body)
	c = dial(t, s.addr(25))
	c.expect("220")
	c.say("EHLO mx.example.net", "250")
	c.message("jan@example.net", login, "From: jan@example.net\r\n\r\nHi.\r\n")

	if foreign := strings.Join(pop3List(t, s.addr(110), login, password, "RETR 2"), "\r\n"); strings.Contains(foreign, "DKIM-Signature") {
		t.Errorf("mail from outside is signed:\n%s", foreign)
	}
	msg := strings.Join(pop3List(t, s.addr(110), login, password, "RETR 1"), "\r\n") + "\r\n"
	v, err := dkim.NewVerifier(dkim.VerifierConfig{Records: zone})
	if err != nil {
		t.Fatal(err)
	}
	header, rest, _ := message.SplitHeader([]byte(msg))
	check := v.Begin(header)
	_, _ = check.Write(dkim.AfterEmptyLine(rest))
	results := check.Results(t.Context(), time.Now())
	if len(results) != 2 {
		t.Fatalf("%d signatures, want 2:\n%s", len(results), header)
	}
	for _, r := range results {
		if r.Status != dkim.Pass || r.Signature.Domain.String() != domain {
			t.Errorf("%s is %s: %v", r.Signature.Algorithm, r.Status, r.Err)
		}
	}
	found, err := msgauth.VerifyWithOptions(strings.NewReader(msg), &msgauth.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) { return zone.TXT(t.Context(), name) }})
	if err != nil || len(found) != 2 || found[0].Err != nil || found[1].Err != nil {
		t.Errorf("go-msgauth: %v, %v", found, err)
	}
	verifyWithDkimpy(t, zone, msg)
}

// verifyWithDkimpy asks the program of Debian's package python3-dkim, if it is here.
func verifyWithDkimpy(t *testing.T, zone records, msg string) {
	t.Helper()
	const python = "/usr/bin/python3"
	if exec.CommandContext(t.Context(), python, "-c", "import dkim, nacl").Run() != nil {
		t.Log("dkimpy is not asked: apt-get install python3-dkim python3-nacl")
		return
	}
	var pairs []string
	for name, record := range zone {
		pairs = append(pairs, fmt.Sprintf("%q: %q", name, record))
	}
	out := execute(t, t.TempDir(), msg, python, "-c", `
import dkim, json, sys
zone, msg = json.loads(sys.argv[1]), sys.stdin.buffer.read()
d = dkim.DKIM(msg)
print(*[d.verify(idx=i, dnsfunc=lambda name, timeout=5: zone[name.decode().rstrip('.')].encode()) for i in range(2)])
`, "{"+strings.Join(pairs, ", ")+"}")
	if strings.TrimSpace(out) != "True True" {
		t.Errorf("dkimpy says %s", out)
	}
}
