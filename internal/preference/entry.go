package preference

import (
	"context"
	"fmt"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Entry is one line of a list.
type Entry struct {
	Pattern string // see ParsePattern
	Allow   bool   // else block
	Note    string // for people; at most MaxNoteOctets
	Added   time.Time
}

// Add puts entries on the lists of an account, all or none; a pattern that is on the other list
// changes sides. Errors: ErrInvalid, ErrFull.
func (p *Preferences) Add(ctx context.Context, id envelope.AccountID, entries ...Entry) error {
	most, now := int64(MaxEntries), p.cfg.Now()
	if id == Common {
		most = MaxCommonEntries
	}
	if len(entries) > MaxEntries {
		return fmt.Errorf("%d entries at once: %w: add at most %d", len(entries), ErrFull, MaxEntries)
	}
	patterns := make([]string, len(entries))
	for i, e := range entries {
		s, err := ParsePattern(e.Pattern, id == Common)
		if err != nil {
			return err
		}
		if len(e.Note) > MaxNoteOctets {
			return fmt.Errorf("note of %d octets %w: at most %d", len(e.Note), ErrInvalid, MaxNoteOctets)
		}
		patterns[i] = s
	}
	err := p.change(ctx, id, func(tx db.Tx) error {
		for i, e := range entries {
			_, err := tx.Exec(`INSERT INTO preference_entry (account, pattern, allow, note, added) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (account, pattern) DO UPDATE SET allow = excluded.allow, note = excluded.note, added = excluded.added`,
				int64(id), patterns[i], e.Allow, db.Text(e.Note), db.Micros(now))
			if err != nil {
				return err
			}
		}
		var rows int64
		if err := tx.QueryRow(`SELECT COUNT(*) FROM preference_entry WHERE account = ?`, int64(id)).Scan(&rows); err != nil {
			return err
		}
		if rows > most {
			return fmt.Errorf("%d entries: %w: remove some, at most %d are kept", rows, ErrFull, most)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("add to %s: %w", listsOf(id), err)
	}
	return nil
}

// listsOf names lists in errors.
func listsOf(id envelope.AccountID) string {
	if id == Common {
		return "the server's lists"
	}
	return fmt.Sprintf("the lists of account %d", id)
}

// Remove takes a pattern, as written or as List shows it, off the list it is on. Errors:
// ErrInvalid, ErrNotFound.
func (p *Preferences) Remove(ctx context.Context, id envelope.AccountID, pattern string) error {
	// As it is shown goes first: the compared form of an address need not be one to write.
	shown := db.Text(pattern)
	s, notFound := ParsePattern(pattern, id == Common)
	if notFound == nil {
		notFound = ErrNotFound
	} else {
		s = shown
	}
	err := p.change(ctx, id, func(tx db.Tx) error {
		for _, x := range []string{shown, s} {
			n, err := tx.Exec(`DELETE FROM preference_entry WHERE account = ? AND pattern = ?`, int64(id), x)
			if err != nil || n > 0 {
				return err
			}
		}
		return notFound
	})
	if err != nil {
		return fmt.Errorf("remove %s from %s: %w", s, listsOf(id), err)
	}
	return nil
}

// List returns a page of an account's entries by pattern, those after the one given ("" is the
// first page), at most MaxPage.
func (p *Preferences) List(ctx context.Context, id envelope.AccountID, after string) (entries []Entry, err error) {
	err = p.cfg.DB.View(ctx, func(tx db.Tx) error {
		entries = nil
		rows, err := tx.Query(`SELECT pattern, allow, note, added FROM preference_entry WHERE account = ? AND pattern > ? ORDER BY pattern LIMIT ?`,
			int64(id), after, int64(MaxPage))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e Entry
			var added int64
			if err := rows.Scan(&e.Pattern, &e.Allow, &e.Note, &added); err != nil {
				return err
			}
			e.Added = db.FromMicros(added)
			entries = append(entries, e)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", listsOf(id), err)
	}
	return entries, nil
}
