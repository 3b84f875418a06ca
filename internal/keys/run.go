package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
)

// Run looks at DNS from time to time and brings keys on, until ctx ends. Several
// nodes may run it at once.
func (k *Keys) Run(ctx context.Context) error {
	ticker := time.NewTicker(k.c.Look)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := k.Advance(ctx); err != nil && ctx.Err() == nil {
				k.c.Logger.Warn("signing keys could not be brought on", "error", err)
			}
		}
	}
}

// Advance brings the keys of every domain on, as far as DNS and time allow. What
// fails for one domain does not keep the others from it.
func (k *Keys) Advance(ctx context.Context) error {
	all, err := k.pages(ctx, `stage IN (?, ?, ?, ?)`, int64(Prepared), int64(Published), int64(Retired), int64(Removed))
	if err != nil {
		return fmt.Errorf("list keys: %w", err)
	}
	var errs []error
	var last address.Domain
	for _, x := range all {
		if x.Domain == last {
			continue
		}
		last = x.Domain
		if err := k.advance(ctx, x.Domain); err != nil && !errors.Is(err, errChanged) {
			errs = append(errs, fmt.Errorf("keys of %s: %w", x.Domain, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// advance brings one domain's keys on by at most one stage each. Another node
// that does the same is left alone (errChanged).
func (k *Keys) advance(ctx context.Context, domain address.Domain) error {
	version, all, err := k.state(ctx, domain)
	if err != nil {
		return err
	}
	now := k.c.Now()
	waiting := next(all)
	if k.settled(waiting, now) {
		if seen, _ := k.seen(ctx, waiting); len(seen) < len(waiting) {
			return nil // a record vanished again
		}
		err := k.change(ctx, domain, version, func(tx db.Tx, now int64) error { return activate(tx, domain, now) })
		if err == nil {
			k.moved(domain, Active, len(waiting))
		}
		return err
	}
	if seen, _ := k.seen(ctx, slices.DeleteFunc(waiting, func(x Key) bool { return x.Stage != Prepared })); len(seen) > 0 {
		return k.publish(ctx, domain, version, seen)
	}
	return k.clear(ctx, domain, version, all, now)
}

// clear moves keys that were retired long ago to Removed, and forgets removed ones
// that DNS does not show any more.
func (k *Keys) clear(ctx context.Context, domain address.Domain, version int64, all []Key, now time.Time) error {
	var old, gone []Key
	for _, x := range all {
		switch {
		case x.Stage == Retired && now.Sub(x.Retired) >= k.c.Keep:
			old = append(old, x)
		case x.Stage == Removed:
			if found, _ := k.Look(ctx, x); found == Missing || found == Revoked {
				gone = append(gone, x)
			}
		}
	}
	if len(old)+len(gone) == 0 {
		return nil
	}
	err := k.change(ctx, domain, version, func(tx db.Tx, now int64) error {
		for _, x := range old {
			if _, err := tx.Exec(`UPDATE dkim_key SET stage = ?, removed = ? WHERE domain = ? AND selector = ?`, int64(Removed), now, domain.String(), x.Selector); err != nil {
				return err
			}
		}
		for _, x := range gone {
			if _, err := tx.Exec(`DELETE FROM dkim_key WHERE domain = ? AND selector = ?`, domain.String(), x.Selector); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		k.moved(domain, Removed, len(old))
	}
	return err
}
