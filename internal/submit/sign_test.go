package submit_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/keys"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/smtpserver"
	"poczta.example/poczta/internal/submit"
)

// signers have keys for some domains.
type signers struct {
	m    map[string]*dkim.Signer
	err  error
	zone zone
}

// Signer implements submit.Signers.
func (s *signers) Signer(_ context.Context, d address.Domain) (*dkim.Signer, error) {
	if s.err != nil {
		return nil, s.err
	}
	if x, ok := s.m[d.String()]; ok {
		return x, nil
	}
	return nil, fmt.Errorf("%w: %s", keys.ErrNoKey, d)
}

type zone map[string]string

// TXT implements dkim.Records.
func (z zone) TXT(_ context.Context, name string) ([]string, error) {
	if text, ok := z[name]; ok {
		return []string{text}, nil
	}
	return nil, dkim.ErrNoKey
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// newSigners makes an Ed25519 key for each domain; those of RSA are the same.
func newSigners(t testing.TB, domains ...string) *signers {
	t.Helper()
	s := &signers{m: map[string]*dkim.Signer{}, zone: zone{}}
	second, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range domains {
		_, first, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		d := intaketest.Addr(t, "x@"+name).Domain()
		if s.m[name], err = dkim.NewSigner(d, dkim.SigningKey{Selector: "ed", Private: first}, dkim.SigningKey{Selector: "rsa", Private: second}); err != nil {
			t.Fatal(err)
		}
		for selector, pub := range map[string]any{"ed": first.Public(), "rsa": second.Public()} {
			if s.zone[dkim.KeyName(selector, d)], err = dkim.Record(pub); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

// submitAs sends a message from a session and returns it as it is stored.
func submitAs(t *testing.T, o *office, session *smtpserver.Session, from, text string) (intaketest.Accepted, error) {
	t.Helper()
	e := envelope.Envelope{ReversePath: intaketest.From(t, from), Origin: session.Origin}
	tx, err := o.Begin(t.Context(), session, e)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"ala@example.org", "jan@example.net"} {
		if err := tx.Rcpt(t.Context(), envelope.Recipient{ForwardPath: intaketest.To(t, to)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tx.Data(t.Context(), strings.NewReader(text)); err != nil {
		return intaketest.Accepted{}, err
	}
	all := o.accepter.Accepted()
	return all[len(all)-1], nil
}

// domainsOf are d= of the message's signatures; each must hold for our verifier
// and for go-msgauth.
func domainsOf(t *testing.T, z zone, msg string) string {
	t.Helper()
	v, err := dkim.NewVerifier(dkim.VerifierConfig{Records: z})
	if err != nil {
		t.Fatal(err)
	}
	header, rest, _ := message.SplitHeader([]byte(msg))
	c := v.Begin(header)
	_, _ = c.Write(dkim.AfterEmptyLine(rest))
	var words []string
	for _, r := range c.Results(t.Context(), newOffice(t, nil).now) {
		if r.Status != dkim.Pass {
			t.Errorf("signature is %s (%v) in\n%s", r.Status, r.Err, msg)
		}
		words = append(words, r.Signature.Domain.String())
	}
	if !strings.Contains(msg, "\r\n\r\n") {
		return strings.Join(words, " ") // go-msgauth does not read a message without the empty line
	}
	found, err := msgauth.VerifyWithOptions(strings.NewReader(msg), &msgauth.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) { return z.TXT(t.Context(), name) }})
	if err != nil || len(found) != len(words) {
		t.Errorf("go-msgauth: %d signatures, %v", len(found), err)
	}
	for _, f := range found {
		if f.Err != nil {
			t.Errorf("go-msgauth: %v", f.Err)
		}
	}
	return strings.Join(words, " ")
}

// granting lets everybody send as everybody.
type granting struct{ senders }

// MaySend implements submit.Senders.
func (granting) MaySend(context.Context, envelope.AccountID, address.Address) (bool, error) {
	return true, nil
}

// TestSigned: for which domain mail is signed.
func TestSigned(t *testing.T) {
	t.Parallel()
	s := newSigners(t, "example.org", "tenant.example")
	device := []submit.Host{{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}, Domains: []address.Domain{intaketest.Addr(t, "x@tenant.example").Domain()}}}
	tests := []struct {
		name, from, text, want string
		device                 bool
	}{
		{"own address", "ala@example.org", "From: ala@example.org\r\nBcc: x@example.net\r\n\r\nHi.\r\n", "example.org", false},
		{"no header section", "ala@example.org", "Hi. This is no field.\r\n", "example.org", false},
		{"no body", "ala@example.org", "Subject: a\r\n", "example.org", false},
		{"empty message", "ala@example.org", "", "example.org", false},
		{"long body", "ala@example.org", "From: ala@example.org\r\n\r\n" + strings.Repeat("A line of  text\t\r\n\r\n", 10_000) + "\r\n\r\n", "example.org", false},
		{"long header section", "ala@example.org", "From: ala@example.org\r\nX-Long: " + strings.Repeat("x ", 30_000) + "\r\n\r\nHi.\r\n", "example.org", false},
		{"UTF-8", "ala@example.org", "From: Żółw <ala@example.org>\r\nSubject: Zażółć\r\n\r\nżółw\r\n", "example.org", false},
		{"null reverse-path", "", "From: ala@example.org\r\n\r\nHi.\r\n", "example.org", false},
		{"granted, of another domain here", "ala@example.org", "From: boss@tenant.example\r\n\r\nHi.\r\n", "tenant.example", false},
		{"granted, foreign", "ala@example.org", "From: ala@foreign.example\r\n\r\nHi.\r\n", "example.org", false},
		{"resent, another tenant's", "ala@example.org", "Resent-From: ala@example.org\r\nFrom: boss@tenant.example\r\n\r\nHi.\r\n", "example.org", false},
		{"nothing of ours", "ala@foreign.example", "From: ala@foreign.example\r\n\r\nHi.\r\n", "", false},
		{"device", "scanner@tenant.example", "From: scanner@tenant.example\r\n\r\nHi.\r\n", "tenant.example", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			signed := 0
			o := newOffice(t, func(c *submit.Config) {
				c.Signers, c.Senders, c.Hosts = s, granting{}, device
				c.Hooks.Signed = func(yes bool) {
					if yes {
						signed++
					}
				}
			})
			session := ala()
			if tt.device {
				session = stranger("192.0.2.7")
			}
			got, err := submitAs(t, o, session, tt.from, tt.text)
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if want != "" {
				want += " " + want
			}
			if domains := domainsOf(t, s.zone, string(got.Head)+got.Text); domains != want || (signed == 1) != (want != "") {
				t.Errorf("signed for %q, want %q; %d counted", domains, want, signed)
			}
			if names := fieldNames(got.Head); tt.want != "" && names != "Received DKIM-Signature DKIM-Signature" {
				t.Errorf("on top stand %s", names)
			}
		})
	}
}

func fieldNames(header []byte) string {
	var names []string
	for f := range message.Fields(header) {
		names = append(names, f.Name())
	}
	return strings.Join(names, " ")
}

// TestUnsignedIsToldOnce: without a key mail goes on, and the log says so once.
func TestUnsignedIsToldOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	o := newOffice(t, func(c *submit.Config) {
		c.Signers, c.Logger = newSigners(t), slog.New(slog.NewTextHandler(&log, nil))
	})
	for range 3 {
		got, err := submitAs(t, o, ala(), "ala@example.org", "From: ala@example.org\r\n\r\nHi.\r\n")
		if err != nil || fieldNames(got.Head) != "Received" {
			t.Fatalf("%q, %v", got.Head, err)
		}
	}
	if n := strings.Count(log.String(), "no DKIM key"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
}

// TestSignerFails: mail that ought to be signed and can't is refused for now.
func TestSignerFails(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *submit.Config) {
		c.Signers = &signers{err: errors.New("database is away")}
	})
	_, err := submitAs(t, o, ala(), "ala@example.org", "From: ala@example.org\r\n\r\nHi.\r\n")
	if err == nil || intake.CodeOf(err) != 451 {
		t.Errorf("got %v, want 451", err)
	}
	if len(o.accepter.Accepted()) != 0 || o.accepter.Leaked() != 0 {
		t.Errorf("%d accepted, %d left staged", len(o.accepter.Accepted()), o.accepter.Leaked())
	}
}

// TestForeignVerifier shows a submitted message to dkimpy, where Debian's packages
// python3-dkim and python3-nacl are installed.
func TestForeignVerifier(t *testing.T) {
	t.Parallel()
	s := newSigners(t, "example.org")
	o := newOffice(t, func(c *submit.Config) { c.Signers = s })
	got, err := submitAs(t, o, ala(), "ala@example.org", "From: Ala <ala@example.org>\r\nSubject: Is  dinner\r\n ready?\r\n\r\nHi. \r\n\r\n We lost\t the game.\r\n\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	msg := string(got.Head) + got.Text
	python, err := exec.LookPath("/usr/bin/python3")
	if err != nil || exec.Command(python, "-c", "import dkim, nacl").Run() != nil {
		t.Skip("dkimpy is not installed: apt-get install python3-dkim python3-nacl")
	}
	const script = `
import dkim, json, sys
zone, msg = json.loads(sys.argv[1]), sys.stdin.buffer.read()
def txt(name, timeout=5): return zone.get(name.decode().rstrip('.'), '').encode()
d = dkim.DKIM(msg)
print(*[d.verify(idx=i, dnsfunc=txt) for i in range(2)])
`
	var pairs []string
	for name, record := range s.zone {
		pairs = append(pairs, fmt.Sprintf("%q: %q", name, record))
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", script, "{"+strings.Join(pairs, ", ")+"}")
	cmd.Stdin = strings.NewReader(msg)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "True True" {
		t.Errorf("dkimpy says %s (%v)", out, err)
	}
}
