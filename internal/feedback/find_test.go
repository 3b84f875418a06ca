package feedback_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/feedback"
	"poczta.example/poczta/internal/mime"
)

// find reads the report that a message carries.
func find(t *testing.T, msg []byte) (a *feedback.Aggregate, f *feedback.Failure, tls string, err error) {
	t.Helper()
	r := bytes.NewReader(msg)
	root, err := mime.Parse(r, int64(len(msg)), mime.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	err = feedback.Find(r, root, feedback.Limits{}, func(kind feedback.Kind, in io.Reader) (err error) {
		switch kind {
		case feedback.XML:
			a, err = feedback.ReadXML(in, feedback.Limits{})
		case feedback.JSON:
			var b []byte
			b, err = io.ReadAll(in)
			tls = string(b)
		case feedback.Fields:
			f, err = feedback.ReadFailure(in)
		case feedback.Text:
			f, err = feedback.ReadPlainFailure(in)
		}
		return err
	})
	return a, f, tls, err
}

func TestMailAuthMail(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"101", "103"} {
		a, _, _, err := find(t, foreign(t, "dmarc", "mail-auth-feedback", name+".eml"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		compare(t, name, a)
	}
}

func TestParsedmarcMail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, org, domain, id string
		messages              int64
	}{
		{"Report domain- borschow.com Submitter- google.com Report-ID- 949348866075514174.eml", "google.com", "borschow.com", "949348866075514174", 1},
		{"mimecast-weird-gzip.eml", "Mimecast", "ab.id.au", "157a5fe30ec76f4bc0d8bccfc96c118a167a1280fee7c7465af5115e73082e5e", 1},
	} {
		a, _, _, err := find(t, foreign(t, "dmarc", "parsedmarc", "aggregate", c.name))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if all, _ := a.Messages(); a.Organization != c.org || a.Policy.Domain != c.domain || a.ID != c.id || all != c.messages || a.Damaged != "" {
			t.Errorf("%s: got %+v", c.name, a)
		}
	}
}

func TestTLSMail(t *testing.T) {
	t.Parallel()
	for _, name := range [][]string{{"tlsrpt", "mail-auth", "rpt01.eml"}, {"tlsrpt", "parsedmarc", "google.com_smtp_tls_report.eml"}} {
		_, _, tls, err := find(t, foreign(t, name...))
		if err != nil || !json.Valid([]byte(tls)) || !strings.Contains(tls, `"organization-name"`) {
			t.Errorf("%v: got %s, %v", name, tls, err)
		}
	}
}

// failure is a report as mail-auth's tests write it.
type failure struct {
	Type       string   `json:"feedback_type"`
	Arrival    int64    `json:"arrival_date"`
	Incidents  int64    `json:"incidents"`
	EnvelopeID string   `json:"original_envelope_id"`
	MailFrom   string   `json:"original_mail_from"`
	RcptTo     string   `json:"original_rcpt_to"`
	Domains    []string `json:"reported_domain"`
	URIs       []string `json:"reported_uri"`
	Reporter   string   `json:"reporting_mta"`
	Source     string   `json:"source_ip"`
	Agent      string   `json:"user_agent"`
	Version    int      `json:"version"`
	Port       int64    `json:"source_port"`
	Failure    string   `json:"auth_failure"`
	Delivery   string   `json:"delivery_result"`
	DKIMDomain string   `json:"dkim_domain"`
	Identity   string   `json:"dkim_identity"`
	Selector   string   `json:"dkim_selector"`
	Alignment  string   `json:"identity_alignment"`
}

var arfWords = map[string]string{"Abuse": "abuse", "AuthFailure": "auth-failure", "BodyHash": "bodyhash", "Unspecified": ""}

// TestMailAuthFailure compares with mail-auth's expectations. Deviation: the message, the canonicalized
// body and header, Authentication-Results and the DNS records are content that is not kept.
func TestMailAuthFailure(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"001", "003", "005"} {
		_, got, _, err := find(t, foreign(t, "arf", "mail-auth", name+".eml"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var e failure
		if err := json.Unmarshal(foreign(t, "arf", "mail-auth", name+".json"), &e); err != nil {
			t.Fatal(err)
		}
		e.Type, e.Failure, e.Delivery, e.Alignment = arfWords[e.Type], arfWords[e.Failure], arfWords[e.Delivery], arfWords[e.Alignment]
		have := failure{
			Type: got.Type, Incidents: got.Incidents, EnvelopeID: got.EnvelopeID, MailFrom: got.MailFrom, RcptTo: got.RcptTo, Domains: got.Domains, URIs: got.URIs,
			Reporter: got.Reporter, Agent: got.Agent, Port: got.SourcePort, Failure: got.Failure, Delivery: got.Delivery, DKIMDomain: got.DKIMDomain,
			Identity: got.Identity, Selector: got.Selector, Alignment: got.Alignment,
		}
		if _, err := fmt.Sscan(got.Version, &have.Version); err != nil {
			t.Error(err)
		}
		if got.Source.IsValid() {
			have.Source = got.Source.String()
		}
		if !got.Arrived.IsZero() {
			have.Arrival = got.Arrived.Unix()
		}
		if len(e.Domains) == 0 {
			e.Domains = nil
		}
		if len(e.URIs) == 0 {
			e.URIs = nil
		}
		if diff := cmp.Diff(e, have); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestParsedmarcFailure(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"DMARC Failure Report for domain.de (mail-from=sharepoint@domain.de, ip=10.10.10.10).eml": "auth-failure dmarc domain.de 10.10.10.10 2018-10-01T09:20:27Z",
		"dmarc_ruf_report_linkedin.crlf.eml":                                                      "auth-failure dmarc example.com 10.10.10.10 2019-04-30T02:09:00Z",
		"dmarc_ruf_report_linkedin.eml":                                                           "auth-failure dmarc example.com 10.10.10.10 2019-04-30T02:09:00Z",
		"exim_plain_text_only_no_arf_part.eml":                                                    "auth-failure dmarc example.com 203.0.113.68 2025-04-07T21:16:09Z",
	} {
		_, f, _, err := find(t, foreign(t, "dmarc", "parsedmarc", "failure", name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := strings.Join([]string{f.Type, f.Failure, strings.Join(f.Domains, " "), f.Source.String(), f.Arrived.Format(time.RFC3339)}, " "); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestFindNothing(t *testing.T) {
	t.Parallel()
	inner := "Content-Type: message/rfc822\r\n\r\nContent-Type: text/xml\r\n\r\n" + head + tail
	for name, msg := range map[string]string{
		"plain": "Subject: x\r\n\r\nhello\r\n", "enclosed": inner, "wrong file": "Content-Type: application/gzip\r\n\r\nhello\r\n",
		"text": "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b--\r\n",
	} {
		if a, f, tls, err := find(t, []byte(msg)); !errors.Is(err, feedback.ErrFormat) {
			t.Errorf("%s: got %v %v %s, %v", name, a, f, tls, err)
		}
	}
	var many strings.Builder
	many.WriteString("Content-Type: multipart/mixed; boundary=b\r\n\r\n")
	for range 20 {
		many.WriteString("--b\r\nContent-Type: text/xml\r\n\r\nx\r\n")
	}
	many.WriteString("--b\r\nContent-Type: text/xml\r\n\r\n" + head + tail + "\r\n--b--\r\n")
	if a, _, _, err := find(t, []byte(many.String())); err == nil {
		t.Errorf("got %v behind 20 parts that are none", a)
	}
	// A type that says nothing, a name that lies: the content counts.
	a, _, _, err := find(t, []byte("Content-Type: application/octet-stream; name=\"r.json\"\r\n\r\n"+head+tail))
	if err != nil || a.Policy.Domain != "example.org" {
		t.Errorf("got %v, %v", a, err)
	}
}

func FuzzReadFailure(f *testing.F) {
	f.Add("Feedback-Type: auth-failure\r\nVersion: 1\r\nReported-Domain: Example.org\r\n folded\r\nSource-IP: 192.0.2.1\r\nAuth-Failure: dmarc\r\n", false)
	f.Add("  Sender Domain: example.org\n  Sender IP Address: 192.0.2.1\n------\n", true)
	f.Fuzz(func(t *testing.T, s string, people bool) {
		read := feedback.ReadFailure
		if people {
			read = feedback.ReadPlainFailure
		}
		got, err := read(strings.NewReader(s))
		if (got == nil) == (err == nil) {
			t.Fatalf("got %v, %v", got, err)
		}
		if err == nil && (got.Type == "" || len(got.Domains) > 10 || len(got.MailFrom) > 255 || got.Incidents < 1) {
			t.Errorf("got %+v", got)
		}
	})
}
