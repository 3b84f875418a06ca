// Package trace records what became of every message: one fate for each
// recipient, written in the transaction that settles it, and the events on the
// way. It holds no subject, content or credentials. An operator sees everything,
// a person their own mail, and no sender an address they did not write.
package trace

import (
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// Defaults and limits.
const (
	DefaultKeepEvents = 30 * 24 * time.Hour // evidence and events
	DefaultKeepFates  = 90 * 24 * time.Hour // fates
	MaxDetailOctets   = 2048                // a fate's or an event's detail; the rest is cut
	MaxFindResults    = 1000                // messages of one Find
)

// ErrNotFound is returned when nothing matches, or the Viewer may not see it.
var ErrNotFound = errors.New("no such message in the trace")

// State is what became of a message for one recipient.
type State uint8

// The states of a fate; the numbers are stored. Queued and Held are the only
// ones that will change.
const (
	Delivered   State = 1 + iota // in a mailbox of this server
	Queued                       // waits for relay
	Held                         // waits for an operator
	Relayed                      // a remote MTA took it and its reply is recorded
	Bounced                      // returned to the reverse-path
	Discarded                    // dropped by a named rule
	Removed                      // taken from the queue by an operator
	Quarantined                  // in a mailbox, set apart by a named rule
	Refused                      // never taken: refused or put off at the end of its data; the reply is the detail
)

var stateNames = [...]string{"unknown", "delivered", "queued", "held", "relayed", "bounced", "discarded", "removed", "quarantined", "refused"}

// String returns the state's word, as printed and in JSON.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return stateNames[0]
}

// Final reports whether the state will not change any more.
func (s State) Final() bool { return s != Queued && s != Held }

// Fate is what became of a message for one recipient and, when an alias led the
// recipient to several places, for one of them.
type Fate struct {
	N         int                // number within the message, from 0
	Recipient string             // forward-path as the envelope had it, without brackets
	Target    string             // where it went after aliases; "" when that is Recipient
	Account   envelope.AccountID // the local account, zero for a remote target
	State     State
	Changed   time.Time // when State was settled
	Detail    string    // mailbox's name, remote reply, rule or operator's reason
}

// Record is a message's facts, with its fates in the order of N.
type Record struct {
	ID          message.ID
	Accepted    time.Time
	ReversePath string             // without brackets, "" for null
	MessageID   string             // Message-ID field, "" when absent
	Peer        netip.Addr         // evidence: the client
	ConnID      string             // evidence: log id of the session
	Account     envelope.AccountID // the authenticated sender, zero for a stranger
	Login       string             // evidence: the login name used
	Octets      int64
	SHA256      [32]byte // evidence: of the octets as received
	Fates       []Fate
}

// Event is something that happened to a message on its way.
type Event struct {
	At     time.Time
	N      int    // fate's number; -1 for the whole message
	Kind   string // "attempt", "hold", "release" …
	Detail string
}

// VERP is the kind of the event of a message that went out under a reverse-path for each
// recipient.
const VERP = "verp"

// Hooks are optional functions for metrics.
type Hooks struct {
	Indexed func(rows int)
	Dropped func(rows int)
}

// Config builds a Trace. DB is required; zero means default.
type Config struct {
	DB         db.Database
	KeepEvents time.Duration
	KeepFates  time.Duration
	Now        func() time.Time
	Logger     *slog.Logger
	Hooks      Hooks
}

// Trace reads and writes the trace. Safe for concurrent use.
type Trace struct{ cfg Config }

// New returns a Trace; it does no I/O.
func New(cfg Config) (*Trace, error) {
	if cfg.DB == nil {
		return nil, errors.New("trace needs a database (Config.DB)")
	}
	if cfg.KeepEvents <= 0 {
		cfg.KeepEvents = DefaultKeepEvents
	}
	if cfg.KeepFates <= 0 {
		cfg.KeepFates = DefaultKeepFates
	}
	cfg.KeepFates = max(cfg.KeepFates, cfg.KeepEvents)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Trace{cfg: cfg}, nil
}

// Viewer says whose eyes look.
type Viewer struct {
	// Operator sees all.
	Operator bool
	// Account sees what it sent, with the recipients as it wrote them and never
	// where aliases led, and of what it received only its own fate.
	Account envelope.AccountID
}

// Query is a search. Exactly one of the three is set.
type Query struct {
	Address   string     // reverse-path, recipient or target
	MessageID string     // Message-ID field, with or without brackets
	ID        message.ID // queue-id, also the Received field's id
	Limit     int        // newest first; 0 is 100, at most MaxFindResults
}
