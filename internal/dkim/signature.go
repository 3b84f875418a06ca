package dkim

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
)

// Signature is a DKIM-Signature field as read (RFC 6376 §3.5).
type Signature struct {
	Algorithm Algorithm
	Value     []byte // b=
	BodyHash  []byte // bh=
	Header    Canonicalization
	Body      Canonicalization
	Domain    address.Domain // d=, whatever its spelling
	Selector  string         // s=, as A-labels
	Fields    []string       // h=, in lower case
	Identity  string         // i=, "@" and d= when it is absent
	Length    int64          // l=, octets of the canonical body; -1 when absent
	Time      time.Time      // t=; zero when absent
	Expires   time.Time      // x=; zero when absent or beyond all time
}

// Name is where the key record lies (RFC 6376 §3.6.2.1), as A-labels.
func (s *Signature) Name() string { return KeyName(s.Selector, s.Domain) }

// KeyName is where the key record of a selector lies.
func KeyName(selector string, domain address.Domain) string {
	return selector + "._domainkey." + domain.String()
}

// ParseSignature reads the value of a DKIM-Signature field. On an error it still
// returns what it could read; errors wrap ErrSyntax, ErrVersion, ErrMissing,
// ErrAlgorithm, ErrQuery, ErrFrom or ErrDomain.
func ParseSignature(value string) (*Signature, error) {
	s := &Signature{Length: -1}
	if len(value) > MaxFieldOctets {
		return s, fmt.Errorf("%w: more than %d octets", ErrSyntax, MaxFieldOctets)
	}
	tags, err := ParseTags(value)
	if err != nil {
		return s, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return s, s.read(DKIM, tags)
}

// Form is the kind of field that a signature stands in.
type Form uint8

// The forms.
const (
	DKIM       Form = iota // DKIM-Signature (RFC 6376 §3.5)
	ARCMessage             // ARC-Message-Signature (RFC 8617 §4.1.2): no v=, and i= is its reader's
	ARCSeal                // ARC-Seal (RFC 8617 §4.1.3): no v=, c=, h=, bh=, l= and x= either; Header is Relaxed
)

// ReadSignature reads the tags of a signature. On an error it still returns what it could read;
// errors are those of ParseSignature.
func ReadSignature(f Form, tags []Tag) (*Signature, error) {
	s := &Signature{Length: -1}
	return s, s.read(f, tags)
}

// read takes the tags; the names come first, so that a report can tell whose
// signature is wrong.
func (s *Signature) read(f Form, tags []Tag) error {
	values := make(map[string]string, len(tags))
	for _, t := range tags {
		values[t.Name] = t.Value
	}
	for _, step := range []struct {
		not  []Form
		read func(map[string]string) error
	}{
		{nil, s.readNames},
		{[]Form{ARCMessage, ARCSeal}, s.readVersion},
		{nil, s.readAlgorithm},
		{[]Form{ARCSeal}, s.readCanonicalization},
		{[]Form{ARCSeal}, s.readFields},
		{[]Form{ARCSeal}, s.readBodyHash},
		{nil, s.readValue},
		{nil, s.readTimes},
		{[]Form{ARCMessage, ARCSeal}, s.readIdentity},
	} {
		if slices.Contains(step.not, f) {
			continue
		}
		if err := step.read(values); err != nil {
			return err
		}
	}
	if f == ARCSeal {
		s.Header, s.Length, s.Expires = Relaxed, -1, time.Time{}
	}
	if f != DKIM {
		s.Identity = "@" + s.Domain.String()
	}
	return nil
}

// Prefix is the first octets of b= without blanks, which tell signatures apart (header.b of RFC 6008).
func (s *Signature) Prefix() string {
	b := base64.StdEncoding.EncodeToString(s.Value[:min(6, len(s.Value))])
	return b[:min(8, len(b))]
}

func (s *Signature) readNames(tags map[string]string) error {
	d, there := tags["d"]
	if !there {
		return fmt.Errorf("%w: d=", ErrMissing)
	}
	domain, err := address.ParseDomain(d)
	if err != nil || domain.IsLiteral() || strings.HasSuffix(d, ".") {
		return fmt.Errorf("%w: d=%.80q is no domain name", ErrSyntax, d)
	}
	s.Domain = domain
	sel, there := tags["s"]
	if !there {
		return fmt.Errorf("%w: s=", ErrMissing)
	}
	if s.Selector, err = ParseSelector(sel); err != nil {
		return fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return nil
}

// ParseSelector reads a selector: labels parted by dots (RFC 6376 §3.1), which
// may be U-labels (RFC 8616 §5). An underscore is taken too, since such
// selectors exist. It returns the A-labels in lower case.
func ParseSelector(s string) (string, error) {
	if len(s) > address.MaxDomainOctets {
		return "", fmt.Errorf("selector has more than %d octets", address.MaxDomainOctets)
	}
	plain := strings.ReplaceAll(s, "_", "x")
	d, err := address.ParseDomain(plain)
	if err != nil || d.IsLiteral() || strings.HasSuffix(s, ".") || plain != s && !isASCII(s) {
		return "", fmt.Errorf("selector %.80q is no name", s)
	}
	if plain != s {
		return strings.ToLower(s), nil
	}
	return d.String(), nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

func (s *Signature) readVersion(tags map[string]string) error {
	v, there := tags["v"]
	if !there {
		return fmt.Errorf("%w: v=", ErrMissing)
	}
	if v != "1" {
		return fmt.Errorf("%w: v=%.20q", ErrVersion, v)
	}
	if q, there := tags["q"]; there && !slices.Contains(list(q), "dns/txt") {
		return fmt.Errorf("%w: q=%.40q", ErrQuery, q)
	}
	return nil
}

func (s *Signature) readAlgorithm(tags map[string]string) error {
	a, there := tags["a"]
	if !there {
		return fmt.Errorf("%w: a=", ErrMissing)
	}
	for _, known := range []Algorithm{RSASHA256, Ed25519SHA256, RSASHA1} {
		if strings.EqualFold(a, known.String()) {
			s.Algorithm = known
		}
	}
	switch s.Algorithm {
	case RSASHA1: // RFC 8301 §3.1: must not be taken
		return fmt.Errorf("%w: rsa-sha1", ErrAlgorithm)
	case UnknownAlgorithm:
		return fmt.Errorf("%w: a=%.40q", ErrAlgorithm, a)
	case RSASHA256, Ed25519SHA256:
	}
	return nil
}

func (s *Signature) readCanonicalization(tags map[string]string) error {
	c, there := tags["c"]
	if !there {
		return nil // simple/simple
	}
	header, body, both := strings.Cut(c, "/")
	var known bool
	if s.Header, known = canonicalization(header); !known {
		return fmt.Errorf("%w: c=%.40q", ErrSyntax, c)
	}
	if !both {
		return nil // the body is simple
	}
	if s.Body, known = canonicalization(body); !known {
		return fmt.Errorf("%w: c=%.40q", ErrSyntax, c)
	}
	return nil
}

func canonicalization(word string) (c Canonicalization, known bool) {
	switch {
	case strings.EqualFold(word, "relaxed"):
		return Relaxed, true
	case strings.EqualFold(word, "simple"):
		return Simple, true
	}
	return Simple, false
}

func (s *Signature) readFields(tags map[string]string) error {
	h, there := tags["h"]
	if !there {
		return fmt.Errorf("%w: h=", ErrMissing)
	}
	names := list(strings.ToLower(h))
	if len(names) > MaxSignedFields {
		return fmt.Errorf("%w: h= has more than %d names", ErrSyntax, MaxSignedFields)
	}
	for _, n := range names {
		if n == "" || strings.ContainsFunc(n, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return fmt.Errorf("%w: h= has %.40q, which is no field name", ErrSyntax, n)
		}
	}
	s.Fields = names
	if !slices.Contains(names, "from") {
		return ErrFrom
	}
	return nil
}

func (s *Signature) readBodyHash(tags map[string]string) (err error) {
	if s.BodyHash, err = octets(tags, "bh"); err != nil {
		return err
	}
	if len(s.BodyHash) != 32 {
		return fmt.Errorf("%w: bh= has %d octets, SHA-256 has 32", ErrSyntax, len(s.BodyHash))
	}
	return nil
}

func (s *Signature) readValue(tags map[string]string) (err error) {
	s.Value, err = octets(tags, "b")
	return err
}

// octets reads a tag of base64.
func octets(tags map[string]string, name string) ([]byte, error) {
	text, there := tags[name]
	if !there {
		return nil, fmt.Errorf("%w: %s=", ErrMissing, name)
	}
	b, err := decodeBase64(text)
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%w: %s= is not base64", ErrSyntax, name)
	}
	return b, nil
}

func (s *Signature) readTimes(tags map[string]string) error {
	if l, there := tags["l"]; there {
		n, far, err := number(l, 76)
		if err != nil {
			return fmt.Errorf("%w: l=%.80q is not a number", ErrSyntax, l)
		}
		if s.Length = n; far {
			s.Length = 1 << 62
		}
	}
	var err error
	if t, there := tags["t"]; there {
		if s.Time, err = moment(t); err != nil {
			return fmt.Errorf("%w: t=%.40q is not a time", ErrSyntax, t)
		}
	}
	if x, there := tags["x"]; there {
		if s.Expires, err = moment(x); err != nil {
			return fmt.Errorf("%w: x=%.40q is not a time", ErrSyntax, x)
		}
	}
	if !s.Time.IsZero() && !s.Expires.IsZero() && !s.Expires.After(s.Time) {
		return fmt.Errorf("%w: x= is not after t=", ErrSyntax)
	}
	return nil
}

// number reads 1*most DIGIT; far tells that it does not fit.
func number(s string, most int) (n int64, far bool, err error) {
	if s == "" || len(s) > most || strings.Trim(s, "0123456789") != "" {
		return 0, false, strconv.ErrSyntax
	}
	n, err = strconv.ParseInt(s, 10, 64)
	return n, err != nil, nil
}

// moment reads seconds since 1970. A value of more than 12 digits counts as
// infinite (RFC 6376 §3.5 allows it) and is the zero Time.
func moment(s string) (time.Time, error) {
	n, _, err := number(s, 76)
	if err != nil {
		return time.Time{}, err
	}
	if len(strings.TrimLeft(s, "0")) > 12 {
		return time.Time{}, nil
	}
	return time.Unix(n, 0).UTC(), nil
}

// readIdentity reads i=: a local-part, "@", and d= or a subdomain of it. Blanks
// and the quoted-printable of RFC 6376 §2.11 stay as they are in the local-part.
func (s *Signature) readIdentity(tags map[string]string) error {
	id, there := tags["i"]
	if !there {
		s.Identity = "@" + s.Domain.String()
		return nil
	}
	at := strings.LastIndexByte(id, '@')
	if at < 0 {
		return fmt.Errorf("%w: i=%.80q has no @", ErrSyntax, id)
	}
	domain, err := address.ParseDomain(id[at+1:])
	if err != nil || domain.IsLiteral() {
		return fmt.Errorf("%w: i=%.80q has no domain", ErrSyntax, id)
	}
	s.Identity = dropFWS(id[:at]) + "@" + domain.String()
	if domain != s.Domain && !strings.HasSuffix(domain.String(), "."+s.Domain.String()) {
		return fmt.Errorf("%w: i=%.80q, d=%s", ErrDomain, id, s.Domain)
	}
	return nil
}

// identityDomain is what stands behind the "@" of i=.
func (s *Signature) identityDomain() string {
	return s.Identity[strings.LastIndexByte(s.Identity, '@')+1:]
}

// withoutValue is a DKIM-Signature field as it is hashed for itself: what stands
// between "b=" and the next semicolon is left out, and so is the final line end
// (RFC 6376 §3.7).
func withoutValue(raw []byte) []byte {
	colon := bytes.IndexByte(raw, ':') + 1
	out := append(make([]byte, 0, len(raw)), raw[:colon]...)
	for rest, more := raw[colon:], true; more; {
		var spec []byte
		spec, rest, more = bytes.Cut(rest, []byte{';'})
		if eq := bytes.IndexByte(spec, '='); eq >= 0 && string(bytes.Trim(spec[:eq], " \t\r\n")) == "b" {
			spec = spec[:eq+1]
		}
		out = append(out, spec...)
		if more {
			out = append(out, ';')
		}
	}
	return bytes.TrimRight(out, "\r\n")
}
