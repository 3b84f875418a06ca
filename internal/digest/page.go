package digest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"net/netip"
	"path"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/quarantine"
)

// maxForm bounds the octets of a POST, and maxReading the messages that are read at once.
const (
	maxForm    = 4 << 10
	maxReading = 8
)

// pageStyle is for a phone as well as for a desk, by day and by night; every text has a contrast of
// 7 : 1 at least.
const pageStyle = `:root{color-scheme:light dark;--ink:#16191d;--paper:#fff;--line:#767676;--act:#0b4f94;--on:#fff}` +
	`@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--paper:#16191d;--line:#8d939a;--act:#9cc4f4;--on:#0c1c2e}}` +
	`body{font:1.06em/1.5 system-ui,sans-serif;max-width:42em;margin:1em auto;padding:0 1em;color:var(--ink);background:var(--paper)}` +
	`h1{font-size:1.5em;line-height:1.25;margin:.4em 0 .8em}h2{font-size:1.15em;margin:1.4em 0 .6em}` +
	`dt{font-weight:bold}dd{margin:0 0 .6em;overflow-wrap:anywhere}` +
	`p[role=status]{border-left:.3em solid var(--act);padding:.2em 0 .2em .8em}` +
	`pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid var(--line);border-radius:.4em;padding:.7em;font:inherit;margin:0}` +
	`form{display:flex;flex-wrap:wrap;gap:.6em;margin:1.2em 0}` +
	`button{font:inherit;padding:.6em 1em;min-height:2.75em;border:1px solid var(--act);border-radius:.4em;color:var(--act);background:var(--paper);cursor:pointer}` +
	`button[value=release],button[value=stop]{color:var(--on);background:var(--act)}button[value=delete]{margin-left:auto}` +
	`button:focus-visible{outline:3px solid var(--act);outline-offset:2px}` +
	`@media (max-width:36em){form{flex-direction:column}button[value=delete]{margin-left:0}}`

// pageHTML is the page: one form, no script, nothing that is loaded from anywhere.
var pageHTML = template.Must(template.New("page").Funcs(template.FuncMap{"style": func() template.CSS { return pageStyle }}).Parse(`<!DOCTYPE html>
<html lang="{{.L.Code}}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex"><title>{{.L.Title}}</title>
<style>{{style}}</style></head><body><main><h1>{{.L.Title}}</h1>
{{if .Say}}<p role="status"><strong>{{.Say}}</strong></p>
{{end}}{{if .Stop}}<p>{{.L.StopAsk}}</p><form method="post"><button name="do" value="stop">{{.L.StopDo}}</button></form>
{{end}}{{with .Facts}}<dl><dt>{{$.L.Subject}}</dt><dd>{{.Subject}}</dd><dt>{{$.L.From}}</dt><dd>{{.From}}</dd><dt>{{$.L.Date}}</dt><dd>{{.When}}</dd>
<dt>{{$.L.Why}}</dt><dd>{{.Why}}{{if .Score}} ({{.Score}} {{$.L.Points}}){{end}}</dd>
{{if .Attached}}<dt>{{$.L.Attached}}</dt>{{range .Attached}}<dd>{{.}}</dd>{{end}}
{{end}}</dl>
{{if .Operator}}<p>{{$.L.OperatorOnly}}</p>
{{end}}<form method="post">{{if not .Operator}}<button name="do" value="release">{{$.L.Release}}</button><button name="do" value="allow">{{$.L.Allow}}</button>{{end}}<button name="do" value="delete">{{$.L.Delete}}</button></form>
<p>{{$.L.Hint}}</p>
<h2>{{$.L.Preview}}</h2>
{{if .Text}}<pre>{{.Text}}</pre>{{if .Cut}}<p>{{$.L.Cut}}</p>{{end}}{{else}}<p>{{$.L.NoText}}</p>{{end}}
{{end}}</main></body></html>
`))

// pagePolicy lets the page do what it needs and nothing else.
var pagePolicy = func() string {
	hash := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// page is what pageHTML shows.
type page struct {
	L     *language
	Say   string
	Facts *facts
	Stop  bool
}

// ServeHTTP shows a message on GET, which changes nothing, and releases or deletes it on POST. The
// token, the last element of the path, is all the proof there is; wrong ones are limited by the
// client's network. The server that calls it limits how long a request takes.
func (d *Digest) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	h := w.Header()
	for name, value := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": pagePolicy, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
		"X-Frame-Options": "DENY", "Cache-Control": "no-store", "X-Robots-Tag": "noindex", "Cross-Origin-Opener-Policy": "same-origin",
	} {
		h.Set(name, value)
	}
	status, p := d.serve(w, q)
	w.WriteHeader(status)
	if q.Method == http.MethodHead {
		return
	}
	if err := pageHTML.Execute(w, p); err != nil {
		d.cfg.Logger.Debug("page of the digest was cut off", "error", err)
	}
}

// serve answers a request.
func (d *Digest) serve(w http.ResponseWriter, q *http.Request) (int, page) {
	p := page{L: accepted(q)}
	if q.Method != http.MethodGet && q.Method != http.MethodHead && q.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, HEAD, POST")
		p.Say = p.L.BadRequest
		return http.StatusMethodNotAllowed, p
	}
	network, now := networkOf(q.RemoteAddr), d.cfg.Now()
	if !d.wrong.Peek(network, now) {
		w.Header().Set("Retry-After", "600")
		p.Say = p.L.TooMany
		return http.StatusTooManyRequests, p
	}
	key, err := d.secret(q.Context())
	if err != nil {
		return d.failed(p, err)
	}
	t, err := parseToken(path.Base(q.URL.Path), key, now, forWeb, forStop)
	if err != nil {
		d.wrong.Allow(network, now)
		d.refused()
		p.Say = p.L.Invalid
		return http.StatusNotFound, p
	}
	select {
	case d.reading <- struct{}{}:
		defer func() { <-d.reading }()
	case <-q.Context().Done():
		return d.failed(p, q.Context().Err())
	}
	p.L, err = d.speak(q.Context(), t, p.L)
	if isGone(err) {
		return gone(p)
	}
	if err != nil {
		return d.failed(p, err)
	}
	if q.Method != http.MethodPost {
		return d.show(q.Context(), t, p)
	}
	q.Body = http.MaxBytesReader(w, q.Body, maxForm)
	if err := q.ParseForm(); err != nil {
		p.Say = p.L.BadRequest
		return http.StatusBadRequest, p
	}
	return d.act(q.Context(), t, q.PostForm.Get("do"), p)
}

// failed answers with what went wrong on our side.
func (d *Digest) failed(p page, err error) (int, page) {
	d.cfg.Logger.Warn("page of the digest failed", "error", err)
	p.Say, p.Facts = p.L.Failed, nil
	return http.StatusServiceUnavailable, p
}

// gone answers for a message that is not set apart any more.
func gone(p page) (int, page) {
	p.Say, p.Facts = p.L.Gone, nil
	return http.StatusNotFound, p
}

// show is GET.
func (d *Digest) show(ctx context.Context, t token, p page) (int, page) {
	if t.purpose == forStop {
		p.Stop = true
		return http.StatusOK, p
	}
	it, err := d.cfg.Quarantine.Show(ctx, t.account, t.id)
	if err == nil {
		var f facts
		if f, err = d.preview(ctx, it, p.L); err == nil {
			p.Facts = &f
			return http.StatusOK, p
		}
	}
	if isGone(err) {
		return gone(p)
	}
	return d.failed(p, err)
}

func isGone(err error) bool {
	return errors.Is(err, quarantine.ErrNotFound) || errors.Is(err, mailbox.ErrGone)
}

// act is POST.
func (d *Digest) act(ctx context.Context, t token, do string, p page) (int, page) {
	if t.purpose == forStop { // also RFC 8058's one click, which sends another form
		if err := d.stop(ctx, t.account); err != nil {
			return d.failed(p, err)
		}
		p.Say = p.L.Stopped
		return http.StatusOK, p
	}
	it, err := d.cfg.Quarantine.Show(ctx, t.account, t.id)
	if isGone(err) {
		return gone(p)
	}
	if err != nil {
		return d.failed(p, err)
	}
	n := 0
	switch {
	case dangerous(it.Rule) && do != "delete":
		p.Say = p.L.OperatorOnly
		return http.StatusForbidden, p
	case do == "release":
		p.Say = p.L.Released
		n, err = d.release(ctx, t, "the web page")
	case do == "allow":
		p.Say = p.L.Allowed
		if n, err = d.allow(ctx, t, it); errors.Is(err, errNoSender) {
			p.Say = p.L.NoSender
			return http.StatusUnprocessableEntity, p
		}
	case do == "delete":
		p.Say = p.L.Deleted
		if n, err = d.cfg.Quarantine.Delete(ctx, quarantine.Filter{Account: t.account, ID: t.id}, "the recipient, by the web page", false); n > 0 {
			d.did("delete")
		}
	default:
		p.Say = p.L.BadRequest
		return http.StatusBadRequest, p
	}
	if err != nil && n == 0 {
		return d.failed(p, err)
	}
	if n == 0 {
		return gone(p)
	}
	return http.StatusOK, p
}

// errNoSender is a From that can't be allowed.
var errNoSender = errors.New("no sender to allow")

// allow releases a message and puts its sender on the account's list.
func (d *Digest) allow(ctx context.Context, t token, it quarantine.Item) (int, error) {
	f, err := d.read(ctx, it, &english)
	if err != nil {
		return 0, err
	}
	if f.sender == "" {
		return 0, errNoSender
	}
	err = d.cfg.Wishes.Add(ctx, t.account, preference.Entry{Pattern: f.sender, Allow: true, Note: "from the digest"})
	if errors.Is(err, preference.ErrInvalid) {
		return 0, errNoSender
	}
	if err != nil {
		return 0, err
	}
	d.did("allow")
	return d.release(ctx, t, "the web page")
}

// speak is the account's language; quarantine.ErrNotFound when it is disabled or gone.
func (d *Digest) speak(ctx context.Context, t token, otherwise *language) (*language, error) {
	acc, err := d.cfg.People.ByID(ctx, t.account)
	if errors.Is(err, account.ErrNotFound) || err == nil && acc.State != account.Active {
		return otherwise, quarantine.ErrNotFound
	}
	if err != nil {
		return otherwise, err
	}
	wishes, err := d.cfg.Wishes.Settings(ctx, t.account)
	if err != nil {
		return otherwise, err
	}
	return languageOf(cmp.Or(wishes.Language, acc.Language)), nil
}

// accepted is the language that the browser names first.
func accepted(q *http.Request) *language {
	return languageOf(q.Header.Get("Accept-Language")[:min(2, len(q.Header.Get("Accept-Language")))])
}

// networkOf is the client's network; what can't be read is one network for all.
func networkOf(remote string) netip.Prefix {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	return limit.Networks{IPv4Bits: 32}.Of(a.Addr())
}
