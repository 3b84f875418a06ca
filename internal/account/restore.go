package account

import (
	"context"
	"errors"
	"fmt"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Former is an account as a backup knows it: the columns of its row, and its further
// addresses.
type Former struct {
	NewAccount  // without Password
	Salt        []byte
	Iterations  int
	StoredKey   []byte
	ServerKey   []byte
	ForeignHash string
	Addresses   []address.Address
}

// Readd makes an account that was removed anew, under a new id, with the password that it
// had. Further addresses that somebody else has by now are left out. Errors are those of Add.
func (a *Accounts) Readd(ctx context.Context, f Former) (Account, error) {
	f.Password = ""
	row, err := prepareRow(f.NewAccount)
	if err != nil {
		return Account{}, err
	}
	row.keys = scramKeys{salt: f.Salt, iterations: f.Iterations, stored: f.StoredKey, server: f.ServerKey}
	row.foreign = f.ForeignHash
	var id envelope.AccountID
	err = a.update(ctx, func(tx db.Tx) (err error) {
		if err := needDomain(tx, f.Address.Domain()); err != nil {
			return err
		}
		id, err = a.insertAccount(tx, row)
		return err
	})
	if err != nil {
		return Account{}, err
	}
	for _, addr := range f.Addresses {
		if addr.Key() == f.Address.Key() {
			continue
		}
		err := a.AddAddress(ctx, id, addr)
		if err != nil && !errors.Is(err, ErrExists) && !errors.Is(err, ErrNotLocal) {
			return Account{}, fmt.Errorf("give account %d its addresses: %w", id, err)
		}
	}
	return a.ByID(ctx, id)
}
