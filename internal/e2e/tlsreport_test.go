package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"poczta.example/poczta/internal/tlsrpt"
)

// TestTLSReportByHTTPS: the record of a domain names where reports about TLS are taken (RFC 8460
// §5.4); one that is brought there about a domain of ours is listed, others are refused, and with
// https = false nothing is taken and no place named.
func TestTLSReportByHTTPS(t *testing.T) {
	t.Parallel()
	n := newNames(t, far()...)
	s := setup(t, append(scored(n), "[mta_sts]\nmode = \"testing\"")...)
	s.start()
	record := s.run("", "domain", "dns", domain)
	found := regexp.MustCompile(`rua=mailto:postmaster@` + regexp.QuoteMeta(domain) + `,(https://[^"]+/tlsrpt)"`).FindStringSubmatch(record)
	if found == nil {
		t.Fatalf("the record names no place:\n%s", record)
	}
	bring := func(about, media string) int {
		t.Helper()
		rep := tlsrpt.Report{Organization: "Big", Range: tlsrpt.Day(time.Now().Unix()/86400 - 1), Contact: "c@big.example", ID: "1", Policies: []tlsrpt.PolicyResult{{
			Policy: tlsrpt.Policy{Type: tlsrpt.STS, Domain: about}, Summary: tlsrpt.Summary{Success: 5, Failure: 1}, Failures: []tlsrpt.Failure{{Result: tlsrpt.CertificateExpired, Sessions: 1}}}}}
		packed, err := rep.Gzip()
		if err != nil {
			t.Fatal(err)
		}
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, found[1], bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", media)
		client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the server's own certificate
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, s.addr(443))
			}}}
		r, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		return r.StatusCode
	}
	for i, want := range []int{http.StatusNoContent, http.StatusNoContent} { // twice is no error
		if got := bring(domain, tlsrpt.MediaGzip); got != want {
			t.Errorf("report %d: %d, want %d", i, got, want)
		}
	}
	if got := bring("far.test", tlsrpt.MediaGzip); got != http.StatusForbidden {
		t.Errorf("about others: %d", got)
	}
	if got := bring(domain, "text/html"); got != http.StatusUnsupportedMediaType {
		t.Errorf("of another type: %d", got)
	}
	if rows := s.list("domain", "reports", "--tls"); len(rows) != 1 || rows[0]["domain"] != domain {
		t.Errorf("listed: %v", rows)
	}
	s.stop()
	s.configure("[tls_reports]\nhttps = false")
	s.start()
	if got := bring(domain, tlsrpt.MediaGzip); got != http.StatusNotFound {
		t.Errorf("where nothing is taken: %d", got)
	}
	if record := s.run("", "domain", "dns", domain); strings.Contains(record, "/tlsrpt") {
		t.Errorf("the record still names a place:\n%s", record)
	}
}
