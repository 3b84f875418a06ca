package page_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mua/identity"
	"poczta.example/poczta/internal/mua/oauth"
	"poczta.example/poczta/internal/mua/page"
)

// proofFile is a file of certificates and keys that package identity's tests read.
func proofFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "identity", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// upload posts a form with files.
func (h *house) upload(path string, form url.Values, files ...[]byte) (int, string) {
	h.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, values := range form {
		for _, v := range values {
			h.must(w.WriteField(name, v))
		}
	}
	for i, f := range files {
		part, err := w.CreateFormFile("identity", fmt.Sprintf("file%d.pem", i))
		h.must(err)
		_, err = part.Write(f)
		h.must(err)
	}
	h.must(w.Close())
	r, err := h.client.Post(h.at(path), w.FormDataContentType(), &b)
	h.must(err)
	defer r.Body.Close()
	if to := r.Header.Get("Location"); to != "" {
		return r.StatusCode, strings.TrimPrefix(to, h.base)
	}
	body, err := io.ReadAll(r.Body)
	h.must(err)
	return r.StatusCode, string(body)
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// coder is what shows codes.
type coder interface{ Code(c oauth.Code) }

// TestDeviceLogin shows a code as long as it is waited for, says that the provider is away, and in
// the end what came of it.
func TestDeviceLogin(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.ala
	a.OAuth = &clientconfig.OAuth{AuthURL: "https://provider.example/auth", TokenURL: "https://provider.example/token", DeviceURL: "https://provider.example/device"}
	a.ClientID = "poczta"
	h.must(h.accounts.Update(t.Context(), a))
	path := fmt.Sprintf("/accounts/%d", a.ID)
	h.shows(path, "Log in on another device", `value="https://provider.example/device"`)
	if code, body := h.post(path, url.Values{"do": {"code"}, "device_url": {"http://provider.example/device"}}); code != http.StatusUnprocessableEntity || !strings.Contains(body, "is no address of a provider") {
		t.Errorf("an address in the clear: %d", code)
	}
	next := make(chan oauth.Code)
	h.keeper.set(func() {
		h.keeper.with = func(_ context.Context, who page.Person, _ page.NewAccount) error {
			for c := range next {
				who.(coder).Code(c)
			}
			return nil
		}
	})
	_, to := h.post(path, url.Values{"do": {"code"}, "device_url": {"https://other.example/device"}})
	c := oauth.Code{Address: "https://provider.example/device", Complete: "https://provider.example/device?code=ABCD", Text: "ABCD-EFGH", Until: time.Date(2026, 11, 24, 9, 41, 0, 0, time.UTC)}
	next <- c
	h.talk(to, "ABCD-EFGH")
	h.shows(to, `href="https://provider.example/device"`, "fill", "The code is good until 09:41.", "!can&#39;t be reached", `<noscript><meta http-equiv="refresh"`, "Show how far it is", `id="copy"`)
	c.Away = true
	next <- c
	h.talk(to, "The provider can&#39;t be reached at the moment")
	c.Away = false
	next <- c
	next <- oauth.Code{}
	h.talk(to, "Trying…")
	h.shows(to, "!ABCD-EFGH")
	close(next)
	h.talk(to, `data-done="1"`)
	if got, want := h.keeper.words[0], fmt.Sprintf("login %d  https://other.example/device", a.ID); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for err, says := range map[error]string{oauth.ErrDenied: "access was denied", oauth.ErrLate: "not entered in time", oauth.ErrAway: "Is this computer"} {
		h.keeper.set(func() {
			h.keeper.with = func(context.Context, page.Person, page.NewAccount) error {
				return fmt.Errorf("wait for the login: %w", err)
			}
		})
		_, to := h.post(path, url.Values{"do": {"code"}, "device_url": {"https://other.example/device"}})
		if body := h.talk(to, "Change and try again"); !strings.Contains(strings.ToLower(body), strings.ToLower(says)) {
			t.Errorf("%v: the page does not say %q", err, says)
		}
	}
	// The form for a new account takes the address, too.
	h.keeper.set(func() { h.keeper.with = nil })
	if code, body := h.post("/accounts/new", url.Values{"address": {"nowa@example.org"}, "client_id": {"x"}, "device_url": {"javascript:x"}}); code != 422 || !strings.Contains(body, "is no address of a provider") {
		t.Errorf("no address: %d", code)
	}
	_, to = h.post("/accounts/new", url.Values{"address": {"nowa@example.org"}, "client_id": {"x"}, "device_url": {"https://provider.example/device"}})
	h.talk(to, `data-done="1"`)
	if n := h.keeper.added[0]; n.DeviceURL != "https://provider.example/device" {
		t.Errorf("added %+v", n)
	}
}

// TestCertificateUpload takes a certificate with its key, says what is wrong with others, and never
// shows the key.
func TestCertificateUpload(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	path := fmt.Sprintf("/accounts/%d", h.ala.ID)
	key := proofFile(t, "ec.key")
	secret := strings.Split(string(key), "\n")[1]
	for name, c := range map[string]struct {
		password string
		files    [][]byte
		says     string
	}{
		"nothing":          {"", nil, "Choose the file with your certificate"},
		"no key":           {"", [][]byte{proofFile(t, "ec.crt")}, "without its private key"},
		"no certificate":   {"", [][]byte{key}, "without its certificate"},
		"another's key":    {"", [][]byte{proofFile(t, "rsa.crt"), key}, "does not belong"},
		"rubbish":          {"", [][]byte{[]byte("rubbish")}, "no certificate that can be read"},
		"no password":      {"", [][]byte{proofFile(t, "modern.p12")}, "protected by a password"},
		"a wrong password": {"tajne-haslo", [][]byte{proofFile(t, "modern.p12")}, "password of the file is wrong"},
		"too large":        {"", [][]byte{make([]byte, identity.MaxFile+1)}, "larger than 256 KiB"},
		"much too large":   {"", [][]byte{make([]byte, 2<<20)}, "larger than 256 KiB"},
		"many":             {"", [][]byte{make([]byte, identity.MaxFile), key}, "larger than 256 KiB"},
	} {
		code, body := h.upload(path, url.Values{"do": {"certificate"}, "file_password": {c.password}}, c.files...)
		if code != http.StatusUnprocessableEntity || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d, without %q", name, code, c.says)
		}
		if strings.Contains(body, secret) || c.password != "" && strings.Contains(body, c.password) {
			t.Errorf("%s: the page has a secret", name)
		}
	}
	if len(h.keeper.certificates) != 0 {
		t.Fatal("something was tried")
	}
	for i, c := range []struct {
		password string
		files    [][]byte
	}{{"zażółć", [][]byte{proofFile(t, "modern.p12")}}, {"", [][]byte{proofFile(t, "ec.crt"), key}}} {
		_, to := h.upload(path, url.Values{"do": {"certificate"}, "file_password": {c.password}, "external": {"1"}}, c.files...)
		if body := h.talk(to, `data-done="1"`); strings.Contains(body, secret) {
			t.Error("the page has the key")
		}
		got := h.keeper.certificates[i]
		if leaf, err := identity.Leaf(got.Identity.Chain()); err != nil || leaf.Subject.CommonName != "Ala Kowalska" || !got.External {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	// It shows on the account's page, and is taken away there.
	a := h.ala
	a.Certificate = h.keeper.certificates[0].Identity.Chain()
	a.Incoming.External, a.Outgoing.External = true, true
	h.must(h.accounts.Update(t.Context(), a))
	leaf, err := identity.Leaf(a.Certificate)
	h.must(err)
	h.shows(path, "Ala Kowalska", "Test authority", leaf.NotAfter.Format(time.DateOnly), "Remove the certificate", "Password that logs in without it", "!no longer valid", "!ends soon")
	if code, body := h.post(path, url.Values{"do": {"uncertificate"}}); code != 422 || !strings.Contains(body, "No password was given") {
		t.Errorf("nothing would log in: %d", code)
	}
	_, to := h.post(path, url.Values{"do": {"uncertificate"}, "password": {"nowe"}})
	h.talk(to, `data-done="1"`)
	if got := h.keeper.certificates[2]; got.Identity != nil || got.Password != "nowe" || got.External {
		t.Errorf("removed by %+v", got)
	}
}

// TestCertificateOfNewAccount keeps what was uploaded while the rest of the form is mended.
func TestCertificateOfNewAccount(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.keeper.set(func() { h.keeper.fail = page.ErrCredentials })
	form := url.Values{"address": {"nowa@example.org"}, "external": {"1"}}
	if code, _ := h.upload("/accounts/new", form); code != http.StatusUnprocessableEntity {
		t.Errorf("a login by a certificate that is none: %d", code)
	}
	_, to := h.upload("/accounts/new", form, proofFile(t, "ec.crt"), proofFile(t, "ec.key"))
	h.talk(to, "Change and try again")
	again := to[strings.LastIndex(to, "/")+1:]
	h.shows("/accounts/new?again="+again, "that you chose before is kept")
	h.keeper.set(func() { h.keeper.fail = nil })
	form.Set("again", again)
	_, to = h.upload("/accounts/new", form)
	h.talk(to, `data-done="1"`)
	if n := h.keeper.added[1]; n.Identity == nil || !n.External || strings.Contains(fmt.Sprintf("%+v", n), "PRIVATE") {
		t.Errorf("added %+v", n)
	}
}
