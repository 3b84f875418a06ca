package dmarcreport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/feedback"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/post"
)

var (
	// errReported: somebody else has sent the report.
	errReported = errors.New("this day was reported to the domain before")
	// errUnsigned: nobody reads a report without a signature (RFC 7489 §7.2.1.1).
	errUnsigned = errors.New("the sender's domain has no DKIM key; make one with `poczta domain rotate`")
)

// pause between reports, so that they don't come as a wave.
const pause = 200 * time.Millisecond

// maxDestinations bounds the places of one report.
const maxDestinations = dmarc.MaxURIs

// Send sends a day's reports, to each domain that asks for one and has none yet. It returns
// how many went, and the last reason why one could not go, which is no reason not to
// send the others. Several nodes may send at once: each report goes once.
func (r *Reports) Send(ctx context.Context, day int64) (sent int, failed error) {
	for after := ""; ; {
		domains, err := r.unreported(ctx, day, after)
		if err != nil || len(domains) == 0 {
			return sent, errors.Join(failed, err)
		}
		for _, d := range domains {
			ok, err := r.report(ctx, day, d)
			if err != nil {
				failed = fmt.Errorf("report to %s: %w", d, err)
			}
			after = d.String()
			if !ok {
				continue
			}
			sent++
			if r.cfg.Hooks.Sent != nil {
				r.cfg.Hooks.Sent()
			}
			select {
			case <-ctx.Done():
				return sent, ctx.Err()
			case <-time.After(pause):
			}
		}
	}
}

// unreported are domains with messages on a day that was not reported yet, behind after.
func (r *Reports) unreported(ctx context.Context, day int64, after string) (out []address.Domain, err error) {
	err = r.cfg.DB.View(ctx, func(tx db.Tx) error {
		out = nil
		rows, err := tx.Query(`SELECT DISTINCT domain FROM dmarc_count c WHERE day = ? AND domain > ?
			AND NOT EXISTS (SELECT 1 FROM dmarc_reported r WHERE r.day = c.day AND r.domain = c.domain) ORDER BY domain LIMIT 100`, day, after)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			d, err := address.ParseDomain(name)
			if err != nil {
				return fmt.Errorf("row of dmarc_count: %w", err)
			}
			out = append(out, d)
		}
		return rows.Err()
	})
	return out, err
}

// report sends one domain its report. A domain that asks for none any more is marked as done.
func (r *Reports) report(ctx context.Context, day int64, domain address.Domain) (sent bool, err error) {
	rec, uris, err := r.destinations(ctx, domain)
	if err != nil {
		return false, err
	}
	if len(uris) == 0 {
		return false, r.mark(ctx, day, domain)
	}
	a, err := r.aggregate(ctx, day, published(domain, rec, r.cfg.Policies.Mode()))
	if err != nil {
		return false, err
	}
	id, err := message.NewID(r.cfg.Now(), r.cfg.Random)
	if err != nil {
		return false, err
	}
	a.ID = id.String() + "@" + r.cfg.From.Domain().String()
	file, err := a.Gzip()
	if err != nil {
		return false, err
	}
	var to []address.Address
	for _, u := range uris {
		if u.Max == 0 || int64(len(file)+2)/3*4 <= u.Max { // as base64 (RFC 7489 §7.2.1)
			to = append(to, u.Address)
		}
	}
	if len(to) == 0 {
		return false, r.mark(ctx, day, domain)
	}
	err = r.mail(ctx, letter{day: day, domain: domain, id: id, report: a, file: file, to: to})
	if errors.Is(err, errReported) {
		return false, nil
	}
	return err == nil, err
}

// destinations are the places that a domain's record names now and that agree; none is no error. The
// error says that it may be other ones later.
func (r *Reports) destinations(ctx context.Context, domain address.Domain) (*dmarc.Record, []dmarc.URI, error) {
	rec, err := r.cfg.Policies.Record(ctx, domain)
	if errors.Is(err, dmarc.ErrNoRecord) || errors.Is(err, dmarc.ErrMany) || errors.Is(err, dmarc.ErrSyntax) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var out []dmarc.URI
	var failed error
	seen := map[string]bool{}
	for _, u := range rec.Aggregate {
		uris, err := r.cfg.Policies.Destination(ctx, domain, u)
		switch {
		case errors.Is(err, dmarc.ErrUnauthorized), errors.Is(err, dmarc.ErrScheme):
			r.cfg.Logger.Debug("DMARC report does not go to a place", "domain", domain.String(), "place", u.Text, "reason", err)
		case err != nil:
			failed = err
		}
		for _, u := range uris {
			if a := u.Address; a.IsASCII() && !seen[a.String()] && len(out) < maxDestinations {
				seen[a.String()] = true
				out = append(out, u)
			}
		}
	}
	if len(out) > 0 {
		return rec, out, nil
	}
	return rec, nil, failed
}

func (r *Reports) mark(ctx context.Context, day int64, domain address.Domain) error {
	err := r.cfg.DB.Update(ctx, func(tx db.Tx) error { return r.markIn(tx, day, domain) })
	if errors.Is(err, errReported) {
		return nil
	}
	return err
}

func (r *Reports) markIn(tx db.Tx, day int64, domain address.Domain) error {
	n, err := tx.Exec("INSERT INTO dmarc_reported (day, domain, at) VALUES (?, ?, ?) ON CONFLICT (day, domain) DO NOTHING",
		day, domain.String(), db.Micros(r.cfg.Now()))
	if err == nil && n == 0 {
		return errReported
	}
	return err
}

// aggregate makes the report of a day, the commonest sorts of messages first. Had the policy changed within
// the day, the present one is shown, if messages were seen under it (RFC 9990), else the one with the most.
func (r *Reports) aggregate(ctx context.Context, day int64, now feedback.Published) (*feedback.Aggregate, error) {
	begin := time.Unix(day*86400, 0).UTC()
	a := &feedback.Aggregate{
		Organization: r.cfg.Organization, Email: r.cfg.From.String(), Begin: begin, End: begin.Add(24*time.Hour - time.Second),
		Generator: "Poczta", Legacy: r.cfg.Policies.Mode() == dmarc.RFC7489,
	}
	policies := map[feedback.Published]int64{}
	for after, more := (sort{messages: math.MaxInt64}), true; more; {
		page, err := r.sorted(ctx, day, now.Domain, after)
		if err != nil {
			return nil, err
		}
		page = page[:min(len(page), maxRecords-len(a.Records))]
		for _, row := range page {
			var d detail
			if err := json.Unmarshal([]byte(row.detail), &d); err != nil {
				return nil, fmt.Errorf("row of dmarc_count: %w", err)
			}
			d.Record.Count = row.messages
			policies[d.Policy] += row.messages
			if policies[d.Policy] > policies[a.Policy] || a.Policy.Domain == "" {
				a.Policy = d.Policy
			}
			a.Records = append(a.Records, d.Record)
			after = row
		}
		more = len(page) == pageRows
	}
	if policies[now] > 0 {
		a.Policy = now
	}
	return a, nil
}

// sort is a row of dmarc_count.
type sort struct {
	messages     int64
	hash, detail string
}

// sorted reads one page of a day's sorts of messages behind another one, the commonest first.
func (r *Reports) sorted(ctx context.Context, day int64, domain string, after sort) (out []sort, err error) {
	err = r.cfg.DB.View(ctx, func(tx db.Tx) error {
		out = nil
		rows, err := tx.Query(`SELECT messages, hash, detail FROM dmarc_count WHERE day = ? AND domain = ? AND (messages < ? OR messages = ? AND hash > ?)
			ORDER BY messages DESC, hash LIMIT ?`, day, domain, after.messages, after.messages, after.hash, int64(pageRows))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var s sort
			if err := rows.Scan(&s.messages, &s.hash, &s.detail); err != nil {
				return err
			}
			out = append(out, s)
		}
		return rows.Err()
	})
	return out, err
}

// letter is a report on its way into the mail.
type letter struct {
	day    int64
	domain address.Domain
	id     message.ID
	report *feedback.Aggregate
	file   []byte
	to     []address.Address
}

// mail sends the report. That it was sent is noted in the transaction that accepts it.
func (r *Reports) mail(ctx context.Context, l letter) error {
	msg := l.report.Message(feedback.Mail{From: r.cfg.From, To: l.to, MessageID: message.NewMessageID(l.id, r.cfg.From.Domain()), Date: r.cfg.Now()}, l.file)
	d, err := r.delivery(ctx, l)
	if err != nil {
		return err
	}
	if d.Head, err = r.cfg.Sign(ctx, r.cfg.From.Domain(), msg); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	if len(d.Head) == 0 {
		return errUnsigned
	}
	if d.Staged, err = r.cfg.Accepter.Stage(ctx, int64(len(msg))); err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	defer d.Staged.Discard()
	if _, err := d.Staged.Write(msg); err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	return r.cfg.Accepter.Accept(ctx, d)
}

// delivery is the report's way: NOTIFY=NEVER, since nobody waits for news of a report.
func (r *Reports) delivery(ctx context.Context, l letter) (*post.Delivery, error) {
	d := &post.Delivery{
		ID: l.id, MessageID: message.NewMessageID(l.id, r.cfg.From.Domain()), Ours: true,
		Envelope: envelope.Envelope{
			ReversePath: address.NewReversePath(r.cfg.From), Body: envelope.Body7Bit,
			Origin: envelope.Origin{Protocol: "local", Time: r.cfg.Now()},
		},
		Within: func(tx db.Tx) error { return r.markIn(tx, l.day, l.domain) },
	}
	var failed error
	for _, to := range l.to {
		if err := r.route(ctx, d, to); err != nil {
			failed = fmt.Errorf("route: %w", err)
		}
	}
	if len(d.Envelope.Recipients) == 0 {
		return nil, failed
	}
	return d, nil
}

// route adds a recipient.
func (r *Reports) route(ctx context.Context, d *post.Delivery, to address.Address) error {
	path, i := address.NewForwardPath(to), len(d.Envelope.Recipients)
	route, err := r.cfg.Router.Route(ctx, path)
	switch {
	case errors.Is(err, account.ErrNotLocal):
		d.Remotes = append(d.Remotes, post.Remote{Recipient: i, ForwardPath: path})
	case err != nil:
		return err
	}
	d.Envelope.Recipients = append(d.Envelope.Recipients, envelope.Recipient{ForwardPath: path, Notify: envelope.NotifyNever})
	for _, x := range route.Locals {
		if j := slices.IndexFunc(d.Locals, func(l post.Local) bool { return l.Account == x.Account }); j >= 0 {
			d.Locals[j].Recipients = append(d.Locals[j].Recipients, i)
			continue
		}
		d.Locals = append(d.Locals, post.Local{
			Recipients: []int{i}, Account: x.Account, Login: x.Login, Prefix: message.AppendPrefix(nil, d.Envelope.ReversePath, to),
		})
	}
	for _, a := range route.Remotes {
		d.Remotes = append(d.Remotes, post.Remote{Recipient: i, ForwardPath: address.NewForwardPath(a), Forward: to.String(), ReversePath: d.Envelope.ReversePath, Notify: envelope.NotifyNever})
	}
	return nil
}
