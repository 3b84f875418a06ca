package mailbox

import (
	"context"
	"fmt"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

const mailboxColumns = `account, number, name, uidvalidity, uidnext, modseq, shrunk, messages, octets, retained, changed`

func scanMailbox(row db.Row) (Mailbox, error) {
	var m Mailbox
	err := row.Scan(&m.Account, &m.Number, &m.Name, &m.UIDValidity, &m.UIDNext, &m.ModSeq, &m.shrunk, &m.Messages, &m.Octets, &m.Retained, &m.changed)
	return m, err
}

// Mailboxes returns the account's mailboxes, INBOX first, then by name.
func (s *Store) Mailboxes(ctx context.Context, account envelope.AccountID) ([]Mailbox, error) {
	var all []Mailbox
	err := s.cfg.DB.View(ctx, func(tx db.Tx) error {
		all = all[:0]
		rows, err := tx.Query(`SELECT `+mailboxColumns+` FROM mailbox WHERE account = ? ORDER BY CASE WHEN name = 'INBOX' THEN 0 ELSE 1 END, name`, int64(account))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			m, err := scanMailbox(rows)
			if err != nil {
				return err
			}
			all = append(all, m)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list mailboxes of account %d: %w", account, err)
	}
	return all, nil
}

// Create makes a mailbox; ErrExists, ErrBadName.
func (s *Store) Create(ctx context.Context, account envelope.AccountID, name string) (Mailbox, error) {
	name, err := CheckName(name)
	if err != nil {
		return Mailbox{}, err
	}
	var m Mailbox
	err = s.cfg.DB.Update(ctx, func(tx db.Tx) error {
		made, err := s.create(tx, account, name)
		if err != nil {
			return err
		}
		if !made {
			return fmt.Errorf("create mailbox %q of account %d: %w", name, account, ErrExists)
		}
		m, err = readMailbox(tx, account, name)
		return err
	})
	s.listings.touch(account, name)
	if err != nil {
		return Mailbox{}, err
	}
	return m, nil
}

// readMailbox returns the row of a mailbox, or db.ErrNotFound.
func readMailbox(tx db.Tx, account envelope.AccountID, name string) (Mailbox, error) {
	return scanMailbox(tx.QueryRow(`SELECT `+mailboxColumns+` FROM mailbox WHERE account = ? AND name = ?`, int64(account), name))
}
