// Package returned matches delivery reports that come in to the messages that they are
// about, so that the trace shows what happened behind the host that took them: a fate
// stays what it was, and an event tells what came back.
package returned

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dsn"
	"poczta.example/poczta/internal/forward"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/srs"
	"poczta.example/poczta/internal/trace"
)

// Kind is the kind of the trace's event.
const Kind = "returned"

// Limits of what reports, which anybody can write, make here.
const (
	maxEvents     = 20 // of one message
	maxRecipients = 20 // of one report that are looked at
	maxReceived   = 50 // fields of the returned header section
	maxSameID     = 10 // messages with one Message-ID
	maxIDs        = 5  // of the returned header section's Received fields
	searches      = 2  // by Message-ID or address at one time, which may take long; others are left out
	patience      = 5 * time.Second
)

// Trace finds messages and takes events; *trace.Trace is one.
type Trace interface {
	Find(ctx context.Context, v trace.Viewer, q trace.Query) ([]trace.Record, error)
	Events(ctx context.Context, v trace.Viewer, id message.ID) ([]trace.Event, error)
	Note(tx db.Tx, id message.ID, e trace.Event) error
}

// Forwards is told of failures of forwarded copies; *forward.Forwarding is one.
type Forwards interface {
	Returned(ctx context.Context, back forward.Return) error
}

// Config is what Returns need. DB, Trace and Hostname are required.
type Config struct {
	DB       db.Database
	Trace    Trace
	Hostname address.Domain // as in our Received fields
	// Separator parts subaddresses, as account.Config has it; "" is none.
	Separator string
	Forwards  Forwards // nil is told nothing
	Now       func() time.Time
	Logger    *slog.Logger // nil discards
}

// Returns implements intake.Returns. Safe for concurrent use.
type Returns struct {
	c    Config
	free chan struct{} // a token for each search that may begin
}

var _ intake.Returns = (*Returns)(nil)

// New checks the configuration; it does no I/O.
func New(c Config) (*Returns, error) {
	if c.DB == nil || c.Trace == nil || c.Hostname.IsZero() {
		return nil, errors.New("returned: DB, Trace and Hostname are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Returns{c: c, free: make(chan struct{}, searches)}
	for range searches {
		r.free <- struct{}{}
	}
	return r, nil
}

// Returned implements intake.Returns. What can't be matched is no event: the report lies
// in the mailbox. A failure to note it is logged, since the report was accepted already.
func (r *Returns) Returned(ctx context.Context, d *post.Delivery, report *dsn.Returned) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := r.note(ctx, d, report)
	if err != nil {
		r.c.Logger.Error("report that came back is not on the trace", "queue_id", d.ID.String(), "error", err)
	}
}

func (r *Returns) note(ctx context.Context, d *post.Delivery, report *dsn.Returned) error {
	record, own, err := r.find(ctx, d, report)
	if record == nil || err != nil {
		return err
	}
	before, err := r.c.Trace.Events(ctx, trace.Viewer{Operator: true}, record.ID)
	if err != nil {
		return fmt.Errorf("read events of message %s: %w", record.ID, err)
	}
	noted := known(before)
	var events []trace.Event
	for i := range report.Recipients[:min(len(report.Recipients), maxRecipients)] {
		x := &report.Recipients[i]
		n := own
		if n < 0 {
			n = fateOf(record, x)
		}
		e := trace.Event{At: r.c.Now(), N: n, Kind: Kind, Detail: detail(d, report, x)}
		if noted+len(events) >= maxEvents || slices.ContainsFunc(events, func(o trace.Event) bool { return o.N == n }) {
			continue
		}
		events = append(events, e)
		if err := r.forwarded(ctx, d, record, n, x); err != nil {
			return err
		}
	}
	if len(events) == 0 {
		return nil
	}
	err = r.c.DB.Update(ctx, func(tx db.Tx) error {
		for _, e := range events {
			if err := r.c.Trace.Note(tx, record.ID, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		r.c.Logger.Info("report about a message came back", "queue_id", record.ID.String(), "report_id", d.ID.String(), "status", report.Recipients[0].Status.String())
	}
	return err
}

// find returns the message that a report is about: by the envelope id, which is the
// queue-id where relay gave one, by the id in our own Received field of the returned header
// section, or by its Message-ID. It must have gone out under the
// reverse-path that the report came to, or under an SRS address in its place. A report
// that came to the reverse-path of one recipient is about that one, own, which is -1 else;
// it need not name the message.
func (r *Returns) find(ctx context.Context, d *post.Delivery, report *dsn.Returned) (m *trace.Record, own int, err error) {
	var queries []trace.Query
	if id, err := message.ParseID(report.EnvelopeID); err == nil {
		queries = append(queries, trace.Query{ID: id})
	}
	for _, id := range receivedIDs(report.Header, r.c.Hostname.String()) {
		queries = append(queries, trace.Query{ID: id})
	}
	if id, ok := message.Get(report.Header, "Message-ID"); ok && id != "" {
		queries = append(queries, trace.Query{MessageID: id, Limit: maxSameID})
	}
	for _, q := range queries {
		found, err := r.search(ctx, q)
		if err != nil && !errors.Is(err, trace.ErrNotFound) {
			return nil, -1, fmt.Errorf("look for the message that report %s is about: %w", d.ID, err)
		}
		for i := range found {
			own := ownFate(d, &found[i])
			if found[i].ID != d.ID && (own >= 0 || wentAs(d, &found[i])) {
				return &found[i], own, nil
			}
		}
	}
	return r.newest(ctx, d)
}

// search finds messages. A search by Message-ID or address looks through what is not indexed yet, so
// that few are made at one time; reports that come faster are not matched by it.
func (r *Returns) search(ctx context.Context, q trace.Query) ([]trace.Record, error) {
	if q.ID.IsZero() {
		select {
		case <-r.free:
			defer func() { r.free <- struct{}{} }()
		default:
			return nil, nil
		}
	}
	return r.c.Trace.Find(ctx, trace.Viewer{Operator: true}, q)
}

// wentAs reports whether a message's reverse-path is a recipient of the report.
func wentAs(d *post.Delivery, m *trace.Record) bool {
	from, err := address.Parse(m.ReversePath)
	if err != nil {
		return false
	}
	for i := range d.Envelope.Recipients {
		to := d.Envelope.Recipients[i].ForwardPath
		if to.Key() == from.Key() || !to.IsPostmaster() && srs.Is(to.Address()) {
			return true
		}
	}
	return false
}

// fateOf finds the recipient of a message that a report names, or the only one that went
// elsewhere; -1 is none.
func fateOf(m *trace.Record, x *dsn.ReturnedRecipient) int {
	away, count := -1, 0
	for i := range m.Fates {
		f := &m.Fates[i]
		if f.Account != 0 {
			continue
		}
		away = f.N
		count++
		for _, named := range []string{x.Final, x.Original} {
			if same(named, cmp.Or(f.Target, f.Recipient)) {
				return f.N
			}
		}
	}
	for i := range m.Fates {
		if f := &m.Fates[i]; f.Account == 0 && (same(x.Original, f.Recipient) || same(x.Final, f.Recipient)) {
			return f.N
		}
	}
	if count != 1 {
		return -1
	}
	return away
}

func same(a, b string) bool {
	x, err1 := address.Parse(a)
	y, err2 := address.Parse(b)
	return err1 == nil && err2 == nil && x.Key() == y.Key()
}

// detail is what the event says.
func detail(d *post.Delivery, report *dsn.Returned, x *dsn.ReturnedRecipient) string {
	words := []string{cmp.Or(string(x.Action), "report"), x.Status.String()}
	if mta := cmp.Or(x.RemoteMTA, report.ReportingMTA); mta != "" {
		words = append(words, "from "+mta)
	}
	out := strings.Join(words, " ")
	if x.Diagnostic != "" {
		out += ": " + x.Diagnostic
	}
	return out + " (report " + d.ID.String() + ")"
}

// forwarded tells of a forwarded copy that failed.
func (r *Returns) forwarded(ctx context.Context, d *post.Delivery, m *trace.Record, n int, x *dsn.ReturnedRecipient) error {
	if r.c.Forwards == nil || n < 0 || x.Action != dsn.Failed {
		return nil
	}
	for i := range d.Envelope.Recipients {
		to := d.Envelope.Recipients[i].ForwardPath
		if to.IsPostmaster() || !srs.Is(to.Address()) {
			continue
		}
		for k := range m.Fates {
			if f := &m.Fates[k]; f.N == n && f.Target != "" {
				return r.c.Forwards.Returned(ctx, forward.Return{To: to, Sender: m.ReversePath, Written: f.Recipient, Target: f.Target, Status: x.Status.String() + " " + x.Diagnostic})
			}
		}
	}
	return nil
}

// receivedIDs are the ids in the Received fields that host wrote.
func receivedIDs(header []byte, host string) (ids []message.ID) {
	looked := 0
	for f := range message.Fields(header) {
		if !f.Is("Received") {
			continue
		}
		if looked++; looked > maxReceived {
			break
		}
		by, id := clauses(f.Value())
		if !strings.EqualFold(by, host) {
			continue
		}
		if parsed, err := message.ParseID(id); err == nil && len(ids) < maxIDs {
			ids = append(ids, parsed)
		}
	}
	return ids
}

// clauses are the words behind by and id of a Received field's value, outside of comments.
func clauses(value string) (by, id string) {
	depth, last := 0, ""
	for word := range strings.FieldsSeq(value) {
		outside := depth == 0 && !strings.HasPrefix(word, "(")
		depth += strings.Count(word, "(") - strings.Count(word, ")")
		if !outside {
			continue
		}
		word = strings.TrimSuffix(word, ";")
		switch {
		case strings.EqualFold(last, "by") && by == "":
			by = word
		case strings.EqualFold(last, "id") && id == "":
			id = word
		}
		last = word
	}
	return by, id
}
