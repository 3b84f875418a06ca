package account

import (
	"errors"
	"fmt"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Rebuilt is an account as store rebuild knows it from the log of segments.
type Rebuilt struct {
	ID      envelope.AccountID
	Login   string
	Address address.Address // the primary one; zero when Login is it
}

// Rebuild makes the account r with its id, its domain if that is missing, and no
// password; an account with that id stays as it is, and false is returned. What
// holds its login or address gives way when it is an alias or an account with a
// lower id: ids rise with time, so that one must have been removed. Otherwise r
// becomes a removed account. It is for a database that nobody else uses.
func (a *Accounts) Rebuild(tx db.Tx, r Rebuilt) (made bool, err error) {
	var n int64
	err = tx.QueryRow(`SELECT COUNT(*) FROM account WHERE id = ?`, int64(r.ID)).Scan(&n)
	if err != nil || n > 0 {
		return false, wrapRebuild(r, err)
	}
	if r.Address.IsZero() {
		if r.Address, err = address.Parse(r.Login); err != nil {
			return false, wrapRebuild(r, err)
		}
	}
	row, err := prepareRow(NewAccount{Address: r.Address, Login: r.Login})
	if err != nil {
		return false, wrapRebuild(r, err)
	}
	if _, err := a.insertDomain(tx, r.Address.Domain()); err != nil {
		return false, wrapRebuild(r, err)
	}
	state, removed := Active, int64(0)
	for _, key := range []string{row.key, r.Address.Key()} {
		free, err := a.giveWay(tx, key, r.ID)
		if err != nil {
			return false, wrapRebuild(r, err)
		}
		if !free {
			state, removed = Removed, db.Micros(a.config.Now())
		}
	}
	empty := []byte{}
	_, err = tx.Exec(`INSERT INTO account (id, login, address, domain, name, language, quota, state, version,
		salt, iterations, stored_key, server_key, foreign_hash, created, removed) VALUES (?, ?, ?, ?, '', ?, 0, ?, 1, ?, 0, ?, ?, '', ?, ?)`,
		int64(r.ID), row.loginName, r.Address.String(), r.Address.Domain().String(), row.Language, int64(state), empty, empty, empty,
		db.Micros(a.config.Now()), removed)
	if err == nil && state == Active {
		err = a.nameRebuilt(tx, r, row)
	}
	return err == nil, wrapRebuild(r, err)
}

// nameRebuilt gives the account its login and address.
func (a *Accounts) nameRebuilt(tx db.Tx, r Rebuilt, row accountRow) error {
	if row.key == r.Address.Key() {
		return a.insertName(tx, int64(r.ID), kindLogin|kindAddress, r.Address)
	}
	_, err := tx.Exec(`INSERT INTO account_name (name, kind, account, domain, written, created) VALUES (?, ?, ?, NULL, ?, ?)`,
		row.key, kindLogin, int64(r.ID), row.loginName, db.Micros(a.config.Now()))
	if err != nil {
		return err
	}
	return a.insertName(tx, int64(r.ID), kindAddress, r.Address)
}

// giveWay frees a name for the account id, if it may have it.
func (a *Accounts) giveWay(tx db.Tx, key string, id envelope.AccountID) (free bool, err error) {
	var holder int64
	err = tx.QueryRow(`SELECT account FROM account_name WHERE name = ?`, key).Scan(&holder)
	if errors.Is(err, db.ErrNotFound) {
		return true, nil
	}
	if err != nil || holder > int64(id) {
		return false, err
	}
	if holder != 0 {
		return true, a.removeRow(tx, envelope.AccountID(holder))
	}
	if _, err := tx.Exec(`DELETE FROM account_target WHERE source = ?`, key); err != nil {
		return false, err
	}
	_, err = tx.Exec(`DELETE FROM account_name WHERE name = ?`, key)
	return err == nil, err
}

func wrapRebuild(r Rebuilt, err error) error {
	if err != nil {
		return fmt.Errorf("rebuild account %d (%.80s): %w", r.ID, r.Login, err)
	}
	return nil
}
