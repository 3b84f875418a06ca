// Package dmarcreport tells domains once a day what mail in their name came to here, if
// their DMARC records ask for it (RFC 9990), and keeps what others tell about ours.
//
// Note counts in memory, Run writes the counts and sends the reports of the day before. Take
// reads a report that came by mail.
package dmarcreport

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/feedback"
	"poczta.example/poczta/internal/post"
)

// Policies finds records and the places for reports; *dmarc.Evaluator is one.
type Policies interface {
	Record(ctx context.Context, d address.Domain) (*dmarc.Record, error)
	Destination(ctx context.Context, policyDomain address.Domain, u dmarc.URI) ([]dmarc.URI, error)
	Mode() dmarc.Mode
}

// Router says where mail for a forward-path goes; *account.Accounts is one.
type Router interface {
	Route(ctx context.Context, to address.ForwardPath) (account.Route, error)
}

// Hooks are called as things happen; nil ones are not. They must not block.
type Hooks struct {
	Sent     func()            // a report was sent
	Received func(kind string) // a report about us was kept: "aggregate" or "failure"
	Dropped  func()            // a message was not counted: too many sorts of messages today
}

// Config is what Reports need. DB is required; Policies, Accepter, Router, Sign and From too unless NoSending is
// set, and Own for Take.
type Config struct {
	DB       db.Database
	Policies Policies
	Accepter post.Accepter
	Router   Router
	// From is the sender of reports and their contact. Its domain must have a DKIM key.
	From address.Address
	// Sign returns the DKIM-Signature fields of a message, with CRLF; none if the domain has
	// no key: then no report goes, since nobody would read it (RFC 7489 §7.2.1.1).
	Sign func(ctx context.Context, domain address.Domain, msg []byte) ([]byte, error)
	// Own reports whether a domain, or one above it, is ours.
	Own func(ctx context.Context, domain address.Domain) (bool, error)

	NoSending    bool            // neither counts nor sends; Take works
	Organization string          // who reports; "" is From's domain
	Delay        time.Duration   // reports of a day begin so long after its end; 0 is random, 30 min to 4 h
	Keep         time.Duration   // received reports are kept so long; 0 is 90 days
	Limits       feedback.Limits // of received reports
	Now          func() time.Time
	Random       io.Reader // nil is crypto/rand
	Hooks        Hooks
	Logger       *slog.Logger // nil discards
}

// Bounds.
const (
	flushEvery  = 30 * time.Second // what was noted since is lost in a crash
	batchRows   = 250              // of one transaction
	maxPending  = 5_000            // sorts of messages that wait to be written
	maxSorts    = 100_000          // sorts of messages of one day that this node tells apart
	maxDomain   = 5_000            // of one domain
	maxRecords  = 10_000           // of one report that we send
	keepCounts  = 8 * 24 * time.Hour
	missedDays  = 3     // reports of older days are of no use any more
	maxKept     = 5_000 // records of one received report
	maxUnproven = 100   // of one from nobody knows whom
	maxPerDay   = 500   // received reports about one domain in a day
	maxPerHost  = 50    // of them from one reporter
	maxFailures = 1_000 // failure reports about one domain in a day
)

// Reports counts, sends and keeps reports. Safe for concurrent use; several nodes may each have one.
type Reports struct {
	cfg Config

	mu      sync.Mutex
	counts  map[key]*tally
	sorts   map[digest]struct{} // of day
	domains map[string]int      // sorts by domain
	day     int64
	kick    chan struct{}
}

// New makes Reports.
func New(c Config) (*Reports, error) {
	if c.DB == nil {
		return nil, errors.New("dmarcreport: DB is needed")
	}
	if !c.NoSending {
		if c.Policies == nil || c.Accepter == nil || c.Router == nil || c.Sign == nil {
			return nil, errors.New("dmarcreport: Policies, Accepter, Router and Sign are needed to send reports")
		}
		if c.From.IsZero() || !c.From.IsASCII() {
			return nil, fmt.Errorf("dmarcreport: the sender of reports %q must be an ASCII address", c.From)
		}
		if c.Organization == "" {
			c.Organization = c.From.Domain().String()
		}
	}
	if c.Keep <= 0 {
		c.Keep = 90 * 24 * time.Hour
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
	if c.Delay <= 0 {
		var b [1]byte
		if _, err := io.ReadFull(c.Random, b[:]); err != nil {
			return nil, err
		}
		c.Delay = 30*time.Minute + time.Duration(b[0])*210*time.Minute/255
	}
	return &Reports{cfg: c, counts: map[key]*tally{}, sorts: map[digest]struct{}{}, domains: map[string]int{}, kick: make(chan struct{}, 1)}, nil
}

// Day is the number of a time's UTC day since 1970, as reports count them.
func Day(t time.Time) int64 { return t.Unix() / 86400 }

// Run writes what Note has noted, sends each day's reports after its end, and drops what is
// old, until ctx ends; then it writes once more. Reports that can't be sent are tried again each
// hour until the next day ends.
func (r *Reports) Run(ctx context.Context) error {
	write, hourly := time.NewTicker(flushEvery), time.NewTicker(time.Hour)
	defer write.Stop()
	defer hourly.Stop()
	sending := make(chan struct{}, 1) // takes minutes: the counts don't wait for it
	var wg sync.WaitGroup
	defer wg.Wait()
	begin := func() {
		select {
		case sending <- struct{}{}:
			wg.Go(func() {
				r.daily(ctx)
				<-sending
			})
		default:
		}
	}
	begin()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return r.Flush(last)
		case <-write.C:
			r.complain(ctx, "DMARC counts could not be kept", r.Flush(ctx))
		case <-r.kick:
			r.complain(ctx, "DMARC counts could not be kept", r.Flush(ctx))
		case <-hourly.C:
			begin()
		}
	}
}

// daily sends what is due, also of days on which no process ran to send it, and drops what is old.
func (r *Reports) daily(ctx context.Context) {
	now := r.cfg.Now().UTC()
	last := Day(now) - 1
	if now.Sub(now.Truncate(24*time.Hour)) < r.cfg.Delay {
		last--
	}
	for day := Day(now) - missedDays; !r.cfg.NoSending && day <= last; day++ {
		sent, err := r.Send(ctx, day)
		r.complain(ctx, "DMARC reports could not all be sent", err, "sent", sent)
	}
	r.complain(ctx, "old DMARC reports could not be removed", r.Expire(ctx))
}

func (r *Reports) complain(ctx context.Context, what string, err error, args ...any) {
	if err != nil && ctx.Err() == nil {
		r.cfg.Logger.Warn(what, append(args, "error", err)...)
	}
}

// Expire drops counts and received reports that are too old.
func (r *Reports) Expire(ctx context.Context) error {
	now := r.cfg.Now()
	counts, kept := Day(now.Add(-keepCounts)), Day(now.Add(-r.cfg.Keep))
	for _, q := range []struct {
		table, key string
		bound      int64
	}{
		{"dmarc_count", "day, domain, hash", counts},
		{"dmarc_reported", "day, domain", counts},
		{"dmarc_received", "id", kept},
		{"dmarc_received_row", "id, n", kept},
		{"dmarc_failure", "id", kept},
	} {
		if err := db.DropWhere(ctx, r.cfg.DB, q.table, q.key, "day < ?", q.bound); err != nil {
			return err
		}
	}
	return nil
}
