package tlsreport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/tlsrpt"
)

// Received is what a report says about one domain of ours.
type Received struct {
	ID           string    `json:"id"`
	Domain       string    `json:"domain"`
	Organization string    `json:"organization"` // as the reporter calls itself
	Reporter     string    `json:"reporter"`     // the domain that is proven to have sent it; "" when none is
	Contact      string    `json:"contact"`
	ReportID     string    `json:"report_id"`
	Begin        time.Time `json:"begin"`
	End          time.Time `json:"end"`
	Received     time.Time `json:"received"`
	Successes    int64     `json:"successes"` // sessions
	Failures     int64     `json:"failures"`
}

// Shown is a report with its details.
type Shown struct {
	Received
	Policies []tlsrpt.PolicyResult `json:"policies"`
}

// maxListed bounds a list.
const maxListed = 1000

const receivedColumns = "id, domain, organization, reporter, contact, report_id, begins, ends, received, successes, failures, detail"

// List returns the reports about a domain ("": all of ours) whose time ended at since or later, the
// newest first; at most limit or 1,000.
func (r *Receiver) List(ctx context.Context, domain string, since time.Time, limit int) (out []Received, err error) {
	if limit <= 0 || limit > maxListed {
		limit = maxListed
	}
	where, args := "ends >= ?", []any{db.Micros(since)}
	if domain != "" {
		where, args = "domain = ? AND "+where, append([]any{domain}, args...)
	}
	err = r.cfg.DB.View(ctx, func(tx db.Tx) error {
		out = []Received{}
		rows, err := tx.Query("SELECT "+receivedColumns+" FROM tls_received WHERE "+where+" ORDER BY ends DESC, id LIMIT ?", append(args, int64(limit))...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			x, _, err := scanReceived(rows)
			if err != nil {
				return err
			}
			out = append(out, x)
		}
		return rows.Err()
	})
	return out, err
}

func scanReceived(row db.Row) (x Received, detail string, err error) {
	var begin, end, received int64
	err = row.Scan(&x.ID, &x.Domain, &x.Organization, &x.Reporter, &x.Contact, &x.ReportID, &begin, &end, &received, &x.Successes, &x.Failures, &detail)
	x.Begin, x.End, x.Received = db.FromMicros(begin), db.FromMicros(end), db.FromMicros(received)
	return x, detail, err
}

// Show returns a report with its details. ErrNotFound.
func (r *Receiver) Show(ctx context.Context, id string) (out Shown, err error) {
	err = r.cfg.DB.View(ctx, func(tx db.Tx) error {
		x, detail, err := scanReceived(tx.QueryRow("SELECT "+receivedColumns+" FROM tls_received WHERE id = ?", id))
		if errors.Is(err, db.ErrNotFound) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		out = Shown{Received: x}
		if err := json.Unmarshal([]byte(detail), &out.Policies); err != nil {
			return fmt.Errorf("row of tls_received: %w", err)
		}
		return nil
	})
	return out, err
}
