package store

import (
	"context"

	"poczta.example/poczta/internal/db"
)

// windowRows is how many candidates one view looks at: some milliseconds.
const windowRows = 8000

// byText reads hits of the full text, newest first, and keeps those that fulfil the conditions. The
// rowids of the index are ranks, so nothing is sorted, and it ends when the page is full.
func (p *plan) byText(ctx context.Context, n int) ([]hit, error) {
	_, direction := p.order()
	where, more := p.where(true)
	rows := windowRows
	if where == "" {
		rows = n + 8
	}
	return p.windows(ctx, n, rows, func() (string, []any) {
		rank, args := p.within(`rowid`)
		inner := `SELECT rowid AS rank FROM letter_text WHERE letter_text MATCH ? AND ` + rank
		args = append([]any{p.text.Match}, args...)
		if p.q.Thread != 0 {
			inner += ` AND rowid IN (SELECT rank FROM letter WHERE thread = ?)`
			args = append(args, p.q.Thread)
		}
		query := `SELECT t.rank, COALESCE(l.id, 0), COALESCE(l.thread, 0) FROM (` + inner + ` ORDER BY rowid ` + direction + ` LIMIT ?) t
			LEFT JOIN letter l INDEXED BY letter_rank ON l.rank = t.rank AND l.removed = 0` + where + ` ORDER BY t.rank ` + direction
		return query, append(append(args, int64(rows)), more...)
	})
}

// byWindow reads all letters in their order and keeps those that fulfil the conditions.
func (p *plan) byWindow(ctx context.Context, n int) ([]hit, error) {
	_, direction := p.order()
	where, more := p.where(true)
	return p.windows(ctx, n, windowRows, func() (string, []any) {
		rank, args := p.within(`l.rank`)
		query := `SELECT l.rank, CASE WHEN 1` + where + ` THEN l.id ELSE 0 END, l.thread FROM letter l INDEXED BY letter_rank WHERE l.removed = 0 AND ` +
			rank + ` ORDER BY l.rank ` + direction + ` LIMIT ?`
		return query, append(append(more[:len(more):len(more)], args...), int64(windowRows))
	})
}

// windows reads candidates in windows of rows, each a view of its own, until n letters are found.
// Those that do not fulfil the conditions come as id 0: so it knows where the next window begins.
func (p *plan) windows(ctx context.Context, n, rows int, query func() (string, []any)) ([]hit, error) {
	var found []hit
	begin := p.at
	defer func() { p.at = begin }()
	for {
		var window []hit
		seen, last := 0, p.at
		sql, args := query()
		err := p.s.db.View(ctx, func(tx db.Tx) error {
			window, seen = window[:0], 0
			r, err := tx.Query(sql, args...)
			if err != nil {
				return err
			}
			defer r.Close()
			for len(found)+len(window) < n && r.Next() {
				var h hit
				if err := r.Scan(&h.rank, &h.id, &h.thread); err != nil {
					return err
				}
				seen, last = seen+1, h.rank
				if h.id != 0 {
					window = append(window, h)
				}
			}
			return r.Err()
		})
		if err != nil {
			return nil, err
		}
		found = append(found, window...)
		if len(found) >= n || seen < rows {
			return found, nil
		}
		p.at = last
	}
}
