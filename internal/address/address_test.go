package address_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"poczta.example/poczta/internal/address"
)

func TestParse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", address.MaxLongLocalPartOctets)
	tests := []struct {
		name, in string
		want     string // String, "" when refused
		key      string // Key when it differs from want
		err      error
	}{
		{"plain", "Ala@Example.ORG", "Ala@example.org", "ala@example.org", nil},
		{"quoted without need", `"ala"@example.org`, "ala@example.org", "", nil},
		{"quoted with blank", `"ala makota"@example.org`, `"ala makota"@example.org`, "ala makota@example.org", nil},
		{"quoted pair", `"a\"b\\"@example.org`, `"a\"b\\"@example.org`, `a"b\@example.org`, nil},
		{"quoted at sign", `"a@b"@example.org`, `"a@b"@example.org`, "a@b@example.org", nil},
		{"u-label", "ala@ŻÓŁW.example", "ala@xn--w-uga1v8h.example", "", nil},
		{"utf-8 local-part", "ŻÓŁW@example.org", "ŻÓŁW@example.org", "żółw@example.org", nil},
		{"decomposed local-part", "Z\u0307ola@example.org", "Z\u0307ola@example.org", "żola@example.org", nil},
		{"sharp s folds", "Straße@example.org", "Straße@example.org", "strasse@example.org", nil},
		{"ipv4 literal", "a@[192.0.2.1]", "a@[192.0.2.1]", "", nil},
		{"ipv6 literal", "a@[ipv6:2001:DB8:0:0::1]", "a@[IPv6:2001:db8::1]", "", nil},
		{"verp", long + "@example.org", long + "@example.org", "", nil},
		{"too long", long + "a@example.org", "", "", address.ErrTooLong},
		{"no at", "ala", "", "", address.ErrSyntax},
		{"no domain", "ala@", "", "", address.ErrSyntax},
		{"no local", "@example.org", "", "", address.ErrSyntax},
		{"empty quoted local", `""@example.org`, "", "", address.ErrSyntax},
		{"final dot", "ala@example.org.", "", "", address.ErrSyntax},
		{"double dot", "a..b@example.org", "", "", address.ErrSyntax},
		{"control", "\"a\x01\"@example.org", "", "", address.ErrSyntax},
		{"c1 control", "a\u0085b@example.org", "", "", address.ErrSyntax},
		{"bad utf-8", "a\xff@example.org", "", "", address.ErrSyntax},
		{"underscore", "a@my_host.example", "", "", address.ErrSyntax},
		{"octal", "a@[010.0.0.1]", "", "", address.ErrSyntax},
		{"zone", "a@[IPv6:fe80::1%eth0]", "", "", address.ErrSyntax},
		{"untagged ipv6", "a@[2001:db8::1]", "", "", address.ErrSyntax},
		{"tagged ipv4", "a@[IPv6:192.0.2.1]", "", "", address.ErrSyntax},
		{"trailing", "a@example.org b", "", "", address.ErrSyntax},
		{"nul", "a\x00b@example.org", "", "", address.ErrSyntax},
		{"long label", "a@" + strings.Repeat("a", 64) + ".example", "", "", address.ErrTooLong},
		{"long domain", "a@" + strings.Repeat("a.", 127) + "example", "", "", address.ErrTooLong},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, err := address.Parse(tt.in)
			if !errors.Is(err, tt.err) {
				t.Fatalf("got error %v, want %v", err, tt.err)
			}
			if got := string(a.AppendTo(nil)); got != a.String() {
				t.Errorf("AppendTo: got %q, String %q", got, a)
			}
			if a.String() != tt.want {
				t.Errorf("String: got %q, want %q", a.String(), tt.want)
			}
			key := tt.key
			if key == "" {
				key = tt.want
			}
			if a.Key() != key {
				t.Errorf("Key: got %q, want %q", a.Key(), key)
			}
		})
	}
}

func TestDomain(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want, unicode string }{
		{"Example.ORG.", "example.org", "example.org"},
		{"ŻÓŁW.example", "xn--w-uga1v8h.example", "żółw.example"},
		{"XN--W-UGA1V8H.example", "xn--w-uga1v8h.example", "żółw.example"},
		{"faß.de", "xn--fa-hia.de", "faß.de"},
		{"r3---sn.example", "r3---sn.example", "r3---sn.example"},
		{"例え。テスト", "xn--r8jz45g.xn--zckzah", "例え.テスト"},
		{"[192.0.2.1]", "[192.0.2.1]", "[192.0.2.1]"},
		{".", "", ""}, {"", "", ""}, {"a..b", "", ""}, {"-a.b", "", ""}, {"a-.b", "", ""}, {"a b", "", ""}, {"[1.2.3]", "", ""}, {"[", "", ""},
		{"xn--a.example", "", ""},
	}
	for _, tt := range tests {
		d, err := address.ParseDomain(tt.in)
		if (err == nil) != (tt.want != "") || d.String() != tt.want || d.Unicode() != tt.unicode {
			t.Errorf("%q: got %q, %q, %v, want %q, %q", tt.in, d, d.Unicode(), err, tt.want, tt.unicode)
		}
	}
}

func TestLiteral(t *testing.T) {
	t.Parallel()
	d, err := address.ParseDomain("[IPv6:2001:db8::1]")
	if err != nil {
		t.Fatal(err)
	}
	ip, ok := d.LiteralAddr()
	if want := netip.MustParseAddr("2001:db8::1"); !ok || ip != want || !d.IsLiteral() {
		t.Errorf("got %v, %v, %v, want %v", ip, ok, d.IsLiteral(), want)
	}
	if got := address.LiteralDomain(ip); got != d {
		t.Errorf("got %v, want %v", got, d)
	}
	name, err := address.ParseDomain("example.org")
	if _, ok := name.LiteralAddr(); ok || err != nil || name.IsLiteral() {
		t.Error("a name is no literal")
	}
}

func TestReversePath(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		utf8     bool
		want     string
		err      error
	}{
		{"null", "<>", false, "<>", nil},
		{"plain", "<ala@example.org>", false, "<ala@example.org>", nil},
		{"source route", "<@a.example,@b.example:ala@example.org>", false, "<ala@example.org>", nil},
		{"route over a literal", "<@[IPv6:2001:db8::1]:ala@example.org>", false, "<ala@example.org>", nil},
		{"quoted bracket", `<"a>b"@example.org>`, false, `<"a>b"@example.org>`, nil},
		{"utf-8 allowed", "<żółw@żółw.example>", true, "<żółw@xn--w-uga1v8h.example>", nil},
		{"utf-8 local refused", "<żółw@example.org>", false, "", address.ErrNonASCII},
		{"utf-8 domain refused", "<ala@żółw.example>", false, "", address.ErrNonASCII},
		{"no brackets", "ala@example.org", false, "", address.ErrSyntax},
		{"open", "<ala@example.org", false, "", address.ErrSyntax},
		{"blank", "< ala@example.org>", false, "", address.ErrSyntax},
		{"bad route", "<@a.example,b.example:ala@example.org>", false, "", address.ErrSyntax},
		{"route without end", "<@a.example>", false, "", address.ErrSyntax},
		{"postmaster", "<postmaster>", false, "", address.ErrSyntax},
		{"too long", "<" + strings.Repeat("@a.example,", 100) + "@b.example:a@example.org>", false, "", address.ErrTooLong},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := address.ParseReversePath(tt.in, tt.utf8)
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Fatalf("got error %v, want %v", err, tt.err)
			}
			if err == nil && p.String() != tt.want {
				t.Errorf("got %s, want %s", p, tt.want)
			}
			if got := string(p.AppendTo(nil)); got != p.String() {
				t.Errorf("AppendTo: got %q, String %q", got, p)
			}
			if err != nil && !p.IsNull() {
				t.Errorf("a refused path is %s", p)
			}
		})
	}
}

func TestForwardPath(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"<Postmaster>", "<postmaster>", "<POSTMASTER>", "<@a.example:postmaster>"} {
		p, err := address.ParseForwardPath(in, false)
		if err != nil || !p.IsPostmaster() || p != address.Postmaster() || p.String() != "<Postmaster>" || p.Key() != "postmaster" {
			t.Errorf("%s: got %v, %v", in, p, err)
		}
	}
	p, err := address.ParseForwardPath("<Ala@example.org>", false)
	if err != nil || p.IsPostmaster() || p.Address().Local() != "Ala" || p.Key() != "ala@example.org" {
		t.Errorf("got %v, %v", p, err)
	}
	for _, in := range []string{"<>", "", "<", "<ala>", "<@>", "<ala@>"} {
		if p, err := address.ParseForwardPath(in, false); !errors.Is(err, address.ErrSyntax) {
			t.Errorf("%q: got %v, %v, want a syntax error", in, p, err)
		}
	}
}

func TestCutPath(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in, path, rest string
		ok             bool
	}{
		{"<a@b> SIZE=1", "<a@b>", " SIZE=1", true},
		{`<"a>\">"@b>X`, `<"a>\">"@b>`, "X", true},
		{"<>", "<>", "", true},
		{"a@b", "", "a@b", false},
		{`<"a@b>`, "", `<"a@b>`, false},
		{"", "", "", false},
	}
	for _, tt := range tests {
		path, rest, ok := address.CutPath(tt.in)
		if path != tt.path || rest != tt.rest || ok != tt.ok {
			t.Errorf("%q: got %q, %q, %v", tt.in, path, rest, ok)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	d, err := address.ParseDomain("example.org")
	if err != nil {
		t.Fatal(err)
	}
	a, err := address.New("x", d)
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.WithLocal("a.b c")
	if err != nil || b.String() != `"a.b c"@example.org` || b.Domain() != d {
		t.Errorf("got %v, %v", b, err)
	}
	if _, err := address.New("x", address.Domain{}); !errors.Is(err, address.ErrSyntax) {
		t.Errorf("without a domain: got %v", err)
	}
	if _, err := a.WithLocal("a\r\nb"); !errors.Is(err, address.ErrSyntax) {
		t.Errorf("with a line end: got %v", err)
	}
	if !a.IsASCII() || !(address.Address{}).IsZero() || (address.Address{}).String() != "" || (address.Address{}).Key() != "" {
		t.Error("zero values")
	}
}

// FuzzParse holds that printing and parsing are inverse, that keys are stable,
// and that no path holds what could break a line.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"ala@example.org", `"a b\""@żółw.example`, "a@[IPv6:::1]", "żółw@xn--w-uga1v8h.example", "İ@example.org", "@", `"\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := address.Parse(s)
		if err != nil {
			if !a.IsZero() {
				t.Fatalf("an error with address %q", a)
			}
			return
		}
		if strings.ContainsAny(a.String(), "\r\n\x00") {
			t.Fatalf("%q prints a control character", s)
		}
		again, err := address.Parse(a.String())
		if err != nil || again != a {
			t.Fatalf("%q prints as %q, which reads as %q, %v", s, a, again, err)
		}
		path, err := address.ParseForwardPath(address.NewForwardPath(a).String(), true)
		if err != nil || path.Address() != a {
			t.Fatalf("path %s reads as %s, %v", a, path, err)
		}
		cut, rest, ok := address.CutPath(path.String() + " SIZE=1")
		if !ok || cut != path.String() || rest != " SIZE=1" {
			t.Fatalf("%s is cut to %s", path, cut)
		}
		folded, err := address.New(a.Key()[:strings.LastIndexByte(a.Key(), '@')], a.Domain())
		if err == nil && folded.Key() != a.Key() {
			t.Fatalf("key %q folds to %q", a.Key(), folded.Key())
		}
	})
}

func FuzzParseDomain(f *testing.F) {
	for _, s := range []string{"example.org", "ŻÓŁW.example.", "xn--w-uga1v8h.pl", "[1.2.3.4]", "。", "a\u00ad.b", "xn--"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := address.ParseDomain(s)
		if err != nil {
			return
		}
		again, err := address.ParseDomain(d.String())
		if err != nil || again != d {
			t.Fatalf("%q is %q, which reads as %q, %v", s, d, again, err)
		}
		if u, err := address.ParseDomain(d.Unicode()); err != nil || u != d {
			t.Fatalf("%q in Unicode is %q, which reads as %q, %v", d, d.Unicode(), u, err)
		}
	})
}

func BenchmarkParseForwardPath(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := address.ParseForwardPath("<ala.makota@example.org>", false); err != nil {
			b.Fatal(err)
		}
	}
}
