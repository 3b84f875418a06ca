// Package feedback holds the reports that mail servers send each other about the use of
// a domain, as values: aggregate reports of DMARC (RFC 9990, RFC 7489 Appendix C), read and
// written, and failure reports (RFC 6591, in the form of RFC 5965), read. What
// is read comes from strangers: sizes, counts and times are bounded.
package feedback

import (
	"net/netip"
	"strings"
	"time"
)

// Aggregate is an aggregate report: what mail in a domain's name came to within a time.
type Aggregate struct {
	Version      string    `json:"version,omitempty"` // of the form: "1.0"
	Organization string    `json:"organization"`      // who reports, as it says itself
	Email        string    `json:"email"`
	Contact      string    `json:"contact,omitempty"`
	ID           string    `json:"report_id"`
	Begin        time.Time `json:"begin"`
	End          time.Time `json:"end"`
	Errors       []string  `json:"errors,omitempty"`
	Generator    string    `json:"generator,omitempty"`
	Policy       Published `json:"policy"`
	Records      []Record  `json:"records"`

	// Omitted is how many messages the records stand for that were left out because of Limits.Records.
	Omitted int64 `json:"omitted,omitempty"`
	// Damaged is why the rest could not be read; "" when the report is whole.
	Damaged string `json:"damaged,omitempty"`
	// Legacy writes the form of RFC 7489 Appendix C instead of RFC 9990's.
	Legacy bool `json:"-"`
}

// Published is the policy that the reporter found.
type Published struct {
	Domain      string `json:"domain"`
	Policy      string `json:"p,omitempty"` // "none", "quarantine", "reject", or "" when absent or unknown
	Subdomain   string `json:"sp,omitempty"`
	NonExistent string `json:"np,omitempty"`
	DKIM        string `json:"adkim,omitempty"` // "r", "s" or ""
	SPF         string `json:"aspf,omitempty"`
	Percent     string `json:"pct,omitempty"` // a number as written; of RFC 7489
	Options     string `json:"fo,omitempty"`
	Testing     bool   `json:"testing,omitempty"`
	Discovery   string `json:"discovery_method,omitempty"` // "psl", "treewalk" or ""
}

// Record is messages that have everything but their content in common.
type Record struct {
	Source       netip.Addr   `json:"source_ip"` // zero when it can't be read
	Count        int64        `json:"count"`
	Disposition  string       `json:"disposition"` // "none", "pass", "quarantine", "reject" or ""
	DKIM         string       `json:"dkim"`        // of DMARC, so aligned: "pass", "fail" or ""
	SPF          string       `json:"spf"`
	Reasons      []Reason     `json:"reasons,omitempty"`
	EnvelopeTo   string       `json:"envelope_to,omitempty"`
	EnvelopeFrom string       `json:"envelope_from,omitempty"`
	HeaderFrom   string       `json:"header_from"`
	AuthDKIM     []DKIMResult `json:"auth_dkim,omitempty"`
	AuthSPF      []SPFResult  `json:"auth_spf,omitempty"`
}

// Reason is why the policy was not applied as published.
type Reason struct {
	Type    string `json:"type"` // one of the words of RFC 9990 or RFC 7489; "other" for any other
	Comment string `json:"comment,omitempty"`
}

// DKIMResult is what a signature came to, aligned or not.
type DKIMResult struct {
	Domain   string `json:"domain"`
	Selector string `json:"selector,omitempty"`
	Result   string `json:"result"` // a word of RFC 8601 §2.7.1 or ""
	Human    string `json:"human_result,omitempty"`
}

// SPFResult is what SPF came to, aligned or not.
type SPFResult struct {
	Domain string `json:"domain"`
	Scope  string `json:"scope,omitempty"` // "mfrom", "helo" or ""
	Result string `json:"result"`          // a word of RFC 8601 §2.7.2 or ""
	Human  string `json:"human_result,omitempty"`
}

// Passed reports whether the messages of a record passed DMARC.
func (r Record) Passed() bool { return r.DKIM == "pass" || r.SPF == "pass" }

// Messages is how many messages a report is about, omitted ones included, and how many of the
// records' passed.
func (a *Aggregate) Messages() (all, passed int64) {
	all = a.Omitted
	for _, r := range a.Records {
		all += r.Count
		if r.Passed() {
			passed += r.Count
		}
	}
	return all, passed
}

// Limits bound what is read. Zero fields have the defaults.
type Limits struct {
	Packed   int64 // octets of the file as sent; 10 MiB
	Unpacked int64 // octets of XML or JSON; 20 MiB
	Records  int   // 10,000; the messages of further ones are only counted
}

func (l Limits) orDefaults() Limits {
	if l.Packed <= 0 {
		l.Packed = 10 << 20
	}
	if l.Unpacked <= 0 {
		l.Unpacked = 20 << 20
	}
	if l.Records <= 0 {
		l.Records = 10_000
	}
	return l
}

// Further bounds.
const (
	maxText    = 255 // octets of any text that is kept
	maxDepth   = 32  // of XML elements
	maxResults = 20  // of DKIM or SPF in one record
	maxReasons = 10  // of one record
	maxErrors  = 10  // of one report
	maxCount   = 1e9 // messages of one record; sums of very many must fit
)

// word returns the first of known that s is, in any case; "" if it is none.
func word(s string, known ...string) string {
	for _, k := range known {
		if strings.EqualFold(s, k) {
			return k
		}
	}
	return ""
}

// text makes what a stranger wrote fit to be shown and stored: valid UTF-8 of at most
// maxText octets, without control characters or blanks around.
func text(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029' || c == 0xfffd {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, " "))
	s = strings.TrimSpace(s)
	if len(s) > maxText {
		s = strings.TrimSpace(strings.ToValidUTF8(s[:maxText], ""))
	}
	return s
}

// seconds reads a time; some reporters write fractions.
func seconds(s string) time.Time {
	whole, _, _ := strings.Cut(s, ".")
	n, ok := number(whole, 1<<40)
	if !ok {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

// number reads a plain decimal number from 0 to most.
func number(s string, most int64) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return min(n, most), true
}
