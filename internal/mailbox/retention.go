package mailbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// Selection selects retained entries of an account; set fields must all match.
// The zero Selection selects all.
type Selection struct {
	UniqueIDs []string
	UIDs      []UID // with Mailbox: elsewhere they are others'
	Mailbox   string
	Since     time.Time // removed at or after
	Before    time.Time // removed before
}

// matches reports whether r is selected.
func (sel *Selection) matches(r *Retained) bool {
	return (len(sel.UniqueIDs) == 0 || slices.Contains(sel.UniqueIDs, r.UniqueID)) &&
		(len(sel.UIDs) == 0 || slices.Contains(sel.UIDs, r.UID)) &&
		(sel.Mailbox == "" || sel.Mailbox == r.Mailbox) &&
		(sel.Since.IsZero() || !r.Removed.Before(sel.Since)) &&
		(sel.Before.IsZero() || r.Removed.Before(sel.Before))
}

// cursor is a place in an account's retained entries.
type cursor struct {
	number int64
	uid    UID
}

// retentionPage is how many retained rows one view reads, and messageChunk how
// many messages one low-priority transaction restores or purges, at up to four rows each.
const (
	retentionPage = 500
	messageChunk  = chunkRows / 4
)

// Deleted returns at most limit (0 is 500) retained entries of the account, by
// mailbox and uid, that follow the cursor ("" begins), and the next cursor, "" at the end.
func (s *Store) Deleted(ctx context.Context, account envelope.AccountID, sel Selection, after string, limit int) ([]Retained, string, error) {
	var at cursor
	if after != "" {
		if _, err := fmt.Sscanf(after, "%d.%d", &at.number, &at.uid); err != nil {
			return nil, "", fmt.Errorf("list deleted mail: cursor %q is not one that an earlier list returned", after)
		}
	}
	if limit <= 0 {
		limit = retentionPage
	}
	var found []Retained
	for {
		page, err := s.retainedPage(ctx, account, at)
		if err != nil {
			return nil, "", err
		}
		for i := range page {
			at = cursor{page[i].Number, page[i].UID}
			if !sel.matches(&page[i]) {
				continue
			}
			if found = append(found, page[i]); len(found) == limit {
				return found, fmt.Sprintf("%d.%d", at.number, at.uid), nil
			}
		}
		if len(page) < retentionPage {
			return found, "", nil
		}
	}
}

// retainedPage reads the retained rows of an account that follow the cursor.
func (s *Store) retainedPage(ctx context.Context, account envelope.AccountID, at cursor) ([]Retained, error) {
	var page []Retained
	err := s.cfg.DB.View(ctx, func(tx db.Tx) error {
		page = page[:0]
		names, err := mailboxNames(tx, account)
		if err != nil {
			return err
		}
		rows, err := tx.Query(`SELECT `+entryColumns+`, removed FROM retained WHERE account = ? AND (number, uid) > (?, ?) ORDER BY number, uid LIMIT ?`,
			int64(account), at.number, int64(at.uid), int64(retentionPage))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r rawEntry
			var removed int64
			if err := rows.Scan(append(r.dest(), &removed)...); err != nil {
				return err
			}
			if err := r.finish(account); err != nil {
				return err
			}
			r.Mailbox = names[r.Number]
			page = append(page, Retained{r.Entry, db.FromMicros(removed)})
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list deleted mail of account %d: %w", account, err)
	}
	return page, nil
}

// eachRetained calls fn with chunks of the selected retained entries. It is safe
// for fn to take them out of retention.
func (s *Store) eachRetained(ctx context.Context, account envelope.AccountID, sel Selection, fn func([]Retained) (int, error)) (int, error) {
	total, after := 0, ""
	for {
		chunk, next, err := s.Deleted(ctx, account, sel, after, messageChunk)
		if err != nil {
			return total, err
		}
		if len(chunk) > 0 {
			n, err := fn(chunk)
			total += n
			if err != nil {
				return total, err
			}
		}
		if next == "" {
			return total, nil
		}
		after = next
	}
}

// Restore puts retained entries back into their mailboxes under new unique-ids,
// so that programs fetch them again, and returns how many. It works in chunks.
func (s *Store) Restore(ctx context.Context, account envelope.AccountID, login string, sel Selection) (int, error) {
	return s.RestoreWithin(ctx, account, login, sel, nil)
}

// RestoreWithin is Restore with something that must be done in the same transaction for each
// entry, as it was and as it is; it may run more than once, and an error of it ends the whole. Nil is nothing.
func (s *Store) RestoreWithin(ctx context.Context, account envelope.AccountID, login string, sel Selection, within func(tx db.Tx, was, is Entry) error) (int, error) {
	return s.eachRetained(ctx, account, sel, func(chunk []Retained) (int, error) {
		var back, left []Entry // left is what the entries were before
		err := s.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
			back, left = back[:0], left[:0]
			for i := range chunk {
				e, err := s.restoreRow(tx, chunk[i].Entry)
				if errors.Is(err, db.ErrNotFound) {
					continue // purged or restored meanwhile
				}
				if err != nil {
					return err
				}
				e.Login = login
				if within != nil {
					if err := within(tx, chunk[i].Entry, e); err != nil {
						return err
					}
				}
				back, left = append(back, e), append(left, chunk[i].Entry)
			}
			return nil
		})
		for i := range chunk {
			s.listings.touch(account, chunk[i].Mailbox)
		}
		if err != nil {
			return 0, fmt.Errorf("restore mail of account %d: %w", account, err)
		}
		s.Settled(true, back...)
		s.journal(body.EventPurged, left) // the old unique-ids never come back
		return len(back), nil
	})
}

// restoreRow moves one entry back; db.ErrNotFound when it is not retained.
func (s *Store) restoreRow(tx db.Tx, e Entry) (Entry, error) {
	n, err := tx.Exec(`DELETE FROM retained WHERE account = ? AND number = ? AND uid = ?`, int64(e.Account), e.Number, int64(e.UID))
	if err != nil {
		return Entry{}, err
	}
	if n == 0 {
		return Entry{}, db.ErrNotFound
	}
	_, err = tx.Exec(`UPDATE mailbox SET retained = retained - ? WHERE account = ? AND number = ?`, e.Octets, int64(e.Account), e.Number)
	if err != nil {
		return Entry{}, err
	}
	id, err := message.NewID(s.cfg.Now(), s.cfg.Rand)
	if err != nil {
		return Entry{}, err
	}
	e.UniqueID = id.String()
	if _, err := tx.Exec(`INSERT INTO restored_id (id) VALUES (?)`, id[:]); err != nil {
		return Entry{}, err
	}
	return e, s.insert(tx, &e, id[:])
}

// Purge removes retained entries for ever, in chunks, and returns how many.
func (s *Store) Purge(ctx context.Context, account envelope.AccountID, sel Selection) (int, error) {
	return s.eachRetained(ctx, account, sel, func(chunk []Retained) (int, error) { return s.purge(ctx, chunk) })
}

// purge removes one chunk for ever: the rows, references to bodies, and bodies
// that nobody needs any more.
func (s *Store) purge(ctx context.Context, chunk []Retained) (int, error) {
	slices.SortFunc(chunk, func(a, b Retained) int { return compareEntries(&a.Entry, &b.Entry) })
	var gone []Entry
	var dead []message.ID
	err := s.cfg.DB.UpdateLow(ctx, func(tx db.Tx) (err error) {
		gone, dead, err = purgeRows(tx, chunk, gone[:0], dead[:0])
		return err
	})
	for i := range chunk {
		s.listings.touch(chunk[i].Account, chunk[i].Mailbox)
	}
	if err != nil {
		return 0, fmt.Errorf("purge deleted mail: %w", err)
	}
	s.journal(body.EventPurged, gone)
	if s.cfg.Hooks.Purged != nil {
		s.cfg.Hooks.Purged(len(gone))
	}
	if len(dead) > 0 {
		if err := s.cfg.Body.Remove(ctx, dead); err != nil {
			return len(gone), fmt.Errorf("remove purged bodies: %w", err) // without rows they are dead to merge
		}
	}
	return len(gone), nil
}

// purgeRows is the transaction of purge.
func purgeRows(tx db.Tx, chunk []Retained, gone []Entry, dead []message.ID) ([]Entry, []message.ID, error) {
	for i := range chunk {
		e := &chunk[i].Entry
		n, err := tx.Exec(`DELETE FROM retained WHERE account = ? AND number = ? AND uid = ?`, int64(e.Account), e.Number, int64(e.UID))
		if err != nil {
			return nil, nil, err
		}
		if n > 0 {
			gone = append(gone, *e)
		}
	}
	for i := 0; i < len(gone); {
		first, octets := &gone[i], int64(0)
		for ; i < len(gone) && gone[i].Account == first.Account && gone[i].Number == first.Number; i++ {
			octets += gone[i].Octets
		}
		_, err := tx.Exec(`UPDATE mailbox SET retained = retained - ? WHERE account = ? AND number = ?`, octets, int64(first.Account), first.Number)
		if err != nil {
			return nil, nil, err
		}
	}
	ids := make([]message.ID, len(gone))
	for i := range gone {
		ids[i] = gone[i].Body
	}
	slices.SortFunc(ids, func(a, b message.ID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		last, err := body.Release(tx, id)
		if err != nil {
			return nil, nil, err
		}
		if last {
			dead = append(dead, id)
		}
	}
	return gone, dead, nil
}

func compareEntries(a, b *Entry) int {
	switch {
	case a.Account != b.Account:
		return cmpInt(int64(a.Account), int64(b.Account))
	case a.Number != b.Number:
		return cmpInt(a.Number, b.Number)
	}
	return cmpInt(int64(a.UID), int64(b.UID))
}

func cmpInt(a, b int64) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

// PurgeAccount removes all mail of an account for ever, retention and what was
// known of imports included.
func (s *Store) PurgeAccount(ctx context.Context, account envelope.AccountID) (int, error) {
	if _, err := s.RemoveAccount(ctx, account); err != nil {
		return 0, err
	}
	total, err := s.Purge(ctx, account, Selection{})
	if err != nil {
		return total, err
	}
	for {
		var n int64
		err := s.cfg.DB.UpdateLow(ctx, func(tx db.Tx) (err error) {
			n, err = tx.Exec(`DELETE FROM import_key WHERE account = ? AND (number, key) IN (SELECT number, key FROM import_key WHERE account = ? ORDER BY number, key LIMIT ?)`,
				int64(account), int64(account), int64(chunkRows))
			return err
		})
		if err != nil {
			return total, fmt.Errorf("forget imports of account %d: %w", account, err)
		}
		if n < chunkRows {
			break
		}
	}
	err = s.cfg.DB.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`DELETE FROM mailbox WHERE account = ? AND messages = 0 AND retained = 0`, int64(account))
		return err
	})
	s.listings.touchAll(account)
	if err != nil {
		return total, fmt.Errorf("drop mailboxes of account %d: %w", account, err)
	}
	return total, nil
}
