package tlsrpt_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/tlsrpt"
)

func TestParseRecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{ // want "": malformed
		{"v=TLSRPTv1;rua=mailto:reports@example.com", "mailto:reports@example.com"},
		{"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt", "https://reporting.example.com/v1/tlsrpt"},
		{"v=TLSRPTv1 ; rua=mailto:a@example.com , https://b.example/x?y=z; ext=1 ;", "mailto:a@example.com https://b.example/x?y=z"},
		{"v=TLSRPTv1; rua=ftp://example.com,mailto:a@example.com", "mailto:a@example.com"},
		{"v=TLSRPTv1; rua=mailto:a@example.com; rua=mailto:b@example.com", "mailto:a@example.com"},
		{"v=TLSRPTv1; rua=ftp://example.com", ""},
		{"v=TLSRPTv1; rua=http://example.com/", ""},
		{"v=TLSRPTv1; rua=https:///x", ""},
		{"v=TLSRPTv1; rua=mailto:", ""},
		{"v=TLSRPTv1", ""},
		{"v=tlsrptv1; rua=mailto:a@example.com", ""},
		{"rua=mailto:a@example.com; v=TLSRPTv1", ""},
		{"v=TLSRPTv1; rua=mailto:a@example.com!10m", ""},
		{"v=TLSRPTv1; rua=mailto:a@example.com; =x", ""},
	} {
		r, err := tlsrpt.ParseRecord(c.in)
		var got []string
		for _, u := range r.URIs {
			got = append(got, u.String())
		}
		if strings.Join(got, " ") != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, tlsrpt.ErrSyntax) {
			t.Errorf("%q: got %v, %v", c.in, got, err)
		}
	}
	if r, err := tlsrpt.ParseRecord("v=TLSRPTv1; rua=" + strings.Repeat("mailto:a@example.com,", 99) + "mailto:b@example.com"); err != nil || len(r.URIs) != 10 {
		t.Errorf("got %d places, %v; want 10", len(r.URIs), err)
	}
}

func TestLookupRecord(t *testing.T) {
	t.Parallel()
	z, err := resolver.NewZone(`$ORIGIN example.org.
_smtp._tls      TXT "v=TLSRPTv1; " "rua=mailto:a@example.org"
_smtp._tls      TXT "other"
_smtp._tls.two  TXT "v=TLSRPTv1; rua=mailto:a@example.org"
_smtp._tls.two  TXT "v=TLSRPTv1; rua=mailto:b@example.org"
!servfail _smtp._tls.dead.example.org
`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"example.org": nil, "two.example.org": tlsrpt.ErrNoRecord, "none.example.org": tlsrpt.ErrNoRecord, "dead.example.org": resolver.ErrTemporary} {
		d, _ := address.ParseDomain(name)
		if _, err := tlsrpt.LookupRecord(t.Context(), z, d); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

// TestMox runs the cases of mox, without deviation.
func TestMox(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	text, err := os.ReadFile(filepath.Join(dir, "records", "mox-record-syntax.json"))
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	var cases []struct {
		Kind, Input, Note string
		Valid             bool
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, c := range cases {
		if c.Kind != "tlsrpt-record/Record" {
			continue
		}
		ran++
		if _, err := tlsrpt.ParseRecord(c.Input); (err == nil) != c.Valid {
			t.Errorf("%q (%s): got %v, want valid %v", c.Input, c.Note, err, c.Valid)
		}
	}
	if ran < 10 {
		t.Errorf("ran %d cases", ran)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("v=TLSRPTv1; rua=mailto:a@example.com,https://b.example/x; ext=1;")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := tlsrpt.ParseRecord(s)
		if err != nil {
			return
		}
		again, err := tlsrpt.ParseRecord(r.String())
		if err != nil || cmp.Diff(r.String(), again.String()) != "" {
			t.Errorf("%q: %q became %q, %v", s, r, again, err)
		}
	})
}

func TestNewRecord(t *testing.T) {
	t.Parallel()
	a, err := address.Parse("tls@example.org")
	if err != nil {
		t.Fatal(err)
	}
	b, err := address.Parse(`"a,b;c!"@example.org`)
	if err != nil {
		t.Fatal(err)
	}
	const want = "v=TLSRPTv1; rua=mailto:tls@example.org,mailto:%22a%2Cb%3Bc%21%22@example.org"
	if got := tlsrpt.NewRecord(a, b).String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := tlsrpt.ParseRecord(want); err != nil {
		t.Error(err)
	}
}
