package keys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
)

// errChanged: the domain's keys are not what the caller saw.
var errChanged = errors.New("keys changed meanwhile")

const keyColumns = `domain, selector, algorithm, stage, record, created, published, activated, retired, removed`

// List returns the keys of a domain, of all domains for the zero Domain: by
// domain, then from the newest stage to the oldest.
func (k *Keys) List(ctx context.Context, domain address.Domain) (all []Key, err error) {
	if domain.IsZero() {
		all, err = k.pages(ctx, `stage > ?`, int64(0))
	} else {
		err = k.c.DB.View(ctx, func(tx db.Tx) error {
			all, err = list(tx, `domain = ?`, domain.String())
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	sortKeys(all)
	return all, nil
}

// pageRows is how many keys one transaction lists.
const pageRows = 1000

// pages lists keys of any domain, a page a transaction.
func (k *Keys) pages(ctx context.Context, where string, args ...any) (all []Key, err error) {
	var last Key
	for {
		var page []Key
		err := k.c.DB.View(ctx, func(tx db.Tx) error {
			page, err = list(tx, `(domain > ? OR domain = ? AND selector > ?) AND `+where+` ORDER BY domain, selector LIMIT ?`,
				append(append([]any{last.Domain.String(), last.Domain.String(), last.Selector}, args...), int64(pageRows))...)
			return err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < pageRows {
			return all, nil
		}
		last = page[len(page)-1]
	}
}

func sortKeys(all []Key) {
	slices.SortFunc(all, func(a, b Key) int {
		return cmp.Or(strings.Compare(a.Domain.String(), b.Domain.String()), cmp.Compare(a.Stage, b.Stage),
			strings.Compare(string(a.Algorithm), string(b.Algorithm)), strings.Compare(a.Selector, b.Selector))
	})
}

// list reads keys in no order unless where asks for one.
func list(tx db.Tx, where string, args ...any) ([]Key, error) {
	rows, err := tx.Query(`SELECT `+keyColumns+` FROM dkim_key WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Key
	for rows.Next() {
		var x Key
		var domain, algorithm string
		var stage, created, published, activated, retired, removed int64
		if err := rows.Scan(&domain, &x.Selector, &algorithm, &stage, &x.Record, &created, &published, &activated, &retired, &removed); err != nil {
			return nil, err
		}
		if x.Domain, err = address.ParseDomain(domain); err != nil {
			return nil, fmt.Errorf("key %s of %q: %w", x.Selector, domain, err)
		}
		x.Algorithm, x.Stage, x.Created = Algorithm(algorithm), Stage(stage), db.FromMicros(created)
		x.Published, x.Activated = db.FromMicros(published), db.FromMicros(activated)
		x.Retired, x.Removed = db.FromMicros(retired), db.FromMicros(removed)
		all = append(all, x)
	}
	return all, rows.Err()
}

// state is what a change begins from: the keys and their version, 0 without a row.
func (k *Keys) state(ctx context.Context, domain address.Domain) (version int64, all []Key, err error) {
	err = k.c.DB.View(ctx, func(tx db.Tx) error {
		if version, err = versionOf(tx, domain); err != nil {
			return err
		}
		all, err = list(tx, `domain = ?`, domain.String())
		sortKeys(all)
		return err
	})
	return version, all, err
}

func versionOf(tx db.Tx, domain address.Domain) (version int64, err error) {
	err = tx.QueryRow(`SELECT version FROM dkim_domain WHERE domain = ?`, domain.String()).Scan(&version)
	if errors.Is(err, db.ErrNotFound) {
		return 0, nil
	}
	return version, err
}

// change runs fn if the domain's keys are still of that version; else it returns
// errChanged. Taking the row first makes changes of one domain follow each other.
func (k *Keys) change(ctx context.Context, domain address.Domain, version int64, fn func(tx db.Tx, now int64) error) error {
	now := db.Micros(k.c.Now())
	next := max(now, version+1)
	err := k.c.DB.Update(ctx, func(tx db.Tx) error {
		var n int64
		var err error
		if version == 0 {
			n, err = tx.Exec(`INSERT INTO dkim_domain (domain, version) VALUES (?, ?) ON CONFLICT (domain) DO NOTHING`, domain.String(), next)
		} else {
			n, err = tx.Exec(`UPDATE dkim_domain SET version = ? WHERE domain = ? AND version = ?`, next, domain.String(), version)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errChanged
		}
		return fn(tx, now)
	})
	k.forget(domain)
	return err
}

// moved tells of keys that came to a stage.
func (k *Keys) moved(domain address.Domain, to Stage, keys int) {
	if keys == 0 {
		return
	}
	k.c.Logger.Info("signing keys moved", "domain", domain.String(), "stage", to.String(), "keys", keys)
	if k.c.Hooks.Moved != nil {
		k.c.Hooks.Moved(to, keys)
	}
}

// Forget removes all keys of a domain that is served no more, at once. Their
// records should be deleted from DNS when its last mail has arrived.
func (k *Keys) Forget(ctx context.Context, domain address.Domain) error {
	return k.again(func() error {
		version, all, err := k.state(ctx, domain)
		if err != nil || len(all) == 0 {
			return err
		}
		return k.change(ctx, domain, version, func(tx db.Tx, _ int64) error {
			_, err := tx.Exec(`DELETE FROM dkim_key WHERE domain = ?`, domain.String())
			return err
		})
	}, "remove keys of "+domain.String())
}

// again repeats what another change overtook, a few times.
func (k *Keys) again(fn func() error, what string) error {
	const most = 5
	err := errChanged
	for range most {
		if err = fn(); !errors.Is(err, errChanged) {
			break
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errChanged):
		return fmt.Errorf("%s: %w", what, ErrBusy)
	}
	return fmt.Errorf("%s: %w", what, err)
}
