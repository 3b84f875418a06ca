package tlsrpt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// ErrReport is wrapped by errors of ReadReport about what was read.
var ErrReport = errors.New("not a TLS report that we can read")

// Bounds of a report that is read; what is over them is left out.
const (
	maxValues         = 200_000
	maxPolicies       = 100
	maxReportFailures = 1000 // of one policy
	maxLines          = 20   // of a policy's text and of MX hosts
	maxText           = 255  // octets of any text
	maxSessions       = 1_000_000_000_000
)

// list takes an array of texts, or one alone as some reporters write it.
type list []string

func (l *list) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = list{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(l))
}

// read is a report as others write it.
type read struct {
	Organization string `json:"organization-name"`
	Range        struct {
		Start string `json:"start-datetime"`
		End   string `json:"end-datetime"`
	} `json:"date-range"`
	Contact  string `json:"contact-info"`
	ID       string `json:"report-id"`
	Policies []struct {
		Policy struct {
			Type    string `json:"policy-type"`
			Strings list   `json:"policy-string"`
			Domain  string `json:"policy-domain"`
			MXHosts list   `json:"mx-host"`
		} `json:"policy"`
		Summary  Summary   `json:"summary"`
		Failures []Failure `json:"failure-details"`
	} `json:"policies"`
}

// ReadReport reads a report's JSON (RFC 8460 §4.4), which the caller has unpacked and bounded.
// Texts, counts and lists are bounded; results and policy types may be others than those we know.
// The error wraps ErrReport, or is the reader's.
func ReadReport(r io.Reader) (Report, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return Report{}, fmt.Errorf("read TLS report: %w", err)
	}
	if bytes.Count(text, []byte(",")) > maxValues { // each makes a value of what is much larger in memory
		return Report{}, fmt.Errorf("%w: it has over %d values", ErrReport, maxValues)
	}
	var in read
	if err := json.Unmarshal(text, &in); err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrReport, err)
	}
	out := Report{Organization: clean(in.Organization), Contact: clean(in.Contact), ID: clean(in.ID), Policies: []PolicyResult{}}
	if out.Range.Start, err = readTime(in.Range.Start); err == nil {
		out.Range.End, err = readTime(in.Range.End)
	}
	if err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrReport, err)
	}
	if len(in.Policies) == 0 {
		return Report{}, fmt.Errorf("%w: it has no policies", ErrReport)
	}
	for _, p := range in.Policies[:min(len(in.Policies), maxPolicies)] {
		q := PolicyResult{
			Policy: Policy{
				Type: PolicyType(clean(p.Policy.Type)), Strings: cleanAll(p.Policy.Strings), MXHosts: cleanAll(p.Policy.MXHosts),
				Domain: strings.ToLower(strings.TrimSuffix(clean(p.Policy.Domain), ".")),
			},
			Summary: Summary{Success: sessions(p.Summary.Success), Failure: sessions(p.Summary.Failure)}, Failures: []Failure{},
		}
		for _, f := range p.Failures[:min(len(p.Failures), maxReportFailures)] {
			q.Failures = append(q.Failures, Failure{
				Result: Result(clean(string(f.Result))), SendingIP: ip(f.SendingIP), ReceivingHost: clean(f.ReceivingHost), ReceivingIP: ip(f.ReceivingIP),
				Sessions: sessions(f.Sessions), Reason: clean(f.Reason),
			})
		}
		out.Policies = append(out.Policies, q)
	}
	return out, nil
}

// readTime reads a time of RFC 3339, and those without a zone or with a blank that some write.
func readTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() >= 1970 && t.Year() < 2200 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", clean(s))
}

func sessions(n int64) int64 { return min(max(n, 0), maxSessions) }

// ip is an address in its canonical form; "" when it is none.
func ip(s string) string {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return ""
	}
	return a.WithZone("").Unmap().String()
}

func cleanAll(l list) []string {
	var out []string
	for _, s := range l[:min(len(l), maxLines)] {
		out = append(out, clean(s))
	}
	return out
}

// clean makes what a stranger wrote fit to be shown and stored.
func clean(s string) string {
	s = strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == unicode.ReplacementChar || c == '\u2028' || c == '\u2029' {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, " ")))
	if len(s) > maxText {
		s = strings.TrimSpace(strings.ToValidUTF8(s[:maxText], ""))
	}
	return s
}
