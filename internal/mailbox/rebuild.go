package mailbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// What store rebuild does with entries. The functions leave the counters of
// mailboxes alone, write no journal and drop no listing: Recount is the last of
// them, on a database that nobody else uses.

// Place says where an entry is.
type Place uint8

// The places of an entry.
const (
	Absent Place = iota
	InMailbox
	InRetention
)

// Find says where the entry with the uid and the body is.
func (s *Store) Find(tx db.Tx, account envelope.AccountID, mailbox string, uid UID, body message.ID) (Place, error) {
	for place, table := range map[Place]string{InMailbox: "entry", InRetention: "retained"} {
		var n int64
		err := tx.QueryRow(`SELECT COUNT(*) FROM `+table+` e JOIN mailbox m ON m.account = e.account AND m.number = e.number WHERE m.account = ? AND m.name = ? AND e.uid = ? AND e.body = ?`,
			int64(account), mailbox, int64(uid), body[:]).Scan(&n)
		if err != nil {
			return Absent, fmt.Errorf("find entry %d of mailbox %q of account %d: %w", uid, mailbox, account, err)
		}
		if n > 0 {
			return place, nil
		}
	}
	return Absent, nil
}

// Skip makes the mailbox, if it is missing, and has it give no uid up to last.
func (s *Store) Skip(tx db.Tx, account envelope.AccountID, mailbox string, last UID) error {
	number, err := s.number(tx, account, mailbox)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE mailbox SET uidnext = ? WHERE account = ? AND number = ? AND uidnext < ?`,
		min(int64(last)+1, math.MaxUint32), int64(account), number, int64(last)+1)
	if err != nil {
		return fmt.Errorf("skip uids of mailbox %q of account %d: %w", mailbox, account, err)
	}
	return nil
}

// PutBack stores an entry, in retention when removed is not zero. It keeps its
// uid if that is free, and gets the mailbox's next otherwise. sha256 is the
// body's, for knowing an import again.
func (s *Store) PutBack(tx db.Tx, e *Entry, removed time.Time, sha256 [32]byte) error {
	var err error
	if e.Number, err = s.number(tx, e.Account, e.Mailbox); err != nil {
		return err
	}
	used := e.UID == 0
	if !used {
		var n int64
		err := tx.QueryRow(`SELECT (SELECT COUNT(*) FROM entry WHERE account = ? AND number = ? AND uid = ?) + (SELECT COUNT(*) FROM retained WHERE account = ? AND number = ? AND uid = ?)`,
			int64(e.Account), e.Number, int64(e.UID), int64(e.Account), e.Number, int64(e.UID)).Scan(&n)
		if err != nil {
			return fmt.Errorf("look for uid %d in mailbox %q of account %d: %w", e.UID, e.Mailbox, e.Account, err)
		}
		used = n > 0
	}
	if used {
		next := *e
		next.Octets = 0 // Recount counts
		if err := s.allocate(tx, &next); err != nil {
			return fmt.Errorf("allocate a uid in mailbox %q of account %d: %w", e.Mailbox, e.Account, err)
		}
		e.UID = next.UID
	} else if err := s.Skip(tx, e.Account, e.Mailbox, e.UID); err != nil {
		return err
	}
	if err := s.putRow(tx, e, removed); err != nil {
		return fmt.Errorf("put back entry %d of mailbox %q of account %d: %w", e.UID, e.Mailbox, e.Account, err)
	}
	return s.remember(tx, e, sha256)
}

// putRow inserts the row of PutBack.
func (s *Store) putRow(tx db.Tx, e *Entry, removed time.Time) error {
	prefix := e.Prefix
	if prefix == nil {
		prefix = []byte{}
	}
	args := []any{int64(e.Account), e.Number, int64(e.UID), int64(1), int64(e.Flags), e.Octets, e.Surrogate, db.Micros(e.Received),
		storeUniqueID(e.UniqueID, e.Body), e.Body[:], prefix}
	columns, marks, table := `account, number, uid, modseq, flags, octets, surrogate, received, unique_id, body, prefix`, `?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?`, `entry`
	if !removed.IsZero() {
		columns, marks, table = columns+`, removed`, marks+`, ?`, `retained`
		args = append(args, db.Micros(removed))
	}
	_, err := tx.Exec(`INSERT INTO `+table+` (`+columns+`) VALUES (`+marks+`)`, args...)
	return err
}

// remember notes a unique-id that an import or a restore gave.
func (s *Store) remember(tx db.Tx, e *Entry, sha256 [32]byte) error {
	column := storeUniqueID(e.UniqueID, e.Body)
	var err error
	switch {
	case len(column) == 0:
	case column[0] == textMark:
		_, err = tx.Exec(`INSERT INTO import_key (account, number, key, sha256) VALUES (?, ?, ?, ?) ON CONFLICT (account, number, key) DO NOTHING`,
			int64(e.Account), e.Number, append([]byte{'u'}, e.UniqueID...), sha256[:])
	default:
		_, err = tx.Exec(`INSERT INTO restored_id (id) VALUES (?) ON CONFLICT (id) DO NOTHING`, column)
	}
	if err != nil {
		return fmt.Errorf("remember unique-id %s: %w", e.UniqueID, err)
	}
	return nil
}

// Retain puts one entry into retention as of removed.
func (s *Store) Retain(tx db.Tx, account envelope.AccountID, mailbox string, uid UID, removed time.Time) error {
	m, err := readMailbox(tx, account, mailbox)
	if err == nil {
		const where = ` FROM entry WHERE account = ? AND number = ? AND uid = ?`
		_, err = tx.Exec(`INSERT INTO retained (account, number, uid, modseq, flags, octets, surrogate, received, unique_id, body, prefix, removed) SELECT account, number, uid, modseq, flags, octets, surrogate, received, unique_id, body, prefix, CAST(? AS BIGINT)`+where,
			db.Micros(removed), int64(account), m.Number, int64(uid))
		if err == nil {
			_, err = tx.Exec(`DELETE`+where, int64(account), m.Number, int64(uid))
		}
	}
	if err != nil {
		return fmt.Errorf("retain entry %d of mailbox %q of account %d: %w", uid, mailbox, account, err)
	}
	return nil
}

// Forget drops one entry for ever. The caller releases its body.
func (s *Store) Forget(tx db.Tx, account envelope.AccountID, mailbox string, uid UID) error {
	m, err := readMailbox(tx, account, mailbox)
	for _, table := range [...]string{"entry", "retained"} {
		if err == nil {
			_, err = tx.Exec(`DELETE FROM `+table+` WHERE account = ? AND number = ? AND uid = ?`, int64(account), m.Number, int64(uid))
		}
	}
	if err != nil {
		return fmt.Errorf("forget entry %d of mailbox %q of account %d: %w", uid, mailbox, account, err)
	}
	return nil
}

// Recount sets the counters of every mailbox by its entries and begins a new
// epoch: UIDVALIDITY rises, unique-ids stay. It returns how many messages are in
// mailboxes and how many in retention.
func (s *Store) Recount(ctx context.Context) (messages, retained int64, err error) {
	validity := max(1, s.cfg.Now().Unix()&math.MaxUint32)
	for after, done := int64(math.MinInt64), false; !done; {
		err := s.cfg.DB.Update(ctx, func(tx db.Tx) error {
			var next int64
			err := tx.QueryRow(`SELECT MIN(account) FROM mailbox WHERE account > ? HAVING COUNT(*) > 0`, after).Scan(&next)
			if done = errors.Is(err, db.ErrNotFound); done {
				return nil
			}
			if err != nil {
				return err
			}
			after = next
			return recountAccount(tx, next, validity)
		})
		if err != nil {
			return 0, 0, fmt.Errorf("count mailboxes: %w", err)
		}
	}
	err = s.cfg.DB.Update(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT (SELECT COUNT(*) FROM entry), (SELECT COUNT(*) FROM retained)`).Scan(&messages, &retained)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count mailboxes: %w", err)
	}
	return messages, retained, nil
}

// recountAccount is Recount for one account.
func recountAccount(tx db.Tx, account, validity int64) error {
	const of = ` e WHERE e.account = mailbox.account AND e.number = mailbox.number), 0)`
	_, err := tx.Exec(`UPDATE mailbox SET
		messages = COALESCE((SELECT COUNT(*) FROM entry`+of+`,
		octets = COALESCE((SELECT SUM(e.octets) FROM entry`+of+`,
		retained = COALESCE((SELECT SUM(e.octets) FROM retained`+of+`,
		uidvalidity = CASE WHEN uidvalidity >= ? THEN uidvalidity + 1 ELSE ? END,
		modseq = modseq + 1, shrunk = modseq + 1 WHERE account = ?`, validity, validity, account)
	return err
}
