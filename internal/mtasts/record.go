// Package mtasts holds the records and policies of MTA Strict Transport Security
// (RFC 8461): reading and writing them, matching MX hosts, fetching the policies
// of others and serving our own.
package mtasts

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
)

// Errors; test with errors.Is.
var (
	ErrNoRecord = errors.New("the domain has no MTA-STS record")
	ErrSyntax   = errors.New("malformed MTA-STS text")
	ErrFetch    = errors.New("the MTA-STS policy cannot be fetched")
)

// Record is the TXT record at _mta-sts.DOMAIN (RFC 8461 §3.1).
type Record struct {
	ID string // changes with the policy; 1 to 32 letters and digits
}

// String returns the record as it stands in DNS.
func (r Record) String() string { return "v=STSv1; id=" + r.ID + ";" }

// ParseRecord reads the text of a TXT record. Unknown fields are passed over, and
// of fields with one name the first counts. The error wraps ErrSyntax.
func ParseRecord(s string) (Record, error) {
	version, rest, ok := strings.Cut(s, ";")
	if strings.TrimRight(version, " \t") != "v=STSv1" || !ok {
		return Record{}, fmt.Errorf("%w: the record does not begin with v=STSv1;", ErrSyntax)
	}
	fields := strings.Split(rest, ";")
	if len(fields) > 1 && strings.Trim(fields[len(fields)-1], " \t") == "" {
		fields = fields[:len(fields)-1]
	}
	var r Record
	for _, f := range fields {
		name, value, ok := strings.Cut(strings.Trim(f, " \t"), "=")
		switch {
		case !ok || !isExtensionName(name) || !isExtensionValue(value):
			return Record{}, fmt.Errorf("%w: %q is no field of a record", ErrSyntax, clip(f))
		case name == "id" && !isID(value):
			return Record{}, fmt.Errorf("%w: the id %q is not 1 to 32 letters and digits", ErrSyntax, clip(value))
		case name == "id" && r.ID == "":
			r.ID = value
		}
	}
	if r.ID == "" {
		return Record{}, fmt.Errorf("%w: the record has no id", ErrSyntax)
	}
	return r, nil
}

func isID(s string) bool {
	return len(s) >= 1 && len(s) <= 32 && strings.Trim(s, alphanumerics) == ""
}

const alphanumerics = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// isExtensionName: sts-ext-name of RFC 8461 §3.1 and sts-policy-ext-name of §3.2.
func isExtensionName(s string) bool {
	return len(s) >= 1 && len(s) <= 32 && strings.IndexByte(alphanumerics, s[0]) >= 0 && strings.Trim(s, alphanumerics+"_-.") == ""
}

// isExtensionValue: sts-ext-value of RFC 8461 §3.1.
func isExtensionValue(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '=' || c == ';' })
}

// LookupRecord asks for a domain's record. The error is ErrNoRecord if there is
// not exactly one (RFC 8461 §3.1), ErrSyntax if that one is malformed, or wraps
// resolver.ErrTemporary.
func LookupRecord(ctx context.Context, r resolver.Resolver, domain address.Domain) (Record, error) {
	ans, err := r.Lookup(ctx, "_mta-sts."+domain.String(), resolver.TXT)
	if errors.Is(err, resolver.ErrNotFound) || errors.Is(err, resolver.ErrName) {
		return Record{}, fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	if err != nil {
		return Record{}, fmt.Errorf("look up the MTA-STS record of %s: %w", domain, err)
	}
	var found []string
	for _, rec := range ans.Records {
		if strings.HasPrefix(rec.Text, "v=STSv1;") {
			found = append(found, rec.Text)
		}
	}
	if len(found) != 1 {
		return Record{}, fmt.Errorf("%w: %d TXT records begin with v=STSv1;", ErrNoRecord, len(found))
	}
	return ParseRecord(found[0])
}

func clip(s string) string { return s[:min(len(s), 80)] }
