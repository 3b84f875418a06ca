package sasl_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"poczta.example/poczta/internal/sasl"
)

// meet lets a client's exchange meet a server's.
func meet(c *sasl.Client, x sasl.Exchange) error {
	response := c.Initial()
	for range 6 {
		challenge, done, err := x.Next(context.Background(), response)
		if err != nil {
			return err
		}
		if done {
			if !c.Proven() {
				return errors.New("success is not proven")
			}
			return nil
		}
		if response, err = c.Next(challenge); err != nil {
			return err
		}
	}
	return errors.New("no end")
}

// TestClient lets clients log in at the servers of this package, by what both choose.
func TestClient(t *testing.T) {
	t.Parallel()
	client13, server13, cert := handshake(t, tls.VersionTLS13)
	client12, server12, _ := handshake(t, tls.VersionTLS12)
	right := sasl.Credentials{Username: "user", Password: "pencil"}
	for _, tc := range []struct {
		name    string
		c       sasl.Credentials
		client  *tls.ConnectionState
		server  *tls.ConnectionState
		offered string // "": what the server would offer
		want    string // mechanism, "" for none
		err     error
	}{
		{"best under TLS 1.3", right, &client13, &server13, "", "SCRAM-SHA-256-PLUS", nil},
		{"best under TLS 1.2", right, &client12, &server12, "", "SCRAM-SHA-256-PLUS", nil},
		{"best in the clear", right, nil, nil, "", "SCRAM-SHA-256", nil},
		{"PLUS cannot be in the clear", right, nil, nil, "SCRAM-SHA-256-PLUS PLAIN", "", nil},
		{"stripped offer", right, &client13, &server13, "SCRAM-SHA-256 PLAIN", "SCRAM-SHA-256", sasl.ErrCredentials},
		{"another connection", right, &client13, &server12, "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256-PLUS", sasl.ErrMalformed},
		{"wrong password", sasl.Credentials{Username: "user", Password: "pen"}, &client13, &server13, "", "SCRAM-SHA-256-PLUS", sasl.ErrCredentials},
		{"PLAIN", right, &client13, &server13, "PLAIN LOGIN", "PLAIN", nil},
		{"LOGIN", right, &client13, &server13, "LOGIN", "LOGIN", nil},
		{"no PLAIN in the clear", right, nil, nil, "PLAIN LOGIN", "", nil},
		{"by choice", sasl.Credentials{Username: "user", Password: "pencil", Mechanisms: []string{"login", "plain"}}, &client13, &server13, "", "LOGIN", nil},
		{"certificate", sasl.Credentials{Certificate: true}, &client13, &server13, "EXTERNAL PLAIN", "EXTERNAL", nil},
		{"certificate, not offered", sasl.Credentials{Certificate: true}, &client13, &server13, "PLAIN", "", nil},
		{"EXTERNAL without certificate", sasl.Credentials{Username: "user", Mechanisms: []string{"EXTERNAL"}}, &client13, &server13, "EXTERNAL", "", nil},
		{"token never as a password", sasl.Credentials{Username: "user", Token: "x"}, &client13, &server13, "PLAIN LOGIN SCRAM-SHA-256", "", nil},
		{"no token in the clear", sasl.Credentials{Username: "user", Token: "x"}, nil, nil, "OAUTHBEARER XOAUTH2", "", nil},
		{"no token", sasl.Credentials{Username: "user", Mechanisms: []string{"OAUTHBEARER", "XOAUTH2"}}, &client13, &server13, "OAUTHBEARER XOAUTH2", "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := sasl.Options{Verifier: newBook(), TLS: tc.server != nil, PlaintextAllowed: true, Cert: cert}
			if tc.server != nil {
				o.Binding = sasl.BindingOf(tc.server, nil)
			}
			offered := strings.Fields(tc.offered)
			if tc.offered == "" {
				offered = sasl.Mechanisms(o)
			}
			c, err := sasl.NewClient(tc.c, sasl.ClientOptions{Offered: offered, TLS: tc.client})
			if err != nil {
				t.Fatal(err)
			}
			if tc.want == "" || c == nil {
				if c != nil || tc.want != "" {
					t.Errorf("chose %v, want %q", c, tc.want)
				}
				return
			}
			x, err := sasl.New(c.Mechanism(), o)
			if err != nil {
				t.Fatal(err)
			}
			if c.Mechanism() != tc.want {
				t.Errorf("chose %s, want %s", c.Mechanism(), tc.want)
			}
			if err := meet(c, x); !errors.Is(err, tc.err) {
				t.Errorf("got %v, want %v", err, tc.err)
			}
		})
	}
}

// TestClientTokens has the example of RFC 7628 §4.1, and what follows a refusal.
func TestClientTokens(t *testing.T) {
	t.Parallel()
	state := &tls.ConnectionState{}
	c, err := sasl.NewClient(sasl.Credentials{Username: "user@example.com", Token: "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="},
		sasl.ClientOptions{Offered: []string{"XOAUTH2", "OAUTHBEARER"}, TLS: state, Host: "server.example.com", Port: 587})
	if err != nil {
		t.Fatal(err)
	}
	want := "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9NTg3AWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
	if got := base64.StdEncoding.EncodeToString(c.Initial()); c.Mechanism() != "OAUTHBEARER" || got != want {
		t.Errorf("got %s %s, want %s", c.Mechanism(), got, want)
	}
	if !c.Proven() {
		t.Error("success without a challenge is none")
	}
	for name, dummy := range map[string]string{"OAUTHBEARER": "\x01", "XOAUTH2": ""} {
		c, err := sasl.NewClient(sasl.Credentials{Username: "a=b,c", Token: "t"}, sasl.ClientOptions{Offered: []string{name}, Plaintext: true})
		if err != nil {
			t.Fatal(err)
		}
		first := map[string]string{"OAUTHBEARER": "n,a=a=3Db=2Cc,\x01auth=Bearer t\x01\x01", "XOAUTH2": "user=a=b,c\x01auth=Bearer t\x01\x01"}[name]
		if string(c.Initial()) != first {
			t.Errorf("%s: got %q, want %q", name, c.Initial(), first)
		}
		answer, err := c.Next([]byte(`{"status":"invalid_token"}` + strings.Repeat("x", 5000)))
		if err != nil || string(answer) != dummy || answer == nil {
			t.Errorf("%s: answered %q, %v", name, answer, err)
		}
		if !strings.HasPrefix(c.Failure(), `{"status":"invalid_token"}`) || len(c.Failure()) > 1024 || c.Proven() {
			t.Errorf("%s: failure %.40q of %d octets, proven %v", name, c.Failure(), len(c.Failure()), c.Proven())
		}
		if _, err := c.Next(nil); !errors.Is(err, sasl.ErrChallenge) {
			t.Errorf("%s: a second challenge: %v", name, err)
		}
	}
	for _, bad := range []sasl.Credentials{{Username: "a\x01b", Token: "t"}, {Username: "a", Token: "t\x01auth=x"}, {Username: "a", Token: "t\r\n"}} {
		if _, err := sasl.NewClient(bad, sasl.ClientOptions{Offered: []string{"XOAUTH2"}, TLS: state}); !errors.Is(err, sasl.ErrCredentialOctets) {
			t.Errorf("%q: %v", bad.Token, err)
		}
	}
	if _, err := sasl.NewClient(sasl.Credentials{Username: "a", Password: "b\x00c"}, sasl.ClientOptions{Offered: []string{"PLAIN"}, TLS: state}); !errors.Is(err, sasl.ErrCredentialOctets) {
		t.Errorf("PLAIN with NUL: %v", err)
	}
	secret := sasl.Credentials{Username: "ala", Password: "hush", Token: "hush"}
	if text := fmt.Sprintf("%v %+v %#v %s", secret, secret, secret, secret); strings.Contains(text, "hush") {
		t.Errorf("printing tells secrets: %s", text)
	}
}

// TestClientIterations bounds the work that a server may ask of a client.
func TestClientIterations(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		iterations string
		tls        *tls.ConnectionState
		want       error
	}{
		{"2000000000", &tls.ConnectionState{}, sasl.ErrChallenge}, {"99999999999999999999", &tls.ConnectionState{}, sasl.ErrChallenge},
		{"-1", nil, sasl.ErrServerProof}, {"1", nil, sasl.ErrServerProof}, {"4095", &tls.ConnectionState{}, sasl.ErrServerProof}, {"4096", nil, nil},
	} {
		c, err := sasl.NewClient(sasl.Credentials{Username: "user", Password: "pencil"}, sasl.ClientOptions{Offered: []string{"SCRAM-SHA-256"}, TLS: tc.tls})
		if err != nil {
			t.Fatal(err)
		}
		_, nonce, _ := strings.Cut(string(c.Initial()), "r=")
		if _, err := c.Next([]byte("r=" + nonce + "x,s=c2FsdA==,i=" + tc.iterations)); !errors.Is(err, tc.want) || tc.want == nil && err != nil {
			t.Errorf("%s iterations: %v, want %v", tc.iterations, err, tc.want)
		}
		if c.Proven() {
			t.Error("proven too early")
		}
	}
}

// FuzzClient: whatever a server says, success of a server that doesn't know the password is
// not believed by SCRAM, and no exchange panics or goes on for ever.
func FuzzClient(f *testing.F) {
	f.Add("SCRAM-SHA-256", "r=abc,s=c2FsdA==,i=4096", "v=AAAA")
	f.Add("OAUTHBEARER", `{"status":"invalid_token"}`, "")
	f.Add("PLAIN", "", "")
	f.Add("LOGIN", "Username:", "Password:")
	f.Fuzz(func(t *testing.T, mechanism, first, second string) {
		c, err := sasl.NewClient(sasl.Credentials{Username: "user", Password: "pencil", Token: "t", Mechanisms: []string{mechanism}},
			sasl.ClientOptions{Offered: []string{strings.ToUpper(mechanism)}, TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}})
		if err != nil || c == nil {
			return
		}
		answers := 0
		for _, challenge := range []string{first, second, second, second} {
			if strings.Contains(challenge, "i=") && len(challenge) > 60 {
				return // hashing is slow
			}
			if _, err := c.Next([]byte(challenge)); err != nil {
				break
			}
			answers++
		}
		if answers > 2 {
			t.Errorf("%s answered %d challenges", mechanism, answers)
		}
		if strings.HasPrefix(c.Mechanism(), "SCRAM") && c.Proven() {
			t.Error("a stranger's proof was believed")
		}
	})
}
