package profile_test

import (
	"errors"
	"strings"
	"testing"

	"poczta.example/poczta/internal/mua/profile"
)

func archive(name string) profile.Account {
	return profile.Account{Address: name, Archive: true, Policy: profile.Policy{Keep: profile.Leave}}
}

func TestChooseServed(t *testing.T) {
	t.Parallel()
	ala, ewa, old, alas := account("ala@example.org"), account("ewa@example.org"), archive("Old mail"), archive("ala's")
	for name, tt := range map[string]struct {
		all       []profile.Account
		say, want string // an address, or a piece of the error
		archive   bool
	}{
		"the only one":                {[]profile.Account{ala}, "", "ala@example.org", false},
		"an archive beside it":        {[]profile.Account{old, ala}, "", "ala@example.org", false},
		"two":                         {[]profile.Account{old, ala, ewa}, "", "there are 2 accounts; name one: ala@example.org, ewa@example.org", false},
		"only an archive":             {[]profile.Account{old}, "", "only an archive; set one up with: poczta mail add ADDRESS", true},
		"none":                        {nil, "", "there is no account yet", false},
		"an archive by its name":      {[]profile.Account{old, ala}, "old mail", "Old mail: this is an archive", true},
		"a beginning of both":         {[]profile.Account{alas, ala}, "ala", "ala@example.org", false},
		"a beginning of two archives": {[]profile.Account{old, archive("Older"), ala}, "old", `"old": no such account`, false},
		"nothing of this name":        {[]profile.Account{old, ala}, "jan", `"jan": no such account`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := profile.ChooseServed(tt.all, tt.say)
			got := a.Address
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) || errors.Is(err, profile.ErrArchive) != tt.archive {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestArchiveNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"archive", "Old mail", "Żółw 1999", "a.b_c-d"} {
		if a := archive(name); a.Validate() != nil {
			t.Errorf("%q: %v", name, a.Validate())
		}
	}
	for _, name := range []string{"", "7", "ala@example.org", " a", "a ", "a\tb", "a\"b", "-a", "a/b", "a\x1b[2J", "a\u202eb", strings.Repeat("a", 101)} {
		if a := archive(name); a.Validate() == nil {
			t.Errorf("%q is taken", name)
		}
	}
	for name, change := range map[string]func(*profile.Account){
		"servers": func(a *profile.Account) { a.Incoming = account("a@b.example").Incoming },
		"aliases": func(a *profile.Account) { a.Aliases = []string{"a@b.example"} },
	} {
		a := archive("old")
		change(&a)
		if a.Validate() == nil {
			t.Errorf("an archive with %s is taken", name)
		}
	}
}
