package mailbox

import (
	"context"
	"fmt"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

const entryColumns = `number, uid, modseq, flags, octets, surrogate, received, unique_id, body, prefix`

// rawEntry is a row of entry or retained as its columns are.
type rawEntry struct {
	Entry
	uniqueID []byte
	body     []byte
	received int64
}

// dest returns the pointers for entryColumns.
func (r *rawEntry) dest() []any {
	return []any{&r.Number, &r.UID, &r.ModSeq, &r.Flags, &r.Octets, &r.Surrogate, &r.received, &r.uniqueID, &r.body, &r.Prefix}
}

// finish turns columns into the Entry's fields.
func (r *rawEntry) finish(account envelope.AccountID) (err error) {
	r.Account = account
	r.Received = db.FromMicros(r.received)
	if r.Body, err = loadID(r.body); err != nil {
		return fmt.Errorf("entry %d of mailbox %d of account %d: %w", r.UID, r.Number, account, err)
	}
	if r.UniqueID, err = loadUniqueID(r.uniqueID, r.Body); err != nil {
		return fmt.Errorf("entry %d of mailbox %d of account %d: %w", r.UID, r.Number, account, err)
	}
	return nil
}

// mailboxNames returns the names of an account's mailboxes by number.
func mailboxNames(tx db.Tx, account envelope.AccountID) (map[int64]string, error) {
	rows, err := tx.Query(`SELECT number, name FROM mailbox WHERE account = ?`, int64(account))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names := make(map[int64]string)
	for rows.Next() {
		var number int64
		var name string
		if err := rows.Scan(&number, &name); err != nil {
			return nil, err
		}
		names[number] = name
	}
	return names, rows.Err()
}

// walkPage is how many entries one view of Walk reads.
const walkPage = 500

// Walk calls fn for every entry of the account, by mailbox and uid, in pages; no
// transaction is open while fn runs. fn reads the octets with OpenEntry. What
// arrives or goes meanwhile may be seen or not.
func (s *Store) Walk(ctx context.Context, account envelope.AccountID, fn func(Entry) error) error {
	all, err := s.Mailboxes(ctx, account)
	if err != nil {
		return err
	}
	for i := range all {
		var last UID
		for {
			page, err := s.entryPage(ctx, &all[i], last, walkPage)
			if err != nil {
				return fmt.Errorf("walk mailbox %q of account %d: %w", all[i].Name, account, err)
			}
			for _, e := range page {
				if err := fn(e); err != nil {
					return err
				}
				last = e.UID
			}
			if len(page) < walkPage {
				break
			}
		}
	}
	return nil
}

// entryPage reads the entries of a mailbox that follow last.
func (s *Store) entryPage(ctx context.Context, m *Mailbox, last UID, limit int) ([]Entry, error) {
	var page []Entry
	err := s.cfg.DB.View(ctx, func(tx db.Tx) error {
		page = page[:0]
		rows, err := tx.Query(`SELECT `+entryColumns+` FROM entry WHERE account = ? AND number = ? AND uid > ? ORDER BY uid LIMIT ?`,
			int64(m.Account), m.Number, int64(last), int64(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r rawEntry
			if err := rows.Scan(r.dest()...); err != nil {
				return err
			}
			if err := r.finish(m.Account); err != nil {
				return err
			}
			r.Mailbox = m.Name
			page = append(page, r.Entry)
		}
		return rows.Err()
	})
	return page, err
}

// located is an entry as reading its octets needs it.
type located struct {
	uid       UID
	prefix    []byte
	octets    int64
	surrogate int64
	body      message.ID
	loc       body.Location // without SHA256, which reading does not need
}

// locatedFrom is the query for entries with their bodies' places, of the table entry or retained.
func locatedFrom(table string) string {
	return `SELECT e.uid, e.prefix, e.octets, e.surrogate, e.body, b.segment, b.start, b.stored, b.octets, b.dots FROM ` + table +
		` e JOIN body b ON b.id = e.body WHERE e.account = ? AND e.number = ? AND e.uid >= ? AND e.uid <= ? ORDER BY e.uid`
}

// The two queries of locate.
var (
	locatedEntries  = locatedFrom("entry")
	locatedRetained = locatedFrom("retained")
)

// locate reads the entries of a range of uids, removed ones from retention.
func (s *Store) locate(ctx context.Context, account envelope.AccountID, number int64, first, last UID) ([]located, error) {
	found := make([]located, 0, min(int64(last-first)+1, maxWindow)) // uids may have gaps
	err := s.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
		found, err = readLocated(tx, found[:0], locatedEntries, account, number, first, last)
		if err != nil || len(found) > 0 && found[0].uid == first {
			return err
		}
		found, err = readLocated(tx, found[:0], locatedRetained, account, number, first, first)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up message %d of account %d: %w", first, account, err)
	}
	if len(found) == 0 {
		return nil, ErrGone
	}
	return found, nil
}

func readLocated(tx db.Tx, found []located, query string, account envelope.AccountID, number int64, first, last UID) ([]located, error) {
	rows, err := tx.Query(query, int64(account), number, int64(first), int64(last))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var l located // one for all rows: what Scan gets the address of lives on the heap
	var uid int64
	var id []byte
	for rows.Next() {
		err := rows.Scan(&uid, &l.prefix, &l.octets, &l.surrogate, &id, &l.loc.Segment, &l.loc.Offset, &l.loc.Stored, &l.loc.Octets, &l.loc.Dots)
		if err != nil {
			return nil, err
		}
		l.uid = UID(uid)
		if l.body, err = loadID(id); err != nil {
			return nil, err
		}
		if n := len(found); n > 0 && found[n-1].loc.Segment == l.loc.Segment {
			l.loc.Segment = found[n-1].loc.Segment // neighbours share the name's memory
		}
		found = append(found, l)
	}
	return found, rows.Err()
}

// Content says where the octets of an entry lie: the prefix, then the body.
type Content struct {
	Prefix   []byte
	Body     message.ID
	Location body.Location // without SHA256
}

// Locate finds the octets of an entry, also of one in retention. ErrGone when it was purged.
func (s *Store) Locate(ctx context.Context, account envelope.AccountID, number int64, uid UID) (Content, error) {
	found, err := s.locate(ctx, account, number, uid, uid)
	if err != nil {
		return Content{}, err
	}
	return Content{Prefix: found[0].prefix, Body: found[0].body, Location: found[0].loc}, nil
}
