package dmarcreport_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/dmarcreport"
	"poczta.example/poczta/internal/feedback"
	"poczta.example/poczta/internal/mime"
)

// xml is a report of some records.
func xml(about, org, id string, records int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<feedback><report_metadata><org_name>%s</org_name><email>e@%s</email><report_id>%s</report_id><date_range><begin>1727913600</begin><end>1727999999</end></date_range></report_metadata>
<policy_published><domain>%s</domain><p>reject</p></policy_published>`, org, org, id, about)
	for i := range records {
		result := [2]string{"pass", "fail"}[i%2]
		fmt.Fprintf(&b, `<record><row><source_ip>192.0.2.%d</source_ip><count>%d</count><policy_evaluated><disposition>none</disposition><dkim>%s</dkim><spf>fail</spf></policy_evaluated></row>
<identifiers><header_from>%s</header_from></identifiers></record>`, i%200, i+1, result, about)
	}
	return b.String() + "</feedback>"
}

// packed is a message with a file.
func packed(file string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(file))
	_ = z.Close()
	return "Content-Type: application/gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(b.Bytes())
}

func (w *world) message(text, from string) dmarcreport.Message {
	w.t.Helper()
	r := strings.NewReader(text)
	root, err := mime.Parse(r, r.Size(), mime.Limits{})
	if err != nil {
		w.t.Fatal(err)
	}
	m := dmarcreport.Message{Body: r, Root: root, Received: w.cfg.Now()}
	if from != "" {
		m.From = domain(w.t, from)
	}
	return m
}

func TestTake(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		w := open(t, d, dmarc.RFC9989)
		take := func(text, from string) (dmarcreport.Taken, error) {
			t.Helper()
			return w.reports.Take(t.Context(), w.message(text, from))
		}
		got, err := take(packed(xml("Example.com", "big.example", "1", 600)), "big.example")
		if err != nil || got.Kind != "aggregate" || got.Domain != "example.com" {
			t.Fatalf("got %+v, %v", got, err)
		}
		for _, c := range []struct {
			name, text, from string
			want             error
		}{
			{"again", packed(xml("example.com", "big.example", "1", 600)), "big.example", dmarcreport.ErrDuplicate},
			{"others", packed(xml("example.net", "big.example", "1", 1)), "big.example", dmarcreport.ErrNotOurs},
			{"no domain", packed(xml("<b/>", "big.example", "1", 1)), "big.example", dmarcreport.ErrNotReport},
			{"nonsense domain", packed(xml("a b", "big.example", "1", 1)), "big.example", dmarcreport.ErrNotOurs},
			{"letter", "Subject: hello\r\n\r\nhello\r\n", "big.example", dmarcreport.ErrNotReport},
			{"TLS", "Content-Type: application/json\r\n\r\n{}\r\n", "big.example", dmarcreport.ErrNotReport},
			{"bomb", packed("<feedback>" + strings.Repeat("<a></a>", 3<<20)), "big.example", dmarcreport.ErrTooLarge},
			{"somebody claims to be big", packed(xml("example.com", "big.example", "1", 600)), "", nil},
			{"subdomain", packed(xml("sub.example.com", "big.example", "1", 3)), "big.example", nil},
		} {
			if _, err := take(c.text, c.from); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%s: got %v, want %v", c.name, err, c.want)
			}
		}
		list, err := w.reports.List(t.Context(), "example.com", time.Time{}, 0)
		if err != nil || len(list) != 2 {
			t.Fatalf("got %v, %v", list, err)
		}
		for _, x := range list {
			omitted := int64(0)
			if x.Reporter == "" {
				omitted = 180300 - 5050 // a stranger's report is kept with a hundred records
			}
			want := dmarcreport.Received{
				ID: x.ID, Domain: "example.com", Organization: "big.example", Reporter: x.Reporter, Email: "e@big.example", ReportID: "1", Begin: time.Unix(1727913600, 0).UTC(), End: time.Unix(1727999999, 0).UTC(),
				Received: w.cfg.Now().UTC(), Policy: feedback.Published{Domain: "example.com", Policy: "reject"}, Messages: 180300, Passed: 90000, Omitted: omitted,
			}
			if diff := cmp.Diff(want, x); diff != "" {
				t.Error(diff)
			}
		}
		shown, err := w.reports.Show(t.Context(), got.ID)
		want := feedback.Record{Source: netip.MustParseAddr("192.0.2.199"), Count: 600, Disposition: "none", DKIM: "fail", SPF: "fail", HeaderFrom: "example.com"}
		if err != nil || len(shown.Records) != 600 || shown.ReportID != "1" {
			t.Fatalf("got %d records, %v", len(shown.Records), err)
		}
		if diff := cmp.Diff(want, shown.Records[599], sameAddr); diff != "" {
			t.Error(diff)
		}
		if _, err := w.reports.Show(t.Context(), "none"); !errors.Is(err, dmarcreport.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		sources, err := w.reports.Sources(t.Context(), "example.com", time.Time{}, 0)
		// Of .98 both have 99, and one 299 and 499 more; of .199 one has 200, 400 and 600.
		if diff := cmp.Diff([]dmarcreport.Source{{Address: "192.0.2.199", Messages: 1200, Reports: 1}, {Address: "192.0.2.198", Messages: 1197, Passed: 1197, Reports: 1}}, sources[:2]); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		if i := slices.IndexFunc(sources, func(s dmarcreport.Source) bool { return s.Address == "192.0.2.98" }); i < 0 || sources[i] != (dmarcreport.Source{Address: "192.0.2.98", Messages: 99 + 99 + 299 + 499, Passed: 996, Reports: 2}) {
			t.Errorf("got %+v", sources)
		}
		if all, err := w.reports.List(t.Context(), "", time.Time{}, 0); err != nil || len(all) != 3 {
			t.Errorf("got %d, %v", len(all), err)
		}
		if late, err := w.reports.List(t.Context(), "", w.cfg.Now(), 0); err != nil || len(late) != 0 {
			t.Errorf("got %d, %v", len(late), err)
		}
		w.now.Add(91 * 86400)
		if err := w.reports.Expire(t.Context()); err != nil {
			t.Fatal(err)
		}
		var n int64
		err = d.View(t.Context(), func(tx db.Tx) error {
			return tx.QueryRow("SELECT (SELECT COUNT(*) FROM dmarc_received) + (SELECT COUNT(*) FROM dmarc_received_row)").Scan(&n)
		})
		if err != nil || n != 0 {
			t.Errorf("%d rows are left, %v", n, err)
		}
	})
}

// TestTooMany has one reporter, then many, who send report after report.
func TestTooMany(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{dmarcreport.Schema}); err != nil {
		t.Fatal(err)
	}
	w := open(t, d, dmarc.RFC9989)
	send := func(from, id string) error {
		_, err := w.reports.Take(t.Context(), w.message(packed(xml("example.com", "o.example", id, 1)), from))
		return err
	}
	err := d.Update(t.Context(), func(tx db.Tx) error { // what came earlier in the day
		for i := range 498 {
			from := ""
			if i >= 49 {
				from = fmt.Sprintf("r%d.example", i)
			}
			_, err := tx.Exec("INSERT INTO dmarc_received VALUES (?, ?, 'example.com', '', ?, '', '', 0, 0, 0, '{}', 0, 0, 0, '')", fmt.Sprint(i), dmarcreport.Day(w.cfg.Now()), from)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, id string
		want     error
	}{
		{"", "50th", nil}, {"", "51st", dmarcreport.ErrTooMany}, {"x.example", "500th", nil}, {"y.example", "501st", dmarcreport.ErrTooMany},
		{"x.example", "500th", dmarcreport.ErrDuplicate},
	} {
		if err := send(c.from, c.id); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s of %q: got %v, want %v", c.id, c.from, err, c.want)
		}
	}
	w.now.Add(86400)
	if err := send("", "new"); err != nil {
		t.Error(err)
	}
}

const failure = "Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\n" +
	"Feedback-Type: auth-failure\r\nVersion: 1\r\nReported-Domain: example.com\r\nSource-IP: 192.0.2.1\r\nAuth-Failure: dmarc\r\nArrival-Date: Tue, 30 Apr 2024 02:09:00 +0000\r\n" +
	"Original-Rcpt-To: secret@example.net\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: secret\r\n\r\nsecret\r\n--b--\r\n"

func TestTakeFailure(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		w := open(t, d, dmarc.RFC9989)
		got, err := w.reports.Take(t.Context(), w.message(failure, "r.example"))
		if err != nil || got.Kind != "failure" {
			t.Fatalf("got %+v, %v", got, err)
		}
		if _, err := w.reports.Take(t.Context(), w.message(failure, "r.example")); !errors.Is(err, dmarcreport.ErrDuplicate) {
			t.Errorf("got %v", err)
		}
		if _, err := w.reports.Take(t.Context(), w.message(strings.ReplaceAll(failure, "example.com", "example.net"), "r.example")); !errors.Is(err, dmarcreport.ErrNotOurs) {
			t.Errorf("got %v", err)
		}
		list, err := w.reports.Failures(t.Context(), "example.com", time.Time{}, 0)
		want := []dmarcreport.Failure{{ID: got.ID, Domain: "example.com", Source: "192.0.2.1", Type: "auth-failure", Failure: "dmarc", Arrived: time.Unix(1714442940, 0).UTC(), Received: w.cfg.Now().UTC(), Reporter: "r.example", Incidents: 1}}
		if diff := cmp.Diff(want, list); diff != "" || err != nil {
			t.Error(diff, err)
		}
	})
}

// TestLarge takes parsedmarc's large sample, of 0.9 MB.
func TestLarge(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	file, err := os.ReadFile(filepath.Join(dir, "dmarc", "parsedmarc", "aggregate", "!large-example.com!1711897200!1711983600.xml"))
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
	}
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{dmarcreport.Schema}); err != nil {
		t.Fatal(err)
	}
	w := open(t, d, dmarc.RFC9989)
	got, err := w.reports.Take(t.Context(), w.message(packed(string(file)), "big.example"))
	if err != nil {
		t.Fatal(err)
	}
	if shown, err := w.reports.Show(t.Context(), got.ID); err != nil || len(shown.Records) != 2286 || shown.Messages != 2286 || shown.Omitted != 0 {
		t.Errorf("got %+v and %d records, %v", shown.Received, len(shown.Records), err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]dmarcreport.Config{"nothing": {}, "nothing to send with": {DB: dbtest.SQLite(t)}} {
		if _, err := dmarcreport.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	r, err := dmarcreport.New(dmarcreport.Config{DB: dbtest.SQLite(t), NoSending: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Take(t.Context(), dmarcreport.Message{}); err == nil {
		t.Error("Take without Own")
	}
	r.Note(dmarcreport.Row{From: address.Domain{}}) // counts nothing
	if err := r.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}
