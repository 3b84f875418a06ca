package authres_test

import (
	"errors"
	"strings"
	"testing"

	"poczta.example/poczta/internal/authres"
)

func TestParseID(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"plain", "mx.example.org; spf=pass", "mx.example.org"},
		{"version", "mx.example.org 1; none", "mx.example.org"},
		{"alone", "mx.example.org", "mx.example.org"},
		{"comment", " (a (b) \\( c) mx.example.org (d) 1; none", "mx.example.org"},
		{"quoted", `"mx \"x\".example"; none`, `mx "x".example`},
		{"utf-8", "żółw.example; none", "żółw.example"},
		{"empty", "", ""}, {"semicolon", "; spf=pass", ""}, {"comment only", "(x)", ""}, {"open comment", "(x", ""},
		{"open quote", `"x`, ""}, {"empty quote", `""; none`, ""}, {"address", "@x; none", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := authres.ParseID(tt.in)
			if got != tt.want || (err != nil) != (tt.want == "") || err != nil && !errors.Is(err, authres.ErrSyntax) {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in, id string
		want   bool
	}{
		{"mx.example.org; spf=pass", "mx.example.org", true},
		{"MX.Example.ORG; spf=pass", "mx.example.org", true},
		{"(c)\"mx.example.org\" 1; spf=pass", "mx.example.org", true},
		{"mx.example.org.; spf=pass", "mx.example.org", true},
		{"żółw.example; spf=pass", "xn--w-uga1v8h.example", true},
		{"mx.example.net; spf=pass", "mx.example.org", false},
		{"mx.example.org.evil.example; spf=pass", "mx.example.org", false},
		{"x mx.example.org; spf=pass", "mx.example.org", false},
		{"", "mx.example.org", true},
		{"(open; spf=pass", "mx.example.org", true},
	}
	for _, tt := range tests {
		if got := authres.Claims(tt.in, tt.id); got != tt.want {
			t.Errorf("%q of %s: got %v", tt.in, tt.id, got)
		}
	}
}

// FuzzClaims holds that a claim can't be hidden behind comments, quotes or case.
func FuzzClaims(f *testing.F) {
	f.Add("x", "y")
	f.Add("a(b\\)c", "; none")
	f.Fuzz(func(t *testing.T, comment, rest string) {
		comment = strings.NewReplacer("(", "", ")", "", "\\", "").Replace(comment)
		for _, id := range []string{"mx.example.org", `"mx.example.org"`, "MX.example.org"} {
			if !authres.Claims("("+comment+") "+id+";"+rest, "mx.example.org") {
				t.Fatalf("(%s) %s; %s is not seen", comment, id, rest)
			}
		}
		if id, err := authres.ParseID(rest); (err == nil) != (id != "") {
			t.Fatalf("%q: %q, %v", rest, id, err)
		}
	})
}
