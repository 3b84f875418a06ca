package dkim_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/message"
)

// now is when the tests sign.
var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// ring is a pair of keys and their records at example.org.
type ring struct {
	ed   ed25519.PrivateKey
	rsa  *rsa.PrivateKey
	zone zone
}

var newRing = sync.OnceValues(func() (*ring, error) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	r := &ring{ed, key, zone{}}
	for name, pub := range map[string]crypto.PublicKey{"ed._domainkey.example.org": ed.Public(), "rsa._domainkey.example.org": key.Public()} {
		if r.zone[name], err = dkim.Record(pub); err != nil {
			return nil, err
		}
	}
	return r, nil
})

func keys(t testing.TB) *ring {
	t.Helper()
	r, err := newRing()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func domain(t testing.TB, s string) address.Domain {
	t.Helper()
	d, err := address.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (r *ring) signer(t testing.TB) *dkim.Signer {
	t.Helper()
	s, err := dkim.NewSigner(domain(t, "example.org"), dkim.SigningKey{Selector: "ed", Private: r.ed}, dkim.SigningKey{Selector: "rsa", Private: r.rsa})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sign puts the signatures in front of a message.
func sign(t testing.TB, s *dkim.Signer, msg string, opt dkim.Options) string {
	t.Helper()
	header, rest, _ := message.SplitHeader([]byte(msg))
	g := s.Begin(header, opt)
	_, _ = g.Write(dkim.AfterEmptyLine(rest))
	fields, err := g.Fields(now)
	if err != nil {
		t.Fatal(err)
	}
	return string(fields) + msg
}

const letter = "From: Ala <ala@example.org>\r\nTo: jan@example.net\r\nSubject: Is dinner\r\n  ready?\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n" +
	"Message-ID: <1@example.org>\r\nX-Other: not signed\r\n\r\nHi.\r\n\r\nWe lost  the game.\t\r\n\r\n\r\n"

// messages for round trips. go-msgauth wants whole messages and takes a bare CR
// for a line end, so that it is asked only about those where alone is false; none
// of the others ever leaves this house.
var messages = []struct {
	name, text string
	alone      bool
}{
	{"letter", letter, false},
	{"empty body", "From: ala@example.org\r\n\r\n", false},
	{"no empty line", "From: ala@example.org\r\nSubject: a\r\n", true},
	{"several of one name", "From: ala@example.org\r\nTo: a@example.net\r\nTo: b@example.net\r\nReferences: <1@x>\r\n <2@x>\r\n\r\nx\r\n", false},
	{"UTF-8", "From: Żółw <żółw@example.org>\r\nSubject: Zażółć gęślą jaźń\r\n\r\nżółw\r\n", false},
	{"resent and list", "Resent-From: ala@example.org\r\nList-ID: <l.example.org>\r\nFrom: ola@example.net\r\n\r\nx\r\n", false},
	{"empty field", "From: ala@example.org\r\nSubject:\r\nCc: \r\n\r\nx\r\n", false},
	{"no last line end", "From: ala@example.org\r\n\r\nx", true},
	{"bare CR", "From: ala@example.org\r\n\r\nx\ry \r z\r\n", true},
}

// TestRoundTrip: what we sign holds for our Verifier and for go-msgauth.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	r := keys(t)
	for _, tt := range messages {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			signed := sign(t, r.signer(t), tt.text, dkim.Options{Lifetime: time.Hour})
			results := verify(t, r.zone, []byte(signed), now)
			if got := outcome(results); got != "pass pass" {
				t.Errorf("got %s for\n%s", got, signed)
				for _, res := range results {
					t.Log(res.Err)
				}
			}
			if tt.alone {
				return
			}
			verifyElsewhere(t, r.zone, signed, 2)
		})
	}
}

// verifyElsewhere asks go-msgauth.
func verifyElsewhere(t *testing.T, z zone, signed string, want int) {
	t.Helper()
	found, err := msgauth.VerifyWithOptions(strings.NewReader(signed), &msgauth.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) { return z.TXT(t.Context(), name) }})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != want {
		t.Errorf("go-msgauth finds %d signatures, want %d", len(found), want)
	}
	for _, v := range found {
		if v.Err != nil && !strings.Contains(v.Err.Error(), "expired") { // its clock is today's
			t.Errorf("go-msgauth: %v in\n%s", v.Err, signed)
		}
	}
}

// TestSignedElsewhere: what go-msgauth signs holds here, in every canonicalisation.
func TestSignedElsewhere(t *testing.T) {
	t.Parallel()
	r := keys(t)
	for _, tt := range messages {
		if tt.alone {
			continue
		}
		for _, header := range []msgauth.Canonicalization{msgauth.CanonicalizationSimple, msgauth.CanonicalizationRelaxed} {
			for _, body := range []msgauth.Canonicalization{msgauth.CanonicalizationSimple, msgauth.CanonicalizationRelaxed} {
				for selector, key := range map[string]crypto.Signer{"ed": r.ed, "rsa": r.rsa} {
					t.Run(strings.Join([]string{tt.name, string(header), string(body), selector}, " "), func(t *testing.T) {
						t.Parallel()
						var out bytes.Buffer
						err := msgauth.Sign(&out, strings.NewReader(tt.text), &msgauth.SignOptions{Domain: "example.org", Selector: selector, Identifier: "ala@mail.example.org",
							Signer: key, Hash: crypto.SHA256, HeaderCanonicalization: header, BodyCanonicalization: body, HeaderKeys: []string{"From", "Subject", "To", "From", "To"}})
						if err != nil {
							t.Fatal(err)
						}
						results := verify(t, r.zone, out.Bytes(), now)
						if got := outcome(results); got != "pass" {
							t.Errorf("got %s (%v) for\n%s", got, results[0].Err, out.String())
						}
					})
				}
			}
		}
	}
}

// TestChangesAreSeen: whatever a signature covers can't be changed or added to.
func TestChangesAreSeen(t *testing.T) {
	t.Parallel()
	r := keys(t)
	signed := sign(t, r.signer(t), letter, dkim.Options{})
	at := strings.Index(signed, "From: Ala")
	insert := func(field string) string { return signed[:at] + field + signed[at:] }
	tests := []struct{ name, text, want string }{
		{"unchanged", signed, "pass"},
		{"body", strings.Replace(signed, "lost", "won ", 1), "fail"},
		{"body longer", signed + "more\r\n", "fail"},
		{"Subject", strings.Replace(signed, "dinner", "supper", 1), "fail"},
		{"second From", insert("From: mallory@example.net\r\n"), "fail"},
		{"second Subject", insert("Subject: Win\r\n"), "fail"},
		{"Reply-To added", insert("Reply-To: mallory@example.net\r\n"), "fail"},
		{"Content-Type added", insert("Content-Type: text/html\r\n"), "fail"},
		{"Cc added", insert("Cc: mallory@example.net\r\n"), "fail"},
		{"Message-ID removed", strings.Replace(signed, "Message-ID: <1@example.org>\r\n", "", 1), "fail"},
		{"t= changed", strings.Replace(signed, "t=17", "t=16", -1), "fail"},
		{"folded anew", strings.Replace(signed, "Is dinner\r\n  ready?", "Is  dinner ready? ", 1), "pass"},
		{"names in capitals", strings.Replace(signed, "\r\nSubject:", "\r\nSUBJECT :", 1), "pass"},
		{"list field added", insert("List-ID: <l.example.net>\r\n"), "pass"},
		{"resent", "Resent-From: jan@example.net\r\n" + signed, "pass"},
		{"other field", strings.Replace(signed, "not signed", "changed", 1), "pass"},
		{"blanks in the body", strings.Replace(signed, "lost  the game.\t", "lost the \t game.", 1), "pass"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := outcome(verify(t, r.zone, []byte(tt.text), now)); got != tt.want+" "+tt.want {
				t.Errorf("got %s, want %s twice", got, tt.want)
			}
		})
	}
}

// TestFieldForm: lines within 78 octets, the tags in their places.
func TestFieldForm(t *testing.T) {
	t.Parallel()
	r := keys(t)
	text := "To: x@example.net\r\nResent-To: a@example.net\r\nResent-To: b@example.net\r\n" + letter
	signed := sign(t, r.signer(t), text, dkim.Options{Lifetime: 36 * time.Hour})
	fields := strings.TrimSuffix(signed, text)
	for line := range strings.Lines(fields) {
		if len(line) > 80 || !strings.HasSuffix(line, "\r\n") {
			t.Errorf("line of %d octets: %q", len(line), line)
		}
	}
	var seen []string
	for f := range message.Fields([]byte(fields)) {
		s, err := dkim.ParseSignature(string(f.Body()))
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, s.Selector+" "+s.Algorithm.String())
		if s.Length != -1 || !s.Time.Equal(now) || !s.Expires.Equal(now.Add(36*time.Hour)) || s.Header != dkim.Relaxed || s.Body != dkim.Relaxed {
			t.Errorf("got %+v", s)
		}
		for name, want := range map[string]int{"from": 2, "to": 3, "cc": 1, "resent-to": 2, "list-id": 0, "received": 0, "subject": 2} {
			n := 0
			for _, x := range s.Fields {
				if x == name {
					n++
				}
			}
			if n != want {
				t.Errorf("%s is in h= %d times, want %d", name, n, want)
			}
		}
	}
	if want := []string{"ed ed25519-sha256", "rsa rsa-sha256"}; !slices.Equal(seen, want) {
		t.Errorf("got %v, want %v", seen, want)
	}
}

// TestManyFields: a header section of thousands of fields is signed in bounds.
func TestManyFields(t *testing.T) {
	t.Parallel()
	r := keys(t)
	text := strings.Repeat("To: x@example.net\r\n", 25_000) + letter
	signed := sign(t, r.signer(t), text, dkim.Options{})
	if n := len(signed) - len(text); n > 4000 {
		t.Errorf("the signatures have %d octets", n)
	}
	for _, res := range verify(t, r.zone, []byte(signed), now) {
		if !errors.Is(res.Err, dkim.ErrHeader) {
			t.Errorf("got %v, want ErrHeader", res.Err)
		}
	}
	few := strings.Repeat("To: x@example.net\r\n", 500) + letter
	if got := outcome(verify(t, r.zone, []byte(sign(t, r.signer(t), few, dkim.Options{})), now)); got != "pass pass" {
		t.Errorf("got %s", got)
	}
}

// TestWhole: a message written in any pieces has the signatures of Begin.
func TestWhole(t *testing.T) {
	t.Parallel()
	r := keys(t)
	s, err := dkim.NewSigner(domain(t, "example.org"), dkim.SigningKey{Selector: "ed", Private: r.ed}) // deterministic
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range messages {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := strings.TrimSuffix(sign(t, s, tt.text, dkim.Options{}), tt.text)
			for _, size := range []int{1, 2, 7, len(tt.text)} {
				w := s.Whole(dkim.Options{})
				for piece := range slices.Chunk([]byte(tt.text), size) {
					if _, err := w.Write(piece); err != nil {
						t.Fatal(err)
					}
				}
				got, err := w.Fields(now)
				if err != nil || string(got) != want {
					t.Errorf("in pieces of %d: got %s (%v), want %s", size, got, err, want)
				}
			}
		})
	}
	w := s.Whole(dkim.Options{})
	line := []byte("X-Long: " + strings.Repeat("x", 1<<16) + "\r\n")
	for range 17 {
		if _, err = w.Write(line); err != nil {
			break
		}
	}
	if !errors.Is(err, dkim.ErrHeader) {
		t.Errorf("got %v for a header section over the limit, want ErrHeader", err)
	}
}

func TestNewSignerRefuses(t *testing.T) {
	t.Parallel()
	r := keys(t)
	good := dkim.SigningKey{Selector: "ed", Private: r.ed}
	for name, keys := range map[string][]dkim.SigningKey{
		"no keys":        nil,
		"no private key": {{Selector: "ed"}},
		"bad selector":   {{Selector: "a b", Private: r.ed}},
		"same selector":  {good, {Selector: "ED", Private: r.rsa}},
	} {
		if _, err := dkim.NewSigner(domain(t, "example.org"), keys...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := dkim.NewSigner(address.Domain{}, good); !errors.Is(err, dkim.ErrNoSignature) {
		t.Errorf("got %v without a domain", err)
	}
}

type broken struct{ crypto.Signer }

func (broken) Sign(_ io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the token is gone")
}

func TestSignerError(t *testing.T) {
	t.Parallel()
	s, err := dkim.NewSigner(domain(t, "example.org"), dkim.SigningKey{Selector: "a", Private: broken{keys(t).ed}})
	if err != nil {
		t.Fatal(err)
	}
	g := s.Begin([]byte("From: a@example.org\r\n"), dkim.Options{})
	if out, err := g.Fields(now); err == nil || out != nil {
		t.Errorf("got %q, %v; want an error", out, err)
	}
}
