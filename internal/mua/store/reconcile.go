package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
)

// Reconcile makes the letters what the engines hold, in folders that changed since it last
// ran: entries without a letter get one, letters without an entry go, flags are compared. After a restore, or when other
// rooms used Mailboxes, it makes all of them listed.
func (s *Store) Reconcile(ctx context.Context) error {
	all, err := s.places(ctx)
	if err != nil {
		return fmt.Errorf("compare folders: %w", err)
	}
	for _, account := range accountsOf(all) {
		boxes, err := s.mailboxes.Mailboxes(ctx, account)
		if err != nil {
			return err
		}
		for i := range boxes {
			if err := s.reconcile(ctx, &boxes[i]); err != nil {
				return fmt.Errorf("compare folder %q of account %d: %w", boxes[i].Name, account, err)
			}
		}
	}
	return nil
}

// reconcile compares one folder.
func (s *Store) reconcile(ctx context.Context, m *mailbox.Mailbox) error {
	var state int64
	err := s.view(ctx, func(tx db.Tx) error {
		err := tx.QueryRow(`SELECT seen FROM folder_state WHERE account = ? AND number = ?`, int64(m.Account), m.Number).Scan(&state)
		if errors.Is(err, db.ErrNotFound) {
			err = nil
		}
		return err
	})
	if err != nil || state == m.ModSeq {
		return err
	}
	known, err := s.lettersOf(ctx, m)
	if err != nil {
		return err
	}
	list, release, err := s.mailboxes.Listing(ctx, m.Account, m.Name)
	if err != nil {
		return err
	}
	defer release()
	var missing []mailbox.UID
	for i := range list.Len() {
		uid := list.UID(i)
		flags, there := known[uid]
		delete(known, uid)
		if !there {
			missing = append(missing, uid)
		} else if flags != list.Flags(i) {
			if err := s.adoptFlags(ctx, m, uid); err != nil {
				return err
			}
		}
	}
	for chunk := range slices.Chunk(missing, changeChunk) {
		if err := s.adopt(ctx, m, chunk); err != nil {
			return err
		}
	}
	for uid := range known {
		if err := s.lost(ctx, m, uid); err != nil {
			return err
		}
	}
	s.wakeIndex()
	return s.db.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO folder_state (account, number, seen, hidden) VALUES (?, ?, ?, 0) ON CONFLICT (account, number) DO UPDATE SET seen = excluded.seen`,
			int64(m.Account), m.Number, m.ModSeq)
		return err
	})
}

// lettersOf reads the uids and flags of the letters of a folder.
func (s *Store) lettersOf(ctx context.Context, m *mailbox.Mailbox) (map[mailbox.UID]mailbox.Flags, error) {
	known := make(map[mailbox.UID]mailbox.Flags, m.Messages)
	const page = 5000
	for last, more := int64(0), true; more; {
		err := s.view(ctx, func(tx db.Tx) error {
			rows, err := tx.Query(`SELECT uid, flags FROM letter WHERE account = ? AND number = ? AND uid > ? AND removed = 0 ORDER BY uid LIMIT ?`, int64(m.Account), m.Number, last, int64(page))
			if err != nil {
				return err
			}
			defer rows.Close()
			n := 0
			for ; rows.Next(); n++ {
				var flags mailbox.Flags
				if err := rows.Scan(&last, &flags); err != nil {
					return err
				}
				known[mailbox.UID(last)] = flags
			}
			more = n == page
			return rows.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	return known, nil
}

// adopt makes the letters of entries that have none.
func (s *Store) adopt(ctx context.Context, m *mailbox.Mailbox, uids []mailbox.UID) error {
	rows := make(map[mailbox.UID]*row, len(uids))
	for _, uid := range uids {
		r := &row{}
		o, size, err := s.octets(ctx, m.Account, m.Number, uid)
		switch {
		case errors.Is(err, mailbox.ErrGone):
			continue
		case errors.Is(err, body.ErrDamaged), errors.Is(err, body.ErrNotFound):
			s.cfg.Logger.Error("a letter is damaged; it is listed without its header", "account", int64(m.Account), "folder", m.Name, "uid", uint32(uid), "error", err)
		case err != nil:
			return err
		default:
			if r.head, err = readHeader(o, size); err != nil {
				return err
			}
		}
		rows[uid] = r
	}
	return s.db.UpdateLow(ctx, func(tx db.Tx) error {
		for _, uid := range uids {
			if rows[uid] == nil {
				continue
			}
			e, err := s.mailboxes.Entry(tx, m.Account, m.Number, uid)
			if errors.Is(err, mailbox.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if _, err := s.LetterOf(tx, m.Account, m.Number, uid); err == nil {
				continue
			} else if !errors.Is(err, ErrNotFound) {
				return err
			}
			s.prepare(rows[uid], e.Received)
			in, err := s.enter(tx, []row{*rows[uid]})
			if err == nil {
				err = in.insert(rows[uid], &e)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// adoptFlags takes over the flags of an entry.
func (s *Store) adoptFlags(ctx context.Context, m *mailbox.Mailbox, uid mailbox.UID) error {
	return s.db.UpdateLow(ctx, func(tx db.Tx) error {
		e, err := s.mailboxes.Entry(tx, m.Account, m.Number, uid)
		if errors.Is(err, mailbox.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return mirrorFlags(tx, []mailbox.Entry{e})
	})
}

// lost deals with a letter whose entry is not in its folder: it is in retention, or gone.
func (s *Store) lost(ctx context.Context, m *mailbox.Mailbox, uid mailbox.UID) error {
	var id LetterID
	gone := false
	err := s.db.Update(ctx, func(tx db.Tx) (err error) {
		if _, err := s.mailboxes.Entry(tx, m.Account, m.Number, uid); err == nil || !errors.Is(err, mailbox.ErrNotFound) {
			gone = false
			return err // it came back
		}
		gone = true
		if id, err = s.LetterOf(tx, m.Account, m.Number, uid); err != nil {
			return err
		}
		if err := forgetText(tx, located{id, letterPlace{account: m.Account, number: m.Number, uid: uid}}); err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE letter SET removed = ?, indexed = 0, turn = turn + 1 WHERE id = ?`, db.Micros(s.cfg.Now()), int64(id))
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil || !gone {
		return err
	}
	if _, err := s.mailboxes.Locate(ctx, m.Account, m.Number, uid); errors.Is(err, mailbox.ErrGone) {
		l := located{id: id}
		l.account, l.number, l.uid = m.Account, m.Number, uid
		return s.forget(ctx, []located{l})
	}
	return nil
}

// accountsOf are the accounts that have folders.
func accountsOf(all []place) []envelope.AccountID {
	var ids []envelope.AccountID
	for _, p := range all {
		if len(ids) == 0 || ids[len(ids)-1] != p.account {
			ids = append(ids, p.account)
		}
	}
	return ids
}
