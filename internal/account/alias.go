package account

import (
	"context"
	"errors"
	"fmt"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
)

// ParseAlias reads what an alias stands for, an address or "@domain" (the
// catch-all), into an Alias without targets.
func ParseAlias(s string) (Alias, error) {
	addr, domain, err := parseSource(s)
	return Alias{Source: addr, Domain: domain}, err
}

// Key is the alias's key, and what Aliases continues after.
func (s Alias) Key() string { return sourceKey(s.Source, s.Domain) }

// String prints what the alias stands for, as ParseAlias reads it.
func (s Alias) String() string {
	if s.Source.IsZero() {
		return "@" + s.Domain.String()
	}
	return s.Source.String()
}

// AddAlias adds targets to an alias, which is made if it is not there; targets
// it has already are no error, and get mail again if they were suspended. A target in a domain of ours must exist. Errors:
// ErrNotLocal (the alias's domain), ErrExists (an account has that address),
// ErrUnknownUser (a target), ErrLoop, ErrInvalid.
func (a *Accounts) AddAlias(ctx context.Context, alias Alias) error {
	if !alias.Source.IsZero() {
		alias.Domain = alias.Source.Domain()
		if err := checkNewAddress(alias.Source); err != nil {
			return err
		}
	}
	switch {
	case alias.Domain.IsZero():
		return fmt.Errorf("alias %w: give an address or @domain", ErrInvalid)
	case len(alias.Targets) == 0 || len(alias.Targets) > MaxAliasTargets:
		return fmt.Errorf("alias %s %w: give 1 to %d targets", alias, ErrInvalid, MaxAliasTargets)
	}
	return a.update(ctx, func(tx db.Tx) error {
		if err := needDomain(tx, alias.Domain); err != nil {
			return err
		}
		if err := a.insertAlias(tx, alias); err != nil {
			return err
		}
		return a.checkTargets(tx, alias)
	})
}

func (a *Accounts) insertAlias(tx db.Tx, alias Alias) error {
	key := alias.Key()
	if base, _, ok := a.base(alias.Source); ok {
		var n int64
		err := tx.QueryRow(`SELECT COUNT(*) FROM account_name WHERE name = ? AND account <> 0`, base.Key()).Scan(&n)
		if err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("alias %s %w: it is a subaddress of account %s, which gets its mail", alias, ErrExists, base)
		}
	}
	_, err := tx.Exec(`INSERT INTO account_name (name, kind, account, domain, written, created) VALUES (?, ?, 0, ?, ?, ?) ON CONFLICT (name) DO NOTHING`,
		key, kindAlias, alias.Domain.String(), alias.String(), db.Micros(a.config.Now()))
	if err != nil {
		return err
	}
	// Locks the row, so that RemoveAlias of another node waits or is seen.
	n, err := tx.Exec(`UPDATE account_name SET account = 0 WHERE name = ? AND kind = ?`, key, kindAlias)
	if err == nil && n == 0 {
		err = fmt.Errorf("alias %s %w: it is the address or login of an account", alias, ErrExists)
	}
	if err != nil {
		return err
	}
	for _, t := range alias.Targets {
		_, err := tx.Exec(`INSERT INTO account_target (source, name, written) VALUES (?, ?, ?) ON CONFLICT (source, name) DO UPDATE SET suspended = 0, reason = ''`,
			key, t.Key(), t.String())
		if err != nil {
			return err
		}
	}
	var count int64
	if err := tx.QueryRow(`SELECT COUNT(*) FROM account_target WHERE source = ?`, key).Scan(&count); err != nil {
		return err
	}
	if count > MaxAliasTargets {
		return fmt.Errorf("alias %s %w: it would have %d targets; %d are allowed", alias, ErrInvalid, count, MaxAliasTargets)
	}
	return nil
}

// checkTargets routes each target with the alias in place: what leads nowhere or
// back is refused while somebody is looking.
func (a *Accounts) checkTargets(tx db.Tx, alias Alias) error {
	for _, t := range alias.Targets {
		r := newRouter(a, tx)
		r.path[alias.Key()] = true
		_, err := r.resolve(t, 1, Forwarder{})
		for _, s := range r.skipped {
			if errors.Is(s.Err, ErrLoop) {
				err = s.Err
			}
		}
		if err != nil && !errors.Is(err, ErrDisabled) {
			return fmt.Errorf("alias %s: target %w", alias, err)
		}
	}
	return nil
}

// Aliases lists the aliases of a domain (zero: of all) by key, those after the
// key given ("" is the first page), n at most (0 or above MaxPageRows:
// MaxPageRows).
func (a *Accounts) Aliases(ctx context.Context, domain address.Domain, after string, n int) (aliases []Alias, err error) {
	if n <= 0 || n > MaxPageRows {
		n = MaxPageRows
	}
	where, args := `name > ? AND kind = ?`, []any{after, kindAlias}
	if !domain.IsZero() {
		where, args = where+` AND domain = ?`, append(args, domain.String())
	}
	err = a.db.View(ctx, func(tx db.Tx) error {
		aliases = nil
		err := each(tx, `SELECT written, created FROM account_name WHERE `+where+` ORDER BY name LIMIT ?`, append(args, int64(n)), func(scan scanFunc) error {
			var text string
			var created int64
			if err := scan(&text, &created); err != nil {
				return err
			}
			alias, err := ParseAlias(text)
			alias.Created = db.FromMicros(created)
			aliases = append(aliases, alias)
			return err
		})
		for i := range aliases {
			if err == nil {
				aliases[i].Targets, aliases[i].Suspended, err = targetsOf(tx, aliases[i].Key())
			}
		}
		return err
	})
	return aliases, err
}

func targetsOf(tx db.Tx, key string) (targets, suspended []address.Address, err error) {
	err = each(tx, `SELECT written, suspended FROM account_target WHERE source = ? ORDER BY name`, []any{key}, func(scan scanFunc) error {
		var text string
		var since int64
		if err := scan(&text, &since); err != nil {
			return err
		}
		t, err := address.Parse(text)
		targets = append(targets, t)
		if since != 0 {
			suspended = append(suspended, t)
		}
		return err
	})
	return targets, suspended, err
}

// RemoveAlias removes the targets given, and with the last one the alias; with
// none given the whole alias. ErrNotFound when nothing was there.
func (a *Accounts) RemoveAlias(ctx context.Context, alias Alias) error {
	key := alias.Key()
	return a.update(ctx, func(tx db.Tx) error {
		n, err := tx.Exec(`UPDATE account_name SET account = 0 WHERE name = ? AND kind = ?`, key, kindAlias)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("alias %s %w", alias, ErrNotFound)
		}
		if len(alias.Targets) == 0 {
			if _, err := tx.Exec(`DELETE FROM account_target WHERE source = ?`, key); err != nil {
				return err
			}
		}
		for _, t := range alias.Targets {
			n, err := tx.Exec(`DELETE FROM account_target WHERE source = ? AND name = ?`, key, t.Key())
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("target %s of alias %s %w", t, alias, ErrNotFound)
			}
		}
		_, err = tx.Exec(`DELETE FROM account_name WHERE name = ? AND NOT EXISTS (SELECT 1 FROM account_target t WHERE t.source = ?)`, key, key)
		return err
	})
}
