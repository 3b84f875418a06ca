// Package profile keeps what a person has set up: their mail accounts, the servers of each, and
// what becomes of mail on the server after it was fetched. Passwords are not here (package vault).
package profile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/clientconfig"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Schema is this package's tables. An account's number is never used twice: the mail of one that
// was removed may still lie in the store.
var Schema = db.Component{Name: "mua-profile", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE profile (
	id {int} NOT NULL PRIMARY KEY, address {text} NOT NULL, place {int} NOT NULL, settings {text} NOT NULL) {rowid};
CREATE UNIQUE INDEX profile_address ON profile (address);
CREATE TABLE profile_last (one {int} NOT NULL PRIMARY KEY, id {int} NOT NULL) {rowid}`}}}

// MaxAccounts is how many accounts a person may have.
const MaxAccounts = 1000

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("no such account; see poczta mail accounts")
	ErrExists   = errors.New("there is an account with this address already")
)

// Account is one of a person's mail accounts. It travels as JSON.
type Account struct {
	ID      envelope.AccountID `json:"id"`
	Address string             `json:"address"`
	Name    string             `json:"name,omitempty"` // of the person, for From
	// Aliases are further addresses of the person: letters to them are theirs, and they may write
	// From them.
	Aliases   []string            `json:"aliases,omitempty"`
	Signature string              `json:"signature,omitempty"` // below what they write
	Incoming  Server              `json:"incoming"`
	Outgoing  Server              `json:"outgoing"`
	OAuth     *clientconfig.OAuth `json:"oauth,omitempty"`     // nil: passwords
	ClientID  string              `json:"client_id,omitempty"` // of this program at the OAuth provider
	Policy    Policy              `json:"policy"`
	Paused    bool                `json:"paused,omitempty"` // is not fetched by itself
	// Archive says that the account only keeps letters: it has no servers, and Address is a name.
	Archive bool `json:"archive,omitempty"`
	// Certificate is the person's client certificate (PEM, theirs first) for servers that have no
	// CertificateFile of their own; its key is a secret. "" is none.
	Certificate string    `json:"certificate,omitempty"`
	Created     time.Time `json:"created"`
}

// Server is a server of an account.
type Server struct {
	clientconfig.Server
	Login string `json:"login"`
	// AuthorityFile holds the certificates of authorities (PEM) that are trusted for this server
	// in place of the system's; "" is the system's.
	AuthorityFile string `json:"authority_file,omitempty"`
	// Accepted is the SHA-256, in hexadecimal, of a certificate that the person has accepted though
	// no authority vouches for it. Any other certificate is refused.
	Accepted string `json:"accepted,omitempty"`
	// CertificateFile and KeyFile (PEM) prove the person (a client certificate); "" is none.
	CertificateFile string `json:"certificate_file,omitempty"`
	KeyFile         string `json:"key_file,omitempty"`
	// External says that the client certificate alone logs in (SASL EXTERNAL).
	External bool `json:"external,omitempty"`
}

// Keep says what becomes of a letter on the server once it lies here, whole, durable and compared.
type Keep string

// The ways.
const (
	Leave   Keep = "leave"   // it stays there
	Days    Keep = "days"    // it is deleted there after Policy.Days
	Fetched Keep = "fetched" // it is deleted there at once
)

// Policy is how an account's mail is fetched.
type Policy struct {
	Keep Keep `json:"keep"`
	Days int  `json:"days,omitempty"` // with Keep Days; 1 to 36500
	// Follow deletes on the server what the person removed here for good.
	Follow bool `json:"follow,omitempty"`
	// HeadersAbove fetches only the header section of letters over so many octets, until they are
	// opened; 0 fetches all whole.
	HeadersAbove int64 `json:"headers_above,omitempty"`
	// Every is the time between two looks while watching, in seconds; 0 is 300.
	Every int `json:"every,omitempty"`
}

// Validate checks what a person has set up; it reports every problem.
func (a *Account) Validate() error {
	if a.Archive {
		return a.validateArchive()
	}
	var errs []error
	if _, err := address.Parse(a.Address); err != nil {
		errs = append(errs, fmt.Errorf("address %q: %w", a.Address, err))
	}
	for _, other := range a.Aliases {
		if _, err := address.Parse(other); err != nil {
			errs = append(errs, fmt.Errorf("further address %q: %w", other, err))
		}
	}
	errs = append(errs, a.Incoming.validate("incoming", clientconfig.POP3, a.Certificate != ""), a.Outgoing.validate("outgoing", clientconfig.SMTP, a.Certificate != ""), a.Policy.validate())
	return errors.Join(errs...)
}

// validate checks a server; proven says that the account has a client certificate.
func (s *Server) validate(which string, p clientconfig.Protocol, proven bool) error {
	switch {
	case s.Protocol != p:
		return fmt.Errorf("%s server: protocol %q; it must be %s", which, s.Protocol, p)
	case s.Host == "" || s.Port == 0:
		return fmt.Errorf("%s server: give its host and port", which)
	case (s.CertificateFile == "") != (s.KeyFile == ""):
		return fmt.Errorf("%s server: a client certificate needs both its file and its key's", which)
	case s.External && s.CertificateFile == "" && !proven:
		return fmt.Errorf("%s server: EXTERNAL needs a client certificate", which)
	case s.Accepted != "" && len(s.Accepted) != 64:
		return fmt.Errorf("%s server: an accepted certificate is named by its SHA-256 in 64 hexadecimal digits", which)
	}
	return nil
}

func (p *Policy) validate() error {
	switch {
	case p.Keep != Leave && p.Keep != Days && p.Keep != Fetched:
		return fmt.Errorf("policy: mail on the server is kept by %q; say leave, days or fetched", p.Keep)
	case p.Keep == Days && (p.Days < 1 || p.Days > 36500):
		return fmt.Errorf("policy: %d days; say 1 to 36500", p.Days)
	case p.HeadersAbove < 0 || p.Every < 0:
		return errors.New("policy: a size or time is negative")
	}
	return nil
}

// Owns reports whether an address, in any case, is one of the account's.
func (a *Account) Owns(addr string) bool {
	return strings.EqualFold(a.Address, addr) || slices.ContainsFunc(a.Aliases, func(o string) bool { return strings.EqualFold(o, addr) })
}

// Profiles are the accounts in a database. Safe for concurrent use.
type Profiles struct{ db db.Database }

// New returns Profiles; it does no I/O.
func New(d db.Database) *Profiles { return &Profiles{db: d} }

// Add stores a new account and returns it with its number; ErrExists.
func (p *Profiles) Add(ctx context.Context, a Account) (Account, error) {
	if err := a.Validate(); err != nil {
		return a, err
	}
	err := p.db.Update(ctx, func(tx db.Tx) error {
		var last, n int64
		if err := tx.QueryRow(`SELECT id FROM profile_last WHERE one = 1`).Scan(&last); err != nil && !errors.Is(err, db.ErrNotFound) {
			return err
		}
		if err := tx.QueryRow(`SELECT count(*) FROM profile WHERE address = ?`, key(a.Address)).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("%s: %w", a.Address, ErrExists)
		}
		if err := tx.QueryRow(`SELECT count(*) FROM profile`).Scan(&n); err != nil {
			return err
		}
		if n >= MaxAccounts {
			return fmt.Errorf("there are %d accounts; more than that are not kept", n)
		}
		a.ID = envelope.AccountID(last + 1)
		text, err := json.Marshal(a)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO profile_last (one, id) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET id = excluded.id`, int64(a.ID)); err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO profile (id, address, place, settings) VALUES (?, ?, ?, ?)`, int64(a.ID), key(a.Address), int64(a.ID), string(text))
		return err
	})
	if err != nil {
		return a, fmt.Errorf("add account: %w", err)
	}
	return a, nil
}

// Update stores an account anew; its number says which. ErrNotFound, ErrExists.
func (p *Profiles) Update(ctx context.Context, a Account) error {
	if err := a.Validate(); err != nil {
		return err
	}
	if err := p.db.Update(ctx, func(tx db.Tx) error { return put(tx, a) }); err != nil {
		return fmt.Errorf("change account: %w", err)
	}
	return nil
}

// Change has fn change an account as it is then; it may run more than once. What others have changed since the caller has
// read it stays. ErrNotFound, ErrExists.
func (p *Profiles) Change(ctx context.Context, id envelope.AccountID, fn func(*Account)) error {
	err := p.db.Update(ctx, func(tx db.Tx) error {
		var text string
		err := tx.QueryRow(`SELECT settings FROM profile WHERE id = ?`, int64(id)).Scan(&text)
		if errors.Is(err, db.ErrNotFound) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		a, err := decode([]byte(text))
		if err != nil {
			return fmt.Errorf("settings of account %d: %w", id, err)
		}
		a.ID = id
		fn(&a)
		if err := a.Validate(); err != nil {
			return err
		}
		return put(tx, a)
	})
	if err != nil {
		return fmt.Errorf("change account: %w", err)
	}
	return nil
}

// put writes an account over the one with its number.
func put(tx db.Tx, a Account) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	n, err := tx.Exec(`UPDATE profile SET address = ?, settings = ? WHERE id = ?`, key(a.Address), string(text), int64(a.ID))
	if errors.Is(err, db.ErrConflict) {
		return fmt.Errorf("%s: %w", a.Address, ErrExists)
	}
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// Remove forgets an account; its letters stay in the store. ErrNotFound.
func (p *Profiles) Remove(ctx context.Context, id envelope.AccountID) error {
	err := p.db.Update(ctx, func(tx db.Tx) error {
		n, err := tx.Exec(`DELETE FROM profile WHERE id = ?`, int64(id))
		if err == nil && n == 0 {
			return ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove account: %w", err)
	}
	return nil
}

// List returns all accounts in their order.
func (p *Profiles) List(ctx context.Context) ([]Account, error) {
	var all []Account
	err := p.db.View(ctx, func(tx db.Tx) error {
		all = nil
		rows, err := tx.Query(`SELECT id, settings FROM profile ORDER BY place, id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			var text string
			if err := rows.Scan(&id, &text); err != nil {
				return err
			}
			a, err := decode([]byte(text))
			if err != nil {
				return fmt.Errorf("settings of account %d: %w", id, err)
			}
			a.ID = envelope.AccountID(id)
			all = append(all, a)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return all, nil
}

// decode reads an account's settings. Names that JSON takes in any case are read as they were
// first written, too, and those of OAuth's places are looked for by both.
func decode(text []byte) (a Account, err error) {
	if err := json.Unmarshal(text, &a); err != nil || a.OAuth == nil {
		return a, err
	}
	var first struct {
		OAuth struct{ AuthURL, TokenURL string } `json:"oauth"`
	}
	if err := json.Unmarshal(text, &first); err != nil {
		return a, err
	}
	if a.OAuth.AuthURL == "" {
		a.OAuth.AuthURL = first.OAuth.AuthURL
	}
	if a.OAuth.TokenURL == "" {
		a.OAuth.TokenURL = first.OAuth.TokenURL
	}
	return a, nil
}

// Find returns the account that a person names: by its number, its address or one of its further
// addresses, or the beginning of its address if only one begins so. "" is the only account there
// is. The error is an *Unclear, which is ErrNotFound.
func (p *Profiles) Find(ctx context.Context, name string) (Account, error) {
	all, err := p.List(ctx)
	if err != nil {
		return Account{}, err
	}
	return Choose(all, name)
}

// Choose is Find among accounts that were listed.
func Choose(all []Account, name string) (Account, error) {
	if name == "" {
		if len(all) == 1 {
			return all[0], nil
		}
		return Account{}, unclear("", all)
	}
	var begins []Account
	for _, a := range all {
		if a.Owns(name) || strconv.FormatInt(int64(a.ID), 10) == name {
			return a, nil
		}
		if strings.HasPrefix(key(a.Address), key(name)) {
			begins = append(begins, a)
		}
	}
	if len(begins) == 1 {
		return begins[0], nil
	}
	return Account{}, unclear(name, begins)
}

// Unclear says that a name does not lead to one account. It is ErrNotFound.
type Unclear struct {
	Name  string   // what the person said; "" is nothing
	Among []string // the addresses that it may mean
	By    string   // how one is named, as in "--from"; "" is not said
}

func unclear(name string, among []Account) error {
	u := &Unclear{Name: name}
	for _, a := range among {
		u.Among = append(u.Among, a.Address)
	}
	return u
}

// maxAmong is how many addresses an error lists.
const maxAmong = 8

// Error says it in one sentence, with what to do.
func (u *Unclear) Error() string {
	switch {
	case len(u.Among) == 0 && u.Name == "":
		return "there is no account yet; set one up with: poczta mail add ADDRESS"
	case len(u.Among) == 0:
		return fmt.Sprintf("%q: %v", u.Name, ErrNotFound)
	}
	list := strings.Join(u.Among[:min(len(u.Among), maxAmong)], ", ")
	if len(u.Among) > maxAmong {
		list += ", …"
	}
	by := ""
	if u.By != "" {
		by = " with " + u.By
	}
	if u.Name == "" {
		return fmt.Sprintf("there are %d accounts; name one%s: %s", len(u.Among), by, list)
	}
	return fmt.Sprintf("%q begins the addresses of %d accounts; write more of it: %s", u.Name, len(u.Among), list)
}

// Is makes it ErrNotFound.
func (u *Unclear) Is(target error) bool { return target == ErrNotFound }

// key is the form in which addresses are compared.
func key(addr string) string {
	if a, err := address.Parse(addr); err == nil {
		return a.Key()
	}
	return strings.ToLower(addr)
}
