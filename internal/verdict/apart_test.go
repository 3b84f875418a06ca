package verdict_test

import (
	"testing"

	"poczta.example/poczta/internal/verdict"
)

// TestApart: what keeps a copy apart is the danger, however many points it has besides, since
// people release by themselves what merely looks like spam.
func TestApart(t *testing.T) {
	t.Parallel()
	settings := verdict.Settings{Thresholds: verdict.DefaultThresholds()}
	for name, test := range map[string]struct {
		items  []verdict.Item
		action verdict.Action
		want   string
	}{
		"score alone":                 {[]verdict.Item{{Name: verdict.ClassSpam}, {Name: verdict.DNSBlocked}}, verdict.Quarantine, "score 11.0 is at least 10.0"},
		"danger alone":                {[]verdict.Item{{Name: verdict.BadAttachment}}, verdict.Quarantine, "attachment_forbidden"},
		"danger and score":            {[]verdict.Item{{Name: verdict.BadAttachment}, {Name: verdict.DNSBlocked}}, verdict.Quarantine, "attachment_forbidden"},
		"danger, score would refuse":  {[]verdict.Item{{Name: verdict.BadAttachment}, {Name: verdict.DNSBlocked}, {Name: verdict.SpamTrap}}, verdict.Refuse, "attachment_forbidden"},
		"danger that demands nothing": {[]verdict.Item{{Name: verdict.Macros}, {Name: verdict.ClassSpam}}, verdict.Quarantine, "score 10.0 is at least 10.0"},
		"worst danger":                {[]verdict.Item{{Name: verdict.BadAttachment}, {Name: verdict.Virus}}, verdict.Refuse, "virus"},
	} {
		v := verdict.Decide(test.items, settings)
		if got := v.Apart(); v.Action != test.action || got != test.want {
			t.Errorf("%s: %s, apart by %q, want %s and %q", name, v.Action, got, test.action, test.want)
		}
	}
}
