package greeting_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/greeting"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/verdict"
)

const zoneText = `
mail.example.org.     A    192.0.2.9
office_1.example.org. A    192.0.2.9
six.example.org.      AAAA 2001:db8::9
mx.example.           MX   10 mail.example.org.
addr.example.         A    192.0.2.9
null.example.         MX   0 .
gone.example.         MX   10 a.gone.example.
gone.example.         MX   20 b.gone.example.
b.gone.example.       A    127.0.0.1
half.example.         MX   10 a.half.example.
half.example.         MX   20 mail.example.org.
doubt.example.        MX   10 broken.example.
!servfail broken.example
txt.example.          TXT  "x"
`

func newChecker(t testing.TB) *greeting.Checker {
	t.Helper()
	z, err := resolver.NewZone(zoneText)
	if err != nil {
		t.Fatal(err)
	}
	c, err := greeting.New(greeting.Config{
		Resolver: z, Names: []address.Domain{domain(t, "mx.ours.example")}, Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::25")},
		Own: func(_ context.Context, d address.Domain) (bool, error) { return d.String() == "ours.example", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func domain(t testing.TB, s string) address.Domain {
	t.Helper()
	d, err := address.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestHelo(t *testing.T) {
	t.Parallel()
	c := newChecker(t)
	for _, tc := range []struct {
		helo, ip string
		want     verdict.Name
	}{
		{"mail.example.org", "192.0.2.9", ""},
		{"MAIL.example.org.", "192.0.2.9", ""},
		{"mail.example.org", "192.0.2.77", ""}, // RFC 5321 §4.1.4: the name need not lead to the host
		{"six.example.org", "192.0.2.9", ""},
		{"office_1.example.org", "192.0.2.9", ""},
		{"office_2.example.org", "192.0.2.9", verdict.HeloUnknown},
		{"broken.example", "192.0.2.9", ""},
		{"nowhere.example", "192.0.2.9", verdict.HeloUnknown},
		{"txt.example", "192.0.2.9", verdict.HeloUnknown},
		{"[192.0.2.9]", "192.0.2.9", ""},
		{"[192.0.2.9]", "::ffff:192.0.2.9", ""},
		{"[IPv6:2001:db8::9]", "2001:db8::9", ""},
		{"[192.0.2.8]", "192.0.2.9", verdict.HeloBad},
		{"192.0.2.9", "192.0.2.9", verdict.HeloBad},
		{"WIN-6T1", "192.0.2.9", verdict.HeloBad},
		{"_", "192.0.2.9", verdict.HeloBad},
		{"localhost", "192.0.2.9", verdict.HeloBad},
		{"server.local", "192.0.2.9", verdict.HeloBad},
		{"", "192.0.2.9", verdict.HeloBad},
		{"a b.example", "192.0.2.9", verdict.HeloBad},
		{"x\x00\xff.example", "192.0.2.9", verdict.HeloBad},
		{strings.Repeat("x.", 300) + "example", "192.0.2.9", verdict.HeloBad},
		{"[junk]", "192.0.2.9", verdict.HeloBad},
		{"mx.ours.example", "192.0.2.9", verdict.HeloOurs},
		{"Ours.Example", "192.0.2.9", verdict.HeloOurs},
		{"[198.51.100.1]", "192.0.2.9", verdict.HeloOurs},
		{"2001:db8::25", "192.0.2.9", verdict.HeloOurs},
		{"mx.ours.example", "198.51.100.1", ""},
		{"mx.ours.example", "127.0.0.1", ""},
	} {
		got := c.Helo(t.Context(), tc.helo, netip.MustParseAddr(tc.ip))
		if tc.want == "" && got == nil {
			continue
		}
		if len(got) != 1 || got[0].Name != tc.want || got[0].Detail == "" || len(got[0].Detail) > verdict.MaxDetailOctets {
			t.Errorf("%q from %s: got %+v, want %s", tc.helo, tc.ip, got, tc.want)
		}
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	c := newChecker(t)
	for name, want := range map[string]string{
		"mx.example":     "",
		"addr.example":   "",
		"half.example":   "",
		"broken.example": "",
		"doubt.example":  "",
		"[192.0.2.1]":    "",
		"null.example":   "null.example says that it takes no mail (null MX)",
		"gone.example":   "gone.example has MX records that lead to no host",
		"none.example":   "none.example has neither MX records nor an address",
		"txt.example":    "txt.example has neither MX records nor an address",
	} {
		d := address.LiteralDomain(netip.MustParseAddr("192.0.2.1"))
		if name[0] != '[' {
			d = domain(t, name)
		}
		var items []verdict.Item
		if want != "" {
			items = []verdict.Item{{Name: verdict.NoReply, Detail: want}}
		}
		if diff := cmp.Diff(items, c.Reachable(t.Context(), d)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	if got := c.Reachable(t.Context(), address.Domain{}); got != nil {
		t.Errorf("null reverse-path: got %v", got)
	}
}

func TestGeneric(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, ip string
		want     bool
	}{
		{"static-192-0-2-9.isp.example", "192.0.2.9", true},
		{"9.2.0.192.isp.example", "192.0.2.9", true},
		{"c-73-12-200-9.hsd1.ca.comcast.net", "73.12.200.9", true},
		{"host-009-002-000-192.isp.example", "192.0.2.9", true},
		{"ec2-54-240-8-55.compute-1.amazonaws.com", "54.240.8.55", true},
		{"p5dcc3b09.dip0.t-ipconnect.de", "93.204.59.9", true},
		{"073012200009.cable.example", "73.12.200.9", true},
		{"dyn9.isp.example", "192.0.2.9", true},
		{"pool-9-2.isp.example", "192.0.2.9", true},
		{"2001-db8--9.isp.example", "2001:db8::9", true},
		{"9.0.0.0.0.0.0.0.a.b.c.d.0.0.0.0.8.b.d.0.1.0.0.2.v6.isp.example", "2001:db8::dcba:0:9", true},
		{"x20010db800000000a1b2c3d4e5f60708.isp.example", "2001:db8::a1b2:c3d4:e5f6:708", true},
		{"mail.example.org", "192.0.2.9", false},
		{"example.org", "192.0.2.9", false},
		{"mail-wr1-f41.google.com", "209.85.221.41", false},
		{"a8-55.smtp-out.amazonses.com", "54.240.8.55", false},
		{"mail-192-0-2-9.isp.example", "192.0.2.9", false},
		{"mx9.dyn.example.org", "192.0.2.9", false},
		{"web77.dyn.example.org", "192.0.2.9", false},
		{"srv1.example.org", "192.0.2.1", false},
		{"host.example.org", "2001:db8::9", false},
		{"", "192.0.2.9", false},
	} {
		if got := greeting.Generic(c.name, netip.MustParseAddr(c.ip)); got != c.want {
			t.Errorf("%s at %s: got %v", c.name, c.ip, got)
		}
		if got := greeting.Reverse(c.name, netip.MustParseAddr(c.ip)); (len(got) == 1 && got[0].Name == verdict.IPRevGeneric) != c.want {
			t.Errorf("%s at %s: got %v", c.name, c.ip, got)
		}
	}
	if greeting.Generic("pool-1.isp.example", netip.Addr{}) {
		t.Error("no address, and yet generic")
	}
}

// FuzzGreeting has words of any octets.
func FuzzGreeting(f *testing.F) {
	for _, s := range []string{"mail.example.org", "[192.0.2.9]", "pool-192-0-2-9.x.example", "_._", "é.example"} {
		f.Add(s)
	}
	c := newChecker(f)
	f.Fuzz(func(t *testing.T, s string) {
		for _, ip := range []string{"192.0.2.9", "2001:db8::9"} {
			addr := netip.MustParseAddr(ip)
			for _, it := range append(c.Helo(t.Context(), s, addr), greeting.Reverse(s, addr)...) {
				if len(it.Detail) > verdict.MaxDetailOctets || strings.ContainsFunc(it.Detail, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("%q: %+v", s, it)
				}
			}
		}
	})
}
