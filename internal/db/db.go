// Package db runs transactions of portable SQL on one of two engines, SQLite
// (embedded) and PostgreSQL. Domain packages own their tables and write their SQL
// once; the few differences between the engines hide here.
//
// Portable SQL: parameters are ?; no engine functions beyond COALESCE, SUM, MIN,
// MAX, COUNT, LENGTH, LOWER of ASCII, CASE; INSERT … ON CONFLICT and RETURNING
// are allowed. Values are int64, string (valid UTF-8 without NUL), []byte, bool
// stored as 0/1 BIGINT, and nil. Times are int64 microseconds since 1970, UTC.
package db

import (
	"context"
	"errors"
)

// Errors that callers branch on; test with errors.Is.
var (
	ErrNotFound = errors.New("no such row")        // Row.Scan found nothing
	ErrConflict = errors.New("row exists already") // a UNIQUE or PRIMARY KEY constraint
	ErrFull     = errors.New("no space left for the database")
	ErrClosed   = errors.New("database is closed")
	ErrSchema   = errors.New("database schema is older than this program")

	// ErrNewer: a newer release ran a step it declared incompatible with this one.
	ErrNewer = errors.New("database schema is newer than this program")
	// ErrConstraint: a NOT NULL, CHECK or FOREIGN KEY constraint.
	ErrConstraint = errors.New("row breaks a constraint")
	// ErrTooLong: a View ran longer than MaxSQLiteView or MaxPostgresView; read in pages by key.
	ErrTooLong = errors.New("read transaction ran too long")
	// ErrUnknownOutcome: the commit was sent and its answer never came, or the disk
	// failed while it was made durable. Look the work up by its id before doing
	// it again.
	ErrUnknownOutcome = errors.New("outcome of the commit is unknown")
)

// Tx is a transaction's hand. It is valid only inside the function it was given
// to and not for concurrent use. Statements are prepared once a connection.
//
// After a statement failed (ErrNotFound is no failure) the transaction can only
// end: every later statement returns the same error, and so does Update even if
// the function returns nil. Use INSERT … ON CONFLICT and the number of changed
// rows where a conflict is expected.
//
// Parameters may also be of any type whose kind is an integer, a string, a bool
// a slice or an array of octets, and pointers to those (nil is NULL). Destinations of Scan
// are pointers to such types; a pointer to a pointer takes NULL as nil. Text that
// is not valid UTF-8 or holds NUL is refused on both engines: see Text.
type Tx interface {
	// Exec runs a statement and returns the number of rows it changed.
	Exec(query string, args ...any) (int64, error)
	// QueryRow runs a query of at most one row; Scan returns ErrNotFound for none.
	QueryRow(query string, args ...any) Row
	// Query runs a query; the caller closes Rows before the next statement.
	Query(query string, args ...any) (Rows, error)
}

// Row is the outcome of QueryRow.
type Row interface{ Scan(dest ...any) error }

// Rows is a cursor. Next advances, Scan reads the row, Err tells why Next ended.
type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

// againTries is how often Again tries.
const againTries = 5

// Again calls view, which reads by Views, up to five times while the time of one was up
// (ErrTooLong), as when the machine stood still or slept: work that is long, or that would take the
// failure for damage, must not end by it. Not for Views that are long by themselves.
func Again(view func() error) error {
	var err error
	for range againTries {
		if err = view(); !errors.Is(err, ErrTooLong) {
			return err
		}
	}
	return err
}

// Database is what domain packages need of an engine. *SQLite and *Postgres
// implement it. Safe for concurrent use.
type Database interface {
	// Update runs fn in a read-write transaction and returns nil only when it is
	// durably committed. fn may run more than once (serialisation, a batch that
	// had to be repeated), does SQL only, and what it computes counts only after
	// Update returned nil. An error of fn rolls its work back and is returned as
	// it is. Cancelling ctx abandons fn if it has not begun; once it runs, the
	// outcome is waited for.
	Update(ctx context.Context, fn func(Tx) error) error
	// UpdateLow is Update in the low-priority lane, for work in chunks (purge,
	// import, removal): it yields to every waiting Update. At most 500 rows a call.
	UpdateLow(ctx context.Context, fn func(Tx) error) error
	// View runs fn in a read-only snapshot that must end within a second.
	View(ctx context.Context, fn func(Tx) error) error
	// Engine is "sqlite" or "postgresql".
	Engine() string
	// StoreID is the random id of this store, the same for its whole life.
	StoreID() string
	Close() error
}

// Component is the tables of one domain package, as a list of steps that are
// never edited after release, only added to.
type Component struct {
	Name  string // "mailbox"
	Steps []Step
}

// Step is one additive migration. SQL holds statements parted by ";\n" and is run on both
// engines after these words are replaced: {id} (a generated 64-bit integer
// primary key), {blob} (BLOB, BYTEA), {int} (INTEGER, BIGINT), {text} (TEXT, with
// binary collation on both), {strict} (STRICT or nothing, behind the table's
// closing parenthesis), {rowid} (WITHOUT ROWID, STRICT — or nothing — instead of
// {strict}, for tables clustered by their primary key).
type Step struct {
	Number int // 1, 2, 3 … within the component
	SQL    string

	// Incompatible says that programs which do not know this step must not use
	// the database any more. Additive steps leave it false: then the schema of
	// release N serves the program of release N-1.
	Incompatible bool
}
