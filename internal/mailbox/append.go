package mailbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// MaxAppend is how many messages one Append takes; each is four rows.
const MaxAppend = chunkRows / 4

// Import is one message for Append. Staged holds CRLF lines.
type Import struct {
	Mailbox  string // "" is INBOX; created when missing
	UniqueID string // kept when legal and unused in the mailbox; "" for none
	Source   string // tells apart equal contents without a unique-id: a file's name, a number
	Flags    Flags
	Received time.Time
	UTF8     bool // the header section holds UTF-8
	Staged   body.Staged
}

// Appended is the outcome of one Import.
type Appended struct {
	Duplicate bool // it had been imported before; nothing was stored
	Entry     Entry
}

// ErrBatch is returned by Append for more than MaxAppend messages.
var ErrBatch = fmt.Errorf("at most %d messages in one batch", MaxAppend)

// incoming is an Import on its way.
type incoming struct {
	*Import
	entry     Entry
	sum       [32]byte
	key       []byte // in import_key
	taken     bool   // an entry that was delivered here has the unique-id
	duplicate bool
	late      bool // the transaction found that it is a duplicate
	landed    bool // its body has its row
	loc       body.Location
}

// Append stores a batch of imported messages durably, at most MaxAppend at a time, in the
// low-priority lane. An import repeated makes no duplicates: a message counts as
// there when its unique-id with the same content, or its content and Source, was imported
// into that mailbox before, even if it was removed since (PurgeAccount forgets).
// A unique-id that another message of the mailbox has is replaced by one of ours.
// Append does not discard the staged messages.
func (s *Store) Append(ctx context.Context, account envelope.AccountID, login string, batch []Import) ([]Appended, error) {
	return s.AppendWithin(ctx, account, login, batch, nil)
}

// AppendWithin is Append with something that must be done in the same transaction for each
// message, duplicates included (their Entry is zero), in the batch's order. It may run more than
// once, and an error of it ends the whole. Nil is nothing.
func (s *Store) AppendWithin(ctx context.Context, account envelope.AccountID, login string, batch []Import, within func(tx db.Tx, i int, a Appended) error) ([]Appended, error) {
	if len(batch) > MaxAppend {
		return nil, fmt.Errorf("import %d messages: %w", len(batch), ErrBatch)
	}
	all, err := s.incoming(account, login, batch)
	if err != nil {
		return nil, fmt.Errorf("import into account %d: %w", account, err)
	}
	if err := s.markTaken(ctx, account, all); err != nil {
		return nil, fmt.Errorf("import into account %d: %w", account, err)
	}
	if err := s.markKnown(ctx, all); err != nil {
		return nil, fmt.Errorf("import into account %d: %w", account, err)
	}
	release, err := s.commitBodies(ctx, all)
	if err != nil {
		return nil, fmt.Errorf("import into account %d: %w", account, err)
	}
	defer release()
	return s.appendAll(ctx, account, all, within)
}

// appendAll gives entries to messages whose bodies are durable.
func (s *Store) appendAll(ctx context.Context, account envelope.AccountID, all []incoming, within func(tx db.Tx, i int, a Appended) error) ([]Appended, error) {
	err := s.cfg.DB.UpdateLow(ctx, func(tx db.Tx) error {
		if err := s.enter(tx, all); err != nil {
			return err
		}
		for i := 0; within != nil && i < len(all); i++ {
			if err := within(tx, i, all[i].outcome()); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range all {
		s.listings.touch(account, all[i].entry.Mailbox)
	}
	if err != nil {
		return nil, fmt.Errorf("import into account %d: %w", account, err)
	}
	out := make([]Appended, len(all))
	var stored []Entry
	for i := range all {
		out[i] = all[i].outcome()
		if !out[i].Duplicate {
			stored = append(stored, out[i].Entry)
		}
	}
	s.Settled(true, stored...)
	return out, nil
}

// outcome is what the caller hears.
func (in *incoming) outcome() Appended {
	if in.duplicate || in.late {
		return Appended{Duplicate: true}
	}
	return Appended{Entry: in.entry}
}

// incoming checks the batch and prepares its entries.
func (s *Store) incoming(account envelope.AccountID, login string, batch []Import) ([]incoming, error) {
	all := make([]incoming, len(batch))
	for i := range batch {
		im := &batch[i]
		name, err := CheckName(im.Mailbox)
		if err != nil {
			return nil, err
		}
		id, err := message.NewID(s.cfg.Now(), s.cfg.Rand)
		if err != nil {
			return nil, err
		}
		in := &all[i]
		in.Import, in.sum = im, im.Staged.SHA256()
		in.entry = Entry{Account: account, Login: login, Mailbox: name, Flags: im.Flags, Octets: im.Staged.Octets(),
			UniqueID: id.String(), Received: im.Received, Body: id}
		if im.UTF8 {
			if in.entry.Surrogate, err = s.SurrogateOctets(nil, nil, im.Staged, in.entry.Octets); err != nil {
				return nil, err
			}
		}
		in.setKey()
	}
	return all, nil
}

// setKey gives an import its key: by its unique-id, or where it has none by its content.
func (in *incoming) setKey() {
	if LegalUniqueID(in.Import.UniqueID) {
		in.key = append([]byte{'u'}, in.Import.UniqueID...)
		return
	}
	in.key = append(append([]byte{'h'}, in.sum[:]...), in.Source...)
}

// look is a View that is tried again when its time was up; fn may run again.
func (s *Store) look(ctx context.Context, fn func(db.Tx) error) error {
	return db.Again(func() error { return s.cfg.DB.View(ctx, fn) })
}

// markKnown finds duplicates before their bodies are stored again. What it
// misses because of a second import at the same time, enter finds.
func (s *Store) markKnown(ctx context.Context, all []incoming) error {
	return s.look(ctx, func(tx db.Tx) error {
		numbers := make(map[string]int64) // by mailbox; 0 is none
		for i := range all {
			in := &all[i]
			in.duplicate = false
			number, asked := numbers[in.entry.Mailbox]
			if !asked {
				m, err := readMailbox(tx, in.entry.Account, in.entry.Mailbox)
				if err != nil && !errors.Is(err, db.ErrNotFound) {
					return err
				}
				number = m.Number
				numbers[in.entry.Mailbox] = number
			}
			if number == 0 {
				continue
			}
			var err error
			if in.duplicate, err = s.known(tx, in, number); err != nil {
				return err
			}
		}
		return nil
	})
}

// known reports whether the message was imported into the mailbox before. When
// only its unique-id is taken, by something else, in.key becomes one of content.
func (s *Store) known(tx db.Tx, in *incoming, number int64) (bool, error) {
	if in.key[0] == 'u' {
		sum, found, err := importedSum(tx, in, number)
		if err != nil || found && slices.Equal(sum, in.sum[:]) {
			return found, err
		}
		if !found {
			return in.taken, nil
		}
		in.key = append(append([]byte{'h'}, in.sum[:]...), in.Source...)
	}
	_, found, err := importedSum(tx, in, number)
	return found, err
}

// importedSum returns the hash remembered with the key of an import.
func importedSum(tx db.Tx, in *incoming, number int64) (sum []byte, found bool, err error) {
	err = tx.QueryRow(`SELECT sha256 FROM import_key WHERE account = ? AND number = ? AND key = ?`,
		int64(in.entry.Account), number, in.key).Scan(&sum)
	if errors.Is(err, db.ErrNotFound) {
		return nil, false, nil
	}
	return sum, err == nil, err
}

// commitBodies makes the octets of what is new durable.
func (s *Store) commitBodies(ctx context.Context, all []incoming) (release func(), err error) {
	var recs []body.Record
	var fresh []*incoming
	for i := range all {
		in := &all[i]
		if in.duplicate {
			continue
		}
		e := &in.entry
		owner := body.Owner{Account: int64(e.Account), Login: e.Login, Mailbox: e.Mailbox, UniqueID: in.uniqueID(), Flags: uint32(e.Flags)}
		recs = append(recs, body.Record{ID: e.Body, Staged: in.Staged, Meta: body.Meta{Received: e.Received, Owners: []body.Owner{owner}}})
		fresh = append(fresh, in)
	}
	if len(recs) == 0 {
		return func() {}, nil
	}
	locs, release, err := s.cfg.Body.Commit(ctx, recs)
	if err != nil {
		return nil, fmt.Errorf("store %d bodies: %w", len(recs), err)
	}
	for i, in := range fresh {
		in.loc = locs[i]
	}
	return release, nil
}

// uniqueID is the unique-id that the entry gets.
func (in *incoming) uniqueID() string {
	if in.key[0] == 'u' {
		return in.Import.UniqueID
	}
	return in.entry.Body.String()
}

// number returns a mailbox's number, creating the mailbox when it is missing.
func (s *Store) number(tx db.Tx, account envelope.AccountID, name string) (int64, error) {
	m, err := readMailbox(tx, account, name)
	if errors.Is(err, db.ErrNotFound) {
		if _, err = s.create(tx, account, name); err == nil {
			m, err = readMailbox(tx, account, name)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("open mailbox %q: %w", strings.ToValidUTF8(name, "?"), err)
	}
	return m.Number, nil
}
