package dmarc_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/resolver"
)

// foreign reads a file of the foreign test data, or skips the test outside CI.
func foreign(t *testing.T, name ...string) []byte {
	t.Helper()
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	text, err := os.ReadFile(filepath.Join(append([]string{dir}, name...)...))
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	return text
}

// TestMoxRecords runs the cases of mox, without deviation.
func TestMoxRecords(t *testing.T) {
	t.Parallel()
	var cases []struct {
		Kind, Input, Note string
		Valid             bool
	}
	if err := json.Unmarshal(foreign(t, "records", "mox-record-syntax.json"), &cases); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, c := range cases {
		if c.Kind != "dmarc-record/Parse" {
			continue
		}
		ran++
		_, err := dmarc.ParseRecord(c.Input)
		if (err == nil) != c.Valid {
			if _, known := moxDeviations[c.Input]; !known {
				t.Errorf("%q (%s): got %v, want valid %v", c.Input, c.Note, err, c.Valid)
			}
		} else if why, known := moxDeviations[c.Input]; known {
			t.Errorf("%q is no deviation any more: %s", c.Input, why)
		}
	}
	if ran < 18 {
		t.Errorf("ran %d cases", ran)
	}
}

// moxDeviations are the records that mox refuses and we read, with the reason.
var moxDeviations = map[string]string{
	"v=DMARC1; sp=reject; p=reject": "RFC 9989 §4.8 lets tags stand in any order behind v",
}

// moxCases are mox' evaluations, which follow RFC 7489.
type moxCases struct {
	Lookup struct {
		TXT   map[string][]string `json:"txt"`
		Fail  []string            `json:"dns_servfail"`
		Cases []struct {
			Domain, Status, Error string
			RecordDomain          string `json:"record_domain"`
			RecordFound           bool   `json:"record_found"`
		}
	}
	External struct {
		TXT   map[string][]string `json:"txt"`
		Fail  []string            `json:"dns_servfail"`
		Cases []struct {
			PolicyDomain string `json:"policy_domain"`
			ReportDomain string `json:"report_domain"`
			Accepted     bool
			Error        string
		}
	} `json:"external_report_authorisation"`
	Verify struct {
		TXT   map[string][]string `json:"txt"`
		Fail  []string            `json:"dns_servfail"`
		Cases []struct {
			Note, From string
			DKIM       []struct{ Status, D string }
			SPF        struct{ Status, Domain string }
			Expect     struct {
				UseResult    bool `json:"policy_applied_after_pct"`
				Reject       bool
				Status       string
				SPF          bool   `json:"spf_aligned_pass"`
				DKIM         bool   `json:"dkim_aligned_pass"`
				RecordDomain string `json:"record_domain"`
			}
		}
	}
}

// moxEvaluator follows RFC 7489 on a zone of mox' records.
func moxEvaluator(t *testing.T, txt map[string][]string, fail []string) *dmarc.Evaluator {
	t.Helper()
	var zone strings.Builder
	for name, texts := range txt {
		for _, s := range texts {
			fmt.Fprintf(&zone, "%s TXT %q\n", name, s)
		}
	}
	for _, f := range fail {
		fmt.Fprintf(&zone, "!servfail %s\n", strings.TrimPrefix(f, "txt "))
	}
	return evaluator(t, dmarc.RFC7489, zone.String())
}

func evaluator(t *testing.T, mode dmarc.Mode, zone string) *dmarc.Evaluator {
	t.Helper()
	z, err := resolver.NewZone(zone)
	if err != nil {
		t.Fatal(err)
	}
	e, err := dmarc.New(dmarc.Config{Records: dmarc.FromResolver(z), Mode: mode, Rand: func() int { return 50 }})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func domain(t *testing.T, s string) address.Domain {
	t.Helper()
	d, err := address.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestMoxEvaluation runs mox' three tables. Deviation: a record with a part that is no tag ("bogus")
// is malformed for mox; RFC 7489 §6.3 and RFC 9989 §4.8 pass over that part.
func TestMoxEvaluation(t *testing.T) {
	t.Parallel()
	var m moxCases
	if err := json.Unmarshal(foreign(t, "dmarc", "mox-evaluation-cases.json"), &m); err != nil {
		t.Fatal(err)
	}
	e := moxEvaluator(t, m.Lookup.TXT, m.Lookup.Fail)
	for _, c := range m.Lookup.Cases {
		r := e.Evaluate(t.Context(), domain(t, c.Domain), dmarc.Proofs{})
		if c.Domain == "malformed.example" {
			c.Status, c.RecordFound = "none", true
		}
		if (r.Record != nil) != c.RecordFound || r.Record != nil && r.PolicyDomain.String() != c.RecordDomain {
			t.Errorf("%s: got record %v of %s, want %v", c.Domain, r.Record, r.PolicyDomain, c.RecordFound)
		}
		if c.Status == "none" && r.Record != nil {
			c.Status = "fail" // mox' Lookup does not evaluate
		}
		if r.Status.String() != c.Status {
			t.Errorf("%s: got %s, want %s", c.Domain, r.Status, c.Status)
		}
	}
	e = moxEvaluator(t, m.External.TXT, m.External.Fail)
	for _, c := range m.External.Cases {
		to, err := address.Parse("dmarc@" + c.ReportDomain)
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.Destination(t.Context(), domain(t, c.PolicyDomain), dmarc.URI{Text: "mailto:" + to.String(), Address: to})
		if (err == nil) != c.Accepted || len(got) > 0 != c.Accepted {
			t.Errorf("%s for %s: got %v, %v; want %v", c.ReportDomain, c.PolicyDomain, got, err, c.Accepted)
		}
	}
	e = moxEvaluator(t, m.Verify.TXT, m.Verify.Fail)
	for _, c := range m.Verify.Cases {
		var p dmarc.Proofs
		if c.SPF.Domain != "" {
			p.SPF = append(p.SPF, dmarc.Proof{Domain: domain(t, c.SPF.Domain), Pass: c.SPF.Status == "pass", TempError: c.SPF.Status == "temperror"})
		}
		for _, d := range c.DKIM {
			p.DKIM = append(p.DKIM, dmarc.Proof{Domain: domain(t, d.D), Pass: d.Status == "pass", TempError: d.Status == "temperror"})
		}
		r := e.Evaluate(t.Context(), domain(t, c.From), p)
		want := c.Expect
		if c.From == "malformed.example" {
			want.Status, want.UseResult = "fail", true
		}
		if r.Status.String() != want.Status || r.AlignedSPF != want.SPF || r.AlignedDKIM != want.DKIM || (r.Status == dmarc.Fail && r.Policy == dmarc.PolicyReject) != want.Reject {
			t.Errorf("%s: got %+v, want %+v", c.Note, r, want)
		}
		if r.Record != nil && r.PolicyDomain.String() != want.RecordDomain {
			t.Errorf("%s: got the record of %s, want %s", c.Note, r.PolicyDomain, want.RecordDomain)
		}
		if sampledOut := r.Status == dmarc.Fail && !want.UseResult; r.SampledOut != sampledOut {
			t.Errorf("%s: got %v, want sampled out %v", c.Note, r.SampledOut, sampledOut)
		}
	}
	if n := len(m.Verify.Cases) + len(m.Lookup.Cases) + len(m.External.Cases); n != 30 {
		t.Errorf("ran %d cases", n)
	}
}

// TestPublicSuffixes runs the test of the public suffix list against the list that is built in.
func TestPublicSuffixes(t *testing.T) {
	t.Parallel()
	text := string(foreign(t, "psl", "test_psl.txt"))
	e := evaluator(t, dmarc.RFC7489, "")
	ran := 0
	for _, m := range regexp.MustCompile(`(?m)^checkPublicSuffix\('([^']*)', (?:'([^']*)'|null)\)`).FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(m[1], ".") {
			continue // no domain
		}
		want := m[2]
		if want == "" {
			want = m[1] // a suffix is an organization of its own
		}
		got, err := e.Organizational(t.Context(), domain(t, m[1]))
		if err != nil || got != domain(t, want) {
			t.Errorf("%s: got %s, %v; want %s", m[1], got, err, want)
		}
		ran++
	}
	if ran < 70 {
		t.Errorf("ran %d cases", ran)
	}
}
