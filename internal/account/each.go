package account

import (
	"context"
	"fmt"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// eachPage is how many accounts one View of Each reads.
const eachPage = 500

// Each calls fn for every account of a database, removed ones whose mail may be in
// retention too, in order of id. It is for whoever has a database but no Accounts over it,
// as a backup.
func Each(ctx context.Context, d db.Database, fn func(id envelope.AccountID, login, address string) error) error {
	type row struct {
		id             int64
		login, address string
	}
	for after := int64(0); ; {
		var page []row
		err := d.View(ctx, func(tx db.Tx) error {
			page = page[:0]
			rows, err := tx.Query(`SELECT id, login, address FROM account WHERE id > ? ORDER BY id LIMIT ?`, after, int64(eachPage))
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var r row
				if err := rows.Scan(&r.id, &r.login, &r.address); err != nil {
					return err
				}
				page = append(page, r)
			}
			return rows.Err()
		})
		if err != nil {
			return fmt.Errorf("list accounts: %w", err)
		}
		for _, r := range page {
			if err := fn(envelope.AccountID(r.id), r.login, r.address); err != nil {
				return err
			}
			after = r.id
		}
		if len(page) < eachPage {
			return nil
		}
	}
}
