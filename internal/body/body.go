// Package body stores the octets of messages for good: in append-only segment
// files (Segments) or in rows of PostgreSQL (Rows). The seam is Store.
package body

import (
	"context"
	"errors"
	"io"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("no such body")
	ErrDamaged  = errors.New("body is damaged")
	ErrFull     = errors.New("no space left for mail")    // disk or reserve; temporary
	ErrFailed   = errors.New("body store failed a write") // a failed fsync; temporary
	ErrTooLarge = errors.New("message exceeds the limit")
	ErrBudget   = errors.New("memory budget is exhausted") // temporary
)

// Staged is a message on its way in: written once, front to back, then given to
// Commit or discarded. Not for concurrent use. Small messages stay in memory
// under the store's budget; large ones go straight to a file of their own.
type Staged interface {
	io.Writer
	// Octets is how many octets were written.
	Octets() int64
	// SHA256 is the hash of what was written (without the head).
	SHA256() [32]byte
	// ReadAt reads what was written, for filters that look before Commit.
	io.ReaderAt
	// Discard frees the staging; harmless after Commit, which frees it, too: then
	// only Octets and SHA256 still answer.
	Discard()
}

// Meta is the metadata of a record: what store rebuild needs when the database
// is lost. It is a copy, never the authority.
type Meta struct {
	Received    time.Time
	ReversePath string   // printed, "" for null
	Owners      []Owner  // who gets the message, as known before the commit
	Queued      []string // remote forward-paths
}

// Owner is one mailbox entry-to-be of a record.
type Owner struct {
	Account  int64
	Login    string // lets rebuild name the account when the database is lost
	Mailbox  string
	UniqueID string
	Flags    uint32
	Prefix   []byte // per-recipient header fields that stand before the record
}

// Record is one body for Commit.
type Record struct {
	ID     message.ID
	Head   []byte // our trace fields, shared by all recipients; stands before the staged octets
	Staged Staged
	Meta   Meta
}

// Location says where a committed body lies; it becomes the body's row.
type Location struct {
	Segment string // "" for bodies in rows
	Offset  int64
	Stored  int64    // octets of the whole record in its segment
	Octets  int64    // head plus staged octets
	SHA256  [32]byte // of the staged octets
	Dots    bool     // some line begins with a dot, so POP3 and SMTP must stuff
}

// Store keeps bodies. Safe for concurrent use.
type Store interface {
	// Stage begins a message of about hint octets (0 when unknown).
	Stage(ctx context.Context, hint int64) (Staged, error)
	// Commit makes the records durable and returns where they lie; only after it
	// returned may a transaction that names them begin to commit. The segments are
	// pinned against collection until release is called (after that transaction).
	// On error nothing is stored and release is nil.
	Commit(ctx context.Context, recs []Record) (locs []Location, release func(), err error)
	// Open returns the octets [from, from+n) of head plus message; n < 0 means to the end.
	// A segment that is gone is looked up once more in the body's row. Damage is ErrDamaged.
	Open(ctx context.Context, id message.ID, from, n int64) (io.ReadCloser, error)
	// Remove tells the store that the bodies are dead (refs reached zero and the row is
	// gone); their octets disappear when their segment is merged.
	Remove(ctx context.Context, ids []message.ID) error
}

// Journal takes the small records of deliveries, removals, moves and purges that
// store rebuild replays. Append never waits for the disk: the next group's fsync
// carries the record. Stores without segments have a Journal that does nothing.
type Journal interface {
	Append(events ...Event)
}

// EventKind is the kind of an Event.
type EventKind uint8

// The kinds of Event; numbers are part of the record format.
const (
	EventDelivered EventKind = 1 + iota // an entry came to be (delivery, import, restore)
	EventRemoved                        // an entry went into retention
	EventPurged                         // an entry is gone for ever
	EventMoved                          // an entry changed its mailbox or unique-id
	EventFinished                       // a queued message has left the queue
)

// Event is one journal record.
type Event struct {
	Kind     EventKind
	ID       message.ID // the body
	Account  int64
	Login    string
	Mailbox  string // mailbox's name
	UID      uint32
	UniqueID string
	Flags    uint32
	Time     time.Time
}

// The table of bodies, written by whoever commits an Accept.

// Insert adds the row of a committed body with its number of references.
func Insert(tx db.Tx, id message.ID, loc Location, refs int) error {
	_, err := tx.Exec(`INSERT INTO body (id, segment, start, stored, octets, sha256, dots, refs) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		id[:], loc.Segment, loc.Offset, loc.Stored, loc.Octets, loc.SHA256[:], loc.Dots, refs)
	return err
}
