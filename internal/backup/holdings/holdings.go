// Package holdings is what a store holds, as items of a backup, and the way back: the
// rows of its tables in a form that is the same on every engine, the bodies of its
// messages by their ids, and files such as the configuration. A server's store and a
// person's are backed up and restored by the same calls, also one into the other.
package holdings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Names of sections. Each table has one of its own, named "table/" and its name.
const (
	sectionAccounts = "accounts"
	sectionBodies   = "bodies"
	sectionFiles    = "files"
	tablePrefix     = "table/"
)

// Tables of package body, whose rows say where octets lie on one machine: the
// bodies' section takes their place.
const (
	tableBody  = "body"
	tableChunk = "body_chunk"
)

// engineTables are the database's own.
func engineTables() []string { return []string{"store", "schema_step", tableBody, tableChunk} }

// Account is whose mail it is.
type Account struct {
	ID      envelope.AccountID `json:"id"`
	Login   string             `json:"login"`
	Address string             `json:"address,omitempty"`
}

// File is a file that belongs to the store, such as the configuration.
type File struct {
	Name   string // slash-separated; how it is found again is the caller's matter
	Octets []byte // at most backup.MaxData
}

// momentary is a database that can be read at leisure; *db.SQLite and *db.Postgres are.
type momentary interface {
	Moment(ctx context.Context, scratch string) (db.Database, error)
}

// Config says what is backed up. Kind, DB, Body and Components are required.
type Config struct {
	Kind       string // "server" or "person"
	Version    string // of the program
	DB         db.Database
	Body       body.Store // *body.Segments or *body.Rows
	Components []db.Component
	// Scratch is the path of a file, on a disk with room for the database, that is
	// used while a backup of SQLite is made; one moment at a time may use it.
	Scratch string
	// Skip names tables that are not backed up: leases, and what can be made anew.
	Skip []string
	// Accounts calls fn for every account, in order of ID, within Views of d. nil: there are none.
	Accounts func(ctx context.Context, d db.Database, fn func(Account) error) error
	// Files returns the files, in order of name. nil: there are none.
	Files  func() ([]File, error)
	Now    func() time.Time // nil is time.Now
	Logger *slog.Logger     // nil discards
}

func (c *Config) complete() error {
	if c.Kind == "" || c.DB == nil || c.Body == nil || len(c.Components) == 0 {
		return errors.New("holdings: Kind, DB, Body and Components are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// facts are what a backup tells of the store that it was made of.
type facts struct {
	Version string         `json:"version"`
	Engine  string         `json:"engine"`
	Steps   map[string]int `json:"steps"` // the last step of each component
	Tables  []db.Table     `json:"tables"`
}

func readFacts(s *backup.Snapshot) (facts, error) {
	var f facts
	if err := json.Unmarshal(s.Facts, &f); err != nil {
		return f, fmt.Errorf("read what backup %s says of its store: %w", s.ID, err)
	}
	return f, nil
}

// table finds a table by its name.
func (f *facts) table(name string) (db.Table, error) {
	for _, t := range f.Tables {
		if t.Name == name {
			return t, nil
		}
	}
	return db.Table{}, fmt.Errorf("table %s: %w", name, backup.ErrNotFound)
}
