// Package queue keeps messages that wait for relay: message, recipient and
// destination. A message enters in the transaction that accepts it and leaves in
// the one that settles its last recipient.
package queue

import (
	"errors"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// Limits.
const (
	MaxPage = 1000 // messages of one List
	// DefaultLifetime is how long delivery is tried (RFC 5321 §4.5.4.1: at least 4 to 5 days).
	DefaultLifetime = 5 * 24 * time.Hour
)

// ErrNotFound is returned for a message that is not in the queue.
var ErrNotFound = errors.New("no such message in the queue")

// ErrEmptyFilter is returned by Remove for a filter that would match everything.
var ErrEmptyFilter = errors.New("an empty filter would remove the whole queue; set All to mean it")

// State is a recipient's state in the queue.
type State uint8

// The states; the numbers are stored.
const (
	Waiting State = 1 + iota // due at NextAttempt
	Held                     // until an operator releases it
)

// String returns the state's word, as printed and in JSON.
func (s State) String() string {
	switch s {
	case Waiting:
		return "waiting"
	case Held:
		return "held"
	}
	return "unknown"
}

// Recipient is one remote recipient that is not settled.
type Recipient struct {
	N           int    // number within the message
	Fate        int    // number of its fate in the trace
	ForwardPath string // where it goes, without brackets
	Destination string // routing domain (A-labels) or address literal
	Notify      envelope.Notify
	Original    envelope.OriginalRecipient
	State       State
	Attempts    int
	NextAttempt time.Time
	LastStatus  string // last reply or error, "" before the first attempt

	// Of a copy that an alias or an account here forwards:
	Forward     string // that address; "" when the sender named ForwardPath
	ReversePath string // of this copy, as SRS makes it; "" is the message's
	Written     string // the forward-path as the sender wrote it; "" is ForwardPath
	Warned      bool   // a delay was reported
}

// Message is a queued message with its recipients in the order of N.
type Message struct {
	ID          message.ID
	Queued      time.Time
	ReversePath string // without brackets, "" for null
	Body        envelope.Body
	SMTPUTF8    bool
	Return      envelope.Return
	EnvelopeID  string
	Octets      int64
	Account     envelope.AccountID // who submitted it, zero for none
	Login       string
	UTF8        bool               // the header section holds UTF-8 (RFC 6532)
	Ours        bool               // of our own people or this house: its encoding may be changed
	RequireTLS  bool               // RFC 8689
	TLSOptional bool               // TLS-Required: No
	Priority    int                // RFC 6710
	HoldUntil   time.Time          // first attempt not before; zero is at once (RFC 4865)
	DeliverBy   envelope.DeliverBy // RFC 2852
	Expires     time.Time          // when a failed attempt is the last; Enqueue fills it in
	Recipients  []Recipient
}

// Filter selects recipients; set fields must all match. The zero Filter matches all.
type Filter struct {
	ID          message.ID
	ReversePath string // exact, compared without case; "<>" is null
	ForwardPath string // exact, compared without case
	Destination string // routing domain
	Account     envelope.AccountID
	State       State
	Before      time.Time // queued before
	All         bool      // Remove: an otherwise empty filter is meant
}

// Page is a piece of a list: what follows After in order of id, at most Limit
// messages (0 is 100, at most MaxPage).
type Page struct {
	After message.ID
	Limit int
}

// Hooks are optional functions for metrics.
type Hooks struct {
	Enqueued func(recipients int)
	Removed  func(recipients int)
}

// Config builds a Queue. DB is required; zero means default.
type Config struct {
	DB db.Database
	// Settle writes the fate of a recipient that an operator removed, in the same
	// transaction (trace.SettleRemoved).
	Settle func(tx db.Tx, id message.ID, fate int, detail string, at time.Time) error
	// Finished is told, after the commit, of messages that left the queue and of those whose body no
	// row names any more (dead), for the journal and the body store.
	Finished func(finished, dead []message.ID)
	// Lifetime is how long delivery is tried; default DefaultLifetime.
	Lifetime time.Duration
	Now      func() time.Time
	Logger   *slog.Logger
	Hooks    Hooks
}

// Queue is the queue. Safe for concurrent use.
type Queue struct{ cfg Config }

// New returns a Queue; it does no I/O.
func New(cfg Config) (*Queue, error) {
	if cfg.DB == nil {
		return nil, errors.New("queue needs a database (Config.DB)")
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = DefaultLifetime
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Settle == nil {
		cfg.Settle = func(db.Tx, message.ID, int, string, time.Time) error { return nil }
	}
	if cfg.Finished == nil {
		cfg.Finished = func(_, _ []message.ID) {}
	}
	return &Queue{cfg: cfg}, nil
}
