package e2e_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// issuer is a provider's authority of tokens (RFC 6749, RFC 7636, RFC 8628), which also tells
// servers whose a token is. Every token is for ala, and good for a minute.
type issuer struct {
	*httptest.Server

	mu        sync.Mutex
	challenge string
	hint      string
	issued    int  // the last access token is a<issued>; only it is good
	refreshes int  // how often a token was renewed
	ended     bool // no token is renewed any more
	polls     int  // of the device flow
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /auth", i.auth)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("POST /device", func(w http.ResponseWriter, _ *http.Request) {
		tell(w, http.StatusOK, map[string]any{"device_code": "dev", "user_code": "ABCD-EFGH", "verification_uri": "https://provider.example/device", "expires_in": 60, "interval": 1})
	})
	mux.HandleFunc("POST /introspect", func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		good := i.issued > 0 && r.FormValue("token") == fmt.Sprint("a", i.issued)
		tell(w, http.StatusOK, map[string]any{"active": fmt.Sprint(good), "username": "ala"})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func tell(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// auth lets whoever comes log in, and sends the browser back.
func (i *issuer) auth(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.challenge, i.hint = q.Get("code_challenge"), q.Get("login_hint")
	if q.Get("client_id") != "poczta-test" || q.Get("scope") != "mail.pop mail.send" || q.Get("code_challenge_method") != "S256" {
		http.Error(w, "wrong question", http.StatusBadRequest)
		return
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?code=thecode&state="+url.QueryEscape(q.Get("state")), http.StatusFound)
}

func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	refused := ""
	switch r.FormValue("grant_type") {
	case "authorization_code":
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if base64.RawURLEncoding.EncodeToString(sum[:]) != i.challenge || r.FormValue("code") != "thecode" {
			refused = "invalid_grant"
		}
		i.ended = false
	case "refresh_token":
		i.refreshes++
		if i.ended || r.FormValue("refresh_token") != "r1" {
			refused = "invalid_grant"
		}
	default:
		if i.polls++; i.polls == 1 {
			refused = "authorization_pending"
		}
		i.ended = false
	}
	if refused != "" {
		tell(w, http.StatusBadRequest, map[string]string{"error": refused})
		return
	}
	i.issued++
	tell(w, http.StatusOK, map[string]any{"access_token": fmt.Sprint("a", i.issued), "refresh_token": "r1", "token_type": "Bearer", "expires_in": 60})
}

// TestMailByToken logs in with a browser (curl) at a provider whose Dovecot and Postfix take nothing
// but tokens from it: the token is renewed, and when that ends the person is told to log in again.
func TestMailByToken(t *testing.T) {
	t.Parallel()
	curl := tool(t, "curl")
	i := newIssuer(t)
	p := newProvider(t, nil, i.URL+"/introspect").postfix()
	l := newLaptop(t)
	browser := l.write("browser", "#!/bin/sh\nexec "+curl+" -sLf -o /dev/null \"$1\"\n")
	executable(t, browser)
	l.env = append(l.env, "BROWSER="+browser)
	add := append([]string{"add", "ala@provider.test", "--ca", p.authority(l), "--client-id", "poczta-test", "--auth-url", i.URL + "/auth", "--token-url", i.URL + "/token",
		"--scope", "mail.pop mail.send"}, p.servers()...)
	l.says("ala@provider.test", add...)
	p.drop("ala", numbered(0, 2)...)
	l.says("2 new letters", "sync")
	l.does("", "send", "ala@provider.test", "-s", "by token", "--text", "x", "--unchecked")
	l.arrives("by token")
	i.mu.Lock()
	if i.refreshes == 0 || i.hint != "ala@provider.test" {
		t.Errorf("%d tokens were renewed; the hint was %q", i.refreshes, i.hint)
	}
	i.ended = true
	i.mu.Unlock()
	l.fails("poczta mail login", "sync")
	l.does("", "login")
	l.does("", "sync")
	i.mu.Lock()
	i.ended = true
	i.mu.Unlock()
	if said := l.does("", "login", "--device-url", i.URL+"/device"); !strings.Contains(said, "ABCD-EFGH") || !strings.Contains(said, "https://provider.example/device") {
		t.Errorf("login on another device: %s", said)
	}
	l.does("", "sync")
	l.fails("logs in with your browser", "password", "--password-file", "passphrase")
	if box := l.does("", "accounts", "--json"); strings.Contains(box, "\"r1\"") || strings.Contains(box, "\"a1\"") {
		t.Errorf("a token is shown: %s", box)
	}
}
