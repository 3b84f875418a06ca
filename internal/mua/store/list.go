package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Sort is an order of letters.
type Sort uint8

// The orders, by date.
const (
	Newest Sort = iota // first
	Oldest             // first; not for threads
)

// Query selects letters; the zero Query selects all but those in Trash and Junk.
type Query struct {
	Accounts   []envelope.AccountID // one of them; none is all
	Folder     string               // of each of the accounts; "" is all but Trash and Junk
	Everywhere bool                 // with Folder "": Trash and Junk too
	Unread     bool
	Flagged    bool
	Thread     int64 // of Summary.Thread
	// Text is a search: see package search. Its in: and account: narrow Folder and Accounts.
	Text    string
	Typing  bool // the last word of Text may be unfinished
	Removed bool // what is in retention, last removed first, instead of what is in folders
	Sort    Sort
	Cursor  string // Page.Cursor of the page before; "" begins
	Limit   int    // letters or threads; 0 is 50, at most 1000
}

// Page is a part of a list.
type Page struct {
	Letters []Summary
	Cursor  string // of the next page; "" at the end
}

// List returns a page of letters in order of date. It reads what the page needs and little more,
// however many letters there are.
func (s *Store) List(ctx context.Context, q Query) (Page, error) {
	p, err := s.plan(ctx, q)
	if err != nil {
		return Page{}, fmt.Errorf("list letters: %w", err)
	}
	ids, next, err := p.page(ctx)
	if err != nil {
		return Page{}, fmt.Errorf("list letters: %w", err)
	}
	letters, err := s.summaries(ctx, ids)
	if err != nil {
		return Page{}, fmt.Errorf("list letters: %w", err)
	}
	return Page{Letters: letters, Cursor: next}, nil
}

// page returns the ids of a page and the next cursor.
func (p *plan) page(ctx context.Context) (ids []int64, next string, err error) {
	switch {
	case p.nothing:
		return nil, "", nil
	case p.q.Removed:
		return p.removed(ctx)
	}
	found, err := p.find(ctx, p.limit+1)
	if err != nil {
		return nil, "", err
	}
	if len(found) > p.limit {
		found = found[:p.limit]
		next = strconv.FormatInt(found[p.limit-1].rank, 10)
	}
	for _, f := range found {
		ids = append(ids, f.id)
	}
	return ids, next, nil
}

// hit is a letter that was found.
type hit struct{ rank, id, thread int64 }

// find returns the first n letters behind p.at.
func (p *plan) find(ctx context.Context, n int) (found []hit, err error) {
	err = db.Again(func() (err error) {
		found, err = p.findOnce(ctx, n)
		return err
	})
	return found, err
}

func (p *plan) findOnce(ctx context.Context, n int) ([]hit, error) {
	switch {
	case p.text.Match != "":
		return p.byText(ctx, n)
	case p.q.Thread != 0:
		return p.scan(ctx, n, `letter_thread`, nil)
	}
	if index := p.index(); index != "" {
		return p.byFolder(ctx, n, index)
	}
	return p.byRank(ctx, n)
}

// index is the index by folder that serves the conditions; "" when none does.
func (p *plan) index() string {
	if len(p.conds) == 0 {
		return `letter_folder`
	}
	if p.text.Larger >= largeOctets {
		return `letter_large`
	}
	if len(p.conds) > 1 {
		return ""
	}
	return map[string]string{unreadSQL: `letter_unread`, flaggedSQL: `letter_flagged`, attachedSQL: `letter_attached`}[p.conds[0]]
}

// direction is that of a list.
func (p *plan) direction() string {
	if p.oldest {
		return "ASC"
	}
	return "DESC"
}

// where joins conditions, those on folders with them if asked for.
func (p *plan) where(folders bool) (string, []any) {
	conds, args := p.conds, p.args
	if folders && p.places != nil {
		in, more := placesSQL(p.places)
		conds, args = append(conds[:len(conds):len(conds)], in), append(args[:len(args):len(args)], more...)
	}
	if len(conds) == 0 {
		return "", nil
	}
	return " AND " + strings.Join(conds, " AND "), args
}

// within are the bounds of a column that holds ranks.
func (p *plan) within(column string) (string, []any) {
	query := column + ` < ? AND ` + column + ` >= ?`
	if p.oldest {
		query = column + ` > ? AND ` + column + ` <= ?`
	}
	return query, []any{p.at, p.stop}
}

// byFolder reads n letters of each folder by its index, and takes the first n of all.
func (p *plan) byFolder(ctx context.Context, n int, index string) ([]hit, error) {
	places := p.places
	if places == nil {
		var err error
		if places, err = p.s.places(ctx); err != nil {
			return nil, err
		}
	}
	var all []hit
	for _, f := range places {
		found, err := p.scan(ctx, n, index, &f)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b hit) int {
		if p.oldest {
			a, b = b, a
		}
		return int(max(-1, min(1, b.rank-a.rank)))
	})
	return all[:min(n, len(all))], nil
}

// scan reads n letters by an index whose order is that of the list, of one folder or, for a thread, of all that are asked.
func (p *plan) scan(ctx context.Context, n int, index string, in *place) ([]hit, error) {
	direction := p.direction()
	rank, args := p.within(`l.rank`)
	query := `SELECT l.rank, l.id, l.thread FROM letter l INDEXED BY ` + index + ` WHERE l.removed = 0 AND ` + rank
	if in != nil {
		query += ` AND l.account = ? AND l.number = ?`
		args = append(args, int64(in.account), in.number)
	}
	where, more := p.where(in == nil)
	query, args = query+where+` ORDER BY l.rank `+direction+` LIMIT ?`, append(append(args, more...), int64(n))
	return p.hits(ctx, query, args)
}

func readHits(tx db.Tx, found []hit, query string, args []any) ([]hit, error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var h hit
		if err := rows.Scan(&h.rank, &h.id, &h.thread); err != nil {
			return nil, err
		}
		found = append(found, h)
	}
	return found, rows.Err()
}

// summaryColumns are those of Summary.
const summaryColumns = `l.id, l.account, m.name, l.uid, l.flags, l.octets, l.whole, l.received, l.date, l.subject, l.sender, l.recipients, l.message_id, l.thread,
	l.attachments, l.snippet, l.unique_id, l.removed`

// summariesIn is how many letters one statement reads.
const summariesIn = 50

var summaryQuery = `SELECT ` + summaryColumns + ` FROM letter l JOIN mailbox m ON m.account = l.account AND m.number = l.number WHERE l.id IN (` +
	strings.Repeat("?, ", summariesIn-1) + `?)`

// summaries reads letters in the order of ids; those that are gone are left out.
func (s *Store) summaries(ctx context.Context, ids []int64) ([]Summary, error) {
	found := make(map[int64]Summary, len(ids))
	for chunk := range slices.Chunk(ids, summariesIn) {
		args := make([]any, summariesIn)
		for i := range args {
			args[i] = chunk[min(i, len(chunk)-1)]
		}
		err := s.view(ctx, func(tx db.Tx) error {
			rows, err := tx.Query(summaryQuery, args...)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				m, err := scanSummary(rows)
				if err != nil {
					return err
				}
				found[int64(m.ID)] = m
			}
			return rows.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	all := make([]Summary, 0, len(ids))
	for _, id := range ids {
		if m, ok := found[id]; ok {
			all = append(all, m)
		}
	}
	return all, nil
}

func scanSummary(row db.Row) (Summary, error) {
	var m Summary
	var whole, received, date, removed int64
	var sender, recipients string
	err := row.Scan(&m.ID, &m.Account, &m.Folder, &m.UID, &m.Flags, &m.Octets, &whole, &received, &date, &m.Subject, &sender, &recipients, &m.MessageID, &m.Thread,
		&m.Attachments, &m.Snippet, &m.UniqueID, &removed)
	if err != nil {
		return m, err
	}
	m.Received, m.Date = db.FromMicros(received), db.FromMicros(date)
	m.From, m.To = unpackPeople(sender), unpackPeople(recipients)
	if m.Partial = whole > 0; m.Partial {
		m.Octets = whole
	}
	if removed > 0 {
		m.Removed = db.FromMicros(removed)
	}
	return m, nil
}

// Summary returns what lists show of a letter, also of one in retention. ErrNotFound.
func (s *Store) Summary(ctx context.Context, id LetterID) (Summary, error) {
	all, err := s.summaries(ctx, []int64{int64(id)})
	if err == nil && len(all) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Summary{}, fmt.Errorf("look up letter %d: %w", id, err)
	}
	return all[0], nil
}

// ByMessageID finds the letters in folders that bear a Message-ID (with its angle brackets), newest first, at most 20.
func (s *Store) ByMessageID(ctx context.Context, messageID string) ([]Summary, error) {
	if messageID == "" {
		return nil, nil
	}
	var ids []int64
	err := s.view(ctx, func(tx db.Tx) error {
		found, err := readHits(tx, nil, `SELECT rank, id, thread FROM letter INDEXED BY letter_thread WHERE thread = (SELECT thread FROM thread_key WHERE key = ?) AND message_id = ? AND removed = 0 ORDER BY rank DESC LIMIT 20`,
			[]any{hash64("id", db.Text(messageID)), db.Text(messageID)})
		ids = ids[:0]
		for _, f := range found {
			ids = append(ids, f.id)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for letter %s: %w", messageID, err)
	}
	return s.summaries(ctx, ids)
}

// removed lists what is in retention.
func (p *plan) removed(ctx context.Context) (ids []int64, next string, err error) {
	at, last := int64(1<<63-1), int64(1<<63-1)
	if p.q.Cursor != "" {
		if _, err := fmt.Sscanf(p.q.Cursor, "%d.%d", &at, &last); err != nil {
			return nil, "", fmt.Errorf("cursor %q is not one that an earlier list returned", p.q.Cursor)
		}
	}
	if p.text.Match != "" {
		return nil, "", errors.New("removed letters have no index: search them by is:, has:, before: and after: alone")
	}
	rank, bounds := p.within(`l.rank`)
	where, more := p.where(true)
	query := `SELECT l.removed, l.id, l.thread FROM letter l WHERE l.removed <> 0 AND (l.removed, l.id) < (?, ?) AND ` + rank + where
	args := append(append([]any{at, last}, bounds...), more...)
	var found []hit
	err = p.s.view(ctx, func(tx db.Tx) (err error) {
		found, err = readHits(tx, found[:0], query+` ORDER BY l.removed DESC, l.id DESC LIMIT ?`, append(args, int64(p.limit+1)))
		return err
	})
	if err != nil {
		return nil, "", err
	}
	if len(found) > p.limit {
		found = found[:p.limit]
		next = fmt.Sprintf("%d.%d", found[p.limit-1].rank, found[p.limit-1].id)
	}
	for _, f := range found {
		ids = append(ids, f.id)
	}
	return ids, next, nil
}

// placesSQL is the condition that a letter lies in one of the folders.
func placesSQL(places []place) (string, []any) {
	args := make([]any, 0, 2*len(places))
	for _, f := range places {
		args = append(args, int64(f.account), f.number)
	}
	return `(l.account, l.number) IN (VALUES ` + strings.Repeat("(?, ?), ", len(places)-1) + `(?, ?))`, args
}
