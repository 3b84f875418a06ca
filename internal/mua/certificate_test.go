package mua_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"mime/multipart"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zalando/go-keyring"

	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/identity"
	"poczta.example/poczta/internal/resolver"
)

// memoryRing is a keyring that takes no more than Windows' does.
type memoryRing struct {
	mu  sync.Mutex
	all map[string]string
}

func (r *memoryRing) Get(_, name string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.all[name]
	if !ok {
		return "", keyring.ErrNotFound
	}
	return s, nil
}

func (r *memoryRing) Set(_, name, secret string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(secret) > 2560 {
		return keyring.ErrSetDataTooBig
	}
	r.all[name] = secret
	return nil
}

func (r *memoryRing) Delete(_, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, name)
	return nil
}

// keys are the names of pieces of keys that it holds.
func (r *memoryRing) keys() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.all {
		if strings.Contains(name, "key/") {
			names = append(names, name)
		}
	}
	return names
}

// upload posts a form with a certificate.
func (v *visitor) upload(path string, form url.Values, file []byte) (code int, body, at string) {
	v.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, values := range form {
		for _, value := range values {
			if err := w.WriteField(name, value); err != nil {
				v.t.Fatal(err)
			}
		}
	}
	part, err := w.CreateFormFile("identity", "me.pem")
	if err == nil {
		_, err = part.Write(file)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		v.t.Fatal(err)
	}
	return v.read(v.client.Post(v.base+path, w.FormDataContentType(), &b))
}

// pair is a certificate with its key as PEM, and the key as it would lie somewhere by mistake.
func pair(t *testing.T, der []byte, key crypto.PrivateKey) (file []byte, secret string) {
	t.Helper()
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k})...)
	return file, base64.RawURLEncoding.EncodeToString(k)[80:140]
}

// TestUploadedCertificate sets up an account at servers that let in nobody without a client
// certificate, replaces that, and removes the account: the key lies among the secrets alone.
func TestUploadedCertificate(t *testing.T) {
	t.Parallel()
	ca, clients := certtest.New(t), certtest.New(t)
	leaf := clients.From(func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "Ala"}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	first, secret := pair(t, leaf.Certificate[0], leaf.PrivateKey)
	// A key that is too long for one entry of a keyring.
	long, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Ala, anew"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, long.Public(), long)
	if err != nil {
		t.Fatal(err)
	}
	second, secondSecret := pair(t, der, long)
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	welcome := clients.Pool()
	welcome.AddCert(parsed)
	stranger := certtest.New(t).From(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	third, _ := pair(t, stranger.Certificate[0], stranger.PrivateKey)
	conf := &tls.Config{Certificates: []tls.Certificate{ca.Leaf("localhost")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: welcome}
	peer := poppeer.Start(t, poppeer.Config{Login: "ala@house.example", Password: "tajne", Messages: poppeer.Letters(3, 200), TLS: conf, ImplicitTLS: true})
	_, popPort, _ := net.SplitHostPort(peer.Listen(t).String())
	_, smtpPort, _ := net.SplitHostPort(plainSMTP(t, conf, "ala@house.example", "tajne"))
	zone, err := resolver.NewZone("house.example. A 127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	ring := &memoryRing{all: map[string]string{}}
	var logged syncBuffer
	folder := t.TempDir()
	m, err := mua.Open(t.Context(), mua.Config{Folder: folder, Roots: ca.Pool(), Resolver: zone, Keyring: ring, Logger: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	v, end := visit(t, m)
	form := url.Values{"address": {"ala@house.example"}, "password": {"tajne"}, "in_host": {"localhost"}, "in_port": {popPort}, "out_host": {"localhost"}, "out_port": {smtpPort}}
	_, _, talk := v.post("/accounts/new", form)
	v.until(talk, "Change and try again")
	_, _, talk = v.upload("/accounts/new", form, first)
	v.until(talk, `data-done="1"`)
	v.get(talk)
	fetched(t, m, 3)
	if n := len(ring.keys()); n != 1 {
		t.Errorf("%d pieces of keys, want 1", n)
	}

	// One that the servers refuse changes nothing; one that they take is in its place.
	_, _, talk = v.upload("/accounts/1", url.Values{"do": {"certificate"}}, third)
	v.until(talk, "Change and try again")
	if _, body, _ := v.get("/accounts/1"); !strings.Contains(body, "Ala") || strings.Contains(body, "Ala, anew") {
		t.Error("the page does not show the certificate from before")
	}
	before := ring.keys()
	_, _, talk = v.upload("/accounts/1", url.Values{"do": {"certificate"}}, second)
	v.until(talk, `data-done="1"`)
	if names := ring.keys(); len(names) != 2 || strings.Contains(strings.Join(names, " "), before[0]) {
		t.Errorf("the keyring has %v behind %v", names, before)
	}
	if _, body, _ := v.get("/accounts/1"); !strings.Contains(body, "Ala, anew") {
		t.Error("the page does not show the new certificate")
	}
	peer.SetMessages(poppeer.Letters(4, 200)...)
	v.post("/look", url.Values{"back": {"/mail"}})
	fetched(t, m, 4)
	// A new password is tried with the certificate.
	_, _, talk = v.post("/accounts/1", url.Values{"do": {"password"}, "password": {"another"}})
	v.until(talk, "refuses the login name or the password")
	// Without one nobody is let in, so it stays.
	_, _, talk = v.post("/accounts/1", url.Values{"do": {"uncertificate"}})
	v.until(talk, "Change and try again")
	a, err := m.Accounts.List(t.Context())
	if err != nil || a[0].Certificate == "" {
		t.Fatalf("accounts %+v, %v", a, err)
	}
	key, err := m.Secrets.Key(t.Context(), &a[0])
	if err != nil {
		t.Fatal(err)
	}
	if i, err := identity.Join(a[0].Certificate, key); err != nil || !long.Equal(i.TLS().PrivateKey) {
		t.Errorf("the key that is kept: %v, %v", i, err)
	}
	// A key that is gone is told, and what to do.
	lost := a[0]
	lost.ID = 99
	if _, err := m.Secrets.Key(t.Context(), &lost); !errors.Is(err, identity.ErrKeyGone) {
		t.Errorf("a key that is not there: %v", err)
	}
	v.post("/accounts/1", url.Values{"do": {"remove"}, "sure": {"1"}})
	if names := ring.keys(); len(names) != 0 {
		t.Errorf("the keyring still has %v", names)
	}
	end()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{secret, secondSecret} {
		std := strings.NewReplacer("-", "+", "_", "/").Replace(s)
		for where, text := range everything(t, folder, logged.String()) {
			if strings.Contains(text, s) || strings.Contains(text, std) {
				t.Errorf("%s has a key", where)
			}
		}
	}
}

// everything is what was logged and what lies in a folder, by name.
func everything(t *testing.T, folder, logged string) map[string]string {
	t.Helper()
	all := map[string]string{"the log": logged}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil || len(all) < 2 {
		t.Fatalf("%d files, %v", len(all), err)
	}
	return all
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
