// Package quarantine knows the mail that was set apart: in the folders Quarantine and Junk of
// its recipients, and on hold in the queue for recipients elsewhere. It lists and shows such mail
// with the reason, releases or deletes it, tells the digest what is new, and lets go of what is old.
package quarantine

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/trace"
)

// Defaults and limits.
const (
	DefaultKeep   = 30 * 24 * time.Hour
	MaxPage       = 500     // items of one List
	MaxRuleOctets = 300     // of a Note's rule; the rest is cut
	maxLearn      = 4 << 20 // octets of a message that are given to the Learner
)

// HeldReason begins the reason of queued recipients that filters put on hold; others that an
// operator holds are none of this room's.
const HeldReason = "set apart: "

// Errors that callers branch on.
var (
	ErrNotFound    = errors.New("no such message among those set apart")
	ErrEmptyFilter = errors.New("an empty filter would mean everything that is set apart; set All to mean it")
)

// Kind says where an item lies.
type Kind string

// The kinds.
const (
	Quarantine Kind = "quarantine" // folder Quarantine
	Junk       Kind = "junk"       // folder Junk
	Queue      Kind = "queue"      // on hold, for a recipient elsewhere
)

// Item is a message set apart for one recipient.
type Item struct {
	Kind    Kind
	ID      message.ID
	Account envelope.AccountID // 0 of Queue
	Login   string             // "" of Queue
	// Recipient is the forward-path of Queue, without brackets; "" for others.
	Recipient string
	Number    int64 // the mailbox's
	UID       mailbox.UID
	Rule      string  // why, in words
	Score     float64 // 0 of Queue
	Noted     time.Time
	Told      time.Time // of the digest that told of it; zero: none has
	Sender    string    // reverse-path without brackets, "" for null
	Octets    int64
}

// Folder is the mailbox of a kind, "" of Queue.
func (k Kind) Folder() string {
	return map[Kind]string{Quarantine: mailbox.Quarantine, Junk: mailbox.Junk}[k]
}

// kindOf is the kind of a folder, "" for others.
func kindOf(folder string) Kind {
	return map[string]Kind{mailbox.Quarantine: Quarantine, mailbox.Junk: Junk}[folder]
}

// Learner is taught by what people release and move; the message is whole or its first 4 MiB.
type Learner interface {
	Learn(ctx context.Context, account envelope.AccountID, msg io.ReaderAt, size int64, spam bool) error
}

// Corrector is told that a message was judged wrongly; *reputation.Store is one.
type Corrector interface {
	Correct(ctx context.Context, sub reputation.Subject, spam bool)
}

// HeldQueue is the queue; *queue.Queue is one.
type HeldQueue interface {
	List(ctx context.Context, f queue.Filter, p queue.Page) ([]queue.Message, error)
	Release(ctx context.Context, f queue.Filter) (int, error)
	Remove(ctx context.Context, f queue.Filter, reason string) (int, error)
}

// Hooks are optional functions for metrics. They must return at once.
type Hooks struct {
	Noted    func(k Kind)
	Released func(k Kind)
	Deleted  func(k Kind)
	Expired  func(items int)
}

// Config builds a Room. DB, Mailboxes and Trace are required.
type Config struct {
	DB         db.Database
	Mailboxes  *mailbox.Store
	Trace      *trace.Trace
	Queue      HeldQueue // nil: nothing is on hold
	Learner    Learner   // nil: nothing is learned
	Reputation Corrector // nil: nothing is corrected
	// Hostname is our authserv-id: Authentication-Results by it say who a moved message is from;
	// "" believes none.
	Hostname string
	// Keep is after what time a message in Quarantine or Junk goes into retention, from which it can
	// still be restored for a while; 0 is DefaultKeep.
	Keep time.Duration
	// Quota is an account's quota in octets, 0 for none: of what is set apart beyond a quarter of
	// it, the oldest goes into retention. Nil bounds nothing.
	Quota  func(ctx context.Context, account envelope.AccountID) (int64, error)
	Now    func() time.Time
	Logger *slog.Logger
	Hooks  Hooks
}

// Room is the quarantine. Safe for concurrent use, by several nodes on one database.
type Room struct{ cfg Config }

// New returns a Room; it does no I/O.
func New(c Config) (*Room, error) {
	if c.DB == nil || c.Mailboxes == nil || c.Trace == nil {
		return nil, errors.New("quarantine: DB, Mailboxes and Trace are needed")
	}
	c.Keep = cmp.Or(max(c.Keep, 0), DefaultKeep)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Room{cfg: c}, nil
}

// Schema is the tables of this package: a row for each message in Quarantine or Junk that a filter
// or a person put there. number and uid say where; told is 0 until a digest has told of it; peer,
// domain and address are whom it comes from as far as that is proven.
var Schema = db.Component{Name: "quarantine", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE set_apart (
	account {int} NOT NULL, id {blob} NOT NULL, login {text} NOT NULL, kind {text} NOT NULL, number {int} NOT NULL, uid {int} NOT NULL,
	rule {text} NOT NULL, score {int} NOT NULL, noted {int} NOT NULL, told {int} NOT NULL, sender {text} NOT NULL,
	peer {text} NOT NULL, domain {text} NOT NULL, address {text} NOT NULL, fates {text} NOT NULL,
	PRIMARY KEY (account, id)) {rowid};
CREATE INDEX set_apart_noted ON set_apart (noted);
CREATE INDEX set_apart_told ON set_apart (told, account)`}}}
