// Package account knows who has a mailbox here: domains, accounts, addresses,
// aliases and credentials. It routes forward-paths (Route), says who may send as
// whom (MaySend), and verifies logins (it implements sasl.Verifier).
//
// Route and repeated logins are answered from memory when the database is SQLite,
// whose every writer passes this object; on PostgreSQL each reads one joined row,
// so that a change by any node takes effect at once.
package account

import (
	"errors"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
)

// Errors that callers branch on; test with errors.Is.
var (
	// Of Route.
	ErrNotLocal    = errors.New("domain is not served here")        // 550 5.7.1, or relay
	ErrUnknownUser = errors.New("no such mailbox here")             // 550 5.1.1
	ErrDisabled    = errors.New("account is disabled")              // 550 5.2.1
	ErrLoop        = errors.New("alias leads to itself or too far") // 550 5.4.6
	// Of administration.
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	ErrNotEmpty = errors.New("is still in use")
	ErrInvalid  = errors.New("is not valid")
)

// Limits of what an administrator may store.
const (
	MaxLoginOctets    = 254
	MaxNameOctets     = 255
	MaxPasswordOctets = 1024
	MinPasswordRunes  = 8
	MaxAppPasswords   = 50   // of one account
	MaxAliasTargets   = 1000 // of one alias, and of one Route
	MaxAliasDepth     = 10   // aliases and forwards that lead to others
	MaxForwardTargets = 20   // of one account
	MaxPageRows       = 1000 // of a list
	DefaultIterations = 210_000
	appIterations     = 4096 // RFC 7677 §4; app passwords are random
	minimumIterations = 4096
	maximumIterations = 10_000_000
)

// State is what may be done with an account.
type State int64

// The values of State; numbers are stored.
const (
	Active   State = 0
	Disabled State = 1 // no login, no mail taken
	Removed  State = 2 // the row stays so that the id is never used again
)

// Domain is a domain whose mail is ours.
type Domain struct {
	Name       address.Domain
	Created    time.Time
	Postmaster envelope.AccountID // who gets postmaster@ and abuse@; zero is the domain's first account
	Accounts   int64              // active and disabled
	Aliases    int64
}

// Account is an account as administration sees it.
type Account struct {
	ID          envelope.AccountID
	Login       string            // canonical login name
	Address     address.Address   // primary address
	Addresses   []address.Address // all, the primary first; only Get fills it
	Name        string            // display name
	Language    string            // "en" or "pl"
	Quota       int64             // octets; 0 is what the configuration gives
	State       State
	Version     int64 // credential version
	HasPassword bool  // a password is set, or an imported hash
	Foreign     bool  // an imported hash waits for the first login
	Forwards    bool  // its mail is forwarded; Forward tells where to
	Vacation    bool  // out-of-office replies are set up
	Created     time.Time
	Removed     time.Time // zero unless State is Removed
}

// NewAccount is what Add needs.
type NewAccount struct {
	Address  address.Address
	Login    string // "" is the address
	Name     string
	Language string // "" is "en"
	Quota    int64  // octets; 0 is what the configuration gives
	Password string // "" is none: only app passwords or certificates can log in
}

// Filter chooses the accounts of List. Zero fields choose all.
type Filter struct {
	Domain  address.Domain
	Search  string             // part of the login, the address or the name, without regard to case of ASCII
	Removed bool               // list removed accounts instead of those that exist
	After   envelope.AccountID // ids above it; the last of the page before
	Limit   int                // rows; 0 or above MaxPageRows is MaxPageRows
}

// AppPassword is a random password for one program of a person.
type AppPassword struct {
	ID      int64
	Label   string
	Created time.Time
}

// Alias is an address that leads to others. A Source with a zero Address is the
// catch-all of Domain.
type Alias struct {
	Domain  address.Domain
	Source  address.Address
	Targets []address.Address
	// Suspended are those of Targets that get nothing since mail to them failed again and
	// again; AddAlias resumes them.
	Suspended []address.Address
	Created   time.Time
}

// SendAs is an address, or every address of a domain, that an account may send
// as though it isn't its own.
type SendAs struct {
	Address address.Address // zero when the whole Domain is granted
	Domain  address.Domain
}

// String prints the grant as commands take it: an address or "@domain".
func (s SendAs) String() string {
	if s.Address.IsZero() {
		return "@" + s.Domain.String()
	}
	return s.Address.String()
}

// Local is a recipient whose mailbox is here.
type Local struct {
	Account  envelope.AccountID
	Login    string
	Address  address.Address // the account's address that matched, without subaddress
	Detail   string          // the subaddress: "shop" of ala+shop@; "" for none
	Quota    int64           // octets; 0 is what the configuration gives
	Language string
	Vacation bool // out-of-office replies are set up; Vacation tells more
}

// Forwarder is who sends mail on to a remote address: an alias, or an account that
// forwards its mail.
type Forwarder struct {
	Source  string             // the alias, an address or "@domain", or the account's primary address
	Domain  address.Domain     // that the mail came to; ours
	Account envelope.AccountID // that forwards; 0 for an alias
}

// Match is the rule that answered a Route, in the order they are tried.
type Match uint8

// The values of Match.
const (
	MatchAddress Match = 1 + iota
	MatchSubaddress
	MatchAlias
	MatchCatchAll
	MatchPostmaster
)

// Skipped is a target of an alias that can't be reached, while others can.
type Skipped struct {
	Target address.Address
	Err    error // ErrUnknownUser, ErrDisabled or ErrLoop
}

// Route is where mail for a forward-path goes: each account once and each remote
// address once. At least one Local or Remote is there.
type Route struct {
	Match   Match
	Locals  []Local
	Remotes []address.Address
	// Forwarders has an entry for each of Remotes.
	Forwarders []Forwarder
	Skipped    []Skipped
}
