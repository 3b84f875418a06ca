package sasl_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/xdg-go/scram"

	"poczta.example/poczta/internal/sasl"
)

// book is a Verifier of one account.
type book struct {
	login, password string
	others          []string // further passwords
	salt            string
	iterations      int
	calls           []string
}

var errGone = errors.New("store is gone")

func (b *book) VerifyPlain(_ context.Context, _ sasl.Peer, authzid, authcid, password string) (sasl.Identity, error) {
	b.calls = append(b.calls, strings.Join([]string{"plain", authzid, authcid, password}, " "))
	if authcid != b.login || password != b.password {
		return sasl.Identity{}, sasl.ErrCredentials
	}
	return sasl.Identity{Account: 7, Login: b.login}, nil
}

func (b *book) ScramKeys(_ context.Context, _ sasl.Peer, authcid string) (sasl.Keys, error) {
	if authcid == "gone" {
		return sasl.Keys{}, errGone
	}
	password := b.password
	if authcid != b.login {
		password = "a password nobody has"
	}
	k := b.keys(password)
	for _, other := range b.others {
		o := b.keys(other)
		k.Others = append(k.Others, sasl.KeyPair{StoredKey: o.StoredKey, ServerKey: o.ServerKey})
	}
	return k, nil
}

// keys come from xdg-go's client, so that nothing of ours made them.
func (b *book) keys(password string) sasl.Keys {
	client, err := scram.SHA256.NewClient(b.login, password, "")
	if err != nil {
		panic(err)
	}
	c, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: b.salt, Iters: b.iterations})
	if err != nil {
		panic(err)
	}
	return sasl.Keys{Salt: []byte(b.salt), Iterations: b.iterations, StoredKey: c.StoredKey, ServerKey: c.ServerKey}
}

func (b *book) ScramResult(_ context.Context, _ sasl.Peer, authzid, authcid string, ok bool) (sasl.Identity, error) {
	b.calls = append(b.calls, strings.TrimSpace("scram "+authzid+" "+authcid+" "+map[bool]string{true: "ok", false: "failed"}[ok]))
	if !ok {
		return sasl.Identity{}, sasl.ErrCredentials
	}
	return sasl.Identity{Account: 7, Login: b.login}, nil
}

func (b *book) VerifyExternal(_ context.Context, _ sasl.Peer, authzid string, cert *x509.Certificate) (sasl.Identity, error) {
	b.calls = append(b.calls, "external "+authzid)
	return sasl.Identity{Account: 7, Login: b.login}, nil
}

func newBook() *book {
	return &book{login: "user", password: "pencil", salt: "0123456789abcdef", iterations: 4096}
}

func TestMechanisms(t *testing.T) {
	t.Parallel()
	bound := sasl.Binding{Exporter: []byte("x")}
	cert := &x509.Certificate{}
	for name, tc := range map[string]struct {
		o    sasl.Options
		want string
	}{
		"open":             {sasl.Options{}, "SCRAM-SHA-256"},
		"open, allowed":    {sasl.Options{PlaintextAllowed: true}, "SCRAM-SHA-256 PLAIN LOGIN"},
		"open, binding":    {sasl.Options{Binding: bound, Cert: cert}, "SCRAM-SHA-256"},
		"TLS":              {sasl.Options{TLS: true}, "SCRAM-SHA-256 PLAIN LOGIN"},
		"TLS, binding":     {sasl.Options{TLS: true, Binding: bound}, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"},
		"TLS, certificate": {sasl.Options{TLS: true, Cert: cert}, "SCRAM-SHA-256 EXTERNAL PLAIN LOGIN"},
		"some off":         {sasl.Options{TLS: true, Disabled: []string{"LOGIN", "SCRAM-SHA-256"}}, "PLAIN"},
	} {
		if got := strings.Join(sasl.Mechanisms(tc.o), " "); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
		for _, m := range []string{"SCRAM-SHA-256-PLUS", "scram-sha-256", "External", "PLAIN", "LOGIN", "CRAM-MD5", ""} {
			_, err := sasl.New(m, tc.o)
			offered := strings.Contains(" "+tc.want+" ", " "+strings.ToUpper(m)+" ") && m != ""
			if offered != (err == nil) || err != nil && !errors.Is(err, sasl.ErrMechanism) {
				t.Errorf("%s: New(%q): %v", name, m, err)
			}
		}
	}
}

// step is a response and what must come of it.
type step struct {
	response string // "-" is none
	want     string // the challenge
	done     bool
	err      error
}

func run(t *testing.T, x sasl.Exchange, steps []step) {
	t.Helper()
	ended := false
	for i, s := range steps {
		response := []byte(s.response)
		if s.response == "-" {
			response = nil
		}
		got, done, err := x.Next(context.Background(), response)
		if !errors.Is(err, s.err) || (s.err == nil && err != nil) {
			t.Fatalf("step %d: got error %v, want %v", i, err, s.err)
		}
		if string(got) != s.want || done != s.done {
			t.Fatalf("step %d: got %q, done %v; want %q, %v", i, got, done, s.want, s.done)
		}
		ended = ended || done
		if want := map[bool]int64{true: 7}[ended]; int64(x.Identity().Account) != want {
			t.Fatalf("step %d: got identity %+v", i, x.Identity())
		}
	}
}

func TestSimpleMechanisms(t *testing.T) {
	t.Parallel()
	over := step{"x", "", false, sasl.ErrMalformed}
	long := strings.Repeat("x", 1025)
	for name, tc := range map[string]struct {
		mechanism string
		steps     []step
		call      string // the last one of the Verifier
	}{
		"PLAIN at once":        {"PLAIN", []step{{"\x00user\x00pencil", "", true, nil}}, "plain  user pencil"},
		"PLAIN asked":          {"PLAIN", []step{{"-", "", false, nil}, {"me\x00user\x00pencil", "", true, nil}}, "plain me user pencil"},
		"PLAIN wrong":          {"PLAIN", []step{{"\x00user\x00pen", "", false, sasl.ErrCredentials}, over}, "plain  user pen"},
		"PLAIN two fields":     {"PLAIN", []step{{"user\x00pencil", "", false, sasl.ErrMalformed}, over}, ""},
		"PLAIN four fields":    {"PLAIN", []step{{"\x00user\x00pencil\x00", "", false, sasl.ErrMalformed}}, ""},
		"PLAIN empty":          {"PLAIN", []step{{"", "", false, sasl.ErrMalformed}}, ""},
		"PLAIN nothing twice":  {"PLAIN", []step{{"-", "", false, nil}, {"-", "", false, sasl.ErrMalformed}}, ""},
		"PLAIN no password":    {"PLAIN", []step{{"\x00user\x00", "", false, sasl.ErrMalformed}}, ""},
		"PLAIN no name":        {"PLAIN", []step{{"\x00\x00pencil", "", false, sasl.ErrMalformed}}, ""},
		"PLAIN not UTF-8":      {"PLAIN", []step{{"\x00us\xff\x00pencil", "", false, sasl.ErrMalformed}}, ""},
		"PLAIN long":           {"PLAIN", []step{{"\x00user\x00" + long, "", false, sasl.ErrMalformed}}, ""},
		"LOGIN":                {"LOGIN", []step{{"-", "Username:", false, nil}, {"user", "Password:", false, nil}, {"pencil", "", true, nil}, over}, "plain  user pencil"},
		"LOGIN initial":        {"LOGIN", []step{{"user", "Password:", false, nil}, {"pencil", "", true, nil}}, "plain  user pencil"},
		"LOGIN C strings":      {"LOGIN", []step{{"user\x00", "Password:", false, nil}, {"pencil\x00", "", true, nil}}, "plain  user pencil"},
		"LOGIN no name":        {"LOGIN", []step{{"-", "Username:", false, nil}, {"", "", false, sasl.ErrMalformed}, over}, ""},
		"LOGIN NUL inside":     {"LOGIN", []step{{"us\x00er", "", false, sasl.ErrMalformed}}, ""},
		"LOGIN no password":    {"LOGIN", []step{{"user", "Password:", false, nil}, {"", "", false, sasl.ErrMalformed}}, ""},
		"LOGIN wrong":          {"LOGIN", []step{{"user", "Password:", false, nil}, {"pen", "", false, sasl.ErrCredentials}, over}, "plain  user pen"},
		"EXTERNAL":             {"EXTERNAL", []step{{"", "", true, nil}, over}, "external "},
		"EXTERNAL asked":       {"EXTERNAL", []step{{"-", "", false, nil}, {"me", "", true, nil}}, "external me"},
		"EXTERNAL with NUL":    {"EXTERNAL", []step{{"m\x00e", "", false, sasl.ErrMalformed}}, ""},
		"EXTERNAL not UTF-8":   {"EXTERNAL", []step{{"\xff", "", false, sasl.ErrMalformed}}, ""},
		"EXTERNAL silent peer": {"EXTERNAL", []step{{"-", "", false, nil}, {"-", "", true, nil}}, "external "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBook()
			x, err := sasl.New(tc.mechanism, sasl.Options{Verifier: b, TLS: true, Cert: &x509.Certificate{}})
			if err != nil {
				t.Fatal(err)
			}
			run(t, x, tc.steps)
			call := ""
			if len(b.calls) > 0 {
				call = b.calls[len(b.calls)-1]
			}
			if call != tc.call {
				t.Errorf("got call %q, want %q", call, tc.call)
			}
		})
	}
}

func TestFraming(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		line string
		want string
		err  error
	}{
		"text":        {"AGE=", "\x00a", nil},
		"empty":       {"", "", nil},
		"cancel":      {"*", "", sasl.ErrCancelled},
		"equals sign": {"=", "", sasl.ErrMalformed},
		"no padding":  {"AGE", "", sasl.ErrMalformed},
		"stray bits":  {"AGF=", "", sasl.ErrMalformed},
		"line end":    {"AG\r\nE=", "", sasl.ErrMalformed},
		"space":       {"AG E=", "", sasl.ErrMalformed},
		"URL letters": {"_-__", "", sasl.ErrMalformed},
		"after end":   {"AGE=AGE=", "", sasl.ErrMalformed},
		"longest":     {strings.Repeat("A", 12288-4), strings.Repeat("\x00", (12288-4)/4*3), nil},
		"too long":    {strings.Repeat("A", 12288), "", sasl.ErrMalformed},
	} {
		got, err := sasl.DecodeResponse([]byte(tc.line))
		if string(got) != tc.want || !errors.Is(err, tc.err) || (err == nil && got == nil) {
			t.Errorf("%s: got %.20q, %v; want %.20q, %v", name, got, err, tc.want, tc.err)
		}
	}
	for arg, want := range map[string]*string{"": nil, "=": new(string)} {
		got, err := sasl.DecodeInitial([]byte(arg))
		if err != nil || (got == nil) != (want == nil) || len(got) != 0 {
			t.Errorf("initial %q: got %v, %v", arg, got, err)
		}
	}
	if diff := cmp.Diff("334 VXNlcm5hbWU6", string(sasl.AppendChallenge([]byte("334 "), []byte("Username:")))); diff != "" {
		t.Error(diff)
	}
	if got := sasl.EncodeChallenge(nil); got != "" {
		t.Errorf("got %q", got)
	}
}
