package mua

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"poczta.example/poczta/internal/mua/oauth"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/vault"
)

// Secrets are the passwords and tokens of the accounts, in the vault; they are line.Secrets.
// Safe for concurrent use.
type Secrets struct {
	v   vault.Secrets
	now func() time.Time

	renewing sync.Mutex // one token is renewed at a time: some providers take a refresh token once
	storing  sync.Mutex // tokens; never held while a provider is asked
}

// Names of an account's secrets in the vault.
func incoming(a *profile.Account) string { return fmt.Sprintf("incoming/%d", a.ID) }
func outgoing(a *profile.Account) string { return fmt.Sprintf("outgoing/%d", a.ID) }
func token(a *profile.Account) string    { return fmt.Sprintf("token/%d", a.ID) }
func client(a *profile.Account) string   { return fmt.Sprintf("client/%d", a.ID) }

// Where says for people where the secrets lie.
func (s *Secrets) Where() string { return s.v.Where() }

// Password implements line.Secrets. Without a password of its own the outgoing server gets the
// incoming one's.
func (s *Secrets) Password(_ context.Context, a *profile.Account, out bool) (string, error) {
	if out {
		p, err := s.v.Get(outgoing(a))
		if !errors.Is(err, vault.ErrNotFound) {
			return p, err
		}
	}
	p, err := s.v.Get(incoming(a))
	if errors.Is(err, vault.ErrNotFound) {
		return "", fmt.Errorf("no password is known for %s; enter it: poczta mail password %s", a.Address, a.Address)
	}
	return p, err
}

// SetPassword stores the password of the incoming server, and of the outgoing one if it differs.
func (s *Secrets) SetPassword(a *profile.Account, in, out string) error {
	if err := s.v.Set(incoming(a), in); err != nil {
		return err
	}
	if out == "" || out == in {
		return s.v.Remove(outgoing(a))
	}
	return s.v.Set(outgoing(a), out)
}

// Token implements line.Secrets. A token that ends soon is renewed and stored.
func (s *Secrets) Token(ctx context.Context, a *profile.Account) (string, error) {
	s.renewing.Lock()
	defer s.renewing.Unlock()
	text, err := s.v.Get(token(a))
	if errors.Is(err, vault.ErrNotFound) {
		return "", fmt.Errorf("%s: %w", a.Address, oauth.ErrExpired)
	}
	if err != nil {
		return "", err
	}
	t, err := oauth.Decode(text)
	if err != nil {
		return "", err
	}
	now := time.Now
	if s.now != nil {
		now = s.now
	}
	if t.Fresh(now()) {
		return t.Access, nil
	}
	p := Provider(a)
	if p.ClientSecret, err = s.v.Get(client(a)); err != nil && !errors.Is(err, vault.ErrNotFound) {
		return "", err
	}
	if t, err = p.Refresh(ctx, t); err != nil {
		return "", fmt.Errorf("%s: %w", a.Address, err)
	}
	return s.renewed(a, text, t)
}

// renewed stores a token that was renewed of the one in the vault then, unless a person has logged in anew meanwhile, or removed
// the account. It returns what gives access.
func (s *Secrets) renewed(a *profile.Account, before string, t oauth.Token) (string, error) {
	s.storing.Lock()
	defer s.storing.Unlock()
	text, err := s.v.Get(token(a))
	switch {
	case errors.Is(err, vault.ErrNotFound):
		return "", fmt.Errorf("%s: %w", a.Address, oauth.ErrExpired)
	case err != nil:
		return "", err
	case text != before:
		t, err = oauth.Decode(text)
		return t.Access, err
	}
	return t.Access, s.setToken(a, t)
}

// SetToken stores what a login gave.
func (s *Secrets) SetToken(a *profile.Account, t oauth.Token) error {
	s.storing.Lock()
	defer s.storing.Unlock()
	return s.setToken(a, t)
}

func (s *Secrets) setToken(a *profile.Account, t oauth.Token) error {
	text, err := t.Encode()
	if err != nil {
		return err
	}
	return s.v.Set(token(a), text)
}

// SetClientSecret stores what some providers give to a program beside its client id; "" forgets it.
func (s *Secrets) SetClientSecret(a *profile.Account, secret string) error {
	if secret == "" {
		return s.v.Remove(client(a))
	}
	return s.v.Set(client(a), secret)
}

// clientSecret is what SetClientSecret stored, or "".
func (s *Secrets) clientSecret(a *profile.Account) (string, error) {
	secret, err := s.v.Get(client(a))
	if errors.Is(err, vault.ErrNotFound) {
		return "", nil
	}
	return secret, err
}

// open has the vault opened: its passphrase is asked for, if it has one and was not opened yet.
func (s *Secrets) open() error {
	if _, err := s.v.Get("opened"); !errors.Is(err, vault.ErrNotFound) {
		return err
	}
	return nil
}

// Forget removes all secrets of an account.
func (s *Secrets) Forget(a *profile.Account) error {
	s.storing.Lock()
	defer s.storing.Unlock()
	return together(s.v.Remove(incoming(a)), s.v.Remove(outgoing(a)), s.v.Remove(token(a)), s.v.Remove(client(a)), s.forgetKey(a))
}

// together joins errors, each of the same words once: a vault that does not open says so to
// whatever is asked of it.
func together(errs ...error) error {
	said := map[string]bool{}
	var out []error
	for _, err := range errs {
		if err != nil && !said[err.Error()] {
			said[err.Error()] = true
			out = append(out, err)
		}
	}
	if len(out) == 1 {
		return out[0]
	}
	return errors.Join(out...)
}

// Provider is where an account's tokens come from.
func Provider(a *profile.Account) *oauth.Provider {
	p := &oauth.Provider{ClientID: a.ClientID}
	if a.OAuth != nil {
		p.AuthURL, p.TokenURL, p.Scope = a.OAuth.AuthURL, a.OAuth.TokenURL, a.OAuth.Scope
	}
	return p
}
