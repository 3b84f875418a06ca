package mua_test

import (
	"crypto/tls"
	"net"
	"net/url"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mailtest/poppeer"
	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/oauth"
	"poczta.example/poczta/internal/resolver"
)

// TestCodeLogin sets up an account by a code that is entered on another device, on the page, and
// logs in again by another.
func TestCodeLogin(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t)
	conf := &tls.Config{Certificates: []tls.Certificate{ca.Leaf("localhost")}}
	peer := poppeer.Start(t, poppeer.Config{Login: "ala@house.example", Password: "none of yours", Token: "the-token", Mechanisms: []string{"OAUTHBEARER", "XOAUTH2"}, Messages: poppeer.Letters(3, 200), TLS: conf, ImplicitTLS: true})
	_, popPort, _ := net.SplitHostPort(peer.Listen(t).String())
	_, smtpPort, _ := net.SplitHostPort(tokenSMTP(t, conf))
	p, _ := provider(t)
	zone, err := resolver.NewZone("house.example. A 127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	m, err := mua.Open(t.Context(), mua.Config{Folder: t.TempDir(), Roots: ca.Pool(), Resolver: zone, Keyring: &memoryRing{all: map[string]string{}}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	v, end := visit(t, m)
	defer end()
	_, _, talk := v.post("/accounts/new", url.Values{"address": {"ala@house.example"}, "in_host": {"localhost"}, "in_port": {popPort}, "out_host": {"localhost"}, "out_port": {smtpPort},
		"client_id": {"poczta"}, "auth_url": {p.URL + "/auth"}, "token_url": {p.URL + "/token"}, "scope": {"mail"}, "device_url": {p.URL + "/device"}})
	if body := v.until(talk, "ABCD-EFGH"); !strings.Contains(body, `href="https://provider.example/device"`) {
		t.Errorf("the code: %s", body)
	}
	v.until(talk, `data-done="1"`)
	fetched(t, m, 3)
	list, err := m.Accounts.List(t.Context())
	if err != nil || len(list) != 1 || list[0].OAuth == nil || list[0].OAuth.DeviceURL != p.URL+"/device" {
		t.Fatalf("accounts %+v, %v", list, err)
	}
	// The next address that works is kept, and in the browser the way of before goes on.
	_, _, talk = v.post("/accounts/1", url.Values{"do": {"code"}, "device_url": {p.URL + "/device?anew"}})
	v.until(talk, "ABCD-EFGH")
	v.until(talk, `data-done="1"`)
	if _, body, _ := v.get("/accounts/1"); !strings.Contains(body, p.URL+"/device?anew") {
		t.Error("the address of before is kept")
	}
}

// TestCodeAtTerminal says the code where nothing else shows it.
func TestCodeAtTerminal(t *testing.T) {
	t.Parallel()
	p, _ := provider(t)
	for language, says := range map[string]string{"en": "Open https://provider.example/device on any device and enter the code ABCD-EFGH", "pl": "wpisz kod ABCD-EFGH"} {
		who := &sitter{}
		s := &mua.Setup{Person: who, Language: language}
		_, err := s.Account(t.Context(), mua.Wish{Address: "ala@house.example", Incoming: "127.0.0.1:1", Outgoing: "127.0.0.1:1", OAuth: oauth.Provider{ClientID: "poczta", TokenURL: p.URL + "/token", DeviceURL: p.URL + "/device"}})
		if err == nil || !strings.Contains(who.said.String(), says) {
			t.Errorf("%s: %v, said %q", language, err, &who.said)
		}
	}
}
