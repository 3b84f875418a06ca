package filter_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailtest/intaketest"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/verdict"
)

// question asks about a message to ala and to somebody elsewhere.
func question(t *testing.T, peer, from, msg string) filter.Question {
	t.Helper()
	header, body, _ := strings.Cut(msg, "\r\n\r\n")
	header += "\r\n"
	env := &envelope.Envelope{ReversePath: intaketest.From(t, from), Recipients: []envelope.Recipient{{ForwardPath: intaketest.To(t, ala)}, {ForwardPath: intaketest.To(t, "trap@example.org")}},
		Origin: envelope.Origin{Peer: netip.AddrPortFrom(netip.MustParseAddr(peer), 25), Helo: "mx.good.test"}}
	return filter.Question{Words: 5, Incoming: intake.Incoming{Envelope: env, Header: []byte(header)},
		Whole: &intake.Whole{Message: strings.NewReader(msg), Size: int64(len(msg)), Header: []byte(header), Body: strings.NewReader(body), BodySize: int64(len(body)),
			Locals: []post.Local{{Recipients: []int{0}, Account: 1, Login: "ala"}}, Remotes: []post.Remote{{Recipient: 1}}}}
}

// TestExplain: what is asked is judged as what comes, and nothing of it is remembered.
func TestExplain(t *testing.T) {
	t.Parallel()
	each(t, nil, func(h *house) {
		if err := h.wishes.AddTrap(h.t.Context(), "trap@example.org"); err != nil {
			h.t.Fatal(err)
		}
		q := question(h.t, "203.0.113.9", "ola@good.test", letter("Ola <ola@good.test>", "text of the letter"))
		for range 3 {
			got := must[[]filter.Explanation](h.t)(h.filter.Explain(h.t.Context(), q))
			if len(got) != 2 {
				h.t.Fatalf("got %d explanations, want one for each recipient", len(got))
			}
			found := map[verdict.Name]bool{}
			for _, w := range got[0].Verdict.Items {
				found[w.Name] = true
			}
			for _, name := range []verdict.Name{verdict.SPFFail, verdict.DMARCReject, verdict.SpamTrap, verdict.FirstTime} {
				if !found[name] {
					h.t.Errorf("%s was not found among %v", name, found)
				}
			}
			if got[0].Verdict.Action != verdict.Refuse {
				h.t.Errorf("the action is %s", got[0].Verdict.Action)
			}
		}
		seen := must[[]verdict.Item](h.t)(h.seen.Seen(h.t.Context(), reputation.Subject{Peer: netip.MustParseAddr("203.0.113.9")}))
		if len(seen) != 0 {
			h.t.Errorf("the host is known: %v", seen)
		}
		q.Offline = true
		for _, w := range must[[]filter.Explanation](h.t)(h.filter.Explain(h.t.Context(), q))[0].Verdict.Items {
			if verdict.Rows[w.Name].Group == verdict.Authentication {
				h.t.Errorf("offline: found %s", w.Name)
			}
		}
	})
}

// TestExplainGrey: that a stranger would be asked to come again is said, and does not make them known.
func TestExplainGrey(t *testing.T) {
	t.Parallel()
	each(t, func(c *filter.Config) {
		c.Settings.Thresholds = verdict.DefaultThresholds()
		c.Settings.Thresholds.Grey = 0.1
	}, func(h *house) {
		q := question(h.t, "203.0.113.9", "ola@soft.test", letter("Ola <ola@soft.test>", "text of the letter"))
		for range 2 {
			got := must[[]filter.Explanation](h.t)(h.filter.Explain(h.t.Context(), q))
			if !got[0].Grey {
				h.t.Errorf("it would not be put off: %+v", got[0].Verdict)
			}
		}
		if _, err := h.receive("203.0.113.9", "ola@soft.test", letter("Ola <ola@soft.test>", "text of the letter"), ala); code(err) != 451 {
			h.t.Errorf("when it comes: %v", err)
		}
	})
}

func TestParseVerdict(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		detail string
		want   filter.Told
		ok     bool
	}{
		"whole": {"junk, score 6.1: score 6.1 is at least 6.0\n+7.0 classifier_spam like spam: all of it\n-0.9 spf_pass",
			filter.Told{Action: verdict.Junk, Score: 6.1, Rule: "score 6.1 is at least 6.0",
				Evidence: []filter.Evidence{{7, "classifier_spam", "like spam: all of it"}, {-0.9, "spf_pass", ""}}}, true},
		"no evidence":  {"deliver, score -0.2: score -0.2 is below 3.0", filter.Told{Score: -0.2, Rule: "score -0.2 is below 3.0"}, true},
		"no action":    {"burn, score 1.0: x", filter.Told{}, false},
		"no score":     {"junk: x", filter.Told{}, false},
		"no rule":      {"junk, score 1.0", filter.Told{}, false},
		"other detail": {"250 2.0.0 taken", filter.Told{}, false},
		"bad points":   {"junk, score 1.0: x\nmany spf_pass", filter.Told{}, false},
		"no name":      {"junk, score 1.0: x\n+1.0", filter.Told{}, false},
	} {
		got, ok := filter.ParseVerdict(c.detail)
		if diff := cmp.Diff(c.want, got); ok != c.ok || ok && diff != "" {
			t.Errorf("%s: ok %v\n%s", name, ok, diff)
		}
	}
}

// FuzzParseVerdict: nothing that the trace may hold stops the reader.
func FuzzParseVerdict(f *testing.F) {
	f.Add("junk, score 6.1: x\n+7.0 classifier_spam like spam")
	f.Fuzz(func(t *testing.T, detail string) {
		if told, ok := filter.ParseVerdict(detail); ok && len(told.Evidence) != strings.Count(detail, "\n") {
			t.Errorf("got %d pieces of evidence of %q", len(told.Evidence), detail)
		}
	})
}
