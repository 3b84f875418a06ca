// Package filter looks at every message that comes in, and at what our own people send: it
// gathers the evidence of the rooms below (who sends, what it says, what was seen, learned
// and wished, what other filters find), has package verdict weigh it for each recipient, and
// tells intake what becomes of the message.
package filter

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/attachment"
	"poczta.example/poczta/internal/clamd"
	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/conduct"
	"poczta.example/poczta/internal/content"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dnslist"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/greeting"
	"poczta.example/poczta/internal/greylist"
	"poczta.example/poczta/internal/hook"
	"poczta.example/poczta/internal/milter"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/rspamd"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/verdict"
	"poczta.example/poczta/internal/verify"
)

// Config is what a Filter works with. Every room may be nil, and then gives no evidence.
type Config struct {
	Hostname    address.Domain // required
	Verifier    *verify.Verifier
	Greeting    *greeting.Checker
	Lists       *dnslist.Lists
	Attachments *attachment.Inspector
	Classifier  *classifier.Classifier
	Reputation  *reputation.Store
	Probing     *reputation.Probing
	Greylist    *greylist.List
	Preferences *preference.Preferences
	Conduct     *conduct.Watch
	Clamd       *Clamd
	Rspamd      *Rspamd
	Milters     []Milter // asked in order, each sees the changes of those before
	Hook        *Hook
	Trace       *trace.Trace // gets the decision; nil keeps none

	Settings verdict.Settings // thresholds (zero: the defaults) and weights
	// Trusted are hosts that verify senders before us and whose address says nothing, such as a
	// gateway in front; programs of this host count as such. Their mail is looked at for what it
	// says, not for who sends it.
	Trusted []netip.Prefix
	// Wish is what becomes of spam for accounts that have not said it; "" goes by the thresholds.
	Wish preference.Wish
	// NoScore leaves out everything that only adds points: what proves the sender and what is
	// dangerous still counts.
	NoScore bool
	// Own reports whether a domain in A-labels is one of ours; nil: none is. It must not block for long.
	Own func(ctx context.Context, domain address.Domain) bool
	// Nobody reports whether an address of ours leads to nobody in particular: it is unknown, or
	// what a catch-all takes. Only then a pattern makes a spam trap of it; nil: never.
	Nobody func(ctx context.Context, a address.Address) bool
	// SetApart makes the function that notes copies that are set apart, in the transaction that
	// accepts them; nil notes nothing.
	SetApart func(d *post.Delivery, copies []SetApart) func(tx db.Tx) error
	// Unavailable is what becomes of mail whose sender can't be verified because DNS does not
	// answer: Deliver or Defer.
	Unavailable verdict.Action
	Timeout     time.Duration // for all evidence behind the end of the message; 0 is 2 min
	Limits      content.Limits
	Hooks       Hooks
	Now         func() time.Time
	Logger      *slog.Logger
}

// Use says for which mail an outside filter is asked, and what happens when it can't look.
type Use struct {
	Incoming, Outgoing bool
	// Down is what happens when it does not answer: Deliver (fail open), Defer (fail closed) or
	// Quarantine; Large the same for a message that is too large for it.
	Down, Large verdict.Action
}

// Clamd is ClamAV and its use.
type Clamd struct {
	*clamd.Client
	Use
}

// Rspamd is Rspamd and its use.
type Rspamd struct {
	*rspamd.Client
	Use
	Scale float64 // its points times this are ours; 0 is 1
}

// Milter is one milter and its use.
type Milter struct {
	*milter.Client
	Use
}

// Hook is the HTTP hook and its use.
type Hook struct {
	*hook.Client
	Use
}

// SetApart is a copy that goes into the junk folder or the quarantine.
type SetApart struct {
	Local   int // index into post.Delivery.Locals
	Rule    string
	Score   float64
	Subject reputation.Subject // what is proven of who sent it
}

// Hooks are called as things happen; nil ones are not. They must return at once.
type Hooks struct {
	// Decided is called for each recipient, or once for a message that was refused.
	Decided func(outgoing bool, action verdict.Action)
	// Judged is called for each message with how long it took behind its end.
	Judged func(took time.Duration)
	// Found is called for each piece of evidence.
	Found func(name verdict.Name)
	// Verified is called for each incoming message that was verified, accepted or not, with the
	// mildest action that any recipient took.
	Verified func(ctx context.Context, env *envelope.Envelope, r *verify.Report, action verdict.Action)
	// Arriving is called for each incoming message that is about to be accepted, of size octets in
	// m, with what it carries, as for reports; proven is the domain in From if it is proven. What it
	// returns, unless nil, is called once the message is durable; m can't be read any more then.
	Arriving func(ctx context.Context, m io.ReaderAt, size int64, c *content.Content, proven address.Domain) func()
}

// Filter is the filter. Safe for concurrent use.
type Filter struct {
	c        Config
	refusals refusals
}

// defaultTimeout bounds the evidence of a message.
const defaultTimeout = 2 * time.Minute

// looksIn reports whether anything is asked about mail that comes in.
func (c *Config) looksIn() bool {
	if c.Verifier != nil || !c.NoScore || c.Attachments != nil || c.Clamd != nil && c.Clamd.Incoming || c.Rspamd != nil && c.Rspamd.Incoming || c.Hook != nil && c.Hook.Incoming {
		return true
	}
	return slices.ContainsFunc(c.Milters, func(m Milter) bool { return m.Incoming })
}

// New checks the configuration and fills in defaults.
func New(c Config) (*Filter, error) {
	if c.Hostname.IsZero() {
		return nil, errors.New("filter: Hostname is required")
	}
	if c.Settings.Thresholds == (verdict.Thresholds{}) {
		c.Settings.Thresholds = verdict.DefaultThresholds()
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := newRefusals()
	if err != nil {
		return nil, err
	}
	return &Filter{c: c, refusals: r}, nil
}
