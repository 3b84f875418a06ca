package lab_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look into a server's index from outside
)

// dane: a host whose TLSA record is of another key gets nothing, in clear or under TLS.
func (w *world) dane(t *testing.T) {
	t.Parallel()
	w.submit(t, w.ours, "ala@ours.test", letter{from: "ala@ours.test", to: "kasia@wrong.test", token: "dane-wrong"})
	w.ours.on(t).waiting("kasia@wrong.test", soon, "4.7")
	if m := holds(t, w.postfix, "dane-wrong"); m != "" {
		t.Errorf("Postfix got it: %s", m)
	}
}

// holds returns a file of a host's Maildirs and queue that has the token; "" for none.
func holds(t *testing.T, h *host, token string) string {
	t.Helper()
	out, err := h.on(t).command(t.Context(), "grep", "-rl", token, filepath.Join(h.dir, "mail"), filepath.Join(h.dir, "spool")).Output()
	if len(out) == 0 {
		return ""
	}
	return fmt.Sprint(string(out), err)
}

// mtaSTS: policies over HTTPS in enforce and testing; what they forbid waits and is
// counted for the report; ours is served.
func (w *world) mtaSTS(t *testing.T) {
	t.Parallel()
	w.policies(t)
	for _, c := range []struct{ domain, result string }{{"good.plain", "relayed"}, {"trial.plain", "relayed"}, {"badcert.plain", "waits"}, {"badmx.plain", "waits"}} {
		t.Run(c.domain, func(t *testing.T) {
			t.Parallel()
			to, token := "kasia@"+c.domain, "sts-"+c.domain
			w.submit(t, w.ours, "ala@ours.test", letter{from: "ala@ours.test", to: to, token: token})
			if c.result == "waits" {
				w.ours.on(t).waiting(to, soon, "4.7")
				if m := holds(t, w.postfix, token); m != "" {
					t.Errorf("Postfix got it: %s", m)
				}
				w.counted(t, c.domain, "failed")
				return
			}
			f, _ := w.ours.on(t).fate(token, to, soon, c.result)
			if c.domain == "good.plain" {
				wants(t, "trace", f.Detail, "TLS 1.3", "verify")
				w.counted(t, c.domain, "ok")
			} else {
				w.counted(t, c.domain, "failed")
			}
			find(t, w.postfix, "kasia", token)
		})
	}
	t.Run("ours is served", func(t *testing.T) {
		t.Parallel()
		body := w.get(t, "https://mta-sts.ours.test/.well-known/mta-sts.txt", w.ours.addr)
		wants(t, "policy", body, "version: STSv1", "mode: enforce", "mx: mx.ours.test")
	})
}

// policies serves the policies of others.
func (w *world) policies(t *testing.T) {
	t.Helper()
	var names []string
	for _, d := range stsDomains {
		names = append(names, "mta-sts."+d)
	}
	l := tls.NewListener(w.web.on(t).listen(443), &tls.Config{Certificates: []tls.Certificate{w.ca.Leaf(names...)}})
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		domain, mode := strings.TrimPrefix(r.Host, "mta-sts."), "enforce"
		if r.URL.Path != "/.well-known/mta-sts.txt" {
			http.NotFound(rw, r)
			return
		}
		mx := "mx." + domain
		if domain == "trial.plain" {
			mode = "testing"
		}
		rw.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(rw, "version: STSv1\r\nmode: %s\r\nmx: %s\r\nmax_age: 86400\r\n", mode, mx)
	})}
	go func() { _ = srv.Serve(l) }()
}

// get fetches a page as the client does.
func (w *world) get(t *testing.T, url, addr string) string {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.ca.Pool()}, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return w.client.dial(addr, 443)
	}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second * patience}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s (%v)", url, resp.Status, err)
	}
	return string(body)
}

// counted waits until the server's index has sessions of a domain for its TLS report.
func (w *world) counted(t *testing.T, domain, result string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.ours.dir, "data/poczta.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	await(t, "TLSRPT counts of "+domain+" are written", soon, func() bool {
		rows, err := db.Query("SELECT policy_type, result, detail, sessions FROM tls_count WHERE domain = ?", domain)
		if err != nil {
			return false
		}
		defer rows.Close()
		for rows.Next() {
			var kind, what, detail string
			var n int
			if err := rows.Scan(&kind, &what, &detail, &n); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: policy %q, result %q, detail %q, %d sessions", domain, kind, what, detail, n)
			if kind == "sts" && n > 0 && (what == "") == (result == "ok") {
				return true
			}
		}
		return rows.Err() != nil
	})
}
