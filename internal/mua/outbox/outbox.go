// Package outbox keeps a person's letters until a server has taken them: written without a network,
// sent when it is back, later, or never when they are undone in time.
//
// A letter lies in the folder Outbox; its row and those of its recipients are written in the
// transaction that adds it. Each recipient has a state of their own:
//
//	waiting   nobody has it: killed at any instant before the final dot, it is sent later
//	leaving   written, durably, directly before the octets leave that complete the message
//	sent      the server has taken it, and said so
//	refused   the server, or its domain's record in DNS, will not take it
//	perhaps   it left and no reply came (RFC 1047)
//
// What is leaving when no session is left becomes perhaps. A server that recognises a letter handed
// in again (X-POCZTA-REPEATS) gets it again, octet for octet, by itself; elsewhere a person decides.
// So nobody gets two copies unless a person says so, and nothing is lost.
package outbox

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/smtpclient"
)

// Folder is where letters lie until they are sent. Whoever takes a letter out of it, before it
// leaves, has undone it.
const Folder = "Outbox"

// Schema is the tables, for Config.Components of the store. state of outgoing is 1 while somebody
// waits, 2 when all is settled, 3 when a person must decide, 4 undone, 5 held, 6 refused and put away. left is when a
// recipient's copy first left, keep how long (µs) the server, named by host and login, knows it.
var Schema = db.Component{Name: "mua-outbox", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE outgoing (
	id {id}, account {int} NOT NULL, letter {int} NOT NULL, draft {int} NOT NULL, state {int} NOT NULL,
	reverse_path {text} NOT NULL, envelope_id {text} NOT NULL, give_back {int} NOT NULL, notify {int} NOT NULL,
	octets {int} NOT NULL, eight_bit {int} NOT NULL, utf8 {int} NOT NULL, unchecked {int} NOT NULL,
	created {int} NOT NULL, send_at {int} NOT NULL, next {int} NOT NULL, failures {int} NOT NULL, settled {int} NOT NULL,
	filed {int} NOT NULL, message_id {text} NOT NULL, answers {text} NOT NULL, subject {text} NOT NULL, reason {text} NOT NULL) {strict};
CREATE INDEX outgoing_state ON outgoing (state, next);
CREATE INDEX outgoing_filed ON outgoing (filed) WHERE filed = 0;
CREATE INDEX outgoing_letter ON outgoing (letter);
CREATE INDEX outgoing_message_id ON outgoing (message_id);
CREATE INDEX outgoing_envelope_id ON outgoing (envelope_id);
CREATE TABLE outgoing_recipient (
	outgoing {int} NOT NULL, place {int} NOT NULL, path {text} NOT NULL, state {int} NOT NULL,
	again {int} NOT NULL, left_at {int} NOT NULL, keep {int} NOT NULL, server {text} NOT NULL,
	code {int} NOT NULL, status {text} NOT NULL, reply {text} NOT NULL, at {int} NOT NULL, PRIMARY KEY (outgoing, place)) {rowid};
CREATE INDEX outgoing_recipient_left ON outgoing_recipient (outgoing) WHERE state = 2;
CREATE TABLE outgoing_report (
	letter {int} NOT NULL, outgoing {int} NOT NULL, recipient {text} NOT NULL, action {text} NOT NULL, status {text} NOT NULL,
	diagnostic {text} NOT NULL, at {int} NOT NULL, PRIMARY KEY (outgoing, letter, recipient)) {rowid};
CREATE TABLE outgoing_seen (one {int} NOT NULL PRIMARY KEY, letter {int} NOT NULL) {rowid}`}}}

// ID names an entry of the outbox for ever.
type ID int64

// Errors that callers branch on.
var (
	ErrNotFound   = errors.New("no such letter in the outbox")
	ErrLeft       = errors.New("it is too late: somebody has the letter already, or perhaps has it")
	ErrUndecided  = errors.New("there is nothing to decide about this letter")
	ErrRecipients = errors.New("name somebody who should get the letter")
	ErrAddress    = errors.New("not an e-mail address")
)

// Lines opens sessions with accounts' outgoing servers; *line.Lines is one.
type Lines interface {
	SMTP(ctx context.Context, a profile.Account) (*smtpclient.Session, error)
}

// Accounts lists the person's accounts; *profile.Profiles is one.
type Accounts interface {
	List(ctx context.Context) ([]profile.Account, error)
}

// Config is what an Outbox needs. Store, Lines and Accounts are required.
type Config struct {
	Store    *store.Store
	Lines    Lines
	Accounts Accounts
	// Resolver tells whether recipients' domains take mail; nil asks nobody.
	Resolver resolver.Resolver
	// Network describes this computer's addresses; when it changes, what waits for the network is
	// tried at once. nil asks the system.
	Network func() string
	// Changed is called when an entry has changed, from any goroutine; it must not block.
	Changed func(ID)
	Grace   time.Duration // for a transaction under way when ctx ends; 0 is 10 s
	Now     func() time.Time
	Rand    io.Reader
	Logger  *slog.Logger // nil discards
}

// Outbox sends letters. Safe for concurrent use.
type Outbox struct {
	c     Config
	table table
	wake  chan struct{}
	turn  chan struct{} // holds a token while nobody sends

	mu      sync.Mutex
	sending map[ID]bool
}

// New checks the configuration; it does no I/O.
func New(c Config) (*Outbox, error) {
	if c.Store == nil || c.Lines == nil || c.Accounts == nil {
		return nil, errors.New("outbox needs Config.Store, Lines and Accounts")
	}
	if c.Network == nil {
		c.Network = addresses
	}
	if c.Changed == nil {
		c.Changed = func(ID) {}
	}
	if c.Grace == 0 {
		c.Grace = 10 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	o := &Outbox{c: c, table: table{c.Store.DB()}, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), sending: map[ID]bool{}}
	o.turn <- struct{}{}
	return o, nil
}

// State is how far a letter is, or a recipient's copy of it.
type State string

// The states; Partly, Undone and Held are of letters alone.
const (
	Waiting State = "waiting" // for its time, the network or the server
	Sending State = "sending"
	Sent    State = "sent"
	Partly  State = "partly sent" // some got it, others were refused
	Refused State = "refused"
	Perhaps State = "perhaps sent" // Decide
	Undone  State = "undone"
	Held    State = "held" // until Retry
)

// Item is an entry of the outbox. It travels as JSON.
type Item struct {
	ID         ID                 `json:"id"`
	Account    envelope.AccountID `json:"account"`
	Letter     store.LetterID     `json:"letter"`
	MessageID  string             `json:"message_id"`
	Subject    string             `json:"subject"`
	Octets     int64              `json:"octets"`
	State      State              `json:"state"`
	Created    time.Time          `json:"created"`
	SendAt     time.Time          `json:"send_at,omitzero"` // not before
	Next       time.Time          `json:"next,omitzero"`    // of one that waits: the next attempt
	Settled    time.Time          `json:"settled,omitzero"`
	Reason     string             `json:"reason,omitempty"`   // why it waits or is held, a sentence
	Failures   int                `json:"failures,omitempty"` // attempts that came to nothing, since a person last had a hand in it
	Recipients []Recipient        `json:"recipients"`
}

// Recipient is what became of one recipient's copy.
type Recipient struct {
	Address string    `json:"address"`
	State   State     `json:"state"`
	Code    int       `json:"code,omitempty"`   // of the server's reply; 0 when the words are ours
	Status  string    `json:"status,omitempty"` // enhanced status code (RFC 3463), as in 5.1.1
	Reply   string    `json:"reply,omitempty"`  // the server's words, or ours
	At      time.Time `json:"at,omitzero"`      // of the reply
}
