package mua_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/oauth"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
)

// TestPolicyWhileTrying has a person say that mail stays on the server while changed servers are tried: it stays.
func TestPolicyWhileTrying(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*house, profile.Account) error{
		"command": func(h *house, _ profile.Account) error {
			return h.desk("", false).Server(h.t.Context(), "", mua.ServerChange{Name: "Ala"})
		},
		"page": func(h *house, a profile.Account) error { return h.Keeper().Server(h.t.Context(), a) },
		"page with an old form": func(h *house, a profile.Account) error {
			if err := h.Keeper().Server(h.t.Context(), a); err != nil {
				return err
			}
			return h.Keeper().Server(h.t.Context(), a)
		},
		"certificate": func(h *house, a profile.Account) error {
			return h.Keeper().Certificate(h.t.Context(), a.ID, page.Certificate{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h *house
			dialled := false
			h, a := served(t, func() {
				dialled = true
				a, err := h.Accounts.Find(t.Context(), "")
				h.must(err)
				a.Policy.Keep, a.Signature = profile.Leave, "Ala"
				h.must(h.Accounts.Update(t.Context(), a))
			})
			h.must(change(h, a))
			if now, err := h.Accounts.Find(t.Context(), ""); err != nil || now.Policy.Keep != profile.Leave || now.Signature != "Ala" || !dialled {
				t.Errorf("letters on the server: %s; signature %q; %v", now.Policy.Keep, now.Signature, err)
			}
		})
	}
}

// served opens mail with an account whose letters are deleted on the server, and which does something when its servers are
// first called.
func served(t *testing.T, called func()) (*house, profile.Account) {
	t.Helper()
	ca := certtest.New(t)
	server := func(protocol clientconfig.Protocol, addr, host string, security clientconfig.Security) profile.Server {
		_, text, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		return profile.Server{Server: clientconfig.Server{Protocol: protocol, Host: host, Port: uint16(port), Security: security}, Login: "us"}
	}
	pop := poppeer.Start(t, poppeer.Config{}).Listen(t).String()
	smtp := plainSMTP(t, &tls.Config{Certificates: []tls.Certificate{ca.Leaf("localhost")}}, "us", "secret")
	h := &house{t: t, folder: t.TempDir()}
	var once sync.Once
	var err error
	h.Mail, err = mua.Open(t.Context(), mua.Config{Folder: h.folder, Roots: ca.Pool(), VaultFile: true, VaultWork: 10, Ask: func(bool) (string, error) { return "correct horse battery", nil },
		Dial: func(ctx context.Context, network, hostport string) (net.Conn, error) {
			once.Do(called)
			return new(net.Dialer).DialContext(ctx, network, hostport)
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := h.Accounts.Add(t.Context(), profile.Account{Address: "ala@house.example", Policy: profile.Policy{Keep: profile.Fetched},
		Incoming: server(clientconfig.POP3, pop, "127.0.0.1", clientconfig.Plain), Outgoing: server(clientconfig.SMTP, smtp, "localhost", clientconfig.TLS)})
	h.must(err)
	h.must(h.Secrets.SetPassword(&a, "secret", ""))
	return h, a
}

// TestTokenWhileRenewing has a person log in anew, or remove the account, while a provider renews the token before: that one is
// not stored.
func TestTokenWhileRenewing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		do   func(*house, *profile.Account) error
		want string
	}{
		"nothing": {func(*house, *profile.Account) error { return nil }, "renewed"},
		"logged in": {func(h *house, a *profile.Account) error {
			return h.Secrets.SetToken(a, oauth.Token{Access: "new", Refresh: "r2"})
		}, "new"},
		"removed": {func(h *house, a *profile.Account) error { return h.Secrets.Forget(a) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			a := &profile.Account{ID: 1, Address: "ala@house.example", ClientID: "c"}
			provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if err := tt.do(h, a); err != nil {
					t.Error(err)
				}
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, `{"access_token": "renewed", "token_type": "Bearer", "expires_in": 3600}`)
			}))
			defer provider.Close()
			a.OAuth = &clientconfig.OAuth{TokenURL: provider.URL}
			h.must(h.Secrets.SetToken(a, oauth.Token{Access: "old", Refresh: "r1", Expiry: time.Now().Add(-time.Hour)}))
			for range 2 { // as it is given, and as it lies in the vault
				if got, err := h.Secrets.Token(t.Context(), a); got != tt.want || (tt.want == "") != errors.Is(err, oauth.ErrExpired) {
					t.Errorf("got %q, want %q: %v", got, tt.want, err)
				}
			}
		})
	}
}
