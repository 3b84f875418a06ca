package mtasts_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/mtasts"
	"poczta.example/poczta/internal/resolver"
)

func domain(t *testing.T, s string) address.Domain {
	t.Helper()
	d, err := address.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestParseRecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, id string }{ // id "": malformed
		{"v=STSv1; id=20160831085700Z;", "20160831085700Z"},
		{"v=STSv1;id=a", "a"},
		{"v=STSv1 ;\t id=a ; ", "a"},
		{"v=STSv1; x-y.z_1=!#:<>~; id=a", "a"},
		{"v=STSv1; id=a; id=b", "a"},
		{"v=STSv1; id=" + strings.Repeat("a", 32), strings.Repeat("a", 32)},
		{"v=STSv1; id=" + strings.Repeat("a", 33), ""},
		{"v=STSv1; ID=a", ""},
		{"V=STSv1; id=a", ""},
		{"v=STSv1", ""},
		{"v=STSv1; id=a;;", ""},
		{" v=STSv1; id=a", ""},
		{"v=STSv1; id=a; -x=1", ""},
		{"v=STSv1; id=a; x=a b", ""},
		{"v=STSv1; id=a; x", ""},
		{"v=STSv1; id=\u00e9", ""},
	} {
		r, err := mtasts.ParseRecord(c.in)
		if r.ID != c.id || (err == nil) != (c.id != "") || err != nil && !errors.Is(err, mtasts.ErrSyntax) {
			t.Errorf("%q: got %+v, %v", c.in, r, err)
		}
	}
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	want := mtasts.Policy{Mode: mtasts.Enforce, MX: []string{"mail.example.com", "*.example.net"}, MaxAge: 604800 * time.Second}
	for name, in := range map[string]string{
		"RFC 8461 §3.2":       "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n",
		"LF":                  "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800",
		"any order":           "max_age:604800 \nmx:Mail.Example.com\nmode: enforce\nmx: *.EXAMPLE.net\nversion:\tSTSv1\t",
		"the first counts":    "version: STSv1\nmode: enforce\nmode: none\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800\nmax_age: x",
		"unknown keys":        "version: STSv1\nmode: enforce\nfoo: bar b\u00e9z\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800",
		"what String returns": want.String(),
	} {
		if got, err := mtasts.ParsePolicy(in); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %v %s", name, err, cmp.Diff(want, got))
		}
	}
	const ok = "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1\n"
	for name, in := range map[string]string{
		"an empty line": "\n" + ok, "no colon": ok + "x\n", "a negative age": strings.Replace(ok, "1", "-1", 2), "an age of 11 digits": strings.Replace(ok, "age: 1", "age: 00000000001", 1),
		"a plus": strings.Replace(ok, "age: 1", "age: +1", 1), "a literal": strings.Replace(ok, "a.example", "[192.0.2.1]", 1), "an inner wildcard": strings.Replace(ok, "a.example", "a.*.example", 1),
		"a wildcard alone": strings.Replace(ok, "a.example", "*", 1), "a wildcard and a dot": strings.Replace(ok, "a.example", "*.", 1), "NUL": ok + "x: \x00\n", "no UTF-8": ok + "x: \xff\n",
		"a key of 33": ok + strings.Repeat("k", 33) + ": x\n", "65 KiB": ok + strings.Repeat("x: y\n", 13200), "STSv2": strings.Replace(ok, "STSv1", "STSv2", 1),
		"mode in capitals": strings.Replace(ok, "enforce", "Enforce", 1),
	} {
		if p, err := mtasts.ParsePolicy(in); !errors.Is(err, mtasts.ErrSyntax) {
			t.Errorf("%s was accepted: %+v, %v", name, p, err)
		}
	}
	if p, err := mtasts.ParsePolicy(strings.Replace(ok, "age: 1", "age: 9999999999", 1)); err != nil || p.MaxAge != mtasts.MaxAge {
		t.Errorf("got %v, %v; want the maximum", p.MaxAge, err)
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	p := mtasts.Policy{MX: []string{"mail.example.com", "*.example.net", "xn--bcher-kva.example"}}
	for host, want := range map[string]bool{
		"mail.example.com": true, "a.mail.example.com": false, "example.com": false, "a.example.net": true,
		"example.net": false, "a.b.example.net": false, "aexample.net": false, "bücher.example": true,
	} {
		if got := p.Matches(domain(t, host)); got != want {
			t.Errorf("%s: got %v", host, got)
		}
	}
}

func TestID(t *testing.T) {
	t.Parallel()
	a := mtasts.Policy{Mode: mtasts.Testing, MX: []string{"mx.example.org"}, MaxAge: time.Hour}
	b := a
	b.Mode = mtasts.Enforce
	if a.ID() == b.ID() {
		t.Error("another policy has the same id")
	}
	if r, err := mtasts.ParseRecord(mtasts.Record{ID: a.ID()}.String()); err != nil || r.ID != a.ID() {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestLookupRecord(t *testing.T) {
	t.Parallel()
	z, err := resolver.NewZone(`$ORIGIN example.org.
_mta-sts        TXT "v=STSv1; " "id=a1;"
_mta-sts        TXT "something else"
_mta-sts.two    TXT "v=STSv1; id=a;"
_mta-sts.two    TXT "v=STSv1; id=b;"
_mta-sts.alias  CNAME _mta-sts
_mta-sts.bad    TXT "v=STSv1; id=-;"
_mta-sts.v2     TXT "v=STSv12; id=a;"
!servfail _mta-sts.dead.example.org
`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"example.org": nil, "alias.example.org": nil, "two.example.org": mtasts.ErrNoRecord, "none.example.org": mtasts.ErrNoRecord,
		"bad.example.org": mtasts.ErrSyntax, "v2.example.org": mtasts.ErrNoRecord, "dead.example.org": resolver.ErrTemporary,
	} {
		r, err := mtasts.LookupRecord(t.Context(), z, domain(t, name))
		if !errors.Is(err, want) || want == nil && (err != nil || r.ID != "a1") {
			t.Errorf("%s: got %+v, %v; want %v", name, r, err, want)
		}
	}
}

// testdata reads a file of foreign material.
func testdata(t *testing.T, path ...string) []byte {
	t.Helper()
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	text, err := os.ReadFile(filepath.Join(append([]string{dir}, path...)...))
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	return text
}

// TestMox runs the cases of mox, without deviation.
func TestMox(t *testing.T) {
	t.Parallel()
	var cases []struct {
		Kind, Input, Note string
		Valid             bool
	}
	if err := json.Unmarshal(testdata(t, "records", "mox-record-syntax.json"), &cases); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, c := range cases {
		var err error
		switch c.Kind {
		case "mta-sts/Record":
			_, err = mtasts.ParseRecord(c.Input)
		case "mta-sts/ParsePolicy":
			_, err = mtasts.ParsePolicy(c.Input)
		default:
			continue
		}
		ran++
		if (err == nil) != c.Valid {
			t.Errorf("%s %q (%s): got %v, want valid %v", c.Kind, c.Input, c.Note, err, c.Valid)
		}
	}
	if ran < 20 {
		t.Errorf("ran %d cases", ran)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("v=STSv1; id=20160831085700Z;")
	f.Add("v=STSv1 ; x=1;id=a")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := mtasts.ParseRecord(s)
		if err != nil {
			return
		}
		if again, err := mtasts.ParseRecord(r.String()); err != nil || again != r {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	f.Add("version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n")
	f.Add("version:STSv1\nmode:none\nmax_age:0")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := mtasts.ParsePolicy(s)
		if err != nil {
			return
		}
		again, err := mtasts.ParsePolicy(p.String())
		if err != nil && len(p.String()) <= mtasts.MaxPolicyOctets || err == nil && cmp.Diff(p, again) != "" {
			t.Errorf("%q became %+v, %v", p, again, err)
		}
	})
}
