// Package intake is the way of a message from RCPT to Accept, which receiving and
// submission share: it routes recipients, holds room in their mailboxes, streams
// the mail data into staging with its edits, and has it accepted in one durable
// step. What may come in is decided by the Rules of its callers.
package intake

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/report"
)

// Limits of a transaction.
const (
	// MaxReceived is how many Received fields a message may carry before it counts
	// as looping (RFC 5321 §6.3 asks for at least 100).
	MaxReceived = 100
	// MaxTargets bounds what all recipients of a transaction expand to.
	MaxTargets = 10000
	// defaultMemory and leastMemory are of Config.Memory: the largest header section
	// needs a little over 2 MiB while it is edited.
	defaultMemory = 64 << 20
	leastMemory   = 4 << 20
	// maxParsing is how many reports that come back are read at one time, each of
	// dsn.MaxParseOctets at most.
	maxParsing = 8
)

// Router says where mail for a forward-path goes; *account.Accounts is one. Its
// errors are account.ErrNotLocal, ErrUnknownUser, ErrDisabled and ErrLoop; others
// are temporary.
type Router interface {
	Route(ctx context.Context, to address.ForwardPath) (account.Route, error)
}

// Rooms holds room in mailboxes; *mailbox.Store is one. Reserve returns
// mailbox.ErrOverQuota when a message of size octets (0 when not declared) does
// not fit, or a release to be called once the transaction has ended.
type Rooms interface {
	Reserve(ctx context.Context, account envelope.AccountID, quota, size int64) (release func(), err error)
}

// Reporter writes success reports; *report.Reporter is one.
type Reporter interface {
	Prepare(ctx context.Context, o report.Original, recipients []dsn.Recipient) (*post.Delivery, error)
}

// Config is what an Intake needs. Hostname, Accepter, Router, Rooms and Reporter
// are required.
type Config struct {
	Hostname address.Domain // in Received and Message-ID; also the authserv-id
	Accepter post.Accepter
	Router   Router
	Rooms    Rooms
	Reporter Reporter
	// Forwarding makes the reverse-paths of forwarded copies; nil leaves them as they are.
	Forwarding Forwarding
	// Answers writes out-of-office replies; nil writes none.
	Answers Answers
	// Returns is told of reports that come back; nil is told nothing.
	Returns Returns
	// Offices take mail for addresses of the server itself; the first that does counts.
	Offices []Office
	// Separator parts subaddresses, as account.Config has it; "" is none, and no XVERP.
	Separator string
	MaxOctets int64            // of a message as declared by SIZE; 0 for no limit of ours
	Memory    int64            // octets for header sections and buffers of all messages coming in; default 64 MiB
	Now       func() time.Time // default time.Now
	Random    io.Reader        // default crypto/rand
	Logger    *slog.Logger     // nil discards
	Hooks     Hooks
}

// Hooks are called as things happen; nil functions are skipped. They must be
// quick and safe for concurrent use.
type Hooks struct {
	// Accepted is called after a message became durable, with the octets of its
	// mail data as stored, how many mailboxes and queue entries it made, and how
	// long Data took.
	Accepted func(octets int64, locals, remotes int, took time.Duration)
	// Refused is called for each refused recipient or message with the reply's code.
	Refused func(code int)
}

// Intake makes transactions. Safe for concurrent use.
type Intake struct {
	c       Config
	budget  budget
	parsing chan struct{} // a place for each report that is being read
}

// New checks the configuration and fills in defaults.
func New(c Config) (*Intake, error) {
	var errs []error
	require := func(there bool, what string) {
		if !there {
			errs = append(errs, errors.New("intake: "+what+" is required"))
		}
	}
	require(!c.Hostname.IsZero(), "Hostname")
	require(c.Accepter != nil, "Accepter")
	require(c.Router != nil, "Router")
	require(c.Rooms != nil, "Rooms")
	require(c.Reporter != nil, "Reporter")
	if c.MaxOctets < 0 {
		errs = append(errs, errors.New("intake: MaxOctets is negative"))
	}
	if c.Memory == 0 {
		c.Memory = defaultMemory
	}
	if c.Memory < leastMemory {
		errs = append(errs, errors.New("intake: Memory must be 4 MiB or more"))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Intake{c: c, budget: budget{most: c.Memory}, parsing: make(chan struct{}, maxParsing)}, errors.Join(errs...)
}

// Now is the intake's clock, for the rules of its callers.
func (in *Intake) Now() time.Time { return in.c.Now() }

// Hostname is our host name.
func (in *Intake) Hostname() address.Domain { return in.c.Hostname }

// Rules are what a service allows in one transaction. Refusals are *smtp.Error.
type Rules struct {
	// Relay judges a recipient whose domain is not ours; nil refuses all of them
	// with 550 5.7.1.
	Relay func(ctx context.Context, r envelope.Recipient) error
	// Count is asked once for each recipient that was not named before, after
	// routing; an error refuses it. Nil takes all.
	Count func(ctx context.Context, r envelope.Recipient) error
	// Repeats knows what the account has handed in before: a letter that comes again, octet
	// for octet, gets 250 and makes no second copy. Nil takes every message as new.
	Repeats Repeats
	// Judge looks at the message's header section, and may change it, before
	// anything is stored. Nil takes all.
	Judge func(ctx context.Context, d *Draft) error
	// HideClient leaves the client's name and address out of Received.
	HideClient bool
	// StripBcc removes Bcc and Resent-Bcc.
	StripBcc bool
	// Ours says that our own people send: relay may change the message's encoding.
	Ours bool
	// Sign begins to sign a message that was judged; nil, and a nil Signing, leave it
	// unsigned. It is called in the session's goroutine. An error is temporary.
	Sign func(ctx context.Context, d *Draft) (Signing, error)
	// Inspect begins to look at a message, before Judge may change it; nil, and a nil
	// Inspection, look at nothing.
	Inspect func(ctx context.Context, m Incoming) (Inspection, error)
}

// Signing takes the body, the octets behind the empty line, while it is staged, and
// makes the DKIM-Signature fields in the end; *dkim.Signing is one. They stand below
// our Received and directly above the message's own header section, and are stored
// with it, so that local copies have them too.
type Signing interface {
	io.Writer
	Fields(now time.Time) ([]byte, error)
}

// Draft is a message whose header section has come in.
type Draft struct {
	ID       message.ID
	Envelope *envelope.Envelope
	Header   []byte // without the empty line; Judge may replace it
	Time     time.Time
}
