package page

import (
	"context"
	"errors"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/identity"
	"poczta.example/poczta/internal/mua/line"
	"poczta.example/poczta/internal/mua/profile"
)

// Keeper sets accounts up and changes them, as the commands do. Whatever logs in somewhere is tried
// before it is saved. Safe for concurrent use.
type Keeper interface {
	// Add finds the servers of a new account unless they are given, logs in to both and saves it.
	// who is asked and told, in the language. The errors of this package, and Untrusted.
	Add(ctx context.Context, who Person, language string, n NewAccount) error
	// Server logs in with an account's changed servers and saves them. Untrusted.
	Server(ctx context.Context, a profile.Account) error
	// Password logs in with a new password and saves it. Untrusted.
	Password(ctx context.Context, id envelope.AccountID, password string) error
	// Login has the person log in with the provider again.
	Login(ctx context.Context, who Person, language string, id envelope.AccountID, l Login) error
	// Certificate logs in with another client certificate, or with none, and saves that. Untrusted.
	Certificate(ctx context.Context, id envelope.AccountID, c Certificate) error
	// Remove forgets an account, and with letters puts its letters into retention. ErrUnsent.
	Remove(ctx context.Context, id envelope.AccountID, letters bool) error
	// Lock says whether the passwords can be read and written.
	Lock() (Lock, error)
	// Unlock gives the passphrase of the encrypted file, or where there is none yet that of the one
	// to be. vault.ErrPassphrase.
	Unlock(passphrase string) error
}

// Lock is how the passwords lie.
type Lock uint8

// The ways.
const (
	Unlocked Lock = iota // in a keyring, or in a file whose passphrase is known
	Locked               // in an encrypted file
	Fresh                // there is no keyring, and no file and no passphrase yet
)

// Person is asked and told while something is tried.
type Person interface {
	Say(text string)
	Confirm(question string) (bool, error)
	Password(prompt string) (string, error)
	Browse(address string) error
}

// Login is how a person logs in with their provider again.
type Login struct {
	ClientSecret string // "" is the one from before
	DeviceURL    string // where a code for another device is given; "" logs in in the browser here
}

// Certificate is what becomes of an account's client certificate.
type Certificate struct {
	Identity *identity.Identity // nil: there is none any more
	External bool               // it alone logs in
	Password string             // that logs in from now on; "" is as it was
}

// NewAccount is what a person says of an account to be.
type NewAccount struct {
	Address, Name, Password string
	Login                   string // "" is found out
	// Incoming and Outgoing are HOST:PORT; both empty are found out. Their security is tls, starttls
	// or none.
	Incoming, Outgoing                 string
	IncomingSecurity, OutgoingSecurity string
	AuthorityFile                      string // PEM, on this computer
	CertificateFile, KeyFile           string
	Identity                           *identity.Identity // in place of the files; nil is none
	External                           bool               // the certificate alone logs in
	Accept, AcceptOutgoing             string             // SHA-256 of certificates, in hexadecimal
	// Of a login in the browser (OAuth2).
	ClientID, ClientSecret, AuthURL, TokenURL, DeviceURL, Scope string
}

// Errors of a Keeper that the page explains.
var (
	ErrNoServers   = errors.New("no POP3 and SMTP servers were found")
	ErrUnconfirmed = errors.New("no server was confirmed")
	ErrCredentials = errors.New("the password or the login name was refused")
	ErrNoPassword  = errors.New("no password was given")
	ErrNoLogin     = errors.New("the login to both servers did not succeed")
	ErrNoClient    = errors.New("the provider wants a login in the browser, for programs that are registered there")
	ErrUnsent      = errors.New("letters of this account wait to be sent")
)

// Untrusted is a certificate that was refused, and that the person may accept. It is no reason to
// send anything there before they did.
type Untrusted struct {
	Certificate *line.CertificateError
	Outgoing    bool   // of the outgoing server
	Text        string // for the command line; "" is the certificate's own
}

// Error implements error.
func (u *Untrusted) Error() string {
	if u.Text != "" {
		return u.Text
	}
	return u.Certificate.Error()
}

// Unwrap returns the certificate's error.
func (u *Untrusted) Unwrap() error { return u.Certificate }
