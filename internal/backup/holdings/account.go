package holdings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/backup"
)

// accounts are the accounts of a snapshot, in order of id.
func accounts(ctx context.Context, r *backup.Repository, s *backup.Snapshot) iter.Seq2[Account, error] {
	return func(yield func(Account, error) bool) {
		enough := errors.New("enough")
		err := r.Items(ctx, s, sectionAccounts, nil, nil, func(it backup.Stored) error {
			var a Account
			if err := json.Unmarshal(it.Data, &a); err != nil {
				return fmt.Errorf("account %x: %w", it.Key, backup.ErrDamaged)
			}
			if !yield(a, nil) {
				return enough
			}
			return nil
		})
		if err != nil && !errors.Is(err, enough) {
			yield(Account{}, err)
		}
	}
}

// Accounts returns the accounts of a snapshot, in order of id.
func Accounts(ctx context.Context, r *backup.Repository, s *backup.Snapshot) (all []Account, err error) {
	for a, err := range accounts(ctx, r, s) {
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// FindAccount returns an account of a snapshot by its login or address: the newest, since those
// before it were removed. The error wraps backup.ErrNotFound when there is none, and names some that there are.
func FindAccount(ctx context.Context, r *backup.Repository, s *backup.Snapshot, who string) (found Account, err error) {
	const named = 5
	var others []string
	count := 0
	for a, err := range accounts(ctx, r, s) {
		if err != nil {
			return Account{}, err
		}
		if strings.EqualFold(a.Login, who) || strings.EqualFold(a.Address, who) {
			found = a
		}
		if count++; count <= named {
			others = append(others, strconv.Quote(a.Login))
		}
	}
	switch {
	case found.Login != "":
		return found, nil
	case count == 0:
		others = []string{"no account"}
	case count > named:
		others = append(others, fmt.Sprintf("%d more", count-named))
	}
	return Account{}, fmt.Errorf("account %s: %w of %s, which has %s", who, backup.ErrNotFound, s.Time.Format(time.RFC3339), strings.Join(others, ", "))
}
