package mua_test

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua"
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
			ca := certtest.New(t)
			host, popPort, err := net.SplitHostPort(poppeer.Start(t, poppeer.Config{}).Listen(t).String())
			if err != nil {
				t.Fatal(err)
			}
			_, smtpPort, _ := net.SplitHostPort(plainSMTP(t, &tls.Config{Certificates: []tls.Certificate{ca.Leaf("localhost")}}, "us", "secret"))
			port := func(text string) uint16 {
				n, err := strconv.ParseUint(text, 10, 16)
				if err != nil {
					t.Fatal(err)
				}
				return uint16(n)
			}
			h := &house{t: t, folder: t.TempDir()}
			var dialled atomic.Bool
			c := mua.Config{Folder: h.folder, Roots: ca.Pool(), VaultFile: true, VaultWork: 10, Ask: func(bool) (string, error) { return "correct horse battery", nil },
				Dial: func(ctx context.Context, network, hostport string) (net.Conn, error) {
					if !dialled.Swap(true) {
						a, err := h.Accounts.Find(ctx, "")
						a.Policy.Keep, a.Signature = profile.Leave, "Ala"
						if err == nil {
							err = h.Accounts.Update(ctx, a)
						}
						if err != nil {
							t.Error(err)
						}
					}
					return new(net.Dialer).DialContext(ctx, network, hostport)
				}}
			if h.Mail, err = mua.Open(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := h.Close(); err != nil {
					t.Error(err)
				}
			})
			a, err := h.Accounts.Add(t.Context(), profile.Account{Address: "ala@house.example", Policy: profile.Policy{Keep: profile.Fetched},
				Incoming: profile.Server{Server: clientconfig.Server{Protocol: clientconfig.POP3, Host: host, Port: port(popPort), Security: clientconfig.Plain}, Login: "us"},
				Outgoing: profile.Server{Server: clientconfig.Server{Protocol: clientconfig.SMTP, Host: "localhost", Port: port(smtpPort), Security: clientconfig.TLS}, Login: "us"}})
			h.must(err)
			h.must(h.Secrets.SetPassword(&a, "secret", ""))
			h.must(change(h, a))
			if now, err := h.Accounts.Find(t.Context(), ""); err != nil || now.Policy.Keep != profile.Leave || now.Signature != "Ala" || !dialled.Load() {
				t.Errorf("letters on the server: %s; signature %q; %v", now.Policy.Keep, now.Signature, err)
			}
		})
	}
}
