package account

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// accountRow is what Add and Import insert.
type accountRow struct {
	NewAccount
	loginName string
	key       string // of loginName
	keys      scramKeys
	foreign   string
}

// prepareRow checks n and fills what it leaves out.
func prepareRow(n NewAccount) (accountRow, error) {
	row := accountRow{NewAccount: n, loginName: n.Login}
	if err := checkNewAddress(n.Address); err != nil {
		return row, err
	}
	if row.loginName == "" {
		row.loginName = n.Address.String()
	}
	if row.Language == "" {
		row.Language = "en"
	}
	var ok bool
	if row.key, ok = loginKey(row.loginName); !ok {
		return row, fmt.Errorf("login %.80q %w: give an address, or a name without spaces and without \"@\", at most %d octets", n.Login, ErrInvalid, MaxLoginOctets)
	}
	err := errors.Join(checkText("name", n.Name, MaxNameOctets), checkLanguage(row.Language), checkQuota(n.Quota))
	return row, err
}

// Add makes an account with its first address and returns it. Errors:
// ErrNotLocal (the domain), ErrExists (the address or the login), ErrInvalid.
func (a *Accounts) Add(ctx context.Context, n NewAccount) (Account, error) {
	row, err := prepareRow(n)
	if err == nil && n.Password != "" {
		err = checkPassword(n.Password)
	}
	if err != nil {
		return Account{}, err
	}
	if row.keys, err = a.newKeys(ctx, n.Password, a.config.Iterations); err != nil {
		return Account{}, err
	}
	var id envelope.AccountID
	err = a.update(ctx, func(tx db.Tx) (err error) {
		if err := needDomain(tx, n.Address.Domain()); err != nil {
			return err
		}
		id, err = a.insertAccount(tx, row)
		return err
	})
	if err != nil {
		return Account{}, err
	}
	return a.ByID(ctx, id)
}

func (a *Accounts) insertAccount(tx db.Tx, row accountRow) (envelope.AccountID, error) {
	var id int64
	addr := row.Address
	err := tx.QueryRow(`INSERT INTO account (login, address, domain, name, language, quota, state, version,
		salt, iterations, stored_key, server_key, foreign_hash, created, removed)
		VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, 0) RETURNING id`,
		row.loginName, addr.String(), addr.Domain().String(), row.Name, row.Language, row.Quota, int64(Active),
		row.keys.salt, int64(row.keys.iterations), row.keys.stored, row.keys.server, row.foreign, db.Micros(a.config.Now())).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("insert account: %w", err)
	}
	if row.key == addr.Key() {
		return envelope.AccountID(id), a.insertName(tx, id, kindLogin|kindAddress, addr)
	}
	n, err := tx.Exec(`INSERT INTO account_name (name, kind, account, domain, written, created) VALUES (?, ?, ?, NULL, ?, ?) ON CONFLICT (name) DO NOTHING`,
		row.key, kindLogin, id, row.loginName, db.Micros(a.config.Now()))
	if err == nil && n == 0 {
		err = fmt.Errorf("login %s %w", row.loginName, ErrExists)
	}
	if err != nil {
		return 0, err
	}
	return envelope.AccountID(id), a.insertName(tx, id, kindAddress, addr)
}

// insertName gives an account an address. A login name of the same account that
// is equal to the address becomes both.
func (a *Accounts) insertName(tx db.Tx, id, kind int64, addr address.Address) error {
	n, err := tx.Exec(`INSERT INTO account_name (name, kind, account, domain, written, created) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING`,
		addr.Key(), kind, id, addr.Domain().String(), addr.String(), db.Micros(a.config.Now()))
	if err != nil || n > 0 {
		return err
	}
	n, err = tx.Exec(`UPDATE account_name SET kind = ?, domain = ?, written = ? WHERE name = ? AND account = ? AND kind = ?`,
		kindLogin|kindAddress, addr.Domain().String(), addr.String(), addr.Key(), id, kindLogin)
	if err == nil && n == 0 {
		err = fmt.Errorf("address %s %w, as an account's address or login or as an alias", addr, ErrExists)
	}
	return err
}

// AddAddress gives an account one more address, under which mail comes and it
// may log in. Errors: ErrNotFound, ErrNotLocal, ErrExists, ErrInvalid.
func (a *Accounts) AddAddress(ctx context.Context, id envelope.AccountID, addr address.Address) error {
	if err := checkNewAddress(addr); err != nil {
		return err
	}
	return a.update(ctx, func(tx db.Tx) error {
		if err := changeRow(tx, id, `version = version`); err != nil {
			return err
		}
		if err := needDomain(tx, addr.Domain()); err != nil {
			return err
		}
		return a.insertName(tx, int64(id), kindAddress, addr)
	})
}

// RemoveAddress takes an address away that is not the primary one. Errors:
// ErrNotFound, ErrNotEmpty (the primary address).
func (a *Accounts) RemoveAddress(ctx context.Context, id envelope.AccountID, addr address.Address) error {
	key := addr.Key()
	return a.update(ctx, func(tx db.Tx) error {
		var primary string
		err := tx.QueryRow(`SELECT address FROM account WHERE id = ? AND state <> ?`, int64(id), int64(Removed)).Scan(&primary)
		if err != nil {
			return notFound(err, "account %d", id)
		}
		if p, err := address.Parse(primary); err == nil && p.Key() == key {
			return fmt.Errorf("address %s %w: it is the primary one; remove the account instead", addr, ErrNotEmpty)
		}
		n, err := tx.Exec(`UPDATE account_name SET kind = ?, domain = NULL WHERE name = ? AND account = ? AND kind = ?`,
			kindLogin, key, int64(id), kindLogin|kindAddress)
		if err != nil || n > 0 {
			return err
		}
		n, err = tx.Exec(`DELETE FROM account_name WHERE name = ? AND account = ? AND kind = ?`, key, int64(id), kindAddress)
		if err == nil && n == 0 {
			err = fmt.Errorf("address %s of account %d %w", addr, id, ErrNotFound)
		}
		return err
	})
}

// SetQuota sets the quota in octets; 0 is what the configuration gives. Errors: ErrNotFound, ErrInvalid.
func (a *Accounts) SetQuota(ctx context.Context, id envelope.AccountID, octets int64) error {
	if err := checkQuota(octets); err != nil {
		return err
	}
	return a.changeAccount(ctx, id, `quota = ?`, octets)
}

// SetName sets display name and language; language "" stays as it is. Errors:
// ErrNotFound, ErrInvalid.
func (a *Accounts) SetName(ctx context.Context, id envelope.AccountID, name, language string) error {
	if err := checkText("name", name, MaxNameOctets); err != nil {
		return err
	}
	if language == "" {
		return a.changeAccount(ctx, id, `name = ?`, name)
	}
	if err := checkLanguage(language); err != nil {
		return err
	}
	return a.changeAccount(ctx, id, `name = ?, language = ?`, name, language)
}

// Disable refuses logins and mail until Enable; what is stored stays. ErrNotFound.
func (a *Accounts) Disable(ctx context.Context, id envelope.AccountID) error {
	return a.changeAccount(ctx, id, `state = ?, version = version + 1`, int64(Disabled))
}

// Enable undoes Disable. ErrNotFound.
func (a *Accounts) Enable(ctx context.Context, id envelope.AccountID) error {
	return a.changeAccount(ctx, id, `state = ?, version = version + 1`, int64(Active))
}

// Remove ends an account for ever: its addresses and login are free, its
// credentials and grants gone. The row stays, so that its id is never used
// again; an account made later with the same address starts empty. Aliases that
// lead to it stay and skip it. ErrNotFound.
func (a *Accounts) Remove(ctx context.Context, id envelope.AccountID) error {
	return a.update(ctx, func(tx db.Tx) error { return a.removeRow(tx, id) })
}

// removeRow is Remove in the caller's transaction.
func (a *Accounts) removeRow(tx db.Tx, id envelope.AccountID) error {
	empty := []byte{}
	err := changeRow(tx, id, `state = ?, removed = ?, version = version + 1, salt = ?, stored_key = ?, server_key = ?, foreign_hash = '', forwards = 0, vacation = 0`,
		int64(Removed), db.Micros(a.config.Now()), empty, empty, empty)
	for _, table := range [...]string{"account_name", "account_app", "account_send_as", "account_cert", "account_forward", "account_vacation"} {
		if err == nil {
			_, err = tx.Exec(`DELETE FROM `+table+` WHERE account = ?`, int64(id))
		}
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE account_domain SET postmaster = 0 WHERE postmaster = ?`, int64(id))
	}
	return err
}

// notFound turns a missing row into ErrNotFound with a name for it.
func notFound(err error, format string, args ...any) error {
	if errors.Is(err, db.ErrNotFound) {
		return fmt.Errorf(format+" %w", append(args, ErrNotFound)...)
	}
	return err
}

// Get returns the account of a login name or of one of its addresses. ErrNotFound.
func (a *Accounts) Get(ctx context.Context, loginOrAddress string) (Account, error) {
	key, ok := loginKey(loginOrAddress)
	if !ok {
		return Account{}, fmt.Errorf("account %.80q %w", loginOrAddress, ErrNotFound)
	}
	return a.read(ctx, loginOrAddress, `id = (SELECT account FROM account_name WHERE name = ? AND account <> 0)`, key)
}

// ByID returns an account, removed ones too. ErrNotFound.
func (a *Accounts) ByID(ctx context.Context, id envelope.AccountID) (Account, error) {
	return a.read(ctx, fmt.Sprint(id), `id = ?`, int64(id))
}

const accountColumns = `id, login, address, name, language, quota, state, version, LENGTH(stored_key), foreign_hash, created, removed, forwards, vacation`

func (a *Accounts) read(ctx context.Context, name, where string, args ...any) (acc Account, err error) {
	err = a.db.View(ctx, func(tx db.Tx) (err error) {
		acc, err = scanAccount(tx.QueryRow(`SELECT `+accountColumns+` FROM account WHERE `+where, args...).Scan)
		if err != nil {
			return err
		}
		return each(tx, `SELECT written FROM account_name WHERE account = ? AND kind IN (?, ?) ORDER BY name`,
			[]any{int64(acc.ID), kindAddress, kindAddress | kindLogin}, func(scan scanFunc) error {
				var text string
				if err := scan(&text); err != nil {
					return err
				}
				addr, err := address.Parse(text)
				if err == nil && addr.Key() != acc.Address.Key() {
					acc.Addresses = append(acc.Addresses, addr)
				}
				return err
			})
	})
	return acc, notFound(err, "account %.80q", name)
}

func scanAccount(scan scanFunc) (acc Account, err error) {
	var id, state, keyOctets, created, removed, how, away int64
	var addr, foreign string
	err = scan(&id, &acc.Login, &addr, &acc.Name, &acc.Language, &acc.Quota, &state, &acc.Version, &keyOctets, &foreign, &created, &removed, &how, &away)
	if err != nil {
		return Account{}, err
	}
	acc.ID, acc.State = envelope.AccountID(id), State(state)
	acc.Foreign = foreign != ""
	acc.Forwards, acc.Vacation = forwards(how) != forwardsNot, away != 0
	acc.HasPassword = keyOctets > 0 || acc.Foreign
	acc.Created, acc.Removed = db.FromMicros(created), db.FromMicros(removed)
	if acc.Address, err = address.Parse(addr); err != nil {
		return Account{}, fmt.Errorf("read account %d: %w", id, err)
	}
	acc.Addresses = []address.Address{acc.Address}
	return acc, nil
}

// List returns a page of accounts by id; the next page begins After the last.
// Addresses holds the primary one alone.
func (a *Accounts) List(ctx context.Context, f Filter) (page []Account, err error) {
	where, args := []string{`id > ?`}, []any{int64(f.After)}
	if f.Removed {
		where, args = append(where, `state = ?`), append(args, int64(Removed))
	} else {
		where, args = append(where, `state IN (?, ?)`), append(args, int64(Active), int64(Disabled))
	}
	if !f.Domain.IsZero() {
		where, args = append(where, `domain = ?`), append(args, f.Domain.String())
	}
	if f.Search != "" {
		if err := checkText("search", f.Search, MaxNameOctets); err != nil {
			return nil, err
		}
		pattern := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(asciiLower(f.Search)) + "%"
		where = append(where, `(LOWER(login) LIKE ? ESCAPE '\' OR LOWER(address) LIKE ? ESCAPE '\' OR LOWER(name) LIKE ? ESCAPE '\')`)
		args = append(args, pattern, pattern, pattern)
	}
	limit := f.Limit
	if limit <= 0 || limit > MaxPageRows {
		limit = MaxPageRows
	}
	err = a.db.View(ctx, func(tx db.Tx) error {
		page = nil
		return each(tx, `SELECT `+accountColumns+` FROM account WHERE `+strings.Join(where, ` AND `)+` ORDER BY id LIMIT ?`,
			append(args, int64(limit)), func(scan scanFunc) error {
				acc, err := scanAccount(scan)
				page = append(page, acc)
				return err
			})
	})
	return page, err
}

// asciiLower folds what LOWER folds on both engines.
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}
