package tlsrpt_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/tlsrpt"
)

func exampleReport() tlsrpt.Report {
	return tlsrpt.Report{
		Organization: "Company-X", Range: tlsrpt.Day(16892), Contact: "sts-reporting@company-x.example", ID: "5065427c@company-x.example",
		Policies: []tlsrpt.PolicyResult{{
			Policy:  tlsrpt.Policy{Type: tlsrpt.STS, Strings: []string{"version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"}, Domain: "company-y.example", MXHosts: []string{"*.mail.company-y.example"}},
			Summary: tlsrpt.Summary{Success: 5326, Failure: 303},
			Failures: []tlsrpt.Failure{
				{Result: tlsrpt.CertificateExpired, SendingIP: "2001:db8:abcd:12::1", ReceivingHost: "mx1.mail.company-y.example", Sessions: 100},
				{Result: tlsrpt.ValidationFailure, SendingIP: "198.51.100.62", ReceivingIP: "203.0.113.58", ReceivingHost: "mx-backup.mail.company-y.example", Sessions: 3, Reason: "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"},
			},
		}},
	}
}

// exampleJSON is the report of RFC 8460 Appendix B, shortened.
const exampleJSON = `{
 "organization-name": "Company-X",
 "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
 "contact-info": "sts-reporting@company-x.example",
 "report-id": "5065427c@company-x.example",
 "policies": [{
  "policy": {"policy-type": "sts", "policy-string": ["version: STSv1","mode: testing","mx: *.mail.company-y.example","max_age: 86400"],
   "policy-domain": "company-y.example", "mx-host": ["*.mail.company-y.example"]},
  "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
  "failure-details": [
   {"result-type": "certificate-expired", "sending-mta-ip": "2001:db8:abcd:12::1", "receiving-mx-hostname": "mx1.mail.company-y.example", "failed-session-count": 100},
   {"result-type": "validation-failure", "sending-mta-ip": "198.51.100.62", "receiving-ip": "203.0.113.58", "receiving-mx-hostname": "mx-backup.mail.company-y.example",
    "failed-session-count": 3, "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"}]}]}`

// unpack reads a compressed report as anything.
func unpack(t *testing.T, file []byte) any {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.NewDecoder(z).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestGzip(t *testing.T) {
	t.Parallel()
	file, err := exampleReport().Gzip()
	if err != nil {
		t.Fatal(err)
	}
	var want any
	if err := json.Unmarshal([]byte(exampleJSON), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, unpack(t, file)); diff != "" {
		t.Error(diff)
	}
}

// TestMessage reads the message by the standard library's means.
func TestMessage(t *testing.T) {
	t.Parallel()
	from, _ := address.Parse("tls@company-x.example")
	to, _ := address.Parse("reports@company-y.example")
	about, _ := address.ParseDomain("company-y.example")
	msg, err := exampleReport().Message(tlsrpt.Mail{From: from, To: to, Domain: about, MessageID: "<1@company-x.example>", Date: time.Unix(1459555200, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	if bare := strings.ReplaceAll(string(msg), "\r\n", ""); strings.ContainsAny(bare, "\r\n") || !strings.HasSuffix(string(msg), "\r\n") {
		t.Error("lines do not all end in CRLF")
	}
	m, err := mail.ReadMessage(bytes.NewReader(msg))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for k := range m.Header {
		got[k] = m.Header.Get(k)
	}
	media, params, err := mime.ParseMediaType(got["Content-Type"])
	if err != nil || media != "multipart/report" || params["report-type"] != "tlsrpt" {
		t.Errorf("got %s %v, %v", media, params, err)
	}
	delete(got, "Content-Type")
	want := map[string]string{
		"From": "<tls@company-x.example>", "To": "<reports@company-y.example>", "Date": "Sat, 02 Apr 2016 00:00:00 +0000", "Message-Id": "<1@company-x.example>",
		"Subject":           "Report Domain: company-y.example Submitter: company-x.example Report-ID: <5065427c@company-x.example>",
		"Tls-Report-Domain": "company-y.example", "Tls-Report-Submitter": "company-x.example", "Tls-Required": "No", "Auto-Submitted": "auto-generated", "Mime-Version": "1.0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	if _, err := parts.NextPart(); err != nil {
		t.Fatal(err)
	}
	p, err := parts.NextPart()
	if err != nil {
		t.Fatal(err)
	}
	_, disposition, _ := mime.ParseMediaType(p.Header.Get("Content-Disposition"))
	if disposition["filename"] != "company-x.example!company-y.example!1459468800!1459555199.json.gz" || p.Header.Get("Content-Type") != "application/tlsrpt+gzip" {
		t.Errorf("got %v", p.Header)
	}
	file, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, p))
	if err != nil {
		t.Fatal(err)
	}
	var wantJSON any
	_ = json.Unmarshal([]byte(exampleJSON), &wantJSON)
	if diff := cmp.Diff(wantJSON, unpack(t, file)); diff != "" {
		t.Error(diff)
	}
}
