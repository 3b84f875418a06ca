package mailbox

import (
	"context"
	"fmt"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// Adoption is one message for Adopt: an entry of an earlier time, or of another store.
type Adoption struct {
	Mailbox   string // "" is INBOX; created when missing
	UniqueID  string // kept; "" gives a new one
	Flags     Flags
	Received  time.Time
	Prefix    []byte // header fields of this copy alone
	Surrogate int64  // as Entry.Surrogate was
	Staged    body.Staged
}

// Adopt stores messages that a backup gives back, durably, at most MaxAppend at a time, in
// the low-priority lane. They keep unique-ids, flags and times, and get uids that were
// never used. It does not look whether a message is there already: that is the caller's. Adopt does not
// discard the staged messages.
func (s *Store) Adopt(ctx context.Context, account envelope.AccountID, login string, batch []Adoption) ([]Entry, error) {
	if len(batch) > MaxAppend {
		return nil, fmt.Errorf("adopt %d messages: %w", len(batch), ErrBatch)
	}
	entries, recs := make([]Entry, len(batch)), make([]body.Record, len(batch))
	for i := range batch {
		if err := s.adoption(account, login, &batch[i], &entries[i], &recs[i]); err != nil {
			return nil, fmt.Errorf("adopt mail for account %d: %w", account, err)
		}
	}
	locs, release, err := s.cfg.Body.Commit(ctx, recs)
	if err != nil {
		return nil, fmt.Errorf("adopt mail for account %d: store %d bodies: %w", account, len(recs), err)
	}
	defer release()
	err = s.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
		for i := range entries {
			if err := s.adoptRow(tx, &entries[i], locs[i]); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range entries {
		s.listings.touch(account, entries[i].Mailbox)
	}
	if err != nil {
		return nil, fmt.Errorf("adopt mail for account %d: %w", account, err)
	}
	s.Settled(true, entries...)
	return entries, nil
}

// adoption prepares an entry and its body's record.
func (s *Store) adoption(account envelope.AccountID, login string, a *Adoption, e *Entry, rec *body.Record) error {
	name, err := CheckName(a.Mailbox)
	if err != nil {
		return err
	}
	id, err := message.NewID(s.cfg.Now(), s.cfg.Rand)
	if err != nil {
		return err
	}
	*e = Entry{Account: account, Login: login, Mailbox: name, Flags: a.Flags, Octets: int64(len(a.Prefix)) + a.Staged.Octets(),
		Surrogate: a.Surrogate, UniqueID: a.UniqueID, Received: a.Received, Body: id, Prefix: a.Prefix}
	if !LegalUniqueID(e.UniqueID) {
		e.UniqueID = id.String()
	}
	owner := body.Owner{Account: int64(account), Login: login, Mailbox: name, UniqueID: e.UniqueID, Flags: uint32(a.Flags), Prefix: a.Prefix}
	*rec = body.Record{ID: id, Staged: a.Staged, Meta: body.Meta{Received: a.Received, Owners: []body.Owner{owner}}}
	return nil
}

func (s *Store) adoptRow(tx db.Tx, e *Entry, loc body.Location) error {
	if err := body.Insert(tx, e.Body, loc, 1); err != nil {
		return fmt.Errorf("insert body %s: %w", e.Body, err)
	}
	if err := s.insert(tx, e, storeUniqueID(e.UniqueID, e.Body)); err != nil {
		return err
	}
	return s.remember(tx, e, loc.SHA256)
}
