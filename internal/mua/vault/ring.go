package vault

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zalando/go-keyring"
)

// Keyring is a system's store of secrets.
type Keyring interface {
	Get(service, name string) (string, error)
	Set(service, name, secret string) error
	Delete(service, name string) error
}

// system is the keyring of this system: Secret Service, Keychain, Credential Manager.
type system struct{}

func (system) Get(service, name string) (string, error) { return keyring.Get(service, name) }
func (system) Set(service, name, secret string) error   { return keyring.Set(service, name, secret) }
func (system) Delete(service, name string) error        { return keyring.Delete(service, name) }

// ring keeps secrets in a keyring.
type ring struct {
	k      Keyring
	folder string
}

func newRing(c Config) *ring {
	if c.Keyring == nil {
		c.Keyring = system{}
	}
	return &ring{k: c.Keyring, folder: c.Folder}
}

// probe is the name that nothing has.
const probe = "is there a keyring"

// answers reports whether there is a keyring: a name that it does not hold is not found there. One
// that is locked is there: passwords may lie in it, and a file beside it would hide them for good.
func (r *ring) answers() bool {
	_, err := r.k.Get(Service, r.name(probe))
	return err == nil || errors.Is(err, keyring.ErrNotFound) || locked(err)
}

// locked reports whether a keyring is there that did not let us in. Its packages have no error for
// that: these are the words of Secret Service, and the codes of macOS' security (errSecAuthFailed,
// errSecInteractionNotAllowed and errSecUserCanceled, modulo 256).
func locked(err error) bool {
	text := strings.ToLower(err.Error())
	return slices.ContainsFunc([]string{"unlock", "islocked", "is locked", "exit status 51", "exit status 36", "exit status 128"},
		func(word string) bool { return strings.Contains(text, word) })
}

// help is what a person can do about a locked keyring.
const help = "unlock it and try again, or keep passwords in an encrypted file with --secrets-file"

func (r *ring) name(name string) string { return r.folder + "#" + name }

// Get implements Secrets.
func (r *ring) Get(name string) (string, error) {
	s, err := r.k.Get(Service, r.name(name))
	if errors.Is(err, keyring.ErrNotFound) {
		return "", fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("read %s from the keyring: %w: %w; %s", name, ErrNoKeyring, err, help)
	}
	return s, nil
}

// Set implements Secrets.
func (r *ring) Set(name, secret string) error {
	if err := r.k.Set(Service, r.name(name), secret); err != nil {
		return fmt.Errorf("store %s in the keyring: %w; %s", name, err, help)
	}
	return nil
}

// Remove implements Secrets.
func (r *ring) Remove(name string) error {
	if err := r.k.Delete(Service, r.name(name)); err != nil && !errors.Is(err, keyring.ErrNotFound) {
		return fmt.Errorf("remove %s from the keyring: %w; unlock it and try again", name, err)
	}
	return nil
}

// Where implements Secrets.
func (*ring) Where() string { return "the system's keyring" }
