package store

import (
	"context"
	"errors"
	"io"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mime"
)

var errNotYet = errors.New("not built yet")

func (s *Store) readLastID(context.Context) error { return nil }

// Within is what else is written in the transaction that adds letter i of a batch.
type Within func(tx db.Tx, i int, a mailbox.Appended) error

// Add stores letters.
func (s *Store) Add(ctx context.Context, account envelope.AccountID, batch []mailbox.Import, within Within) ([]mailbox.Appended, error) {
	return nil, errNotYet
}

// Partial is a letter of which only the header section (and what TOP gave) is here.
type Partial struct {
	mailbox.Import
	Whole int64 // octets of the whole letter, as LIST said
}

// AddPartial is Add for letters without their bodies.
func (s *Store) AddPartial(ctx context.Context, account envelope.AccountID, batch []Partial, within Within) ([]mailbox.Appended, error) {
	return nil, errNotYet
}

// Complete puts the whole letter in the place of a partial one.
func (s *Store) Complete(ctx context.Context, id LetterID, staged body.Staged, within func(tx db.Tx) error) error {
	return errNotYet
}

// Folder is a folder of an account.
type Folder struct {
	Account  envelope.AccountID
	Name     string
	Messages int64
	Unread   int64
	Octets   int64
}

// Folders returns all folders.
func (s *Store) Folders(ctx context.Context) ([]Folder, error) { return nil, errNotYet }

// Sort is an order of letters.
type Sort uint8

// The orders.
const (
	Newest Sort = iota
	Oldest
)

// Query selects letters; the zero Query selects all that are in folders.
type Query struct {
	Accounts []envelope.AccountID // none is all
	Folder   string               // of each of the accounts; "" is all folders
	Unread   bool
	Flagged  bool
	Thread   int64
	Text     string // in the language of searches
	Typing   bool   // the last word of Text may be unfinished
	Removed  bool   // those in retention instead
	Sort     Sort
	Cursor   string // Page.Cursor of the page before
	Limit    int    // 50
}

// Page is a part of a list.
type Page struct {
	Letters []Summary
	Cursor  string // "" at the end
}

// List lists letters.
func (s *Store) List(ctx context.Context, q Query) (Page, error) { return Page{}, errNotYet }

// Conversation is one thread in a list.
type Conversation struct {
	Newest  Summary
	Letters int64
	Unread  int64
}

// ThreadPage is a part of a list of threads.
type ThreadPage struct {
	Threads []Conversation
	Cursor  string
}

// Threads lists threads.
func (s *Store) Threads(ctx context.Context, q Query) (ThreadPage, error) {
	return ThreadPage{}, errNotYet
}

// Letter is an open letter.
type Letter struct {
	Summary
	io.ReaderAt
	Size int64
	Root *mime.Part
}

// Close ends reading.
func (l *Letter) Close() error { return nil }

// Letter opens a letter.
func (s *Store) Letter(ctx context.Context, id LetterID) (*Letter, error) { return nil, errNotYet }

// SetFlags sets and clears flags.
func (s *Store) SetFlags(ctx context.Context, ids []LetterID, set, unset mailbox.Flags) (int, error) {
	return 0, errNotYet
}

// Move moves letters to a folder of their account.
func (s *Store) Move(ctx context.Context, ids []LetterID, folder string) (int, error) {
	return 0, errNotYet
}

// Remove moves letters to Trash, and those in Trash into retention.
func (s *Store) Remove(ctx context.Context, ids []LetterID) (int, error) { return 0, errNotYet }

// Restore brings removed letters back.
func (s *Store) Restore(ctx context.Context, ids []LetterID) (int, error) { return 0, errNotYet }

// Person is somebody of the address book.
type Person struct {
	Address
	Sent     int64 // letters sent to them
	Received int64 // letters from them
}

// Addresses finds people.
func (s *Store) Addresses(ctx context.Context, prefix string, limit int) ([]Person, error) {
	return nil, errNotYet
}

// Run works until ctx ends.
func (s *Store) Run(ctx context.Context) error { return errNotYet }

// Progress is how far the index is.
type Progress struct{ Done, Total int64 }

// Indexed says how far the index is.
func (s *Store) Indexed(ctx context.Context) (Progress, error) { return Progress{}, errNotYet }

// Reindex makes the index anew.
func (s *Store) Reindex(ctx context.Context, progress func(Progress)) error { return errNotYet }
