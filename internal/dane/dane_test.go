package dane_test

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/dane"
	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/resolver"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("ab", 32)
	z, err := resolver.NewZone(fmt.Sprintf(`$ORIGIN signed.example.
_25._tcp.mx     TLSA 3 1 1 %[1]s
_25._tcp.mx     TLSA 2 0 2 00
_2525._tcp.mx   TLSA 3 1 1 %[1]s
_25._tcp.hidden CNAME _25._tcp.mx
_25._tcp.away   CNAME _25._tcp.mx.plain.example.
other           A 192.0.2.1
_25._tcp.mx.plain.example. TLSA 3 1 1 %[1]s
!secure signed.example
!servfail _25._tcp.bogus.signed.example
`, sum))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		bases []string
		want  string // base and number of records
		err   error
	}{
		{"records", []string{"mx.signed.example"}, "mx.signed.example 2", nil},
		{"an alias of the records", []string{"hidden.signed.example"}, "hidden.signed.example 2", nil},
		{"an alias that leaves the signed zone", []string{"away.signed.example"}, " 0", nil},
		{"insecure", []string{"mx.plain.example"}, " 0", nil},
		{"none", []string{"other.signed.example"}, " 0", nil},
		{"no base", nil, " 0", nil},
		{"the second base", []string{"other.signed.example", "mx.signed.example."}, "mx.signed.example. 2", nil},
		{"bogus", []string{"bogus.signed.example", "mx.signed.example"}, " 0", resolver.ErrTemporary},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, err := dane.Lookup(t.Context(), z, c.bases, 25)
			if got := fmt.Sprintf("%s %d", f.Base, len(f.Records)); got != c.want || !errors.Is(err, c.err) || c.err == nil && err != nil {
				t.Errorf("got %q, %v; want %q, %v", got, err, c.want, c.err)
			}
		})
	}
}

func rec(usage dane.Usage, selector, matching uint8, data []byte) dane.Record {
	return dane.Record{Usage: usage, Selector: selector, Matching: matching, Data: data}
}

func TestUsable(t *testing.T) {
	t.Parallel()
	ca := certtest.New(t).Cert
	d32, d64 := make([]byte, 32), make([]byte, 64)
	for _, c := range []struct {
		name string
		in   dane.Records
		want string // of which records, by index
	}{
		{"usages", dane.Records{rec(0, 1, 1, d32), rec(1, 1, 1, d32), rec(2, 1, 1, d32), rec(3, 1, 1, d32), rec(4, 1, 1, d32), rec(255, 1, 1, d32)}, "2 3"},
		{"selectors", dane.Records{rec(3, 0, 1, d32), rec(3, 1, 1, d32), rec(3, 2, 1, d32)}, "0 1"},
		{"matching types", dane.Records{rec(3, 1, 0, d32), rec(3, 0, 1, d32), rec(3, 0, 3, d32)}, "0 1"},
		{"lengths", dane.Records{rec(3, 1, 1, d64), rec(3, 1, 2, d32), rec(3, 1, 0, nil), rec(3, 1, 1, nil)}, ""},
		{"the strongest digest of each kind", dane.Records{rec(3, 1, 1, d32), rec(3, 1, 2, d64), rec(3, 0, 1, d32), rec(2, 1, 1, d32), rec(3, 1, 0, d32)}, "1 2 3 4"},
		{"a malformed stronger digest does not count", dane.Records{rec(3, 1, 1, d32), rec(3, 1, 2, d32)}, "0"},
		{"anchors that parse", dane.Records{rec(2, 0, 0, ca.Raw), rec(2, 0, 0, d32), rec(2, 1, 0, ca.RawSubjectPublicKeyInfo), rec(2, 1, 0, ca.Raw)}, "0 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			usable := c.in.Usable()
			for i, r := range c.in {
				for _, u := range usable {
					if cmp.Equal(r, u) {
						got = append(got, fmt.Sprint(i))
						break
					}
				}
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

// TestVerify is what OpenSSL's vectors leave open.
func TestVerify(t *testing.T) {
	t.Parallel()
	root := certtest.New(t)
	sub := root.Sub()
	parse := func(raws ...[]byte) (out []*x509.Certificate) {
		for _, raw := range raws {
			c, err := x509.ParseCertificate(raw)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, c)
		}
		return out
	}
	leaf := sub.Leaf("mx.example.org", "*.wild.example.org").Leaf.Raw
	expired := sub.From(func(c *x509.Certificate) {
		c.DNSNames, c.NotAfter = []string{"mx.example.org"}, c.NotBefore.Add(time.Minute)
	}).Leaf.Raw
	common := sub.From(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "mx.example.org"} }).Leaf.Raw
	both := sub.From(func(c *x509.Certificate) {
		c.Subject, c.DNSNames = pkix.Name{CommonName: "mx.example.org"}, []string{"other.example.org"}
	}).Leaf.Raw
	forClients := sub.From(func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = []string{"mx.example.org"}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}).Leaf.Raw
	stranger := certtest.New(t).Leaf("mx.example.org").Leaf.Raw
	ta := rec(2, 0, 1, sum(root.Cert.Raw))
	mx := []string{"mx.example.org"}
	for _, c := range []struct {
		name  string
		certs []*x509.Certificate
		r     dane.Record
		names []string
		want  error
	}{
		{"anchor at the top", parse(leaf, sub.Cert.Raw, root.Cert.Raw), ta, mx, nil},
		{"anchor in the middle", parse(leaf, sub.Cert.Raw), rec(2, 1, 1, sum(sub.Cert.RawSubjectPublicKeyInfo)), mx, nil},
		{"order of the chain does not matter", parse(leaf, root.Cert.Raw, sub.Cert.Raw), ta, mx, nil},
		{"anchor not shown", parse(leaf, sub.Cert.Raw), ta, mx, dane.ErrNoMatch},
		{"anchor shown, chain broken", parse(leaf, root.Cert.Raw), ta, mx, dane.ErrNoMatch},
		{"anchor shown by a stranger", parse(stranger, sub.Cert.Raw, root.Cert.Raw), ta, mx, dane.ErrNoMatch},
		{"anchor in the record", parse(leaf, sub.Cert.Raw), rec(2, 0, 0, root.Cert.Raw), mx, nil},
		{"key in the record", parse(leaf, sub.Cert.Raw), rec(2, 1, 0, root.Cert.RawSubjectPublicKeyInfo), mx, nil},
		{"key in the record, of a stranger", parse(stranger, sub.Cert.Raw), rec(2, 1, 0, root.Cert.RawSubjectPublicKeyInfo), mx, dane.ErrNoMatch},
		{"an anchor is not the leaf", parse(leaf), rec(2, 0, 1, sum(leaf)), mx, dane.ErrNoMatch},
		{"one of several names", parse(leaf, sub.Cert.Raw, root.Cert.Raw), ta, []string{"example.net", "mx.example.org"}, nil},
		{"wildcard", parse(leaf, sub.Cert.Raw, root.Cert.Raw), ta, []string{"a.wild.example.org"}, nil},
		{"wildcard of one label", parse(leaf, sub.Cert.Raw, root.Cert.Raw), ta, []string{"a.b.wild.example.org"}, dane.ErrName},
		{"no names", parse(leaf, sub.Cert.Raw, root.Cert.Raw), ta, nil, dane.ErrName},
		{"expired", parse(expired, sub.Cert.Raw, root.Cert.Raw), ta, mx, dane.ErrExpired},
		{"expired, of an end entity", parse(expired), rec(3, 0, 1, sum(expired)), nil, nil},
		{"common name", parse(common, sub.Cert.Raw, root.Cert.Raw), ta, mx, nil},
		{"a common name beside others does not count", parse(both, sub.Cert.Raw, root.Cert.Raw), ta, mx, dane.ErrName},
		{"for clients", parse(forClients, sub.Cert.Raw, root.Cert.Raw), ta, mx, dane.ErrNoMatch},
		{"an end entity is not above", parse(leaf, sub.Cert.Raw), rec(3, 0, 1, sum(sub.Cert.Raw)), mx, dane.ErrNoMatch},
		{"no certificate", nil, ta, mx, dane.ErrNoMatch},
		{"unusable", parse(leaf), rec(1, 0, 1, sum(leaf)), mx, dane.ErrNoMatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := dane.Records{c.r}.Verify(c.certs, c.names, time.Now())
			if !errors.Is(err, c.want) || c.want == nil && (err != nil || !cmp.Equal(got, c.r)) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// FuzzVerify has records of any octets: none may match by chance, and none may
// bring the program down.
func FuzzVerify(f *testing.F) {
	leaf := certtest.New(f).Leaf("mx.example.org")
	certs := []*x509.Certificate{leaf.Leaf}
	f.Add(uint8(2), uint8(1), uint8(0), leaf.Leaf.RawSubjectPublicKeyInfo)
	f.Add(uint8(2), uint8(0), uint8(0), leaf.Leaf.Raw)
	f.Add(uint8(3), uint8(1), uint8(1), make([]byte, 32))
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte) {
		r := dane.Records{rec(dane.Usage(usage), selector, matching, data)}
		if _, err := r.Verify(certs, []string{"mx.example.org"}, time.Now()); err == nil && len(r.Usable()) == 0 {
			t.Error("an unusable record matched")
		}
	})
}
