package feedback_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/feedback"
)

// foreign reads a file of the foreign test data, or skips the test outside CI.
func foreign(t *testing.T, name ...string) []byte {
	t.Helper()
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	text, err := os.ReadFile(filepath.Join(append([]string{dir}, name...)...))
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	return text
}

// expected is a report as mail-auth's tests write it.
type expected struct {
	Version  float64
	Metadata struct {
		Org     string `json:"org_name"`
		Email   string
		Contact *string `json:"extra_contact_info"`
		ID      string  `json:"report_id"`
		Range   struct {
			Begin int64
			End   int64
		} `json:"date_range"`
		Error []string
	} `json:"report_metadata"`
	Policy struct {
		Domain      string
		ADKIM, ASPF string
		P, SP, NP   string
		Testing     bool
		FO          *string
	} `json:"policy_published"`
	Record []struct {
		Row struct {
			Source    string `json:"source_ip"`
			Count     int64
			Evaluated struct {
				Disposition, DKIM, SPF string
				Reason                 []struct {
					Type    string `json:"type_"`
					Comment *string
				}
			} `json:"policy_evaluated"`
		}
		Identifiers struct {
			To         *string `json:"envelope_to"`
			From       string  `json:"envelope_from"`
			HeaderFrom string  `json:"header_from"`
		}
		Auth struct {
			DKIM []struct {
				Domain, Selector, Result string
				Human                    *string `json:"human_result"`
			}
			SPF []struct {
				Domain, Scope, Result string
				Human                 *string `json:"human_result"`
			}
		} `json:"auth_results"`
	}
}

// mailAuthWords are words that mail-auth writes otherwise than in lower case.
var mailAuthWords = map[string]string{
	"Unspecified": "", "Relaxed": "r", "Strict": "s", "MailFrom": "mfrom", "TrustedForwarder": "trusted_forwarder", "MailingList": "mailing_list",
	"LocalPolicy": "local_policy", "SoftFail": "softfail", "TempError": "temperror", "PermError": "permerror",
}

func plain(s string) string {
	if w, ok := mailAuthWords[s]; ok {
		return w
	}
	return strings.ToLower(s)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (e expected) aggregate(t *testing.T) *feedback.Aggregate {
	t.Helper()
	a := &feedback.Aggregate{
		Organization: e.Metadata.Org, Email: e.Metadata.Email, Contact: deref(e.Metadata.Contact), ID: e.Metadata.ID,
		Begin: time.Unix(e.Metadata.Range.Begin, 0).UTC(), End: time.Unix(e.Metadata.Range.End, 0).UTC(),
		Policy: feedback.Published{
			Domain: e.Policy.Domain, Policy: plain(e.Policy.P), Subdomain: plain(e.Policy.SP), NonExistent: plain(e.Policy.NP), DKIM: plain(e.Policy.ADKIM), SPF: plain(e.Policy.ASPF),
			Options: deref(e.Policy.FO), Testing: e.Policy.Testing,
		},
	}
	if e.Version != 0 {
		a.Version = strconv.FormatFloat(e.Version, 'f', 1, 64)
	}
	for _, r := range e.Record {
		rec := feedback.Record{
			Source: netip.MustParseAddr(r.Row.Source), Count: r.Row.Count, Disposition: plain(r.Row.Evaluated.Disposition), DKIM: plain(r.Row.Evaluated.DKIM),
			SPF: plain(r.Row.Evaluated.SPF), EnvelopeTo: deref(r.Identifiers.To), EnvelopeFrom: r.Identifiers.From, HeaderFrom: r.Identifiers.HeaderFrom,
		}
		for _, y := range r.Row.Evaluated.Reason {
			rec.Reasons = append(rec.Reasons, feedback.Reason{Type: plain(y.Type), Comment: deref(y.Comment)})
		}
		for _, d := range r.Auth.DKIM {
			rec.AuthDKIM = append(rec.AuthDKIM, feedback.DKIMResult{Domain: d.Domain, Selector: d.Selector, Result: plain(d.Result), Human: deref(d.Human)})
		}
		for _, s := range r.Auth.SPF {
			rec.AuthSPF = append(rec.AuthSPF, feedback.SPFResult{Domain: s.Domain, Scope: plain(s.Scope), Result: plain(s.Result), Human: deref(s.Human)})
		}
		a.Records = append(a.Records, rec)
	}
	return a
}

// compare holds a report against mail-auth's file NAME.json. Deviations: pct is read here and not
// there; there an unknown word is "Other" where it is a word of RFC 7489 (005).
func compare(t *testing.T, name string, got *feedback.Aggregate) {
	t.Helper()
	var e expected
	if err := json.Unmarshal(foreign(t, "dmarc", "mail-auth-feedback", name+".json"), &e); err != nil {
		t.Fatal(err)
	}
	want := e.aggregate(t)
	want.Policy.Percent = got.Policy.Percent
	if name == "005" {
		want.Records[0].Reasons[0].Type = "sampled_out"
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

func TestMailAuthXML(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"001", "003", "005"} {
		got, err := feedback.ReadAggregate(bytes.NewReader(foreign(t, "dmarc", "mail-auth-feedback", name+".xml")), feedback.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		compare(t, name, got)
	}
}

// TestParsedmarcXML reads parsedmarc's samples, whose expectations are facts of the files. The one that
// parsedmarc's name calls invalid has words in upper case, which are read.
func TestParsedmarcXML(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		folder, name, domain, first string
		records                     int
		messages, passed            int64
	}{
		{"aggregate", "!large-example.com!1711897200!1711983600.xml", "example.com", "none fail fail", 2286, 2286, 0},
		{"aggregate", "addisonfoods.com!example.com!1536105600!1536191999.xml", "example.com", "none fail fail", 1, 1, 0},
		{"aggregate", "old_draft_from_wiki.xml", "example.com", "none fail pass", 1, 2, 2},
		{"aggregate", "protection.outlook.com!example.com!1711756800!1711843200.xml", "example.com", "none fail fail", 1, 1, 0},
		{"aggregate", "veeam.com!example.com!1530133200!1530219600.xml", "example.com", "none fail fail", 1, 1, 0},
		{"aggregate_invalid", "report_with_upper_cased_pass.xml", "example.com", "none pass pass", 1, 1, 1},
	} {
		a, err := feedback.ReadAggregate(bytes.NewReader(foreign(t, "dmarc", "parsedmarc", c.folder, c.name)), feedback.Limits{})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		all, passed := a.Messages()
		if a.Policy.Domain != c.domain || len(a.Records) != c.records || all != c.messages || passed != c.passed || a.Damaged != "" {
			t.Errorf("%s: got %s, %d records, %d of %d messages, damaged %q", c.name, a.Policy.Domain, len(a.Records), passed, all, a.Damaged)
		}
		if r := a.Records[0]; r.Disposition+" "+r.DKIM+" "+r.SPF != c.first || !r.Source.IsValid() {
			t.Errorf("%s: got %+v", c.name, r)
		}
	}
}

// rfc9990 is a report with every element that is read.
const rfc9990 = `<?xml version="1.0" encoding="ISO-8859-1"?>
<!DOCTYPE feedback>
<d:feedback xmlns:d="urn:ietf:params:xml:ns:dmarc-2.0"><d:version>1.0</d:version>
<d:report_metadata><d:org_name> Reporter &amp; Sons ` + "\xe9" + ` </d:org_name><d:email>r@example.net</d:email><d:extra_contact_info lang="en">c</d:extra_contact_info>
<d:report_id>id-1</d:report_id><d:date_range><d:begin>1777075200</d:begin><d:end>1777161599.0</d:end></d:date_range><d:error lang="en">e1</d:error><d:error>e2</d:error><d:generator>g</d:generator></d:report_metadata>
<d:policy_published><d:domain>Example.ORG.</d:domain><d:discovery_method>TreeWalk</d:discovery_method><d:p>reject</d:p><d:sp>bogus</d:sp><d:np>quarantine</d:np><d:fo>1:d</d:fo><d:adkim>S</d:adkim><d:aspf>r</d:aspf><d:testing>y</d:testing></d:policy_published>
<ext:extension xmlns:ext="urn:x"><ext:record><ext:row/></ext:record><domain>no</domain></ext:extension>
<d:record><d:row><d:source_ip>2001:db8::1</d:source_ip><d:count>7</d:count><d:policy_evaluated><d:disposition>pass</d:disposition><d:dkim>pass</d:dkim><d:spf>fail</d:spf>
<d:reason><d:type>policy_test_mode</d:type><d:comment><![CDATA[ <why> ]]></d:comment></d:reason><d:reason><d:type>moon</d:type></d:reason></d:policy_evaluated></d:row>
<d:identifiers><d:header_from>Example.org</d:header_from><d:envelope_from>b.example.org</d:envelope_from><d:envelope_to>here.example</d:envelope_to></d:identifiers>
<d:auth_results><d:dkim><d:domain>example.org</d:domain><d:selector>s1</d:selector><d:result>pass</d:result><d:human_result>ok</d:human_result></d:dkim><d:dkim><d:domain>x.example</d:domain><d:result>what</d:result></d:dkim>
<d:spf><d:domain>b.example.org</d:domain><d:scope>mfrom</d:scope><d:result>HardFail</d:result></d:spf></d:auth_results></d:record>
</d:feedback> behind`

func TestReadAggregate(t *testing.T) {
	t.Parallel()
	want := &feedback.Aggregate{
		Version: "1.0", Organization: "Reporter & Sons é", Email: "r@example.net", Contact: "c", ID: "id-1", Begin: time.Unix(1777075200, 0).UTC(), End: time.Unix(1777161599, 0).UTC(),
		Errors: []string{"e1", "e2"}, Generator: "g",
		Policy: feedback.Published{Domain: "example.org", Policy: "reject", NonExistent: "quarantine", DKIM: "s", SPF: "r", Options: "1:d", Testing: true, Discovery: "treewalk"},
		Records: []feedback.Record{{
			Source: netip.MustParseAddr("2001:db8::1"), Count: 7, Disposition: "pass", DKIM: "pass", SPF: "fail", Reasons: []feedback.Reason{{Type: "policy_test_mode", Comment: "<why>"}, {Type: "other"}},
			EnvelopeTo: "here.example", EnvelopeFrom: "b.example.org", HeaderFrom: "example.org",
			AuthDKIM: []feedback.DKIMResult{{Domain: "example.org", Selector: "s1", Result: "pass", Human: "ok"}, {Domain: "x.example"}},
			AuthSPF:  []feedback.SPFResult{{Domain: "b.example.org", Scope: "mfrom", Result: "fail"}},
		}},
	}
	wide := bytes.NewBuffer([]byte{0xff, 0xfe}) // UTF-16
	for _, c := range strings.Replace(strings.ReplaceAll(rfc9990, "\xe9", "é"), "ISO-8859-1", "UTF-16", 1) {
		wide.Write([]byte{byte(c), byte(c >> 8)})
	}
	for name, file := range map[string][]byte{
		"plain": []byte(rfc9990), "gzip": gzipped([]byte(rfc9990)), "zip": zipped(t, []byte(rfc9990)), "gzip in zip": zipped(t, gzipped([]byte(rfc9990))),
		"gzip and more": append(gzipped([]byte(rfc9990)), "trailing"...), "UTF-16": wide.Bytes(), "no declaration": []byte("\xef\xbb\xbf" + strings.ReplaceAll(rfc9990[len(`<?xml version="1.0" encoding="ISO-8859-1"?>`):], "\xe9", "é")),
	} {
		got, err := feedback.ReadAggregate(bytes.NewReader(file), feedback.Limits{})
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(data)
	_ = z.Close()
	return b.Bytes()
}

func zipped(t *testing.T, files ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	if _, err := z.Create("folder/"); err != nil {
		t.Fatal(err)
	}
	for i, data := range files {
		w, err := z.Create(fmt.Sprintf("folder/../../%d.xml", i))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(data)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// head and tail are what stands around records.
const (
	head = `<feedback><report_metadata><org_name>o</org_name><report_id>i</report_id></report_metadata><policy_published><domain>example.org</domain><p>none</p></policy_published>`
	rec  = `<record><row><source_ip>192.0.2.1</source_ip><count>2</count><policy_evaluated><disposition>none</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row></record>`
	tail = `</feedback>`
)

// TestHostile has files that want to cost more than they should.
func TestHostile(t *testing.T) {
	t.Parallel()
	many := make([][]byte, 100)
	for i := range many {
		many[i] = []byte("x")
	}
	for _, c := range []struct {
		name string
		file []byte
		want error
	}{
		{"nothing", nil, feedback.ErrFormat},
		{"text", []byte("hello"), feedback.ErrFormat},
		{"other XML", []byte("<html></html>"), feedback.ErrFormat},
		{"no domain", []byte("<feedback></feedback>"), feedback.ErrFormat},
		{"entities", []byte(`<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>` + head + tail), feedback.ErrFormat},
		{"external entity", []byte(`<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>` + head + tail), feedback.ErrFormat},
		{"deep", []byte("<feedback>" + strings.Repeat("<a>", 100_000)), feedback.ErrFormat},
		{"attributes", []byte("<feedback " + strings.Repeat(`a=">" `, 100_000) + ">"), feedback.ErrTooLarge},
		{"text without end", []byte("<feedback><version>" + strings.Repeat("a", 100_000)), feedback.ErrTooLarge},
		{"gzip bomb", gzipped([]byte(head + strings.Repeat("<a></a>", 1<<20) + tail)), feedback.ErrTooLarge},
		{"zip bomb", zipped(t, []byte(head+strings.Repeat("<a></a>", 1<<20)+tail)), feedback.ErrTooLarge},
		{"gzip in zip bomb", zipped(t, gzipped([]byte(head+strings.Repeat("<a></a>", 1<<20)+tail))), feedback.ErrTooLarge},
		{"packed too large", bytes.Repeat([]byte("<"), 11<<20), feedback.ErrTooLarge},
		{"zip of many", zipped(t, many...), feedback.ErrTooLarge},
		{"zip of none", zipped(t), feedback.ErrFormat},
		{"zip cut", zipped(t, []byte(rfc9990))[:200], feedback.ErrFormat},
		{"gzip cut", gzipped([]byte(rfc9990))[:100], feedback.ErrFormat},
		{"charset", []byte(`<?xml version="1.0" encoding="moon"?>` + head + tail), feedback.ErrFormat},
	} {
		if a, err := feedback.ReadAggregate(bytes.NewReader(c.file), feedback.Limits{Unpacked: 4 << 20}); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, %v; want %v", c.name, a, err, c.want)
		}
	}
}

// TestBounds reads what is more than is kept.
func TestBounds(t *testing.T) {
	t.Parallel()
	dkim := strings.Repeat("<dkim><domain>d.example</domain><result>pass</result></dkim>", 30) + "<dkim><domain>last.example</domain></dkim>"
	reason := strings.Repeat("<reason><type>other</type></reason>", 30)
	big := `<record><row><source_ip>nonsense</source_ip><count>99999999999999999999</count><policy_evaluated>` + reason + `</policy_evaluated></row><auth_results>` + dkim + `</auth_results></record>`
	a, err := feedback.ReadAggregate(strings.NewReader(head+big+strings.Repeat(rec, 9)+tail), feedback.Limits{Records: 5})
	if err != nil || len(a.Records) != 5 || a.Omitted != 10 {
		t.Fatalf("got %v, %v", a, err)
	}
	r := a.Records[0]
	if len(r.AuthDKIM) != 20 || r.AuthDKIM[19].Domain != "d.example" || len(r.Reasons) != 10 || r.Source.IsValid() || r.Count != 0 {
		t.Errorf("got %+v", r)
	}
	for name, file := range map[string]string{"breaks off": head + rec + "<record><row>", "syntax": head + rec + "<record a=<b>", "end missing": head + rec + "<record><row></feedback>"} {
		a, err = feedback.ReadAggregate(strings.NewReader(file), feedback.Limits{})
		if err != nil || len(a.Records) != 1 || a.Damaged == "" {
			t.Errorf("%s: got %+v, %v", name, a, err)
		}
	}
	name := "a\u2028b\u0085c\n" + strings.Repeat("é", 300)
	a, err = feedback.ReadAggregate(strings.NewReader(strings.Replace(head, ">o<", ">"+name+"<", 1)+tail), feedback.Limits{})
	if want := "a b c " + strings.Repeat("é", 124); err != nil || a.Organization != want {
		t.Errorf("got %+v, %v; want %s", a, err, want)
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	a, err := feedback.ReadAggregate(strings.NewReader(rfc9990), feedback.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	spf := a.Records[0].AuthSPF
	for _, legacy := range []bool{false, true} {
		a.Legacy = legacy
		a.Records[0].AuthSPF = append([]feedback.SPFResult{{Domain: "h.example", Scope: "helo", Result: "pass"}}, spf...)
		file, err := a.Gzip()
		if err != nil {
			t.Fatal(err)
		}
		got, err := feedback.ReadAggregate(bytes.NewReader(file), feedback.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		want := *a
		want.Legacy = false
		if !legacy {
			want.Errors = want.Errors[:1]
		}
		if legacy {
			want.Generator, want.Policy.NonExistent, want.Policy.Testing, want.Policy.Discovery = "", "", false, ""
			want.Policy.Subdomain, want.Policy.Percent = "reject", "100" // which its schema wants
			want.Records[0].Disposition = "none"
		}
		if !legacy {
			want.Records = slices.Clone(want.Records)
			want.Records[0].AuthSPF = spf
		}
		if diff := cmp.Diff(&want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("legacy %v: %s", legacy, diff)
		}
		if legacy != (len(got.Records[0].AuthSPF) == 2) {
			t.Errorf("legacy %v: got %v", legacy, got.Records[0].AuthSPF)
		}
		xml, err := a.XML()
		if err != nil || bytes.Contains(xml, []byte(feedback.Namespace)) == legacy {
			t.Errorf("legacy %v: %v\n%s", legacy, err, xml)
		}
	}
}

// golden is a report as it is written: elements in the order of RFC 9990's schema.
const golden = `<?xml version="1.0" encoding="UTF-8"?>
<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">
 <version>1.0</version>
 <report_metadata>
  <org_name>A &amp; B</org_name>
  <email>dmarc@sender.example</email>
  <report_id>1@sender.example</report_id>
  <date_range>
   <begin>1728000000</begin>
   <end>1728086399</end>
  </date_range>
  <generator>Poczta</generator>
 </report_metadata>
 <policy_published>
  <domain>example.org</domain>
  <discovery_method>treewalk</discovery_method>
  <adkim>r</adkim>
  <aspf>s</aspf>
  <p>reject</p>
  <np>none</np>
  <testing>n</testing>
 </policy_published>
 <record>
  <row>
   <source_ip>2001:db8::1</source_ip>
   <count>7</count>
   <policy_evaluated>
    <disposition>none</disposition>
    <dkim>fail</dkim>
    <spf>fail</spf>
    <reason>
     <type>mailing_list</type>
    </reason>
   </policy_evaluated>
  </row>
  <identifiers>
   <envelope_from></envelope_from>
   <header_from>example.org</header_from>
  </identifiers>
  <auth_results>
   <dkim>
    <domain>example.org</domain>
    <selector>s</selector>
    <result>fail</result>
   </dkim>
   <spf>
    <domain>list.example</domain>
    <scope>mfrom</scope>
    <result>pass</result>
   </spf>
  </auth_results>
 </record>
</feedback>
`

func TestGolden(t *testing.T) {
	t.Parallel()
	got, err := (&feedback.Aggregate{
		Organization: "A & B", Email: "dmarc@sender.example", ID: "1@sender.example", Begin: time.Unix(1728000000, 0), End: time.Unix(1728086399, 0), Generator: "Poczta",
		Policy: feedback.Published{Domain: "example.org", Discovery: "treewalk", DKIM: "r", SPF: "s", Policy: "reject", NonExistent: "none"},
		Records: []feedback.Record{{
			Source: netip.MustParseAddr("2001:db8::1"), Count: 7, Disposition: "none", DKIM: "fail", SPF: "fail", Reasons: []feedback.Reason{{Type: "mailing_list"}}, HeaderFrom: "example.org",
			AuthDKIM: []feedback.DKIMResult{{Domain: "example.org", Selector: "s", Result: "fail"}}, AuthSPF: []feedback.SPFResult{{Domain: "list.example", Result: "pass"}},
		}},
	}).XML()
	if diff := cmp.Diff(golden, string(got)); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func FuzzReadAggregate(f *testing.F) {
	f.Add([]byte(rfc9990))
	f.Add([]byte(head + rec + tail))
	f.Add(gzipped([]byte(head + rec + tail)))
	f.Fuzz(func(t *testing.T, file []byte) {
		a, err := feedback.ReadAggregate(bytes.NewReader(file), feedback.Limits{Packed: 1 << 20, Unpacked: 1 << 20, Records: 10})
		if err != nil {
			return
		}
		if len(a.Records) > 10 || len(a.Organization) > 255 || a.Policy.Domain == "" {
			t.Errorf("out of bounds: %+v", a)
		}
		// What was read is written so that it reads the same, but for what is not written.
		out, err := a.XML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := feedback.ReadAggregate(bytes.NewReader(out), feedback.Limits{})
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if again.Policy.Domain != a.Policy.Domain || len(again.Records) != len(a.Records) || again.ID != a.ID {
			t.Errorf("%+v became %+v", a, again)
		}
	})
}
