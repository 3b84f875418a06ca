package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
)

// When the store looks after itself.
const (
	tidyEvery   = time.Hour
	mergeEvery  = 24 * time.Hour
	mergeShare  = 0.25
	sweepAllDay = 30 // days after which any dead octet is a reason to merge
	purgeChunk  = 200
)

// Run works until ctx ends: it finds letters that the engines have and the store does not know,
// indexes, empties Trash, purges what is past its retention and merges segments. It returns nil then.
func (s *Store) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = s.body.Run(ctx) })      // nil at the end of ctx
	wg.Go(func() { _ = s.mailboxes.Run(ctx) }) // 〃
	if err := s.Reconcile(ctx); err != nil && ctx.Err() == nil {
		s.cfg.Logger.Error("looking for letters that are not listed failed", "error", err)
	}
	s.wakeIndex()
	wg.Go(func() { s.indexLoop(ctx) })
	t := time.NewTicker(tidyEvery)
	defer t.Stop()
	for {
		if err := s.Tidy(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Error("tidying the mail folder failed; it is tried again in an hour", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			s.wakeIndex() // what failed is tried again
		}
	}
}

// Tidy does once what Run does every hour.
func (s *Store) Tidy(ctx context.Context) error {
	var errs []error
	if s.cfg.TrashAfter > 0 {
		errs = append(errs, s.emptyAll(ctx))
	}
	return errors.Join(append(errs, s.File(ctx, nil), s.dropPurged(ctx), s.mergeIfDue(ctx))...)
}

// emptyAll empties the Trash of all accounts of what lies there for long.
func (s *Store) emptyAll(ctx context.Context) error {
	all, err := s.places(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.name != Trash {
			continue
		}
		if _, err := s.EmptyTrash(ctx, p.account, s.cfg.Now().Add(-s.cfg.TrashAfter)); err != nil {
			return err
		}
	}
	return nil
}

// dropPurged drops the rows of letters whose time in retention is over and whose entries were purged.
func (s *Store) dropPurged(ctx context.Context) error {
	limit := db.Micros(s.cfg.Now().Add(-s.cfg.Retention))
	for after := int64(0); ; {
		var batch []located
		err := s.view(ctx, func(tx db.Tx) error {
			batch = batch[:0]
			rows, err := tx.Query(`SELECT id, account, number, uid FROM letter WHERE removed <> 0 AND removed < ? AND id > ? ORDER BY id LIMIT ?`, limit, after, int64(purgeChunk))
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var l located
				if err := rows.Scan(&l.id, &l.account, &l.number, &l.uid); err != nil {
					return err
				}
				batch = append(batch, l)
			}
			return rows.Err()
		})
		if err != nil || len(batch) == 0 {
			return err
		}
		after = int64(batch[len(batch)-1].id)
		var gone []located
		for _, l := range batch {
			if _, err := s.mailboxes.Locate(ctx, l.account, l.number, l.uid); errors.Is(err, mailbox.ErrGone) {
				gone = append(gone, l)
			} else if err != nil {
				return err
			}
		}
		if err := s.forget(ctx, gone); err != nil {
			return err
		}
	}
}

// forget drops the rows of letters whose entries are gone for ever, and of threads without letters.
func (s *Store) forget(ctx context.Context, gone []located) error {
	if len(gone) == 0 {
		return nil
	}
	err := s.db.UpdateLow(ctx, func(tx db.Tx) error {
		for _, l := range gone {
			if err := forgetText(tx, l); err != nil {
				return err
			}
			var thread int64
			err := tx.QueryRow(`DELETE FROM letter WHERE id = ? AND account = ? AND number = ? AND uid = ? RETURNING thread`, int64(l.id), int64(l.account), l.number, int64(l.uid)).Scan(&thread)
			if errors.Is(err, db.ErrNotFound) {
				continue
			}
			if err == nil {
				_, err = tx.Exec(`DELETE FROM thread_key WHERE thread = ? AND NOT EXISTS (SELECT 1 FROM letter WHERE thread = ?)`, thread, thread)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget purged letters: %w", err)
	}
	return nil
}

// PurgeAccount removes all mail of an account for ever, retention and what is known of imports included;
// its people stay in the address book. It may be stopped and repeated.
func (s *Store) PurgeAccount(ctx context.Context, account envelope.AccountID) error {
	if err := s.dropLanded(ctx, account); err != nil {
		return fmt.Errorf("purge account %d: %w", account, err)
	}
	if _, err := s.mailboxes.PurgeAccount(ctx, account); err != nil {
		return err
	}
	for {
		var gone []located
		err := s.view(ctx, func(tx db.Tx) error {
			gone = gone[:0]
			rows, err := tx.Query(`SELECT id, account, number, uid FROM letter WHERE account = ? LIMIT ?`, int64(account), int64(purgeChunk))
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var l located
				if err := rows.Scan(&l.id, &l.account, &l.number, &l.uid); err != nil {
					return err
				}
				gone = append(gone, l)
			}
			return rows.Err()
		})
		if err != nil {
			return fmt.Errorf("purge account %d: %w", account, err)
		}
		if len(gone) == 0 {
			break
		}
		if err := s.forget(ctx, gone); err != nil {
			return err
		}
	}
	return s.db.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`DELETE FROM folder_state WHERE account = ?`, int64(account))
		return err
	})
}

// mergeIfDue gives dead octets back to the disk: daily where they are many, monthly wherever there are some.
func (s *Store) mergeIfDue(ctx context.Context) error {
	now := s.cfg.Now()
	last, err := s.settingTime(ctx, "merged")
	if err != nil || now.Sub(last) < mergeEvery {
		return err
	}
	whole, err := s.settingTime(ctx, "merged-whole")
	if err != nil {
		return err
	}
	o := body.MergeOptions{DeadShare: mergeShare}
	all := now.Sub(whole) >= sweepAllDay*24*time.Hour
	if all {
		o.DeadShare = 0
	}
	if _, err := s.body.Merge(ctx, o); err != nil {
		return fmt.Errorf("merge segments: %w", err)
	}
	if all {
		if err := s.setTime(ctx, "merged-whole", now); err != nil {
			return err
		}
	}
	return s.setTime(ctx, "merged", now)
}

// settingTime reads a time; zero when it is not known.
func (s *Store) settingTime(ctx context.Context, name string) (time.Time, error) {
	var text string
	err := s.view(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT value FROM store_setting WHERE name = ?`, name).Scan(&text)
	})
	if errors.Is(err, db.ErrNotFound) {
		return time.Time{}, nil
	}
	micros, parse := strconv.ParseInt(text, 10, 64)
	if err := errors.Join(err, parse); err != nil {
		return time.Time{}, fmt.Errorf("read setting %s: %w", name, err)
	}
	return db.FromMicros(micros), nil
}

func (s *Store) setTime(ctx context.Context, name string, t time.Time) error {
	err := s.db.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO store_setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, strconv.FormatInt(db.Micros(t), 10))
		return err
	})
	if err != nil {
		return fmt.Errorf("write setting %s: %w", name, err)
	}
	return nil
}
