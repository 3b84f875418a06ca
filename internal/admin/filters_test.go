package admin_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/admin"
	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/daemon"
	"poczta.example/poczta/internal/dmarcreport"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/tlsreport"
	"poczta.example/poczta/internal/tlsrpt"
)

// office is a desk over real rooms in a folder of its own.
type office struct {
	*admin.Desk
	t   *testing.T
	out bytes.Buffer
}

// openOffice opens a desk; more is configuration behind the first keys.
func openOffice(t *testing.T, more ...string) *office {
	t.Helper()
	c, err := config.Parse("poczta.toml", fmt.Appendf(nil, "hostname = \"mx.example.org\"\ndata = %q\n%s", t.TempDir(), strings.Join(more, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	r, err := daemon.OpenRooms(t.Context(), c, daemon.RoomOptions{Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	zone, err := resolver.NewZone("far.test. TXT \"v=spf1 -all\"\n")
	if err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, Desk: &admin.Desk{Rooms: r, Now: time.Now, Resolver: zone}}
	o.Out, o.Err = &o.out, &o.out
	o.run("domain", o.DomainAdd(t.Context(), "example.org"))
	o.run("account", o.AccountAdd(t.Context(), "ala@example.org", admin.AccountOptions{NoPassword: true, Quota: "none"}))
	return o
}

// run returns what a command has printed.
func (o *office) run(name string, err error) string {
	o.t.Helper()
	if err != nil {
		o.t.Fatalf("%s: %v", name, err)
	}
	said := o.out.String()
	o.out.Reset()
	return said
}

// says reports an error unless every line pattern is met.
func (o *office) says(name, said string, patterns ...string) {
	o.t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)" + p).MatchString(said) {
			o.t.Errorf("%s does not say %q:\n%s", name, p, said)
		}
	}
}

func parseMail(t *testing.T, text string) (*strings.Reader, *mime.Part) {
	t.Helper()
	r := strings.NewReader(text)
	root, err := mime.Parse(r, r.Size(), mime.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return r, root
}

const (
	aggregate = "Content-Type: text/xml\r\n\r\n" + `<feedback><report_metadata><org_name>Big</org_name><email>e@big.example</email><report_id>1</report_id><date_range><begin>1795305600</begin><end>1795391999</end></date_range></report_metadata>
<policy_published><domain>example.org</domain><p>reject</p></policy_published>
<record><row><source_ip>192.0.2.1</source_ip><count>3</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>example.org</header_from></identifiers></record>
<record><row><source_ip>203.0.113.5</source_ip><count>4</count><policy_evaluated><disposition>reject</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>example.org</header_from></identifiers></record>
</feedback>`
	single = "Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\n" +
		"Feedback-Type: auth-failure\r\nVersion: 1\r\nReported-Domain: example.org\r\nSource-IP: 203.0.113.7\r\nAuth-Failure: dmarc\r\nArrival-Date: Tue, 30 Apr 2024 02:09:00 +0000\r\n\r\n--b--\r\n"
)

// TestReports: what others report is listed, summed up and shown.
func TestReports(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	big, err := address.ParseDomain("big.example")
	if err != nil {
		t.Fatal(err)
	}
	var id string
	for _, text := range []string{aggregate, single} {
		r, root := parseMail(t, text)
		taken, err := o.Rooms.DMARCReports.Take(t.Context(), dmarcreport.Message{Body: r, Root: root, From: big, Received: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if taken.Kind == "aggregate" {
			id = taken.ID
		}
	}
	list := func(opt admin.ReportsOptions) string {
		t.Helper()
		return o.run("domain reports", o.DomainReports(t.Context(), opt))
	}
	o.says("the list", list(admin.ReportsOptions{Since: "2024-01-01"}), `^`+id+` +example\.org +2026-11-22T00:00:00Z +2026-11-22T23:59:59Z +Big \(big\.example\) +7 +3$`)
	if said := list(admin.ReportsOptions{Domain: "other.example", Since: "2024-01-01"}); said != "" {
		t.Errorf("another domain has reports: %s", said)
	}
	o.says("one report", list(admin.ReportsOptions{Show: id}), `policy p=reject, 7 messages, 3 of them passed`, `^203\.0\.113\.5 +4 +fail +fail +reject +example\.org`)
	o.says("the sources", list(admin.ReportsOptions{Domain: "example.org", Sources: true}), `^203\.0\.113\.5 +4 +0 +1$`, `^192\.0\.2\.1 +3 +3 +1$`)
	o.says("the failures", list(admin.ReportsOptions{Failures: true, Since: "2024-01-01"}), `example\.org +203\.0\.113\.7 +auth-failure +dmarc +2024-04-30T02:09:00Z +big\.example +1$`)
	if err := o.DomainReports(t.Context(), admin.ReportsOptions{TLS: true, Show: id}); err == nil {
		t.Error("a DMARC report is shown as one of TLS")
	}

	a, err := address.Parse("tls@big.example")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	rep := tlsrpt.Report{Organization: "Big", Range: tlsrpt.Day(now.Unix()/86400 - 1), Contact: "c@big.example", ID: "7", Policies: []tlsrpt.PolicyResult{{
		Policy: tlsrpt.Policy{Type: tlsrpt.STS, Domain: "example.org"}, Summary: tlsrpt.Summary{Success: 5, Failure: 1},
		Failures: []tlsrpt.Failure{{Result: tlsrpt.CertificateExpired, SendingIP: "192.0.2.1", Sessions: 1}}}}}
	text, err := rep.Message(tlsrpt.Mail{From: a, To: a, Domain: a.Domain(), MessageID: "<1@big.example>", Date: now})
	if err != nil {
		t.Fatal(err)
	}
	r, root := parseMail(t, string(text))
	if err := o.Rooms.TLSReports.Take(t.Context(), tlsreport.Message{Body: r, Root: root}); err != nil {
		t.Fatal(err)
	}
	said := list(admin.ReportsOptions{TLS: true})
	o.says("the list of TLS", said, ` example\.org .* Big \(unproven\) +5 +1$`)
	shown := list(admin.ReportsOptions{TLS: true, Show: strings.Fields(strings.Split(said, "\n")[1])[0]})
	o.says("one report of TLS", shown, `policy sts of example\.org: 5 sessions succeeded, 1 failed`)
}

// TestConduct: an account that is held back is listed with the reason, and released.
func TestConduct(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	a, err := o.Rooms.Accounts.Get(t.Context(), "ala@example.org")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Rooms.Conduct.Judge(t.Context(), a.ID, conduct.Sent{Messages: 6, Recipients: 6, Spam: 6}); err != nil {
		t.Fatal(err)
	}
	o.says("the list", o.run("conduct", o.AccountConduct(t.Context(), "", false)), `^ala@example\.org +hold +20`)
	o.says("one account", o.run("conduct", o.AccountConduct(t.Context(), "ala@example.org", false)), `^  hold since .*account conduct ala@example\.org --release ends that`)
	o.says("the release", o.run("release", o.AccountConduct(t.Context(), "ala@example.org", true)), `may send again`)
	if said := o.run("conduct", o.AccountConduct(t.Context(), "", false)); said != "" {
		t.Errorf("it is still held back: %s", said)
	}
}

// TestSpamTestWords: a trained classifier says what spoke loudest, and a test teaches nothing.
func TestSpamTestWords(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	letter := func(i int, text string) string {
		return fmt.Sprintf("From: a%d@far.test\r\nSubject: letter\r\n\r\n%s number%d\r\n", i, text, i)
	}
	for spam, text := range map[bool]string{true: "cheap watches for free", false: "minutes of the meeting attached"} {
		var all []string
		for i := range 60 {
			all = append(all, letter(i, text))
		}
		o.In = bytes.NewReader(stream(t, all...))
		o.says("training", o.run("train", o.SpamTrain(t.Context(), "", spam)), `^60 messages are learned as (spam|wanted) for the server`)
	}
	for range 2 {
		o.In = strings.NewReader(letter(99, "cheap watches for free"))
		said := o.run("test", o.SpamTest(t.Context(), admin.TestOptions{Peer: netip.MustParseAddr("203.0.113.9").String(), From: "a@far.test", To: "ala@example.org"}))
		o.says("the test", said, `^action for ala@example\.org: `, `^  \+\d\.\d +classifier_spam +The text is like spam`, `^  \+3\.0 +spf_fail `, `^The classifier says spam: \d+\.\d % spam`, `^ +\d+ % in spam, seen 60 times: .*watches`,
			`asked to come again first \(greylisting\)|refuse|quarantine`)
	}
	o.says("the stats", o.run("stats", o.SpamStats(t.Context(), "")), `^60 +60 +0 +yes +20`)
	o.In = strings.NewReader(letter(99, "minutes of the meeting attached"))
	o.says("a wanted one", o.run("test", o.SpamTest(t.Context(), admin.TestOptions{Offline: true})), `^action: deliver, since the score`, `^  -\d\.\d +classifier_ham`)
}
