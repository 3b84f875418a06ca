package mailbox

import (
	"context"
	"errors"
	"fmt"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// loadPage is how many rows of a listing one view reads: some milliseconds.
const loadPage = 10_000

// Listing returns the list of a mailbox as it is now, from memory when nothing
// changed, and a release to be called when it is no longer used. A mailbox that
// does not exist is empty. ErrBudget when memory has no room for it.
//
// A large mailbox is read in pages: what other sessions remove meanwhile may or
// may not be in the list.
func (s *Store) Listing(ctx context.Context, account envelope.AccountID, name string) (*Listing, func(), error) {
	name, err := CheckName(name)
	if err != nil {
		return nil, nil, err
	}
	l, err := s.hold(ctx, slotKey{account, name})
	if err != nil {
		return nil, nil, fmt.Errorf("list mailbox %q of account %d: %w", name, account, err)
	}
	return l, func() { s.listings.release(l) }, nil
}

// hold returns a listing held for the caller.
func (s *Store) hold(ctx context.Context, key slotKey) (*Listing, error) {
	if s.single {
		if l := s.listings.fresh(key); l != nil {
			s.hit()
			return l, nil
		}
	}
	slot, err := s.listings.enter(ctx, key, true)
	if err != nil {
		return nil, err
	}
	defer s.listings.leave(slot, true)
	if s.single { // another session may have read it while we waited
		if l := s.listings.fresh(key); l != nil {
			s.hit()
			return l, nil
		}
	}
	gen, base := s.listings.now(slot)
	l, err := s.refresh(ctx, key, base)
	if err == nil && l == base {
		s.listings.confirm(slot, gen)
		s.hit()
		return l, nil
	}
	if base != nil {
		s.listings.release(base)
	}
	if err != nil {
		return nil, err
	}
	if err := s.listings.put(slot, gen, l); err != nil {
		return nil, err
	}
	return l, nil
}

func (s *Store) hit() {
	if s.cfg.Hooks.ListingHit != nil {
		s.cfg.Hooks.ListingHit()
	}
}

// refresh returns the list as it is now: base itself if nothing changed, base
// with what arrived, or a new list.
func (s *Store) refresh(ctx context.Context, key slotKey, base *Listing) (*Listing, error) {
	var b *builder
	var m Mailbox
	var last UID
	var more bool
	rows := 0
	unchanged := base
	err := s.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
		b, base = nil, unchanged
		m, err = readMailbox(tx, key.account, key.name)
		if errors.Is(err, db.ErrNotFound) {
			m, err = Mailbox{Account: key.account, Name: key.name, UIDNext: 1}, nil
		}
		if err != nil || base != nil && base.mailbox.same(&m) && base.mailbox.ModSeq == m.ModSeq {
			return err
		}
		if base != nil && (!base.mailbox.same(&m) || m.changed > base.mailbox.ModSeq) {
			base = nil
		}
		if base != nil && m.shrunk > base.mailbox.ModSeq {
			if base, err = subtract(tx, &m, base); err != nil {
				return err
			}
		}
		if !s.listings.room((m.Messages - int64(baseLen(base))) * 40) {
			return ErrBudget
		}
		b, last = newBuilder(m, base), 0
		if base != nil {
			last = base.mailbox.UIDNext - 1
		}
		rows, last, more, err = readPage(tx, b, &m, last)
		return err
	})
	if err != nil || b == nil {
		return unchanged, err
	}
	for more {
		err := s.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
			var n int
			n, last, more, err = readPage(tx, b, &m, last)
			rows += n
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if s.cfg.Hooks.ListingLoad != nil {
		s.cfg.Hooks.ListingLoad(rows)
	}
	return b.finish(), nil
}

func baseLen(l *Listing) int {
	if l == nil {
		return 0
	}
	return l.n
}

// same reports whether two rows are one mailbox in one epoch.
func (m *Mailbox) same(o *Mailbox) bool {
	return m.Number == o.Number && m.UIDValidity == o.UIDValidity
}

// readPage adds the entries that follow last to b; more says that a page may
// follow. On error nothing was added.
func readPage(tx db.Tx, b *builder, m *Mailbox, last UID) (n int, next UID, more bool, err error) {
	rows, err := tx.Query(`SELECT uid, flags, octets, surrogate, CASE WHEN LENGTH(unique_id) = 0 THEN body ELSE unique_id END FROM entry WHERE account = ? AND number = ? AND uid > ? AND uid < ? ORDER BY uid LIMIT ?`,
		int64(m.Account), m.Number, int64(last), int64(m.UIDNext), int64(loadPage))
	if err != nil {
		return 0, last, false, err
	}
	defer rows.Close()
	if b.page == nil {
		b.page = make([]listed, 0, max(0, min(m.Messages-int64(b.l.n), loadPage)))
	}
	page := b.page[:0] // one page's memory serves for all
	for rows.Next() {
		var e listed
		if err := rows.Scan(&e.uid, &e.flags, &e.octets, &e.surrogate, &e.column); err != nil {
			return 0, last, false, err
		}
		if len(e.column) == 0 || e.column[0] != textMark && len(e.column) != 16 {
			return 0, last, false, fmt.Errorf("entry %d has a unique-id of %d octets in the database", e.uid, len(e.column))
		}
		page = append(page, e)
	}
	if err := rows.Err(); err != nil {
		return 0, last, false, err
	}
	for i := range page {
		b.add(&page[i])
		last = UID(page[i].uid)
	}
	b.page = page
	return len(page), last, len(page) == loadPage, nil
}

// Listings that are worth subtracting from, and how many removals at most.
const (
	minSubtract = 512
	maxSubtract = 5000
)

// subtract returns base without what was removed since, or nil when reading the
// mailbox anew is the better way: base is small, retention large, or the
// numbers do not agree because something was purged or restored meanwhile. A
// retained uid is in no mailbox, so equal counts mean equal lists.
func subtract(tx db.Tx, m *Mailbox, base *Listing) (*Listing, error) {
	if base.n < minSubtract || m.Retained > m.Octets {
		return nil, nil
	}
	rows, err := tx.Query(`SELECT uid FROM retained WHERE account = ? AND number = ? AND modseq > ? LIMIT ?`,
		int64(m.Account), m.Number, base.mailbox.ModSeq, int64(maxSubtract))
	if err != nil {
		return nil, err
	}
	gone, err := readUIDs(rows)
	if err != nil || len(gone) == maxSubtract {
		return nil, err
	}
	var arrived int64
	err = tx.QueryRow(`SELECT COUNT(*) FROM entry WHERE account = ? AND number = ? AND uid >= ?`,
		int64(m.Account), m.Number, int64(base.mailbox.UIDNext)).Scan(&arrived)
	if err != nil {
		return nil, err
	}
	left := base.without(gone)
	if int64(left.n)+arrived != m.Messages {
		return nil, nil
	}
	return left, nil
}

func readUIDs(rows db.Rows) (map[uint32]bool, error) {
	defer rows.Close()
	uids := make(map[uint32]bool)
	for rows.Next() {
		var uid uint32
		if err := rows.Scan(&uid); err != nil {
			return nil, err
		}
		uids[uid] = true
	}
	return uids, rows.Err()
}

// Usage returns what the account's mailboxes hold, from memory when nothing
// changed and this process alone writes.
func (s *Store) Usage(ctx context.Context, account envelope.AccountID) (Usage, error) {
	if s.single {
		if u, ok := s.listings.freshUsage(account); ok {
			return u, nil
		}
	}
	slot, err := s.listings.enter(ctx, slotKey{account, ""}, false)
	if err != nil {
		return Usage{}, err
	}
	defer s.listings.leave(slot, false)
	gen, _ := s.listings.now(slot)
	var u Usage
	err = s.cfg.DB.View(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT CAST(COALESCE(SUM(messages), 0) AS BIGINT), CAST(COALESCE(SUM(octets), 0) AS BIGINT), CAST(COALESCE(SUM(retained), 0) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN name IN (?, ?) THEN octets ELSE 0 END), 0) AS BIGINT) FROM mailbox WHERE account = ?`,
			Junk, Quarantine, int64(account)).Scan(&u.Messages, &u.Octets, &u.Retained, &u.Apart)
	})
	if err != nil {
		return Usage{}, fmt.Errorf("read usage of account %d: %w", account, err)
	}
	if s.single {
		s.listings.putUsage(slot, gen, u)
	}
	return u, nil
}
