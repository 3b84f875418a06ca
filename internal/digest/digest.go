// Package digest tells people once a day what was set apart from their mail, so that those who
// read by POP3, which shows no folders, miss nothing. A link in it only shows a message, since mail
// scanners open links; a form on that page, or a mail to the address that the digest names,
// releases it.
package digest

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/report"
)

// Defaults and limits.
const (
	DefaultAt = 7 * time.Hour       // after midnight
	TokenLife = 14 * 24 * time.Hour // of links and of what a reply names
	MaxItems  = 100                 // of one digest; of more it says how many
)

// Quarantine is what was set apart; *quarantine.Room is one.
type Quarantine interface {
	Owing(ctx context.Context, after envelope.AccountID, limit int) ([]envelope.AccountID, error)
	Untold(ctx context.Context, account envelope.AccountID, before time.Time, limit int) ([]quarantine.Item, int64, error)
	Tell(tx db.Tx, account envelope.AccountID, before, now time.Time) (int64, error)
	Show(ctx context.Context, account envelope.AccountID, id message.ID) (quarantine.Item, error)
	Open(ctx context.Context, it quarantine.Item) (io.ReadCloser, error)
	Release(ctx context.Context, f quarantine.Filter, by string) (int, error)
	Delete(ctx context.Context, f quarantine.Filter, by string, spam bool) (int, error)
}

// People are the accounts; *account.Accounts is one.
type People interface {
	ByID(ctx context.Context, id envelope.AccountID) (account.Account, error)
}

// Wishes are what people wish; *preference.Preferences is one.
type Wishes interface {
	Settings(ctx context.Context, id envelope.AccountID) (preference.Settings, error)
	Change(ctx context.Context, id envelope.AccountID, edit func(preference.Settings) preference.Settings) (preference.Settings, error)
	Add(ctx context.Context, id envelope.AccountID, entries ...preference.Entry) error
}

// Letters sends; *report.Reporter is one.
type Letters interface {
	SendLetter(ctx context.Context, l report.Letter) (sent bool, err error)
}

// Hooks are optional functions for metrics. They must return at once.
type Hooks struct {
	Sent    func(items int)
	Action  func(what string) // "release", "allow", "delete", "stop"
	Refused func()            // a token that is none
}

// Config builds a Digest. The first group is required.
type Config struct {
	DB         db.Database
	Quarantine Quarantine
	People     People
	Wishes     Wishes
	Letters    Letters
	Hostname   address.Domain  // of Message-ID
	From       address.Address // sender of digests, as in "poczta@mail.example.org"

	// Release is the address that mail which releases goes to, as in
	// "release@mail.example.org"; it must be routed to Take. Zero: nothing is released by mail.
	Release address.Address
	// Web is the URL below which ServeHTTP is served, as in "https://mail.example.org/quarantine/".
	// Nil: digests have no links.
	Web *url.URL
	// Off: only those get digests who ask for them.
	Off bool
	// At is when digests go, after midnight of Location; 0 is DefaultAt. Location nil is time.Local.
	At       time.Duration
	Location *time.Location
	// Wrong is how many wrong tokens a network may try; zero: 20 at once, one each minute.
	Wrong limit.Rate

	Now    func() time.Time
	Random io.Reader
	Logger *slog.Logger
	Hooks  Hooks
}

// Digest is the room. Safe for concurrent use; several nodes may each have one.
type Digest struct {
	cfg     Config
	wrong   *limit.Buckets[netip.Prefix]
	reading chan struct{} // places for messages that pages read

	mu  sync.Mutex
	key []byte // the database's secret, once it was read
}

// New returns a Digest; it does no I/O.
func New(c Config) (*Digest, error) {
	if c.DB == nil || c.Quarantine == nil || c.People == nil || c.Wishes == nil || c.Letters == nil || c.Hostname.IsZero() || c.From.IsZero() {
		return nil, errors.New("digest: DB, Quarantine, People, Wishes, Letters, Hostname and From are needed")
	}
	if c.At <= 0 || c.At >= 24*time.Hour {
		c.At = DefaultAt
	}
	if c.Location == nil {
		c.Location = time.Local
	}
	if c.Wrong == (limit.Rate{}) {
		c.Wrong = limit.Rate{Burst: 20, Every: time.Minute}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	wrong, err := limit.NewBuckets[netip.Prefix](c.Wrong, 0)
	if err != nil {
		return nil, err
	}
	return &Digest{cfg: c, wrong: wrong, reading: make(chan struct{}, maxReading)}, nil
}

// Schema is the tables of this package: the key of tokens, and the day (local, days since 1970) of
// each account's last digest, by which one node sends it.
var Schema = db.Component{Name: "digest", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE digest_key (id {int} NOT NULL PRIMARY KEY, key {blob} NOT NULL) {rowid};
CREATE TABLE digest_sent (account {int} NOT NULL PRIMARY KEY, day {int} NOT NULL) {rowid}`}}}
