package rebuild

import (
	"context"
	"fmt"
	"math"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
)

// pageRows is how many rows are decided at a time.
const pageRows = 500

// lost is an account that the log names.
type lost struct {
	id             envelope.AccountID
	login, address string
}

// accounts makes the accounts that the base does not have, the newest first, so
// that it gets a login which an older one had before.
func (b *builder) accounts(ctx context.Context) error {
	for below := int64(math.MaxInt64); ; {
		page, err := b.lostAccounts(ctx, below)
		if err != nil || len(page) == 0 {
			return err
		}
		below = int64(page[len(page)-1].id)
		made := int64(0)
		err = b.db.Update(ctx, func(tx db.Tx) error {
			made = 0
			for _, l := range page {
				ok, err := b.accountRoom.Rebuild(tx, b.named(l))
				if err != nil {
					return err
				}
				if ok {
					made++
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		b.report.Accounts += made
		b.c.Progress(Progress{Step: "accounts", Done: b.report.Accounts})
	}
}

// named gives an account what it needs: an address that can be parsed.
func (b *builder) named(l lost) account.Rebuilt {
	r := account.Rebuilt{ID: l.id, Login: l.login}
	if a, err := address.Parse(l.login); err == nil && !a.Domain().IsLiteral() {
		r.Address = a
		return r
	}
	if a, err := address.Parse(l.address); err == nil && !a.Domain().IsLiteral() {
		r.Address = a
		return r
	}
	stand := fmt.Sprintf("account-%d@%s", l.id, b.c.Domain)
	if a, err := address.Parse(stand); err == nil {
		r.Address = a
	}
	if r.Login == "" {
		r.Login = stand
	}
	return r
}

func (b *builder) lostAccounts(ctx context.Context, below int64) (page []lost, err error) {
	err = b.db.View(ctx, func(tx db.Tx) error {
		page = page[:0]
		rows, err := tx.Query(`SELECT account, login, address FROM rebuild_account WHERE account < ? ORDER BY account DESC LIMIT ?`, below, int64(pageRows))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var l lost
			if err := rows.Scan(&l.id, &l.login, &l.address); err != nil {
				return err
			}
			page = append(page, l)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read accounts of the log: %w", err)
	}
	return page, nil
}

// numbered is the highest uid that the log names in a mailbox.
type numbered struct {
	account envelope.AccountID
	mailbox string
	last    int64
}

// numbers has no mailbox give a uid that the log has given.
func (b *builder) numbers(ctx context.Context) error {
	var at numbered
	for {
		var page []numbered
		// Not a View: a group may take longer than one may last.
		err := b.db.Update(ctx, func(tx db.Tx) (err error) {
			if page, err = readNumbers(tx, at); err != nil {
				return err
			}
			for _, n := range page {
				if err := b.mailboxes.Skip(tx, n.account, n.mailbox, mailbox.UID(min(n.last, math.MaxUint32-1))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("number mailboxes: %w", err)
		}
		if len(page) < pageRows {
			return nil
		}
		at = page[len(page)-1]
	}
}

func readNumbers(tx db.Tx, at numbered) (page []numbered, err error) {
	rows, err := tx.Query(`SELECT account, mailbox, MAX(uid) FROM rebuild_event WHERE (account, mailbox) > (?, ?) GROUP BY account, mailbox ORDER BY account, mailbox LIMIT ?`,
		int64(at.account), at.mailbox, int64(pageRows))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n numbered
		if err := rows.Scan(&n.account, &n.mailbox, &n.last); err != nil {
			return nil, err
		}
		page = append(page, n)
	}
	return page, rows.Err()
}
