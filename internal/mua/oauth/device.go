package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"
)

// Code is what a person types in on another device (RFC 8628 §3.3).
type Code struct {
	Address string // where; https, or this computer
	// Complete is Address with the code in it, for who opens it on this very device; "" is none.
	Complete string
	Text     string    // the code
	Until    time.Time // when it ends; zero is not said
	// Away says that the provider can't be reached at the moment; it is asked again.
	Away bool
}

// Bounds of the questions of a device.
const (
	deviceTime = 30 * time.Minute // that a code is waited for whose provider does not say how long it is good
	maxPause   = time.Minute      // between two questions while the provider can't be reached
	maxCode    = 64               // octets of a code; RFC 8628 §6.1 has people type eight characters
)

// Device shows the person where to type which code, and waits until they have (RFC 8628). show is
// called with the code, and again whenever Away changes. ErrDenied, ErrLate, and ErrAway when the
// provider could not even be asked for a code.
func (p *Provider) Device(ctx context.Context, show func(Code)) (Token, error) {
	if p.DeviceURL == "" {
		return Token{}, errors.New("this provider has no login by another device")
	}
	if err := p.validate("token", "device"); err != nil {
		return Token{}, err
	}
	ctx = p.context(ctx)
	d, err := p.config("").DeviceAuth(ctx)
	if err != nil {
		return Token{}, failure("ask for a code", away(ctx, err))
	}
	c, err := shown(d)
	if err != nil {
		return Token{}, err
	}
	show(c)
	got, err := p.entered(ctx, d, func(gone bool) {
		if c.Away != gone {
			c.Away = gone
			show(c)
		}
	})
	if err != nil {
		return Token{}, failure("wait for the login", err)
	}
	return from(got), nil
}

// entered asks until the code was entered. While the provider can't be reached it is asked ever less
// often (RFC 8628 §3.5), until the code ends; heard is told with each question whether it is so.
func (p *Provider) entered(ctx context.Context, d *oauth2.DeviceAuthResponse, heard func(away bool)) (*oauth2.Token, error) {
	ctx = listening(ctx, heard)
	end := d.Expiry
	if end.IsZero() {
		end = time.Now().Add(deviceTime)
	}
	pause := time.Duration(max(d.Interval, 1)) * time.Second
	for {
		asked, cancel := context.WithDeadlineCause(ctx, end, ErrLate)
		got, err := p.config("").DeviceAccessToken(asked, d)
		over := context.Cause(asked)
		cancel()
		e, answered := errors.AsType[*oauth2.RetrieveError](err)
		switch {
		case err == nil:
			return got, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case over != nil, answered && e.ErrorCode == "expired_token", !time.Now().Before(end):
			return nil, ErrLate
		case answered && !passing(e):
			return nil, err
		}
		// The library's next question comes one interval later still.
		timer := time.NewTimer(min(pause, time.Until(end)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
		pause = min(2*pause, maxPause)
	}
}

// listening has the client of a context tell whether questions are answered.
func listening(ctx context.Context, heard func(away bool)) context.Context {
	c, _ := ctx.Value(oauth2.HTTPClient).(*http.Client)
	with := *c
	next := with.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	with.Transport = ear(func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if r.Context().Err() == nil {
			heard(err != nil || resp.StatusCode >= http.StatusInternalServerError)
		}
		return resp, err
	})
	return context.WithValue(ctx, oauth2.HTTPClient, &with)
}

// ear is an http.RoundTripper.
type ear func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (e ear) RoundTrip(r *http.Request) (*http.Response, error) { return e(r) }

// passing reports an answer that says nothing about the login: the provider, or what stands before
// it, has trouble.
func passing(e *oauth2.RetrieveError) bool {
	return e.ErrorCode == "" && e.Response != nil && e.Response.StatusCode >= 500
}

// away is the error of a provider that gave no answer.
func away(ctx context.Context, err error) error {
	if _, answered := errors.AsType[*oauth2.RetrieveError](err); answered {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("%w (%w)", ErrAway, e.Err) // without the address, which may hold what is secret
	}
	return err
}

// shown is what may be shown of a provider's answer: an address that is safe to open, and a code
// that can be typed.
func shown(d *oauth2.DeviceAuthResponse) (Code, error) {
	c := Code{Address: d.VerificationURI, Text: clean(d.UserCode), Until: d.Expiry}
	if u, err := url.Parse(c.Address); err != nil || u.Host == "" || u.Scheme != "https" && !local(u) {
		return c, fmt.Errorf("the provider names %q to enter the code at, which is no https address; log in without another device", clean(c.Address))
	}
	if c.Text == "" || len(c.Text) > maxCode || d.DeviceCode == "" {
		return c, errors.New("the provider gave no code that could be entered; log in without another device")
	}
	if u, err := url.Parse(d.VerificationURIComplete); err == nil && u.Host != "" && (u.Scheme == "https" || local(u)) {
		c.Complete = d.VerificationURIComplete
	}
	return c, nil
}
