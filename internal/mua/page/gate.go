package page

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"poczta.example/poczta/internal/mua/store"
)

// Bounds of who may come in.
const (
	tokenLife   = 10 * time.Minute
	maxTokens   = 32
	maxSessions = 32 // the one not seen for longest goes
)

// sessionCookie is the name of the cookie that lets in.
const sessionCookie = "poczta"

// gate knows who may see the mail: who brought a token, once, and since then a cookie.
type gate struct {
	now  func() time.Time
	rand io.Reader
	// base is the path that all pages stand below, and that the cookie is for. Browsers send cookies
	// of 127.0.0.1 to every port of it (RFC 6265 §8.5), so to every program that serves a page on this
	// computer, whatever the cookie's name. None of them knows this path, and our pages tell it to
	// nobody (no referrer, no address in a command line), so that no browser comes there by it. An
	// address like 127.x.y.z would not do: macOS has but one, and others see who listens where.
	base string
	key  []byte // seals addresses of pictures

	mu       sync.Mutex
	tokens   map[[32]byte]time.Time // hash to when it ends
	sessions map[[32]byte]*session
}

// session is a browser that came in.
type session struct {
	seen time.Time // under gate.mu

	mu    sync.Mutex
	flash flash
}

func newGate(r io.Reader, now func() time.Time) (*gate, error) {
	g := &gate{now: now, rand: r, key: make([]byte, 32), tokens: map[[32]byte]time.Time{}, sessions: map[[32]byte]*session{}}
	if _, err := io.ReadFull(r, g.key); err != nil {
		return nil, fmt.Errorf("page: random octets: %w", err)
	}
	path, err := g.secret()
	if err != nil {
		return nil, err
	}
	g.base = "/" + path
	return g, nil
}

func (g *gate) secret() (string, error) {
	b := make([]byte, 24)
	if _, err := io.ReadFull(g.rand, b); err != nil {
		return "", fmt.Errorf("page: random octets: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// invite makes a token.
func (g *gate) invite() (string, error) {
	token, err := g.secret()
	if err != nil {
		return "", err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for sum, end := range g.tokens {
		if g.now().After(end) || len(g.tokens) >= maxTokens {
			delete(g.tokens, sum)
		}
	}
	g.tokens[sha256.Sum256([]byte(token))] = g.now().Add(tokenLife)
	return token, nil
}

// admit takes a token in exchange for a session's cookie.
func (g *gate) admit(token string) (*http.Cookie, bool) {
	value, err := g.secret()
	g.mu.Lock()
	defer g.mu.Unlock()
	sum := sha256.Sum256([]byte(token))
	end, ok := g.tokens[sum]
	if !ok || err != nil {
		return nil, false
	}
	delete(g.tokens, sum)
	if g.now().After(end) {
		return nil, false
	}
	if len(g.sessions) >= maxSessions {
		var oldest [32]byte
		for k, s := range g.sessions {
			if o := g.sessions[oldest]; o == nil || s.seen.Before(o.seen) {
				oldest = k
			}
		}
		delete(g.sessions, oldest)
	}
	g.sessions[sha256.Sum256([]byte(value))] = &session{seen: g.now()}
	return &http.Cookie{Name: sessionCookie, Value: value, Path: g.base, HttpOnly: true, SameSite: http.SameSiteStrictMode}, true
}

// session finds the session of a request; nil is a stranger's.
func (g *gate) session(r *http.Request) *session {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sessions[sha256.Sum256([]byte(c.Value))] // looked up by a hash: no octets are compared one by one
	if s != nil {
		s.seen = g.now()
	}
	return s
}

// seal makes the address of a picture of a letter what nobody else can make: the frame that shows
// it has an origin of its own and sends no cookie.
func (g *gate) seal(id store.LetterID, n int) string {
	m := hmac.New(sha256.New, g.key)
	fmt.Fprintf(m, "%d/%d", id, n)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:16])
}

// policy of our own pages: what is ours, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// outermost refuses who is not on this computer, or came by a name that is not this computer's
// (DNS rebinding), and sets what every reply says.
func (p *Page) outermost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Content-Security-Policy", policy)
		if a, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !a.Addr().Unmap().IsLoopback() {
			http.Error(w, "This page is for this computer alone.", http.StatusForbidden)
			return
		}
		if !ourName(r.Host) {
			http.Error(w, "This page is not known by that name; use the address that poczta mail open shows.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ourName reports a Host field that names this computer.
func ourName(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && a.IsLoopback()
}

// guarded lets in who has a session and comes from our own pages or by hand. Other programs on
// this computer are other origins of the same site, to whom the browser sends the cookie too.
func (p *Page) guarded(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.refuse(w, r, http.StatusForbidden) }))
	next = cross.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "same-origin", "none":
		default:
			p.refuse(w, r, http.StatusForbidden)
			return
		}
		if p.gate.session(r) == nil {
			p.refuse(w, r, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse shows a stranger how to come in.
func (p *Page) refuse(w http.ResponseWriter, r *http.Request, code int) {
	v := &visit{p: p, w: w, r: r, t: wordsFor(r)}
	w.WriteHeader(code)
	if err := p.templates.ExecuteTemplate(w, "locked.html", v.bare(v.t.Locked)); err != nil {
		p.cfg.Logger.Debug("page not written", "error", err)
	}
}

// enter takes a token.
func (p *Page) enter(w http.ResponseWriter, r *http.Request) {
	c, ok := p.gate.admit(r.URL.Query().Get("token"))
	if !ok {
		p.refuse(w, r, http.StatusUnauthorized)
		return
	}
	http.SetCookie(w, c)
	// A redirect out of a navigation that another site or program began would not bear a strict cookie:
	// the page goes on by itself.
	v := &visit{p: p, w: w, r: r, t: wordsFor(r)}
	if err := p.templates.ExecuteTemplate(w, "enter.html", v.bare(v.t.Mail)); err != nil {
		p.cfg.Logger.Debug("page not written", "error", err)
	}
}
