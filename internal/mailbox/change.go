package mailbox

import (
	"context"
	"errors"
	"fmt"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// FlagChange is a change of flags of entries of one mailbox.
type FlagChange struct {
	Account envelope.AccountID
	Login   string // for the journal
	Mailbox string
	UIDs    []UID
	Set     Flags
	Unset   Flags
	// Within is run in the transaction, after the change; it may run more than once, and an
	// error of it ends the whole. Nil is nothing.
	Within func(tx db.Tx, changed []Entry) error
}

// SetFlags changes flags in one transaction and returns the entries whose flags became others;
// those that are not there (any more) are passed over. ErrNotFound when the mailbox does not exist.
// At most 500 entries: ErrBatch.
func (s *Store) SetFlags(ctx context.Context, c FlagChange) ([]Entry, error) {
	name, err := CheckName(c.Mailbox)
	if err != nil {
		return nil, err
	}
	c.Mailbox = name
	if len(c.UIDs) > chunkRows {
		return nil, fmt.Errorf("change flags of %d messages: %w", len(c.UIDs), ErrBatch)
	}
	var changed []Entry
	err = s.cfg.DB.Update(ctx, func(tx db.Tx) (err error) {
		changed, err = setFlags(tx, &c)
		if err == nil && c.Within != nil {
			err = c.Within(tx, changed)
		}
		return err
	})
	s.listings.touch(c.Account, c.Mailbox)
	if err != nil {
		return nil, fmt.Errorf("change flags in mailbox %q of account %d: %w", c.Mailbox, c.Account, notFound(err))
	}
	s.journal(body.EventDelivered, changed) // the journal's last word on an entry holds its flags
	return changed, nil
}

// setFlags is the transaction of SetFlags. The mailbox's row, changed first, keeps others waiting.
func setFlags(tx db.Tx, c *FlagChange) ([]Entry, error) {
	var number, modseq int64
	err := tx.QueryRow(`UPDATE mailbox SET modseq = modseq + 1, shrunk = modseq + 1, changed = modseq + 1 WHERE account = ? AND name = ? RETURNING number, modseq`,
		int64(c.Account), c.Mailbox).Scan(&number, &modseq)
	if err != nil {
		return nil, err
	}
	var changed []Entry
	for _, uid := range c.UIDs {
		r, err := readEntry(tx, c.Account, number, uid)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		e := r.Entry
		flags := e.Flags&^c.Unset | c.Set
		if flags == e.Flags {
			continue
		}
		e.Flags, e.ModSeq, e.Mailbox, e.Login = flags, modseq, c.Mailbox, c.Login
		if _, err := tx.Exec(`UPDATE entry SET flags = ?, modseq = ? WHERE account = ? AND number = ? AND uid = ?`,
			int64(e.Flags), modseq, int64(c.Account), number, int64(uid)); err != nil {
			return nil, err
		}
		changed = append(changed, e)
	}
	return changed, nil
}

// Replacement is another content for an entry, as when only the header section was there before.
type Replacement struct {
	Account envelope.AccountID
	Login   string // for the journal
	Mailbox string
	UID     UID
	UTF8    bool        // the header section holds UTF-8
	Staged  body.Staged // CRLF lines; not discarded
	// Within is run in the transaction with the entry as it is then; it may run more than once,
	// and an error of it ends the whole. Nil is nothing.
	Within func(tx db.Tx, is Entry) error
}

// Replace gives an entry another body, durably, and keeps its uid, unique-id, flags and time of
// receipt. What knows imports again by the unique-id knows the new content from then on.
// ErrNotFound when the entry is not there (any more). It is for stores whose readers know that
// it may happen: IMAP (RFC 9051 §2.3.1.1) would not have it.
func (s *Store) Replace(ctx context.Context, r Replacement) (Entry, error) {
	name, err := CheckName(r.Mailbox)
	if err != nil {
		return Entry{}, err
	}
	r.Mailbox = name
	is, old, dead, err := s.replace(ctx, &r)
	s.listings.touch(r.Account, r.Mailbox)
	if err != nil {
		return Entry{}, fmt.Errorf("replace message %d in mailbox %q of account %d: %w", r.UID, r.Mailbox, r.Account, notFound(err))
	}
	s.journal(body.EventPurged, []Entry{old})
	s.journal(body.EventDelivered, []Entry{is})
	if dead {
		if err := s.cfg.Body.Remove(ctx, []message.ID{old.Body}); err != nil {
			s.cfg.Logger.Warn("remove replaced body", "id", old.Body.String(), "error", err) // without a row it is dead to merge
		}
	}
	return is, nil
}

// replace stores the body and changes the rows.
func (s *Store) replace(ctx context.Context, r *Replacement) (is, old Entry, dead bool, err error) {
	id, err := message.NewID(s.cfg.Now(), s.cfg.Rand)
	if err != nil {
		return is, old, false, err
	}
	var surrogate int64
	if r.UTF8 {
		if surrogate, err = s.SurrogateOctets(nil, nil, r.Staged, r.Staged.Octets()); err != nil {
			return is, old, false, err
		}
	}
	err = s.cfg.DB.View(ctx, func(tx db.Tx) error {
		m, err := readMailbox(tx, r.Account, r.Mailbox)
		if err != nil {
			return err
		}
		old, err = s.Entry(tx, r.Account, m.Number, r.UID)
		return err
	})
	if err != nil {
		return is, old, false, err
	}
	owner := body.Owner{Account: int64(r.Account), Login: r.Login, Mailbox: r.Mailbox, UniqueID: old.UniqueID, Flags: uint32(old.Flags)}
	locs, release, err := s.cfg.Body.Commit(ctx, []body.Record{{ID: id, Staged: r.Staged, Meta: body.Meta{Received: old.Received, Owners: []body.Owner{owner}}}})
	if err != nil {
		return is, old, false, fmt.Errorf("store body: %w", err)
	}
	defer release()
	sum := r.Staged.SHA256()
	err = s.cfg.DB.Update(ctx, func(tx db.Tx) (err error) {
		is, old, err = replaceRow(tx, r, id, locs[0], surrogate)
		if err != nil {
			return err
		}
		was, err := body.Lookup(tx, old.Body)
		if err != nil {
			return err
		}
		if dead, err = body.Release(tx, old.Body); err != nil {
			return err
		}
		// The import may have been into another mailbox: the message was moved since.
		if _, err = tx.Exec(`UPDATE import_key SET sha256 = ? WHERE account = ? AND number IN (SELECT number FROM mailbox WHERE account = ?) AND key = ? AND (number = ? OR sha256 = ?)`,
			sum[:], int64(r.Account), int64(r.Account), append([]byte{'u'}, is.UniqueID...), is.Number, was.SHA256[:]); err == nil && r.Within != nil {
			err = r.Within(tx, is)
		}
		return err
	})
	return is, old, dead, err
}

// replaceRow changes the rows of an entry and its mailbox, and inserts the body's.
func replaceRow(tx db.Tx, r *Replacement, id message.ID, loc body.Location, surrogate int64) (is, old Entry, err error) {
	var number, modseq int64
	err = tx.QueryRow(`UPDATE mailbox SET modseq = modseq + 1, shrunk = modseq + 1, changed = modseq + 1 WHERE account = ? AND name = ? RETURNING number, modseq`,
		int64(r.Account), r.Mailbox).Scan(&number, &modseq)
	if err != nil {
		return is, old, err
	}
	raw, err := readEntry(tx, r.Account, number, r.UID)
	if err != nil {
		return is, old, err
	}
	old = raw.Entry
	old.Mailbox, old.Login = r.Mailbox, r.Login
	is = old
	is.Body, is.ModSeq, is.Surrogate = id, modseq, surrogate
	is.Octets = loc.Octets + int64(len(is.Prefix))
	if is.Surrogate > 0 {
		is.Surrogate += int64(len(is.Prefix))
	}
	if err := body.Insert(tx, id, loc, 1); err != nil {
		return is, old, fmt.Errorf("insert body %s: %w", id, err)
	}
	column := storeUniqueID(is.UniqueID, id)
	if column[0] != textMark { // no body has it any more
		if _, err := tx.Exec(`INSERT INTO restored_id (id) VALUES (?) ON CONFLICT (id) DO NOTHING`, column); err != nil {
			return is, old, err
		}
	}
	_, err = tx.Exec(`UPDATE entry SET modseq = ?, octets = ?, surrogate = ?, unique_id = ?, body = ? WHERE account = ? AND number = ? AND uid = ?`,
		modseq, is.Octets, is.Surrogate, column, id[:], int64(r.Account), number, int64(r.UID))
	if err == nil {
		_, err = tx.Exec(`UPDATE mailbox SET octets = octets + ? WHERE account = ? AND number = ?`, is.Octets-old.Octets, int64(r.Account), number)
	}
	return is, old, err
}
