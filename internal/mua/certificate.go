package mua

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/identity"
	"poczta.example/poczta/internal/mua/line"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/vault"
)

// A key lies in the vault in pieces: Windows' keyring takes 2560 octets for a secret, and a key of
// RSA has more. A piece that another follows ends with the sign of it.
const (
	maxPiece  = 2000 // octets
	maxPieces = 16
	goesOn    = "+" // not of base64's for URLs
)

// pieceOf names a piece of the key of an account's certificate. The certificate is part of it, so
// that the key of another, of before or behind a change that broke off, is never taken for it.
func pieceOf(a *profile.Account, n int) (string, error) {
	leaf, err := identity.Leaf(a.Certificate)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("key/%d/%.16s/%d", a.ID, identity.Fingerprint(leaf), n), nil
}

// Key implements line.Keys.
func (s *Secrets) Key(_ context.Context, a *profile.Account) (string, error) {
	var key strings.Builder
	for n := range maxPieces {
		name, err := pieceOf(a, n)
		if err != nil {
			return "", err
		}
		piece, err := s.v.Get(name)
		if errors.Is(err, vault.ErrNotFound) {
			break
		}
		if err != nil {
			return "", err
		}
		text, more := strings.CutSuffix(piece, goesOn)
		key.WriteString(text)
		if !more {
			return key.String(), nil
		}
	}
	return "", fmt.Errorf("%s: %w; upload the certificate with its key again on the account's page (poczta mail open), or name files with: poczta mail server --cert", a.Address, identity.ErrKeyGone)
}

// SetKey stores the key of an account's certificate.
func (s *Secrets) SetKey(a *profile.Account, key string) error {
	for n := range maxPieces {
		name, err := pieceOf(a, n)
		if err != nil {
			return err
		}
		piece := key[:min(len(key), maxPiece)]
		if key = key[len(piece):]; key != "" {
			piece += goesOn
		}
		if err := s.v.Set(name, piece); err != nil {
			return err
		}
		if key == "" {
			return nil
		}
	}
	return errors.New("the key is too long to be kept")
}

// forgetKey removes the key of an account's certificate, if it has one.
func (s *Secrets) forgetKey(a *profile.Account) error {
	if a.Certificate == "" {
		return nil
	}
	for n := range maxPieces {
		name, err := pieceOf(a, n)
		if err != nil {
			return err
		}
		piece, err := s.v.Get(name)
		if errors.Is(err, vault.ErrNotFound) {
			return nil
		}
		if err == nil {
			err = s.v.Remove(name)
		}
		if err != nil {
			return err
		}
		if !strings.HasSuffix(piece, goesOn) {
			return nil
		}
	}
	return nil
}

// trying are the secrets of an account whose certificate or password is to change.
type trying struct {
	*Secrets
	key, password string // "" is as it was
}

// Key implements line.Keys.
func (t trying) Key(ctx context.Context, a *profile.Account) (string, error) {
	if t.key != "" {
		return t.key, nil
	}
	return t.Secrets.Key(ctx, a)
}

// Password implements line.Secrets.
func (t trying) Password(ctx context.Context, a *profile.Account, out bool) (string, error) {
	if t.password != "" {
		return t.password, nil
	}
	return t.Secrets.Password(ctx, a, out)
}

// Certificate implements page.Keeper. The key is durable before the account names its certificate,
// and the one before is forgotten behind that: broken off at any instant, an account has one that
// works.
func (k keeper) Certificate(ctx context.Context, id envelope.AccountID, c page.Certificate) error {
	d, err := k.desk(nil)
	if err != nil {
		return err
	}
	before, err := d.served(ctx, number(id))
	if err != nil {
		return err
	}
	a, key := before, ""
	a.Certificate = ""
	if c.Identity != nil {
		if key, err = c.Identity.Key(); err != nil {
			return err
		}
		a.Certificate = c.Identity.Chain()
	}
	for _, s := range []*profile.Server{&a.Incoming, &a.Outgoing} {
		s.CertificateFile, s.KeyFile, s.External = "", "", c.External && c.Identity != nil
	}
	secrets := k.m.Secrets
	l, err := line.New(line.Config{Secrets: trying{secrets, key, c.Password}, Roots: k.m.conf.Roots, Dial: k.m.conf.Dial})
	if err != nil {
		return err
	}
	if err := try(ctx, l, a, true, true); err != nil {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	if key != "" {
		if err := secrets.SetKey(&a, key); err != nil {
			return err
		}
	}
	if c.Password != "" {
		if err := secrets.SetPassword(&a, c.Password, ""); err != nil {
			return err
		}
	}
	if err := k.m.Accounts.Change(ctx, id, func(now *profile.Account) { tried(now, &before, &a) }); err != nil {
		return together(err, k.changed(&a, &before))
	}
	if before.Certificate != a.Certificate {
		err = k.changed(&before, &a)
	}
	k.wake()
	return err
}

// changed forgets the key of the certificate before, unless it is of the one now.
func (k keeper) changed(before, now *profile.Account) error {
	if before.Certificate == "" {
		return nil
	}
	was, err := pieceOf(before, 0)
	if err != nil {
		return err
	}
	if now.Certificate != "" {
		if is, err := pieceOf(now, 0); err != nil || is == was {
			return err
		}
	}
	return k.m.Secrets.forgetKey(before)
}
