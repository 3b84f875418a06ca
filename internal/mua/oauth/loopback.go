package oauth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// loginTime is how long a person may take in the browser.
const loginTime = 15 * time.Minute

// answer is what came back through the browser.
type answer struct {
	code string
	err  error
}

// Loopback has the person log in with their browser, which open is asked to show an address in;
// hint is the mail address. The provider sends the browser back to a port of this computer that is
// open meanwhile (RFC 8252 §7.3).
func (p *Provider) Loopback(ctx context.Context, hint string, open func(address string) error) (Token, error) {
	if err := p.Validate(); err != nil {
		return Token{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return Token{}, fmt.Errorf("wait for the browser: %w", err)
	}
	state, verifier := random(), oauth2.GenerateVerifier()
	came := make(chan answer, 1)
	s := &http.Server{Handler: back(state, came), ReadHeaderTimeout: requestTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
		MaxHeaderBytes: 16 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = s.Serve(l) }() // ends with Close
	defer s.Close()
	c := p.config("http://" + l.Addr().String() + "/")
	address := c.AuthCodeURL(state, oauth2.AccessTypeOffline, oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("login_hint", hint))
	if err := open(address); err != nil {
		return Token{}, fmt.Errorf("open the browser: %w", err)
	}
	select {
	case <-ctx.Done():
		return Token{}, fmt.Errorf("wait for the login in the browser: %w", ctx.Err())
	case a := <-came:
		if a.err != nil {
			return Token{}, a.err
		}
		got, err := c.Exchange(p.context(ctx), a.code, oauth2.VerifierOption(verifier))
		if err != nil {
			return Token{}, failure("exchange the login for a token", err)
		}
		return from(got), nil
	}
}

// back takes the browser's way back. Only the request with our state counts, and only the first.
func back(state string, came chan<- answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.URL.Path != "/" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
			http.NotFound(w, r)
			return
		}
		a := answer{code: q.Get("code")}
		switch e := q.Get("error"); {
		case e == "access_denied":
			a.err = ErrDenied
		case e != "":
			a.err = fmt.Errorf("the provider answers %s %s", clean(e), clean(q.Get("error_description")))
		case a.code == "":
			a.err = errors.New("the provider sent the browser back without a code")
		}
		select {
		case came <- a:
		default:
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		io.WriteString(w, closing(r.Header.Get("Accept-Language"), a.err == nil))
	})
}

// closing is the page that the browser shows in the end.
func closing(languages string, done bool) string {
	lang, text := "en", "You are logged in. You can close this window."
	if !done {
		text = "The login did not succeed. You can close this window; the program says why."
	}
	if strings.HasPrefix(strings.ToLower(languages), "pl") {
		lang, text = "pl", "Zalogowano. Możesz zamknąć to okno."
		if !done {
			text = "Logowanie nie powiodło się. Możesz zamknąć to okno; program mówi dlaczego."
		}
	}
	return `<!doctype html><html lang="` + lang + `"><meta charset="utf-8"><title>Poczta</title><main><h1>Poczta</h1><p>` + text + `</p></main></html>`
}
