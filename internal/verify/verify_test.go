package verify_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/arc/arctest"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/verdict"
	"poczta.example/poczta/internal/verify"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// sender signs with Ed25519 for any domain; its key is published below.
var edKey = ed25519.NewKeyFromSeed([]byte("01234567890123456789012345678901"))

const zoneText = `
1.2.0.192.in-addr.arpa.      PTR  mx.example.com.
mx.example.com.              A    192.0.2.1
mx.example.com.              TXT  "v=spf1 a -all"
9.2.0.192.in-addr.arpa.      PTR  liar.example.
liar.example.                A    192.0.2.200
!servfail 7.2.0.192.in-addr.arpa
example.com.                 TXT  "v=spf1 ip4:192.0.2.1 -all"
_dmarc.example.com.          TXT  "v=DMARC1; p=reject"
soft.example.                TXT  "v=spf1 ~all"
_dmarc.soft.example.         TXT  "v=DMARC1; p=quarantine"
neutral.example.             TXT  "v=spf1 ?all"
_dmarc.neutral.example.      TXT  "v=DMARC1; p=none"
broken.example.              TXT  "v=spf1 ip4:nonsense"
!servfail down.example
_dmarc.down.example.         TXT  "v=DMARC1; p=reject"
!servfail s._domainkey.late.example
_dmarc.late.example.         TXT  "v=DMARC1; p=reject"
!servfail _dmarc.dead.example
!servfail arc._domainkey.down.lists.example
!servfail arc._domainkey.late.example
ours.example.                TXT  "v=spf1 ip4:192.0.2.50 -all"
list.example.                TXT  "v=spf1 ip4:192.0.2.1 -all"
`

// world is the zone with keys.
func world(t testing.TB, sealers ...*arctest.Sealer) resolver.Resolver {
	t.Helper()
	text := zoneText
	pub, _ := edKey.Public().(ed25519.PublicKey)
	record, err := dkim.Record(pub)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"example.com", "soft.example", "neutral.example", "ours.example", "list.example", "nopolicy.example"} {
		text += "s._domainkey." + d + `. TXT "` + record + "\"\n"
	}
	text += "t._domainkey.example.com. TXT \"" + record + "; t=y\"\n"
	text += "weak._domainkey.example.com. TXT \"" + weakRecord + "\"\n"
	for _, s := range sealers {
		text += s.Name() + `. TXT "` + s.Record() + "\"\n"
	}
	z, err := resolver.NewZone(text)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// weakRecord is of an RSA key of 512 bits.
const weakRecord = "v=DKIM1; k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKkdP2p7ZQV8qRzWQ3ek6h3eEhJ0HQ4o8dI2T+2u0y1KX3Ue4dJ5h7z0G2m8vJQ3Xb5yqLJb0s7dJrT3P5m1V3kCAwEAAQ=="

func domain(t testing.TB, s string) address.Domain {
	t.Helper()
	d, err := address.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func path(t testing.TB, s string) address.ReversePath {
	t.Helper()
	p, err := address.ParseReversePath("<"+s+">", true)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sign puts a signature of s._domainkey.DOMAIN, or another selector's, on a message.
func sign(t testing.TB, selectorAndDomain, msg string) string {
	t.Helper()
	selector, name, _ := strings.Cut(selectorAndDomain, "@")
	s, err := dkim.NewSigner(domain(t, name), dkim.SigningKey{Selector: selector, Private: edKey})
	if err != nil {
		t.Fatal(err)
	}
	header, rest, _ := message.SplitHeader([]byte(msg))
	g := s.Begin(header, dkim.Options{})
	_, _ = g.Write(dkim.AfterEmptyLine(rest))
	f, err := g.Fields(now)
	if err != nil {
		t.Fatal(err)
	}
	return string(f) + msg
}

func letter(from string) string {
	return "From: " + from + "\r\nTo: ala@ours.example\r\nSubject: cat\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\nHas a cat.\r\n"
}

func own(_ context.Context, d address.Domain) (bool, error) {
	if d.String() == "unsure.example" {
		return false, errors.New("no database")
	}
	return d.String() == "ours.example", nil
}

// config is that of the tests.
func config(t testing.TB, r resolver.Resolver) verify.Config {
	t.Helper()
	return verify.Config{Resolver: r, Hostname: domain(t, "mx.ours.example"), Own: own, TrustedSealers: []string{"good.example", ".lists.example"},
		Exceptions: []verify.Rule{
			{Name: "newsletter", From: []string{"ours.example"}, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.32/28")}},
			{Name: "calendar", Signers: []string{".list.example", "list.example"}, ReversePaths: []string{"@list.example"}},
		},
		Overrides: []verify.Rule{
			{Name: "broken bank", From: []string{".example.com"}},
			{Name: "golang list", Lists: []string{"golang.list.example"}, Hosts: []string{".example.com"}},
		},
		Now: func() time.Time { return now }}
}

func verifier(t testing.TB, c verify.Config) *verify.Verifier {
	t.Helper()
	v, err := verify.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// run verifies a whole message.
func run(t testing.TB, v *verify.Verifier, peer, helo, reverse, msg string) *verify.Report {
	t.Helper()
	return runTo(t, v, peer, helo, reverse, msg)
}

// runTo verifies a whole message for recipients.
func runTo(t testing.TB, v *verify.Verifier, peer, helo, reverse, msg string, to ...envelope.Recipient) *verify.Report {
	t.Helper()
	m := verify.Message{ReversePath: path(t, reverse), Recipients: to}
	if peer != "" {
		m.Origin = envelope.Origin{Peer: netip.AddrPortFrom(netip.MustParseAddr(peer), 25), Helo: helo}
	}
	header, rest, _ := message.SplitHeader([]byte(msg))
	m.Header = header
	c := v.Begin(t.Context(), m)
	_, _ = c.Write(dkim.AfterEmptyLine(rest))
	r := c.Results(t.Context())
	c.Abort() // changes nothing
	return r
}

// names are the names of evidence, sorted.
func names(items []verdict.Item) string {
	var out []string
	for _, it := range items {
		out = append(out, string(it.Name))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	good, bad, list := arctest.New("good.example"), arctest.New("bad.example"), arctest.New("a.lists.example")
	down, late := arctest.New("down.lists.example"), arctest.New("late.example")
	v := verifier(t, config(t, world(t, good, bad, list)))
	const host, helo = "192.0.2.1", "mx.example.com"
	const stranger = "192.0.2.8"
	ala := letter("Ala <ala@example.com>")
	aar := func(what string) string { return "mx.good.example; " + what }
	changed := func(msg string) string { return strings.Replace(msg, "Subject: ", "Subject: [list] ", 1) }
	passed := aar("dmarc=pass (p=reject) header.from=example.com")
	tests := []struct {
		name, peer, helo, reverse, msg string
		want                           string
		verified, temp                 bool
	}{
		{"all in order", host, helo, "ala@example.com", sign(t, "s@example.com", ala), "dkim_pass dmarc_pass iprev_pass spf_pass", true, false},
		{"SPF alone", host, helo, "ala@example.com", ala, "dmarc_pass iprev_pass spf_pass", true, false},
		{"DKIM alone", stranger, "x.example", "ala@nopolicy.example", sign(t, "s@example.com", ala), "dkim_pass dmarc_pass iprev_fail spf_none", false, false},
		{"DKIM of the reverse-path's domain", stranger, "x.example", "ala@nopolicy.example", sign(t, "s@nopolicy.example", letter("a@nopolicy.example")), "dkim_pass iprev_fail spf_none", true, false},
		{"null reverse-path: HELO counts", host, helo, "", letter("a@mx.example.com"), "dmarc_pass iprev_pass spf_pass", false, false},
		{"null reverse-path, HELO no domain", host, "[192.0.2.1]", "", letter("a@nopolicy.example"), "iprev_pass spf_none", false, false},
		{"HELO fails", stranger, helo, "x@nopolicy.example", letter("x@nopolicy.example"), "iprev_fail spf_helo_fail spf_none", false, false},
		{"forged, p=reject", stranger, "x.example", "ala@example.com", ala, "dmarc_reject iprev_fail spf_fail", false, false},
		{"forged, p=quarantine", stranger, "x.example", "a@soft.example", letter("a@soft.example"), "dmarc_quarantine iprev_fail spf_softfail", false, false},
		{"forged, p=none", stranger, "x.example", "a@neutral.example", letter("a@neutral.example"), "dmarc_fail iprev_fail spf_none", false, false},
		{"names that lie", "192.0.2.9", "x.example", "a@nopolicy.example", letter("a@nopolicy.example"), "iprev_fail spf_none", false, false},
		{"reverse DNS down", "192.0.2.7", "x.example", "a@nopolicy.example", letter("a@nopolicy.example"), "auth_temperror spf_none", false, false},
		{"SPF broken", host, helo, "a@broken.example", letter("a@nopolicy.example"), "iprev_pass spf_permerror", false, false},
		{"SPF down, DMARC open", host, helo, "a@down.example", letter("a@down.example"), "auth_temperror auth_temperror iprev_pass", false, true},
		{"SPF down, DMARC passes by DKIM", host, helo, "a@down.example", sign(t, "s@example.com", ala), "auth_temperror dkim_pass dmarc_pass iprev_pass", false, false},
		{"key down, DMARC open", host, helo, "a@nopolicy.example", sign(t, "s@late.example", letter("a@late.example")), "auth_temperror auth_temperror iprev_pass spf_none", false, true},
		{"key down of a stranger", host, helo, "a@nopolicy.example", sign(t, "s@late.example", ala), "auth_temperror dmarc_reject iprev_pass spf_none", false, true},
		{"policy down", host, helo, "a@nopolicy.example", letter("a@dead.example"), "auth_temperror iprev_pass spf_none", false, true},
		{"signature broken", host, helo, "a@nopolicy.example", changed(sign(t, "s@neutral.example", letter("a@neutral.example"))), "dkim_fail dmarc_fail iprev_pass spf_none", false, false},
		{"signature broken, of a domain that tests", host, helo, "ala@example.com", changed(sign(t, "t@example.com", ala)), "dmarc_pass iprev_pass spf_pass", true, false},
		{"weak key", host, helo, "ala@example.com", strings.Replace(sign(t, "weak@example.com", ala), "a=ed25519-sha256", "a=rsa-sha256", 1), "dkim_weak dmarc_pass iprev_pass spf_pass", true, false},
		{"no From", host, helo, "ala@example.com", "Subject: x\r\n\r\nx\r\n", "iprev_pass spf_pass", true, false},
		{"file without a host", "", "", "ala@example.com", sign(t, "s@example.com", ala), "dkim_pass dmarc_pass", true, false},

		{"trusted forwarder", stranger, "x.example", "l@nopolicy.example", changed(good.Seal(t, ala, 1, "none", passed)), "arc_fail dmarc_reject iprev_fail spf_none", false, false},
		{"trusted forwarder seals what it changed", stranger, "x.example", "l@nopolicy.example", good.Seal(t, changed(ala), 1, "none", passed), "arc_trusted dmarc_override iprev_fail spf_none", false, false},
		{"trusted by a domain above", stranger, "x.example", "l@nopolicy.example", list.Seal(t, changed(ala), 1, "none", passed), "arc_trusted dmarc_override iprev_fail spf_none", false, false},
		{"trusted forwarder says fail", stranger, "x.example", "l@nopolicy.example", good.Seal(t, ala, 1, "none", aar("dmarc=fail header.from=example.com")), "dmarc_reject iprev_fail spf_none", false, false},
		{"trusted forwarder speaks of another", stranger, "x.example", "l@nopolicy.example", good.Seal(t, ala, 1, "none", aar("dmarc=pass header.from=soft.example")), "dmarc_reject iprev_fail spf_none", false, false},
		{"trusted forwarder speaks of DKIM", stranger, "x.example", "l@nopolicy.example", good.Seal(t, ala, 1, "none", aar("dkim=pass header.i=@example.com")), "arc_trusted dmarc_override iprev_fail spf_none", false, false},
		{"trusted forwarder speaks of a stranger's SPF", stranger, "x.example", "l@nopolicy.example", good.Seal(t, ala, 1, "none", aar("spf=pass smtp.mailfrom=x@bad.example")), "dmarc_reject iprev_fail spf_none", false, false},
		{"trusted forwarder's key down", stranger, "x.example", "l@nopolicy.example", down.Seal(t, ala, 1, "none", passed), "auth_temperror dmarc_reject iprev_fail spf_none", false, true},
		{"stranger's key down", stranger, "x.example", "l@nopolicy.example", late.Seal(t, ala, 1, "none", passed), "auth_temperror dmarc_reject iprev_fail spf_none", false, false},
		{"sealed last by a stranger", stranger, "x.example", "l@nopolicy.example", bad.Seal(t, good.Seal(t, ala, 1, "none", passed), 2, "pass", passed), "dmarc_reject iprev_fail spf_none", false, false},
		{"a stranger between trusted ones", stranger, "x.example", "l@nopolicy.example", good.Seal(t, bad.Seal(t, good.Seal(t, ala, 1, "none", passed), 2, "pass", passed), 3, "pass", aar("arc=pass; dmarc=fail")), "dmarc_reject iprev_fail spf_none", false, false},
		{"two trusted ones", stranger, "x.example", "l@nopolicy.example", good.Seal(t, list.Seal(t, ala, 1, "none", passed), 2, "pass", aar("arc=pass; dmarc=fail")), "arc_trusted dmarc_override iprev_fail spf_none", false, false},
		{"trusted forwarder, second From on top", stranger, "x.example", "l@nopolicy.example", "From: ceo@ours.example\r\n" + good.Seal(t, ala, 1, "none", passed), "dmarc_reject iprev_fail own_domain_forged spf_none", false, false},

		{"override by From", stranger, "x.example", "l@nopolicy.example", letter("a@sub.example.com"), "dmarc_override iprev_fail spf_none", false, false},
		{"override by list and host", host, helo, "l@nopolicy.example", "List-Id: Go <GoLang.list.example>\r\n" + ala, "dmarc_override iprev_pass spf_none", false, false},
		{"the list's name from another host", stranger, helo, "l@nopolicy.example", "List-Id: Go <golang.list.example>\r\n" + ala, "dmarc_reject iprev_fail spf_helo_fail spf_none", false, false},

		{"ours, forged", stranger, "x.example", "x@nopolicy.example", letter("Boss <boss@ours.example>"), "iprev_fail own_domain_forged spf_none", false, false},
		{"ours, SPF passes for another", host, helo, "ala@example.com", letter("boss@ours.example"), "iprev_pass own_domain_forged spf_pass", true, false},
		{"ours, by SPF", "192.0.2.50", "x.example", "boss@ours.example", letter("boss@ours.example"), "iprev_fail spf_pass", true, false},
		{"ours, by DKIM", stranger, "x.example", "x@nopolicy.example", sign(t, "s@ours.example", letter("boss@ours.example")), "dkim_pass iprev_fail spf_none", false, false},
		{"ours, by a trusted forwarder", stranger, "x.example", "x@nopolicy.example", good.Seal(t, letter("boss@ours.example"), 1, "none", aar("dkim=pass header.d=ours.example")), "arc_trusted iprev_fail spf_none", false, false},
		{"ours, exception by network", "192.0.2.40", "x.example", "x@nopolicy.example", letter("boss@ours.example"), "iprev_fail spf_none", false, false},
		{"ours, exception by signer and proven reverse-path", host, helo, "cal@list.example", sign(t, "s@list.example", letter("boss@ours.example")), "dkim_pass iprev_pass spf_pass", true, false},
		{"ours, exception's signer without its reverse-path", host, helo, "cal@soft.example", sign(t, "s@list.example", letter("boss@ours.example")), "dkim_pass iprev_pass own_domain_forged spf_softfail", false, false},
		{"ours, as the second author", host, helo, "ala@example.com", letter("ala@example.com, boss@ours.example"), "iprev_pass own_domain_forged spf_pass", true, false},
		{"ours, in a group", host, helo, "ala@example.com", letter("staff: boss@ours.example;"), "iprev_pass own_domain_forged spf_pass", true, false},
		{"ours, in a second From", host, helo, "ala@example.com", "From: boss@ours.example\r\n" + ala, "iprev_pass own_domain_forged spf_pass", true, false},
		{"ours, in a From that can't be read", host, helo, "ala@example.com", letter("Boss <boss@ours.example (ala@example.com"), "iprev_pass own_domain_forged spf_pass", true, false},
		{"ours, behind four others", host, helo, "ala@example.com", letter("a@a.example, a@b.example, a@c.example, a@d.example, boss@ours.example"), "iprev_pass own_domain_forged spf_pass", true, false},
		{"ours in Sender", host, helo, "ala@example.com", "Sender: boss@ours.example\r\n" + ala, "dmarc_pass iprev_pass spf_pass", true, false},
		{"nobody knows whether it is ours", host, helo, "ala@example.com", letter("boss@unsure.example"), "auth_temperror iprev_pass spf_pass", true, true},

		{"two authors, one proven", host, helo, "ala@example.com", letter("ala@example.com, a@soft.example"), "dmarc_quarantine iprev_pass spf_pass", true, false},
		{"two authors, both proven", host, helo, "ala@example.com", sign(t, "s@soft.example", letter("ala@example.com, a@soft.example")), "dkim_pass dmarc_pass iprev_pass spf_pass", true, false},
		{"two authors, the stricter policy", stranger, "x.example", "x@nopolicy.example", letter("a@soft.example, ala@example.com"), "dmarc_reject iprev_fail spf_none", false, false},
		{"From twice, proven", host, helo, "ala@example.com", "From: ala@example.com\r\n" + ala, "iprev_pass spf_pass", true, false},
		{"From malformed, forged", stranger, "x.example", "x@nopolicy.example", letter("<ala@example.com"), "dmarc_reject iprev_fail spf_none", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, v, tt.peer, tt.helo, tt.reverse, tt.msg)
			if got := names(r.Items); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if r.Verified != tt.verified || r.TempError != tt.temp || r.Forged != strings.Contains(tt.want, "forged") {
				t.Errorf("verified %v, temporary error %v, forged %v", r.Verified, r.TempError, r.Forged)
			}
			for _, it := range r.Items {
				if it.Detail == "" || len(it.Detail) > verdict.MaxDetailOctets || strings.ContainsAny(it.Detail, "\r\n") {
					t.Errorf("%s: detail %q", it.Name, it.Detail)
				}
				t.Logf("%s: %s", it.Name, it.Detail)
			}
			if t.Failed() {
				t.Logf("%s", r.Field().Append(nil))
			}
		})
	}
}

func TestDetails(t *testing.T) {
	t.Parallel()
	v := verifier(t, config(t, world(t)))
	r := run(t, v, "192.0.2.8", "x.example", "ala@example.com", letter("ala@example.com"))
	var got []string
	for _, it := range r.Items {
		got = append(got, it.Detail)
	}
	want := []string{"192.0.2.8 has no name.", "SPF of example.com does not allow 192.0.2.8 (-all).", "Nothing proves example.com, and example.com asks for p=reject."}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	good := arctest.New("good.example")
	v := verifier(t, config(t, world(t, good)))
	signed := sign(t, "s@example.com", letter("ala@example.com"))
	tests := []struct{ name, peer, reverse, msg, want string }{
		{"all", "192.0.2.1", "ala@example.com", good.Seal(t, signed, 1, "none", "x.example; none"), "Authentication-Results: mx.ours.example;\r\n" +
			"\tiprev=pass policy.iprev=192.0.2.1;\r\n\tspf=pass smtp.helo=mx.example.com;\r\n\tspf=pass smtp.mailfrom=ala@example.com;\r\n" +
			"\tdkim=pass header.d=example.com header.s=s header.a=ed25519-sha256\r\n\theader.i=@example.com header.b=PREFIX;\r\n\tdmarc=pass header.from=example.com;\r\n" +
			"\tarc=pass header.oldest-pass=0 smtp.remote-ip=192.0.2.1\r\n"},
		{"null reverse-path, forged", "192.0.2.8", "", letter("ala@example.com"), "Authentication-Results: mx.ours.example;\r\n" +
			"\tiprev=permerror policy.iprev=192.0.2.8;\r\n\tspf=fail smtp.helo=mx.example.com;\r\n\tdmarc=fail header.from=example.com policy.dmarc=reject\r\n"},
		{"overridden", "", "a@nopolicy.example", letter("ala@sub.example.com"), "Authentication-Results: mx.ours.example;\r\n\tdmarc=fail header.from=sub.example.com policy.dmarc=none\r\n"},
		{"nothing", "", "", "Subject: x\r\n\r\nx\r\n", "Authentication-Results: mx.ours.example; none\r\n"},
		{"two From", "", "", "From: a@nopolicy.example\r\n" + letter("a@nopolicy.example"), "Authentication-Results: mx.ours.example;\r\n" +
			"\tdmarc=permerror reason=\"there are several From fields\"\r\n\theader.from=nopolicy.example\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, v, tt.peer, "mx.example.com", tt.reverse, tt.msg)
			want := tt.want
			if len(r.DKIM) > 0 {
				b := r.DKIM[0].Prefix
				if strings.ContainsAny(b, "/=") {
					b = `"` + b + `"`
				}
				want = strings.Replace(want, "PREFIX", b, 1)
			}
			if d := cmp.Diff(want, string(r.Field().Append(nil))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestProven(t *testing.T) {
	t.Parallel()
	v := verifier(t, config(t, world(t)))
	msg := sign(t, "s@list.example", sign(t, "s@example.com", letter("a@sub.example.com")))
	r := run(t, v, "192.0.2.1", "mx.example.com", "x@list.example", msg)
	var got []string
	for _, d := range r.Proven {
		got = append(got, d.String())
	}
	if d := cmp.Diff([]string{"sub.example.com", "list.example", "example.com"}, got); d != "" {
		t.Error(d)
	}
	if r.From != domain(t, "sub.example.com") || !r.DMARC.AlignedDKIM || r.DMARC.AlignedSPF || !r.DMARC.Subdomain {
		t.Errorf("got %+v", r.DMARC)
	}
}

// TestOurPeople: mail of an account is not held against our domains.
func TestOurPeople(t *testing.T) {
	t.Parallel()
	v := verifier(t, config(t, world(t)))
	m := verify.Message{Origin: envelope.Origin{Account: 7}, ReversePath: path(t, "a@ours.example"), Header: []byte("From: a@ours.example\r\n")}
	if r := v.Begin(t.Context(), m).Results(t.Context()); r.Forged || len(r.Items) != 0 {
		t.Errorf("got %v", r.Items)
	}
}

// TestPeerName: a name that was verified before is not looked up again.
func TestPeerName(t *testing.T) {
	t.Parallel()
	v := verifier(t, config(t, world(t)))
	m := verify.Message{Origin: envelope.Origin{Peer: netip.MustParseAddrPort("192.0.2.7:25"), PeerName: "known.example"}, Header: []byte("From: a@nopolicy.example\r\n")}
	if r := v.Begin(t.Context(), m).Results(t.Context()); r.IPRev.Status != verify.IPRevPass || r.IPRev.Name != "known.example" {
		t.Errorf("got %+v", r.IPRev)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	net := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	tests := []struct {
		name   string
		change func(*verify.Config)
	}{
		{"no resolver", func(c *verify.Config) { c.Resolver = nil }},
		{"no host name", func(c *verify.Config) { c.Hostname = address.Domain{} }},
		{"bad sealer", func(c *verify.Config) { c.TrustedSealers = []string{"a b"} }},
		{"short keys", func(c *verify.Config) { c.MinRSABits = 512 }},
		{"negative time", func(c *verify.Config) { c.Timeout = -1 }},
		{"rule without a name", func(c *verify.Config) { c.Overrides = []verify.Rule{{From: []string{"a.example"}}} }},
		{"rule without a condition", func(c *verify.Config) { c.Overrides = []verify.Rule{{Name: "x"}} }},
		{"exception for anybody", func(c *verify.Config) { c.Exceptions = []verify.Rule{{Name: "x", From: []string{"a.example"}}} }},
		{"override by List-Id alone", func(c *verify.Config) { c.Overrides = []verify.Rule{{Name: "x", Lists: []string{"a"}}} }},
		{"rule with a bad domain", func(c *verify.Config) { c.Overrides = []verify.Rule{{Name: "x", Networks: net, From: []string{"a b"}}} }},
		{"rule with a bad reverse-path", func(c *verify.Config) { c.Overrides = []verify.Rule{{Name: "x", ReversePaths: []string{"a"}}} }},
		{"rule with a bad network", func(c *verify.Config) { c.Overrides = []verify.Rule{{Name: "x", Networks: make([]netip.Prefix, 1)}} }},
	}
	for _, tt := range tests {
		c := config(t, world(t))
		tt.change(&c)
		if _, err := verify.New(c); err == nil {
			t.Errorf("%s is taken", tt.name)
		}
	}
}

// rsaWorld is a cached zone with a 2048 bit key, and a signed message of about 4 KiB.
func rsaWorld(b testing.TB) (resolver.Resolver, []byte) {
	b.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	record, err := dkim.Record(&key.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	z, err := resolver.NewZone(zoneText + "r._domainkey.example.com. TXT \"" + record[:200] + `" "` + record[200:] + "\"\n")
	if err != nil {
		b.Fatal(err)
	}
	cache, err := resolver.NewCache(resolver.CacheConfig{Resolver: z})
	if err != nil {
		b.Fatal(err)
	}
	s, err := dkim.NewSigner(domain(b, "example.com"), dkim.SigningKey{Selector: "r", Private: key})
	if err != nil {
		b.Fatal(err)
	}
	msg := "Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nMessage-ID: <a@example.com>\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		letter("Ala <ala@example.com>") + strings.Repeat("The quick brown fox jumps over the lazy dog, and then it goes home.\r\n", 54)
	header, rest, _ := message.SplitHeader([]byte(msg))
	g := s.Begin(header, dkim.Options{})
	_, _ = g.Write(dkim.AfterEmptyLine(rest))
	f, err := g.Fields(now)
	if err != nil {
		b.Fatal(err)
	}
	return cache, append(f, msg...)
}

func BenchmarkVerify(b *testing.B) {
	r, msg := rsaWorld(b)
	v := verifier(b, config(b, r))
	header, rest, _ := message.SplitHeader(msg)
	m := verify.Message{Header: header, ReversePath: path(b, "ala@example.com"),
		Origin: envelope.Origin{Peer: netip.MustParseAddrPort("192.0.2.1:25"), Helo: "mx.example.com"}}
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		c := v.Begin(b.Context(), m)
		_, _ = c.Write(dkim.AfterEmptyLine(rest))
		if got := c.Results(b.Context()); len(got.Items) != 4 || got.DMARC.Status.String() != "pass" {
			b.Fatal(names(got.Items))
		}
	}
}
