package address_test

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"poczta.example/poczta/internal/address"
)

// foreign reads a file of the foreign test data, or skips.
func foreign(t *testing.T, name string) []byte {
	t.Helper()
	root := os.Getenv("POCZTA_TESTDATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if os.IsNotExist(err) {
		t.Skipf("foreign test data is not here (%s); set POCZTA_TESTDATA", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// deviations are verdicts in which we differ from a suite, each with the reason.
type deviations map[string]string

// judge compares our verdict with the suite's.
func (d deviations) judge(t *testing.T, in string, got, want bool, err error) {
	t.Helper()
	why, listed := d[in]
	switch {
	case got == want && listed:
		t.Errorf("%q: listed as a deviation (%s) but we agree", in, why)
	case got != want && !listed:
		t.Errorf("%q: got valid %v, want %v (%v)", in, got, want, err)
	}
}

const (
	longLocal   = "VERP and SRS make local-parts of more than 64 octets (RFC 5321 §4.5.3.1: impose no limits where possible)"
	label61     = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghikl"
	contextual  = "CONTEXTO rules are for registration, not for lookup (RFC 5891 §5.4)"
	laterStatus = "valid in UTS #46, which lookup follows; disallowed in IDNA2008"
	notPath     = "a From value, no envelope address: package message reads it"
)

// TestIsEmail: valid for RFC 5321 are the categories VALID, RFC5321, DNSWARN;
// CFWS, obsolete and RFC 5322-only forms are not for envelopes.
func TestIsEmail(t *testing.T) {
	t.Parallel()
	var suite struct {
		Tests []struct {
			Address   string `xml:"address"`
			Category  string `xml:"category"`
			Diagnosis string `xml:"diagnosis"`
		} `xml:"test"`
	}
	if err := xml.Unmarshal(foreign(t, "addr/isemail/tests.xml"), &suite); err != nil {
		t.Fatal(err)
	}
	differ := deviations{
		`""@iana.org`: "an empty local-part names no mailbox, and its key would be a catch-all's",
		"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghiklmn@iana.org":                                                                                      longLocal,
		`"abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz abcdefghj"@iana.org`:                                                                                      longLocal,
		`"abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz abcdefg\h"@iana.org`:                                                                                      longLocal,
		"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghiklm@" + label61 + "." + label61 + ".abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghij": "paths of more than 256 octets are taken (RFC 5321 §4.5.3.1: impose no limits where possible)",
		"test@[IPv6:1111:2222:3333:4444:5555:6666::8888]":                                                                                                                 "RFC 4291 lets :: stand for one group",
	}
	n := 0
	for _, c := range suite.Tests {
		in := strings.Map(func(r rune) rune {
			if r >= 0x2400 && r <= 0x2420 {
				return r - 0x2400
			}
			return r
		}, c.Address)
		want := c.Category == "ISEMAIL_VALID_CATEGORY" || c.Category == "ISEMAIL_RFC5321" || c.Category == "ISEMAIL_DNSWARN"
		a, err := address.Parse(in)
		differ.judge(t, in, err == nil, want, err)
		if err == nil && a.IsZero() {
			t.Errorf("%q: no error and no address", in)
		}
		n++
	}
	if n < 100 {
		t.Errorf("only %d cases were read", n)
	}
}

func TestJSONSchema(t *testing.T) {
	t.Parallel()
	email := deviations{}
	jsonSchema(t, "addr/json-schema/email.json", email, func(s string) error { _, err := address.Parse(s); return err })
	names := deviations{
		"실〮례.테스트": laterStatus, "ـߺ": laterStatus, "〱〲〳〴〵〮〯〻": laterStatus,
		"a·l": contextual, "·l": contextual, "l·a": contextual, "l·": contextual,
		"α͵S": contextual, "α͵": contextual, "׳ב": contextual, "״ב": contextual,
		"def・abc": contextual, "・": contextual, "xn--7a": contextual,
		"example.": "a final dot is the root of the DNS; paths refuse it",
	}
	jsonSchema(t, "addr/json-schema/idn-hostname.json", names, func(s string) error { _, err := address.ParseDomain(s); return err })
}

func jsonSchema(t *testing.T, file string, differ deviations, parse func(string) error) {
	t.Helper()
	var groups []struct {
		Tests []struct {
			Data  any
			Valid bool
		}
	}
	if err := json.Unmarshal(foreign(t, file), &groups); err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		for _, c := range g.Tests {
			if s, ok := c.Data.(string); ok {
				err := parse(s)
				differ.judge(t, s, err == nil, c.Valid, err)
			}
		}
	}
}

func TestFlanker(t *testing.T) {
	t.Parallel()
	differ := deviations{
		"bob@under_scope": "RFC 5321 §4.1.2 has no underscore in domains",
		`Bill Gates <"billy"@retired.Micr!osoft99.com>`:              notPath,
		`Matt "The Matt" Mickiewicz <matt.Mickiewicz@99designs.com>`: notPath,
		"(this is a comment) test@example.com":                       notPath,
		"test@example.com(this is a comment)":                        notPath,
	}
	for name, want := range map[string]bool{
		"mailbox_valid.txt": true, "mailbox_invalid.txt": false,
		"abridged_localpart_valid.txt": true, "abridged_localpart_invalid.txt": false,
	} {
		sc := bufio.NewScanner(strings.NewReader(string(foreign(t, "addr/flanker/"+name))))
		for sc.Scan() {
			in := sc.Text()
			if in == "" || strings.HasPrefix(in, "#") {
				continue
			}
			whole := in
			if strings.HasPrefix(name, "abridged") {
				whole = in + "@example.org"
			}
			_, err := address.Parse(whole)
			differ.judge(t, in, err == nil, want, err)
		}
	}
}

// TestPostfixHostnames holds names against Postfix's verdicts, which warns about
// what it refuses; like RFC 1123 and unlike Postfix we take numbers as names.
func TestPostfixHostnames(t *testing.T) {
	t.Parallel()
	verdict := map[string]string{}
	sc := bufio.NewScanner(strings.NewReader(string(foreign(t, "addr/postfix/valid_hostname.ref"))))
	last := ""
	for sc.Scan() {
		line := strings.TrimPrefix(sc.Text(), "./valid_hostname: ")
		if s, ok := strings.CutPrefix(line, "testing: "); ok {
			var err error
			if last, err = strconv.Unquote(s); err != nil {
				last = strings.Trim(s, `"`)
			}
			verdict[last] = ""
		} else if s, ok := strings.CutPrefix(line, "warning: valid_hostname: "); ok {
			verdict[last] = s
		}
	}
	for name, warning := range verdict {
		want := warning == "" || strings.HasPrefix(warning, "numeric hostname")
		if strings.ContainsAny(name, "_*") {
			want = false // RFC 5321 §4.1.2 has neither underscore nor wildcard
		}
		if name == "1.2.3.4.5." {
			want = true // the root's dot
		}
		if _, err := address.ParseDomain(name); (err == nil) != want {
			t.Errorf("%q: got %v, Postfix says %q", name, err, warning)
		}
	}
	if len(verdict) < 20 {
		t.Errorf("only %d names were read", len(verdict))
	}
}

// TestIDNA runs the conformance file of UTS #46, column toASCII
// non-transitional. We are stricter where the file says that one may be.
func TestIDNA(t *testing.T) {
	t.Parallel()
	sc := bufio.NewScanner(strings.NewReader(string(foreign(t, "idn/unicode/IdnaTestV2.txt"))))
	agree, differ := 0, 0
	for sc.Scan() {
		line, _, _ := strings.Cut(sc.Text(), "#")
		cols := strings.Split(line, ";")
		if len(cols) < 7 {
			continue
		}
		source := unescape(cols[0])
		toUnicode := orElse(unescape(cols[1]), source)
		toASCII := orElse(unescape(cols[3]), toUnicode)
		bad := idnaError(cols[2], cols[4])
		if source == "" || strings.HasSuffix(toASCII, ".") {
			continue // a final dot and the root are judged by our own rules
		}
		d, err := address.ParseDomain(source)
		switch {
		case source == "a.bc--de.f", strings.EqualFold(source, "fa\u1e9e.de"):
			// Names like r3---sn.example exist; U+1E9E changed in Unicode 15.1.
		case bad && err == nil:
			t.Errorf("%q: taken as %q, which UTS #46 refuses", source, d)
		case bad:
			agree++
		case err == nil && d.String() == strings.ToLower(toASCII):
			agree++
		case err == nil:
			t.Errorf("%q: got %q, want %q", source, d, toASCII)
		default:
			differ++ // we refuse more: characters outside IDNA2008, names from a later Unicode
		}
	}
	t.Logf("%d agree, %d refused by us alone", agree, differ)
	if agree < 3000 || differ > agree/10 {
		t.Errorf("%d agree, %d differ", agree, differ)
	}
}

// idnaError reads the status columns of toUnicode and toASCII.
func idnaError(toUnicode, toASCII string) bool {
	status := strings.TrimSpace(toASCII)
	if status == "" {
		status = strings.TrimSpace(toUnicode)
	}
	return status != "" && status != "[]"
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// unescape reads \uXXXX and \x{X} of the file; "" marks the empty string.
func unescape(s string) string {
	s = strings.TrimSpace(s)
	if s == `""` {
		return ""
	}
	if !strings.Contains(s, `\`) {
		return s
	}
	if u, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`); err == nil {
		return u
	}
	return s
}
