package arc_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/arc"
	"poczta.example/poczta/internal/arc/arctest"
	"poczta.example/poczta/internal/dkim"
)

const letter = "From: Ala <ala@example.net>\r\nTo: list@example.org\r\nSubject: cat\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\nHas a cat.\r\n"

const said = "mx.example.org; spf=pass smtp.mailfrom=example.net; dmarc=pass header.from=example.net"

// records publishes the keys of sealers.
func records(sealers ...*arctest.Sealer) *zone {
	z := &zone{texts: map[string]string{}}
	for _, s := range sealers {
		z.texts[s.Name()] = s.Record()
	}
	return z
}

// chain seals a message n times.
func chain(t testing.TB, s *arctest.Sealer, n int) string {
	t.Helper()
	msg, cv := letter, "none"
	for i := range n {
		msg, cv = s.Seal(t, msg, i+1, cv, said), "pass"
	}
	return msg
}

func TestChains(t *testing.T) {
	t.Parallel()
	a, b := arctest.New("a.example"), arctest.New("b.example")
	partial := arctest.New("p.example")
	partial.Extra = "l=5; "
	future := arctest.New("f.example")
	future.Time = 1 << 33
	now := time.Unix(20000, 0)
	one := a.Seal(t, letter, 1, "none", said)
	down := records(a)
	down.texts[a.Name()] = "down"
	weak := records(a)
	weak.texts[a.Name()] = "v=DKIM1; k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAL"
	tests := []struct {
		name   string
		msg    string
		z      *zone
		status arc.Status
		err    error
		oldest int
		asked  int
	}{
		{"no chain", letter, records(a), arc.None, nil, 0, 0},
		{"one set", one, records(a), arc.Pass, nil, 1, 1},
		{"two sealers", b.Seal(t, one, 2, "pass", said), records(a, b), arc.Pass, nil, 1, 2},
		{"changed between two sealers", b.Seal(t, strings.Replace(one, "Subject: cat", "Subject: [list] cat", 1), 2, "pass", said), records(a, b), arc.Pass, nil, 2, 2},
		{"body changed", strings.Replace(one, "Has a", "Had a", 1), records(a), arc.Fail, dkim.ErrBodyHash, 0, 0},
		{"field changed", strings.Replace(one, "Subject: cat", "Subject: dog", 1), records(a), arc.Fail, dkim.ErrSignature, 0, 1},
		{"results changed", strings.Replace(one, "spf=pass", "spf=fail", 1), records(a), arc.Fail, arc.ErrSeal, 0, 1},
		{"seal of another", strings.Replace(b.Seal(t, one, 2, "pass", said), "i=1; a=ed25519-sha256; cv=none; d=a.example", "i=1; a=ed25519-sha256; cv=none; d=b.example", 1), records(a, b), arc.Fail, arc.ErrSeal, 0, 1},
		{"no key", one, records(b), arc.Fail, dkim.ErrNoKey, 0, 1},
		{"DNS down", one, down, arc.Fail, dkim.ErrKeyFetch, 0, 1},
		{"broken key", one, weak, arc.Fail, dkim.ErrKeySyntax, 0, 1},
		{"part of the body", partial.Seal(t, letter, 1, "none", said), records(partial), arc.Fail, dkim.ErrPartial, 0, 0},
		{"future", future.Seal(t, letter, 1, "none", said), records(future), arc.Fail, dkim.ErrFuture, 0, 0},
		{"fifty sets", chain(t, a, 50), records(a), arc.Pass, nil, 41, 1},
		{"ten sets", chain(t, a, 10), records(a), arc.Pass, nil, 1, 1},
		{"fifty-one sets", a.Seal(t, chain(t, a, 50), 51, "pass", said), records(a), arc.Fail, arc.ErrInstances, 0, 0},
		{"instance out of all bounds", "ARC-Seal: i=99999999999999999999\r\n" + letter, records(a), arc.Fail, arc.ErrSyntax, 0, 0},
		{"gap", a.Seal(t, letter, 2, "pass", said), records(a), arc.Fail, arc.ErrStructure, 0, 0},
		{"repeated", "ARC-Seal: i=1\r\n" + one, records(a), arc.Fail, arc.ErrStructure, 0, 0},
		{"cv=fail", a.Seal(t, letter, 1, "fail", said), records(a), arc.Fail, arc.ErrFailed, 0, 0},
		{"cv=pass at first", a.Seal(t, letter, 1, "pass", said), records(a), arc.Fail, arc.ErrStructure, 0, 0},
		{"seal with h=", strings.Replace(one, "ARC-Seal: i=1;", "ARC-Seal: i=1; h=from;", 1), records(a), arc.Fail, arc.ErrSyntax, 0, 0},
		{"huge field", "ARC-Seal: i=1; x=" + strings.Repeat("x", dkim.MaxFieldOctets) + "\r\n" + letter, records(a), arc.Fail, arc.ErrSyntax, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := &zone{texts: tt.z.texts}
			got := validate(t, z, tt.msg, now)
			if got.Status != tt.status || !errors.Is(got.Err, tt.err) || got.Oldest != tt.oldest {
				t.Errorf("got %s, oldest %d, %v, want %s, %d, %v", got.Status, got.Oldest, got.Err, tt.status, tt.oldest, tt.err)
			}
			if z.asked != tt.asked {
				t.Errorf("%d look-ups, want %d", z.asked, tt.asked)
			}
		})
	}
}

func TestResult(t *testing.T) {
	t.Parallel()
	a, b := arctest.New("a.example"), arctest.New("b.example")
	msg := b.Seal(t, a.Seal(t, letter, 1, "none", said), 2, "pass", "mx.b.example; arc=pass; dmarc=fail")
	got := validate(t, records(a, b), msg, time.Unix(20000, 0))
	var sealers []string
	for _, d := range got.Sealers {
		sealers = append(sealers, d.String())
	}
	if d := cmp.Diff([]string{"a.example", "b.example"}, sealers); d != "" || got.Instances != 2 {
		t.Errorf("%d instances: %s", got.Instances, d)
	}
	if r := got.AuthResults; len(r) != 2 || r[0].ID != "mx.example.org" || r[0].Of("dmarc")[0].Get("header", "from") != "example.net" || r[1].Of("dmarc")[0].Value != "fail" {
		t.Errorf("got %+v", r)
	}
}

func TestTrusted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sealers string
		status  arc.Status
		want    int
	}{
		{"good", arc.Pass, 1}, {"bad", arc.Pass, 0}, {"good good", arc.Pass, 1}, {"bad good", arc.Pass, 2}, {"good bad", arc.Pass, 0},
		{"good bad good", arc.Pass, 3}, {"bad good good", arc.Pass, 2}, {"good", arc.Fail, 0}, {"", arc.None, 0},
	} {
		r := arc.Result{Status: tt.status}
		for name := range strings.FieldsSeq(tt.sealers) {
			d, err := address.ParseDomain(name + ".example")
			if err != nil {
				t.Fatal(err)
			}
			r.Sealers = append(r.Sealers, d)
		}
		if got := r.Trusted(func(d address.Domain) bool { return d.String() == "good.example" }); got != tt.want {
			t.Errorf("%s %s: got %d, want %d", tt.sealers, tt.status, got, tt.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	keys, err := dkim.NewVerifier(dkim.VerifierConfig{Records: records()})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []arc.Config{{}, {Keys: keys, MaxInstances: 51}, {Keys: keys, MinRSABits: 512}} {
		if _, err := arc.New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// FuzzChain: no header section makes a chain pass that no sealer made, and look-ups stay bounded.
func FuzzChain(f *testing.F) {
	a := arctest.New("a.example")
	one := a.Seal(f, letter, 1, "none", said)
	header, _, _ := strings.Cut(one, "\r\n\r\n")
	f.Add(header, 0, byte('x'))
	f.Add(a.Seal(f, one, 2, "pass", said), 40, byte(';'))
	f.Fuzz(func(t *testing.T, head string, at int, with byte) {
		if at >= 0 && at < len(head) {
			head = head[:at] + string(with) + head[at:]
		}
		z := records(a)
		r := validate(t, z, head+"\r\n\r\nanother body, which nobody sealed\r\n", time.Unix(20000, 0))
		if r.Status == arc.Pass || r.Instances > arc.MaxInstances || z.asked > 2*arc.MaxInstances {
			t.Fatalf("%s, %d instances, %d look-ups", r.Status, r.Instances, z.asked)
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	for _, n := range []int{1, 3, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			a := arctest.New("a.example")
			msg, z := chain(b, a, n), records(a)
			b.ReportAllocs()
			for b.Loop() {
				if r := validate(b, z, msg, time.Unix(20000, 0)); r.Status != arc.Pass {
					b.Fatal(r.Err)
				}
			}
		})
	}
}
