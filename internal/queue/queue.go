// Package queue keeps messages that wait for relay: message, recipient and
// destination. A message enters in the transaction that accepts it and leaves in
// the one that settles its last recipient.
package queue

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/trace"
)

// Limits.
const (
	MaxPage = 1000 // messages of one List
	// DefaultLifetime is how long delivery is tried (RFC 5321 §4.5.4.1: at least 4 to 5 days).
	DefaultLifetime = 5 * 24 * time.Hour

	DefaultRenewEvery = 5 * time.Second  // how often a node renews its lease
	DefaultLeaseFor   = 30 * time.Second // how long a lease lasts without that
	DefaultShards     = 8
	DefaultShardOver  = 1000
)

// ErrNotFound is returned for a message that is not in the queue.
var ErrNotFound = errors.New("no such message in the queue")

// ErrEmptyFilter is returned by the operator's verbs for a filter that would match everything.
var ErrEmptyFilter = errors.New("an empty filter would mean the whole queue; set All to mean it")

// State is a recipient's state in the queue.
type State uint8

// The states; the numbers are stored.
const (
	Waiting   State = 1 + iota // due at NextAttempt
	Held                       // until an operator releases it
	Returning                  // an operator has it returned: relay makes the report
)

// String returns the state's word, as printed and in JSON.
func (s State) String() string {
	switch s {
	case Waiting:
		return "waiting"
	case Held:
		return "held"
	case Returning:
		return "returning"
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

	ReversePath string // of this copy, as XVERP or SRS makes it; "" is the message's

	// Of a copy that an alias or an account here forwards:
	Forward string // that address; "" when the sender named ForwardPath
	Written string // the forward-path as the sender wrote it; "" is ForwardPath
	Warned  bool   // a delay was reported
	Reason  string // the operator's, while Returning
	Shard   int    // of the destination; Enqueue fills it in
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

// Hooks are optional functions for metrics.
type Hooks struct {
	Enqueued func(recipients int)
	Removed  func(recipients int)
	Settled  func(o Outcome, recipients int)
}

// Recorder is the trace. It is called in the transaction that settles;
// trace.ErrNotFound is a message that the trace has dropped already. *trace.Trace
// implements it.
type Recorder interface {
	Settle(tx db.Tx, id message.ID, fate int, state trace.State, detail string, at time.Time) error
	Note(tx db.Tx, id message.ID, e trace.Event) error
	NoteDialogue(tx db.Tx, id message.ID, fate int, at time.Time, packed []byte) error
}

// Config builds a Queue. DB is required; zero means default.
type Config struct {
	DB db.Database
	// Trace gets fates and attempts; nil records nothing.
	Trace Recorder
	// Finished is told, after the commit, of messages that left the queue and of those whose body no
	// row names any more (dead), for the journal and the body store.
	Finished func(finished, dead []message.ID)
	// Lifetime is how long delivery is tried; default DefaultLifetime.
	Lifetime time.Duration
	// RenewEvery and LeaseFor are a node's lease; defaults DefaultRenewEvery and DefaultLeaseFor.
	RenewEvery, LeaseFor time.Duration
	// Shards is into how many parts the recipients of a large destination are
	// spread; default DefaultShards on PostgreSQL, 1 on SQLite, where one process works alone.
	Shards int
	// ShardOver is how many recipients within ten minutes make a destination large;
	// default DefaultShardOver.
	ShardOver int
	// WarnAll has delays reported for mail of strangers too (see Node.Overdue).
	WarnAll bool
	Now     func() time.Time
	Logger  *slog.Logger
	Hooks   Hooks
}

// Queue is the queue. Safe for concurrent use.
type Queue struct {
	cfg   Config
	woken chan struct{}

	mu      sync.Mutex
	wakes   map[unit]int64 // noted by Enqueued, not written yet
	missed  bool           // there were more
	counts  map[string]int // recipients enqueued since counted
	counted time.Time
}

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
	if cfg.Finished == nil {
		cfg.Finished = func(_, _ []message.ID) {}
	}
	cfg.RenewEvery = cmp.Or(cfg.RenewEvery, DefaultRenewEvery)
	cfg.LeaseFor = cmp.Or(cfg.LeaseFor, DefaultLeaseFor)
	if cfg.LeaseFor <= cfg.RenewEvery {
		return nil, fmt.Errorf("a lease of %v ends before it is renewed every %v: make Config.LeaseFor longer", cfg.LeaseFor, cfg.RenewEvery)
	}
	if cfg.Shards == 0 && cfg.DB.Engine() == "postgresql" {
		cfg.Shards = DefaultShards
	}
	cfg.Shards = min(max(cfg.Shards, 1), 256)
	cfg.ShardOver = cmp.Or(cfg.ShardOver, DefaultShardOver)
	return &Queue{cfg: cfg, woken: make(chan struct{}, 1), wakes: make(map[unit]int64), counts: make(map[string]int)}, nil
}
