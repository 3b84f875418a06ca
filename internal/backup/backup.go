// Package backup keeps backups in a repository of chunks: incremental, deduplicated,
// compressed, optionally encrypted, in a folder or in any other Target. It knows
// nothing of mail: what is backed up comes as items from a Source, and a restore
// reads them from a Snapshot. Package holdings knows what a store holds.
//
// The format is described in docs/backup.md. Packs of chunks are written first, then
// the indexes that say where chunks lie, then the snapshot: a repository killed at
// any instant is the old one or the new one. Objects are never changed once written.
package backup

import (
	"context"
	"errors"
	"io"
	"time"
)

// Sizes of the format, in octets.
const (
	PackOctets  = 16 << 20 // a pack is closed when it holds as much
	PieceOctets = 1 << 20  // octets of an item are cut into pieces of this length
	MaxData     = 4 << 20  // key and data of one item together
	leafOctets  = 32 << 10 // mean length of a leaf of a section
	leafMost    = 256 << 10
)

// Errors that callers branch on.
var (
	// ErrNoRepository: nothing was ever made there.
	ErrNoRepository = errors.New("there is no backup repository")
	// ErrKey: the repository is encrypted, and the key does not open it.
	ErrKey = errors.New("the key does not open the backup repository")
	// ErrNewer: a newer program wrote the repository.
	ErrNewer = errors.New("the backup repository was written by a newer program; upgrade to read it")
	// ErrLocked: another process writes or prunes.
	ErrLocked = errors.New("the backup repository is in use by another process")
	// ErrDamaged: an object of the repository, or the octets of an item in its source, are not what they were.
	ErrDamaged = errors.New("damaged")
	// ErrNotFound: no such snapshot or item.
	ErrNotFound = errors.New("not found in the backup")
)

// Object is an object of a target.
type Object struct {
	Name string // "packs/ab/abcd…"
	Size int64  // octets
}

// Target is where the objects of repositories lie. Names are slash-separated paths
// of lower-case letters, digits, '-', '.' and '/'. Safe for concurrent use.
type Target interface {
	// Put stores an object, replacing one of that name, atomically: at any instant
	// the name leads to the old octets or all of the new ones. It is durable when Put
	// returned nil.
	Put(ctx context.Context, name string, data []byte) error
	// Create is Put for a name that must be new; fs.ErrExist when it is not.
	Create(ctx context.Context, name string, data []byte) error
	// Get returns n octets of an object from offset from on, fewer at its end; n < 0
	// means all the rest. fs.ErrNotExist when there is none.
	Get(ctx context.Context, name string, from, n int64) ([]byte, error)
	// List calls fn for every object whose name begins with the prefix, which is
	// empty or ends with a slash, in no particular order.
	List(ctx context.Context, prefix string, fn func(Object) error) error
	// Remove removes an object; none of that name is no error.
	Remove(ctx context.Context, name string) error
}

// Item is one thing that a source holds: a row, a message, a file.
type Item struct {
	Key  []byte // orders the items of a section; unique in it
	Data []byte // what is small
	// Octets is the length of what Open reads.
	Octets int64
	// Open reads what is large; nil when there is nothing. Octets under one Key never
	// change: what the backup before has, with the same length, is not read again. An
	// error that wraps ErrDamaged, from Open or from reading, leaves the octets out and
	// is told in the report; any other ends the backup.
	Open func(ctx context.Context) (io.ReadCloser, error)
	// Volatile says that octets under this Key do change: they are read every time.
	Volatile bool
}

// Source is what is backed up, as of one moment.
type Source interface {
	// Kind tells what sort of thing it is, such as "server" or "person"; a backup is
	// incremental to the newest of its kind and origin.
	Kind() string
	// Origin tells whose it is: the store's id.
	Origin() string
	// Facts are told to whoever restores, in JSON.
	Facts() ([]byte, error)
	// Sections names the parts, each once.
	Sections(ctx context.Context) ([]string, error)
	// Items calls fn for each item of a section in order of Key, which are all
	// different. The item is valid until fn returns.
	Items(ctx context.Context, section string, fn func(Item) error) error
}

// Progress tells how far a long work has come.
type Progress struct {
	Step   string // what is being done: a section's name, "verify", "prune"
	Items  int64  // done so far
	Octets int64  // done so far, as they are in the source
	Stored int64  // octets written to the target so far
	// TotalItems and TotalOctets are 0 when not known.
	TotalItems, TotalOctets int64
}

// Report says what a Create did.
type Report struct {
	Snapshot  string        `json:"snapshot"`
	Time      time.Time     `json:"time"`
	Parent    string        `json:"parent,omitempty"`
	Items     int64         `json:"items"`
	Octets    int64         `json:"octets"`     // of all items, as they are in the source
	NewItems  int64         `json:"new_items"`  // read, since the backup before does not have them
	NewOctets int64         `json:"new_octets"` // of those
	Stored    int64         `json:"stored"`     // octets written to the target
	Damaged   int64         `json:"damaged"`    // items whose octets the source could not read
	Names     []string      `json:"damaged_items,omitempty"`
	Took      time.Duration `json:"-"`
}

// maxNames bounds the names that a report lists.
const maxNames = 100
