package tlsrpt_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/tlsrpt"
)

func TestReadReport(t *testing.T) {
	t.Parallel()
	got, err := tlsrpt.ReadReport(strings.NewReader(exampleJSON))
	want := exampleReport()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for name, text := range map[string]string{
		"nothing": "", "array": "[]", "no times": `{"policies":[{}]}`, "strange time": strings.Replace(exampleJSON, "2016-04-01T00", "moon", 1), "no policies": strings.Replace(exampleJSON, `"policies"`, `"p"`, 1),
		"wrong type": strings.Replace(exampleJSON, "5326", `"many"`, 1), "cut": exampleJSON[:500], "values without number": `{"policies":[` + strings.Repeat("null,", 300_000) + `null]}`, "deep": strings.Repeat(`{"policies":[`, 50_000),
	} {
		if r, err := tlsrpt.ReadReport(strings.NewReader(text)); !errors.Is(err, tlsrpt.ErrReport) {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
	}
	odd, err := tlsrpt.ReadReport(strings.NewReader(`{"organization-name":"a\u0000\u2028b` + strings.Repeat("é", 300) + `","date-range":{"start-datetime":"2016-04-01 00:00:00","end-datetime":"2016-04-02"},
		"policies":[{"policy":{"policy-type":"sts","policy-string":"one","policy-domain":"Example.ORG.","mx-host":"mx"},"summary":{"total-successful-session-count":-5},
		"failure-details":[{"sending-mta-ip":"::ffff:192.0.2.1","receiving-ip":"nonsense","failed-session-count":9223372036854775807}]}]}`))
	want = tlsrpt.Report{
		Organization: "a  b" + strings.Repeat("é", 125), Range: tlsrpt.Range{Start: time.Unix(1459468800, 0).UTC(), End: time.Unix(1459555200, 0).UTC()},
		Policies: []tlsrpt.PolicyResult{{
			Policy:   tlsrpt.Policy{Type: "sts", Strings: []string{"one"}, Domain: "example.org", MXHosts: []string{"mx"}},
			Failures: []tlsrpt.Failure{{SendingIP: "192.0.2.1", Sessions: 1_000_000_000_000}},
		}},
	}
	if diff := cmp.Diff(want, odd); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// TestForeignReports holds what is read against the JSON itself; "additional-information", a link, is not kept.
func TestForeignReports(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	for _, name := range []string{"mail-auth/rpt01.json", "parsedmarc/rfc8460.json"} {
		text, err := os.ReadFile(filepath.Join(dir, "tlsrpt", filepath.FromSlash(name)))
		if err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
		}
		got, err := tlsrpt.ReadReport(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var want tlsrpt.Report
		text = regexp.MustCompile(`("mx-host": *)("[^"]*")`).ReplaceAll(text, []byte("$1[$2]")) // as the RFC's example has it, against its grammar
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, p := range want.Policies {
			for j, f := range p.Failures {
				want.Policies[i].Failures[j].SendingIP = strings.Replace(f.SendingIP, ":00", ":", 1)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func FuzzReadReport(f *testing.F) {
	f.Add([]byte(exampleJSON))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := tlsrpt.ReadReport(bytes.NewReader(text))
		if err != nil {
			return
		}
		out, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := tlsrpt.ReadReport(bytes.NewReader(out))
		if diff := cmp.Diff(r, again); diff != "" || err != nil {
			t.Error(diff, err)
		}
	})
}
