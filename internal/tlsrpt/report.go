package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
)

// Media types of a report's file (RFC 8460 §6.4, §6.5).
const (
	MediaJSON = "application/tlsrpt+json"
	MediaGzip = "application/tlsrpt+gzip"
)

// Report is one domain's report for one day (RFC 8460 §4.4).
type Report struct {
	Organization string         `json:"organization-name"`
	Range        Range          `json:"date-range"`
	Contact      string         `json:"contact-info"`
	ID           string         `json:"report-id"`
	Policies     []PolicyResult `json:"policies"`
}

// Range is the time a report covers: a day from 0000 to 2359 UTC.
type Range struct {
	Start time.Time `json:"start-datetime"`
	End   time.Time `json:"end-datetime"`
}

// Day is the range of the UTC day with this number since 1970.
func Day(n int64) Range {
	start := time.Unix(n*86400, 0).UTC()
	return Range{Start: start, End: start.Add(24*time.Hour - time.Second)}
}

// PolicyResult is what the sessions under one policy came to.
type PolicyResult struct {
	Policy   Policy    `json:"policy"`
	Summary  Summary   `json:"summary"`
	Failures []Failure `json:"failure-details"`
}

// Policy is a policy that was applied.
type Policy struct {
	Type    PolicyType `json:"policy-type"`
	Strings []string   `json:"policy-string,omitempty"`
	Domain  string     `json:"policy-domain"`
	MXHosts []string   `json:"mx-host,omitempty"`
}

// Summary is how many sessions there were.
type Summary struct {
	Success int64 `json:"total-successful-session-count"`
	Failure int64 `json:"total-failure-session-count"`
}

// Failure is sessions that failed in one way.
type Failure struct {
	Result        Result `json:"result-type"`
	SendingIP     string `json:"sending-mta-ip,omitempty"`
	ReceivingHost string `json:"receiving-mx-hostname,omitempty"`
	ReceivingIP   string `json:"receiving-ip,omitempty"`
	Sessions      int64  `json:"failed-session-count"`
	Reason        string `json:"failure-reason-code,omitempty"`
}

// Gzip returns the report as a compressed file (RFC 8460 §5.2).
func (r Report) Gzip() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write TLS report: %w", err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(text) // to memory: cannot fail
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("write TLS report: %w", err)
	}
	return b.Bytes(), nil
}

// Mail is what a report by mail carries besides the report.
type Mail struct {
	From      address.Address // its domain is the submitter
	To        address.Address
	Domain    address.Domain // whom the report is about
	MessageID string         // with its angle brackets
	Date      time.Time
}

// FileName is the file's name (RFC 8460 §5.1).
func (r Report) FileName(m Mail) string {
	return fmt.Sprintf("%s!%s!%d!%d.json.gz", m.From.Domain(), m.Domain, r.Range.Start.Unix(), r.Range.End.Unix())
}

// Message returns the report as a message with CRLF, all of it ASCII as long as
// the addresses are (RFC 8460 §5.3). It is to be signed with DKIM by From's domain.
func (r Report) Message(m Mail) ([]byte, error) {
	file, err := r.Gzip()
	if err != nil {
		return nil, err
	}
	boundary := "=_tlsrpt_" + strings.Map(alphanumeric, r.ID)
	submitter := m.From.Domain().String()
	lines := []string{
		"From: <" + m.From.String() + ">", "To: <" + m.To.String() + ">", "Date: " + m.Date.Format(time.RFC1123Z), "Message-ID: " + m.MessageID,
		"Subject: Report Domain: " + m.Domain.String(), "\tSubmitter: " + submitter, "\tReport-ID: <" + r.ID + ">",
		"TLS-Report-Domain: " + m.Domain.String(), "TLS-Report-Submitter: " + submitter,
		"TLS-Required: No", // RFC 8460 §3: a report goes even where TLS does not work, of all things
		"Auto-Submitted: auto-generated", "MIME-Version: 1.0",
		`Content-Type: multipart/report; report-type="tlsrpt";`, "\tboundary=\"" + boundary + "\"", "",
		"--" + boundary, "Content-Type: text/plain; charset=us-ascii", "",
		"This is a report about TLS in sending mail to " + m.Domain.String() + ",",
		"from " + submitter + ", for " + r.Range.Start.Format(time.DateOnly) + " (UTC).", "",
		"--" + boundary, "Content-Type: " + MediaGzip, "Content-Transfer-Encoding: base64",
		"Content-Disposition: attachment;", "\tfilename=\"" + r.FileName(m) + "\"", "",
	}
	for text := base64.StdEncoding.EncodeToString(file); text != ""; {
		n := min(len(text), 76)
		lines, text = append(lines, text[:n]), text[n:]
	}
	lines = append(lines, "--"+boundary+"--", "")
	return []byte(strings.Join(lines, "\r\n")), nil
}

func alphanumeric(c rune) rune {
	if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
		return c
	}
	return -1
}
