package mua

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/line"
	"poczta.example/poczta/internal/mua/oauth"
	"poczta.example/poczta/internal/mua/page"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/vault"
)

// keeper does for the page what the commands do: it works at a desk. look asks for a look at the
// servers; it may be nil.
type keeper struct {
	m    *Mail
	look func()
}

var _ page.Keeper = keeper{}

// desk is one with v on its input; what it prints nobody reads.
func (k keeper) desk(v any) (*Desk, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("hand over: %w", err)
	}
	return &Desk{Mail: k.m, In: bytes.NewReader(text), Out: io.Discard, Err: io.Discard}, nil
}

// setup asks who.
func (k keeper) setup(who page.Person, language string) *Setup {
	c := k.m.conf
	return &Setup{Person: who, Language: language, Resolver: c.Resolver, Roots: c.Roots, Dial: c.Dial, Now: c.Now}
}

// Add implements page.Keeper.
func (k keeper) Add(ctx context.Context, who page.Person, language string, w page.NewAccount) error {
	n, err := k.setup(who, language).Account(ctx, Wish{Address: w.Address, Name: w.Name, Login: w.Login, Incoming: w.Incoming, Outgoing: w.Outgoing,
		Security: w.IncomingSecurity, OutgoingSecurity: w.OutgoingSecurity, AuthorityFile: w.AuthorityFile, CertificateFile: w.CertificateFile, KeyFile: w.KeyFile,
		Identity: w.Identity, External: w.External, Accept: w.Accept, AcceptOutgoing: w.AcceptOutgoing,
		OAuth: oauth.Provider{ClientID: w.ClientID, ClientSecret: w.ClientSecret, AuthURL: w.AuthURL, TokenURL: w.TokenURL, DeviceURL: w.DeviceURL, Scope: w.Scope}})
	if err != nil {
		return err
	}
	d, err := k.desk(n)
	if err != nil {
		return err
	}
	if err := d.AccountAdd(ctx); err != nil {
		return err
	}
	k.wake()
	return nil
}

// Server implements page.Keeper.
func (k keeper) Server(ctx context.Context, a profile.Account) error {
	d, err := k.desk(nil)
	if err != nil {
		return err
	}
	before, err := d.served(ctx, number(a.ID))
	if err != nil {
		return err
	}
	is := before // what else there is may be newer than a
	is.Incoming, is.Outgoing = a.Incoming, a.Outgoing
	if a.Incoming.CertificateFile != "" {
		is.Certificate = a.Certificate
	}
	if err := d.replace(ctx, before, is, false); err != nil {
		return err
	}
	k.wake()
	return nil
}

// Password implements page.Keeper.
func (k keeper) Password(ctx context.Context, id envelope.AccountID, password string) error {
	d, err := k.desk(NewAccount{Password: password})
	if err != nil {
		return err
	}
	if err := d.Password(ctx, number(id), false); err != nil {
		return err
	}
	k.wake()
	return nil
}

// Login implements page.Keeper.
func (k keeper) Login(ctx context.Context, who page.Person, language string, id envelope.AccountID, l page.Login) error {
	a, err := k.m.account(ctx, id)
	if err != nil {
		return err
	}
	clientSecret := l.ClientSecret
	if clientSecret == "" {
		if clientSecret, err = k.m.Secrets.clientSecret(&a); err != nil {
			return err
		}
	}
	t, err := k.setup(who, language).Token(ctx, &a, clientSecret, l.DeviceURL)
	if err != nil {
		return err
	}
	d, err := k.desk(NewAccount{Token: &t, ClientSecret: clientSecret})
	if err != nil {
		return err
	}
	if err := d.Login(ctx, number(id)); err != nil {
		return err
	}
	defer k.wake()
	return k.device(ctx, id, l.DeviceURL)
}

// device keeps where an account got a code that worked, so that it need not be typed again.
func (k keeper) device(ctx context.Context, id envelope.AccountID, deviceURL string) error {
	a, err := k.m.account(ctx, id)
	if err != nil || deviceURL == "" || a.OAuth == nil || a.OAuth.DeviceURL == deviceURL {
		return err
	}
	o := *a.OAuth
	o.DeviceURL, a.OAuth = deviceURL, &o
	return k.m.Accounts.Update(ctx, a)
}

// Remove implements page.Keeper.
func (k keeper) Remove(ctx context.Context, id envelope.AccountID, letters bool) error {
	d, err := k.desk(nil)
	if err != nil {
		return err
	}
	return d.Remove(ctx, number(id), letters)
}

// number names an account for Desk.account.
func number(id envelope.AccountID) string { return strconv.FormatInt(int64(id), 10) }

// wake has the mail fetched and sent with what was changed.
func (k keeper) wake() {
	if k.look != nil {
		k.look()
	}
	k.m.Outbox.Wake()
}

// Lock implements page.Keeper.
func (k keeper) Lock() (page.Lock, error) {
	l, ok := k.m.Secrets.v.(vault.Locker)
	if !ok {
		return page.Unlocked, nil
	}
	locked, fresh, err := l.Locked()
	k.m.mu.Lock()
	known := k.m.passphrase != ""
	k.m.mu.Unlock()
	switch {
	case err != nil || !locked || known:
		return page.Unlocked, err
	case fresh && k.m.conf.Ask != nil && !k.m.conf.AtTerminal: // it was given, as in a file
		return page.Unlocked, nil
	case fresh:
		return page.Fresh, nil
	}
	return page.Locked, nil
}

// Unlock implements page.Keeper. A passphrase that opens nothing is not kept.
func (k keeper) Unlock(passphrase string) error {
	k.m.know(passphrase)
	if err := k.m.Secrets.open(); err != nil {
		k.m.know("")
		return err
	}
	k.wake()
	return nil
}

func (m *Mail) know(passphrase string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.passphrase = passphrase
}

// ask is asked for the passphrase of the encrypted file of secrets: the page's visitor has entered
// it, or is waited for without anything standing still; else the person at the terminal.
func (m *Mail) ask(fresh bool) (string, error) {
	m.mu.Lock()
	known, served := m.passphrase, m.served != nil
	m.mu.Unlock()
	switch {
	case known != "":
		return known, nil
	case served && m.conf.AtTerminal:
		return "", fmt.Errorf("%w; enter it on the page (poczta mail open)", vault.ErrLocked)
	case m.conf.Ask == nil:
		return "", fmt.Errorf("%w; give its first line in a file with --passphrase-file", vault.ErrLocked)
	}
	return m.conf.Ask(fresh)
}

// explained is an error in words for the command line, of a kind that the page has its own words for.
type explained struct {
	text string
	kind error
}

// Error implements error.
func (e *explained) Error() string { return e.text }

// Unwrap returns the kind.
func (e *explained) Unwrap() error { return e.kind }

// untrusted tells which server a refused certificate is of.
func untrusted(err error, outgoing bool) error {
	if e, ok := errors.AsType[*line.CertificateError](err); ok {
		return &page.Untrusted{Certificate: e, Outgoing: outgoing}
	}
	return err
}
