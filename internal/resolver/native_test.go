package resolver_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/miekg/dns"

	"poczta.example/poczta/internal/resolver"
)

// TestNative asks a server of ours by Go's own resolver.
func TestNative(t *testing.T) {
	t.Parallel()
	zone, err := resolver.NewZone(`a.example. A 192.0.2.7
a.example. AAAA 2001:db8::7
example. MX 10 Mail.example.
example. TXT "v=spf1 -all"
!servfail broken.example`)
	if err != nil {
		t.Fatal(err)
	}
	server := serve(t, zone, func(w dns.ResponseWriter, q *dns.Msg) bool {
		if q.Question[0].Qtype != dns.TypeSRV {
			return false
		}
		m := new(dns.Msg)
		m.SetReply(q)
		m.Answer = []dns.RR{&dns.SRV{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeSRV, Class: dns.ClassINET, Ttl: 60}, Priority: 1, Weight: 2, Port: 995, Target: "Pop.example."}}
		_ = w.WriteMsg(m)
		return true
	})
	n := resolver.NewNative(&net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.String())
	}})
	for _, c := range []struct {
		name string
		t    resolver.Type
		want resolver.Record
	}{
		{"A.example.", resolver.A, resolver.Record{}},
		{"a.example", resolver.AAAA, resolver.Record{}},
		{"example", resolver.MX, resolver.Record{Host: "mail.example", Preference: 10}},
		{"_pop3s._tcp.example", resolver.SRV, resolver.Record{Host: "pop.example", Preference: 1, Weight: 2, Port: 995}},
		{"example", resolver.TXT, resolver.Record{Text: "v=spf1 -all"}},
	} {
		a, err := n.Lookup(t.Context(), c.name, c.t)
		if err != nil || len(a.Records) != 1 || a.Secure {
			t.Errorf("%s: %+v %v", c.name, a, err)
			continue
		}
		got := a.Records[0]
		if c.t == resolver.A || c.t == resolver.AAAA {
			if got.Addr.String() != map[resolver.Type]string{resolver.A: "192.0.2.7", resolver.AAAA: "2001:db8::7"}[c.t] {
				t.Errorf("%s: %v", c.name, got.Addr)
			}
		} else if got.Host != c.want.Host || got.Preference != c.want.Preference || got.Weight != c.want.Weight || got.Port != c.want.Port || got.Text != c.want.Text {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
	for name, want := range map[string]error{"absent.example": resolver.ErrNotFound, "broken.example": resolver.ErrTemporary} {
		if _, err := n.Lookup(t.Context(), name, resolver.A); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := n.Lookup(t.Context(), "example", resolver.TLSA); !errors.Is(err, resolver.ErrNoRecords) {
		t.Errorf("TLSA: %v", err)
	}
}
