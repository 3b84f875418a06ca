package store

import (
	"context"
	"fmt"
	"strconv"

	"poczta.example/poczta/internal/db"
)

// Conversation is one thread in a list.
type Conversation struct {
	Newest  Summary   // of the letters that the query selects
	Letters int64     // in all folders but Trash, unless Newest lies there
	Unread  int64     // of those
	People  []Address // their authors, the newest first, each once; at most 8
}

// ThreadPage is a part of a list of threads.
type ThreadPage struct {
	Threads []Conversation
	Cursor  string // of the next page; "" at the end
}

// Threads lists the threads of the letters that q selects, one row a thread, by the newest of them.
func (s *Store) Threads(ctx context.Context, q Query) (ThreadPage, error) {
	page, err := s.threads(ctx, q)
	if err != nil {
		return ThreadPage{}, fmt.Errorf("list threads: %w", err)
	}
	return page, nil
}

func (s *Store) threads(ctx context.Context, q Query) (ThreadPage, error) {
	q.Sort, q.Removed = Newest, false
	p, err := s.plan(ctx, q)
	if err != nil || p.nothing {
		return ThreadPage{}, err
	}
	var heads []hit
	next := ""
	shown := make(map[int64]bool)
	for len(heads) < p.limit {
		found, err := p.find(ctx, 2*p.limit)
		if err != nil {
			return ThreadPage{}, err
		}
		for _, h := range found {
			if p.at, next = h.rank, strconv.FormatInt(h.rank, 10); len(heads) == p.limit {
				break
			}
			first, err := p.first(ctx, h, shown, q.Cursor == "")
			if err != nil {
				return ThreadPage{}, err
			}
			if shown[h.thread] = true; first {
				heads = append(heads, h)
			}
		}
		if len(found) < 2*p.limit && len(heads) < p.limit {
			next = ""
			break
		}
		if len(heads) == p.limit {
			next = strconv.FormatInt(heads[p.limit-1].rank, 10)
		}
	}
	page := ThreadPage{Cursor: next}
	for _, h := range heads {
		c, err := s.conversation(ctx, h)
		if err != nil {
			return ThreadPage{}, err
		}
		if c.Newest.ID != 0 {
			page.Threads = append(page.Threads, c)
		}
	}
	return page, nil
}

// first reports whether no newer letter of the thread is selected: then this is its row.
func (p *plan) first(ctx context.Context, h hit, shown map[int64]bool, fromBegin bool) (bool, error) {
	if shown[h.thread] {
		return false, nil
	}
	if fromBegin {
		return true, nil
	}
	newer := *p
	newer.q.Thread, newer.oldest, newer.at, newer.stop = h.thread, true, h.rank, 1<<63-1
	newer.conditions()
	found, err := newer.find(ctx, 1)
	return len(found) == 0, err
}

// conversation reads what a row shows.
func (s *Store) conversation(ctx context.Context, h hit) (Conversation, error) {
	all, err := s.summaries(ctx, []int64{h.id})
	if err != nil || len(all) == 0 {
		return Conversation{}, err
	}
	c := Conversation{Newest: all[0]}
	err = s.view(ctx, func(tx db.Tx) error {
		c.Letters, c.Unread, c.People = 0, 0, nil
		err := tx.QueryRow(`SELECT COUNT(*), COALESCE(SUM(CASE WHEN flags & 1 = 0 THEN 1 ELSE 0 END), 0) FROM letter WHERE thread = ? AND removed = 0 AND (trashed = 0 OR ?)`, h.thread, c.Newest.Folder == Trash).Scan(&c.Letters, &c.Unread)
		if err != nil {
			return err
		}
		rows, err := tx.Query(`SELECT sender FROM letter WHERE thread = ? AND removed = 0 AND (trashed = 0 OR ?) ORDER BY rank DESC LIMIT 30`, h.thread, c.Newest.Folder == Trash)
		if err != nil {
			return err
		}
		defer rows.Close()
		seen := make(map[string]bool)
		for rows.Next() {
			var sender string
			if err := rows.Scan(&sender); err != nil {
				return err
			}
			for _, a := range unpackPeople(sender) {
				if !seen[a.Address] && len(c.People) < 8 {
					seen[a.Address] = true
					c.People = append(c.People, a)
				}
			}
		}
		return rows.Err()
	})
	return c, err
}
