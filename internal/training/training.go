// Package training takes the mail by which people teach the filters: messages forwarded as
// attachments to spam@ and ham@ of their domains, since programs that read by POP3 have no folders
// to move mail between.
package training

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/trace"
)

// Defaults and limits.
const (
	DefaultSpam = "spam"
	DefaultHam  = "ham"
	MaxMessages = 50      // attached messages that are learned of one mail
	MaxOctets   = 4 << 20 // of one of them; the rest of it is not read
)

// Learner learns; the integrator's, see quarantine.Learner.
type Learner interface {
	Learn(ctx context.Context, account envelope.AccountID, msg io.ReaderAt, size int64, spam bool) error
}

// Mailboxes finds messages; *mailbox.Store is one.
type Mailboxes interface {
	FindBodies(ctx context.Context, account envelope.AccountID, ids []message.ID) ([]mailbox.Entry, error)
	OpenEntry(ctx context.Context, e *mailbox.Entry) (io.ReadCloser, error)
}

// Mover moves a message, learns of it and corrects reputations; *quarantine.Room is one.
type Mover interface {
	Move(ctx context.Context, m quarantine.Move) (mailbox.Entry, error)
}

// Finder knows messages by Message-ID; *trace.Trace is one.
type Finder interface {
	Find(ctx context.Context, v trace.Viewer, q trace.Query) ([]trace.Record, error)
}

// People are the accounts; *account.Accounts is one.
type People interface {
	ByID(ctx context.Context, id envelope.AccountID) (account.Account, error)
}

// Letters sends notes; *report.Reporter is one.
type Letters interface {
	SendLetter(ctx context.Context, l report.Letter) (sent bool, err error)
}

// Hooks are optional functions for metrics. They must return at once.
type Hooks struct {
	Learned func(spam bool, messages int)
	Nothing func()
}

// Config builds a Room. The first group is required.
type Config struct {
	Learner   Learner
	Mailboxes Mailboxes
	Mover     Mover
	Finder    Finder
	People    People
	Letters   Letters
	Hostname  address.Domain  // of Message-ID
	From      address.Address // sender of notes

	Spam, Ham string // local-parts; "" are DefaultSpam and DefaultHam, "-" is none
	Now       func() time.Time
	Logger    *slog.Logger
	Hooks     Hooks
}

// Room is the training room. Safe for concurrent use.
type Room struct{ cfg Config }

// Message is a mail that an authenticated account sent to spam@ or ham@.
type Message struct {
	Account envelope.AccountID
	Login   string
	Spam    bool
	Root    *mime.Part
	Body    io.ReaderAt // where Root's offsets count
}

// Result is what came of it.
type Result struct {
	Messages int // attached
	Learned  int
	Moved    int // found in the account's mailboxes and moved
	Skipped  int // above MaxMessages
}

// New returns a Room; it does no I/O.
func New(c Config) (*Room, error) {
	if c.Learner == nil || c.Mailboxes == nil || c.Mover == nil || c.Finder == nil || c.People == nil || c.Letters == nil || c.Hostname.IsZero() || c.From.IsZero() {
		return nil, errors.New("training: Learner, Mailboxes, Mover, Finder, People, Letters, Hostname and From are needed")
	}
	if c.Spam == "" {
		c.Spam = DefaultSpam
	}
	if c.Ham == "" {
		c.Ham = DefaultHam
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Room{cfg: c}, nil
}
