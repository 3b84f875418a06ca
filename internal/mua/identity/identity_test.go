package identity_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mua/identity"
)

// now is in the life of the test's certificates.
var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// files are those of testdata, behind each other.
func files(t testing.TB, names ...string) []byte {
	t.Helper()
	var out []byte
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join("testdata", n))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

func TestRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		files    string
		password string
		name     string // of whom
		err      error
	}{
		{"ec.crt ec.key", "", "Ala Kowalska", nil},
		{"ec.key ec.crt ca.crt", "", "Ala Kowalska", nil},
		{"rsa.crt rsa1.key", "", "Ala RSA", nil},
		{"ec.crt rsa.crt rsa.key", "", "Ala RSA", nil},
		{"ec.crt ec.enc", "secret", "Ala Kowalska", nil},
		{"ec.crt ec.enc", "", "", identity.ErrNeedsPassword},
		{"ec.crt ec.enc", "Secret", "", identity.ErrPassword},
		{"ec.crt ec.old", "secret", "", identity.ErrOldKey},
		{"rsa.crt rsa.dek", "secret", "", identity.ErrOldKey},
		{"ec.crt rsa.key", "", "", identity.ErrMismatch},
		{"ec.crt", "", "", identity.ErrNoKey},
		{"ec.key", "", "", identity.ErrNoCertificate},
		{"README.md", "", "", identity.ErrUnreadable},
		{"modern.p12", "zażółć", "Ala Kowalska", nil},
		{"modern.p12", "zazolc", "", identity.ErrPassword},
		{"modern.p12", "", "", identity.ErrNeedsPassword},
		{"legacy.p12", "secret", "Ala RSA", nil},
		{"legacy.p12", "wrong", "", identity.ErrPassword},
		{"legacy.p12", "", "", identity.ErrNeedsPassword},
		{"windows.p12", "secret", "Ala RSA", nil},
		{"mixed.p12", "secret", "", identity.ErrUnreadable},
		{"open.p12", "", "Ala Kowalska", nil},
		{"nokey.p12", "secret", "", identity.ErrNoKey},
		{"nocert.p12", "secret", "", identity.ErrNoCertificate},
	} {
		t.Run(c.files+" "+c.password, func(t *testing.T) {
			t.Parallel()
			got, err := identity.Read(files(t, strings.Fields(c.files)...), c.password, now)
			if c.err != nil {
				if !errors.Is(err, c.err) {
					t.Fatalf("got %v, want %v", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := identity.Leaf(got.Chain())
			if err != nil || leaf.Subject.CommonName != c.name {
				t.Fatalf("got %v, %v", leaf, err)
			}
			key, err := got.Key()
			if err != nil {
				t.Fatal(err)
			}
			again, err := identity.Join(got.Chain(), key)
			if err != nil || again.String() != got.String() || !strings.Contains(got.String(), identity.Fingerprint(leaf)) || len(got.TLS().Certificate) != 1 {
				t.Errorf("joined: %v, %v", again, err)
			}
			if s := fmt.Sprintf("%v %+v %#v %s", got, got, got, got); strings.Contains(s, key[:20]) || strings.Contains(s, "PRIVATE") {
				t.Errorf("printed as %s", s)
			}
		})
	}
}

// TestChain sends what lies between the person's certificate and its authority's.
func TestChain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	leaf, key := w.issue(t, "Ala", w.between, w.betweenKey)
	got, err := identity.Read(bytes.Join([][]byte{pemOf("CERTIFICATE", w.root.Raw), pemOf("CERTIFICATE", w.other.Raw), pemOf("CERTIFICATE", w.between.Raw), pemOf("CERTIFICATE", leaf.Raw), keyPEM(t, key)}, nil), "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if want := string(pemOf("CERTIFICATE", leaf.Raw)) + string(pemOf("CERTIFICATE", w.between.Raw)); got.Chain() != want {
		t.Errorf("got\n%s\nwant\n%s", got.Chain(), want)
	}
}

func TestExpired(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{now.AddDate(200, 0, 0), now.AddDate(-20, 0, 0)} {
		_, err := identity.Read(files(t, "ec.crt", "ec.key"), "", at)
		e, ok := errors.AsType[*identity.ExpiredError](err)
		if !ok || e.Until.Year() < 2100 || !strings.Contains(err.Error(), e.Until.Format(time.DateOnly)) {
			t.Errorf("at %v: %v", at, err)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	if _, err := identity.Read(make([]byte, identity.MaxFile+1), "", now); !errors.Is(err, identity.ErrLarge) {
		t.Errorf("a large file: %v", err)
	}
	// 64 parts are read, and no more.
	if _, err := identity.Read(append(bytes.Repeat(files(t, "ca.crt"), 64), files(t, "ec.crt", "ec.key")...), "", now); !errors.Is(err, identity.ErrNoKey) {
		t.Errorf("many parts: %v", err)
	}
	for name, c := range map[string][2]string{"no chain": {"", "AA"}, "no key": {string(files(t, "ec.crt")), ""}, "a damaged key": {string(files(t, "ec.crt")), "!"}} {
		if _, err := identity.Join(c[0], c[1]); err == nil {
			t.Errorf("%s: joined", name)
		}
	}
	rsa, err := identity.Read(files(t, "rsa.crt", "rsa.key"), "", now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.Key()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Join(string(files(t, "ec.crt")), key); !errors.Is(err, identity.ErrMismatch) {
		t.Errorf("another's key: %v", err)
	}
}

// FuzzRead reads anything: there is a pair that fits, or an error in words.
func FuzzRead(f *testing.F) {
	for _, names := range [][]string{{"ec.crt", "ec.key"}, {"modern.p12"}, {"windows.p12"}, {"open.p12"}, {"ec.crt", "ec.enc"}, {"ec.crt", "rsa.dek"}} {
		f.Add(files(f, names...), "secret")
	}
	f.Add([]byte("0\x80\x02\x01\x03"), "")
	f.Fuzz(func(t *testing.T, data []byte, password string) {
		got, err := identity.Read(data, password, now)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("the error has lines: %q", err)
			}
			return
		}
		key, err := got.Key()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := identity.Join(got.Chain(), key); err != nil {
			t.Errorf("its parts don't fit: %v", err)
		}
	})
}
