package spf_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"hash/fnv"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/spf"
)

// seeds are records of others' fuzzing and our own.
func seeds(f *testing.F) []string {
	f.Helper()
	all := []string{
		"v=spf1 a mx ptr include:%{d} exists:%{ir}.%{v}.%{l1r-}.%{p} redirect=%{o}", "v=spf1 ip4:1.2.3.4/8 ip6:::/0 -all exp=%{d}",
		"v=spf1 include:a.example include:b.example include:c.example ?all", "v=spf1 exists:%{s500r+-}%{S}%{h}.example", "v=spf1 exp=x.y foo=%{t}",
	}
	name := os.Getenv("POCZTA_TESTDATA") + "/spf/albertito-spf/gofuzz-seeds.tar.gz"
	file, err := os.Open(name)
	if err != nil {
		f.Logf("without the foreign seeds: %v", err)
		return all
	}
	defer file.Close()
	zip, err := gzip.NewReader(file)
	if err != nil {
		f.Fatal(err)
	}
	for r := tar.NewReader(zip); ; {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			f.Fatal(err)
		}
		text, err := io.ReadAll(io.LimitReader(r, 1<<20))
		if err != nil {
			f.Fatal(err)
		}
		_, value, ok := strings.Cut(string(text), "string(")
		value = strings.TrimSuffix(strings.TrimSpace(value), ")")
		if s, err := strconv.Unquote(value); ok && err == nil {
			all = append(all, s)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rec, err := spf.ParseRecord(s)
		if err == nil == (rec == nil) || err != nil && !errors.Is(err, spf.ErrSyntax) {
			t.Errorf("got %v, %v", rec, err)
		}
		if _, again := spf.ParseRecord(s + " "); err == nil && len(s) < spf.MaxRecordOctets && again != nil {
			t.Errorf("a space at the end: %v", again)
		}
	})
}

func FuzzExpand(f *testing.F) {
	for _, s := range seeds(f) {
		for term := range strings.FieldsSeq(s) {
			f.Add(term, "a.b-c@x.example", "helo.example")
		}
	}
	f.Fuzz(func(t *testing.T, spec, sender, helo string) {
		if strings.Contains(strings.ToLower(spec), "%{p") { // needs a resolver
			return
		}
		got, err := spf.Expand(spf.Request{IP: netip.MustParseAddr("2001:db8::1"), Sender: sender, Helo: helo}, spec, "x.example")
		if err == nil && len(got) > len(spec)+4096+8*1024 {
			t.Errorf("%d octets", len(got))
		}
	})
}

// adversary answers every question as text decides, with as many records as hurt.
type adversary struct {
	texts []string
	salt  byte
	n     int
}

func (a *adversary) Lookup(_ context.Context, name string, t resolver.Type) (resolver.Answer, error) {
	a.n++
	h := fnv.New32a()
	_, _ = h.Write(append([]byte(name), a.salt, byte(t), byte(a.n)))
	dice := h.Sum32()
	switch dice % 8 {
	case 0:
		return resolver.Answer{}, &resolver.Absent{Name: name}
	case 1:
		return resolver.Answer{}, resolver.ErrName
	case 2:
		if dice%3 == 0 {
			return resolver.Answer{}, resolver.ErrTemporary
		}
	}
	ans := resolver.Answer{Name: name}
	for i := range int(dice>>8) % 40 {
		ans.Records = append(ans.Records, resolver.Record{
			Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), Host: a.texts[i%len(a.texts)], Text: a.texts[i%len(a.texts)],
		})
		if t == resolver.TXT {
			ans.Records[0].Text = a.texts[int(dice>>16)%len(a.texts)]
			break
		}
	}
	return ans, nil
}

// FuzzCheck has DNS in an enemy's hands: a check ends, with a bounded number of questions and
// nothing in its result that could not be shown.
func FuzzCheck(f *testing.F) {
	all := seeds(f)
	for i, s := range all {
		f.Add(s, all[(i+1)%len(all)], "user+x@example.org", "helo.example", byte(i))
	}
	f.Fuzz(func(t *testing.T, first, second, sender, helo string, salt byte) {
		a := &adversary{texts: []string{first, second, "v=spf1 include:%{l}.example mx exists:%{p} redirect=%{d}", "v=spf1 " + first}, salt: salt}
		checker := newChecker(t, spf.Config{Resolver: a})
		for _, ip := range []string{"192.0.2.3", "2001:db8::3"} {
			a.n = 0
			got := checker.Check(t.Context(), spf.Request{IP: netip.MustParseAddr(ip), Sender: sender, Helo: helo})
			if a.n > 11*11+1 || got.Lookups > 10 || got.Voids > 3 {
				t.Errorf("%d questions, %d look-ups, %d voids", a.n, got.Lookups, got.Voids)
			}
			if len(got.Explanation) > spf.MaxExplanation || len(got.Mechanism) > 500 {
				t.Errorf("%+v", got)
			}
			for _, c := range []byte(got.Explanation + got.Mechanism) {
				if c < ' ' || c > '~' {
					t.Errorf("octet %#x in %+v", c, got)
				}
			}
			if err := got.Err; err != nil && strings.ContainsFunc(got.Domain+err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("octets that can't be shown in %q", err)
			}
			if (got.Err != nil) != (got.Status == spf.TempError || got.Status == spf.PermError) {
				t.Errorf("%v with error %v", got.Status, got.Err)
			}
		}
	})
}

// BenchmarkCheck asks a cache for a record with ip4, and one with an include.
func BenchmarkCheck(b *testing.B) {
	z := zone(b, zoneText)
	cache, err := resolver.NewCache(resolver.CacheConfig{Resolver: z})
	if err != nil {
		b.Fatal(err)
	}
	checker := newChecker(b, spf.Config{Resolver: cache})
	for _, c := range []struct {
		name string
		q    spf.Request
		want spf.Status
	}{
		{"ip4", req("192.0.2.7", "a@example.org"), spf.Pass},
		{"include", req("203.0.113.20", "a@example.org"), spf.Pass},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := checker.Check(b.Context(), c.q); got.Status != c.want {
					b.Fatal(got)
				}
			}
		})
	}
}
