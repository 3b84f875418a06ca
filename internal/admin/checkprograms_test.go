package admin_test

import (
	"strings"
	"testing"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/resolver"
)

// programs is a configuration that answers mail programs.
func programs(t *testing.T, mode, extra string) *config.Config {
	t.Helper()
	c, err := config.Parse("poczta.toml", []byte("hostname = \"mail.example.org\"\ndata = \"/var/lib/poczta\"\n[autoconfig]\nmode = \"on\"\n"+extra+"[tls]\nmode = \""+mode+"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSettingsRecords: what is printed leads mail programs here, and check is content with it.
func TestSettingsRecords(t *testing.T) {
	t.Parallel()
	c := programs(t, "acme", "")
	d, err := address.ParseDomain("example.org")
	if err != nil {
		t.Fatal(err)
	}
	lines := admin.ZoneLines(admin.Records(d, c), c.Hostname)
	for _, want := range []string{"autoconfig.example.org. ", "autodiscover.example.org. ", "_autodiscover._tcp.example.org. ", "SRV  0 1 443 mail.example.org.", "CNAME mail.example.org."} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in\n%s", want, lines)
		}
	}
	zone, err := resolver.NewZone("mail.example.org. A 192.0.2.1\n" + lines)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range admin.CheckPrograms(t.Context(), c, zone, []string{"example.org"}) {
		if f.Level != admin.Fine {
			t.Error(f)
		}
	}
	off := programs(t, "acme", "")
	off.Autoconfig.Mode = "off"
	if lines := admin.ZoneLines(admin.Records(d, off), c.Hostname); strings.Contains(lines, "autoconfig") || strings.Contains(lines, "autodiscover") {
		t.Errorf("nobody answers there:\n%s", lines)
	}
}

func TestCheckPrograms(t *testing.T) {
	t.Parallel()
	const base = "mail.example.org. A 192.0.2.1\n"
	const srv = "_pop3s._tcp.example.org. SRV 5 7 995 mail.example.org.\n_pop3._tcp.example.org. SRV 0 1 110 mail.example.org.\n" +
		"_submissions._tcp.example.org. SRV 0 1 465 mail.example.org.\n_submission._tcp.example.org. SRV 0 1 587 mail.example.org.\n_autodiscover._tcp.example.org. SRV 0 1 443 mail.example.org.\n"
	const names = "autoconfig.example.org. CNAME mail.example.org.\nautodiscover.example.org. A 192.0.2.1\n"
	for _, c := range []struct {
		name, mode, extra, zone string
		want                    []string // of warnings, each a piece
	}{
		{"right", "acme", "", base + srv + names, nil},
		{"no records", "acme", "", base, []string{"no SRV record _submissions, _submission, _pop3s, _pop3, _autodiscover", "address of autoconfig.example.org: there is none", "address of autodiscover.example.org: there is none"}},
		{"one is missing", "acme", "", base + strings.Replace(srv, "_pop3s._tcp.example.org.", "_x._tcp.example.org.", 1) + names, []string{"no SRV record _pop3s → the records are printed"}},
		{"led elsewhere", "acme", "", base + strings.Replace(srv, "995 mail.example.org.", "995 pop.elsewhere.example.", 1) + names, []string{"led elsewhere for example.org by the SRV records _pop3s (5 7 995 pop.elsewhere.example.)"}},
		{"said not to be there", "acme", "", base + strings.Replace(srv, "5 7 995 mail.example.org.", "0 0 0 .", 1) + names, []string{"_pop3s (0 0 0 .)"}},
		{"no answer", "acme", "", base + srv + names + "!servfail _pop3s._tcp.example.org.\n", []string{"SRV records of example.org: not known"}},
		{"another host has the name", "acme", "", base + srv + strings.Replace(names, "A 192.0.2.1", "A 192.0.2.9", 1), []string{"autodiscover.example.org is not this host"}},
		{"no certificates wanted", "acme", "certificates = false\n", base + srv + names, []string{"no certificate is for autoconfig.example.org", "no certificate is for autodiscover.example.org"}},
		{"self-signed", "self-signed", "", base + srv + names, []string{"no certificate is for autoconfig.example.org", "no certificate is for autodiscover.example.org"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			zone, err := resolver.NewZone(c.zone)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range admin.CheckPrograms(t.Context(), programs(t, c.mode, c.extra), zone, []string{"example.org"}) {
				if f.Level != admin.Fine {
					got = append(got, f.String())
				}
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("got %q, want %q", got[i], want)
				}
			}
		})
	}
}
