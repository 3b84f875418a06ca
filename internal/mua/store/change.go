package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
)

// changeChunk is how many letters one transaction changes.
const changeChunk = mailbox.MaxAppend

// located is a letter and where it lies.
type located struct {
	id LetterID
	letterPlace
}

// locate looks up letters; those that are gone are left out.
func (s *Store) locate(ctx context.Context, ids []LetterID) ([]located, error) {
	var all []located
	err := s.view(ctx, func(tx db.Tx) error {
		all = all[:0]
		for _, id := range ids {
			at, err := readPlace(tx, id)
			if err == ErrNotFound {
				continue
			}
			if err != nil {
				return err
			}
			all = append(all, located{id, at})
		}
		return nil
	})
	return all, err
}

// folderOf is a folder of an account.
type folderOf struct {
	account envelope.AccountID
	name    string
}

// byFolder groups letters by where they lie.
func byFolder(all []located) map[folderOf][]located {
	groups := make(map[folderOf][]located)
	for _, l := range all {
		k := folderOf{l.account, l.folder}
		groups[k] = append(groups[k], l)
	}
	return groups
}

// SetFlags sets and clears flags of letters in folders and returns of how many they became
// others. Each 125 letters are a transaction.
func (s *Store) SetFlags(ctx context.Context, ids []LetterID, set, unset mailbox.Flags) (int, error) {
	total := 0
	for chunk := range slices.Chunk(ids, changeChunk) {
		for try := 0; len(chunk) > 0 && try < moveTries; try++ {
			all, err := s.locate(ctx, chunk)
			if err != nil {
				return total, fmt.Errorf("change flags: %w", err)
			}
			chunk = nil
			for k, group := range byFolder(slices.DeleteFunc(all, func(l located) bool { return l.removed })) {
				n, moved, err := s.setFlags(ctx, k, group, set, unset)
				if err != nil {
					return total, err
				}
				total += n
				chunk = append(chunk, moved...)
			}
		}
	}
	return total, nil
}

// setFlags changes the flags of letters of a folder. It returns how many it changed, and those that were moved meanwhile.
func (s *Store) setFlags(ctx context.Context, k folderOf, group []located, set, unset mailbox.Flags) (n int, moved []LetterID, err error) {
	uids := make([]mailbox.UID, len(group))
	for i, l := range group {
		uids[i] = l.uid
	}
	changed, err := s.mailboxes.SetFlags(ctx, mailbox.FlagChange{Account: k.account, Login: s.cfg.Login(k.account), Mailbox: k.name, UIDs: uids, Set: set, Unset: unset,
		Within: func(tx db.Tx, changed []mailbox.Entry) error {
			if moved = nil; len(changed) < len(group) {
				var err error
				if moved, err = movedFrom(tx, group); err != nil {
					return err
				}
			}
			return mirrorFlags(tx, changed)
		}})
	return len(changed), moved, err
}

// movedFrom are those letters that do not lie where they were located.
func movedFrom(tx db.Tx, group []located) (moved []LetterID, err error) {
	for _, l := range group {
		at, err := readPlace(tx, l.id)
		switch {
		case err == ErrNotFound:
		case err != nil:
			return nil, err
		case at.number != l.number || at.uid != l.uid:
			moved = append(moved, l.id)
		}
	}
	return moved, nil
}

// mirrorFlags writes the flags of entries to their letters.
func mirrorFlags(tx db.Tx, changed []mailbox.Entry) error {
	for i := range changed {
		e := &changed[i]
		if _, err := tx.Exec(`UPDATE letter SET flags = ? WHERE account = ? AND number = ? AND uid = ?`, int64(e.Flags), int64(e.Account), e.Number, int64(e.UID)); err != nil {
			return err
		}
	}
	return nil
}

// Move moves letters to a folder of their account, which is made if it is missing, and returns
// how many. Those that are there already, or in retention, stay. Each 125 letters are a transaction.
func (s *Store) Move(ctx context.Context, ids []LetterID, folder string) (int, error) {
	name, err := mailbox.CheckName(folder)
	if err != nil {
		return 0, err
	}
	return s.moveEach(ctx, ids, func(located) string { return name })
}

// moveEach moves each letter where to says.
func (s *Store) moveEach(ctx context.Context, ids []LetterID, to func(located) string) (int, error) {
	total := 0
	for chunk := range slices.Chunk(ids, changeChunk) {
		for try := 0; len(chunk) > 0 && try < moveTries; try++ {
			all, err := s.locate(ctx, chunk)
			if err != nil {
				return total, fmt.Errorf("move letters: %w", err)
			}
			all = slices.DeleteFunc(all, func(l located) bool { return l.removed || to(l) == l.folder })
			if len(all) == 0 {
				break
			}
			moves := make([]mailbox.Move, len(all))
			for i, l := range all {
				moves[i] = mailbox.Move{Account: l.account, Login: s.cfg.Login(l.account), From: l.folder, UID: l.uid, To: to(l), Within: s.mirrorMove}
			}
			moved, err := s.mailboxes.MoveMany(ctx, moves)
			if err != nil {
				return total, err
			}
			chunk = nil
			for i := range moved {
				if moved[i].UID == 0 { // it was moved meanwhile: look again
					chunk = append(chunk, all[i].id)
				} else {
					total++
				}
			}
		}
	}
	return total, nil
}

// moveFrom moves letters of one folder to another, and leaves alone those that do not lie there (any more).
func (s *Store) moveFrom(ctx context.Context, ids []LetterID, from, to string) (int, error) {
	return s.moveEach(ctx, ids, func(l located) string {
		if l.folder != from {
			return l.folder
		}
		return to
	})
}

// mirrorMove has a letter follow its entry. What goes to Trash knows where it came from.
func (s *Store) mirrorMove(tx db.Tx, was, is mailbox.Entry) error {
	trashed, origin := int64(0), ""
	if is.Mailbox == Trash {
		trashed, origin = db.Micros(s.cfg.Now()), was.Mailbox
	}
	_, err := tx.Exec(`UPDATE letter SET number = ?, uid = ?, flags = ?, trashed = ?, origin = ? WHERE account = ? AND number = ? AND uid = ?`,
		is.Number, int64(is.UID), int64(is.Flags), trashed, origin, int64(was.Account), was.Number, int64(was.UID))
	return err
}

// Remove moves letters to Trash, and those in Trash into retention, and returns how many. The order of ids does not matter.
func (s *Store) Remove(ctx context.Context, ids []LetterID) (int, error) {
	total := 0
	for chunk := range slices.Chunk(ids, changeChunk) {
		all, err := s.locate(ctx, chunk)
		if err != nil {
			return total, fmt.Errorf("remove letters: %w", err)
		}
		var away []located
		var rest []LetterID
		for _, l := range all {
			switch {
			case l.removed:
			case l.folder == Trash:
				away = append(away, l)
			default:
				rest = append(rest, l.id)
			}
		}
		n, err := s.retain(ctx, away)
		if total += n; err != nil {
			return total, err
		}
		n, err = s.moveEach(ctx, rest, func(located) string { return Trash })
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// Retain puts letters into retention, past Trash, and returns how many: for what a program replaces by
// something newer, as a draft. Restore brings them back to where they were.
func (s *Store) Retain(ctx context.Context, ids []LetterID) (int, error) {
	total := 0
	for chunk := range slices.Chunk(ids, changeChunk) {
		all, err := s.locate(ctx, chunk)
		if err != nil {
			return total, fmt.Errorf("remove letters: %w", err)
		}
		n, err := s.retain(ctx, slices.DeleteFunc(all, func(l located) bool { return l.removed }))
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// retain puts letters into retention.
func (s *Store) retain(ctx context.Context, all []located) (int, error) {
	total := 0
	for k, group := range byFolder(all) {
		uids := make([]mailbox.UID, len(group))
		for i, l := range group {
			uids[i] = l.uid
		}
		n, err := s.mailboxes.RemoveWithin(ctx, k.account, s.cfg.Login(k.account), k.name, uids, func(tx db.Tx) error {
			now := db.Micros(s.cfg.Now())
			for _, l := range group {
				if err := forgetText(tx, l); err != nil {
					return err
				}
				_, err := tx.Exec(`UPDATE letter SET removed = ?, indexed = 0, turn = turn + 1 WHERE id = ? AND account = ? AND number = ? AND uid = ?`,
					now, int64(l.id), int64(l.account), l.number, int64(l.uid))
				if err != nil {
					return err
				}
			}
			return nil
		})
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// forgetText takes a letter out of the full text, unless it was moved meanwhile.
func forgetText(tx db.Tx, l located) error {
	_, err := tx.Exec(`DELETE FROM letter_text WHERE rowid = (SELECT rank FROM letter WHERE id = ? AND account = ? AND number = ? AND uid = ? AND indexed = 1)`,
		int64(l.id), int64(l.account), l.number, int64(l.uid))
	if err != nil {
		return fmt.Errorf("take letter %d out of the index: %w", l.id, err)
	}
	return nil
}

// Restore brings letters back from retention and from Trash to where they were (INBOX when that is not
// known) and returns how many. Out of retention they get a new unique-id.
func (s *Store) Restore(ctx context.Context, ids []LetterID) (int, error) {
	total := 0
	for chunk := range slices.Chunk(ids, changeChunk) {
		all, err := s.locate(ctx, chunk)
		if err != nil {
			return total, fmt.Errorf("restore letters: %w", err)
		}
		var back []LetterID
		for k, group := range byFolder(all) {
			n, err := s.unretain(ctx, k, slices.DeleteFunc(slices.Clone(group), func(l located) bool { return !l.removed }))
			if err != nil {
				return total, err
			}
			if k.name != Trash {
				total += n
				continue
			}
			for _, l := range group {
				back = append(back, l.id)
			}
		}
		n, err := s.moveEach(ctx, back, func(l located) string {
			switch {
			case l.folder != Trash: // somebody was quicker
				return l.folder
			case l.origin == "" || l.origin == Trash:
				return Inbox
			}
			return l.origin
		})
		if total += n; err != nil {
			return total, err
		}
	}
	s.wakeIndex()
	return total, nil
}

// unretain brings letters of a folder back from retention into it, and returns how many.
func (s *Store) unretain(ctx context.Context, k folderOf, group []located) (int, error) {
	if len(group) == 0 {
		return 0, nil
	}
	sel := mailbox.Selection{Mailbox: k.name} // several letters may have one unique-id: they were moved here
	for _, l := range group {
		sel.UIDs = append(sel.UIDs, l.uid)
	}
	return s.mailboxes.RestoreWithin(ctx, k.account, s.cfg.Login(k.account), sel, func(tx db.Tx, was, is mailbox.Entry) error {
		_, err := tx.Exec(`UPDATE letter SET number = ?, uid = ?, unique_id = ?, removed = 0, indexed = 0, turn = turn + 1 WHERE account = ? AND number = ? AND uid = ?`,
			is.Number, int64(is.UID), is.UniqueID, int64(was.Account), was.Number, int64(was.UID))
		return err
	})
}

// EmptyTrash puts the letters in the Trash of an account into retention that were put there before a time, and returns how many.
func (s *Store) EmptyTrash(ctx context.Context, account envelope.AccountID, before time.Time) (int, error) {
	total := 0
	for {
		all, err := s.trashed(ctx, account, before)
		if err != nil {
			return total, fmt.Errorf("empty Trash of account %d: %w", account, err)
		}
		n, err := s.retain(ctx, all)
		total += n
		if err != nil || n == 0 {
			return total, err
		}
	}
}

// trashed are some of the letters in the Trash of an account that were put there before a time, and where they lie.
func (s *Store) trashed(ctx context.Context, account envelope.AccountID, before time.Time) ([]located, error) {
	var all []located
	err := s.view(ctx, func(tx db.Tx) error {
		all = all[:0]
		rows, err := tx.Query(`SELECT l.id, l.account, l.number, l.uid FROM letter l JOIN mailbox m ON m.account = l.account AND m.number = l.number
			WHERE m.account = ? AND m.name = ? AND l.removed = 0 AND l.trashed < ? LIMIT ?`, int64(account), Trash, db.Micros(before), int64(changeChunk))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			l := located{letterPlace: letterPlace{folder: Trash}}
			if err := rows.Scan(&l.id, &l.account, &l.number, &l.uid); err != nil {
				return err
			}
			all = append(all, l)
		}
		return rows.Err()
	})
	return all, err
}
