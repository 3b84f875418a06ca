package account

import (
	"context"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/sasl"
)

// grant is the key of a grant that was read.
type grant struct {
	id  envelope.AccountID
	key string
}

// MaySend reports whether an account may send as addr: its own address, a
// subaddress of it, an alias or catch-all that leads to it, or what send-as
// grants. An account that is not active may send as nobody.
func (a *Accounts) MaySend(ctx context.Context, id envelope.AccountID, addr address.Address) (bool, error) {
	if id == 0 || addr.IsZero() {
		return false, nil
	}
	r, err := a.Home(ctx, address.NewForwardPath(addr)) // who gets another's forwarded mail is not that other
	if err != nil && !definite(err) {
		return false, err
	}
	if err == nil && r.Match != MatchPostmaster {
		for _, l := range r.Locals {
			if l.Account == id {
				return true, nil
			}
		}
	}
	return a.granted(ctx, id, addr)
}

// Stands reports whether an identity that was proved before still could be: its
// account is active, and no password of it was changed or removed since.
func (a *Accounts) Stands(ctx context.Context, id sasl.Identity) (bool, error) {
	c, err := a.credential(ctx, id.Login)
	if err != nil {
		return false, err
	}
	return c.id == id.Account && c.version == id.Version && c.state == Active, nil
}

func (a *Accounts) granted(ctx context.Context, id envelope.AccountID, addr address.Address) (granted bool, err error) {
	g := grant{id, addr.Key()}
	if _, ok := a.grants.get(g); ok {
		return true, nil
	}
	generation := a.grants.generation.Load()
	user := g.key
	if base, _, ok := a.base(addr); ok {
		user = base.Key()
	}
	err = a.db.View(ctx, func(tx db.Tx) error {
		var n int64
		err := tx.QueryRow(`SELECT COUNT(*) FROM account_send_as s JOIN account c ON c.id = s.account
			WHERE s.account = ? AND s.name IN (?, ?, ?) AND c.state = ?`,
			int64(id), g.key, user, "@"+addr.Domain().String(), int64(Active)).Scan(&n)
		granted = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read send-as of account %d: %w", id, err)
	}
	if granted {
		a.grants.put(g, generation, struct{}{})
	}
	return granted, nil
}

// ParseSendAs reads a grant: an address or "@domain".
func ParseSendAs(s string) (SendAs, error) {
	addr, domain, err := parseSource(s)
	return SendAs{Address: addr, Domain: domain}, err
}

// parseSource reads an address or "@domain"; domain is always set.
func parseSource(s string) (addr address.Address, domain address.Domain, err error) {
	if name, ok := strings.CutPrefix(s, "@"); ok {
		domain, err = address.ParseDomain(name)
		return addr, domain, err
	}
	addr, err = address.Parse(s)
	return addr, addr.Domain(), err
}

// sourceKey is the key of an address, or of all of a domain.
func sourceKey(addr address.Address, domain address.Domain) string {
	if addr.IsZero() {
		return "@" + domain.String()
	}
	return addr.Key()
}

// AddSendAs lets an account send as g, which need not be local. Granting twice
// is no error. Errors: ErrNotFound, ErrInvalid.
func (a *Accounts) AddSendAs(ctx context.Context, id envelope.AccountID, g SendAs) error {
	if g.Domain.IsZero() && g.Address.IsZero() {
		return fmt.Errorf("send-as %w: give an address or @domain", ErrInvalid)
	}
	return a.update(ctx, func(tx db.Tx) error {
		if err := changeRow(tx, id, `version = version`); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO account_send_as (account, name, written) VALUES (?, ?, ?) ON CONFLICT (account, name) DO NOTHING`,
			int64(id), sourceKey(g.Address, g.Domain), g.String())
		return err
	})
}

// SendAs lists the grants of an account.
func (a *Accounts) SendAs(ctx context.Context, id envelope.AccountID) (grants []SendAs, err error) {
	err = a.db.View(ctx, func(tx db.Tx) error {
		grants = nil
		return each(tx, `SELECT written FROM account_send_as WHERE account = ? ORDER BY name`, []any{int64(id)}, func(scan scanFunc) error {
			var text string
			if err := scan(&text); err != nil {
				return err
			}
			g, err := ParseSendAs(text)
			grants = append(grants, g)
			return err
		})
	})
	return grants, err
}

// RemoveSendAs takes a grant back. ErrNotFound.
func (a *Accounts) RemoveSendAs(ctx context.Context, id envelope.AccountID, g SendAs) error {
	return a.update(ctx, func(tx db.Tx) error {
		n, err := tx.Exec(`DELETE FROM account_send_as WHERE account = ? AND name = ?`, int64(id), sourceKey(g.Address, g.Domain))
		if err == nil && n == 0 {
			err = fmt.Errorf("send-as %s %w", g, ErrNotFound)
		}
		return err
	})
}

// scanFunc reads the present row.
type scanFunc = func(dest ...any) error

// each runs fn for every row of a query.
func each(tx db.Tx, query string, args []any, fn func(scanFunc) error) error {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
