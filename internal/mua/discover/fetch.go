package discover

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/clientconfig"
)

// request is one question over HTTPS; body nil is GET.
type request struct {
	url  string
	body []byte
}

// reply is what came: text is set only with the result Found.
type reply struct {
	text   []byte
	result Result
	detail string
}

// fetch asks, following redirections to https alone. Certificates are verified at each
// step; no cookie, cache, proxy, compression or credential is used.
func (f *Finder) fetch(ctx context.Context, q request) reply {
	if ctx.Err() != nil {
		return reply{result: Late}
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Request)
	defer cancel()
	tr := &http.Transport{ // for one question
		DialContext:            f.cfg.Dial,
		TLSClientConfig:        &tls.Config{RootCAs: f.cfg.Roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	defer tr.CloseIdleConnections()
	for range maxRedirects + 1 {
		next, r := f.once(ctx, tr, q)
		if next == "" {
			if r.result != Found && whole.Err() != nil {
				return reply{result: Late}
			}
			return r
		}
		q.url = next
	}
	return reply{result: RedirectLoop}
}

// once sends the question to one host. next is where it leads, "" for nowhere.
func (f *Finder) once(ctx context.Context, tr *http.Transport, q request) (next string, r reply) {
	method := http.MethodGet
	if q.body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, q.url, bytes.NewReader(q.body))
	if err != nil {
		return "", reply{result: Unreachable, detail: clip(err.Error())}
	}
	req.Header.Set("User-Agent", "poczta")
	req.Header.Set("Accept", "text/xml, application/xml")
	if q.body != nil {
		req.Header.Set("Content-Type", "text/xml; charset=utf-8")
	}
	start := time.Now()
	resp, err := tr.RoundTrip(req) // follows no redirection
	if err != nil {
		res, detail := failure(err)
		if errors.Is(err, context.DeadlineExceeded) {
			res, detail = Timeout, ""
		}
		return "", reply{result: res, detail: detail}
	}
	defer resp.Body.Close()
	f.log.Debug("settings asked for", "url", redact(q.url), "status", resp.StatusCode, "took", time.Since(start))
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return follow(q.url, resp.Header.Get("Location"))
	case http.StatusUnauthorized, http.StatusForbidden:
		return "", reply{result: AsksPassword, detail: strconv.Itoa(resp.StatusCode)}
	case http.StatusNotFound, http.StatusGone:
		return "", reply{result: Absent, detail: strconv.Itoa(resp.StatusCode)}
	default:
		return "", reply{result: Status, detail: strconv.Itoa(resp.StatusCode)}
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, clientconfig.MaxOctets+1))
	switch {
	case len(text) > clientconfig.MaxOctets:
		return "", reply{result: TooLarge}
	case err != nil:
		res, detail := failure(err)
		return "", reply{result: res, detail: detail}
	}
	return "", reply{text: text, result: Found}
}

// follow reads a redirection; one without encryption is the end.
func follow(from, location string) (string, reply) {
	base, err := url.Parse(from)
	if err != nil {
		return "", reply{result: Malformed}
	}
	to, err := base.Parse(location)
	if err != nil || location == "" {
		return "", reply{result: Malformed, detail: clip(location)}
	}
	if !secureURL(to) {
		return "", reply{result: PlainRedirect, detail: clip(to.Scheme + "://" + to.Host)}
	}
	to.Fragment = ""
	return to.String(), reply{}
}

// secureURL reports whether a URL may be asked.
func secureURL(u *url.URL) bool { return u.Scheme == "https" && u.Host != "" && u.User == nil }

// redact takes the query off, which may carry an address.
func redact(u string) string {
	before, _, _ := strings.Cut(u, "?")
	return before
}
