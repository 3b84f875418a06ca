package admin_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/resolver"
)

func TestCheckWayOut(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	zone, err := resolver.NewZone("far.example. MX 10 mx.far.example.\nmx.far.example. A 127.0.0.1\nnone.example. MX 0 .\n")
	if err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.Relay.AllowLoopback, c.Relay.Port = true, l.Addr().(*net.TCPAddr).Port
	for _, tt := range []struct {
		domain, level, text string
	}{
		{"far.example", "ok", "is open: 1 of 1 mail hosts answer"},
		{"none.example", "error", "none.example"},
		{"not a domain", "error", "is not a domain"},
	} {
		got := admin.CheckWayOut(t.Context(), c, zone, []string{tt.domain})
		if len(got) != 1 || string(got[0].Level) != tt.level || !strings.Contains(got[0].Text, tt.text) {
			t.Errorf("%s: got %+v, want %s: %s", tt.domain, got, tt.level, tt.text)
		}
	}
}

func TestCheckRelay(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.DNS.Trusted = true
	if got := admin.CheckRelay(c); len(got) != 0 {
		t.Errorf("defaults: %+v", got)
	}
	c.Relay.Routes = []config.RelayRoute{{PasswordFile: secret}, {PasswordFile: secret + "-none"}}
	c.Relay.Domains = []config.RelayDomain{{Domain: "b.example", Recipients: "any"}, {Domain: "c.example", Recipients: "list", RecipientFile: secret + "-none"}}
	c.MTASTS.Mode = "enforce"
	var keys []string
	for _, f := range admin.CheckRelay(c) {
		keys = append(keys, string(f.Level)+" "+f.Key)
	}
	want := "warning relay.route[0].password_file|error relay.route[1].password_file|warning relay.domain[0].recipients|error relay.domain[1].recipient_file|error mta_sts.mode"
	if got := strings.Join(keys, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
