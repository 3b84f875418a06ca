package preference

import (
	"fmt"
	"slices"

	"poczta.example/poczta/internal/verdict"
)

// Level is how strict the filters are; "" is what the server does.
type Level string

// The levels.
const (
	Lenient Level = "lenient" // thresholds half as high again
	Normal  Level = "normal"
	Strict  Level = "strict" // thresholds at seven tenths
	Off     Level = "off"    // the score has no consequence; what is dangerous is still kept out
)

// Wish is what becomes of spam that is not refused; "" is what the server does.
type Wish string

// The wishes.
const (
	WishJunk       Wish = "junk"       // into the junk folder, however high the score
	WishQuarantine Wish = "quarantine" // set apart: for people who read by POP3 and see no folders
	WishTag        Wish = "tag"        // into the INBOX, marked
	WishDeliver    Wish = "deliver"    // into the INBOX, unmarked
)

// Choice is yes, no, or "", what the server does.
type Choice string

// The choices.
const (
	Yes Choice = "yes"
	No  Choice = "no"
)

// Or is the choice, or what the server does.
func (c Choice) Or(server bool) bool {
	if c == "" {
		return server
	}
	return c == Yes
}

// Settings are what an account wishes. Zero fields are what the server does.
type Settings struct {
	Level    Level
	Wish     Wish
	Digest   Choice // of the quarantine, once a day
	Language string // of the digest: "en" or "pl"; "" is the account's
	Bulk     Choice // bulk mail is welcome in the INBOX
}

// Validate reports what no Settings may hold; errors wrap ErrInvalid.
func (s Settings) Validate() error {
	bad := func(what, value, use string) error {
		return fmt.Errorf("%s %q %w: use %s", what, value, ErrInvalid, use)
	}
	choices := []Choice{"", Yes, No}
	switch {
	case !slices.Contains([]Level{"", Lenient, Normal, Strict, Off}, s.Level):
		return bad("level", string(s.Level), "lenient, normal, strict or off")
	case !slices.Contains([]Wish{"", WishJunk, WishQuarantine, WishTag, WishDeliver}, s.Wish):
		return bad("wish", string(s.Wish), "junk, quarantine, tag or deliver")
	case !slices.Contains(choices, s.Digest):
		return bad("digest", string(s.Digest), "yes or no")
	case !slices.Contains(choices, s.Bulk):
		return bad("bulk", string(s.Bulk), "yes or no")
	case !slices.Contains([]string{"", "en", "pl"}, s.Language):
		return bad("language", s.Language, "en or pl")
	}
	return nil
}

// Thresholds are those of the account, made of the server's. A threshold of 0 is never reached.
func (s Settings) Thresholds(t verdict.Thresholds) verdict.Thresholds {
	factor := 1.0
	switch s.Level {
	case Lenient:
		factor = 1.5
	case Strict:
		factor = 0.7
	case Off:
		return verdict.Thresholds{Second: t.Second}
	}
	for _, f := range []*float64{&t.Tag, &t.Junk, &t.Quarantine, &t.Refuse, &t.Grey} {
		*f *= factor
	}
	switch s.Wish {
	case WishJunk:
		t.Quarantine = 0
	case WishQuarantine:
		if t.Junk > 0 {
			t.Quarantine, t.Junk = t.Junk, 0
		}
	case WishTag:
		t.Junk, t.Quarantine = 0, 0
	case WishDeliver:
		t.Tag, t.Junk, t.Quarantine = 0, 0, 0
	}
	return t
}
