package e2e_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/mailtest/peer"
)

// foreign reads a file of the foreign test data; without them the test is skipped, or fails in CI.
func foreign(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(os.Getenv("POCZTA_TESTDATA"), name))
	if os.Getenv("POCZTA_TESTDATA") == "" || err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("foreign test data is not here: POCZTA_TESTDATA does not lead to %s", name)
		}
		t.Skipf("skipped: foreign test data is not here: set POCZTA_TESTDATA (%s)", name)
	}
	return text
}

// asMail gives a file of other systems the line ends of mail, with dots stuffed.
func asMail(text []byte) string {
	s := strings.ReplaceAll(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n", "\r\n")
	return strings.TrimSuffix(strings.ReplaceAll("\r\n"+s, "\r\n.", "\r\n..")[2:], "\r\n") + "\r\n"
}

// reportMail is a mail that carries an aggregate report as others send it.
func reportMail(t *testing.T, from, domain, file string, xml []byte) string {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(xml)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(packed.Bytes())
	var lines strings.Builder
	for ; len(text) > 76; text = text[76:] {
		lines.WriteString(text[:76] + "\r\n")
	}
	return "From: " + from + "\r\nTo: postmaster@" + domain + "\r\nSubject: Report Domain: " + domain + " Submitter: far.test Report-ID: <1@far.test>\r\nDate: " + time.Now().Format(time.RFC1123Z) +
		"\r\nMessage-ID: <1@far.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nThis is a report.\r\n" +
		"--b\r\nContent-Type: application/gzip; name=\"" + file + "\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"" + file + "\"\r\n\r\n" + lines.String() + text + "\r\n--b--\r\n"
}

// TestReportsArrive mails reports of other systems to the postmaster of domains of ours, one that
// proves who it is and two that do not: they are kept, listed and summed up, and the mail arrives, too.
func TestReportsArrive(t *testing.T) {
	t.Parallel()
	const addisonfoods = "addisonfoods.com!example.com!1536105600!1536191999.xml"
	xml := foreign(t, "dmarc/parsedmarc/aggregate/"+addisonfoods)
	google := foreign(t, "dmarc/parsedmarc/aggregate/Report domain- borschow.com Submitter- google.com Report-ID- 949348866075514174.eml")
	tls := foreign(t, "tlsrpt/parsedmarc/google.com_smtp_tls_report.eml")
	n := newNames(t, far(`_dmarc.far.test. TXT "v=DMARC1; p=none"`)...)
	s := setup(t, scored(n)...)
	for _, d := range []string{"example.com", "borschow.com", "cardinalhealth.ca"} {
		s.run("", "domain", "add", d)
		s.run("", "alias", "add", "postmaster@"+d, ala)
	}
	s.start()
	s.outsider("192.0.2.10", "mx.far.test").data("jan@far.test", "postmaster@example.com", reportMail(t, "jan@far.test", "example.com", addisonfoods+".gz", xml), "250")
	s.outsider("203.0.113.9", "mail.google.test").data("noreply@google.test", "postmaster@borschow.com", asMail(google), "250")
	s.outsider("203.0.113.9", "mail.google.test").data("noreply@google.test", "postmaster@cardinalhealth.ca", asMail(tls), "250")
	reports := func(args ...string) []map[string]any {
		return s.list(append([]string{"domain", "reports", "--since", "2010-01-01"}, args...)...)
	}
	s.await("the reports are read", 20*time.Second, func() bool { return len(reports()) == 2 && len(reports("--tls")) == 1 })
	row := reports("example.com")[0]
	if row["organization"] != "addisonfoods.com" || row["reporter"] != "far.test" || row["messages"] != 1.0 || row["passed"] != 0.0 {
		t.Errorf("the list says %v of a report by far.test, of one message that failed", row)
	}
	if row := reports("borschow.com")[0]; row["organization"] != "google.com" || row["reporter"] != "" || row["messages"].(float64) < 1 {
		t.Errorf("the list says %v of a report that nothing proves", row)
	}
	if got := s.run("", "domain", "reports", "--since", "2010-01-01"); !strings.Contains(got, "google.com (unproven)") {
		t.Errorf("the list does not say what is unproven:\n%s", got)
	}
	if got := s.run("", "domain", "reports", "--show", fmt.Sprint(row["id"])); !strings.Contains(got, "109.203.100.17") || !strings.Contains(got, "policy p=none") {
		t.Errorf("the report is shown as %q", got)
	}
	if got := reports("example.com", "--sources"); len(got) != 1 || got[0]["address"] != "109.203.100.17" {
		t.Errorf("the sources are %v", got)
	}
	if got := reports("cardinalhealth.ca", "--tls")[0]; got["organization"] == "" || got["successes"].(float64)+got["failures"].(float64) < 1 {
		t.Errorf("the list says %v of a report about TLS", got)
	}
	if got := s.letters(ala); got != 3 {
		t.Errorf("%d mails have come, want 3", got)
	}
	s.figure(`poczta_dmarc_reports_total{direction="received",kind="aggregate"}`, 2)
	s.outsider("192.0.2.10", "mx.far.test").data("jan@far.test", "postmaster@example.com", reportMail(t, "jan@far.test", "example.com", addisonfoods+".gz", xml), "250")
	s.await("the same report again is told apart", 20*time.Second, func() bool { return strings.Contains(s.log.String(), "received before") })
	if got := len(reports()); got != 2 {
		t.Errorf("%d reports are kept, want 2: the same one is kept once", got)
	}
}

// TestReportsLeave has mail of a domain that asks for reports judged, puts it two days back (the day before is reported at a random time up to 04:00 UTC),
// and has programs of others read the report that goes: Python's mail package, dmarc-cat, and
// xmllint, for the older form with the schema of RFC 7489.
func TestReportsLeave(t *testing.T) {
	t.Parallel()
	cat, lint, python := tool(t, "dmarc-cat"), tool(t, "xmllint"), tool(t, "python3")
	schema, err := filepath.Abs("testdata/rfc7489.xsd")
	if err != nil {
		t.Fatal(err)
	}
	for _, standard := range []string{"rfc9989", "rfc7489"} {
		t.Run(standard, func(t *testing.T) {
			t.Parallel()
			n := newNames(t, far(`_dmarc.far.test. TXT "v=DMARC1; p=quarantine; rua=mailto:dmarc@far.test"`)...)
			p := peer.Start(t, peer.Config{})
			conf := append(scored(n), hub(p.Listen(t)), fmt.Sprintf("[verify]\ndmarc = %q", standard))
			for i := range conf {
				conf[i] = strings.Replace(conf[i], "[dmarc_reports]\nsend = false", "[dmarc_reports]\nsend = true", 1)
			}
			s := setup(t, conf...)
			s.start()
			for i := range 3 {
				s.incoming(written("jan@far.test", ala, fmt.Sprint("good ", i), "Hello."), "250")
			}
			s.outsider("203.0.113.9", "thief.test").data("jan@far.test", ala, written("jan@far.test", ala, "forged", "Hello."), "250")
			s.elapse(`UPDATE dmarc_count SET day = day - CASE WHEN ? > 0 THEN 2 ELSE 0 END`, time.Hour)
			s.await("the report has come", 20*time.Second, func() bool { return len(p.Messages()) == 1 })
			dir := t.TempDir()
			keep(t, dir, "report.eml", string(p.Messages()[0].Data))
			name := strings.TrimSpace(execute(t, dir, "", python, "-c", unpack))
			said := execute(t, dir, "", cat, "-N", name)
			for _, want := range []string{"Reporting by: " + domain, "Domain: far.test", "p=quarantine", "192.0.2.10", "203.0.113.9"} {
				if !strings.Contains(said, want) {
					t.Errorf("dmarc-cat's reading lacks %q:\n%s", want, said)
				}
			}
			args := []string{"--noout", strings.TrimSuffix(name, ".gz")}
			if standard == "rfc7489" {
				args = append([]string{"--schema", schema}, args...)
			}
			execute(t, dir, "", lint, args...)
			m, err := mail.ReadMessage(bytes.NewReader(p.Messages()[0].Data))
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Header.Get("Subject"); !strings.HasPrefix(got, "Report Domain: far.test Submitter: "+domain) {
				t.Errorf("the report's subject is %q", got)
			}
			s.signed("the report", p.Messages()[0].Data)
			s.figure(`poczta_dmarc_reports_total{direction="sent",kind="aggregate"}`, 1)
			s.elapse(`UPDATE dmarc_count SET messages = messages + CASE WHEN ? > 0 THEN 1 ELSE 0 END`, time.Hour)
			s.idle(10 * time.Second)
			if got := len(p.Messages()); got != 1 {
				t.Errorf("%d reports of one day have left", got)
			}
		})
	}
}

// unpack writes the report that a mail carries, packed and unpacked, and prints its name.
const unpack = `
import email, email.policy, gzip
m = email.message_from_binary_file(open("report.eml", "rb"), policy=email.policy.default)
parts = [p for p in m.walk() if p.get_content_type() == "application/gzip"]
assert len(parts) == 1, [p.get_content_type() for p in m.walk()]
name, octets = parts[0].get_filename(), parts[0].get_content()
open(name, "wb").write(octets)
open(name.removesuffix(".gz"), "wb").write(gzip.decompress(octets))
print(name)
`
