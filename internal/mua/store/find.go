package store

import (
	"context"
	"errors"

	"poczta.example/poczta/internal/db"
)

// How many letters one view looks at, where conditions may leave few of them: some ten milliseconds at most.
const (
	firstWindow = 4 << 10
	lastWindow  = 64 << 10
)

// byText reads hits of the full text in order, and keeps those that fulfil the conditions. The
// rowids of the index are ranks, so nothing is sorted, and it ends when the page is full.
func (p *plan) byText(ctx context.Context, n int) ([]hit, error) {
	where, _ := p.where(true)
	if where == "" || p.q.Thread != 0 {
		found, err := p.textHits(ctx, n)
		if !errors.Is(err, db.ErrTooLong) {
			return found, err
		}
	}
	return p.windows(ctx, n, p.textHits)
}

// textHits reads hits of the full text between p.at and p.stop.
func (p *plan) textHits(ctx context.Context, n int) ([]hit, error) {
	where, more := p.where(true)
	rank, args := p.within(`letter_text.rowid`)
	query := `SELECT letter_text.rowid, l.id, l.thread FROM letter_text CROSS JOIN letter l INDEXED BY letter_rank ON l.rank = letter_text.rowid AND l.removed = 0 WHERE letter_text MATCH ? AND ` + rank
	args = append([]any{p.text.Match}, args...)
	if p.q.Thread != 0 {
		query += ` AND letter_text.rowid IN (SELECT rank FROM letter WHERE thread = ?)`
		args = append(args, p.q.Thread)
	}
	query += where + ` ORDER BY letter_text.rowid ` + p.direction() + ` LIMIT ?`
	return p.hits(ctx, query, append(append(args, more...), int64(n)))
}

// byRank reads all letters in their order and keeps those that fulfil the conditions.
func (p *plan) byRank(ctx context.Context, n int) ([]hit, error) {
	return p.windows(ctx, n, func(ctx context.Context, n int) ([]hit, error) { return p.scan(ctx, n, `letter_rank`, nil) })
}

// hits reads hits in a view.
func (p *plan) hits(ctx context.Context, query string, args []any) ([]hit, error) {
	var found []hit
	err := p.s.db.View(ctx, func(tx db.Tx) (err error) {
		found, err = readHits(tx, found[:0], query, args)
		return err
	})
	return found, err
}

// windows has read find hits among some letters at a time, until n are found: no view takes long,
// however rare they are.
func (p *plan) windows(ctx context.Context, n int, read func(ctx context.Context, n int) ([]hit, error)) ([]hit, error) {
	at, stop := p.at, p.stop
	defer func() { p.at, p.stop = at, stop }()
	var found []hit
	for size := firstWindow; ; size = min(4*size, lastWindow) {
		end, last, err := p.windowEnd(ctx, size)
		if err != nil {
			return nil, err
		}
		if !last {
			p.stop = end
		}
		some, err := read(ctx, n-len(found))
		if err != nil {
			return nil, err
		}
		if found = append(found, some...); len(found) >= n || last {
			return found, nil
		}
		p.at, p.stop = end, stop
	}
}

// windowEnd is the rank of the letter that lies size letters behind p.at; last says that p.stop comes first.
func (p *plan) windowEnd(ctx context.Context, size int) (end int64, last bool, err error) {
	rank, args := p.within(`rank`)
	err = p.s.db.View(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT rank FROM letter INDEXED BY letter_rank WHERE removed = 0 AND `+rank+` ORDER BY rank `+p.direction()+` LIMIT 1 OFFSET ?`, append(args, int64(size))...).Scan(&end)
	})
	if errors.Is(err, db.ErrNotFound) {
		return 0, true, nil
	}
	return end, false, err
}
