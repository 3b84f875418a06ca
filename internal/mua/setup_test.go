package mua_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/oauth"
	"poczta.example/poczta/internal/resolver"
)

// sitter sits at the terminal.
type sitter struct {
	password string
	said     strings.Builder
	browse   func(address string) error
}

func (s *sitter) Say(text string)                 { s.said.WriteString(text + "\n") }
func (s *sitter) Confirm(string) (bool, error)    { return false, nil }
func (s *sitter) Password(string) (string, error) { return s.password, nil }
func (s *sitter) Browse(address string) error     { return s.browse(address) }

// tokenSMTP is an outgoing server that takes whoever has a token.
func tokenSMTP(t *testing.T, conf *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go speak(conn)
		}
	}()
	return l.Addr().String()
}

func speak(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(conn, "220 smtp.test\r\n")
	for in := bufio.NewScanner(conn); in.Scan(); {
		switch word, _, _ := strings.Cut(strings.ToUpper(in.Text()), " "); word {
		case "EHLO":
			fmt.Fprint(conn, "250-smtp.test\r\n250 AUTH XOAUTH2 OAUTHBEARER\r\n")
		case "AUTH":
			fmt.Fprint(conn, "235 2.7.0 welcome\r\n")
		case "QUIT":
			fmt.Fprint(conn, "221 bye\r\n")
			return
		default:
			fmt.Fprint(conn, "500 what?\r\n")
		}
	}
}

// provider gives the token that the servers take; it ends at once, so that each use asks for another.
func provider(t *testing.T) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var refreshed atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /auth", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		http.Redirect(w, r, q.Get("redirect_uri")+"?code=thecode&state="+url.QueryEscape(q.Get("state")), http.StatusFound)
	})
	mux.HandleFunc("POST /device", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"device_code": "dev", "user_code": "ABCD-EFGH", "verification_uri": "https://provider.example/device", "expires_in": 600, "interval": 1})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("grant_type") == "refresh_token" {
			refreshed.Add(1)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "the-token", "refresh_token": "r", "token_type": "Bearer", "expires_in": 1})
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s, &refreshed
}

// TestBrowserLogin sets up an account at a provider that takes tokens alone, and fetches with one
// that was renewed.
func TestBrowserLogin(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t)
	conf := &tls.Config{Certificates: []tls.Certificate{ca.Leaf("localhost")}}
	peer := poppeer.Start(t, poppeer.Config{Login: "ala@house.example", Password: "none of yours", Token: "the-token", Mechanisms: []string{"OAUTHBEARER", "XOAUTH2"}, Messages: poppeer.Letters(3, 200), TLS: conf, ImplicitTLS: true})
	pop, smtp := strings.Replace(peer.Listen(t).String(), "127.0.0.1", "localhost", 1), strings.Replace(tokenSMTP(t, conf), "127.0.0.1", "localhost", 1)
	p, refreshed := provider(t)
	who := &sitter{browse: func(address string) error {
		go func() {
			if resp, err := http.Get(address); err == nil {
				resp.Body.Close()
			}
		}()
		return nil
	}}
	s := &mua.Setup{Person: who, Roots: ca.Pool()}
	w := mua.Wish{Address: "ala@house.example", Incoming: pop, Outgoing: smtp, Security: "tls", OAuth: oauth.Provider{ClientID: "poczta", AuthURL: p.URL + "/auth", TokenURL: p.URL + "/token", Scope: "mail"}}
	n, err := s.Account(t.Context(), w)
	if err != nil {
		t.Fatalf("%v\n%s", err, &who.said)
	}
	if n.Token == nil || n.Password != "" || n.Account.OAuth == nil {
		t.Fatalf("got %+v", n)
	}
	folder := t.TempDir()
	m, err := mua.Open(t.Context(), mua.Config{Folder: folder, Roots: ca.Pool(), VaultFile: true, VaultWork: 10, Ask: func(bool) (string, error) { return "correct horse battery", nil }})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{Mail: m, t: t, folder: folder}
	defer m.Close()
	text, err := json.Marshal(n)
	h.must(err)
	h.must(h.desk(string(text), false).AccountAdd(t.Context()))
	h.must(h.desk("", false).Sync(t.Context(), nil))
	if got := h.rows(mua.Listing{}); len(got) != 3 || refreshed.Load() == 0 {
		t.Errorf("%d letters, the token was renewed %d times", len(got), refreshed.Load())
	}
	if err := h.desk(`{"account":{},"password":"x"}`, false).Password(t.Context(), "ala", false); err == nil {
		t.Error("a password was taken where tokens are")
	}
}

// TestWishes are set-ups that can't succeed; nobody is asked for a password before the wish is clear.
func TestWishes(t *testing.T) {
	t.Parallel()
	empty, err := resolver.NewZone("nothing.example. A 192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		w     mua.Wish
		usage bool
		says  string
	}{
		{"no address", mua.Wish{Address: "ala"}, true, "is not an address"},
		{"one server", mua.Wish{Address: "a@b.example", Incoming: "pop.b.example"}, true, "give both"},
		{"a port that is none", mua.Wish{Address: "a@b.example", Incoming: "pop.b.example:x", Outgoing: "smtp.b.example"}, true, "is no server"},
		{"unknown security", mua.Wish{Address: "a@b.example", Incoming: "pop.b.example", Outgoing: "smtp.b.example", Security: "some"}, true, "say tls, starttls or none"},
		{"a fingerprint that is none", mua.Wish{Address: "a@b.example", Incoming: "127.0.0.1:1", Outgoing: "127.0.0.1:1", Accept: "AB:CD"}, true, "64 hexadecimal digits"},
		{"no TLS far away", mua.Wish{Address: "a@b.example", Incoming: "192.0.2.1:110", Outgoing: "192.0.2.1:25", Security: "none"}, false, "only a server on this computer"},
		{"nobody listens", mua.Wish{Address: "a@b.example", Incoming: "127.0.0.1:1", Outgoing: "127.0.0.1:1"}, false, "nobody listens at 127.0.0.1:1: look whether host and port are right; nothing is saved"},
		{"no provider for a token", mua.Wish{Address: "a@b.example", Incoming: "127.0.0.1:1", Outgoing: "127.0.0.1:1", OAuth: oauth.Provider{ClientID: "x"}}, false, "--auth-url"},
		{"nothing is found", mua.Wish{Address: "a@b.example"}, false, "no POP3 and SMTP servers were found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &mua.Setup{Person: &sitter{password: "secret"}, Resolver: empty, Dial: func(ctx context.Context, network, hostport string) (net.Conn, error) {
				if strings.HasPrefix(hostport, "127.") {
					return new(net.Dialer).DialContext(ctx, network, hostport)
				}
				return nil, errors.New("there is no network")
			}}
			_, err := s.Account(t.Context(), c.w)
			if err == nil || errors.Is(err, mua.ErrUsage) != c.usage || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		done, total int
		octets, all int64
		took        time.Duration
		want        string
	}{
		{0, 0, 0, 0, 0, "0 letters, 0 B, 0 B/s"},
		{5, 10, 1 << 20, 4 << 20, 2 * time.Second, "5 of 10 letters, 1.0 MiB of 4.0 MiB, 512.0 KiB/s, 6s left"},
		{10, 10, 2 << 30, 2 << 30, 2 * time.Second, "10 of 10 letters, 2.00 GiB of 2.00 GiB, 1.00 GiB/s"},
	} {
		if got := mua.ProgressText(c.done, c.total, c.octets, c.all, c.took); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	for done, want := range map[int64]int{0: 0, 50: 12, 100: 24, 200: 24} {
		if got := strings.Count(mua.Bar(done, 100), "#"); got != want {
			t.Errorf("bar of %d: %d", done, got)
		}
	}
	if got := mua.Printable("a\x1b[31m\u202eb\xff\n"); strings.ContainsAny(got, "\x1b\u202e") {
		t.Errorf("printable: %q", got)
	}
}
