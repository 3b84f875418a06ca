package mailbox

import (
	"context"
	"errors"
	"strings"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// takenSpan is how many uids one view of markTaken looks through.
const takenSpan = 200_000

// bodyIn names as many bodies as a batch may have; one text, so that one
// statement is prepared.
var bodyIn = `IN (` + strings.Repeat("?, ", MaxAppend-1) + `?)`

// markTaken finds imports whose unique-id is one of ours and belongs to an entry
// of their mailbox that was delivered or restored, as when an export comes back
// to where it was made: it is the same message. Ids that no body of this store
// has, the usual, cost one look-up each; for others the mailbox is looked through once a batch.
// Imported entries are known by import_key.
func (s *Store) markTaken(ctx context.Context, account envelope.AccountID, all []incoming) error {
	suspects := make(map[string]map[message.ID][]*incoming) // by mailbox
	err := s.look(ctx, func(tx db.Tx) error {
		clear(suspects)
		for i := range all {
			in := &all[i]
			id, err := message.ParseID(in.UniqueID)
			if err != nil || in.key[0] != 'u' {
				continue
			}
			known, err := everGiven(tx, id)
			if err != nil {
				return err
			}
			if known {
				at := suspects[in.entry.Mailbox]
				if at == nil {
					at = make(map[message.ID][]*incoming)
					suspects[in.entry.Mailbox] = at
				}
				at[id] = append(at[id], in)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for name, ids := range suspects {
		if err := s.lookThrough(ctx, account, name, ids); err != nil {
			return err
		}
	}
	return nil
}

// everGiven reports whether this store may have given the id to an entry: a body
// has it, or it was made by a restore, whose ids no index holds.
func everGiven(tx db.Tx, id message.ID) (bool, error) {
	var n int64
	err := tx.QueryRow(`SELECT COUNT(*) FROM body WHERE id = ?`, id[:]).Scan(&n)
	if err != nil || n > 0 {
		return n > 0, err
	}
	err = tx.QueryRow(`SELECT COUNT(*) FROM restored_id WHERE id = ?`, id[:]).Scan(&n)
	return n > 0, err
}

// lookThrough marks the imports whose ids entries of the mailbox have.
func (s *Store) lookThrough(ctx context.Context, account envelope.AccountID, name string, ids map[message.ID][]*incoming) error {
	var m Mailbox
	err := s.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
		m, err = readMailbox(tx, account, name)
		return err
	})
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	args := []any{int64(account), m.Number, int64(0), int64(0)}
	var list []any
	for id := range ids {
		list = append(list, id[:])
	}
	for len(list) < MaxAppend {
		list = append(list, list[0])
	}
	args = append(append(args, list...), list...)
	for from := int64(0); from < int64(m.UIDNext); from += takenSpan {
		args[2], args[3] = from, from+takenSpan
		err := s.look(ctx, func(tx db.Tx) error {
			for _, table := range [...]string{"entry", "retained"} {
				if err := markFrom(tx, table, args, ids); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// markFrom marks what one table has in a span of uids.
func markFrom(tx db.Tx, table string, args []any, ids map[message.ID][]*incoming) error {
	rows, err := tx.Query(`SELECT CASE WHEN LENGTH(unique_id) = 0 THEN body ELSE unique_id END FROM `+table+
		` WHERE account = ? AND number = ? AND uid >= ? AND uid < ? AND (LENGTH(unique_id) = 0 AND body `+bodyIn+` OR unique_id `+bodyIn+`)`, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var column []byte
		if err := rows.Scan(&column); err != nil {
			return err
		}
		id, err := loadID(column)
		if err != nil {
			return err
		}
		for _, in := range ids[id] {
			in.taken = true
		}
	}
	return rows.Err()
}
