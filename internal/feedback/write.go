package feedback

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
)

// Namespace is that of RFC 9990's form.
const Namespace = "urn:ietf:params:xml:ns:dmarc-2.0"

// The shape of the XML. Elements stand in the order of RFC 9990's schema, which suits RFC 7489
// Appendix C too.
type (
	xmlReport struct {
		XMLName xml.Name    `xml:"feedback"`
		XMLNS   string      `xml:"xmlns,attr,omitempty"`
		Version string      `xml:"version"`
		Meta    xmlMeta     `xml:"report_metadata"`
		Policy  xmlPolicy   `xml:"policy_published"`
		Records []xmlRecord `xml:"record"`
	}
	xmlMeta struct {
		Organization string   `xml:"org_name"`
		Email        string   `xml:"email"`
		Contact      string   `xml:"extra_contact_info,omitempty"`
		ID           string   `xml:"report_id"`
		Begin        int64    `xml:"date_range>begin"`
		End          int64    `xml:"date_range>end"`
		Errors       []string `xml:"error,omitempty"`
		Generator    string   `xml:"generator,omitempty"`
	}
	xmlPolicy struct {
		Domain      string `xml:"domain"`
		Discovery   string `xml:"discovery_method,omitempty"`
		DKIM        string `xml:"adkim,omitempty"`
		SPF         string `xml:"aspf,omitempty"`
		Policy      string `xml:"p"`
		Subdomain   string `xml:"sp,omitempty"`
		NonExistent string `xml:"np,omitempty"`
		Percent     string `xml:"pct,omitempty"`
		Options     string `xml:"fo,omitempty"`
		Testing     string `xml:"testing,omitempty"`
	}
	xmlRecord struct {
		Source       string       `xml:"row>source_ip"`
		Count        int64        `xml:"row>count"`
		Evaluated    xmlEvaluated `xml:"row>policy_evaluated"`
		EnvelopeTo   string       `xml:"identifiers>envelope_to,omitempty"`
		EnvelopeFrom string       `xml:"identifiers>envelope_from"`
		HeaderFrom   string       `xml:"identifiers>header_from"`
		Auth         xmlAuth      `xml:"auth_results"`
	}
	xmlEvaluated struct {
		Disposition string      `xml:"disposition"`
		DKIM        string      `xml:"dkim"`
		SPF         string      `xml:"spf"`
		Reasons     []xmlReason `xml:"reason"`
	}
	xmlReason struct {
		Type    string `xml:"type"`
		Comment string `xml:"comment,omitempty"`
	}
	xmlAuth struct {
		DKIM []xmlDKIM `xml:"dkim"`
		SPF  []xmlSPF  `xml:"spf"`
	}
	xmlDKIM struct {
		Domain   string `xml:"domain"`
		Selector string `xml:"selector"`
		Result   string `xml:"result"`
		Human    string `xml:"human_result,omitempty"`
	}
	xmlSPF struct {
		Domain string `xml:"domain"`
		Scope  string `xml:"scope,omitempty"`
		Result string `xml:"result"`
		Human  string `xml:"human_result,omitempty"`
	}
)

// XML writes the report in RFC 9990's form, which has room for one error and one result of SPF, that of
// MAIL FROM; or in RFC 7489's when a.Legacy.
func (a *Aggregate) XML() ([]byte, error) {
	x := xmlReport{
		Version: "1.0",
		Meta: xmlMeta{
			Organization: a.Organization, Email: a.Email, Contact: a.Contact, ID: a.ID,
			Begin: a.Begin.Unix(), End: a.End.Unix(), Errors: a.Errors, Generator: a.Generator,
		},
		Policy: xmlPolicy{
			Domain: a.Policy.Domain, DKIM: a.Policy.DKIM, SPF: a.Policy.SPF, Policy: a.Policy.Policy, Subdomain: a.Policy.Subdomain, Options: a.Policy.Options,
		},
	}
	if a.Legacy {
		x.Meta.Generator = ""
		// Its schema wants them all.
		x.Policy.Subdomain, x.Policy.Percent, x.Policy.Options = cmp.Or(x.Policy.Subdomain, x.Policy.Policy), cmp.Or(a.Policy.Percent, "100"), cmp.Or(x.Policy.Options, "0")
	} else {
		x.Meta.Errors = x.Meta.Errors[:min(len(x.Meta.Errors), 1)]
		x.XMLNS, x.Policy.NonExistent, x.Policy.Discovery, x.Policy.Testing = Namespace, a.Policy.NonExistent, a.Policy.Discovery, "n"
		if a.Policy.Testing {
			x.Policy.Testing = "y"
		}
	}
	for _, r := range a.Records {
		x.Records = append(x.Records, a.record(r))
	}
	out, err := xml.MarshalIndent(x, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write aggregate report: %w", err)
	}
	return append([]byte(xml.Header), append(out, '\n')...), nil
}

func (a *Aggregate) record(r Record) xmlRecord {
	x := xmlRecord{
		Source: r.Source.String(), Count: r.Count, Evaluated: xmlEvaluated{Disposition: r.Disposition, DKIM: r.DKIM, SPF: r.SPF},
		EnvelopeTo: r.EnvelopeTo, EnvelopeFrom: r.EnvelopeFrom, HeaderFrom: r.HeaderFrom,
	}
	if a.Legacy && r.Disposition == "pass" { // a word of RFC 9990
		x.Evaluated.Disposition = "none"
	}
	for _, y := range r.Reasons {
		x.Evaluated.Reasons = append(x.Evaluated.Reasons, xmlReason(y))
	}
	for _, d := range r.AuthDKIM {
		x.Auth.DKIM = append(x.Auth.DKIM, xmlDKIM(d))
	}
	for _, s := range r.AuthSPF {
		if !a.Legacy { // RFC 9990 tells of MAIL FROM alone, once
			if s.Scope == "helo" || len(x.Auth.SPF) > 0 {
				continue
			}
			s.Scope = "mfrom"
		}
		x.Auth.SPF = append(x.Auth.SPF, xmlSPF(s))
	}
	return x
}

// Gzip returns the report as a compressed file.
func (a *Aggregate) Gzip() ([]byte, error) {
	out, err := a.XML()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(out) // to memory: cannot fail
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("write aggregate report: %w", err)
	}
	return b.Bytes(), nil
}

// Mail is what a report by mail carries besides the report.
type Mail struct {
	From      address.Address // its domain is the submitter
	To        []address.Address
	MessageID string // with its angle brackets
	Date      time.Time
}

// FileName is the file's name (RFC 7489 §7.2.1.1).
func (a *Aggregate) FileName(submitter address.Domain) string {
	return submitter.String() + "!" + a.Policy.Domain + "!" + strconv.FormatInt(a.Begin.Unix(), 10) + "!" + strconv.FormatInt(a.End.Unix(), 10) +
		"!" + alphanumeric(a.ID) + ".xml.gz"
}

// Message returns the report with the compressed file as a message with CRLF, all of it ASCII
// as long as the addresses are (RFC 7489 §7.2.1.1, RFC 9990 §3). It is to be signed with DKIM
// by From's domain.
func (a *Aggregate) Message(m Mail, file []byte) []byte {
	boundary := "=_dmarc_" + alphanumeric(a.ID)
	submitter := m.From.Domain()
	to := make([]string, len(m.To))
	for i, x := range m.To {
		to[i] = "<" + x.String() + ">"
	}
	lines := []string{
		"From: <" + m.From.String() + ">", "To: " + strings.Join(to, ",\r\n\t"), "Date: " + m.Date.Format(time.RFC1123Z), "Message-ID: " + m.MessageID,
		"Subject: Report Domain: " + a.Policy.Domain, "\tSubmitter: " + submitter.String(), "\tReport-ID: <" + a.ID + ">",
		"Auto-Submitted: auto-generated", "MIME-Version: 1.0",
		"Content-Type: multipart/mixed;", "\tboundary=\"" + boundary + "\"", "",
		"--" + boundary, "Content-Type: text/plain; charset=us-ascii", "",
		"This is a DMARC aggregate report about mail that names " + a.Policy.Domain + " as",
		"its author, as it came to " + submitter.String() + " on " + a.Begin.Format(time.DateOnly) + " (UTC).", "",
		"--" + boundary, "Content-Type: application/gzip", "Content-Transfer-Encoding: base64",
		"Content-Disposition: attachment;", "\tfilename=\"" + a.FileName(submitter) + "\"", "",
	}
	for s := base64.StdEncoding.EncodeToString(file); s != ""; {
		n := min(len(s), 76)
		lines, s = append(lines, s[:n]), s[n:]
	}
	lines = append(lines, "--"+boundary+"--", "")
	return []byte(strings.Join(lines, "\r\n"))
}

func alphanumeric(s string) string {
	return strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
			return c
		}
		return -1
	}, s)
}
