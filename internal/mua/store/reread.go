package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mua/store/extract"
)

// Settings that say by which version of extract letters were read: all of them, but those with
// attachments below an id.
const (
	settingRead   = "read_by"
	settingUnread = "read_anew_below"
)

// rereadBatch is how many letters are taken out of the index at once to be read anew; they are not
// found until they are.
const rereadBatch = 50

// beginReread notes, when a newer program opens the store for the first time, that letters with
// attachments are to be read anew: more is read of them than was. Letters that come later need it not.
func (s *Store) beginReread(ctx context.Context) error {
	var version int64
	err := s.view(ctx, func(tx db.Tx) (err error) {
		version, _, err = number(tx, settingRead)
		return err
	})
	if err == nil && version >= extract.Version {
		return nil
	}
	if err == nil {
		err = s.noteReread(ctx)
	}
	if err != nil {
		return fmt.Errorf("see which letters are to be read anew: %w", err)
	}
	return nil
}

// noteReread notes which letters are to be read anew.
func (s *Store) noteReread(ctx context.Context) error {
	return s.db.UpdateLow(ctx, func(tx db.Tx) error {
		version, there, err := number(tx, settingRead)
		if err != nil || version >= extract.Version {
			return err
		}
		var read, last int64
		if err := tx.QueryRow(`SELECT COALESCE(MAX(indexed), 0), COALESCE(MAX(id), 0) FROM (SELECT indexed, id FROM letter WHERE attachments > 0)`).Scan(&read, &last); err != nil {
			return err
		}
		if read > 0 || there {
			if err := set(tx, settingUnread, last+1); err != nil {
				return err
			}
		}
		return set(tx, settingRead, extract.Version)
	})
}

// rereadSome takes some letters with attachments out of the index, the newest first, so that they are read
// anew, and returns how many; 0 when there are none left.
func (s *Store) rereadSome(ctx context.Context) (int, error) {
	s.indexing.Lock()
	defer s.indexing.Unlock()
	n := 0
	err := s.db.UpdateLow(ctx, func(tx db.Tx) error {
		n = 0
		below, there, err := number(tx, settingUnread)
		if err != nil || !there {
			return err
		}
		ids, ranks, err := attached(tx, below)
		if err != nil {
			return err
		}
		if n = len(ids); n == 0 {
			_, err := tx.Exec(`DELETE FROM store_setting WHERE name = ?`, settingUnread)
			return err
		}
		for i, id := range ids {
			if _, err := tx.Exec(`DELETE FROM letter_text WHERE rowid = ?`, ranks[i]); err != nil {
				return err
			}
			if _, err := tx.Exec(`UPDATE letter SET indexed = 0, turn = turn + 1 WHERE id = ?`, id); err != nil {
				return err
			}
		}
		return set(tx, settingUnread, ids[n-1])
	})
	if err != nil {
		return 0, fmt.Errorf("read letters with attachments anew: %w", err)
	}
	return n, nil
}

// attached are the next letters with attachments below an id that are in the index, and their ranks.
func attached(tx db.Tx, below int64) (ids, ranks []int64, err error) {
	rows, err := tx.Query(`SELECT id, rank FROM letter WHERE id < ? AND attachments > 0 AND indexed <> 0 AND removed = 0 ORDER BY id DESC LIMIT ?`, below, int64(rereadBatch))
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, rank int64
		if err := rows.Scan(&id, &rank); err != nil {
			return nil, nil, err
		}
		ids, ranks = append(ids, id), append(ranks, rank)
	}
	return ids, ranks, rows.Err()
}

// rereadAll notes that all letters are about to be read.
func rereadAll(tx db.Tx) error {
	if _, err := tx.Exec(`DELETE FROM store_setting WHERE name = ?`, settingUnread); err != nil {
		return err
	}
	return set(tx, settingRead, extract.Version)
}

// number reads a setting.
func number(tx db.Tx, name string) (n int64, there bool, err error) {
	var text string
	err = tx.QueryRow(`SELECT value FROM store_setting WHERE name = ?`, name).Scan(&text)
	if errors.Is(err, db.ErrNotFound) {
		return 0, false, nil
	}
	if err == nil {
		n, err = strconv.ParseInt(text, 10, 64)
	}
	return n, true, err
}

// set writes a setting.
func set(tx db.Tx, name string, n int64) error {
	_, err := tx.Exec(`INSERT INTO store_setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, strconv.FormatInt(n, 10))
	return err
}
