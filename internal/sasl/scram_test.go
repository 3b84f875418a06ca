package sasl_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"poczta.example/poczta/internal/sasl"
)

// TestScramVector is the example of RFC 7677 §3.
func TestScramVector(t *testing.T) {
	t.Parallel()
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	b := newBook()
	b.salt = string(salt)
	const nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	const first = "r=" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	for name, initial := range map[string][]step{
		"initial response": {{"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", first, false, nil}},
		"asked":            {{"-", "", false, nil}, {"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", first, false, nil}},
	} {
		x, err := sasl.New(sasl.ScramSHA256, sasl.Options{Verifier: b})
		if err != nil {
			t.Fatal(err)
		}
		sasl.SetNonce(x, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
		t.Log(name)
		run(t, x, append(initial,
			step{"c=biws,r=" + nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", false, nil},
			step{"", "", true, nil},
			step{"", "", false, sasl.ErrMalformed}))
	}
}

func TestScramRefusals(t *testing.T) {
	t.Parallel()
	const nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	const proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	malformed, wrong := sasl.ErrMalformed, sasl.ErrCredentials
	for name, tc := range map[string]struct {
		first, final string
		err          error
	}{
		"empty first":        {"", "", malformed},
		"no header":          {"n=user,r=abc", "", malformed},
		"no nonce":           {"n,,n=user", "", malformed},
		"empty nonce":        {"n,,n=user,r=", "", malformed},
		"no user":            {"n,,n=,r=abc", "", malformed},
		"bad escape":         {"n,,n=us=2Der,r=abc", "", malformed},
		"bare equals":        {"n,,n=us=er,r=abc", "", malformed},
		"mandatory ext":      {"n,,m=x,n=user,r=abc", "", malformed},
		"extension, empty":   {"n,,n=user,r=abc,x", "", malformed},
		"bad flag":           {"x,,n=user,r=abc", "", malformed},
		"binding, no plus":   {"p=tls-exporter,,n=user,r=abc", "", malformed},
		"bad authzid":        {"n,b=me,n=user,r=abc", "", malformed},
		"not UTF-8":          {"n,,n=us\xff,r=abc", "", malformed},
		"NUL":                {"n,,n=us\x00er,r=abc", "", malformed},
		"long nonce":         {"n,,n=user,r=" + strings.Repeat("x", 300), "", malformed},
		"long":               {"n,,n=user,r=abc,x=" + strings.Repeat("x", 5000), "", malformed},
		"store gone":         {"n,,n=gone,r=abc", "", errGone},
		"wrong proof":        {"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "c=biws,r=" + nonce + ",p=" + strings.Replace(proof, "d", "e", 1), wrong},
		"short proof":        {"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "c=biws,r=" + nonce + ",p=AAAA", wrong},
		"no proof":           {"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "c=biws,r=" + nonce, malformed},
		"other nonce":        {"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "c=biws,r=" + nonce + "x,p=" + proof, wrong},
		"other header":       {"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "c=eSws,r=" + nonce + ",p=" + proof, wrong},
		"header not base64":  {"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "c=!,r=" + nonce + ",p=" + proof, malformed},
		"proof not base64":   {"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "c=biws,r=" + nonce + ",p=!", malformed},
		"attributes swapped": {"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "r=" + nonce + ",c=biws,p=" + proof, malformed},
		"unknown user":       {"n,,n=other,r=rOprNGfwEbeRWgbNEkqO", "c=biws,r=" + nonce + ",p=" + proof, wrong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBook()
			x, err := sasl.New(sasl.ScramSHA256, sasl.Options{Verifier: b})
			if err != nil {
				t.Fatal(err)
			}
			sasl.SetNonce(x, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
			_, _, err = x.Next(context.Background(), []byte(tc.first))
			if tc.final != "" {
				if err != nil {
					t.Fatal(err)
				}
				_, _, err = x.Next(context.Background(), []byte(tc.final))
				if len(b.calls) != 1 || !strings.HasSuffix(b.calls[0], "failed") {
					t.Errorf("the failure was not told: %v", b.calls)
				}
			}
			if !errors.Is(err, tc.err) {
				t.Errorf("got %v, want %v", err, tc.err)
			}
			if _, done, err := x.Next(context.Background(), []byte{}); done || err == nil {
				t.Error("the exchange goes on after its end")
			}
		})
	}
}

// exchange lets xdg-go's client talk to our server.
func exchange(conv *scram.ClientConversation, x sasl.Exchange) error {
	challenge := ""
	for {
		response, err := conv.Step(challenge)
		if err != nil {
			return err
		}
		next, done, err := x.Next(context.Background(), []byte(response))
		if err != nil {
			return err
		}
		if done {
			if !conv.Valid() {
				return errors.New("the client does not believe the server")
			}
			return nil
		}
		challenge = string(next)
	}
}

func TestScramForeignClient(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		user, password, authzid string
		want                    error
	}{
		"right":          {"user", "pencil", "", nil},
		"authzid":        {"user", "pencil", "a,b=c", nil},
		"other password": {"user", "second", "", nil},
		"wrong":          {"user", "pen", "", sasl.ErrCredentials},
		"wrong user":     {"us,er=", "pencil", "", sasl.ErrCredentials},
	} {
		b := newBook()
		b.others = []string{"first", "second", "third"}
		client, err := scram.SHA256.NewClient(tc.user, tc.password, tc.authzid)
		if err != nil {
			t.Fatal(err)
		}
		x, err := sasl.New(sasl.ScramSHA256, sasl.Options{Verifier: b})
		if err != nil {
			t.Fatal(err)
		}
		if err := exchange(client.NewConversation(), x); !errors.Is(err, tc.want) || (tc.want == nil && err != nil) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
		result := "ok"
		if tc.want != nil {
			result = "failed"
		}
		if want := strings.TrimSpace("scram " + tc.authzid + " " + tc.user + " " + result); len(b.calls) != 1 || b.calls[0] != want {
			t.Errorf("%s: got calls %q, want %q", name, b.calls, want)
		}
	}
}

// TestScramPlus binds real TLS connections, with the client's data made by
// xdg-go from the client's side.
func TestScramPlus(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server, cert := handshake(t, version)
		binding := sasl.BindingOf(&server, cert)
		if got := len(binding.Exporter) > 0; got != (version == tls.VersionTLS13) {
			t.Errorf("%s: tls-exporter %v", tls.VersionName(version), got)
		}
		if !bytes.Equal(binding.Unique, client.TLSUnique) {
			t.Errorf("%s: tls-unique differs", tls.VersionName(version))
		}
		theirs := map[string]scram.ChannelBinding{}
		end, err := scram.NewTLSServerEndpointBinding(&client)
		if err != nil {
			t.Fatal(err)
		}
		theirs["tls-server-end-point"] = end
		if version == tls.VersionTLS13 {
			if theirs["tls-exporter"], err = scram.NewTLSExporterBinding(&client); err != nil {
				t.Fatal(err)
			}
		} else {
			theirs["tls-unique"] = scram.NewTLSUniqueBinding(client.TLSUnique)
		}
		for name, theirs := range theirs {
			plus := func(o sasl.Options, cb scram.ChannelBinding) error {
				c, err := scram.SHA256.NewClient("user", "pencil", "")
				if err != nil {
					t.Fatal(err)
				}
				o.Verifier, o.TLS = newBook(), true
				x, err := sasl.New(sasl.ScramSHA256Plus, o)
				if err != nil {
					t.Fatal(err)
				}
				return exchange(c.NewConversationWithChannelBinding(cb), x)
			}
			if err := plus(sasl.Options{Binding: binding}, theirs); err != nil {
				t.Errorf("%s, %s: %v", tls.VersionName(version), name, err)
			}
			forged := theirs
			forged.Data = bytes.Clone(theirs.Data)
			forged.Data[0] ^= 1
			if err := plus(sasl.Options{Binding: binding}, forged); !errors.Is(err, sasl.ErrCredentials) {
				t.Errorf("%s, %s from another connection: got %v", tls.VersionName(version), name, err)
			}
			forged.Type = "tls-other"
			if err := plus(sasl.Options{Binding: binding}, forged); !errors.Is(err, sasl.ErrMalformed) {
				t.Errorf("unknown type: got %v", err)
			}
		}
	}
}

// TestScramDowngrade: a client that was not shown -PLUS although we offer it.
func TestScramDowngrade(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		binding sasl.Binding
		off     []string
		want    error
	}{
		"offered":      {sasl.Binding{Exporter: []byte("x")}, nil, sasl.ErrCredentials},
		"not offered":  {sasl.Binding{}, nil, nil},
		"switched off": {sasl.Binding{Exporter: []byte("x")}, []string{sasl.ScramSHA256Plus}, nil},
	} {
		client, err := scram.SHA256.NewClient("user", "pencil", "")
		if err != nil {
			t.Fatal(err)
		}
		x, err := sasl.New(sasl.ScramSHA256, sasl.Options{Verifier: newBook(), TLS: true, Binding: tc.binding, Disabled: tc.off})
		if err != nil {
			t.Fatal(err)
		}
		if err := exchange(client.NewConversationAdvertisingChannelBinding(), x); !errors.Is(err, tc.want) || (tc.want == nil && err != nil) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

func handshake(t *testing.T, version uint16) (client, server tls.ConnectionState, cert *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"mx.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s := tls.Server(a, &tls.Config{MinVersion: version, MaxVersion: version, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	c := tls.Client(b, &tls.Config{MinVersion: version, MaxVersion: version, InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState(), s.ConnectionState(), cert
}

func TestBindingOfNothing(t *testing.T) {
	t.Parallel()
	if b := sasl.BindingOf(nil, nil); !b.IsZero() {
		t.Errorf("got %+v", b)
	}
	if b := sasl.BindingOf(&tls.ConnectionState{}, &x509.Certificate{}); !b.IsZero() {
		t.Errorf("before the handshake: got %+v", b)
	}
}

// FuzzExchange feeds every mechanism with lines: nobody gets in without the
// password, and nothing panics or goes on after its end.
func FuzzExchange(f *testing.F) {
	f.Add("PLAIN", "AHVzZXIAeA==", "*", "")
	f.Add("LOGIN", "dXNlcg==", "eA==", "")
	f.Add("EXTERNAL", "=", "", "")
	f.Add("SCRAM-SHA-256", "bixhPWIsbj11c2VyLHI9YWJjLHg9eQ==", "Yz1iaXdzLHI9YWJjLHA9QUFBQQ==", "")
	f.Add("SCRAM-SHA-256-PLUS", "cD10bHMtZXhwb3J0ZXIsLG49dXNlcixyPWFiYw==", "Yz1iaXdzLHI9YWJjLHA9QUFBQQ==", "")
	b := newBook()
	b.password = "a password that no fuzzer finds in ten seconds"
	f.Fuzz(func(t *testing.T, mechanism, initial, second, third string) {
		x, err := sasl.New(mechanism, sasl.Options{Verifier: refuser{b}, TLS: true, Cert: &x509.Certificate{}, Binding: sasl.Binding{Exporter: []byte("x")}})
		if err != nil {
			return
		}
		response, err := sasl.DecodeInitial([]byte(initial))
		failed := false
		for _, line := range []string{second, third, third, third} {
			if err != nil {
				return
			}
			_, done, nextErr := x.Next(context.Background(), response)
			if done || x.Identity().Account != 0 {
				t.Fatalf("%s let somebody in", mechanism)
			}
			if failed && nextErr == nil {
				t.Fatal("goes on after an error")
			}
			failed = failed || nextErr != nil
			response, err = sasl.DecodeResponse([]byte(line))
		}
	})
}

// refuser is a book without the account: every proof must fail by itself.
type refuser struct{ *book }

func (refuser) VerifyExternal(context.Context, sasl.Peer, string, *x509.Certificate) (sasl.Identity, error) {
	return sasl.Identity{}, sasl.ErrCredentials
}

func (r refuser) ScramKeys(context.Context, sasl.Peer, string) (sasl.Keys, error) {
	return sasl.Keys{Salt: []byte("0123456789abcdef"), Iterations: 4096, StoredKey: make([]byte, 32), ServerKey: make([]byte, 32)}, nil
}
