// Package tlsrpt holds the records and reports of SMTP TLS reporting (RFC 8460):
// what TLS sessions with a domain's hosts came to, told to that domain once a day.
package tlsrpt

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
)

// Result is what a session came to; "" is success (RFC 8460 §4.3).
type Result string

// The results.
const (
	Success                 Result = ""
	StartTLSNotSupported    Result = "starttls-not-supported"
	CertificateHostMismatch Result = "certificate-host-mismatch"
	CertificateExpired      Result = "certificate-expired"
	CertificateNotTrusted   Result = "certificate-not-trusted"
	ValidationFailure       Result = "validation-failure" // any other
	TLSAInvalid             Result = "tlsa-invalid"
	DNSSECInvalid           Result = "dnssec-invalid"
	DANERequired            Result = "dane-required"
	STSPolicyFetchError     Result = "sts-policy-fetch-error"
	STSPolicyInvalid        Result = "sts-policy-invalid"
	STSWebPKIInvalid        Result = "sts-webpki-invalid"
)

// PolicyType is the sort of policy that a session was held against (RFC 8460 §4.2).
type PolicyType string

// The policy types.
const (
	TLSA     PolicyType = "tlsa"
	STS      PolicyType = "sts"
	NoPolicy PolicyType = "no-policy-found"
)

// Errors; test with errors.Is.
var (
	ErrNoRecord = errors.New("the domain asks for no TLS reports")
	ErrSyntax   = errors.New("malformed TLS reporting record")
)

// maxURIs bounds the places of one record that are used.
const maxURIs = 10

// Record is the TXT record at _smtp._tls.DOMAIN (RFC 8460 §3).
type Record struct {
	URIs []*url.URL // of schemes mailto and https, in order; at least one
}

// NewRecord asks for reports by mail to addresses.
func NewRecord(to ...address.Address) Record {
	var r Record
	for _, a := range to {
		r.URIs = append(r.URIs, &url.URL{Scheme: "mailto", Opaque: url.PathEscape(a.String())})
	}
	return r
}

// String returns the record as it stands in DNS.
func (r Record) String() string {
	var uris []string
	for _, u := range r.URIs {
		uris = append(uris, strings.NewReplacer(",", "%2C", "!", "%21", ";", "%3B").Replace(u.String()))
	}
	return "v=TLSRPTv1; rua=" + strings.Join(uris, ",")
}

// ParseRecord reads the text of a TXT record. Unknown fields are passed over, as
// are places of unknown schemes. The error wraps ErrSyntax.
func ParseRecord(s string) (Record, error) {
	fields := strings.Split(s, ";")
	if strings.TrimRight(fields[0], " \t") != "v=TLSRPTv1" {
		return Record{}, fmt.Errorf("%w: it does not begin with v=TLSRPTv1", ErrSyntax)
	}
	if last := len(fields) - 1; last > 0 && strings.Trim(fields[last], " \t") == "" {
		fields = fields[:last]
	}
	var r Record
	seen := false
	for _, f := range fields[1:] {
		name, value, ok := strings.Cut(strings.Trim(f, " \t"), "=")
		if !ok || !isName(name) || value == "" {
			return Record{}, fmt.Errorf("%w: %q is no field", ErrSyntax, f[:min(len(f), 80)])
		}
		if name != "rua" {
			if strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '=' }) {
				return Record{}, fmt.Errorf("%w: %q is no field", ErrSyntax, f[:min(len(f), 80)])
			}
			continue
		}
		if seen {
			continue
		}
		seen = true
		var err error
		if r.URIs, err = parseURIs(value); err != nil {
			return Record{}, err
		}
	}
	if len(r.URIs) == 0 {
		return Record{}, fmt.Errorf("%w: it names no place for reports", ErrSyntax)
	}
	return r, nil
}

// isName: tlsrpt-ext-name of RFC 8460 §3.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if alnum := 'a' <= c && c <= 'z' || '0' <= s[i] && s[i] <= '9'; !alnum && (i == 0 || !strings.Contains("_-.", s[i:i+1])) {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

func parseURIs(s string) ([]*url.URL, error) {
	var out []*url.URL
	for part := range strings.SplitSeq(s, ",") {
		part = strings.Trim(part, " \t")
		if part == "" || strings.ContainsFunc(part, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '!' }) {
			return nil, fmt.Errorf("%w: %q is no URI", ErrSyntax, part[:min(len(part), 80)])
		}
		u, err := url.Parse(part)
		if err != nil {
			return nil, fmt.Errorf("%w: %q is no URI", ErrSyntax, part[:min(len(part), 80)])
		}
		usable := u.Scheme == "mailto" && strings.Contains(u.Opaque, "@") || u.Scheme == "https" && u.Host != ""
		if usable && len(out) < maxURIs {
			out = append(out, u)
		}
	}
	return out, nil
}

// LookupRecord asks for a domain's record. The error is ErrNoRecord if there is
// not exactly one (RFC 8460 §3), ErrSyntax if that one is malformed, or wraps
// resolver.ErrTemporary.
func LookupRecord(ctx context.Context, r resolver.Resolver, domain address.Domain) (Record, error) {
	ans, err := r.Lookup(ctx, "_smtp._tls."+domain.String(), resolver.TXT)
	if errors.Is(err, resolver.ErrNotFound) || errors.Is(err, resolver.ErrName) {
		return Record{}, fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	if err != nil {
		return Record{}, fmt.Errorf("look up the TLS reporting record of %s: %w", domain, err)
	}
	var found []string
	for _, rec := range ans.Records {
		if strings.HasPrefix(rec.Text, "v=TLSRPTv1;") {
			found = append(found, rec.Text)
		}
	}
	if len(found) != 1 {
		return Record{}, fmt.Errorf("%w: %d TXT records begin with v=TLSRPTv1;", ErrNoRecord, len(found))
	}
	return ParseRecord(found[0])
}
