package mailbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Run sweeps retention until ctx ends: what is past its time, and of accounts
// that retain more than their quota the oldest. One a process; several nodes may
// run it. A round that fails is logged and tried again.
func (s *Store) Run(ctx context.Context) error {
	t := time.NewTicker(s.cfg.SweepEvery)
	defer t.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Error("sweep of deleted mail failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Sweep runs one round of what Run does.
func (s *Store) Sweep(ctx context.Context) error {
	began := s.cfg.Now()
	err := errors.Join(s.sweepOld(ctx, began.Add(-s.cfg.Retention)), s.sweepExcess(ctx))
	if s.cfg.Hooks.Sweep != nil {
		s.cfg.Hooks.Sweep(s.cfg.Now().Sub(began))
	}
	return err
}

// sweepOld purges what was removed before the limit, oldest first.
func (s *Store) sweepOld(ctx context.Context, limit time.Time) error {
	for {
		chunk, err := s.oldest(ctx, `r.removed < ?`, db.Micros(limit))
		if err != nil || len(chunk) == 0 {
			return err
		}
		if _, err := s.purge(ctx, chunk); err != nil {
			return err
		}
	}
}

// oldest reads the retained entries that were removed first, under a condition.
func (s *Store) oldest(ctx context.Context, where string, arg int64) ([]Retained, error) {
	var chunk []Retained
	err := s.cfg.DB.View(ctx, func(tx db.Tx) error {
		chunk = chunk[:0]
		rows, err := tx.Query(`SELECT r.account, r.number, r.uid, r.octets, r.unique_id, r.body, r.removed, m.name FROM retained r JOIN mailbox m ON m.account = r.account AND m.number = r.number WHERE `+where+` ORDER BY r.removed LIMIT ?`,
			arg, int64(messageChunk))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r rawEntry
			var account, removed int64
			if err := rows.Scan(&account, &r.Number, &r.UID, &r.Octets, &r.uniqueID, &r.body, &removed, &r.Mailbox); err != nil {
				return err
			}
			if err := r.finish(envelope.AccountID(account)); err != nil {
				return err
			}
			chunk = append(chunk, Retained{r.Entry, db.FromMicros(removed)})
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("look for deleted mail to purge: %w", err)
	}
	return chunk, nil
}

// sweepExcess purges, of every account that retains more octets than its quota,
// the oldest removals.
func (s *Store) sweepExcess(ctx context.Context) error {
	if s.cfg.Quota == nil {
		return nil
	}
	for after := int64(-1 << 62); ; {
		accounts, octets, err := s.retaining(ctx, after)
		if err != nil || len(accounts) == 0 {
			return err
		}
		for i, account := range accounts {
			quota, err := s.cfg.Quota(ctx, envelope.AccountID(account))
			if err != nil {
				return fmt.Errorf("read quota of account %d: %w", account, err)
			}
			if quota > 0 && octets[i] > quota {
				if err := s.purgeExcess(ctx, account, quota); err != nil {
					return err
				}
			}
		}
		after = accounts[len(accounts)-1]
	}
}

// retaining reads the next accounts with retained mail and how much they have.
func (s *Store) retaining(ctx context.Context, after int64) (accounts, octets []int64, err error) {
	err = s.cfg.DB.View(ctx, func(tx db.Tx) error {
		accounts, octets = accounts[:0], octets[:0]
		rows, err := tx.Query(`SELECT account, CAST(SUM(retained) AS BIGINT) FROM mailbox WHERE account > ? AND retained > 0 GROUP BY account ORDER BY account LIMIT ?`,
			after, int64(chunkRows))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var account, n int64
			if err := rows.Scan(&account, &n); err != nil {
				return err
			}
			accounts, octets = append(accounts, account), append(octets, n)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for accounts with deleted mail: %w", err)
	}
	return accounts, octets, nil
}

// purgeExcess purges an account's oldest removals until no more than its quota are retained. How much is too much is
// asked after the oldest were read: another node may purge them too, and a person restore.
func (s *Store) purgeExcess(ctx context.Context, account, quota int64) error {
	for {
		chunk, err := s.oldest(ctx, `r.account = ?`, account)
		if err != nil || len(chunk) == 0 {
			return err
		}
		var excess int64
		err = s.cfg.DB.View(ctx, func(tx db.Tx) error {
			var retained int64
			err := tx.QueryRow(`SELECT CAST(COALESCE(SUM(retained), 0) AS BIGINT) FROM mailbox WHERE account = ?`, account).Scan(&retained)
			excess = retained - quota
			return err
		})
		if err != nil {
			return fmt.Errorf("count deleted mail of account %d: %w", account, err)
		}
		if excess <= 0 {
			return nil
		}
		n := 0
		for ; n < len(chunk) && excess > 0; n++ {
			excess -= chunk[n].Octets
		}
		if _, err := s.purge(ctx, chunk[:n]); err != nil {
			return err
		}
	}
}
