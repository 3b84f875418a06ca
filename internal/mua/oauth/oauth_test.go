package oauth_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/mua/oauth"
)

// provider is one that gives tokens to whoever proves that they asked.
type provider struct {
	*httptest.Server

	mu        sync.Mutex
	challenge string
	asked     url.Values // of the authorization
	pending   int        // polls of a device that come too early
	deny      string     // the error of the token endpoint
	broken    int        // polls of a device that a gateway answers with 502
	device    map[string]any
	refreshed int
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /auth", p.auth)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("POST /device", func(w http.ResponseWriter, _ *http.Request) {
		answer := map[string]any{"device_code": "dev", "user_code": "ABCD-EFGH", "verification_uri": "https://provider.example/device", "expires_in": 60, "interval": 1}
		maps.Copy(answer, p.device)
		give(w, 200, answer)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func give(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (p *provider) auth(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = r.URL.Query()
	p.challenge = p.asked.Get("code_challenge")
	to := p.asked.Get("redirect_uri") + "?code=thecode&state=" + url.QueryEscape(p.asked.Get("state"))
	http.Redirect(w, r, to, http.StatusFound)
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fail := func(code string) {
		give(w, 400, map[string]string{"error": code, "error_description": "why\r\nnot"})
	}
	grant := map[string]any{"access_token": "a1", "refresh_token": "r1", "token_type": "Bearer", "expires_in": 3600}
	switch r.FormValue("grant_type") {
	case "authorization_code":
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if base64.RawURLEncoding.EncodeToString(sum[:]) != p.challenge || r.FormValue("code") != "thecode" {
			fail("invalid_grant")
			return
		}
	case "refresh_token":
		p.refreshed++
		if p.deny != "" {
			fail(p.deny)
			return
		}
		grant = map[string]any{"access_token": fmt.Sprintf("a%d", 1+p.refreshed), "token_type": "Bearer", "expires_in": 3600}
	default: // the device's
		if p.broken > 0 {
			p.broken--
			http.Error(w, "bad gateway", http.StatusBadGateway)
			return
		}
		if p.pending > 0 {
			p.pending--
			fail("authorization_pending")
			return
		}
		if p.deny != "" {
			fail(p.deny)
			return
		}
	}
	give(w, 200, grant)
}

func (p *provider) provider() *oauth.Provider {
	return &oauth.Provider{AuthURL: p.URL + "/auth", TokenURL: p.URL + "/token", DeviceURL: p.URL + "/device", Scope: "mail.pop mail.send", ClientID: "poczta"}
}

// visit is a browser that follows redirections.
func visit(t *testing.T, address string) (body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Language", "pl,en;q=0.5")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLoginInTheBrowser(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	var page string
	got, err := p.provider().Loopback(t.Context(), "ala@example.org", func(address string) error {
		redirect, err := url.Parse(address)
		if err != nil {
			return err
		}
		back := redirect.Query().Get("redirect_uri")
		for _, stranger := range []string{back + "?code=evil&state=guess", back + "favicon.ico", back + "?code=evil"} {
			if body := visit(t, stranger); !strings.Contains(body, "404") {
				t.Errorf("%s was answered %q", stranger, body)
			}
		}
		page = visit(t, address)
		return nil
	})
	if err != nil || got.Access != "a1" || got.Refresh != "r1" || !got.Fresh(time.Now()) || got.Fresh(time.Now().Add(time.Hour)) {
		t.Fatalf("%+v, %v", got, err)
	}
	if !strings.Contains(page, "Zalogowano") || !strings.Contains(page, `lang="pl"`) {
		t.Errorf("the person sees %q", page)
	}
	if p.asked.Get("code_challenge_method") != "S256" || p.asked.Get("login_hint") != "ala@example.org" || p.asked.Get("scope") != "mail.pop mail.send" {
		t.Errorf("asked with %v", p.asked)
	}
	if s := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(s, "a1") || strings.Contains(s, "r1") {
		t.Errorf("printed as %s", s)
	}
}

func TestDenied(t *testing.T) {
	t.Parallel()
	p := newProvider(t).provider()
	for query, is := range map[string]error{"error=access_denied": oauth.ErrDenied, "error=server_error&error_description=x": nil, "": nil} {
		_, err := p.Loopback(t.Context(), "", func(address string) error {
			u, err := url.Parse(address)
			if err != nil {
				return err
			}
			if body := visit(t, u.Query().Get("redirect_uri")+"?state="+url.QueryEscape(u.Query().Get("state"))+"&"+query); !strings.Contains(body, "nie powiodło") {
				t.Errorf("the person sees %q", body)
			}
			return nil
		})
		if err == nil || is != nil && !errors.Is(err, is) {
			t.Errorf("%q: %v", query, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := p.Loopback(ctx, "", func(string) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("the person gave up: %v", err)
	}
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	old := oauth.Token{Access: "a1", Refresh: "r1", Expiry: time.Now()}
	got, err := p.provider().Refresh(t.Context(), old)
	if err != nil || got.Access != "a2" || got.Refresh != "r1" {
		t.Errorf("%+v, %v", got, err)
	}
	text, err := got.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := oauth.Decode(text); err != nil || again.Access != "a2" || again.Refresh != "r1" || !again.Expiry.Equal(got.Expiry) {
		t.Errorf("%+v, %v", again, err)
	}
	p.deny = "invalid_grant"
	if _, err := p.provider().Refresh(t.Context(), old); !errors.Is(err, oauth.ErrExpired) {
		t.Errorf("revoked: %v", err)
	}
	p.deny = "temporarily_unavailable"
	if _, err := p.provider().Refresh(t.Context(), old); err == nil || errors.Is(err, oauth.ErrExpired) || strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("later: %v", err)
	}
	for _, bad := range []string{"", "{", "[]"} {
		if _, err := oauth.Decode(bad); !errors.Is(err, oauth.ErrExpired) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := p.provider().Refresh(t.Context(), oauth.Token{}); !errors.Is(err, oauth.ErrExpired) {
		t.Errorf("without a refresh token: %v", err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := oauth.Provider{AuthURL: "https://a.example/x", TokenURL: "https://a.example/y", ClientID: "id"}
	for name, change := range map[string]func(*oauth.Provider){
		"in the clear": func(p *oauth.Provider) { p.TokenURL = "http://a.example/y" },
		"no client":    func(p *oauth.Provider) { p.ClientID = "" },
		"no address":   func(p *oauth.Provider) { p.AuthURL = "" },
		"device":       func(p *oauth.Provider) { p.DeviceURL = "ftp://a.example" },
	} {
		p := good
		change(&p)
		if p.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
		if _, err := p.Loopback(t.Context(), "", func(string) error { return errors.New("opened") }); err == nil || strings.Contains(err.Error(), "opened") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}
