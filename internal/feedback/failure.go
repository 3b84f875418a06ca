package feedback

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"net/netip"
	"strings"
	"time"
)

// Failure is a report about one message (RFC 5965 §3; RFC 6591 §3 for auth-failure).
// Of the message itself nothing is kept.
type Failure struct {
	Type       string     `json:"feedback_type"` // "abuse", "auth-failure", "fraud", "not-spam", "virus", "other" …, in lower case
	Failure    string     `json:"auth_failure,omitempty"`
	Delivery   string     `json:"delivery_result,omitempty"`
	Alignment  string     `json:"identity_alignment,omitempty"`
	Agent      string     `json:"user_agent,omitempty"`
	Version    string     `json:"version,omitempty"`
	Source     netip.Addr `json:"source_ip"` // zero when it is not told
	SourcePort int64      `json:"source_port,omitempty"`
	Arrived    time.Time  `json:"arrived"` // zero when it is not told
	Incidents  int64      `json:"incidents"`
	Domains    []string   `json:"reported_domains"` // in lower case
	URIs       []string   `json:"reported_uris,omitempty"`
	Reporter   string     `json:"reporting_mta,omitempty"`
	MailFrom   string     `json:"original_mail_from,omitempty"`
	RcptTo     string     `json:"original_rcpt_to,omitempty"`
	EnvelopeID string     `json:"original_envelope_id,omitempty"`
	DKIMDomain string     `json:"dkim_domain,omitempty"`
	Selector   string     `json:"dkim_selector,omitempty"`
	Identity   string     `json:"dkim_identity,omitempty"`
}

// Bounds of a failure report.
const (
	maxFailureOctets = 64 << 10
	maxListed        = 10 // domains or URIs
	maxIncidents     = 1e9
)

// ReadFailure reads the content of a message/feedback-report part: fields as in a header
// section. The error wraps ErrFormat when it has no Feedback-Type, or the reader's. At
// most 64 KiB are looked at.
func ReadFailure(r io.Reader) (*Failure, error) {
	f := &Failure{Incidents: 1}
	if err := fields(r, false, f.set); err != nil {
		return nil, err
	}
	if f.Type == "" {
		return nil, fmt.Errorf("%w: it has no Feedback-Type", ErrFormat)
	}
	return f, nil
}

// ReadPlainFailure reads a failure report that some hosts write into a text for people, as
// lines like "Sender Domain: example.org". ErrFormat: it names no domain or no address.
func ReadPlainFailure(r io.Reader) (*Failure, error) {
	f := &Failure{Incidents: 1, Type: "auth-failure", Failure: "dmarc"}
	err := fields(r, true, func(name, value string) {
		switch name {
		case "sender domain":
			f.set("reported-domain", value)
		case "sender ip address":
			f.set("source-ip", value)
		case "received date":
			f.set("arrival-date", value)
		}
	})
	if err != nil {
		return nil, err
	}
	if len(f.Domains) == 0 || !f.Source.IsValid() {
		return nil, fmt.Errorf("%w: no failure report for people either", ErrFormat)
	}
	return f, nil
}

// fields calls set for each field, names in lower case, values unfolded. Text for people is
// indented and ends where the message begins.
func fields(r io.Reader, people bool, set func(name, value string)) error {
	in := bufio.NewReader(io.LimitReader(r, maxFailureOctets))
	name, value := "", ""
	flush := func() {
		if name != "" {
			set(name, text(value))
		}
		name, value = "", ""
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read report: %w", err)
		}
		line = strings.TrimRight(line, "\r\n")
		folded := line != "" && (line[0] == ' ' || line[0] == '\t')
		if people {
			line, folded = strings.TrimSpace(line), false
		}
		if people && strings.HasPrefix(line, "------") {
			flush()
			return nil
		}
		if folded {
			if len(value) < 4*maxText {
				value += line
			}
		} else {
			flush()
			if n, v, ok := strings.Cut(line, ":"); ok {
				name, value = strings.ToLower(strings.TrimSpace(n)), v[:min(len(v), 4*maxText)]
			}
		}
		if err != nil {
			flush()
			return nil
		}
	}
}

func (f *Failure) set(name, v string) {
	if f.setAuth(name, v) || v == "" {
		return
	}
	switch name {
	case "feedback-type":
		f.Type = strings.ToLower(v)
	case "user-agent":
		f.Agent = v
	case "version":
		f.Version = v
	case "source-ip":
		if addr, err := netip.ParseAddr(strings.Trim(v, "[]")); err == nil {
			f.Source = addr.WithZone("").Unmap()
		}
	case "source-port":
		f.SourcePort, _ = number(v, 65535)
	case "arrival-date", "received-date":
		if t, err := mail.ParseDate(v); err == nil {
			f.Arrived = t.UTC()
		}
	case "incidents":
		if n, ok := number(v, maxIncidents); ok {
			f.Incidents = max(n, 1)
		}
	case "reported-domain":
		if len(f.Domains) < maxListed {
			f.Domains = append(f.Domains, strings.ToLower(strings.TrimSuffix(v, ".")))
		}
	case "reported-uri":
		if len(f.URIs) < maxListed {
			f.URIs = append(f.URIs, v)
		}
	case "reporting-mta":
		f.Reporter = v
	case "original-mail-from":
		f.MailFrom = v
	case "original-rcpt-to":
		f.RcptTo = v
	case "original-envelope-id":
		f.EnvelopeID = v
	}
}

// setAuth takes the fields of RFC 6591 §3.1 and §3.2, and RFC 9991's Identity-Alignment.
func (f *Failure) setAuth(name, v string) bool {
	switch name {
	case "auth-failure":
		f.Failure = strings.ToLower(v)
	case "delivery-result":
		f.Delivery = strings.ToLower(v)
	case "identity-alignment":
		f.Alignment = strings.ToLower(v)
	case "dkim-domain":
		f.DKIMDomain = strings.ToLower(v)
	case "dkim-selector":
		f.Selector = v
	case "dkim-identity":
		f.Identity = v
	default:
		return false
	}
	return true
}
