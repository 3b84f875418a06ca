package page

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mua/compose"
	"poczta.example/poczta/internal/mua/store"
)

// Schema is the page's table, for Config.Components of the store: what was typed into a draft since
// its letter was written. A draft with large files is not written anew, files and all, with each
// pause of the person's; what they typed lies here until the page goes, durable too.
var Schema = db.Component{Name: "mua-page", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE draft_typed (letter {int} NOT NULL PRIMARY KEY, typed {text} NOT NULL) {rowid}`}}}

// lightDraft is how large a draft may be, in octets, to be written anew with each pause.
const lightDraft = 128 << 10

// typedFields are what a person types into a letter.
var typedFields = []string{"from", "to", "cc", "bcc", "subject", "text"}

// keepTyped keeps what was typed into a large draft beside its letter, durably. kept is false for
// other drafts, which are written anew.
func (v *visit) keepTyped(ctx context.Context, d *compose.Draft, draft store.LetterID) (kept bool, err error) {
	if draft == 0 || len(d.Attachments) == 0 {
		return false, nil
	}
	m, err := v.p.cfg.Store.Summary(ctx, draft)
	if err != nil || m.Octets < lightDraft || m.Folder != store.Drafts || m.Account != d.Account {
		return false, err
	}
	f := url.Values{}
	for _, name := range typedFields {
		f.Set(name, v.r.PostForm.Get(name))
	}
	known := false
	err = v.p.cfg.Store.DB().Update(ctx, func(tx db.Tx) error {
		n, err := tx.Exec(`UPDATE draft_typed SET typed = ? WHERE letter = ?`, db.Text(f.Encode()), int64(draft))
		if known = n > 0; err != nil || known {
			return err
		}
		_, err = tx.Exec(`INSERT INTO draft_typed (letter, typed) VALUES (?, ?)`, int64(draft), db.Text(f.Encode()))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("keep what was typed: %w", err)
	}
	if !known {
		err = v.prune(ctx)
	}
	return true, err
}

// Typed reports whether something was typed into a draft on the page that its letter does not hold
// yet.
func Typed(ctx context.Context, s *store.Store, draft store.LetterID) (bool, error) {
	f, err := readTyped(ctx, s, draft)
	return f != nil, err
}

// typed is what was typed into a draft since its letter was written; nil is nothing.
func (v *visit) typed(ctx context.Context, draft store.LetterID) (url.Values, error) {
	return readTyped(ctx, v.p.cfg.Store, draft)
}

func readTyped(ctx context.Context, s *store.Store, draft store.LetterID) (url.Values, error) {
	var text string
	err := s.DB().View(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT typed FROM draft_typed WHERE letter = ?`, int64(draft)).Scan(&text)
	})
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was typed: %w", err)
	}
	return url.ParseQuery(text)
}

// forgetTyped forgets what was typed into a draft: its letter has it, or is not wanted.
func (v *visit) forgetTyped(ctx context.Context, draft store.LetterID) error {
	err := v.p.cfg.Store.DB().Update(ctx, func(tx db.Tx) error {
		_, err := tx.Exec(`DELETE FROM draft_typed WHERE letter = ?`, int64(draft))
		return err
	})
	if err != nil {
		return fmt.Errorf("forget what was typed: %w", err)
	}
	return nil
}

// prune forgets what was typed into drafts that are gone.
func (v *visit) prune(ctx context.Context) error {
	var all []store.LetterID
	err := v.p.cfg.Store.DB().View(ctx, func(tx db.Tx) error {
		all = nil
		rows, err := tx.Query(`SELECT letter FROM draft_typed`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			all = append(all, store.LetterID(id))
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("read what was typed: %w", err)
	}
	for _, id := range all {
		s, err := v.p.cfg.Store.Standing(ctx, id)
		if err == nil && s == store.Gone {
			err = v.forgetTyped(ctx, id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
