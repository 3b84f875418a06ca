package mailbox

import (
	"context"
	"errors"
	"io"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/sasl"
)

var errStub = errors.ErrUnsupported

// Schema is the tables of this package.
var Schema = db.Component{Name: "mailbox"}

type cache struct{}
type reservations struct{}
type locker any
type rowLocks struct {
	db   db.Database
	idle time.Duration
	now  func() time.Time
	rand io.Reader
}

func newCache(int64, func(int64)) *cache                    { return nil }
func newReservations() *reservations                        { return nil }
func newMemoryLocks(time.Duration, func() time.Time) locker { return nil }
func downgrade(h []byte) []byte                             { return h }

// Copy is one entry to be: the copy of a message for one mailbox.
type Copy struct {
	Account   envelope.AccountID
	Login     string // for the journal
	Mailbox   string // "" is INBOX; created when missing
	Flags     Flags
	Body      message.ID
	Octets    int64  // prefix and record
	Surrogate int64  // from SurrogateOctets, 0 when the message needs none
	Prefix    []byte // header fields of this copy alone
	Received  time.Time
}

// Deliver adds an entry in the caller's transaction; the unique-id is the body's
// id. The caller calls Settled after the transaction, whatever its outcome.
// Several deliveries in one transaction must come in order of (Account, Mailbox).
func (s *Store) Deliver(tx db.Tx, c *Copy) (Entry, error) { return Entry{}, errStub }

// Settled tells that the transaction of the entries has ended; committed says
// how. It makes the change visible to sessions that open from now on and, when
// committed, writes the journal.
func (s *Store) Settled(committed bool, entries ...Entry) {}

// SurrogateOctets returns the octets of the RFC 6856 surrogate of a message
// whose header section is header and which is octets long as a whole.
func (s *Store) SurrogateOctets(header []byte, octets int64) int64 { return 0 }

// Import is one message for Append. Staged holds CRLF lines.
type Import struct {
	Mailbox  string // "" is INBOX; created when missing
	UniqueID string // kept when legal and unused in the mailbox; "" for none
	Source   string // tells apart equal contents without a unique-id: a file's name, a number
	Flags    Flags
	Received time.Time
	UTF8     bool // the header section holds UTF-8
	Staged   body.Staged
}

// Appended is the outcome of one Import.
type Appended struct {
	Duplicate bool // it had been imported before; nothing was stored
	Entry     Entry
}

// Append stores a batch of imported messages durably, at most 160 at a time, in the
// low-priority lane. An import repeated makes no duplicates: a message counts as
// there when its unique-id, or its content and Source, was imported into that mailbox before, even if it
// was removed since. Append does not discard the staged messages.
func (s *Store) Append(ctx context.Context, account envelope.AccountID, login string, batch []Import) ([]Appended, error) {
	return nil, errStub
}

// Mailboxes returns the account's mailboxes, INBOX first, then by name.
func (s *Store) Mailboxes(ctx context.Context, account envelope.AccountID) ([]Mailbox, error) {
	return nil, errStub
}

// Create makes a mailbox; ErrExists, ErrBadName.
func (s *Store) Create(ctx context.Context, account envelope.AccountID, name string) (Mailbox, error) {
	return Mailbox{}, errStub
}

// Usage returns what the account's mailboxes hold.
func (s *Store) Usage(ctx context.Context, account envelope.AccountID) (Usage, error) {
	return Usage{}, errStub
}

// Reserve decides at RCPT whether a message of size octets (0 when not declared)
// fits the quota (0 for none), counting octets in flight in this process. It
// returns ErrOverQuota, or a release to be called once the transaction has ended.
func (s *Store) Reserve(ctx context.Context, account envelope.AccountID, quota, size int64) (release func(), err error) {
	return nil, errStub
}

// Open implements pop3server.Maildrops.
func (s *Store) Open(ctx context.Context, id sasl.Identity, utf8 bool) (pop3server.Maildrop, error) {
	return nil, errStub
}

// OpenEntry returns the octets of an entry, prefix and record.
func (s *Store) OpenEntry(ctx context.Context, e *Entry) (io.ReadCloser, error) { return nil, errStub }

// Walk calls fn for every entry of the account, by mailbox and uid, in pages; no
// transaction is open while fn runs. fn reads the octets with OpenEntry.
func (s *Store) Walk(ctx context.Context, account envelope.AccountID, fn func(Entry) error) error {
	return errStub
}

// Selection selects retained entries of an account; set fields must all match.
// The zero Selection selects all.
type Selection struct {
	UniqueIDs []string
	Mailbox   string
	Since     time.Time // removed at or after
	Before    time.Time // removed before
}

// Deleted returns at most limit retained entries of the account, oldest removal first,
// that follow the given cursor ("" begins), and the next cursor, "" at the end.
func (s *Store) Deleted(ctx context.Context, account envelope.AccountID, sel Selection, cursor string, limit int) ([]Retained, string, error) {
	return nil, "", errStub
}

// Restore puts retained entries back into their mailboxes under new unique-ids,
// so that programs fetch them again, and returns how many.
func (s *Store) Restore(ctx context.Context, account envelope.AccountID, login string, sel Selection) (int, error) {
	return 0, errStub
}

// Purge removes retained entries for ever and returns how many.
func (s *Store) Purge(ctx context.Context, account envelope.AccountID, sel Selection) (int, error) {
	return 0, errStub
}

// RemoveAccount puts all mail of an account into retention.
func (s *Store) RemoveAccount(ctx context.Context, account envelope.AccountID) (int, error) {
	return 0, errStub
}

// PurgeAccount removes all mail of an account for ever, retention included.
func (s *Store) PurgeAccount(ctx context.Context, account envelope.AccountID) (int, error) {
	return 0, errStub
}

// Lock takes RFC 1939's lock of an account's maildrop, or returns ErrInUse. A
// holder that did not use it for Config.LockIdle loses it to the next.
func (s *Store) Lock(ctx context.Context, account envelope.AccountID) (release func(), err error) {
	return nil, errStub
}

// Run sweeps retention until ctx ends; one a process.
func (s *Store) Run(ctx context.Context) error { return errStub }
