package quarantine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

const (
	sweepEvery = time.Hour
	sweepChunk = 100
)

// Run lets go of what is old each hour until ctx ends. Several nodes may run it.
func (r *Room) Run(ctx context.Context) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		if _, err := r.Sweep(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Logger.Error("sweep of what is set apart failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Sweep runs one round of what Run does: what was set apart longer ago than Config.Keep goes into
// retention, and of accounts whose set-apart mail is over a quarter of the quota the oldest. Rows
// whose message its owner moved or deleted are dropped. It returns how many messages went.
func (r *Room) Sweep(ctx context.Context) (int, error) {
	n, err := r.sweepOld(ctx, r.cfg.Now().Add(-r.cfg.Keep))
	m, err2 := r.sweepExcess(ctx)
	if n+m > 0 && r.cfg.Hooks.Expired != nil {
		r.cfg.Hooks.Expired(n + m)
	}
	return n + m, errors.Join(err, err2)
}

func (r *Room) sweepOld(ctx context.Context, limit time.Time) (int, error) {
	total := 0
	for {
		chunk, err := r.rows(ctx, `noted < ? ORDER BY noted LIMIT ?`, db.Micros(limit), int64(sweepChunk))
		if err != nil || len(chunk) == 0 {
			return total, err
		}
		n, err := r.expire(ctx, chunk, "kept long enough")
		total += n
		if err != nil {
			return total, err
		}
	}
}

func (r *Room) rows(ctx context.Context, where string, args ...any) (all []row, err error) {
	err = r.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
		all, err = query(tx, where, args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for what was set apart long ago: %w", err)
	}
	return all, nil
}

// expire puts the rows' entries into retention; a row without an entry goes alone.
func (r *Room) expire(ctx context.Context, chunk []row, why string) (int, error) {
	total := 0
	for i := range chunk {
		w := &chunk[i]
		ok, err := r.remove(ctx, w, why)
		if err != nil {
			return total, err
		}
		if ok {
			total++
			continue
		}
		err = r.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
			_, err := tx.Exec(`DELETE FROM set_apart WHERE account = ? AND id = ? AND number = ? AND uid = ?`, int64(w.Account), w.ID[:], w.Number, int64(w.UID))
			return err
		})
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// sweepExcess looks at each account that has anything set apart.
func (r *Room) sweepExcess(ctx context.Context) (int, error) {
	if r.cfg.Quota == nil {
		return 0, nil
	}
	total := 0
	for after := int64(-1 << 62); ; {
		accounts, err := r.accounts(ctx, after)
		if err != nil || len(accounts) == 0 {
			return total, err
		}
		for _, account := range accounts {
			n, err := r.trim(ctx, account)
			total += n
			if err != nil {
				return total, err
			}
		}
		after = int64(accounts[len(accounts)-1])
	}
}

func (r *Room) accounts(ctx context.Context, after int64) (all []envelope.AccountID, err error) {
	err = r.cfg.DB.View(ctx, func(tx db.Tx) error {
		all = all[:0]
		rows, err := tx.Query(`SELECT DISTINCT account FROM set_apart WHERE account > ? ORDER BY account LIMIT ?`, after, int64(sweepChunk))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				return err
			}
			all = append(all, envelope.AccountID(n))
		}
		return rows.Err()
	})
	return all, err
}

// trim lets go of an account's oldest items until what is set apart fits.
func (r *Room) trim(ctx context.Context, account envelope.AccountID) (int, error) {
	quota, err := r.cfg.Quota(ctx, account)
	if err != nil || quota <= 0 {
		return 0, err
	}
	total := 0
	for {
		used, err := r.cfg.Mailboxes.Usage(ctx, account)
		if err != nil || used.Apart <= quota/4 {
			return total, err
		}
		chunk, err := r.rows(ctx, `account = ? ORDER BY noted LIMIT ?`, int64(account), int64(sweepChunk))
		if err != nil || len(chunk) == 0 {
			return total, err
		}
		excess := used.Apart - quota/4
		for i := range chunk {
			if excess <= 0 {
				break
			}
			err := r.cfg.DB.View(ctx, func(tx db.Tx) error {
				e, err := r.cfg.Mailboxes.Entry(tx, account, chunk[i].Number, chunk[i].UID)
				chunk[i].Octets = e.Octets
				_, err = done(err)
				return err
			})
			if err != nil {
				return total, err
			}
			n, err := r.expire(ctx, chunk[i:i+1], "more than a quarter of the quota was set apart")
			total += n
			if err != nil {
				return total, err
			}
			excess -= chunk[i].Octets
		}
	}
}
