package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
)

// The folders that every account has, whether or not something lies there.
const (
	Inbox   = mailbox.Inbox
	Drafts  = "Drafts"
	Sent    = "Sent"
	Archive = "Archive"
	Junk    = mailbox.Junk
	Trash   = "Trash"
)

// Standard are those folders in the order in which they are shown.
func Standard() []string { return []string{Inbox, Drafts, Sent, Archive, Junk, Trash} }

// ErrStandard is returned for changes that the folders of every account don't take.
var ErrStandard = errors.New("every account has this folder: it can't be renamed or removed")

// Folder is a folder of an account.
type Folder struct {
	Account  envelope.AccountID
	Name     string // levels parted by slashes
	Messages int64
	Unread   int64
	Octets   int64
	Retained int64 // octets in retention that were removed from it
}

// Folders returns the folders of all accounts that have one, by account: the standard ones, then
// the others by name. AddAccount gives an account its folders.
func (s *Store) Folders(ctx context.Context) ([]Folder, error) {
	var all []Folder
	err := s.view(ctx, func(tx db.Tx) error {
		all = all[:0]
		rows, err := tx.Query(`SELECT m.account, m.name, m.messages, m.octets, m.retained,
			(SELECT COUNT(*) FROM letter l INDEXED BY letter_unread WHERE l.account = m.account AND l.number = m.number AND l.removed = 0 AND l.flags & 1 = 0)
			FROM mailbox m LEFT JOIN folder_state f ON f.account = m.account AND f.number = m.number WHERE m.messages > 0 OR COALESCE(f.hidden, 0) = 0`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var f Folder
			if err := rows.Scan(&f.Account, &f.Name, &f.Messages, &f.Octets, &f.Retained, &f.Unread); err != nil {
				return err
			}
			all = append(all, f)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list folders: %w", err)
	}
	rank := func(name string) int {
		if i := slices.Index(Standard(), name); i >= 0 {
			return i
		}
		return len(Standard())
	}
	slices.SortFunc(all, func(a, b Folder) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(rank(a.Name), rank(b.Name)), cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

// AddAccount makes the standard folders of an account that are not there.
func (s *Store) AddAccount(ctx context.Context, account envelope.AccountID) error {
	for _, name := range Standard() {
		if err := s.CreateFolder(ctx, account, name); err != nil && !errors.Is(err, mailbox.ErrExists) {
			return err
		}
	}
	return nil
}

// CreateFolder makes a folder; mailbox.ErrExists, mailbox.ErrBadName. A removed one comes back.
func (s *Store) CreateFolder(ctx context.Context, account envelope.AccountID, name string) error {
	_, err := s.mailboxes.Create(ctx, account, name)
	if errors.Is(err, mailbox.ErrExists) {
		shown := false
		err2 := s.db.Update(ctx, func(tx db.Tx) error {
			n, err := tx.Exec(`UPDATE folder_state SET hidden = 0 WHERE hidden = 1 AND account = ? AND number = (SELECT number FROM mailbox WHERE account = ? AND name = ?)`,
				int64(account), int64(account), name)
			shown = n > 0
			return err
		})
		if err2 != nil {
			return fmt.Errorf("create folder %q: %w", name, err2)
		}
		if shown {
			return nil
		}
	}
	return err
}

// RenameFolder moves all letters of a folder to one of another name, which must not be there, and
// removes the old one; folders below it (A/B of A) go with it. Stopped midway, it may be repeated with RenameFolder
// of what is left, or undone. UIDs are new; letters keep their ids.
func (s *Store) RenameFolder(ctx context.Context, account envelope.AccountID, from, to string) error {
	if slices.Contains(Standard(), from) || slices.Contains(Standard(), to) {
		return fmt.Errorf("rename folder %q to %q: %w", from, to, ErrStandard)
	}
	if strings.HasPrefix(to, from+"/") {
		return fmt.Errorf("rename folder %q to %q: it would lie within itself: %w", from, to, mailbox.ErrBadName)
	}
	below, err := s.below(ctx, account, from)
	if err != nil {
		return err
	}
	for _, name := range below {
		renamed := to + strings.TrimPrefix(name, from)
		if err := s.CreateFolder(ctx, account, renamed); err != nil {
			return fmt.Errorf("rename folder %q to %q: %w", name, renamed, err)
		}
		if err := s.empty(ctx, account, name, renamed); err != nil {
			return fmt.Errorf("rename folder %q to %q: %w", name, renamed, err)
		}
		if err := s.hide(ctx, account, name); err != nil {
			return err
		}
	}
	return nil
}

// RemoveFolder moves all letters of a folder, and of those below it, to Trash and removes them.
func (s *Store) RemoveFolder(ctx context.Context, account envelope.AccountID, name string) error {
	if slices.Contains(Standard(), name) {
		return fmt.Errorf("remove folder %q: %w", name, ErrStandard)
	}
	below, err := s.below(ctx, account, name)
	if err != nil {
		return err
	}
	for _, name := range below {
		if err := s.empty(ctx, account, name, Trash); err != nil {
			return fmt.Errorf("remove folder %q: %w", name, err)
		}
		if err := s.hide(ctx, account, name); err != nil {
			return err
		}
	}
	return nil
}

// below returns a folder and those below it that are shown. ErrNotFound.
func (s *Store) below(ctx context.Context, account envelope.AccountID, name string) ([]string, error) {
	all, err := s.Folders(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range all {
		if f.Account == account && (f.Name == name || strings.HasPrefix(f.Name, name+"/")) {
			names = append(names, f.Name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("folder %q: %w", name, ErrNotFound)
	}
	return names, nil
}

// empty moves the letters of a folder to another until none is left.
func (s *Store) empty(ctx context.Context, account envelope.AccountID, name, to string) error {
	for {
		ids, err := s.some(ctx, account, name)
		if err != nil || len(ids) == 0 {
			return err
		}
		if _, err := s.moveFrom(ctx, ids, name, to); err != nil {
			return err
		}
	}
}

// some are letters of a folder, of that spelling alone.
func (s *Store) some(ctx context.Context, account envelope.AccountID, name string) (ids []LetterID, err error) {
	err = s.view(ctx, func(tx db.Tx) error {
		ids = ids[:0]
		rows, err := tx.Query(`SELECT l.id FROM mailbox m JOIN letter l INDEXED BY letter_folder ON l.account = m.account AND l.number = m.number
			WHERE m.account = ? AND m.name = ? AND l.removed = 0 LIMIT ?`, int64(account), name, int64(changeChunk))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id LetterID
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return rows.Err()
	})
	return ids, err
}

// hide takes a folder out of Folders. Its row stays: its number and uids are never used again.
func (s *Store) hide(ctx context.Context, account envelope.AccountID, name string) error {
	err := s.db.Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`INSERT INTO folder_state (account, number, seen, hidden) SELECT account, number, 0, 1 FROM mailbox WHERE account = ? AND name = ?
			ON CONFLICT (account, number) DO UPDATE SET hidden = 1`, int64(account), name)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove folder %q: %w", name, err)
	}
	return nil
}
