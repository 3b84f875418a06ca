package mua_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/mua/vault"
	"poczta.example/poczta/internal/resolver"
)

// TestRemoveWhileFetching removes an account whose fetch hangs on a server that says nothing more.
func TestRemoveWhileFetching(t *testing.T) {
	t.Parallel()
	for _, stage := range []poppeer.Stage{poppeer.Greeting, poppeer.Uidl, poppeer.Retr, poppeer.Dele} {
		t.Run(stage.String(), func(t *testing.T) {
			t.Parallel()
			peer := poppeer.Start(t, poppeer.Config{Messages: poppeer.Letters(3, 300), Rules: []poppeer.Rule{{Stage: stage, Nth: 1, Do: poppeer.Stall()}}})
			h := newHouse(t)
			h.must(h.Secrets.SetPassword(&profile.Account{ID: 1}, "secret", ""))
			a := h.plain(peer.Listen(t).String(), profile.Fetched)
			ended := make(chan error, 1)
			go func() {
				_, err := h.Fetcher.Sync(context.WithoutCancel(t.Context()), a)
				ended <- err
			}()
			reached(t, peer, stage)
			h.must(h.desk("", false).Remove(t.Context(), "ala", false))
			if err := <-ended; !errors.Is(err, fetch.ErrEnded) {
				t.Errorf("the fetch ended with %v", err)
			}
			if _, err := h.Fetcher.Sync(t.Context(), a); !errors.Is(err, fetch.ErrEnded) {
				t.Errorf("a fetch of an account that is removed: %v", err)
			}
			if list, err := h.Accounts.List(t.Context()); err != nil || len(list) != 0 {
				t.Errorf("accounts: %v, %v", list, err)
			}
		})
	}
}

// plain saves an account on a server without TLS on this computer.
func (h *house) plain(addr string, keep profile.Keep) profile.Account {
	h.t.Helper()
	host, port, err := net.SplitHostPort(addr)
	h.must(err)
	n, err := strconv.Atoi(port)
	h.must(err)
	a, err := h.Accounts.Add(h.t.Context(), profile.Account{Address: "ala@house.example", Policy: profile.Policy{Keep: keep},
		Incoming: profile.Server{Server: clientconfig.Server{Protocol: clientconfig.POP3, Host: host, Port: uint16(n), Security: clientconfig.Plain}, Login: "us"},
		Outgoing: profile.Server{Server: clientconfig.Server{Protocol: clientconfig.SMTP, Host: host, Port: 465, Security: clientconfig.TLS}, Login: "us"}})
	h.must(err)
	h.must(h.Store.AddAccount(h.t.Context(), a.ID))
	return a
}

// reached waits until a server has come to a stage.
func reached(t *testing.T, p *poppeer.Peer, s poppeer.Stage) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for p.Seen(s) == 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the fetch never came to %s", s)
		}
	}
}

// plainSMTP is an outgoing server that takes the one password.
func plainSMTP(t *testing.T, conf *tls.Config, login, password string) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	want := base64.StdEncoding.EncodeToString([]byte("\x00" + login + "\x00" + password))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				fmt.Fprint(conn, "220 smtp.test\r\n")
				for in := bufio.NewScanner(conn); in.Scan(); {
					switch word := strings.Fields(in.Text() + " x"); strings.ToUpper(word[0]) {
					case "EHLO":
						fmt.Fprint(conn, "250-smtp.test\r\n250 AUTH PLAIN\r\n")
					case "AUTH":
						if len(word) > 2 && word[2] == want {
							fmt.Fprint(conn, "235 2.7.0 welcome\r\n")
						} else {
							fmt.Fprint(conn, "535 5.7.8 no\r\n")
						}
					case "QUIT":
						fmt.Fprint(conn, "221 bye\r\n")
						return
					default:
						fmt.Fprint(conn, "500 what?\r\n")
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// visitor reads the page of open mail as a browser does.
type visitor struct {
	t      *testing.T
	client *http.Client
	base   string
}

func (v *visitor) read(resp *http.Response, err error) (int, string, string) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return resp.StatusCode, string(text), strings.TrimPrefix(resp.Request.URL.Path, v.base[strings.LastIndex(v.base, "/"):])
}

func (v *visitor) get(path string) (int, string, string) {
	return v.read(v.client.Get(v.base + path))
}

func (v *visitor) post(path string, form url.Values) (int, string, string) {
	return v.read(v.client.PostForm(v.base+path, form))
}

// until follows an attempt until its page shows a text; the page behind it counts too.
func (v *visitor) until(path, text string) string {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), 2*time.Minute)
	defer cancel()
	seen := ""
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, "GET", v.base+path+"?seen="+seen, nil)
		if err != nil {
			v.t.Fatal(err)
		}
		r.Header.Set("X-Poczta-Part", "talk")
		_, body, _ := v.read(v.client.Do(r))
		if strings.Contains(body, text) {
			return body
		}
		m := regexp.MustCompile(`data-version="(\d+)"`).FindStringSubmatch(body)
		if m == nil || !strings.Contains(body, "data-running") {
			v.t.Fatalf("%s ends without %q: %s", path, text, body)
		}
		seen = m[1]
	}
	v.t.Fatalf("%s never shows %q", path, text)
	return ""
}

// visit opens the page and lets a visitor in. end ends it.
func visit(t *testing.T, m *mua.Mail) (v *visitor, end func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	address, done := make(chan string, 1), make(chan error, 1)
	d := &mua.Desk{Mail: m, In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Language: "en"}
	go func() { done <- d.Open(ctx, 0, func(a string) error { address <- a; return nil }) }()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v = &visitor{t: t, client: &http.Client{Jar: jar}}
	first := <-address
	v.base = first[:strings.LastIndex(first, "/enter")] + "/"
	_, entered, _ := v.read(v.client.Get(first))
	_, rest, _ := strings.Cut(entered, "url=/")
	path, _, _ := strings.Cut(rest, "/mail")
	v.base += path
	return v, func() {
		v.client.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestNewcomer comes with an empty folder and no keyring, and goes with mail: all of it on the page.
// Then the program starts anew and the passwords are locked until the passphrase is entered.
func TestNewcomer(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t)
	conf := &tls.Config{Certificates: []tls.Certificate{ca.Leaf("localhost")}}
	other := &tls.Config{Certificates: []tls.Certificate{certtest.New(t).Leaf("localhost")}} // nobody vouches for it
	peer := poppeer.Start(t, poppeer.Config{Login: "ala@house.example", Password: "tajne", Messages: poppeer.Letters(3, 200), TLS: other, ImplicitTLS: true})
	_, popPort, _ := net.SplitHostPort(peer.Listen(t).String())
	_, smtpPort, _ := net.SplitHostPort(plainSMTP(t, conf, "ala@house.example", "tajne"))
	zone, err := resolver.NewZone("house.example. A 127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	c := mua.Config{Folder: t.TempDir(), Roots: ca.Pool(), Resolver: zone, AtTerminal: true, Keyring: noRing{}, VaultWork: 10,
		Ask: func(bool) (string, error) { return "", errors.New("nobody sits at the terminal") }}
	m, err := mua.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	v, end := visit(t, m)
	_, body, at := v.get("/mail")
	if at != "/accounts/new" || !strings.Contains(body, "Welcome") || !strings.Contains(body, `name="passphrase2"`) {
		t.Errorf("the newcomer is at %s: %.300s", at, body)
	}
	form := url.Values{"address": {"ala@house.example"}, "password": {"wrong"}, "passphrase": {"correct horse"}, "passphrase2": {"correct horse"},
		"in_host": {"localhost"}, "in_port": {popPort}, "out_host": {"localhost"}, "out_port": {smtpPort}}
	_, _, talk := v.post("/accounts/new", form)
	body = v.until(talk, "is not trusted")
	if !strings.Contains(body, "self-signed") {
		t.Errorf("the certificate: %s", body)
	}
	if peer.Seen(poppeer.Pass)+peer.Seen(poppeer.Auth) != 0 {
		t.Error("a password went to a server that nobody vouches for")
	}
	_, _, talk = v.post(talk, url.Values{"do": {"accept"}, "sure": {"1"}})
	v.until(talk, "refuses the login name or the password")
	_, _, talk = v.post("/accounts/new", url.Values{"again": {strings.TrimPrefix(talk, "/talk/")}, "address": {"ala@house.example"}, "password": {"tajne"},
		"in_host": {"localhost"}, "in_port": {popPort}, "out_host": {"localhost"}, "out_port": {smtpPort}})
	v.until(talk, "another than the one that was accepted") // the other server has its own
	_, _, talk = v.post(talk, url.Values{"do": {"accept"}, "sure": {"1"}})
	v.until(talk, `data-done="1"`)
	if _, body, at = v.get(talk); at != "/mail" || !strings.Contains(body, "is set up") {
		t.Errorf("behind the set-up: %s %.500s", at, body)
	}
	fetched(t, m, 3)
	end()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}

	if m, err = mua.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	v, end = visit(t, m)
	defer end()
	if _, body, _ = v.get("/mail"); !strings.Contains(body, "Your passwords are locked") || !strings.Contains(body, "letter 1") && !strings.Contains(body, "Subject") && !strings.Contains(body, `class="row`) {
		t.Errorf("locked: %.500s", body)
	}
	if _, err := m.Secrets.Password(t.Context(), &profile.Account{ID: 1}, false); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("the password behind the lock: %v", err)
	}
	if code, body, _ := v.post("/unlock", url.Values{"passphrase": {"wrong"}}); code != http.StatusUnprocessableEntity || !strings.Contains(body, "The passphrase is wrong") {
		t.Errorf("a wrong passphrase: %d", code)
	}
	peer.SetMessages(poppeer.Letters(4, 200)...)
	if _, body, _ = v.post("/unlock", url.Values{"passphrase": {"correct horse"}, "back": {"/mail"}}); !strings.Contains(body, "The passwords are unlocked") {
		t.Errorf("unlocked: %.500s", body)
	}
	fetched(t, m, 4)
	account := "/accounts/1"
	_, _, talk = v.post(account, url.Values{"do": {"password"}, "password": {"another"}})
	v.until(talk, "refuses the login name or the password")
	if _, body, at = v.post(account, url.Values{"do": {"remove"}, "sure": {"1"}}); at != "/settings" || !strings.Contains(body, "is removed") {
		t.Errorf("removed: %s %.500s", at, body)
	}
	if list, err := m.Accounts.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("accounts: %v, %v", list, err)
	}
}

// noRing is a system without a keyring.
type noRing struct{}

var errNoRing = errors.New("no bus")

func (noRing) Get(string, string) (string, error) { return "", errNoRing }
func (noRing) Set(string, string, string) error   { return errNoRing }
func (noRing) Delete(string, string) error        { return errNoRing }

// fetched waits until so many letters are here.
func fetched(t *testing.T, m *mua.Mail, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		page, err := m.Store.List(ctx, store.Query{Folder: store.Inbox})
		if err == nil && len(page.Letters) == n {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d letters are here, want %d: %v", len(page.Letters), n, err)
		}
	}
}

// TestGivenPassphrase: who gave the passphrase of the encrypted file with the command (in a file) is
// not asked to choose another on the page.
func TestGivenPassphrase(t *testing.T) {
	t.Parallel()
	for name, terminal := range map[string]bool{"in a file": false, "nobody gave it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			zone, err := resolver.NewZone("house.example. A 127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			m, err := mua.Open(t.Context(), mua.Config{Folder: t.TempDir(), Resolver: zone, Keyring: noRing{}, VaultWork: 10, AtTerminal: terminal, Ask: func(bool) (string, error) { return "correct horse", nil }})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			v, end := visit(t, m)
			if _, body, at := v.get("/mail"); at != "/accounts/new" || strings.Contains(body, `name="passphrase2"`) != terminal {
				t.Errorf("%s asks for a passphrase: %v", at, !terminal)
			}
			end()
		})
	}
}
