package dmarcreport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/feedback"
)

// ErrNotFound: there is no report with this id.
var ErrNotFound = errors.New("no such report; `poczta domain reports` lists them")

// Received is a report about a domain of ours.
type Received struct {
	ID           string             `json:"id"`
	Domain       string             `json:"domain"`
	Organization string             `json:"organization"` // as the reporter calls itself
	Reporter     string             `json:"reporter"`     // the domain that is proven to have sent it; "" when none is
	Email        string             `json:"email"`
	ReportID     string             `json:"report_id"`
	Begin        time.Time          `json:"begin"`
	End          time.Time          `json:"end"`
	Received     time.Time          `json:"received"`
	Policy       feedback.Published `json:"policy"`
	Messages     int64              `json:"messages"`
	Passed       int64              `json:"passed"`            // of them, DMARC
	Omitted      int64              `json:"omitted,omitempty"` // of them in records that were not kept
	Damaged      string             `json:"damaged,omitempty"` // why the report could not be read to its end
}

// Shown is a report with its records.
type Shown struct {
	Received
	Records []feedback.Record `json:"records"`
}

// Source is what reports say of a host that sends in a domain's name.
type Source struct {
	Address  string `json:"address"` // "" when reports could not name it
	Messages int64  `json:"messages"`
	Passed   int64  `json:"passed"`
	Reports  int64  `json:"reports"`
}

// Failure is a failure report.
type Failure struct {
	ID        string    `json:"id"`
	Domain    string    `json:"domain"`
	Source    string    `json:"source_ip"`
	Type      string    `json:"type"`
	Failure   string    `json:"auth_failure"`
	Arrived   time.Time `json:"arrived"`
	Received  time.Time `json:"received"`
	Reporter  string    `json:"reporter"`
	Incidents int64     `json:"incidents"`
}

// maxListed bounds a list.
const maxListed = 1000

const receivedColumns = "id, domain, organization, reporter, email, report_id, begins, ends, received, policy, messages, passed, omitted, damaged"

// List returns the reports about a domain ("": all of ours) whose time ended at since or later,
// the newest first; at most limit or 1,000.
func (r *Reports) List(ctx context.Context, domain string, since time.Time, limit int) (out []Received, err error) {
	if limit <= 0 || limit > maxListed {
		limit = maxListed
	}
	where, args := "ends >= ?", []any{db.Micros(since)}
	if domain != "" {
		where, args = "domain = ? AND "+where, append([]any{domain}, args...)
	}
	err = r.cfg.DB.View(ctx, func(tx db.Tx) error {
		out = []Received{}
		rows, err := tx.Query("SELECT "+receivedColumns+" FROM dmarc_received WHERE "+where+" ORDER BY ends DESC, id LIMIT ?", append(args, int64(limit))...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			x, err := scanReceived(rows)
			if err != nil {
				return err
			}
			out = append(out, x)
		}
		return rows.Err()
	})
	return out, err
}

func scanReceived(row db.Row) (Received, error) {
	var x Received
	var begin, end, received int64
	var policy string
	err := row.Scan(&x.ID, &x.Domain, &x.Organization, &x.Reporter, &x.Email, &x.ReportID, &begin, &end, &received, &policy, &x.Messages, &x.Passed, &x.Omitted, &x.Damaged)
	if err != nil {
		return Received{}, err
	}
	x.Begin, x.End, x.Received = db.FromMicros(begin), db.FromMicros(end), db.FromMicros(received)
	if err := json.Unmarshal([]byte(policy), &x.Policy); err != nil {
		return Received{}, fmt.Errorf("row of dmarc_received: %w", err)
	}
	return x, nil
}

// pageRows is how many records one read transaction gives: a long report is read in pages,
// and understood between them.
const pageRows = 500

// Show returns a report with its records as the reporter ordered them. ErrNotFound.
func (r *Reports) Show(ctx context.Context, id string) (out Shown, err error) {
	err = r.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
		out.Received, err = scanReceived(tx.QueryRow("SELECT "+receivedColumns+" FROM dmarc_received WHERE id = ?", id))
		if errors.Is(err, db.ErrNotFound) {
			return ErrNotFound
		}
		return err
	})
	if err != nil {
		return out, err
	}
	out.Records = []feedback.Record{}
	for after, more := int64(-1), true; more; {
		page, err := r.details(ctx, "SELECT n, detail FROM dmarc_received_row WHERE id = ? AND n > ? ORDER BY n LIMIT ?", id, after, int64(pageRows))
		if err != nil {
			return out, err
		}
		for _, p := range page {
			var rec feedback.Record
			if err := json.Unmarshal([]byte(p.text), &rec); err != nil {
				return out, fmt.Errorf("row of dmarc_received_row: %w", err)
			}
			out.Records = append(out.Records, rec)
			after = p.n
		}
		more = len(page) == pageRows
	}
	return out, nil
}

// counted is a detail, in JSON, with a number.
type counted struct {
	n    int64
	text string
}

// details reads one page of rows of a number and a detail.
func (r *Reports) details(ctx context.Context, query string, args ...any) (out []counted, err error) {
	err = r.cfg.DB.View(ctx, func(tx db.Tx) error {
		out = nil
		rows, err := tx.Query(query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c counted
			if err := rows.Scan(&c.n, &c.text); err != nil {
				return err
			}
			out = append(out, c)
		}
		return rows.Err()
	})
	return out, err
}

// Sources sums up by host what the reports about a domain say that were received since a day,
// those with the most messages first; at most limit or 1,000.
func (r *Reports) Sources(ctx context.Context, domain string, since time.Time, limit int) (out []Source, err error) {
	if limit <= 0 || limit > maxListed {
		limit = maxListed
	}
	err = r.cfg.DB.View(ctx, func(tx db.Tx) error {
		out = []Source{}
		rows, err := tx.Query(`SELECT w.source, SUM(w.messages), SUM(w.passed), COUNT(DISTINCT w.id) FROM dmarc_received_row w JOIN dmarc_received r ON r.id = w.id
			WHERE w.domain = ? AND w.day >= ? GROUP BY w.source ORDER BY 2 DESC, w.source LIMIT ?`, domain, Day(since), int64(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var s Source
			if err := rows.Scan(&s.Address, &s.Messages, &s.Passed, &s.Reports); err != nil {
				return err
			}
			out = append(out, s)
		}
		return rows.Err()
	})
	return out, err
}

// Failures returns the failure reports about a domain ("": all of ours) since a time, the newest
// first; at most limit or 1,000.
func (r *Reports) Failures(ctx context.Context, domain string, since time.Time, limit int) (out []Failure, err error) {
	if limit <= 0 || limit > maxListed {
		limit = maxListed
	}
	where, args := "received >= ?", []any{db.Micros(since)}
	if domain != "" {
		where, args = "domain = ? AND "+where, append([]any{domain}, args...)
	}
	err = r.cfg.DB.View(ctx, func(tx db.Tx) error {
		out = []Failure{}
		rows, err := tx.Query("SELECT id, domain, source, type, failure, arrived, received, reporter, incidents FROM dmarc_failure WHERE "+where+" ORDER BY received DESC, id LIMIT ?",
			append(args, int64(limit))...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var f Failure
			var arrived, received int64
			if err := rows.Scan(&f.ID, &f.Domain, &f.Source, &f.Type, &f.Failure, &arrived, &received, &f.Reporter, &f.Incidents); err != nil {
				return err
			}
			f.Arrived, f.Received = db.FromMicros(arrived), db.FromMicros(received)
			out = append(out, f)
		}
		return rows.Err()
	})
	return out, err
}
