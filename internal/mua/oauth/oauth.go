// Package oauth gets access tokens for mail servers whose providers take no passwords (OAuth 2.0,
// RFC 6749): in the person's browser by authorization code with PKCE over a redirect to this
// computer (RFC 8252, RFC 7636), or on another device by a code that is typed in there (RFC 8628).
package oauth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"golang.org/x/oauth2"
)

// Errors that callers branch on.
var (
	ErrDenied  = errors.New("the provider says that access was denied")
	ErrExpired = errors.New("the provider no longer accepts this login; log in again: poczta mail login")
	ErrLate    = errors.New("the code was not entered in time, so it is no longer good; begin again to get another")
	ErrAway    = errors.New("the provider can't be reached; is this computer on the network?")
)

// early is how long before its end a token is renewed.
const early = 2 * time.Minute

// requestTimeout bounds one question to a provider.
const requestTimeout = 30 * time.Second

// Provider is where tokens come from.
type Provider struct {
	AuthURL   string
	TokenURL  string
	DeviceURL string // "" when it has no device flow
	Scope     string // parted by blanks
	ClientID  string // of this program there
	// ClientSecret is what some providers want of programs too, though it can't be secret there.
	ClientSecret string
	// Client makes the requests; nil is one with a time limit.
	Client *http.Client
}

// Token is what a provider gave. It is a secret and travels as JSON into the vault.
type Token struct {
	Access  string    `json:"access"`
	Refresh string    `json:"refresh,omitempty"`
	Expiry  time.Time `json:"expiry"` // zero: it does not expire
}

// Fresh reports whether the token is good for a while.
func (t Token) Fresh(now time.Time) bool {
	return t.Access != "" && (t.Expiry.IsZero() || now.Add(early).Before(t.Expiry))
}

// String tells no secrets.
func (t Token) String() string { return "token until " + t.Expiry.Format(time.RFC3339) }

// GoString tells no secrets.
func (t Token) GoString() string { return t.String() }

// Encode is the form for the vault.
func (t Token) Encode() (string, error) {
	b, err := json.Marshal(t)
	return string(b), err
}

// Decode reads what Encode wrote.
func Decode(s string) (t Token, err error) {
	if err := json.Unmarshal([]byte(s), &t); err != nil {
		return Token{}, fmt.Errorf("read token: %w", errors.Join(ErrExpired, errors.New("it is damaged")))
	}
	return t, nil
}

// Validate checks that questions go to a provider under TLS, or to this computer.
func (p *Provider) Validate() error {
	if p.DeviceURL == "" {
		return p.validate("authorization", "token")
	}
	return p.validate("authorization", "token", "device")
}

// validate is Validate for some of the addresses.
func (p *Provider) validate(which ...string) error {
	var errs []error
	if p.ClientID == "" {
		errs = append(errs, errors.New("the provider wants to know the program: give --client-id"))
	}
	for _, what := range which {
		s := map[string]string{"authorization": p.AuthURL, "token": p.TokenURL, "device": p.DeviceURL}[what]
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "https" && !local(u) {
			errs = append(errs, fmt.Errorf("the %s address %q must begin with https://", what, s))
		}
	}
	return errors.Join(errs...)
}

func local(u *url.URL) bool { return u.Scheme == "http" && u.Hostname() == "127.0.0.1" }

func (p *Provider) config(redirect string) *oauth2.Config {
	return &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.ClientSecret, RedirectURL: redirect, Scopes: strings.Fields(p.Scope),
		Endpoint: oauth2.Endpoint{AuthURL: p.AuthURL, TokenURL: p.TokenURL, DeviceAuthURL: p.DeviceURL}}
}

// context lets the library make its requests with our client.
func (p *Provider) context(ctx context.Context) context.Context {
	c := p.Client
	if c == nil {
		c = &http.Client{Timeout: requestTimeout}
	}
	return context.WithValue(ctx, oauth2.HTTPClient, c)
}

// Refresh gets a new token for an old one. ErrExpired when the person must log in again.
func (p *Provider) Refresh(ctx context.Context, t Token) (Token, error) {
	if t.Refresh == "" {
		return t, ErrExpired
	}
	// A source made of the refresh token alone asks at once.
	got, err := p.config("").TokenSource(p.context(ctx), &oauth2.Token{RefreshToken: t.Refresh}).Token()
	if err != nil {
		return t, failure("renew token", err)
	}
	n := from(got)
	if n.Refresh == "" {
		n.Refresh = t.Refresh
	}
	return n, nil
}

func from(t *oauth2.Token) Token {
	return Token{Access: t.AccessToken, Refresh: t.RefreshToken, Expiry: t.Expiry}
}

// failure puts a provider's error into words, without what could be secret in its body.
func failure(what string, err error) error {
	e, ok := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case !ok:
		return fmt.Errorf("%s: %w", what, err)
	case e.ErrorCode == "access_denied":
		return fmt.Errorf("%s: %w", what, ErrDenied)
	case e.ErrorCode == "invalid_grant", e.ErrorCode == "expired_token":
		return fmt.Errorf("%s: %w", what, ErrExpired)
	case e.ErrorCode != "":
		return fmt.Errorf("%s: the provider answers %s %s", what, clean(e.ErrorCode), clean(e.ErrorDescription))
	}
	return fmt.Errorf("%s: the provider answers with status %d", what, e.Response.StatusCode)
}

// clean makes one short line of a foreign text.
func clean(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// random is a value that nobody can guess.
func random() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}
