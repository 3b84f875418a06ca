package dmarcreport

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/feedback"
	"poczta.example/poczta/internal/mime"
)

// Errors of Take; test with errors.Is. Any other but ErrNotReport is the database's, and temporary.
var (
	ErrNotReport = feedback.ErrFormat                                    // nor does it look like one
	ErrTooLarge  = feedback.ErrTooLarge                                  // packed or unpacked
	ErrNotOurs   = errors.New("the report is about a domain of others")  // nothing is kept
	ErrDuplicate = errors.New("the report was received before")          // by its reporter, organization, id and domain
	ErrTooMany   = errors.New("too many reports about the domain today") // nothing is kept
)

// Message is a message that may carry a report.
type Message struct {
	Body io.ReaderAt // where Root's offsets count
	Root *mime.Part
	// From is the domain of the From field if DMARC proves it; zero: nobody knows who reports. Then
	// little of the report is kept.
	From     address.Domain
	Received time.Time
}

// Taken says what Take kept.
type Taken struct {
	Kind   string // "aggregate" or "failure"
	ID     string // of List and Show
	Domain string
}

// Take keeps the report that a message carries, if it is about a domain of ours. What it says is
// what the reporter says: nothing is believed but who that is. It is durable on return.
func (r *Reports) Take(ctx context.Context, m Message) (Taken, error) {
	if r.cfg.Own == nil {
		return Taken{}, errors.New("dmarcreport: Own is needed to take reports")
	}
	var a *feedback.Aggregate
	var f *feedback.Failure
	err := feedback.Find(m.Body, m.Root, r.cfg.Limits, func(kind feedback.Kind, in io.Reader) (err error) {
		switch kind {
		case feedback.XML:
			a, err = feedback.ReadXML(in, r.cfg.Limits)
		case feedback.Fields:
			f, err = feedback.ReadFailure(in)
		case feedback.Text:
			f, err = feedback.ReadPlainFailure(in)
		default:
			err = ErrNotReport
		}
		return err
	})
	var t Taken
	switch {
	case err != nil:
		return Taken{}, err
	case a != nil:
		t, err = r.keep(ctx, m, a)
	default:
		t, err = r.keepFailure(ctx, m, f)
	}
	if err == nil && r.cfg.Hooks.Received != nil {
		r.cfg.Hooks.Received(t.Kind)
	}
	return t, err
}

// own checks that a domain is ours.
func (r *Reports) own(ctx context.Context, name string) (address.Domain, error) {
	d, err := address.ParseDomain(name)
	if err != nil {
		return address.Domain{}, ErrNotOurs
	}
	ok, err := r.cfg.Own(ctx, d)
	if err != nil {
		return address.Domain{}, err
	}
	if !ok {
		return address.Domain{}, ErrNotOurs
	}
	return d, nil
}

// identity names a report by all that tells it from others.
func identity(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:12])
}

// keep stores an aggregate report: its records first, in pieces, then the row that makes them count.
func (r *Reports) keep(ctx context.Context, m Message, a *feedback.Aggregate) (Taken, error) {
	domain, err := r.own(ctx, a.Policy.Domain)
	if err != nil {
		return Taken{}, err
	}
	begin := fmt.Sprint(a.Begin.Unix())
	t := Taken{Kind: "aggregate", Domain: domain.String(), ID: identity(m.From.String(), a.Organization, a.ID, domain.String(), begin)}
	most := maxKept
	if m.From.IsZero() {
		most = maxUnproven
	}
	all, passed := a.Messages()
	var omitted int64 = a.Omitted
	for _, rec := range a.Records[min(len(a.Records), most):] {
		omitted += rec.Count
	}
	records := a.Records[:min(len(a.Records), most)]
	policy, err := json.Marshal(a.Policy)
	if err != nil {
		return Taken{}, err
	}
	day := Day(m.Received)
	if err := r.room(ctx, day, domain.String(), m.From.String(), t.ID); err != nil {
		return Taken{}, err
	}
	for at := 0; at < len(records); at += batchRows {
		piece := records[at:min(at+batchRows, len(records))]
		if err := r.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error { return writeRecords(tx, t, day, at, piece) }); err != nil {
			return Taken{}, err
		}
	}
	err = r.cfg.DB.Update(ctx, func(tx db.Tx) error {
		n, err := tx.Exec(`INSERT INTO dmarc_received (id, day, domain, organization, reporter, email, report_id, begins, ends, received, policy, messages, passed, omitted, damaged)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
			t.ID, day, t.Domain, db.Text(a.Organization), m.From.String(), db.Text(a.Email), db.Text(a.ID), db.Micros(a.Begin), db.Micros(a.End), db.Micros(m.Received), db.Text(string(policy)),
			all, passed, omitted, db.Text(a.Damaged))
		if err == nil && n == 0 {
			return ErrDuplicate
		}
		return err
	})
	return t, err
}

// writeRecords writes some records of a report. Two nodes that have the same report write the same.
func writeRecords(tx db.Tx, t Taken, day int64, at int, records []feedback.Record) error {
	for i, rec := range records {
		text, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		source, passed := "", int64(0)
		if rec.Source.IsValid() {
			source = rec.Source.String()
		}
		if rec.Passed() {
			passed = rec.Count
		}
		_, err = tx.Exec("INSERT INTO dmarc_received_row (id, n, day, domain, source, messages, passed, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id, n) DO NOTHING",
			t.ID, int64(at+i), day, t.Domain, source, rec.Count, passed, db.Text(string(text)))
		if err != nil {
			return err
		}
	}
	return nil
}

// room says whether another report about a domain may be kept.
func (r *Reports) room(ctx context.Context, day int64, domain, reporter, id string) error {
	return r.cfg.DB.View(ctx, func(tx db.Tx) error {
		var known, all, theirs int64
		if err := tx.QueryRow("SELECT COUNT(*) FROM dmarc_received WHERE id = ?", id).Scan(&known); err != nil {
			return err
		}
		if known > 0 {
			return ErrDuplicate
		}
		err := tx.QueryRow("SELECT COUNT(*), COALESCE(SUM(CASE WHEN reporter = ? THEN 1 ELSE 0 END), 0) FROM dmarc_received WHERE day = ? AND domain = ?", reporter, day, domain).Scan(&all, &theirs)
		if err != nil {
			return err
		}
		if all >= maxPerDay || theirs >= maxPerHost {
			return ErrTooMany
		}
		return nil
	})
}

// keepFailure stores a failure report: of the message itself, nothing.
func (r *Reports) keepFailure(ctx context.Context, m Message, f *feedback.Failure) (Taken, error) {
	var domain address.Domain
	err := ErrNotOurs
	for _, name := range f.Domains {
		if domain, err = r.own(ctx, name); !errors.Is(err, ErrNotOurs) {
			break
		}
	}
	if err != nil {
		return Taken{}, err
	}
	source := ""
	if f.Source.IsValid() {
		source = f.Source.String()
	}
	day := Day(m.Received)
	t := Taken{Kind: "failure", Domain: domain.String(), ID: identity(m.From.String(), domain.String(), source, f.Type, f.Failure, fmt.Sprint(f.Arrived.Unix()), f.EnvelopeID)}
	err = r.cfg.DB.Update(ctx, func(tx db.Tx) error {
		var all int64
		if err := tx.QueryRow("SELECT COUNT(*) FROM dmarc_failure WHERE day = ? AND domain = ?", day, t.Domain).Scan(&all); err != nil {
			return err
		}
		if all >= maxFailures {
			return ErrTooMany
		}
		n, err := tx.Exec(`INSERT INTO dmarc_failure (id, day, domain, source, type, failure, arrived, received, reporter, incidents) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
			t.ID, day, t.Domain, source, db.Text(f.Type), db.Text(f.Failure), db.Micros(f.Arrived), db.Micros(m.Received), m.From.String(), f.Incidents)
		if err == nil && n == 0 {
			return ErrDuplicate
		}
		return err
	})
	return t, err
}
