package mtasts_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mtasts"
	"poczta.example/poczta/internal/resolver"
)

// policyHost serves h under a certificate for names, and returns a Fetcher that
// reaches it under every name.
func policyHost(t *testing.T, h http.Handler, names ...string) *mtasts.Fetcher {
	t.Helper()
	cert, pool := certificate(t, names...)
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	f, err := mtasts.NewFetcher(mtasts.FetcherConfig{Roots: pool, Timeout: time.Minute,
		Dial: func(ctx context.Context, network, hostport string) (net.Conn, error) {
			if !strings.HasSuffix(hostport, ":443") {
				return nil, fmt.Errorf("asked for %s", hostport)
			}
			return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
		}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const good = "version: STSv1\nmode: enforce\nmx: mail.loc\nmax_age: 86400\n"

func reply(status int, mediaType, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if mediaType != "" {
			w.Header().Set("Content-Type", mediaType)
		}
		w.Header().Set("Location", "https://mta-sts.example.org/elsewhere")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

func TestFetch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		h    http.Handler
		cert string // of which host
		want string // in the error
	}{
		{"good", reply(200, "text/plain", good), "mta-sts.example.org", ""},
		{"parameters of the media type", reply(200, "text/plain; charset=utf-8; x=y", good), "mta-sts.example.org", ""},
		{"another's certificate", reply(200, "text/plain", good), "example.org", "certificate"},
		{"a redirect", reply(301, "text/plain", good), "mta-sts.example.org", "answers 301"},
		{"absent", reply(404, "text/plain", good), "mta-sts.example.org", "answers 404"},
		{"a page", reply(200, "text/html", good), "mta-sts.example.org", "text/html"},
		{"no media type", reply(200, ";", good), "mta-sts.example.org", "media type"},
		{"too large", reply(200, "text/plain", good+strings.Repeat("x: y\n", 20_000)), "mta-sts.example.org", "more than 65536"},
		{"no policy", reply(200, "text/plain", "garbage"), "mta-sts.example.org", "malformed"},
		{"huge header", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Much", strings.Repeat("x", 100_000))
		}), "mta-sts.example.org", "exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := policyHost(t, c.h, c.cert).Fetch(t.Context(), domain(t, "example.org"))
			switch {
			case c.want == "" && (err != nil || p.Mode != mtasts.Enforce || p.MaxAge != 24*time.Hour):
				t.Errorf("got %+v, %v", p, err)
			case c.want != "" && (!errors.Is(err, mtasts.ErrFetch) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// TestFetchEnds has a policy host that sends nothing.
func TestFetchEnds(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := mtasts.NewFetcher(mtasts.FetcherConfig{Timeout: 30 * time.Millisecond, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Fetch(t.Context(), domain(t, "example.org")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestFetchDials looks the policy host up and goes to no barred address.
func TestFetchDials(t *testing.T) {
	t.Parallel()
	cert, pool := certificate(t, "mta-sts.example.org")
	srv := httptest.NewUnstartedServer(reply(200, "text/plain", good))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.StartTLS()
	defer srv.Close()
	port, _ := strconv.ParseUint(srv.URL[strings.LastIndexByte(srv.URL, ':')+1:], 10, 16)
	z, err := resolver.NewZone("mta-sts.example.org. A 127.0.0.1\n")
	if err != nil {
		t.Fatal(err)
	}
	cfg := mtasts.FetcherConfig{Resolver: z, Roots: pool, Port: uint16(port)}
	open, _ := mtasts.NewFetcher(cfg)
	if _, err := open.Fetch(t.Context(), domain(t, "example.org")); err != nil {
		t.Error(err)
	}
	if _, err := open.Fetch(t.Context(), domain(t, "absent.example.org")); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	cfg.Barred = func(a netip.Addr) string { return a.String() + " is barred" }
	closed, _ := mtasts.NewFetcher(cfg)
	if _, err := closed.Fetch(t.Context(), domain(t, "example.org")); err == nil || !strings.Contains(err.Error(), "127.0.0.1 is barred") {
		t.Errorf("got %v", err)
	}
}

// TestHandler serves what TestFetch's Fetcher reads.
func TestHandler(t *testing.T) {
	t.Parallel()
	ours := mtasts.Policy{Mode: mtasts.Testing, MX: []string{"mx.example.org"}, MaxAge: time.Hour}
	h := mtasts.Handler(func(_ context.Context, d address.Domain) (mtasts.Policy, bool) {
		return ours, d.String() == "example.org"
	})
	f := policyHost(t, h, "mta-sts.example.org", "mta-sts.other.example")
	if p, err := f.Fetch(t.Context(), domain(t, "example.org")); err != nil || cmp.Diff(ours, p) != "" {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := f.Fetch(t.Context(), domain(t, "other.example")); err == nil {
		t.Error("a domain that is not ours has a policy")
	}
	for _, c := range []struct {
		method, host, path string
		want               int
	}{
		{"GET", "mta-sts.example.org", "/.well-known/mta-sts.txt", 200},
		{"HEAD", "MTA-STS.example.org:443", "/.well-known/mta-sts.txt", 200},
		{"POST", "mta-sts.example.org", "/.well-known/mta-sts.txt", 405},
		{"GET", "mta-sts.example.org", "/", 404},
		{"GET", "example.org", "/.well-known/mta-sts.txt", 404},
		{"GET", "mta-sts.", "/.well-known/mta-sts.txt", 404},
		{"GET", "mta-sts.[192.0.2.1]", "/.well-known/mta-sts.txt", 404},
	} {
		req := httptest.NewRequest(c.method, "https://x"+c.path, nil)
		req.Host = c.host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != c.want {
			t.Errorf("%s %s%s: got %d, want %d", c.method, c.host, c.path, w.Code, c.want)
		}
	}
}

// TestSnawoot runs the cases of Snawoot's resolver. "NOTFOUND" there means that no
// policy is to be enforced, which the mode none means too.
func TestSnawoot(t *testing.T) {
	t.Parallel()
	want := map[string]string{ // what the file's last columns say, and what the RFC says where they say nothing
		"bad-cert1.loc": "fetch", "bad-policy1.loc": "fetch", "bad-policy3.loc": "fetch", "bad-policy5.loc": "fetch", "bad-policy7.loc": "fetch",
		"bad-record1.loc": "record", "bad-record3.loc": "record", "fast-expire.loc": "enforce", "static-overlength.loc": "fetch", "valid-none.loc": "none",
	}
	seen := 0
	for lines := bufio.NewScanner(strings.NewReader(string(testdata(t, "mta-sts", "snawoot-cases.tsv")))); lines.Scan(); {
		f := strings.Split(lines.Text(), "\t")
		if strings.HasPrefix(lines.Text(), "#") || len(f) < 6 {
			continue
		}
		seen++
		if _, err := mtasts.ParseRecord(strings.Trim(f[1], `"`)); err != nil {
			if want[f[0]] != "record" {
				t.Errorf("%s: record: %v", f[0], err)
			}
			continue
		}
		status, _ := strconv.Atoi(f[2])
		if status == 0 {
			status = 404
		}
		cert := "mta-sts." + f[0]
		if strings.HasPrefix(f[0], "bad-cert") {
			cert = "wrong.loc"
		}
		p, err := policyHost(t, reply(status, f[5], strings.ReplaceAll(f[3], `\n`, "\n")), cert).Fetch(t.Context(), domain(t, f[0]))
		got := p.Mode.String()
		if err != nil {
			got = "fetch"
		}
		if got != want[f[0]] {
			t.Errorf("%s: got %s, %v; want %s", f[0], got, err, want[f[0]])
		}
	}
	if seen != len(want) {
		t.Errorf("read %d cases, want %d", seen, len(want))
	}
}

// certificate is one for names, and the pool that trusts it.
func certificate(t *testing.T, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	ca := certtest.New(t)
	return ca.Leaf(names...), ca.Pool()
}
