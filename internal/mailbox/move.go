package mailbox

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// Move is the way of one entry to another mailbox of its account.
type Move struct {
	Account envelope.AccountID
	Login   string // for the journal
	From    string
	UID     UID
	To      string            // created when missing
	Flags   func(Flags) Flags // what its flags become; nil keeps them
	// Within is run in the transaction with the entry as it was and as it is; it may run more than
	// once, and an error of it ends the whole. Nil is nothing.
	Within func(tx db.Tx, was, is Entry) error
}

// Move moves an entry in one transaction and returns it as it is then: under a new uid, with its
// unique-id, octets and time of receipt as before. ErrNotFound when it is not there (any more).
func (s *Store) Move(ctx context.Context, m Move) (Entry, error) {
	var err error
	if m.From, err = CheckName(m.From); err == nil {
		m.To, err = CheckName(m.To)
	}
	if err != nil {
		return Entry{}, err
	}
	if m.From == m.To {
		return Entry{}, fmt.Errorf("move message %d to mailbox %q, where it is: %w", m.UID, m.To, ErrExists)
	}
	var is Entry
	err = s.cfg.DB.Update(ctx, func(tx db.Tx) (err error) {
		is, err = s.moveRow(tx, &m)
		return err
	})
	s.listings.touch(m.Account, m.From)
	s.listings.touch(m.Account, m.To)
	if err != nil {
		return Entry{}, fmt.Errorf("move message %d of account %d from %q to %q: %w", m.UID, m.Account, m.From, m.To, err)
	}
	s.journal(body.EventMoved, []Entry{is})
	return is, nil
}

// MoveMany moves at most MaxAppend entries in one transaction and returns them as they are then;
// zero for those that were not there (any more), for which Within is not called.
func (s *Store) MoveMany(ctx context.Context, moves []Move) ([]Entry, error) {
	if len(moves) > MaxAppend {
		return nil, fmt.Errorf("move %d messages: %w", len(moves), ErrBatch)
	}
	for i := range moves {
		m := &moves[i]
		var err error
		if m.From, err = CheckName(m.From); err == nil {
			m.To, err = CheckName(m.To)
		}
		if err == nil && m.From == m.To {
			err = fmt.Errorf("move message %d to mailbox %q, where it is: %w", m.UID, m.To, ErrExists)
		}
		if err != nil {
			return nil, err
		}
	}
	out := make([]Entry, len(moves))
	err := s.cfg.DB.Update(ctx, func(tx db.Tx) error {
		for i := range moves {
			is, err := s.moveRow(tx, &moves[i])
			if errors.Is(err, ErrNotFound) {
				is, err = Entry{}, nil
			}
			if err != nil {
				return fmt.Errorf("move message %d of account %d from %q to %q: %w", moves[i].UID, moves[i].Account, moves[i].From, moves[i].To, err)
			}
			out[i] = is
		}
		return nil
	})
	for i := range moves {
		s.listings.touch(moves[i].Account, moves[i].From)
		s.listings.touch(moves[i].Account, moves[i].To)
	}
	if err != nil {
		return nil, err
	}
	s.journal(body.EventMoved, slices.DeleteFunc(slices.Clone(out), func(e Entry) bool { return e.UID == 0 }))
	return out, nil
}

// moveRow is the transaction of Move. The rows of mailboxes are locked in the order in which
// deliveries lock them.
func (s *Store) moveRow(tx db.Tx, m *Move) (Entry, error) {
	names := []string{m.From, m.To}
	slices.Sort(names)
	for _, name := range names {
		if _, err := tx.Exec(`UPDATE mailbox SET modseq = modseq WHERE account = ? AND name = ?`, int64(m.Account), name); err != nil {
			return Entry{}, err
		}
	}
	from, err := readMailbox(tx, m.Account, m.From)
	if err != nil {
		return Entry{}, notFound(err)
	}
	r, err := readEntry(tx, m.Account, from.Number, m.UID)
	if err != nil {
		return Entry{}, err
	}
	if _, err := tx.Exec(`DELETE FROM entry WHERE account = ? AND number = ? AND uid = ?`, int64(m.Account), from.Number, int64(m.UID)); err != nil {
		return Entry{}, err
	}
	_, err = tx.Exec(`UPDATE mailbox SET modseq = modseq + 1, shrunk = modseq + 1, messages = messages - 1, octets = octets - ? WHERE account = ? AND number = ?`,
		r.Octets, int64(m.Account), from.Number)
	if err != nil {
		return Entry{}, err
	}
	was := r.Entry
	was.Mailbox, was.Login = m.From, m.Login
	is := was
	is.Mailbox = m.To
	if m.Flags != nil {
		is.Flags = m.Flags(is.Flags)
	}
	unique := r.uniqueID
	if unique == nil {
		unique = []byte{}
	}
	if err := s.insert(tx, &is, unique); err != nil {
		return Entry{}, err
	}
	if m.Within != nil {
		err = m.Within(tx, was, is)
	}
	return is, err
}

func notFound(err error) error {
	if errors.Is(err, db.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// readEntry reads one entry; ErrNotFound.
func readEntry(tx db.Tx, account envelope.AccountID, number int64, uid UID) (rawEntry, error) {
	var r rawEntry
	err := tx.QueryRow(`SELECT `+entryColumns+` FROM entry WHERE account = ? AND number = ? AND uid = ?`, int64(account), number, int64(uid)).Scan(r.dest()...)
	if err != nil {
		return r, notFound(err)
	}
	return r, r.finish(account)
}

// Entry reads one entry within tx, by the mailbox's number; Mailbox and Login are left empty.
// ErrNotFound.
func (s *Store) Entry(tx db.Tx, account envelope.AccountID, number int64, uid UID) (Entry, error) {
	r, err := readEntry(tx, account, number, uid)
	return r.Entry, err
}

// Newest finds, within the transaction that delivered it or soon afterwards, the entry of a body
// among the newest of a mailbox. ErrNotFound.
func (s *Store) Newest(tx db.Tx, account envelope.AccountID, name string, id message.ID) (Entry, error) {
	m, err := readMailbox(tx, account, name)
	if err != nil {
		return Entry{}, notFound(err)
	}
	const among = 1100 // more than one Accept delivers
	var uid int64
	err = tx.QueryRow(`SELECT uid FROM entry WHERE account = ? AND number = ? AND uid >= ? AND body = ? ORDER BY uid DESC LIMIT 1`,
		int64(account), m.Number, int64(m.UIDNext)-among, id[:]).Scan(&uid)
	if err != nil {
		return Entry{}, notFound(err)
	}
	e, err := s.Entry(tx, account, m.Number, UID(uid))
	e.Mailbox = name
	return e, err
}

// Bounds of FindBodies.
const (
	findPage = 5_000
	findMost = 500_000 // entries looked through
	findIDs  = 256
)

// FindBodies returns the account's entries of up to 256 bodies. There is no index for that: it
// looks through the account's mailboxes, newest entries first, in pages, through 500,000 entries at most.
func (s *Store) FindBodies(ctx context.Context, account envelope.AccountID, ids []message.ID) ([]Entry, error) {
	ids = ids[:min(len(ids), findIDs)]
	if len(ids) == 0 {
		return nil, nil
	}
	boxes, err := s.Mailboxes(ctx, account)
	if err != nil {
		return nil, err
	}
	var found []Entry
	wanted := make(map[message.ID]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	left := findMost
	for i := range boxes {
		for upper := int64(boxes[i].UIDNext); upper > 0 && left > 0; {
			var n int
			err := s.look(ctx, func(tx db.Tx) (err error) {
				var some []Entry
				if some, upper, n, err = findIn(tx, &boxes[i], upper, wanted); err == nil {
					found = append(found, some...)
				}
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("look for messages of account %d: %w", account, err)
			}
			left -= n
		}
	}
	return found, nil
}

// findIn looks through one page of a mailbox, below the uid upper. It returns the next upper,
// 0 at the end, and how many entries it saw.
func findIn(tx db.Tx, m *Mailbox, upper int64, wanted map[message.ID]bool) (found []Entry, next int64, n int, err error) {
	rows, err := tx.Query(`SELECT uid, body FROM entry WHERE account = ? AND number = ? AND uid < ? ORDER BY uid DESC LIMIT ?`, int64(m.Account), m.Number, upper, int64(findPage))
	if err != nil {
		return nil, upper, 0, err
	}
	defer rows.Close()
	var uids []UID
	var id []byte
	for ; rows.Next(); n++ {
		if err := rows.Scan(&next, &id); err != nil {
			return nil, upper, 0, err
		}
		if len(id) == len(message.ID{}) && wanted[message.ID(id)] {
			uids = append(uids, UID(next))
		}
	}
	if err := rows.Err(); err != nil {
		return nil, upper, 0, err
	}
	rows.Close()
	if n < findPage {
		next = 0
	}
	for _, uid := range uids {
		r, err := readEntry(tx, m.Account, m.Number, uid)
		if err != nil {
			return nil, upper, 0, err
		}
		r.Mailbox = m.Name
		found = append(found, r.Entry)
	}
	return found, next, n, nil
}
