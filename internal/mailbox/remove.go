package mailbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// uidRange is a run of uids, both ends included.
type uidRange struct{ first, last UID }

// removal is one removal into retention.
type removal struct {
	mailbox *Mailbox // its number and UIDVALIDITY must still hold
	login   string
	ranges  []uidRange
	guard   func(db.Tx) error                              // nil, or fails the transaction
	update  func(context.Context, func(db.Tx) error) error // Update or UpdateLow
}

// ranges turns indexes of a listing into runs of uids. Between two neighbours of
// a listing no entry can come to be, so a run of indexes is a run of uids.
func (l *Listing) ranges(indexes []int) []uidRange {
	sorted := slices.Clone(indexes)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	var all []uidRange
	for k := 0; k < len(sorted); {
		end := k
		for end+1 < len(sorted) && sorted[end+1] == sorted[end]+1 {
			end++
		}
		all = append(all, uidRange{l.UID(sorted[k]), l.UID(sorted[end])})
		k = end + 1
	}
	return all
}

// Remove puts entries of a mailbox into retention in one transaction and returns
// how many there were; those already gone count as done. ErrNotFound when the
// mailbox does not exist.
func (s *Store) Remove(ctx context.Context, account envelope.AccountID, login, name string, uids []UID) (int, error) {
	return s.RemoveWithin(ctx, account, login, name, uids, nil)
}

// RemoveWithin is Remove with something that must be done in the same transaction; it may run
// more than once, and an error of it ends the whole. Nil is nothing.
func (s *Store) RemoveWithin(ctx context.Context, account envelope.AccountID, login, name string, uids []UID, within func(db.Tx) error) (int, error) {
	name, err := CheckName(name)
	if err != nil {
		return 0, err
	}
	var m Mailbox
	err = s.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
		m, err = readMailbox(tx, account, name)
		return err
	})
	if errors.Is(err, db.ErrNotFound) {
		err = ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("remove from mailbox %q of account %d: %w", name, account, err)
	}
	ranges := make([]uidRange, len(uids))
	for i, uid := range uids {
		ranges[i] = uidRange{uid, uid}
	}
	return s.remove(ctx, removal{mailbox: &m, login: login, ranges: ranges, guard: within, update: s.cfg.DB.Update})
}

// remove runs one removal.
func (s *Store) remove(ctx context.Context, r removal) (int, error) {
	var gone []Entry
	m := r.mailbox
	err := r.update(ctx, func(tx db.Tx) (err error) {
		if r.guard != nil {
			if err := r.guard(tx); err != nil {
				return err
			}
		}
		gone, err = s.removeRows(tx, gone[:0], &r)
		return err
	})
	s.listings.touch(m.Account, m.Name)
	if err != nil {
		return 0, fmt.Errorf("remove from mailbox %q of account %d: %w", m.Name, m.Account, err)
	}
	for i := range gone {
		gone[i].Login = r.login
	}
	s.journal(body.EventRemoved, gone)
	if s.cfg.Hooks.Removed != nil {
		s.cfg.Hooks.Removed(len(gone))
	}
	return len(gone), nil
}

// removeRows moves the rows. The mailbox's row, changed first, keeps other
// removals and arrivals of the same mailbox waiting.
func (s *Store) removeRows(tx db.Tx, gone []Entry, r *removal) ([]Entry, error) {
	m := r.mailbox
	var modseq int64
	err := tx.QueryRow(`UPDATE mailbox SET modseq = modseq + 1, shrunk = modseq + 1 WHERE account = ? AND number = ? AND uidvalidity = ? RETURNING modseq`,
		int64(m.Account), m.Number, int64(m.UIDValidity)).Scan(&modseq)
	if errors.Is(err, db.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	now := db.Micros(s.cfg.Now())
	var octets int64
	for _, c := range conditions(r.ranges) {
		where := ` FROM entry WHERE account = ? AND number = ? AND ` + c.sql
		args := append([]any{int64(m.Account), m.Number}, c.args...)
		before := len(gone)
		if gone, err = readGone(tx, gone, m, where, args); err != nil {
			return nil, err
		}
		if len(gone) == before {
			continue
		}
		_, err := tx.Exec(`INSERT INTO retained (account, number, uid, modseq, flags, octets, surrogate, received, unique_id, body, prefix, removed) SELECT account, number, uid, CAST(? AS BIGINT), flags, octets, surrogate, received, unique_id, body, prefix, CAST(? AS BIGINT)`+where,
			append([]any{modseq, now}, args...)...)
		if err != nil {
			return nil, err
		}
		if _, err := tx.Exec(`DELETE`+where, args...); err != nil {
			return nil, err
		}
	}
	for i := range gone {
		octets += gone[i].Octets
	}
	_, err = tx.Exec(`UPDATE mailbox SET messages = messages - ?, octets = octets - ?, retained = retained + ? WHERE account = ? AND number = ?`,
		int64(len(gone)), octets, octets, int64(m.Account), m.Number)
	return gone, err
}

// readGone reads what the journal wants of the rows that are about to move.
func readGone(tx db.Tx, gone []Entry, m *Mailbox, where string, args []any) ([]Entry, error) {
	rows, err := tx.Query(`SELECT uid, flags, octets, unique_id, body`+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		r := rawEntry{Entry: Entry{Number: m.Number, Mailbox: m.Name}}
		if err := rows.Scan(&r.UID, &r.Flags, &r.Octets, &r.uniqueID, &r.body); err != nil {
			return nil, err
		}
		if err := r.finish(m.Account); err != nil {
			return nil, err
		}
		gone = append(gone, r.Entry)
	}
	return gone, rows.Err()
}

// condition is a condition on uid with its parameters.
type condition struct {
	sql  string
	args []any
}

// inUIDs is how many single uids one statement names.
const inUIDs = 64

// uidIn is the condition for single uids; one text, so that one statement is prepared.
var uidIn = `uid IN (` + strings.Repeat("?, ", inUIDs-1) + `?)`

// conditions turns runs into few statements: each run of its own, single uids
// together.
func conditions(ranges []uidRange) []condition {
	var all []condition
	var singles []any
	flush := func() {
		if len(singles) == 0 {
			return
		}
		for len(singles) < inUIDs {
			singles = append(singles, singles[0])
		}
		all = append(all, condition{uidIn, singles})
		singles = nil
	}
	for _, r := range ranges {
		if r.first != r.last {
			all = append(all, condition{`uid BETWEEN ? AND ?`, []any{int64(r.first), int64(r.last)}})
			continue
		}
		if singles = append(singles, int64(r.first)); len(singles) == inUIDs {
			flush()
		}
	}
	flush()
	return all
}

// RemoveAccount puts all mail of an account into retention, in chunks.
func (s *Store) RemoveAccount(ctx context.Context, account envelope.AccountID) (int, error) {
	all, err := s.Mailboxes(ctx, account)
	if err != nil {
		return 0, err
	}
	total := 0
	for i := range all {
		for {
			page, err := s.entryPage(ctx, &all[i], 0, chunkRows/2)
			if err != nil {
				return total, fmt.Errorf("remove account %d: %w", account, err)
			}
			if len(page) == 0 {
				break
			}
			n, err := s.remove(ctx, removal{mailbox: &all[i], update: s.cfg.DB.UpdateLow,
				ranges: []uidRange{{page[0].UID, page[len(page)-1].UID}}})
			total += n
			if err != nil {
				return total, err
			}
		}
	}
	return total, nil
}
