package tlsreport_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/tlsreport"
	"poczta.example/poczta/internal/tlsrpt"
)

var received = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func receiver(t *testing.T, d db.Database, now func() time.Time) *tlsreport.Receiver {
	t.Helper()
	r, err := tlsreport.NewReceiver(tlsreport.ReceiverConfig{DB: d, Now: now, Own: func(_ context.Context, d address.Domain) (bool, error) {
		switch d.String() {
		case "ours.example", "company-y.example", "cardinalhealth.ca":
			return true, nil
		case "dead.example":
			return false, errors.New("database is away")
		}
		return false, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// report is about a domain, with failures.
func report(about, id string, failures int) tlsrpt.Report {
	rep := tlsrpt.Report{Organization: "Big", Range: tlsrpt.Day(20000), Contact: "c@big.example", ID: id}
	p := tlsrpt.PolicyResult{Policy: tlsrpt.Policy{Type: tlsrpt.STS, Domain: about}, Summary: tlsrpt.Summary{Success: 5, Failure: int64(failures)}, Failures: []tlsrpt.Failure{}}
	for range failures {
		p.Failures = append(p.Failures, tlsrpt.Failure{Result: tlsrpt.CertificateExpired, SendingIP: "192.0.2.1", Sessions: 1})
	}
	rep.Policies = []tlsrpt.PolicyResult{p}
	return rep
}

func letter(t *testing.T, rep tlsrpt.Report, from string) tlsreport.Message {
	t.Helper()
	a, _ := address.Parse("tls@big.example")
	text, err := rep.Message(tlsrpt.Mail{From: a, To: a, Domain: a.Domain(), MessageID: "<1@big.example>", Date: received})
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, text, from)
}

func parse(t *testing.T, text []byte, from string) tlsreport.Message {
	t.Helper()
	r := bytes.NewReader(text)
	root, err := mime.Parse(r, r.Size(), mime.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	m := tlsreport.Message{Body: r, Root: root}
	if from != "" {
		if m.From, err = address.ParseDomain(from); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestTake(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, []db.Component{tlsreport.Schema}, func(t *testing.T, d db.Database) {
		now := received
		r := receiver(t, d, func() time.Time { return now })
		for _, c := range []struct {
			name string
			m    tlsreport.Message
			want error
		}{
			{"proven", letter(t, report("Ours.Example", "1", 300), "big.example"), nil},
			{"again", letter(t, report("ours.example", "1", 300), "big.example"), tlsreport.ErrDuplicate},
			{"somebody claims to be big", letter(t, report("ours.example", "2", 300), ""), nil},
			{"somebody repeats what big says", letter(t, report("ours.example", "1", 300), ""), tlsreport.ErrDuplicate},
			{"others", letter(t, report("theirs.example", "1", 1), "big.example"), tlsreport.ErrNotOurs},
			{"no domain", letter(t, report("a b", "1", 1), "big.example"), tlsreport.ErrNotOurs},
			{"letter", parse(t, []byte("Subject: x\r\n\r\nhello"), ""), tlsreport.ErrNotReport},
			{"XML", parse(t, []byte("Content-Type: text/xml\r\n\r\n<feedback></feedback>"), ""), tlsreport.ErrNotReport},
			{"other JSON", parse(t, []byte("Content-Type: application/json\r\n\r\n{}"), ""), tlsreport.ErrNotReport},
		} {
			if err := r.Take(t.Context(), c.m); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%s: got %v, want %v", c.name, err, c.want)
			}
		}
		if err := r.Take(t.Context(), letter(t, report("dead.example", "1", 1), "")); err == nil || errors.Is(err, tlsreport.ErrNotReport) {
			t.Errorf("got %v", err)
		}
		list, err := r.List(t.Context(), "ours.example", time.Time{}, 0)
		if err != nil || len(list) != 2 {
			t.Fatalf("got %v, %v", list, err)
		}
		for _, x := range list {
			want := tlsreport.Received{ID: x.ID, Domain: "ours.example", Organization: "Big", Reporter: x.Reporter, Contact: "c@big.example", ReportID: x.ReportID,
				Begin: tlsrpt.Day(20000).Start, End: tlsrpt.Day(20000).End, Received: received, Successes: 5, Failures: 300}
			if diff := cmp.Diff(want, x); diff != "" {
				t.Error(diff)
			}
			shown, err := r.Show(t.Context(), x.ID)
			most := map[string]int{"big.example": 200, "": 20}[x.Reporter]
			if err != nil || len(shown.Policies) != 1 || len(shown.Policies[0].Failures) != most {
				t.Errorf("%q: got %+v, %v", x.Reporter, shown, err)
			}
		}
		if _, err := r.Show(t.Context(), "none"); !errors.Is(err, tlsreport.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		for i := range 60 {
			if err := r.Take(t.Context(), letter(t, report("ours.example", fmt.Sprint("n", i), 0), "big.example")); (i < 49) != (err == nil) || i >= 49 && !errors.Is(err, tlsreport.ErrTooMany) {
				t.Fatalf("%d: %v", i, err)
			}
		}
		now = now.Add(91 * 24 * time.Hour)
		if err := r.Expire(t.Context()); err != nil {
			t.Error(err)
		}
		if list, err := r.List(t.Context(), "", time.Time{}, 0); err != nil || len(list) != 0 {
			t.Errorf("got %v, %v", list, err)
		}
	})
}

// TestTakeForeign takes mail of others.
func TestTakeForeign(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("POCZTA_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{tlsreport.Schema}); err != nil {
		t.Fatal(err)
	}
	r := receiver(t, d, func() time.Time { return received })
	for name, want := range map[string]string{"mail-auth/rpt01.eml": "company-y.example Company-X 5326 303", "parsedmarc/google.com_smtp_tls_report.eml": "cardinalhealth.ca Google Inc. 48 0"} {
		text, err := os.ReadFile(filepath.Join(dir, "tlsrpt", filepath.FromSlash(name)))
		if err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip("foreign test data is not here: set POCZTA_TESTDATA")
		}
		if err := r.Take(t.Context(), parse(t, text, "")); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		about, _, _ := strings.Cut(want, " ")
		list, err := r.List(t.Context(), about, time.Time{}, 0)
		if err != nil || len(list) != 1 {
			t.Errorf("%s: got %v, %v", name, list, err)
			continue
		}
		if got := fmt.Sprint(list[0].Domain, " ", list[0].Organization, " ", list[0].Successes, " ", list[0].Failures); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestPost(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{tlsreport.Schema}); err != nil {
		t.Fatal(err)
	}
	r := receiver(t, d, func() time.Time { return received })
	good, err := report("ours.example", "1", 1).Gzip()
	if err != nil {
		t.Fatal(err)
	}
	others, err := json.Marshal(report("theirs.example", "1", 1))
	if err != nil {
		t.Fatal(err)
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(bytes.Repeat([]byte(" "), 30<<20))
	_ = z.Close()
	for _, c := range []struct {
		name, method, media string
		file                []byte
		want                int
	}{
		{"good", http.MethodPost, tlsrpt.MediaGzip, good, http.StatusNoContent},
		{"again", http.MethodPost, tlsrpt.MediaGzip + "; x=y", good, http.StatusNoContent},
		{"others", http.MethodPost, tlsrpt.MediaJSON, others, http.StatusForbidden},
		{"GET", http.MethodGet, tlsrpt.MediaGzip, good, http.StatusMethodNotAllowed},
		{"media", http.MethodPost, "text/html", good, http.StatusUnsupportedMediaType},
		{"nonsense", http.MethodPost, tlsrpt.MediaJSON, []byte("nonsense"), http.StatusBadRequest},
		{"large", http.MethodPost, tlsrpt.MediaJSON, bytes.Repeat([]byte(" "), 3<<20), http.StatusRequestEntityTooLarge},
		{"bomb", http.MethodPost, tlsrpt.MediaGzip, bomb.Bytes(), http.StatusRequestEntityTooLarge},
	} {
		q := httptest.NewRequestWithContext(t.Context(), c.method, "/", bytes.NewReader(c.file))
		q.Header.Set("Content-Type", c.media)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, q)
		if w.Code != c.want {
			t.Errorf("%s: got %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
	if list, err := r.List(t.Context(), "", time.Time{}, 0); err != nil || len(list) != 1 || list[0].Reporter != "" {
		t.Errorf("got %v, %v", list, err)
	}
	if err := r.Take(t.Context(), letter(t, report("ours.example", "1", 1), "big.example")); err != nil {
		t.Errorf("the same by mail: %v", err)
	}
	if list, err := r.List(t.Context(), "", time.Time{}, 0); err != nil || len(list) != 1 || list[0].Reporter != "big.example" {
		t.Errorf("the same by mail, proven: %v, %v", list, err)
	}
}

// TestPostLimits: a network may bring so many reports, others are not hindered by it, and more
// octets than a report has are not waited for.
func TestPostLimits(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{tlsreport.Schema}); err != nil {
		t.Fatal(err)
	}
	now := received
	r := receiver(t, d, func() time.Time { return now })
	post := func(remote string, size int64) *httptest.ResponseRecorder {
		q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("nonsense"))
		q.Header.Set("Content-Type", tlsrpt.MediaJSON)
		q.RemoteAddr = remote
		if size > 0 {
			q.ContentLength = size
		}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, q)
		return w
	}
	for i := range 60 {
		if w := post(fmt.Sprintf("198.51.100.%d:4000", i), 0); w.Code != http.StatusBadRequest {
			t.Fatalf("report %d: %d %s", i, w.Code, w.Body)
		}
	}
	if w := post("198.51.100.99:1", 0); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("one too many: %d %s, again in %q", w.Code, w.Body, w.Header().Get("Retry-After"))
	}
	if w := post("203.0.113.1:1", 0); w.Code != http.StatusBadRequest {
		t.Errorf("another network: %d", w.Code)
	}
	if w := post("203.0.113.1:1", 3<<20); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a large one: %d", w.Code)
	}
	now = now.Add(2 * time.Minute)
	if w := post("198.51.100.99:1", 0); w.Code != http.StatusBadRequest {
		t.Errorf("later: %d", w.Code)
	}
}
