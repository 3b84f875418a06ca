// Package vault keeps the passwords and tokens of a person's accounts: in the system's keyring, or,
// where there is none, in a file that a passphrase encrypts. Nothing is ever kept in the clear.
package vault

import (
	"errors"
	"fmt"

	"poczta.example/poczta/internal/disk"
)

// Service is the name under which secrets stand in a keyring.
const Service = "poczta mail"

// FileName is the encrypted file in the data folder.
const FileName = "secrets.age"

// Errors that callers branch on.
var (
	ErrNotFound   = errors.New("there is no such secret in the vault")
	ErrPassphrase = errors.New("the passphrase is wrong")
	ErrNoKeyring  = errors.New("there is no keyring that answers")
	// ErrLocked is for who is asked for the passphrase and does not know it yet.
	ErrLocked = errors.New("the passwords are encrypted and the passphrase is not known yet")
)

// Secrets keep secrets by name. Safe for concurrent use.
type Secrets interface {
	// Get returns a secret; ErrNotFound.
	Get(name string) (string, error)
	// Set stores a secret in place of the one before. It is durable when Set returns, as far as
	// the keyring promises that.
	Set(name, secret string) error
	// Remove forgets a secret; one that is not there is no error.
	Remove(name string) error
	// Where says for people where the secrets lie.
	Where() string
}

// Locker is implemented by Secrets that a passphrase encrypts.
type Locker interface {
	// Locked reports whether the passphrase is still needed; fresh, that there is no file yet, so
	// that it is to be chosen.
	Locked() (locked, fresh bool, err error)
}

// Config says where secrets may lie.
type Config struct {
	// FS is the data folder; the encrypted file lies there.
	FS disk.FS
	// Folder names it for the keyring, so that two folders don't share secrets.
	Folder string
	// Ask asks the person for the passphrase; fresh asks for a new one, twice. Nil can't ask.
	Ask func(fresh bool) (string, error)
	// File wants the encrypted file even where there is a keyring.
	File bool
	// Work is the logarithm of what a guess at the passphrase costs (scrypt's N); 0 is 16, a quarter
	// of a second and 64 MiB.
	Work int
	// Keyring is the system's; nil is the one that package keyring finds. For tests.
	Keyring Keyring
}

// Open opens the encrypted file if there is one or Config.File wants it, else the keyring if it
// answers, else makes the file. The passphrase is asked for when it is first needed.
func Open(c Config) (Secrets, error) {
	if c.FS == nil {
		return nil, errors.New("vault: FS is required")
	}
	there, err := exists(c.FS, FileName)
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	if there || c.File {
		return newFile(c), nil
	}
	r := newRing(c)
	if r.answers() {
		return r, nil
	}
	return newFile(c), nil
}
