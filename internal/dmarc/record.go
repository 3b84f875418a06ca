// Package dmarc evaluates DMARC: it finds the policy that the domain in From
// publishes, says whether SPF or DKIM proves that domain, and what its owner asks for
// if not. It follows RFC 9989 (tree walk), or RFC 7489 with a public suffix list. It
// decides nothing: what becomes of a message is others' matter.
package dmarc

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/address"
)

// Policy is what a domain's owner asks for when nothing proves the domain in From
// (RFC 9989 §4.7); a later one is stricter.
type Policy uint8

// The policies.
const (
	PolicyNone Policy = iota
	PolicyQuarantine
	PolicyReject
)

var policyNames = [...]string{"none", "quarantine", "reject"}

// String is the policy's word in records and reports.
func (p Policy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return fmt.Sprintf("policy(%d)", uint8(p))
}

// ParsePolicy reads a policy's word in any case; ok is false for any other.
func ParsePolicy(s string) (p Policy, ok bool) {
	for i, name := range policyNames {
		if strings.EqualFold(s, name) {
			return Policy(i), true
		}
	}
	return 0, false
}

// below is the policy one level down, as t=y and pct ask for.
func (p Policy) below() Policy {
	if p == PolicyNone {
		return p
	}
	return p - 1
}

// PSD is the psd tag: whether the domain is a public suffix (RFC 9989 §4.7).
type PSD uint8

// The values of psd.
const (
	PSDUnknown PSD = iota // u, or no tag
	PSDNo                 // n: the domain is an organizational domain
	PSDYes                // y: a public suffix domain
)

// Record is a DMARC policy record, with its defaults filled in.
type Record struct {
	Policy      Policy // p
	Subdomain   Policy // sp; p when absent
	NonExistent Policy // np; sp or p when absent
	// Given tells which of p, sp and np the record itself has.
	Given Given

	StrictDKIM bool // adkim=s
	StrictSPF  bool // aspf=s
	PSD        PSD
	Testing    bool   // t=y
	Percent    int    // pct, 0 to 100; 100 when absent. Of RFC 7489 alone
	Options    string // fo as written; "" when absent or malformed

	Aggregate []URI // rua, the valid ones in order, at most MaxURIs
	Failure   []URI // ruf, likewise
}

// Given is a set of policy tags.
type Given struct {
	P  bool
	SP bool
	NP bool
}

// URI is a place for reports.
type URI struct {
	Text string // without the size limit
	// Address is that of a mailto URI; zero for other schemes, which we do not support.
	Address address.Address
	// Max is the most octets a report may have (RFC 7489 §6.2; obsolete in RFC 9989 §4.8); 0 is any number.
	Max int64
}

// Limits of records.
const (
	// MaxRecordOctets bounds a record that is read; no sane one has a tenth of it.
	MaxRecordOctets = 4096
	// MaxURIs bounds the places of one tag that are used (RFC 7489 §6.2 asks for two at least).
	MaxURIs = 5
	// maxTags bounds the tags of one record.
	maxTags = 64
)

// Errors of ParseRecord; test with errors.Is.
var (
	ErrNotDMARC = errors.New("not a DMARC record")
	ErrSyntax   = errors.New("malformed DMARC record")
)

// tag is one name and value of a record.
type tag struct{ name, value string }

// parseTags reads a list of tags (RFC 9989 §4.8). bad tells that some were no tags and were
// left out. The error is ErrNotDMARC when the first is not v=DMARC1, and ErrSyntax when
// a tag stands twice, which makes the whole list void (RFC 6376 §3.2).
func parseTags(s string) (tags []tag, bad bool, err error) {
	first, rest, _ := strings.Cut(s, ";")
	name, value, _ := strings.Cut(first, "=")
	if strings.TrimRight(name, " \t") != "v" || strings.Trim(value, " \t") != "DMARC1" {
		return nil, false, ErrNotDMARC
	}
	if len(s) > MaxRecordOctets {
		return nil, false, fmt.Errorf("%w: it has %d octets, at most %d are read", ErrSyntax, len(s), MaxRecordOctets)
	}
	seen := map[string]bool{"v": true}
	for part := range strings.SplitSeq(rest, ";") {
		part = strings.Trim(part, " \t")
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name, value = strings.ToLower(strings.TrimRight(name, " \t")), strings.TrimLeft(value, " \t")
		if !ok || name == "" || value == "" || !isTagName(name) || strings.ContainsFunc(value, isNotPrinting) {
			bad = true
			continue
		}
		if seen[name] {
			return nil, bad, fmt.Errorf("%w: the tag %s stands twice", ErrSyntax, name)
		}
		if len(tags) == maxTags {
			return nil, bad, fmt.Errorf("%w: it has more than %d tags", ErrSyntax, maxTags)
		}
		seen[name] = true
		tags = append(tags, tag{name, value})
	}
	return tags, bad, nil
}

// isTagName takes what RFC 6376 §3.2 does, of which RFC 9989's 1*ALPHA is a part.
func isTagName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if alpha := 'a' <= c && c <= 'z'; !alpha && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return len(s) <= 32
}

func isNotPrinting(c rune) bool { return c < ' ' || c > '~' }

// ParseRecord reads the text of a TXT record. Unknown tags are passed over, and tags
// with values that are none count as absent (RFC 9989 §4.8). The error is ErrNotDMARC when
// the text does not begin with v=DMARC1, and wraps ErrSyntax when it does and
// can't be used all the same: a tag stands twice, or p is missing, or one of p, sp
// and np is malformed, and there is no place for reports (RFC 9989 §4.10.1). With such a
// place it is as if it said p=none.
func ParseRecord(txt string) (*Record, error) {
	tags, _, err := parseTags(txt)
	if err != nil {
		return nil, err
	}
	r := &Record{Percent: 100}
	wrong := ""
	for _, t := range tags {
		if why := r.set(t); why != "" {
			wrong = why
		}
	}
	if !r.Given.P && wrong == "" {
		wrong = "it has no p tag"
	}
	if wrong != "" {
		if len(r.Aggregate) == 0 {
			return nil, fmt.Errorf("%w: %s", ErrSyntax, wrong)
		}
		r.Policy, r.Given = PolicyNone, Given{}
	}
	if !r.Given.SP {
		r.Subdomain = r.Policy
	}
	if !r.Given.NP {
		r.NonExistent = r.Subdomain
	}
	return r, nil
}

// set takes one tag. What it returns says why the policies can't be used.
func (r *Record) set(t tag) string {
	switch t.name {
	case "p":
		return setPolicy(t, &r.Policy, &r.Given.P)
	case "sp":
		return setPolicy(t, &r.Subdomain, &r.Given.SP)
	case "np":
		return setPolicy(t, &r.NonExistent, &r.Given.NP)
	case "adkim":
		r.StrictDKIM = strings.EqualFold(t.value, "s")
	case "aspf":
		r.StrictSPF = strings.EqualFold(t.value, "s")
	case "psd":
		switch strings.ToLower(t.value) {
		case "y":
			r.PSD = PSDYes
		case "n":
			r.PSD = PSDNo
		}
	case "t":
		r.Testing = strings.EqualFold(t.value, "y")
	case "pct":
		if n, err := strconv.ParseUint(t.value, 10, 8); err == nil && n <= 100 {
			r.Percent = int(n)
		}
	case "fo":
		if isOptions(t.value) {
			r.Options = strings.ToLower(t.value)
		}
	case "rua":
		r.Aggregate = parseURIs(t.value)
	case "ruf":
		r.Failure = parseURIs(t.value)
	}
	return ""
}

func setPolicy(t tag, p *Policy, given *bool) string {
	v, ok := ParsePolicy(t.value)
	if !ok {
		return "the tag " + t.name + " is none of none, quarantine and reject"
	}
	*p, *given = v, true
	return ""
}

// isOptions: a list of 0, 1, d and s with colons (dmarc-fo of RFC 9989 §4.8). RFC 7489 let 0
// and 1 stand beside each other, which is harmless.
func isOptions(s string) bool {
	seen := map[string]bool{}
	for o := range strings.SplitSeq(strings.ToLower(s), ":") {
		o = strings.Trim(o, " \t")
		if len(o) != 1 || !strings.Contains("01ds", o) || seen[o] {
			return false
		}
		seen[o] = true
	}
	return true
}

// parseURIs reads a list of places (dmarc-urilist of RFC 9989 §4.8). Malformed ones are left out.
func parseURIs(s string) []URI {
	var out []URI
	for part := range strings.SplitSeq(s, ",") {
		if u, ok := parseURI(strings.Trim(part, " \t")); ok && len(out) < MaxURIs {
			out = append(out, u)
		}
	}
	return out
}

func parseURI(s string) (URI, bool) {
	text, size, limited := strings.Cut(s, "!")
	u := URI{Text: text}
	if limited {
		var ok bool
		if u.Max, ok = parseSize(size); !ok {
			return URI{}, false
		}
	}
	p, err := url.Parse(text)
	if err != nil || p.Scheme == "" || strings.ContainsAny(text, " \t") {
		return URI{}, false
	}
	if p.Scheme != "mailto" {
		return u, p.Host != "" || p.Opaque != ""
	}
	plain, err := url.PathUnescape(p.Opaque)
	if err != nil {
		return URI{}, false
	}
	if u.Address, err = address.Parse(plain); err != nil {
		return URI{}, false
	}
	return u, true
}

// parseSize reads obs-dmarc-report-size without its "!". Too large a number is no limit.
func parseSize(s string) (int64, bool) {
	shift := 0
	if n := len(s); n > 0 {
		if i := strings.IndexByte("kmgt", s[n-1]|0x20); i >= 0 {
			shift, s = 10*(i+1), s[:n-1]
		}
	}
	if s == "" || strings.ContainsFunc(s, func(c rune) bool { return c < '0' || c > '9' }) {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > (1<<62)>>shift {
		return 0, true
	}
	return max(n<<shift, 1), true
}
