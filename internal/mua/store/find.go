package store

import (
	"context"
	"errors"
	"slices"
	"strings"

	"poczta.example/poczta/internal/db"
)

// How many letters one view looks at, where conditions may leave few of them: some ten milliseconds at most.
const (
	firstWindow = 4 << 10
	lastWindow  = 64 << 10
	slowWindows = 5       // how often a window is made smaller whose time was up
	oneWindow   = 300_000 // so many are looked at in one view if the first window was not enough: to find a window's end costs as much
)

// byText reads hits of the full text in order, and keeps those that fulfil the conditions. The
// rowids of the index are ranks, so nothing is sorted, and it ends when the page is full.
func (p *plan) byText(ctx context.Context, n int) ([]hit, error) {
	if where, _ := p.where(true); where == "" || p.q.Thread != 0 {
		found, err := p.textHits(ctx, n)
		if !errors.Is(err, db.ErrTooLong) {
			return found, err
		}
	} else if found, ok, err := p.textAmong(ctx, n); ok || err != nil {
		return found, err
	}
	return p.windows(ctx, n, p.textHits)
}

// maxProbe is how many letters are looked up in the full text one by one, at most.
const maxProbe = 1000

// textAmong is for conditions that few letters fulfil: those are looked up in the full text. ok says that they were few.
// Where they are many, that shows soon.
func (p *plan) textAmong(ctx context.Context, n int) (found []hit, ok bool, err error) {
	all := *p
	all.text.Match = ""
	candidates, err := all.find(ctx, maxProbe+1)
	if err != nil || len(candidates) > maxProbe {
		return nil, false, err
	}
	for chunk := range slices.Chunk(candidates, probeAtOnce) {
		some, err := p.probe(ctx, chunk)
		if err != nil {
			return nil, false, err
		}
		if found = append(found, some...); len(found) >= n {
			return found[:n], true, nil
		}
	}
	return found, true, nil
}

// probeAtOnce is how many ranks one statement names.
const probeAtOnce = 64

// probeIn looks up ranks in the full text; one text, so that one statement is prepared.
var probeIn = `SELECT rowid FROM letter_text WHERE letter_text MATCH ? AND rowid IN (` + strings.Repeat("?, ", probeAtOnce-1) + `?)`

// probe keeps those of the letters whose text matches.
func (p *plan) probe(ctx context.Context, chunk []hit) ([]hit, error) {
	args := []any{p.text.Match}
	for i := range probeAtOnce {
		args = append(args, chunk[min(i, len(chunk)-1)].rank)
	}
	matches := make(map[int64]bool)
	err := p.s.view(ctx, func(tx db.Tx) error {
		clear(matches)
		rows, err := tx.Query(probeIn, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var rank int64
			if err := rows.Scan(&rank); err != nil {
				return err
			}
			matches[rank] = true
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(chunk), func(h hit) bool { return !matches[h.rank] }), nil
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
	err := p.s.db.View(ctx, func(tx db.Tx) (err error) { // windows and find try again
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
	slow := 0
	for size := firstWindow; ; size = min(max(64, 4*size), lastWindow) {
		last, err := p.fitsOne(ctx, size, slow)
		if err != nil {
			return nil, err
		}
		end := stop
		if !last {
			if end, last, err = p.windowEnd(ctx, size); err != nil {
				return nil, err
			}
		}
		if !last {
			p.stop = end
		}
		some, err := read(ctx, n-len(found))
		if errors.Is(err, db.ErrTooLong) && slow < slowWindows {
			slow, size, p.stop = slow+1, size/32, stop
			continue
		}
		if err != nil {
			return nil, err
		}
		if found = append(found, some...); len(found) >= n || last {
			return found, nil
		}
		p.at, p.stop = end, stop
	}
}

// fitsOne reports whether what is left may be looked at in one view: not in the first, which may be
// enough, not once that took too long, and not if there are very many letters.
func (p *plan) fitsOne(ctx context.Context, size, slow int) (bool, error) {
	if size == firstWindow || slow > 0 {
		return false, nil
	}
	var letters int64
	err := p.s.view(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT COALESCE(SUM(messages), 0) FROM mailbox`).Scan(&letters)
	})
	return letters <= oneWindow, err
}

// windowEnd is the rank of the letter that lies size letters behind p.at; last says that p.stop comes first.
func (p *plan) windowEnd(ctx context.Context, size int) (end int64, last bool, err error) {
	rank, args := p.within(`rank`)
	err = p.s.view(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT rank FROM letter INDEXED BY letter_rank WHERE removed = 0 AND `+rank+` ORDER BY rank `+p.direction()+` LIMIT 1 OFFSET ?`, append(args, int64(size))...).Scan(&end)
	})
	if errors.Is(err, db.ErrNotFound) {
		return 0, true, nil
	}
	return end, false, err
}
