package daemon_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/resolver"
)

// kept are the names that certificates are managed for.
type kept struct{ names []string }

func (k *kept) Extra() []string { return slices.Clone(k.names) }

func (k *kept) SetExtra(_ context.Context, names []string) error {
	k.names = names
	return nil
}

// TestManageNames: certificates are obtained for names that lead to this host alone, a
// bounded number at a time, and no longer for names that are gone.
func TestManageNames(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("poczta.toml", []byte("hostname = \"mx.example.org\"\ndata = \"/nowhere\"\n[tls]\nmode = \"acme\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	certs := new(kept)
	lines := "mx.example.org. A 192.0.2.1\nautoconfig.ours.example. CNAME mx.example.org.\nautodiscover.ours.example. A 192.0.2.1\nautoconfig.away.example. A 192.0.2.9\n!servfail autodiscover.away.example\n"
	var many []string
	for i := range daemon.NamesAtOnce + 5 {
		many = append(many, fmt.Sprintf("autoconfig.d%d.example", i))
		lines += many[i] + ". CNAME mx.example.org.\n"
	}
	zone, err := resolver.NewZone(lines)
	if err != nil {
		t.Fatal(err)
	}
	manage := func(names []string) []string {
		daemon.ManageNames(t.Context(), certs, c, zone, names, slog.New(slog.DiscardHandler))
		return certs.Extra()
	}
	ours := []string{"autoconfig.ours.example", "autodiscover.ours.example"}
	if diff := cmp.Diff(ours, manage(append(ours[:2:2], "autoconfig.away.example", "autodiscover.away.example", "autoconfig.absent.example", "mx.example.org"))); diff != "" {
		t.Error(diff)
	}
	if got := manage(slices.Concat(ours, many)); len(got) != 2+daemon.NamesAtOnce {
		t.Errorf("%d names at once", len(got)-2)
	}
	if got := manage(slices.Concat(ours, many)); len(got) != 2+len(many) {
		t.Errorf("%d names in the end", len(got))
	}
	if diff := cmp.Diff(ours[:1], manage(ours[:1])); diff != "" {
		t.Error(diff)
	}
}

// TestClientSettings: what is off is not told.
func TestClientSettings(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("poczta.toml", []byte("hostname = \"mx.example.org\"\ndata = \"/nowhere\"\n[listen]\npop3 = []\nsubmissions = []\nport_base = 1000\n[autoconfig]\ndocumentation = \"https://example.org/help\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := address.ParseDomain("pocztą.example")
	if err != nil {
		t.Fatal(err)
	}
	password := []clientconfig.Authentication{clientconfig.Password}
	want := clientconfig.Config{ID: "xn--poczt-7wa.example", Domains: []string{"xn--poczt-7wa.example"}, Name: "pocztą.example", ShortName: "pocztą.example",
		Incoming:      []clientconfig.Server{{Protocol: clientconfig.POP3, Host: "mx.example.org", Port: 1995, Security: clientconfig.TLS, Authentications: password, Username: clientconfig.PatternAddress}},
		Outgoing:      []clientconfig.Server{{Protocol: clientconfig.SMTP, Host: "mx.example.org", Port: 1587, Security: clientconfig.StartTLS, Authentications: password, Username: clientconfig.PatternAddress}},
		Documentation: []clientconfig.Link{{URL: "https://example.org/help"}}}
	if diff := cmp.Diff(want, daemon.ClientSettings(c, d)); diff != "" {
		t.Error(diff)
	}
}
