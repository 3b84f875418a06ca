package mtasts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
)

// wellKnown is where a policy lies on its host (RFC 8461 §3.2).
const wellKnown = "/.well-known/mta-sts.txt"

// FetcherConfig is what a Fetcher works with.
type FetcherConfig struct {
	Resolver resolver.Resolver            // finds policy hosts; required unless Dial is set
	Roots    *x509.CertPool               // authorities that are trusted; nil: those of the system
	Port     uint16                       // 0 is 443
	Barred   func(addr netip.Addr) string // says why we connect to no host at addr, or ""; nil bars none
	Timeout  time.Duration                // for all of it; 0 is 60 s (RFC 8461 §3.3)
	// Dial connects to host:port; nil dials the addresses that Resolver gives.
	Dial func(ctx context.Context, network, hostport string) (net.Conn, error)
}

// Fetcher gets policies by HTTPS. Safe for concurrent use.
type Fetcher struct{ cfg FetcherConfig }

// NewFetcher makes a Fetcher.
func NewFetcher(c FetcherConfig) (*Fetcher, error) {
	if c.Resolver == nil && c.Dial == nil {
		return nil, errors.New("mtasts: Resolver is missing")
	}
	if c.Port == 0 {
		c.Port = 443
	}
	if c.Timeout <= 0 {
		c.Timeout = time.Minute
	}
	f := &Fetcher{cfg: c}
	if c.Dial == nil {
		f.cfg.Dial = resolver.Dialer{Resolver: c.Resolver, Barred: c.Barred}.Dial
	}
	return f, nil
}

// Fetch gets a domain's policy. No redirect is followed and no cache, proxy or
// cookie is used; the host must show a certificate for mta-sts.DOMAIN (RFC 8461
// §3.3). The error wraps ErrFetch, or ErrSyntax too if what came is no policy;
// errors of the certificate are in it as *tls.CertificateVerificationError.
func (f *Fetcher) Fetch(ctx context.Context, domain address.Domain) (Policy, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	text, err := f.get(ctx, "mta-sts."+domain.String())
	if err != nil {
		return Policy{}, fmt.Errorf("%w: %s: %w", ErrFetch, domain, err)
	}
	p, err := ParsePolicy(text)
	if err != nil {
		return Policy{}, fmt.Errorf("%w: %s: %w", ErrFetch, domain, err)
	}
	return p, nil
}

func (f *Fetcher) get(ctx context.Context, host string) (string, error) {
	transport := &http.Transport{ // for one request: hosts are asked once a day
		DialContext:            f.cfg.Dial,
		TLSClientConfig:        &tls.Config{ServerName: host, RootCAs: f.cfg.Roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      false,
	}
	defer transport.CloseIdleConnections()
	url := "https://" + host + wellKnown
	if f.cfg.Port != 443 {
		url = "https://" + host + ":" + strconv.Itoa(int(f.cfg.Port)) + wellKnown
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", "poczta")
	reply, err := transport.RoundTrip(req) // follows no redirect
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the policy host answers %d", reply.StatusCode)
	}
	// RFC 8461 §3.2: text/plain, so that no page that a stranger put there is taken for a policy.
	if media, _, err := mime.ParseMediaType(reply.Header.Get("Content-Type")); err != nil || media != "text/plain" {
		return "", fmt.Errorf("the policy has the media type %q, not text/plain", clip(reply.Header.Get("Content-Type")))
	}
	text, err := io.ReadAll(io.LimitReader(reply.Body, MaxPolicyOctets+1))
	if err != nil {
		return "", err
	}
	return string(text), nil
}

// Handler serves the policies of our own domains: for GET and HEAD of
// https://mta-sts.DOMAIN/.well-known/mta-sts.txt, chosen by the Host field. policy
// returns a domain's policy, or false if it has none; it is called for names that
// strangers choose. Everything else is 404.
func Handler(policy func(ctx context.Context, domain address.Domain) (Policy, bool)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		host, _, err := net.SplitHostPort(req.Host)
		if err != nil {
			host = req.Host
		}
		name, ok := strings.CutPrefix(strings.ToLower(host), "mta-sts.")
		domain, err := address.ParseDomain(name)
		if !ok || err != nil || domain.IsLiteral() || req.URL.Path != wellKnown {
			http.NotFound(w, req)
			return
		}
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		p, ok := policy(req.Context(), domain)
		if !ok {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store") // RFC 8461 §3.3: no HTTP caching
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = io.WriteString(w, p.String())
	})
}
