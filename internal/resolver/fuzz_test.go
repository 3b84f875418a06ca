package resolver_test

import (
	"errors"
	"testing"

	"github.com/miekg/dns"

	"poczta.example/poczta/internal/resolver"
)

// FuzzRead has replies of any octets. What comes of one is records of the type
// asked for or one of the documented errors.
func FuzzRead(f *testing.F) {
	for _, text := range []string{"example.org. A 192.0.2.1", "example.org. CNAME example.org.", "example.org. MX 10 .", "example.org. TXT \"a\" \"b\"", "example.org. TLSA 3 1 1 00ff"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m := new(dns.Msg)
		m.SetQuestion("example.org.", rr.Header().Rrtype)
		m.Response, m.Answer = true, []dns.RR{rr}
		octets, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(octets, rr.Header().Rrtype)
	}
	f.Fuzz(func(t *testing.T, octets []byte, qtype uint16) {
		m := new(dns.Msg)
		if m.Unpack(octets) != nil {
			return
		}
		ans, err := resolver.Read(m, "example.org.", resolver.Type(qtype))
		switch {
		case err == nil && len(ans.Records) == 0:
			t.Error("neither records nor an error")
		case err != nil && !errors.Is(err, resolver.ErrNotFound) && !errors.Is(err, resolver.ErrTemporary):
			t.Errorf("got %v", err)
		}
	})
}
