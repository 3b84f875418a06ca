package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
)

// Rules returns the rules in their order.
func (s *Store) Rules(ctx context.Context) ([]Rule, error) {
	var all []Rule
	err := s.view(ctx, func(tx db.Tx) error {
		all = all[:0]
		rows, err := tx.Query(`SELECT id, rule FROM rule ORDER BY place, id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			var text string
			if err := rows.Scan(&id, &text); err != nil {
				return err
			}
			var r Rule
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				return fmt.Errorf("rule %d: %w", id, err)
			}
			r.ID = id
			all = append(all, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	return all, nil
}

// SaveRule stores a rule, a new one (ID 0) behind all others, and returns its id. ErrRule, ErrNotFound.
func (s *Store) SaveRule(ctx context.Context, r Rule) (int64, error) {
	if _, err := r.compile(); err != nil {
		return 0, err
	}
	id := r.ID
	err := s.db.Update(ctx, func(tx db.Tx) error {
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if r.ID != 0 {
			n, err := tx.Exec(`UPDATE rule SET name = ?, rule = ? WHERE id = ?`, db.Text(r.Name), db.Text(string(text)), r.ID)
			if err == nil && n == 0 {
				err = ErrNotFound
			}
			return err
		}
		var rules int64
		if err := tx.QueryRow(`SELECT COUNT(*) FROM rule`).Scan(&rules); err != nil {
			return err
		}
		if rules >= maxRules {
			return fmt.Errorf("%w: there are %d already", ErrRule, rules)
		}
		return tx.QueryRow(`INSERT INTO rule (place, name, rule) VALUES ((SELECT COALESCE(MAX(place), 0) + 1 FROM rule), ?, ?) RETURNING id`, db.Text(r.Name), db.Text(string(text))).Scan(&id)
	})
	if err != nil {
		return 0, fmt.Errorf("save rule %q: %w", r.Name, err)
	}
	s.forgetRules()
	return id, nil
}

// RemoveRule removes a rule. ErrNotFound.
func (s *Store) RemoveRule(ctx context.Context, id int64) error {
	err := s.db.Update(ctx, func(tx db.Tx) error {
		n, err := tx.Exec(`DELETE FROM rule WHERE id = ?`, id)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove rule %d: %w", id, err)
	}
	s.forgetRules()
	return nil
}

// OrderRules puts rules into the order of ids; those not named follow as they were.
func (s *Store) OrderRules(ctx context.Context, ids []int64) error {
	err := s.db.Update(ctx, func(tx db.Tx) error {
		if _, err := tx.Exec(`UPDATE rule SET place = place + ?`, int64(len(ids)+1)); err != nil {
			return err
		}
		for i, id := range ids {
			if n, err := tx.Exec(`UPDATE rule SET place = ? WHERE id = ?`, int64(i), id); err != nil || n == 0 {
				return errors.Join(err, ErrNotFound)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("order rules: %w", err)
	}
	s.forgetRules()
	return nil
}

// forgetRules has the rules read anew; a reading at work ends first.
func (s *Store) forgetRules() {
	s.ruleLoad.Lock()
	defer s.ruleLoad.Unlock()
	s.rules.Store(nil)
}

// ruleSet is the rules as they are now, ready to be asked.
func (s *Store) ruleSet(ctx context.Context) ([]*compiled, error) {
	if set := s.rules.Load(); set != nil {
		return *set, nil
	}
	s.ruleLoad.Lock()
	defer s.ruleLoad.Unlock()
	all, err := s.Rules(ctx)
	if err != nil {
		return nil, err
	}
	set := make([]*compiled, 0, len(all))
	for _, r := range all {
		c, err := r.compile()
		if err != nil { // of a later release
			s.cfg.Logger.Error("a rule is passed over", "rule", r.Name, "error", err)
			continue
		}
		set = append(set, c)
	}
	s.rules.Store(&set)
	return set, nil
}

// sort has the rules decide where a letter that arrives goes.
func (s *Store) sort(ctx context.Context, account envelope.AccountID, im *mailbox.Import, r *row, text io.ReaderAt, octets int64) error {
	im.Mailbox = Inbox
	set, err := s.ruleSet(ctx)
	if err != nil || len(set) == 0 {
		return err
	}
	c := &candidate{account: account, head: &r.head, r: text, size: octets, whole: max(octets, r.whole)}
	f := fileBy(set, c)
	if c.err != nil {
		return fmt.Errorf("read letter for the rules: %w", c.err)
	}
	if f.Folder != "" {
		im.Mailbox = f.Folder
	}
	im.Flags |= f.Flags
	return nil
}

// Trial is a letter that a rule applies to.
type Trial struct {
	Summary
	Filing Filing
}

// TryRule says to which of the letters that q selects a rule applies, without doing anything: a page of letters is
// looked at, and Cursor goes on behind it, "" at the end. Disabled is passed over.
func (s *Store) TryRule(ctx context.Context, r Rule, q Query) (found []Trial, cursor string, err error) {
	r.Disabled = false
	c, err := r.compile()
	if err != nil {
		return nil, "", err
	}
	return s.tryRules(ctx, []*compiled{c}, q)
}

func (s *Store) tryRules(ctx context.Context, set []*compiled, q Query) (found []Trial, cursor string, err error) {
	page, err := s.List(ctx, q)
	if err != nil {
		return nil, "", err
	}
	for _, m := range page.Letters {
		at, err := s.place(ctx, m.ID)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		r, size, err := s.octets(ctx, at.account, at.number, at.uid)
		if errors.Is(err, mailbox.ErrGone) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("read letter %d: %w", m.ID, err)
		}
		h, err := readHeader(r, size)
		if err != nil {
			return nil, "", fmt.Errorf("read letter %d: %w", m.ID, err)
		}
		k := &candidate{account: m.Account, head: &h, r: r, size: size, whole: max(size, m.Octets)}
		f := fileBy(set, k)
		if k.err != nil {
			return nil, "", fmt.Errorf("read letter %d: %w", m.ID, k.err)
		}
		if len(f.Rules) > 0 {
			found = append(found, Trial{m, f})
		}
	}
	return found, page.Cursor, nil
}

// ApplyRules files a page of the letters that q selects as if they arrived now, and returns how many
// it moved or flagged. The cursor goes on behind the page, "" at the end.
func (s *Store) ApplyRules(ctx context.Context, q Query) (changed int, cursor string, err error) {
	set, err := s.ruleSet(ctx)
	if err != nil {
		return 0, "", err
	}
	found, cursor, err := s.tryRules(ctx, set, q)
	if err != nil {
		return 0, "", err
	}
	for _, t := range found {
		did := 0
		if t.Filing.Flags&^t.Flags != 0 {
			if did, err = s.SetFlags(ctx, []LetterID{t.ID}, t.Filing.Flags, 0); err != nil {
				return changed, "", err
			}
		}
		if t.Filing.Folder != "" && t.Filing.Folder != t.Folder {
			n, err := s.moveFrom(ctx, []LetterID{t.ID}, t.Folder, t.Filing.Folder)
			if err != nil {
				return changed, "", err
			}
			did += n
		}
		changed += min(did, 1)
	}
	return changed, cursor, nil
}
