package mua

import (
	"context"
	"errors"
	"fmt"

	"poczta.example/poczta/internal/mailfile"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store/thunderbird"
)

// FirstArchive is the name of the archive that an import makes where there is no account.
const FirstArchive = "archive"

// ArchiveAdd makes an account that only keeps letters: it has no servers, neither fetches nor sends.
// It needs no password, so the vault stays closed.
func (d *Desk) ArchiveAdd(ctx context.Context, name string) error {
	a, err := d.Mail.addArchive(ctx, name)
	if err != nil {
		return err
	}
	d.say(d.choose("The archive %s is made; it keeps letters, and neither fetches nor sends. Bring mail in: poczta mail import PATH --account %q",
		"Archiwum %s jest gotowe; przechowuje listy, ale nie pobiera ani nie wysyła. Wczytaj pocztę: poczta mail import ŚCIEŻKA --account %q"), a.Address, a.Address)
	return nil
}

func (m *Mail) addArchive(ctx context.Context, name string) (profile.Account, error) {
	a := profile.Account{Address: name, Archive: true, Policy: profile.Policy{Keep: profile.Leave}, Created: m.now().UTC()}
	if err := a.Validate(); err != nil {
		return a, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	a, err := m.Accounts.Add(ctx, a)
	if err != nil {
		return a, err
	}
	if err := m.Store.AddAccount(ctx, a.ID); err != nil {
		return a, errors.Join(err, m.Accounts.Remove(context.WithoutCancel(ctx), a.ID))
	}
	return a, nil
}

// withServers are the accounts that have servers.
func (m *Mail) withServers(ctx context.Context) ([]profile.Account, error) {
	all, err := m.Accounts.List(ctx)
	return profile.Served(all), err
}

// served finds the account with servers that a person names; "" is the only one. profile.ErrArchive.
func (d *Desk) served(ctx context.Context, name string) (profile.Account, error) {
	all, err := d.Mail.Accounts.List(ctx)
	if err != nil {
		return profile.Account{}, err
	}
	return profile.ChooseServed(all, name)
}

// importInto is the account that gets what is imported from a path. Where there is none and none is
// named, an archive is made for it.
func (d *Desk) importInto(ctx context.Context, name, path string) (profile.Account, error) {
	all, err := d.Mail.Accounts.List(ctx)
	if err != nil {
		return profile.Account{}, err
	}
	if len(all) > 0 || name != "" {
		a, err := profile.Choose(all, name)
		if err != nil {
			err = fmt.Errorf("into which account? Name it with --account: %w", err)
		}
		return a, err
	}
	if err := Importable(path); err != nil {
		return profile.Account{}, err
	}
	a, err := d.Mail.addArchive(ctx, FirstArchive)
	if err == nil && !d.JSON {
		fmt.Fprintf(d.Err, d.choose("There is no account yet, so the letters go into an archive, %s, which neither fetches nor sends.\n",
			"Nie ma jeszcze konta, więc listy trafią do archiwum %s, które nie pobiera ani nie wysyła.\n"), a.Address)
	}
	return a, err
}

// Importable looks whether at a path lies what Import reads; mailfile.ErrFormat when it is no mail.
func Importable(path string) error {
	_, err := thunderbirdAt(path)
	if !errors.Is(err, thunderbird.ErrProfile) {
		return err
	}
	src, err := mailfile.Open(path, mailfile.Options{})
	if err != nil {
		return notMail(path, err)
	}
	return src.Close()
}

// notMail says that a path holds nothing to import.
func notMail(path string, err error) error {
	if errors.Is(err, mailfile.ErrFormat) {
		return fmt.Errorf("%s is %w, and no Thunderbird profile", path, mailfile.ErrFormat)
	}
	return err
}
