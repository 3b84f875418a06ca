package mx_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/resolver"
)

const zone = `
$ORIGIN example.org.
@        MX 20 mx2
         MX 10 mx1
         MX 10 mx3
mx1      A 192.0.2.1
         AAAA 2001:db8::1
         AAAA 2001:db8::11
         A 192.0.2.11
         A 192.0.2.12
mx2      A 192.0.2.2
mx3      AAAA 2001:db8::3
plain    A 192.0.2.9
null     MX 0 .
nulls    MX 0 .
         MX 5 mx2
alias    CNAME example.org.
aliasa   CNAME plain
odd      MX 5 192.0.2.77.
         MX 6 localhost.
         MX 7 loop
         MX 8 zero
         MX 9 under_score
loop     A 127.0.0.1
         AAAA ::1
zero     A 0.0.0.0
         AAAA ff02::1
         AAAA fe80::1
         AAAA ::ffff:127.0.0.2
partly   MX 5 odd5
         MX 6 loop
         MX 7 mx2
hostless MX 5 ghost
temp     MX 5 sick
         MX 9 ghost
tempok   MX 5 sick
         MX 9 mx2
sick     A 192.0.2.99
us       MX 10 mail
         MX 5 mx1
         MX 20 mx2
usbest   MX 10 mail
         MX 20 mx2
usaddr   MX 10 other
         MX 5 mx2
other    A 198.51.100.1
mail     A 198.51.100.1
repeat   MX 10 mx2
         MX 20 mx2
text     TXT "here"
ipv6only MX 5 mx3
circle   CNAME circle2
circle2  CNAME circle
!servfail sick.example.org
!servfail dead.example.org
!timeout slow.example.org

$ORIGIN signed.example.
@        MX 10 mx
         MX 20 hidden
         MX 30 half
         MX 40 mx2.example.org.
mx       A 192.0.2.21
hidden   CNAME mx
half     CNAME mx2.example.org.
bare     A 192.0.2.22
!secure  signed.example
`

func domain(t *testing.T, s string) address.Domain {
	t.Helper()
	d, err := address.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func lookup(t *testing.T, text string, change func(*mx.Config)) *mx.Lookup {
	t.Helper()
	z, err := resolver.NewZone(text)
	if err != nil {
		t.Fatal(err)
	}
	c := mx.Config{
		Resolver: z, Names: []address.Domain{domain(t, "mail.example.org")}, Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.1")},
		Shuffle: func(int, func(i, j int)) {},
	}
	if change != nil {
		change(&c)
	}
	l, err := mx.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// show is a route in one line, or its error.
func show(r mx.Route, err error) string {
	if e, ok := errors.AsType[*mx.Error](err); ok {
		return fmt.Sprintf("%d %d.%d.%d", e.Reply.Code, e.Reply.Code/100, e.Reply.Subject, e.Reply.Detail)
	}
	var words []string
	for _, h := range r.Hosts {
		name := h.Name.String()
		var addrs []string
		for _, a := range h.Addrs {
			addrs = append(addrs, a.String())
		}
		words = append(words, name+"="+strings.Join(addrs, ","))
	}
	return strings.Join(words, " ")
}

func TestHosts(t *testing.T) {
	t.Parallel()
	const mx1 = "mx1.example.org=2001:db8::1,192.0.2.1,2001:db8::11,192.0.2.11,192.0.2.12"
	for _, c := range []struct{ name, domain, want string }{
		{"in order", "example.org", mx1 + " mx3.example.org=2001:db8::3 mx2.example.org=192.0.2.2"},
		{"implicit", "plain.example.org", "plain.example.org=192.0.2.9"},
		{"null MX", "null.example.org", "556 5.1.10"},
		{"null MX beside others", "nulls.example.org", "mx2.example.org=192.0.2.2"},
		{"alias", "alias.example.org", mx1 + " mx3.example.org=2001:db8::3 mx2.example.org=192.0.2.2"},
		{"alias without MX", "aliasa.example.org", "aliasa.example.org=192.0.2.9"},
		{"names and addresses that are nobody's", "odd.example.org", "550 5.4.4"},
		{"those are passed over", "partly.example.org", "mx2.example.org=192.0.2.2"},
		{"no address anywhere", "hostless.example.org", "550 5.4.4"},
		{"neither MX nor address", "text.example.org", "550 5.4.4"},
		{"no answer for one, none exists for another", "temp.example.org", "451 4.4.3"},
		{"no answer for the best host", "tempok.example.org", "mx2.example.org=192.0.2.2"},
		{"no answer", "dead.example.org", "451 4.4.3"},
		{"no such domain", "absent.example.org", "550 5.1.2"},
		{"CNAME loop", "circle.example.org", "451 4.4.3"},
		{"only better hosts than us", "us.example.org", mx1},
		{"we are the best", "usbest.example.org", "550 5.4.6"},
		{"our address under another name", "usaddr.example.org", "mx2.example.org=192.0.2.2"},
		{"our own host", "mail.example.org", "550 5.4.6"},
		{"a host named twice", "repeat.example.org", "mx2.example.org=192.0.2.2"},
		{"localhost", "localhost", "550 5.1.2"},
		{"literal", "[192.0.2.7]", "=192.0.2.7"},
		{"IPv6 literal", "[IPv6:2001:db8::7]", "=2001:db8::7"},
		{"loopback literal", "[127.0.0.1]", "550 5.4.4"},
		{"mapped loopback literal", "[IPv6:::ffff:127.0.0.1]", "550 5.4.4"},
		{"our literal", "[198.51.100.1]", "550 5.4.6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, show(lookup(t, zone, nil).Hosts(t.Context(), domain(t, c.domain)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, domain, want string
		change             func(*mx.Config)
	}{
		{"no IPv6", "example.org", "mx1.example.org=192.0.2.1,192.0.2.11,192.0.2.12 mx2.example.org=192.0.2.2", func(c *mx.Config) { c.NoIPv6 = true }},
		{"no IPv4", "example.org", "mx1.example.org=2001:db8::1,2001:db8::11 mx3.example.org=2001:db8::3", func(c *mx.Config) { c.NoIPv4 = true }},
		{"IPv6 only without IPv6", "ipv6only.example.org", "550 5.4.4", func(c *mx.Config) { c.NoIPv6 = true }},
		{"laboratory", "partly.example.org", "loop.example.org=::1,127.0.0.1 mx2.example.org=192.0.2.2", func(c *mx.Config) { c.AllowLoopback = true }},
		{"bounded hosts", "example.org", "mx1.example.org=2001:db8::1,192.0.2.1,2001:db8::11,192.0.2.11,192.0.2.12", func(c *mx.Config) { c.MaxHosts = 1 }},
		{"bounded addresses", "example.org", "mx1.example.org=2001:db8::1,192.0.2.1", func(c *mx.Config) { c.MaxAddrs = 2 }},
		{"shuffled within a preference", "example.org", "mx3.example.org=2001:db8::3 mx1.example.org=2001:db8::11,192.0.2.12,2001:db8::1,192.0.2.11,192.0.2.1 mx2.example.org=192.0.2.2",
			func(c *mx.Config) {
				c.Shuffle = func(n int, swap func(i, j int)) { // reverses
					for i := range n / 2 {
						swap(i, n-1-i)
					}
				}
			}},
		{"timeout", "slow.example.org", "451 4.4.3", func(c *mx.Config) { c.Timeout = 10 * time.Millisecond }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, show(lookup(t, zone, c.change).Hosts(t.Context(), domain(t, c.domain)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestManyHosts has 150 MX records with 3 addresses each.
func TestManyHosts(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("$ORIGIN example.org.\n")
	for i := range 150 {
		fmt.Fprintf(&b, "@ MX 10 h%d\nh%d A 192.0.2.%d\nh%d A 198.51.100.%d\nh%d A 203.0.113.%d\n", i, i, i+1, i, i+2, i, i+1)
	}
	r, err := lookup(t, b.String(), nil).Hosts(t.Context(), domain(t, "example.org"))
	addrs := 0
	for _, h := range r.Hosts {
		addrs += len(h.Addrs)
	}
	if err != nil || len(r.Hosts) > 30 || addrs != 60 {
		t.Errorf("got %d hosts, %d addresses, %v; want at most 30 and exactly 60", len(r.Hosts), addrs, err)
	}
}

func TestSecure(t *testing.T) {
	t.Parallel()
	l := lookup(t, zone, nil)
	r, err := l.Hosts(t.Context(), domain(t, "signed.example"))
	if err != nil || !r.Secure {
		t.Fatalf("got %+v, %v", r, err)
	}
	got := map[string]string{}
	for _, h := range r.Hosts {
		got[h.Name.String()] = fmt.Sprint(h.Secure, " ", strings.Join(h.Bases, " "))
	}
	want := map[string]string{
		"mx.signed.example":     "true mx.signed.example",
		"hidden.signed.example": "true mx.signed.example hidden.signed.example",
		"half.signed.example":   "false half.signed.example",
		"mx2.example.org":       "false ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if r, err := l.Hosts(t.Context(), domain(t, "bare.signed.example")); err != nil || !r.Secure || !r.Implicit || !r.Hosts[0].Secure {
		t.Errorf("implicit MX in a signed zone: got %+v, %v", r, err)
	}
	if r, err := l.Hosts(t.Context(), domain(t, "plain.example.org")); err != nil || r.Secure || !r.Implicit || r.Hosts[0].Secure || r.Hosts[0].Bases != nil {
		t.Errorf("implicit MX without signature: got %+v, %v", r, err)
	}
}

func TestAddrs(t *testing.T) {
	t.Parallel()
	l := lookup(t, zone, nil)
	r, err := l.Addrs(t.Context(), domain(t, "mx2.example.org"))
	if got := show(r, err); got != "mx2.example.org=192.0.2.2" {
		t.Error(got)
	}
	if got := show(l.Addrs(t.Context(), domain(t, "absent.example.org"))); got != "451 4.4.4" {
		t.Error(got)
	}
	if r, err := l.Addrs(t.Context(), domain(t, "[127.0.0.1]")); err != nil || len(r.Hosts) != 1 {
		t.Errorf("the operator's own loopback host: got %+v, %v", r, err)
	}
}

func TestCanonicalName(t *testing.T) {
	t.Parallel()
	l := lookup(t, zone, nil)
	for name, want := range map[string]string{"alias.example.org": "example.org", "aliasa.example.org": "plain.example.org", "example.org": ""} {
		if r, err := l.Hosts(t.Context(), domain(t, name)); err != nil || r.CanonicalName != want {
			t.Errorf("%s: got %q, %v; want %q", name, r.CanonicalName, err, want)
		}
	}
}

// TestBarred: no record leads to this machine, nor by way of IPv6 addresses that
// stand for others; and no stranger's URL into a private network.
func TestBarred(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ addr, mail, url string }{
		{"192.0.2.7", "", ""},
		{"2001:db8::7", "", ""},
		{"127.0.0.1", "barred", "barred"},
		{"0.0.0.0", "barred", "barred"},
		{"0.1.2.3", "barred", "barred"},
		{"::", "barred", "barred"},
		{"::1", "barred", "barred"},
		{"::ffff:127.0.0.1", "barred", "barred"},
		{"::127.0.0.1", "barred", "barred"},
		{"64:ff9b::127.0.0.1", "barred", "barred"},
		{"64:ff9b::169.254.169.254", "barred", "barred"},
		{"64:ff9b::192.0.2.7", "", ""},
		{"64:ff9b::10.0.0.1", "", "barred"},
		{"2002:7f00:1::1", "barred", "barred"},
		{"2002:a00:1::1", "", "barred"},
		{"169.254.169.254", "barred", "barred"},
		{"fe80::1", "barred", "barred"},
		{"ff02::1", "barred", "barred"},
		{"224.0.0.1", "barred", "barred"},
		{"10.0.0.1", "", "barred"},
		{"192.168.1.1", "", "barred"},
		{"100.64.0.1", "", "barred"},
		{"fd00::1", "", "barred"},
		{"198.51.100.1", "", "barred"}, // our own
	} {
		l := lookup(t, zone, nil)
		for what, x := range map[string]struct{ got, want string }{"mail": {l.Barred(netip.MustParseAddr(c.addr)), c.mail}, "URL": {l.BarredURL(netip.MustParseAddr(c.addr)), c.url}} {
			if (x.got != "") != (x.want != "") {
				t.Errorf("%s by %s: %q, want %q", c.addr, what, x.got, x.want)
			}
		}
		six := lookup(t, zone, func(c *mx.Config) { c.NoIPv4 = true })
		if why := six.Barred(netip.MustParseAddr("64:ff9b::192.0.2.7")); why != "" {
			t.Errorf("a host behind NAT64 is barred: %s", why)
		}
	}
	lab := lookup(t, zone, func(c *mx.Config) { c.AllowLoopback = true })
	for _, a := range []string{"127.0.0.1", "10.0.0.1", "::1"} {
		if why := lab.BarredURL(netip.MustParseAddr(a)); why != "" {
			t.Errorf("in a laboratory %s is barred: %s", a, why)
		}
	}
}
