package verdict_test

import (
	"testing"

	"poczta.example/poczta/internal/verdict"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	items := func(names ...verdict.Name) []verdict.Item {
		var out []verdict.Item
		for _, n := range names {
			out = append(out, verdict.Item{Name: n})
		}
		return out
	}
	plain := verdict.Settings{Thresholds: verdict.DefaultThresholds()}
	role := plain
	role.Role = true
	for _, tt := range []struct {
		name     string
		items    []verdict.Item
		settings verdict.Settings
		want     verdict.Action
		rule     string
	}{
		{"nothing known", nil, plain, verdict.Deliver, "score 0.0 is below 3.0"},
		{"a little", items(verdict.SPFFail), plain, verdict.Tag, "score 3.0 is at least 3.0"},
		{"spam", items(verdict.SPFFail, verdict.DNSBlocked), plain, verdict.Junk, "score 7.0 is at least 6.0"},
		{"p=reject alone sets apart", items(verdict.DMARCReject, verdict.SPFFail), plain, verdict.Quarantine, "dmarc_reject"},
		{"p=reject with a second reason", items(verdict.DMARCReject, verdict.DNSBlocked), plain, verdict.Refuse, "dmarc_reject"},
		{"p=reject and a virus suspected", items(verdict.DMARCReject, verdict.VirusHeurist), plain, verdict.Refuse, "dmarc_reject"},
		{"what speaks for it is no reason against", items(verdict.DMARCReject, verdict.MailingList, verdict.Correspondent), plain, verdict.Quarantine, "dmarc_reject"},
		{"p=quarantine", items(verdict.DMARCQuarant), plain, verdict.Quarantine, "dmarc_quarantine"},
		{"a virus", items(verdict.Virus, verdict.Allowed), plain, verdict.Refuse, "virus"},
		{"allowed", items(verdict.DNSBlocked, verdict.ClassSpam, verdict.Allowed), plain, verdict.Deliver, "allowed"},
		{"allowed, but blocked by the operator", items(verdict.BlockedCommon, verdict.Allowed), plain, verdict.Refuse, "blocked_common"},
		{"blocked and allowed", items(verdict.Blocked, verdict.Allowed), plain, verdict.Quarantine, "blocked"},
		{"postmaster gets spam, marked", items(verdict.DNSBlocked, verdict.ClassSpam, verdict.SpamTrap), role, verdict.Tag, "role address"},
		{"but no virus", items(verdict.Virus), role, verdict.Refuse, "virus"},
		{"a filter's own demand", []verdict.Item{{Name: verdict.Milter, Demand: verdict.Discard}}, plain, verdict.Discard, "milter"},
		{"a filter that is down, closed", []verdict.Item{{Name: verdict.FilterDown, Demand: verdict.Defer}}, plain, verdict.Defer, "filter_unavailable"},
		{"evidence nobody knows", items("invented"), plain, verdict.Deliver, "score 0.0 is below 3.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := verdict.Decide(tt.items, tt.settings); got.Action != tt.want || got.Rule != tt.rule {
				t.Errorf("got %s by %q, want %s by %q", got.Action, got.Rule, tt.want, tt.rule)
			}
		})
	}
}

func TestWeigh(t *testing.T) {
	t.Parallel()
	long := string(make([]byte, 3*verdict.MaxDetailOctets))
	got := verdict.Weigh([]verdict.Item{{Name: verdict.DNSBlocked, Scale: 0.5, Detail: long}, {Name: verdict.SPFPass}}, map[verdict.Name]float64{verdict.SPFPass: -1})
	if got[0].Points != 2 || got[1].Points != -1 || len(got[0].Detail) != verdict.MaxDetailOctets {
		t.Errorf("got %v and %v points, %d octets of detail", got[0].Points, got[1].Points, len(got[0].Detail))
	}
}

// TestTable: every row says what it means, and nothing of a kind that speaks for a message is against it.
func TestTable(t *testing.T) {
	t.Parallel()
	for name, row := range verdict.Rows {
		if row.Meaning == "" || row.Meaning[len(row.Meaning)-1] != '.' {
			t.Errorf("%s has no sentence", name)
		}
		if row.Pardons && row.Weight > 0 {
			t.Errorf("%s pardons and counts %v", name, row.Weight)
		}
	}
	for a := verdict.Deliver; a <= verdict.Discard; a++ {
		if back, err := verdict.ParseAction(a.String()); err != nil || back != a {
			t.Errorf("%s is read as %s (%v)", a, back, err)
		}
	}
	if _, err := verdict.ParseAction("explode"); err == nil {
		t.Error("an unknown action is taken")
	}
}
