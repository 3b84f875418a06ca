package store

import (
	"context"
	"fmt"

	"poczta.example/poczta/internal/db"
)

// Since returns letters in folders that were added after another one, in the order of their ids; at
// most limit. after 0 begins with the first. Letters that are added at the same time may become
// visible in another order: look back a little.
func (s *Store) Since(ctx context.Context, after LetterID, limit int) ([]Summary, error) {
	var ids []int64
	err := s.view(ctx, func(tx db.Tx) error {
		ids = ids[:0]
		rows, err := tx.Query(`SELECT id FROM letter WHERE id > ? AND removed = 0 ORDER BY id LIMIT ?`, int64(after), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list letters since %d: %w", after, err)
	}
	return s.summaries(ctx, ids)
}
