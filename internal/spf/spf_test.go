package spf_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/spf"
)

const zoneText = `
example.org.        TXT "v=spf1 ip4:192.0.2.0/24 include:_spf.example.net ~include:old.example.net -all"
_spf.example.net.   TXT "v=spf1 a:mail.example.net mx/28 ?all"
_spf.example.net.   MX  10 mx.example.net.
mail.example.net.   A   198.51.100.1
mail.example.net.   AAAA 2001:db8::1
mx.example.net.     A   203.0.113.17
old.example.net.    TXT "v=spf1 ip4:198.51.100.99 -all"
moved.example.      TXT "v=spf1 redirect=example.org"
mapped.example.     TXT "v=spf1 ip6:::ffff:192.0.2.1 ip6:::/0 -all"
none.example.       TXT "something else"
two.example.        TXT "v=spf1 -all"
two.example.        TXT "V=SPF1 +all"
long.example.       CNAME long2.example.
long2.example.      TXT "v=spf1 " "ip4:192.0.2.1 " "-all"
loop.example.       TXT "v=spf1 include:loop.example -all"
late.example.       TXT "v=spf1 ip4:192.0.2.1 all:x"
xn--jkry-bta.example. TXT "v=spf1 exists:%{o}.seen.example -all exp=why.example"
why.example.        TXT "%{s} from %{c} at %{r} at %{t}: not ours"
xn--jkry-bta.example.seen.example. A 127.0.0.2
local.example.      TXT "v=spf1 exists:%{l}.seen.example -all exp=why.example"
fail.example.       TXT "v=spf1 a:broken.example -all"
exp.example.        TXT "v=spf1 -all exp=why.example"
late2.example.      TXT "v=spf1 a:x.e.org a:x.e.org a:x.e.org a:x.e.org a:x.e.org a:x.e.org a:x.e.org a:x.e.org a:x.e.org a:x.e.org -all exp=p.example"
p.example.          TXT "%{p}"
x.e.org.            A   192.0.2.200
shout.example.      TXT "v=spf1 -all exp=bell.example"
bell.example.       TXT "bell \007"
void.example.       TXT "v=spf1 a:v1.example a:v2.example a:v3.example +all"
voids.example.      TXT "v=spf1 a:v1.example a:v2.example +all"
!servfail broken.example
!timeout silent.example
silent2.example.    TXT "v=spf1 a:silent.example -all"
`

func zone(t testing.TB, text string) resolver.Resolver {
	t.Helper()
	z, err := resolver.NewZone(text)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestCheck(t *testing.T) {
	t.Parallel()
	z := zone(t, zoneText)
	type result struct {
		Status      spf.Status
		Mechanism   string
		Explanation string
		Lookups     int
	}
	for _, c := range []struct {
		name string
		q    spf.Request
		want result
	}{
		{"network", req("192.0.2.7", "a@example.org"), result{Status: spf.Pass, Mechanism: "ip4:192.0.2.0/24"}},
		{"mapped", req("::ffff:192.0.2.7", "a@example.org"), result{Status: spf.Pass, Mechanism: "ip4:192.0.2.0/24"}},
		{"inside an include", req("198.51.100.1", "a@example.org"), result{Status: spf.Pass, Mechanism: "a:mail.example.net of _spf.example.net", Lookups: 2}},
		{"IPv6", req("2001:db8::1", "a@Example.ORG."), result{Status: spf.Pass, Mechanism: "a:mail.example.net of _spf.example.net", Lookups: 2}},
		{"network of an MX", req("203.0.113.20", "a@example.org"), result{Status: spf.Pass, Mechanism: "mx/28 of _spf.example.net", Lookups: 3}},
		{"include with a qualifier", req("198.51.100.99", "a@example.org"), result{Status: spf.SoftFail, Mechanism: "~include:old.example.net", Lookups: 4}},
		{"nobody", req("198.51.100.98", "a@example.org"), result{Status: spf.Fail, Mechanism: "-all", Lookups: 4}},
		{"redirect", req("192.0.2.7", "a@moved.example"), result{Status: spf.Pass, Mechanism: "ip4:192.0.2.0/24 of example.org", Lookups: 1}},
		{"ip6 does not match a mapped address", req("::ffff:192.0.2.1", "a@mapped.example"), result{Status: spf.Fail, Mechanism: "-all"}},
		{"no record", req("192.0.2.1", "a@none.example"), result{}},
		{"no domain", req("192.0.2.1", "a@gone.example"), result{}},
		{"a literal", req("192.0.2.1", "a@[192.0.2.1]"), result{}},
		{"an address as domain", req("192.0.2.1", "a@192.0.2.1"), result{}},
		{"a label of no octets", req("192.0.2.1", "a@x..example.org"), result{}},
		{"escapes are no domain", req("192.0.2.1", `a@x\.example.org`), result{}},
		{"no address", spf.Request{Sender: "a@example.org"}, result{}},
		{"two records", req("192.0.2.1", "a@two.example"), result{Status: spf.PermError}},
		{"CNAME and several strings", req("192.0.2.1", "a@long.example"), result{Status: spf.Pass, Mechanism: "ip4:192.0.2.1"}},
		{"loop", req("192.0.2.1", "a@loop.example"), result{Status: spf.PermError, Lookups: 10}},
		{"an error behind the match", req("192.0.2.1", "a@late.example"), result{Status: spf.PermError}},
		{"two voids", req("192.0.2.1", "a@voids.example"), result{Status: spf.Pass, Mechanism: "+all", Lookups: 2}},
		{"three voids", req("192.0.2.1", "a@void.example"), result{Status: spf.PermError, Lookups: 3}},
		{"DNS fails", req("192.0.2.1", "a@fail.example"), result{Status: spf.TempError, Lookups: 1}},
		{"U-labels", req("192.0.2.1", "a@jąkry.example"), result{Status: spf.Pass, Mechanism: "exists:%{o}.seen.example", Lookups: 1}},
		{"local-part in UTF-8 matches nothing", req("192.0.2.1", "ą@local.example"), result{Status: spf.Fail, Mechanism: "-all", Lookups: 1}},
		{"null reverse-path", spf.Request{IP: netip.MustParseAddr("192.0.2.7"), Helo: "example.org"}, result{Status: spf.Pass, Mechanism: "ip4:192.0.2.0/24"}},
		{"HELO and a sender elsewhere", spf.Request{IP: netip.MustParseAddr("192.0.2.7"), Helo: "example.org", Domain: "example.org", Sender: "postmaster@x.example"}, result{Status: spf.Pass, Mechanism: "ip4:192.0.2.0/24"}},
		{"explanation", spf.Request{IP: netip.MustParseAddr("2001:db8::9"), Sender: "exp.example", Receiver: "mx.example.com"}, result{
			Status: spf.Fail, Mechanism: "-all", Explanation: "postmaster@exp.example from 2001:db8::9 at mx.example.com at 1000: not ours"}},
		{"explanation whose name of the host can't be had", spf.Request{IP: netip.MustParseAddr("192.0.2.9"), Sender: "a@late2.example"}, result{
			Status: spf.Fail, Mechanism: "-all", Explanation: "unknown", Lookups: 10}},
		{"control octets in the domain", req("192.0.2.1", "a@x\x07y.example.org"), result{}},
		{"explanation of a stranger in UTF-8", spf.Request{IP: netip.MustParseAddr("192.0.2.9"), Sender: "ą@exp.example"}, result{Status: spf.Fail, Mechanism: "-all"}},
		{"explanation with a bell", req("192.0.2.9", "a@shout.example"), result{Status: spf.Fail, Mechanism: "-all"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			checker := newChecker(t, spf.Config{Resolver: z, Now: func() time.Time { return time.Unix(1000, 0) }})
			got := checker.Check(t.Context(), c.q)
			if diff := cmp.Diff(c.want, result{got.Status, got.Mechanism, got.Explanation, got.Lookups}); diff != "" {
				t.Errorf("-want +got:\n%s%v", diff, got.Err)
			}
			if (got.Err != nil) != (got.Status == spf.TempError || got.Status == spf.PermError) {
				t.Errorf("%v with error %v", got.Status, got.Err)
			}
		})
	}
}

func req(ip, sender string) spf.Request {
	return spf.Request{IP: netip.MustParseAddr(ip), Helo: "host.example", Sender: sender}
}

// TestMany has records with more MX and PTR names than may be asked for.
func TestMany(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("mx.example. TXT \"v=spf1 mx +all\"\nptr.example. TXT \"v=spf1 ptr -all\"\n")
	for i := range 11 {
		fmt.Fprintf(&b, "mx.example. MX 1 h%d.example.\n1.2.0.192.in-addr.arpa. PTR h%d.ptr.example.\nh%d.ptr.example. A 192.0.2.9\nh%d.example. A 192.0.2.1\n", i, i, i, i)
	}
	b.WriteString("2.2.0.192.in-addr.arpa. PTR h.ptr.example.\nh.ptr.example. A 192.0.2.2\n")
	z := &counter{Resolver: zone(t, b.String())}
	checker := newChecker(t, spf.Config{Resolver: z})
	for _, c := range []struct {
		ip, domain string
		want       spf.Status
		questions  int
	}{
		{"192.0.2.1", "mx.example", spf.PermError, 2},
		{"192.0.2.1", "ptr.example", spf.Fail, 12},
		{"192.0.2.2", "ptr.example", spf.Pass, 3},
	} {
		z.n = 0
		got := checker.Check(t.Context(), req(c.ip, "a@"+c.domain))
		if got.Status != c.want || z.n != c.questions {
			t.Errorf("%s %s: got %v (%v) with %d questions, want %v with %d", c.ip, c.domain, got.Status, got.Err, z.n, c.want, c.questions)
		}
	}
}

// counter counts questions; for one goroutine.
type counter struct {
	resolver.Resolver
	n int
}

func (c *counter) Lookup(ctx context.Context, name string, t resolver.Type) (resolver.Answer, error) {
	c.n++
	return c.Resolver.Lookup(ctx, name, t)
}

// TestTimeout has a name server that never answers.
func TestTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		checker := newChecker(t, spf.Config{Resolver: zone(t, zoneText)})
		begun := time.Now()
		got := checker.Check(t.Context(), req("192.0.2.1", "a@silent2.example"))
		if took := time.Since(begun); got.Status != spf.TempError || took != spf.DefaultTimeout || !errors.Is(got.Err, resolver.ErrTemporary) {
			t.Errorf("got %v (%v) after %v", got.Status, got.Err, took)
		}
	})
}

// TestOddNames has local-parts with octets that are odd in a domain name, asked of a real name
// server by the real client: the question and its answer must agree.
func TestOddNames(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		reply := new(dns.Msg).SetReply(m)
		q := m.Question[0]
		switch q.Qtype {
		case dns.TypeTXT:
			reply.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: q.Qclass}, Txt: []string{"v=spf1 exists:%{l}.%{d} -all"}}}
		case dns.TypeA:
			reply.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: q.Qclass}, A: net.IPv4(127, 0, 0, 2)}}
		}
		_ = w.WriteMsg(reply)
	})}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		_ = server.ShutdownContext(context.Background())
		<-done
	})
	stub, err := resolver.New(resolver.Config{Servers: []string{conn.LocalAddr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	checker := newChecker(t, spf.Config{Resolver: stub})
	for _, local := range []string{"plain", `back\slash`, `"quoted; (odd) name"`, "a@b", "it's", "tab\there", "del\x7f", `\046`, "a=b+c/d"} {
		if got := checker.Check(t.Context(), req("192.0.2.1", local+"@example.org")); got.Status != spf.Pass {
			t.Errorf("%q: got %v (%v)", local, got.Status, got.Err)
		}
	}
	for _, local := range []string{"two..dots", ".dot", strings.Repeat("x", 64)} {
		if got := checker.Check(t.Context(), req("192.0.2.1", local+"@example.org")); got.Status != spf.Fail {
			t.Errorf("%q: got %v (%v)", local, got.Status, got.Err)
		}
	}
}

// TestParseRecord names the term that is wrong.
func TestParseRecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"v=spf1", ""},
		{"v=spf1 ", ""},
		{"V=SPF1 IP4:192.0.2.1 ~ALL Redirect=x.example", ""},
		{"v=spf10 -all", "does not begin"},
		{"v=spf1 ip4:192.0.2.1/33", "prefix length"},
		{"v=spf1 ip4:192.0.2.01", "not an address"},
		{"v=spf1 ip6:fe80::1%eth0", "not an address"},
		{"v=spf1 ip6:192.0.2.1", "not an address"},
		{"v=spf1 a/08", "prefix length"},
		{"v=spf1 a//129", "prefix length"},
		{"v=spf1 a//", "prefix length"},
		{"v=spf1 a.", "no such mechanism"},
		{"v=spf1 mx:%{d}/24//64", ""},
		{"v=spf1 mx:%{d/}/24", ""},
		{"v=spf1 exists:%{l0}.x.example", "no such macro"},
		{"v=spf1 exists:%{l999999999999999999999r-+}.x.example", ""},
		{"v=spf1 exists:%{t}.x.example", "no such macro"},
		{"v=spf1 exists:%", "begins no macro"},
		{"v=spf1 -foo=bar", "no such mechanism"},
		{"v=spf1 -", "no such mechanism"},
		{"v=spf1 include:x.example\t-all", "visible ASCII"},
		{"v=spf1 " + strings.Repeat("a ", 10_000), "octets, more than"},
	} {
		_, err := spf.ParseRecord(c.text)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%.60q: got %v", c.text, err)
		case c.want != "" && (!errors.Is(err, spf.ErrSyntax) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%.60q: got %v, want %q", c.text, err, c.want)
		}
	}
}

// TestExpand has the examples of RFC 7208 §7.4.
func TestExpand(t *testing.T) {
	t.Parallel()
	v4, v6 := netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("2001:db8::cb01")
	for _, c := range []struct {
		ip         netip.Addr
		spec, want string
	}{
		{v4, "%{s}", "strong-bad@email.example.com"},
		{v4, "%{o}", "email.example.com"},
		{v4, "%{d}", "email.example.com"},
		{v4, "%{d4}", "email.example.com"},
		{v4, "%{d3}", "email.example.com"},
		{v4, "%{d2}", "example.com"},
		{v4, "%{d1}", "com"},
		{v4, "%{dr}", "com.example.email"},
		{v4, "%{d2r}", "example.email"},
		{v4, "%{l}", "strong-bad"},
		{v4, "%{l-}", "strong.bad"},
		{v4, "%{lr}", "strong-bad"},
		{v4, "%{lr-}", "bad.strong"},
		{v4, "%{l1r-}", "strong"},
		{v4, "%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"},
		{v4, "%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"},
		{v4, "%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"},
		{v4, "%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"},
		{v4, "%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"},
		{v4, "%{S}", "strong-bad%40email.example.com"},
		{v4, "%%%_%-", "% %20"},
		{v6, "%{ir}.%{v}._spf.%{d2}", "1.0.B.C.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2.ip6._spf.example.com"},
	} {
		got, err := spf.Expand(spf.Request{IP: c.ip, Sender: "strong-bad@email.example.com"}, c.spec, "email.example.com")
		if err != nil || got != c.want {
			t.Errorf("%s: got %q (%v), want %q", c.spec, got, err, c.want)
		}
	}
}
