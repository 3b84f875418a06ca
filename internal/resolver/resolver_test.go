package resolver_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"poczta.example/poczta/internal/resolver"
)

const zone = `
$ORIGIN example.org.
@        MX 20 mx2
         MX 10 mx1
         TXT "v=spf1 " "-all"
mx1      A 192.0.2.1
         AAAA 2001:db8::1
mx2      A 192.0.2.2
alias    CNAME mx1
loop     CNAME loop2
loop2    CNAME loop
deep.sub A 192.0.2.9
nomail   MX 0 .
_25._tcp.mx1 TLSA 3 1 1 00ff
1.2.0.192.in-addr.arpa. PTR mx1
                        PTR Liar
2.2.0.192.in-addr.arpa. PTR liar
liar     A 192.0.2.77
!servfail broken.example.org
!timeout slow.example.org
!secure mx1.example.org
`

func testZone(t *testing.T) *resolver.Zone {
	t.Helper()
	z, err := resolver.NewZone(zone)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// serve answers from a zone over UDP and TCP on loopback, as a recursive server does.
func serve(t *testing.T, z *resolver.Zone, handle func(w dns.ResponseWriter, m *dns.Msg) bool) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		t.Skipf("TCP port beside the UDP port is taken: %v", err)
	}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if handle != nil && handle(w, q) {
			return
		}
		m := new(dns.Msg)
		m.SetReply(q)
		ans, err := z.Lookup(context.Background(), q.Question[0].Name, resolver.Type(q.Question[0].Qtype))
		switch {
		case errors.Is(err, resolver.ErrNoRecords):
		case errors.Is(err, resolver.ErrNotFound):
			m.Rcode = dns.RcodeNameError
		case err != nil:
			m.Rcode = dns.RcodeServerFailure
		}
		m.AuthenticatedData = ans.Secure
		for _, r := range ans.Records {
			hdr := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 60}
			switch {
			case r.Addr.Is4():
				m.Answer = append(m.Answer, &dns.A{Hdr: hdr, A: r.Addr.AsSlice()})
			case r.Addr.Is6():
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: hdr, AAAA: r.Addr.AsSlice()})
			case r.Text != "":
				m.Answer = append(m.Answer, &dns.TXT{Hdr: hdr, Txt: []string{r.Text}})
			default:
				m.Answer = append(m.Answer, &dns.MX{Hdr: hdr, Mx: dns.Fqdn(r.Host), Preference: r.Preference})
			}
		}
		_ = w.WriteMsg(m)
	})
	done := make(chan error, 2)
	udp, tcp := &dns.Server{PacketConn: pc, Handler: h}, &dns.Server{Listener: l, Handler: h}
	for _, s := range []*dns.Server{udp, tcp} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { done <- s.ActivateAndServe() }()
		<-started
	}
	t.Cleanup(func() {
		_ = udp.Shutdown()
		_ = tcp.Shutdown()
		<-done
		<-done
	})
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

// stub asks servers that answer at once, unless the machine is busy.
func stub(t *testing.T, servers ...string) *resolver.Stub {
	t.Helper()
	s, err := resolver.New(resolver.Config{Servers: servers, Timeout: 30 * time.Second, Total: 2 * time.Minute, TrustAll: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestLookups runs the same questions against the fake and against the client.
func TestLookups(t *testing.T) {
	t.Parallel()
	z := testZone(t)
	server := serve(t, z, nil)
	for name, r := range map[string]resolver.Resolver{"zone": z, "stub": stub(t, server.String())} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			mx, err := resolver.Exchangers(ctx, r, "Example.ORG.")
			if err != nil || len(mx) != 2 || mx[0].Host != "mx1.example.org" || mx[0].Preference != 10 {
				t.Errorf("MX: got %+v, %v", mx, err)
			}
			txt, err := r.Lookup(ctx, "example.org", resolver.TXT)
			if err != nil || txt.Records[0].Text != "v=spf1 -all" || txt.Secure {
				t.Errorf("TXT: got %+v, %v", txt, err)
			}
			addrs, err := resolver.Addrs(ctx, r, "mx1.example.org")
			if diff := cmp.Diff([]string{"2001:db8::1", "192.0.2.1"}, texts(addrs)); diff != "" || err != nil {
				t.Error(diff, err)
			}
			a, err := r.Lookup(ctx, "mx1.example.org", resolver.A)
			if err != nil || !a.Secure {
				t.Errorf("AD bit of a trusted server: got %+v, %v", a, err)
			}
			if null, err := resolver.Exchangers(ctx, r, "nomail.example.org"); err != nil || len(null) != 1 || null[0].Host != "" {
				t.Errorf("null MX: got %+v, %v", null, err)
			}
			for name, want := range map[string]error{
				"absent.example.org": resolver.ErrNotFound, "sub.example.org": resolver.ErrNoRecords, "mx2.example.org": resolver.ErrNoRecords,
				"broken.example.org": resolver.ErrTemporary, "a..b": resolver.ErrName, "": resolver.ErrName,
				strings.Repeat("a", 64) + ".example.org": resolver.ErrName,
			} {
				if _, err := r.Lookup(ctx, name, resolver.MX); !errors.Is(err, want) {
					t.Errorf("%q: got %v, want %v", name, err, want)
				}
			}
			if _, err := r.Lookup(ctx, "absent.example.org", resolver.A); errors.Is(err, resolver.ErrNoRecords) {
				t.Error("a name that does not exist is told from one without records")
			}
		})
	}
}

func TestZoneAliases(t *testing.T) {
	t.Parallel()
	z := testZone(t)
	ans, err := z.Lookup(t.Context(), "alias.example.org", resolver.A)
	if err != nil || ans.Name != "mx1.example.org" || ans.Secure {
		t.Errorf("got %+v, %v; want mx1's address, and not secure since the alias is not", ans, err)
	}
	if _, err := z.Lookup(t.Context(), "loop.example.org", resolver.A); !errors.Is(err, resolver.ErrTemporary) {
		t.Errorf("CNAME loop: got %v", err)
	}
	tlsa, err := z.Lookup(t.Context(), "_25._tcp.mx1.example.org", resolver.TLSA)
	if err != nil || tlsa.Records[0].Usage != 3 || len(tlsa.Records[0].Data) != 2 || !tlsa.Secure {
		t.Errorf("TLSA: got %+v, %v", tlsa, err)
	}
}

func TestReverse(t *testing.T) {
	t.Parallel()
	z := testZone(t)
	name, err := resolver.VerifiedReverse(t.Context(), z, netip.MustParseAddr("192.0.2.1"))
	if err != nil || name != "mx1.example.org" {
		t.Errorf("got %q, %v", name, err)
	}
	if name, err := resolver.VerifiedReverse(t.Context(), z, netip.MustParseAddr("192.0.2.2")); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("a name that does not lead back was believed: %q, %v", name, err)
	}
	got := resolver.ReverseName(netip.MustParseAddr("2001:db8::1"))
	if want := "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := testZone(t).Lookup(ctx, "slow.example.org", resolver.A); !errors.Is(err, resolver.ErrTemporary) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("zone: got %v", err)
	}
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel2 := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel2()
	if _, err := stub(t, silent.LocalAddr().String()).Lookup(ctx, "example.org", resolver.A); !errors.Is(err, resolver.ErrTemporary) {
		t.Errorf("stub: got %v", err)
	}
}

// TestServersInTurn has a first server that fails and a second that knows.
func TestServersInTurn(t *testing.T) {
	t.Parallel()
	z := testZone(t)
	bad := serve(t, z, func(w dns.ResponseWriter, q *dns.Msg) bool {
		m := new(dns.Msg)
		m.SetRcode(q, dns.RcodeServerFailure)
		_ = w.WriteMsg(m)
		return true
	})
	good := serve(t, z, nil)
	ans, err := stub(t, bad.String(), good.String()).Lookup(t.Context(), "mx2.example.org", resolver.A)
	if err != nil || len(ans.Records) != 1 {
		t.Errorf("got %+v, %v", ans, err)
	}
}

// TestForeignAnswers sends answers with another id and to another question
// before the right one; and truncates over UDP.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	z := testZone(t)
	server := serve(t, z, func(w dns.ResponseWriter, q *dns.Msg) bool {
		if _, tcp := w.RemoteAddr().(*net.TCPAddr); tcp {
			return false
		}
		forged := new(dns.Msg)
		forged.SetReply(q)
		forged.Id++
		_ = w.WriteMsg(forged)
		forged.Id--
		forged.Question[0].Name = "other.example."
		_ = w.WriteMsg(forged)
		_, _ = w.Write([]byte("noise"))
		short := new(dns.Msg)
		short.SetReply(q)
		short.Truncated = true
		short.Question[0].Name = "mx1.example.org."
		_ = w.WriteMsg(short)
		return true
	})
	ans, err := stub(t, server.String()).Lookup(t.Context(), "mx1.example.org", resolver.A)
	if err != nil || len(ans.Records) != 1 || ans.Records[0].Addr.String() != "192.0.2.1" {
		t.Errorf("got %+v, %v", ans, err)
	}
}

// TestGuessedIDs floods the question with answers whose ids are guesses, the right one
// among them: the stub does not wait for it but asks by TCP.
func TestGuessedIDs(t *testing.T) {
	t.Parallel()
	z := testZone(t)
	server := serve(t, z, func(w dns.ResponseWriter, q *dns.Msg) bool {
		if _, tcp := w.RemoteAddr().(*net.TCPAddr); tcp {
			return false
		}
		forged := new(dns.Msg)
		forged.SetReply(q)
		forged.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 86400}, A: net.IPv4(203, 0, 113, 66)}}
		for i := range uint16(20) {
			forged.Id = q.Id - 19 + i
			_ = w.WriteMsg(forged)
		}
		return true
	})
	ans, err := stub(t, server.String()).Lookup(t.Context(), "mx1.example.org", resolver.A)
	if err != nil || len(ans.Records) != 1 || ans.Records[0].Addr.String() != "192.0.2.1" {
		t.Errorf("got %+v, %v", ans, err)
	}
}

func TestBadZones(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"!servfail", "!explode a.example", "x IN A not-an-address"} {
		if _, err := resolver.NewZone(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
	if _, err := resolver.New(resolver.Config{Servers: []string{"ns.example.org"}}); err == nil {
		t.Error("a server named by name was accepted")
	}
}

func texts(addrs []netip.Addr) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

// TestTrust has servers that set the AD bit; only one that was named is
// believed.
func TestTrust(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		servers, trusted []string
		want             bool
	}{
		{[]string{"192.0.2.1"}, nil, false},
		{[]string{"127.0.0.1"}, nil, false},
		{[]string{"[::1]:5353"}, []string{"::1"}, true},
		{[]string{"127.0.0.53"}, nil, false},
		{[]string{"127.0.0.11"}, []string{"127.0.0.11"}, true},
		{[]string{"192.0.2.1"}, []string{"192.0.2.2"}, false},
		{[]string{"192.0.2.1:5353"}, []string{"192.0.2.1"}, true},
		{[]string{"::ffff:192.0.2.1"}, []string{"192.0.2.1"}, true},
	} {
		s, err := resolver.New(resolver.Config{Servers: c.servers, Trusted: c.trusted})
		if err != nil || s.Trusts() != c.want {
			t.Errorf("%v with %v trusted: got %v, %v", c.servers, c.trusted, s.Trusts(), err)
		}
	}
	if s, err := resolver.New(resolver.Config{Servers: []string{"192.0.2.1"}, TrustAll: true}); err != nil || !s.Trusts() {
		t.Errorf("TrustAll: got %v", err)
	}
	if _, err := resolver.New(resolver.Config{Trusted: []string{"ns.example.org"}}); err == nil {
		t.Error("a trusted server named by name was accepted")
	}
}

// TestTotal has a silent server: the bound of all questions ends the look-up.
func TestTotal(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s, err := resolver.New(resolver.Config{Servers: []string{silent.LocalAddr().String()}, Timeout: time.Minute, Total: 30 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := s.Lookup(t.Context(), "example.org", resolver.A); !errors.Is(err, resolver.ErrTemporary) || time.Since(begun) > 20*time.Second {
		t.Errorf("got %v after %v", err, time.Since(begun))
	}
}

// TestTextOctets has TXT strings with octets that the DNS library escapes.
func TestTextOctets(t *testing.T) {
	t.Parallel()
	zone, err := resolver.NewZone(`example.org. TXT "a\"b\\c" "\195\179\009" "\\1234" "plain"`)
	if err != nil {
		t.Fatal(err)
	}
	ans, err := zone.Lookup(t.Context(), "example.org", resolver.TXT)
	if want := "a\"b\\c\u00f3\t\\1234plain"; err != nil || ans.Records[0].Text != want {
		t.Errorf("got %+v (%v), want %q", ans.Records, err, want)
	}
}
