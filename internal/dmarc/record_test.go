package dmarc_test

import (
	"errors"
	"strings"
	"testing"

	"poczta.example/poczta/internal/dmarc"
)

// show writes a record's tags in one order, for tables.
func show(r *dmarc.Record) string {
	out := []string{r.Policy.String(), r.Subdomain.String(), r.NonExistent.String()}
	for _, f := range []struct {
		on   bool
		name string
	}{{r.StrictDKIM, "adkim=s"}, {r.StrictSPF, "aspf=s"}, {r.Testing, "t=y"}, {r.PSD == dmarc.PSDNo, "psd=n"}, {r.PSD == dmarc.PSDYes, "psd=y"}, {r.Percent != 100, "pct"}, {r.Options != "", "fo=" + r.Options}} {
		if f.on {
			out = append(out, f.name)
		}
	}
	for _, u := range r.Aggregate {
		out = append(out, "rua="+u.Text)
	}
	for _, u := range r.Failure {
		out = append(out, "ruf="+u.Text)
	}
	return strings.Join(out, " ")
}

func TestParseRecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in, want string
		err            error
	}{
		{"least", "v=DMARC1; p=none", "none none none", nil},
		{"no space", "v=DMARC1;p=reject;", "reject reject reject", nil},
		{"much space", "v = DMARC1 ;\tp = Quarantine ; sp=none ; ;", "quarantine none none", nil},
		{"np", "v=DMARC1; p=none; np=reject", "none none reject", nil},
		{"np falls back to sp", "v=DMARC1; p=reject; sp=quarantine", "reject quarantine quarantine", nil},
		{"any order", "v=DMARC1; rua=mailto:a@example.org; sp=reject; p=none", "none reject reject rua=mailto:a@example.org", nil},
		{"all", "v=DMARC1; p=reject; adkim=s; aspf=s; t=y; psd=n; pct=5; fo=1:d:s; ruf=mailto:b@example.org",
			"reject reject reject adkim=s aspf=s t=y psd=n pct fo=1:d:s ruf=mailto:b@example.org", nil},
		{"malformed tags are passed over", "v=DMARC1; p=reject; adkim=x; pct=200; fo=2; psd=q; bogus; =; a=\x01; rua=;", "reject reject reject", nil},
		{"uri percent and size", "v=DMARC1; p=none; rua=mailto:%61b@example.org!10m , mailto:x@example.net", "none none none rua=mailto:%61b@example.org rua=mailto:x@example.net", nil},
		{"other schemes", "v=DMARC1; p=none; rua=https://example.org/x,mailto:nobody,ftp:", "none none none rua=https://example.org/x", nil},
		{"no p and a place", "v=DMARC1; rua=mailto:a@example.org", "none none none rua=mailto:a@example.org", nil},
		{"bad p and a place", "v=DMARC1; p=drop; sp=reject; rua=mailto:a@example.org", "none none none rua=mailto:a@example.org", nil},
		{"bad sp and a place", "v=DMARC1; p=reject; sp=drop; rua=mailto:a@example.org", "none none none rua=mailto:a@example.org", nil},
		{"bad sp", "v=DMARC1; p=reject; sp=drop", "", dmarc.ErrSyntax},
		{"no p", "v=DMARC1; sp=reject", "", dmarc.ErrSyntax},
		{"twice", "v=DMARC1; p=none; P=reject", "", dmarc.ErrSyntax},
		{"v twice", "v=DMARC1; p=none; v=DMARC1", "", dmarc.ErrSyntax},
		{"too long", "v=DMARC1; p=none; x=" + strings.Repeat("a", 5000), "", dmarc.ErrSyntax},
		{"too many", "v=DMARC1; p=none; a=" + strings.Join(letters(100), "=1; ") + "=1", "", dmarc.ErrSyntax},
		{"other", "v=spf1 -all", "", dmarc.ErrNotDMARC},
		{"version", "v=DMARC12; p=none", "", dmarc.ErrNotDMARC},
		{"case", "v=dmarc1; p=none", "", dmarc.ErrNotDMARC},
		{"order of v", "p=none; v=DMARC1", "", dmarc.ErrNotDMARC},
		{"empty", "", "", dmarc.ErrNotDMARC},
	} {
		r, err := dmarc.ParseRecord(c.in)
		if !errors.Is(err, c.err) || (c.err == nil) != (err == nil) {
			t.Errorf("%s: got error %v, want %v", c.name, err, c.err)
		} else if err == nil && show(r) != c.want {
			t.Errorf("%s: got %s, want %s", c.name, show(r), c.want)
		}
	}
	r, err := dmarc.ParseRecord("v=DMARC1; p=none; rua=" + strings.Repeat("mailto:a@example.org,", 9))
	if err != nil || len(r.Aggregate) != dmarc.MaxURIs {
		t.Errorf("got %v, %v; want %d places", r, err, dmarc.MaxURIs)
	}
}

// letters are n names of tags.
func letters(n int) (out []string) {
	for i := range n {
		out = append(out, "x"+string(rune('a'+i/26))+string(rune('a'+i%26)))
	}
	return out
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{"": 0, "!1": 1, "!2k": 2 << 10, "!3M": 3 << 20, "!4g": 4 << 30, "!5t": 5 << 40, "!99999999999999999999": 0, "!9999999999999t": 0, "!0": 1} {
		r, err := dmarc.ParseRecord("v=DMARC1; p=none; rua=mailto:a@example.org" + in)
		if err != nil || len(r.Aggregate) != 1 || r.Aggregate[0].Max != want {
			t.Errorf("%q: got %v, %v; want %d", in, r, err, want)
		}
	}
	for _, in := range []string{"!", "!k", "!-1", "!1p", "!1kk"} {
		r, err := dmarc.ParseRecord("v=DMARC1; p=none; rua=mailto:a@example.org" + in)
		if err != nil || len(r.Aggregate) != 0 {
			t.Errorf("%q: got %v, %v; want no place", in, r, err)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("v=DMARC1; p=none; sp=reject; np=quarantine; rua=mailto:a@example.org!10m,https://b.example/; fo=1:d; t=y; psd=n; pct=5")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := dmarc.ParseRecord(s)
		if (r == nil) == (err == nil) {
			t.Fatalf("got %v and %v", r, err)
		}
		if err != nil {
			return
		}
		// What was read is read again from its own words.
		words := []string{"v=DMARC1", "p=" + r.Policy.String(), "sp=" + r.Subdomain.String(), "np=" + r.NonExistent.String()}
		var uris []string
		for _, u := range r.Aggregate {
			uris = append(uris, u.Text)
		}
		if len(uris) > 0 {
			words = append(words, "rua="+strings.Join(uris, ","))
		}
		again, err := dmarc.ParseRecord(strings.Join(words, "; "))
		if err != nil || again.Policy != r.Policy || again.Subdomain != r.Subdomain || again.NonExistent != r.NonExistent || len(again.Aggregate) != len(r.Aggregate) {
			t.Errorf("%q: %s", s, show(again))
		}
	})
}
