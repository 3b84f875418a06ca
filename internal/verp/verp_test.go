package verp_test

import (
	"errors"
	"strings"
	"testing"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/verp"
)

func addr(t testing.TB, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestPath(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sender, to string
		d          verp.Delimiters
		want       string
	}{
		{"ala@example.org", "jan@example.net", verp.Default, "ala+jan=example.net@example.org"},
		{"owner-list@example.org", "Jan@example.net", "+-", "owner-list+Jan-example.net@example.org"},
		{"ala@example.org", "a+b=c-d@example.net", "-=", "ala-a+b=c-d=example.net@example.org"},
		{"ala@example.org", `"jan kowalski"@example.net`, verp.Default, `"ala+jan kowalski=example.net"@example.org`},
		{"ala@example.org", "jan@[192.0.2.1]", verp.Default, `"ala+jan=[192.0.2.1]"@example.org`},
		{"ala@example.org", "jan@żółw.example", verp.Default, "ala+jan=xn--w-uga1v8h.example@example.org"},
		{"ala@example.org", "żółw@example.net", "==", "ala=żółw=example.net@example.org"},
	} {
		sender, to := addr(t, tt.sender), addr(t, tt.to)
		got, err := verp.Path(sender, address.NewForwardPath(to), tt.d)
		if err != nil || got.String() != tt.want {
			t.Errorf("%s to %s: %s, %v; want %s", tt.sender, tt.to, got, err, tt.want)
			continue
		}
		if !verp.Names(got, sender, to) || verp.Names(got, sender, addr(t, "other@example.net")) || verp.Names(sender, sender, to) {
			t.Errorf("%s does not name %s alone", got, tt.to)
		}
		if !guessed(got, string(tt.d[:1]), sender, to) && !strings.Contains(sender.Local(), string(tt.d[:1])) {
			t.Errorf("%s is not read as %s: %v", got, tt.to, verp.Guesses(got, string(tt.d[:1])))
		}
	}
	if got, err := verp.Path(addr(t, "ala@example.org"), address.Postmaster(), verp.Default); err != nil || got.String() != "ala+postmaster@example.org" {
		t.Errorf("postmaster: %s, %v", got, err)
	}
}

func guessed(a address.Address, separator string, sender, to address.Address) bool {
	for _, g := range verp.Guesses(a, separator) {
		if g.Sender.Key() == sender.Key() && g.Recipient.Key() == to.Key() {
			return true
		}
	}
	return false
}

func TestRefused(t *testing.T) {
	t.Parallel()
	sender := addr(t, "ala@example.org")
	for _, d := range []verp.Delimiters{"", "+", "+==", "+_", "a="} {
		if _, err := verp.Path(sender, address.Postmaster(), d); err == nil || d.Valid() {
			t.Errorf("delimiters %q are taken", d)
		}
	}
	fits := strings.Repeat("a", 256-len("<ala+=example.net@example.org>")) + "@example.net"
	if a, err := verp.Path(sender, address.NewForwardPath(addr(t, fits)), verp.Default); err != nil || len(a.String()) != 254 {
		t.Errorf("a path of %d octets: %v", len(a.String())+2, err)
	}
	for _, to := range []string{"a" + fits, strings.Repeat("a", 256) + "@example.net"} {
		if _, err := verp.Path(sender, address.NewForwardPath(addr(t, to)), verp.Default); !errors.Is(err, verp.ErrTooLong) {
			t.Errorf("%d octets: %v", len(to), err)
		}
	}
	for _, a := range []string{"ala@example.org", "ala+shop@example.org", "ala+=example.net@example.org", "+jan=example.net@example.org", "ala+jan=@example.org"} {
		if g := verp.Guesses(addr(t, a), "+"); len(g) != 0 {
			t.Errorf("%s is read as %v", a, g)
		}
	}
	if g := verp.Guesses(addr(t, "ala+jan=example.net@example.org"), ""); g != nil {
		t.Errorf("without subaddresses: %v", g)
	}
}

// FuzzGuesses: few readings, and one of them is what was written.
func FuzzGuesses(f *testing.F) {
	f.Add("jan@example.net", "+=")
	f.Add("a-b=c+d@x-y-z.example", "--")
	f.Add("jan@[192.0.2.1]", "=+")
	sender := addr(f, "ala@example.org")
	f.Fuzz(func(t *testing.T, to, delimiters string) {
		for _, sep := range []string{"-", "+", "="} {
			if a, err := sender.WithLocal(to); err == nil && len(verp.Guesses(a, sep)) > verp.MaxGuesses {
				t.Fatalf("%d readings", len(verp.Guesses(a, sep)))
			}
		}
		rcpt, err := address.Parse(to)
		d := verp.Delimiters(delimiters)
		if err != nil || !d.Valid() {
			return
		}
		a, err := verp.Path(sender, address.NewForwardPath(rcpt), d)
		if err != nil {
			return
		}
		if !verp.Names(a, sender, rcpt) {
			t.Fatalf("%s does not name %s", a, rcpt)
		}
		if d[1] != '-' && !guessed(a, delimiters[:1], sender, rcpt) {
			t.Fatalf("%s is not read as %s: %v", a, rcpt, verp.Guesses(a, delimiters[:1]))
		}
	})
}
