package account

import (
	"context"
	"fmt"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// AddDomain begins to serve a domain. Errors: ErrExists, ErrInvalid.
func (a *Accounts) AddDomain(ctx context.Context, domain address.Domain) error {
	if domain.IsZero() || domain.IsLiteral() {
		return fmt.Errorf("domain %q %w: give a domain name", domain, ErrInvalid)
	}
	return a.update(ctx, func(tx db.Tx) error {
		n, err := a.insertDomain(tx, domain)
		if err == nil && n == 0 {
			err = fmt.Errorf("domain %s %w", domain, ErrExists)
		}
		return err
	})
}

func (a *Accounts) insertDomain(tx db.Tx, domain address.Domain) (int64, error) {
	return tx.Exec(`INSERT INTO account_domain (name, postmaster, created) VALUES (?, 0, ?) ON CONFLICT (name) DO NOTHING`,
		domain.String(), db.Micros(a.config.Now()))
}

// Domains lists all domains by name, as A-labels order.
func (a *Accounts) Domains(ctx context.Context) (domains []Domain, err error) {
	err = a.db.View(ctx, func(tx db.Tx) error {
		domains = nil
		return each(tx, `SELECT d.name, d.postmaster, d.created,
			(SELECT COUNT(*) FROM account c WHERE c.domain = d.name AND c.state IN (?, ?)),
			(SELECT COUNT(*) FROM account_name n WHERE n.domain = d.name AND n.kind = ?)
			FROM account_domain d ORDER BY d.name`, []any{int64(Active), int64(Disabled), kindAlias}, func(scan scanFunc) error {
			var d Domain
			var name string
			var postmaster, created int64
			if err := scan(&name, &postmaster, &created, &d.Accounts, &d.Aliases); err != nil {
				return err
			}
			d.Postmaster, d.Created = envelope.AccountID(postmaster), db.FromMicros(created)
			var err error
			d.Name, err = address.ParseDomain(name)
			domains = append(domains, d)
			return err
		})
	})
	return domains, err
}

// RemoveDomain ends the service of a domain that no address and no alias is in.
// Errors: ErrNotFound, ErrNotEmpty.
func (a *Accounts) RemoveDomain(ctx context.Context, domain address.Domain) error {
	name := domain.String()
	return a.update(ctx, func(tx db.Tx) error {
		n, err := tx.Exec(`DELETE FROM account_domain WHERE name = ?
			AND NOT EXISTS (SELECT 1 FROM account_name n WHERE n.domain = ?)`, name, name)
		if err != nil || n > 0 {
			return err
		}
		var used int64
		if err := tx.QueryRow(`SELECT COUNT(*) FROM account_name WHERE domain = ?`, name).Scan(&used); err != nil {
			return err
		}
		if used > 0 {
			return fmt.Errorf("domain %s %w: remove its %d accounts, addresses and aliases first", domain, ErrNotEmpty, used)
		}
		return fmt.Errorf("domain %s %w", domain, ErrNotFound)
	})
}

// SetPostmaster names the account that gets postmaster@ and abuse@ of a domain
// where no address, alias or catch-all says otherwise; zero is the domain's
// first account. ErrNotFound.
func (a *Accounts) SetPostmaster(ctx context.Context, domain address.Domain, id envelope.AccountID) error {
	return a.update(ctx, func(tx db.Tx) error {
		if id != 0 {
			if err := changeRow(tx, id, `version = version`); err != nil {
				return err
			}
		}
		n, err := tx.Exec(`UPDATE account_domain SET postmaster = ? WHERE name = ?`, int64(id), domain.String())
		if err == nil && n == 0 {
			err = fmt.Errorf("domain %s %w", domain, ErrNotFound)
		}
		return err
	})
}

// needDomain refuses a domain that is not served here.
func needDomain(tx db.Tx, domain address.Domain) error {
	var n int64
	if err := tx.QueryRow(`SELECT COUNT(*) FROM account_domain WHERE name = ?`, domain.String()).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%s: %w: add it with \"poczta domain add %s\"", domain, ErrNotLocal, domain)
	}
	return nil
}
