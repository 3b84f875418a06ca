package srs_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/srs"
)

var (
	now = time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC)
	old = []byte("an old secret of 24 octets")
	key = []byte("the secret of these tests")
)

func addr(t testing.TB, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func rewriter(t testing.TB, secrets ...[]byte) *srs.Rewriter {
	t.Helper()
	w, err := srs.New(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestForms(t *testing.T) {
	t.Parallel()
	w := rewriter(t, key)
	for _, tt := range []struct{ name, from, want string }{
		{"plain", "jan@example.net", "SRS0=*=*=example.net=jan@forward.example"},
		{"separators", "a=b+c-d@example.net", "SRS0=*=*=example.net=a=b+c-d@forward.example"},
		{"quoted", `"jan kowalski"@example.net`, `"SRS0=*=*=example.net=jan kowalski"@forward.example`},
		{"literal", "jan@[192.0.2.1]", `"SRS0=*=*=[192.0.2.1]=jan"@forward.example`},
		{"another's SRS0", "SRS0=HHHH=TT=example.net=jan@other.example", "SRS1=*=*=other.example==HHHH=TT=example.net=jan@forward.example"},
		{"another's SRS0 with +", "srs0+HHHH=TT=example.net=jan@other.example", "SRS1=*=*=other.example=+HHHH=TT=example.net=jan@forward.example"},
		{"another's SRS1", "SRS1=GGGG=other.example==HHHH=TT=example.net=jan@third.example", "SRS1=*=*=other.example==HHHH=TT=example.net=jan@forward.example"},
		{"ours by another node", "SRS1=GGGGGGGG=TTx=other.example==HHHH=TT=example.net=jan@third.example", "SRS1=*=*=other.example==HHHH=TT=example.net=jan@forward.example"},
		{"no real SRS1", "SRS1=x@third.example", "SRS0=*=*=third.example=SRS1=x@forward.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, err := w.Forward(srs.Sender{Address: addr(t, tt.from), Owner: 7}, addr(t, "x@forward.example").Domain(), now)
			if err != nil {
				t.Fatal(err)
			}
			if got := blur(a.String()); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if !srs.Is(a) {
				t.Error("not recognised")
			}
		})
	}
}

// blur hides hash and day.
func blur(s string) string {
	p := strings.SplitN(s, "=", 4)
	if len(p) != 4 {
		return s
	}
	return p[0] + "=*=*=" + p[3]
}

// TestRoundTrip: whatever goes in comes out, in any case, under old secrets too, and
// through chains of forwarders.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	ours := addr(t, "x@forward.example").Domain()
	before, after := rewriter(t, old), rewriter(t, key, old)
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789=+-._ \"\\@ż"
	for range 5000 {
		local := make([]rune, 1+r.IntN(60))
		for i := range local {
			local[i] = []rune(letters)[r.IntN(len([]rune(letters)))]
		}
		from, err := address.New(string(local), addr(t, "x@"+[]string{"example.net", "a.b.c.example", "[IPv6:2001:db8::1]"}[r.IntN(3)]).Domain())
		if err != nil {
			t.Fatal(err)
		}
		want := srs.Sender{Address: from, Owner: r.Int64N(1 << r.IntN(62)), Verified: r.IntN(2) == 0}
		a, err := before.Forward(want, ours, now)
		if err != nil {
			t.Fatal(err)
		}
		a = addr(t, a.String()) // as it comes back
		got, err := after.Reverse(a, now.Add(time.Duration(r.Int64N(int64(srs.Validity)))))
		if err != nil || got != want {
			t.Fatalf("%s: got %v, %v, want %v", a, got, err, want)
		}
		folded, err := a.WithLocal(strings.ToLower(a.Local()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := after.Reverse(folded, now); err != nil || got.Address.Key() != want.Address.Key() || got.Owner != want.Owner || got.Verified != want.Verified {
			t.Fatalf("folded %s: got %v, %v, want %v", folded, got, err, want)
		}
	}
}

// TestChain: mail that three hosts forward comes back in two steps, since SRS1 does not grow.
func TestChain(t *testing.T) {
	t.Parallel()
	first, second, third := rewriter(t, key), rewriter(t, old), rewriter(t, []byte("the third host's secret"))
	d := func(s string) address.Domain { return addr(t, "x@"+s).Domain() }
	from := addr(t, "jan@example.net")
	a, err1 := first.Forward(srs.Sender{Address: from}, d("one.example"), now)
	b, err2 := second.Forward(srs.Sender{Address: a}, d("two.example"), now)
	c, err3 := third.Forward(srs.Sender{Address: b}, d("three.example"), now)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if len(c.Local()) > len(b.Local()) {
		t.Errorf("%s is longer than %s", c, b)
	}
	back, err := third.Reverse(c, now)
	if err != nil || back.Address != a {
		t.Fatalf("the third host returns to %v, %v, want %s", back, err, a)
	}
	if back, err = first.Reverse(back.Address, now); err != nil || back.Address != from {
		t.Errorf("the first host returns to %v, %v, want %s", back, err, from)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	w := rewriter(t, key)
	ours := addr(t, "x@forward.example").Domain()
	good, err := w.Forward(srs.Sender{Address: addr(t, "jan@example.net")}, ours, now)
	if err != nil {
		t.Fatal(err)
	}
	verified, err := w.Forward(srs.Sender{Address: addr(t, "jan@example.net"), Verified: true}, ours, now)
	if err != nil {
		t.Fatal(err)
	}
	part := strings.Split(verified.String(), "=")
	for _, tt := range []struct {
		name, a string
		at      time.Time
		want    error
	}{
		{"good", good.String(), now, nil},
		{"last day", good.String(), now.Add(srs.Validity), nil},
		{"another node's clock is behind", good.String(), now.Add(-23 * time.Hour), nil},
		{"too old", good.String(), now.Add(srs.Validity + 24*time.Hour), srs.ErrExpired},
		{"from the future", good.String(), now.Add(-49 * time.Hour), srs.ErrExpired},
		{"no SRS", "jan@example.net", now, srs.ErrNotSRS},
		{"begins like it", "srs0x@forward.example", now, srs.ErrNotSRS},
		{"nothing behind it", "SRS0=@forward.example", now, srs.ErrForged},
		{"another host's name", strings.Replace(good.String(), "jan", "ola", 1), now, srs.ErrForged},
		{"another domain of ours", strings.Replace(good.String(), "forward", "other", 1), now, srs.ErrForged},
		{"as SRS1", strings.Replace(good.String(), "SRS0", "SRS1", 1), now, srs.ErrForged},
		{"flag taken over", strings.Replace(good.String(), strings.Split(good.String(), "=")[2], part[2], 1), now, srs.ErrForged},
		{"short hash", "SRS0=AAAA=AA=example.net=jan@forward.example", now, srs.ErrForged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := w.Reverse(addr(t, tt.a), tt.at); !errors.Is(err, tt.want) {
				t.Errorf("%s: got %v, want %v", tt.a, err, tt.want)
			}
		})
	}
	if _, err := rewriter(t, old).Reverse(good, now); !errors.Is(err, srs.ErrForged) {
		t.Errorf("another's secret: %v", err)
	}
	long, err := address.New(strings.Repeat("a", 250), ours)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Forward(srs.Sender{Address: long}, ours, now); !errors.Is(err, srs.ErrTooLong) {
		t.Errorf("a sender of 250 octets: %v", err)
	}
	if _, err := srs.New([]byte("short")); err == nil {
		t.Error("a short secret is taken")
	}
	if _, err := srs.New(); err == nil {
		t.Error("no secret is taken")
	}
}

func TestMark(t *testing.T) {
	t.Parallel()
	both, one := rewriter(t, key, old), rewriter(t, old)
	m := both.Mark(addr(t, "Ala@example.org"))
	if len(m) != 2 || m[0] == m[1] || m[1] != one.Mark(addr(t, "ala@EXAMPLE.org"))[0] || m[0] == both.Mark(addr(t, "ola@example.org"))[0] {
		t.Errorf("marks %v", m)
	}
}

// FuzzReverse: nothing panics, and what is taken was made here.
func FuzzReverse(f *testing.F) {
	for _, s := range []string{"SRS0=AAAAAAAA=AA=example.net=jan", "SRS1=AAAAAAAA=AA=a.example==H=T=b.example=jan", "srs0+x", "SRS1=="} {
		f.Add(s)
	}
	w := rewriter(f, key)
	other := rewriter(f, old)
	ours := addr(f, "x@forward.example").Domain()
	f.Fuzz(func(t *testing.T, local string) {
		a, err := address.New(local, ours)
		if err != nil {
			return
		}
		if s, err := w.Reverse(a, now); err == nil {
			again, err := w.Forward(s, ours, now)
			if err != nil || !strings.EqualFold(again.Local()[:13], a.Local()[:13]) && s.Address.IsASCII() {
				t.Fatalf("%q was taken for %v, which gives %v, %v", local, s, again, err)
			}
		}
		s := srs.Sender{Address: a}
		b, err := other.Forward(s, ours, now)
		if err != nil {
			return
		}
		back, err := other.Reverse(b, now)
		kind := strings.ToUpper(b.Local()[:4])
		if err != nil || kind == "SRS0" && back != s {
			t.Fatalf("%q became %s and returns as %v, %v", local, b, back, err)
		}
	})
}
