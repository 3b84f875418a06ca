package admin

import (
	"context"
	"fmt"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
)

// readd makes an account of a server's backup anew, with its password and addresses.
// Its app passwords, forwards and grants are not restored.
func (d *Desk) readd(ctx context.Context, r *backup.Repository, s *backup.Snapshot, who string) (account.Account, error) {
	a, err := holdings.FindAccount(ctx, r, s, who)
	if err != nil {
		return account.Account{}, err
	}
	var f account.Former
	err = holdings.Rows(ctx, r, s, "account", func(v map[string]any) error {
		if v["id"] != int64(a.ID) {
			return nil
		}
		var n int64
		f.Login, _ = v["login"].(string)
		f.Name, _ = v["name"].(string)
		f.Language, _ = v["language"].(string)
		f.Quota, _ = v["quota"].(int64)
		f.Salt, _ = v["salt"].([]byte)
		f.StoredKey, _ = v["stored_key"].([]byte)
		f.ServerKey, _ = v["server_key"].([]byte)
		f.ForeignHash, _ = v["foreign_hash"].(string)
		n, _ = v["iterations"].(int64)
		f.Iterations = int(n)
		text, _ := v["address"].(string)
		f.Address, err = address.Parse(text)
		return err
	})
	if err == nil {
		err = holdings.Rows(ctx, r, s, "account_name", func(v map[string]any) error {
			text, _ := v["written"].(string)
			if v["account"] != int64(a.ID) || v["domain"] == nil {
				return nil
			}
			addr, err := address.Parse(text)
			f.Addresses = append(f.Addresses, addr)
			return err
		})
	}
	if err != nil {
		return account.Account{}, fmt.Errorf("read account %s from the backup: %w", who, err)
	}
	made, err := d.Rooms.Accounts.Readd(ctx, f)
	if err != nil {
		return made, fmt.Errorf("make account %s anew: %w", who, explain(err, ""))
	}
	fmt.Fprintf(d.Err, "Account %s is made anew, with its password and addresses.\n", Printable(made.Login))
	return made, nil
}
