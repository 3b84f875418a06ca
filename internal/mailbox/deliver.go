package mailbox

import (
	"errors"
	"fmt"
	"math"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// Copy is one entry to be: the copy of a message for one mailbox.
type Copy struct {
	Account   envelope.AccountID
	Login     string // for the journal
	Mailbox   string // "" is INBOX; created when missing
	Flags     Flags
	Body      message.ID
	Octets    int64  // prefix and record
	Surrogate int64  // from SurrogateOctets, 0 when the message needs none
	Prefix    []byte // header fields of this copy alone
	Received  time.Time
}

// Deliver adds an entry in the caller's transaction; the unique-id is the body's
// id. The caller calls Settled after the transaction, whatever its outcome.
// Several deliveries in one transaction must come in order of (Account, Mailbox).
func (s *Store) Deliver(tx db.Tx, c *Copy) (Entry, error) {
	name, err := CheckName(c.Mailbox)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Account: c.Account, Login: c.Login, Mailbox: name, Flags: c.Flags, Octets: c.Octets,
		Surrogate: c.Surrogate, UniqueID: c.Body.String(), Received: c.Received, Body: c.Body, Prefix: c.Prefix}
	if err := s.insert(tx, &e, []byte{}); err != nil {
		return Entry{}, err
	}
	return e, nil
}

// insert gives e its number, uid and modseq and stores it.
func (s *Store) insert(tx db.Tx, e *Entry, uniqueID []byte) error {
	err := s.allocate(tx, e)
	if errors.Is(err, db.ErrNotFound) {
		if _, err = s.create(tx, e.Account, e.Mailbox); err == nil {
			err = s.allocate(tx, e)
		}
	}
	if err != nil {
		return fmt.Errorf("allocate a uid in mailbox %q of account %d: %w", e.Mailbox, e.Account, err)
	}
	return insertEntry(tx, e, uniqueID)
}

// insertEntry stores an entry that has its number, uid and modseq.
func insertEntry(tx db.Tx, e *Entry, uniqueID []byte) error {
	prefix := e.Prefix
	if prefix == nil {
		prefix = []byte{}
	}
	_, err := tx.Exec(`INSERT INTO entry (account, number, uid, modseq, flags, octets, surrogate, received, unique_id, body, prefix) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		int64(e.Account), e.Number, int64(e.UID), e.ModSeq, int64(e.Flags), e.Octets, e.Surrogate, db.Micros(e.Received), uniqueID, e.Body[:], prefix)
	if err != nil {
		return fmt.Errorf("insert entry %d of mailbox %q of account %d: %w", e.UID, e.Mailbox, e.Account, err)
	}
	return nil
}

// allocate takes the next uid and modseq from the mailbox's row.
func (s *Store) allocate(tx db.Tx, e *Entry) error {
	var next int64
	err := tx.QueryRow(`UPDATE mailbox SET uidnext = uidnext + 1, modseq = modseq + 1, messages = messages + 1, octets = octets + ? WHERE account = ? AND name = ? RETURNING number, uidnext, modseq`,
		e.Octets, int64(e.Account), e.Mailbox).Scan(&e.Number, &next, &e.ModSeq)
	if err != nil {
		return err
	}
	if next > math.MaxUint32 {
		return errUIDs
	}
	e.UID = UID(next - 1)
	return nil
}

// create inserts a mailbox's row if it is missing and reports whether it did.
// INBOX is number 1 and its row, locked first, orders creations in an account.
func (s *Store) create(tx db.Tx, account envelope.AccountID, name string) (bool, error) {
	validity := max(1, s.cfg.Now().Unix()&math.MaxUint32)
	const insert = `INSERT INTO mailbox (account, name, number, uidvalidity, uidnext, modseq, shrunk, messages, octets, retained) VALUES (?, ?, ?, ?, 1, 1, 1, 0, 0, 0) ON CONFLICT DO NOTHING` // two at once may meet in either index
	n, err := tx.Exec(insert, int64(account), Inbox, int64(1), validity)
	if err != nil {
		return false, fmt.Errorf("create INBOX of account %d: %w", account, err)
	}
	if name == Inbox {
		return n > 0, nil
	}
	if _, err := tx.Exec(`UPDATE mailbox SET number = number WHERE account = ? AND name = ?`, int64(account), Inbox); err != nil {
		return false, fmt.Errorf("lock account %d: %w", account, err)
	}
	var last int64
	if err := tx.QueryRow(`SELECT MAX(number) FROM mailbox WHERE account = ?`, int64(account)).Scan(&last); err != nil {
		return false, fmt.Errorf("number the mailboxes of account %d: %w", account, err)
	}
	n, err = tx.Exec(insert, int64(account), name, last+1, validity)
	if err != nil {
		return false, fmt.Errorf("create mailbox %q of account %d: %w", name, account, err)
	}
	return n > 0, nil
}

// Settled tells that the transaction of the entries has ended; committed says
// how. It makes the change visible to sessions that open from now on and, when
// committed, writes the journal. Of an unknown outcome, say committed when in doubt.
func (s *Store) Settled(committed bool, entries ...Entry) {
	for i := range entries {
		s.listings.touch(entries[i].Account, entries[i].Mailbox)
	}
	if committed {
		s.journal(body.EventDelivered, entries)
	}
}

// journal appends one event for each entry.
func (s *Store) journal(kind body.EventKind, entries []Entry) {
	if _, none := s.cfg.Journal.(noJournal); none || len(entries) == 0 {
		return
	}
	now := s.cfg.Now()
	events := make([]body.Event, len(entries))
	for i := range entries {
		e := &entries[i]
		events[i] = body.Event{Kind: kind, ID: e.Body, Account: int64(e.Account), Login: e.Login, Mailbox: e.Mailbox,
			UID: uint32(e.UID), UniqueID: e.UniqueID, Flags: uint32(e.Flags), Time: now}
	}
	s.cfg.Journal.Append(events...)
}
