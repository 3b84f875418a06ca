package tlsreport

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/feedback"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/tlsrpt"
)

// Schema is the tables of received reports: a row for each of our domains that a report is about;
// detail is the policies' results in JSON.
var Schema = db.Component{Name: "tlsreport", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE tls_received (
	id {text} NOT NULL PRIMARY KEY, day {int} NOT NULL, domain {text} NOT NULL, organization {text} NOT NULL, reporter {text} NOT NULL, contact {text} NOT NULL,
	report_id {text} NOT NULL, begins {int} NOT NULL, ends {int} NOT NULL, received {int} NOT NULL, successes {int} NOT NULL, failures {int} NOT NULL, detail {text} NOT NULL) {rowid};
CREATE INDEX tls_received_day ON tls_received (day, domain);
CREATE INDEX tls_received_domain ON tls_received (domain, ends, id)`}}}

// Errors of Take; test with errors.Is. Any other but ErrNotReport is the database's, and temporary.
var (
	ErrNotReport = errors.New("not a TLS report that we can read")
	ErrNotOurs   = errors.New("the report is about domains of others")   // nothing is kept
	ErrDuplicate = errors.New("the report was received before")          // by its reporter, organization, id and domain
	ErrTooMany   = errors.New("too many reports about the domain today") // nothing is kept
	ErrNotFound  = errors.New("no such report; `poczta domain reports` lists them")
)

// ReceiverConfig is what a Receiver needs. DB and Own are required.
type ReceiverConfig struct {
	DB db.Database
	// Own reports whether a domain, or one above it, is ours.
	Own  func(ctx context.Context, domain address.Domain) (bool, error)
	Keep time.Duration // reports are kept so long; 0 is 90 days
	// Posts is how many reports a network may bring by HTTPS; zero is 60 an hour.
	Posts  limit.Rate
	Taken  func() // a hook, called for each report that was kept; may be nil
	Now    func() time.Time
	Logger *slog.Logger // nil discards
}

// Receiver keeps what others report about TLS with our hosts. Safe for concurrent use.
type Receiver struct {
	cfg   ReceiverConfig
	posts chan struct{} // places for reports by HTTPS that are being read
	peers *limit.Buckets[netip.Prefix]
}

// Bounds.
const (
	maxFile     = 2 << 20 // octets of a file as sent
	maxJSON     = 8 << 20 // unpacked
	maxPolicies = 20      // of one domain that are kept
	maxDetail   = 200     // failures under them
	maxUnproven = 20      // of a report from nobody knows whom
	maxDomains  = 20      // of one report
	maxPerDay   = 500     // reports about one domain in a day
	maxPerHost  = 50      // of them from one reporter
	maxPosts    = 4       // at once
	maxPeers    = 10_000  // networks whose reports by HTTPS are counted
)

// NewReceiver makes a Receiver.
func NewReceiver(c ReceiverConfig) (*Receiver, error) {
	if c.DB == nil || c.Own == nil {
		return nil, errors.New("tlsreport: DB and Own are needed to take reports")
	}
	if c.Keep <= 0 {
		c.Keep = 90 * 24 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Posts.IsZero() {
		c.Posts = limit.PerHour(60)
	}
	peers, err := limit.NewBuckets[netip.Prefix](c.Posts, maxPeers)
	if err != nil {
		return nil, fmt.Errorf("tlsreport: Posts: %w", err)
	}
	return &Receiver{cfg: c, posts: make(chan struct{}, maxPosts), peers: peers}, nil
}

// Message is a message that may carry a report.
type Message struct {
	Body io.ReaderAt // where Root's offsets count
	Root *mime.Part
	// From is the domain of the From field if DMARC proves it, or a DKIM signature with the service
	// type of reports (RFC 8460 §3); zero: nobody knows who reports. Then little is kept.
	From address.Domain
}

// Take keeps the report that a message carries, as far as it is about domains of ours. What it says
// is what the reporter says: nothing is believed but who that is. It is durable on return.
func (r *Receiver) Take(ctx context.Context, m Message) error {
	var rep tlsrpt.Report
	err := feedback.Find(m.Body, m.Root, feedback.Limits{Packed: maxFile, Unpacked: maxJSON}, func(kind feedback.Kind, in io.Reader) (err error) {
		if kind != feedback.JSON {
			return ErrNotReport
		}
		rep, err = tlsrpt.ReadReport(in)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotReport, err)
	}
	return r.keep(ctx, rep, m.From)
}

// keep stores a report, domain by domain.
func (r *Receiver) keep(ctx context.Context, rep tlsrpt.Report, from address.Domain) error {
	byDomain := map[string][]tlsrpt.PolicyResult{}
	var names []string
	for _, p := range rep.Policies {
		d, err := address.ParseDomain(p.Policy.Domain)
		if err != nil {
			continue
		}
		name := d.String()
		if _, known := byDomain[name]; !known {
			if len(names) == maxDomains {
				continue
			}
			names = append(names, name)
		}
		byDomain[name] = append(byDomain[name], p)
	}
	kept, result := 0, ErrNotOurs
	for _, name := range names {
		err := r.keepDomain(ctx, rep, from, name, byDomain[name])
		switch {
		case err == nil:
			kept++
		case errors.Is(err, ErrNotOurs):
		case errors.Is(err, ErrDuplicate), errors.Is(err, ErrTooMany):
			result = err
		default:
			return err
		}
	}
	if kept == 0 {
		return result
	}
	if r.cfg.Taken != nil {
		r.cfg.Taken()
	}
	return nil
}

func (r *Receiver) keepDomain(ctx context.Context, rep tlsrpt.Report, from address.Domain, name string, policies []tlsrpt.PolicyResult) error {
	domain, err := address.ParseDomain(name)
	if err != nil {
		return ErrNotOurs
	}
	if ok, err := r.cfg.Own(ctx, domain); err != nil {
		return err
	} else if !ok {
		return ErrNotOurs
	}
	var good, bad int64
	most := maxDetail
	if from.IsZero() {
		most = maxUnproven
	}
	for i := range policies {
		good, bad = good+policies[i].Summary.Success, bad+policies[i].Summary.Failure
		policies[i].Failures = policies[i].Failures[:min(len(policies[i].Failures), most)]
		most -= len(policies[i].Failures)
	}
	detail, err := json.Marshal(policies[:min(len(policies), maxPolicies)])
	if err != nil {
		return err
	}
	now := r.cfg.Now()
	day := now.Unix() / 86400
	begin := db.Micros(rep.Range.Start)
	sum := sha256.Sum256([]byte(strings.Join([]string{from.String(), rep.Organization, rep.ID, name, fmt.Sprint(begin)}, "\n")))
	return r.cfg.DB.Update(ctx, func(tx db.Tx) error {
		var all, theirs int64
		err := tx.QueryRow("SELECT COUNT(*), COALESCE(SUM(CASE WHEN reporter = ? THEN 1 ELSE 0 END), 0) FROM tls_received WHERE day = ? AND domain = ?", from.String(), day, name).Scan(&all, &theirs)
		if err != nil {
			return err
		}
		if all >= maxPerDay || theirs >= maxPerHost {
			return ErrTooMany
		}
		if known, err := replaces(tx, rep, from, name, begin); known || err != nil {
			return errors.Join(err, duplicateIf(known))
		}
		n, err := tx.Exec(`INSERT INTO tls_received (id, day, domain, organization, reporter, contact, report_id, begins, ends, received, successes, failures, detail)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
			hex.EncodeToString(sum[:12]), day, name, db.Text(rep.Organization), from.String(), db.Text(rep.Contact), db.Text(rep.ID), begin, db.Micros(rep.Range.End), db.Micros(now), good, bad, db.Text(string(detail)))
		if err == nil && n == 0 {
			return ErrDuplicate
		}
		return err
	})
}

// replaces makes one of the copies of a report that came by several ways (RFC 8460 §3): one whose
// reporter is proven takes the place of one that anybody may have written. known says that such a
// copy is there already.
func replaces(tx db.Tx, rep tlsrpt.Report, from address.Domain, name string, begin int64) (known bool, err error) {
	const same = "domain = ? AND begins = ? AND organization = ? AND report_id = ?"
	args := []any{name, begin, db.Text(rep.Organization), db.Text(rep.ID)}
	if !from.IsZero() {
		_, err = tx.Exec("DELETE FROM tls_received WHERE "+same+" AND reporter = ''", args...)
		return false, err
	}
	var n int64
	err = tx.QueryRow("SELECT COUNT(*) FROM tls_received WHERE "+same, args...).Scan(&n)
	return n > 0, err
}

func duplicateIf(known bool) error {
	if known {
		return ErrDuplicate
	}
	return nil
}

// Run drops old reports each hour until ctx ends.
func (r *Receiver) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := r.Expire(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("old TLS reports could not be removed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Expire drops old reports.
func (r *Receiver) Expire(ctx context.Context) error {
	return db.DropWhere(ctx, r.cfg.DB, "tls_received", "id", "day < ?", r.cfg.Now().Add(-r.cfg.Keep).Unix()/86400)
}
