package mailbox

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// enter stores what is new of a batch of one account: each mailbox's row is read once and written
// once, whatever the number of its messages.
func (s *Store) enter(tx db.Tx, all []incoming) error {
	numbers := make(map[string]int64)
	var dead []message.ID
	grants := make(map[string]*grant)
	for i := range all {
		in := &all[i]
		in.late = false
		if in.duplicate {
			continue
		}
		e := &in.entry
		number, there := numbers[e.Mailbox]
		if !there {
			var err error
			if number, err = s.number(tx, e.Account, e.Mailbox); err != nil {
				return err
			}
			numbers[e.Mailbox] = number
			grants[e.Mailbox] = &grant{}
		}
		fresh, err := s.claim(tx, in, number)
		if err != nil {
			return err
		}
		if in.late = !fresh; in.late {
			if in.landed { // else its body has no row and is collected
				dead = append(dead, e.Body)
			}
			continue
		}
		g := grants[e.Mailbox]
		g.messages++
		g.octets += e.Octets
	}
	for _, name := range slices.Sorted(maps.Keys(grants)) {
		if err := allocateMany(tx, all[0].entry.Account, name, grants[name]); err != nil {
			return err
		}
	}
	for i := range all {
		if in := &all[i]; !in.duplicate && !in.late {
			if err := s.enterOne(tx, in, grants[in.entry.Mailbox]); err != nil {
				return err
			}
		}
	}
	return releaseBodies(tx, dead)
}

// grant is uids and modseqs for several messages of a mailbox, in a row.
type grant struct {
	messages, octets int64
	number           int64
	uid, modseq      int64 // the next of them
}

// allocateMany takes what the grant is for from the mailbox's row.
func allocateMany(tx db.Tx, account envelope.AccountID, name string, g *grant) error {
	if g.messages == 0 {
		return nil
	}
	var next, modseq int64
	err := tx.QueryRow(`UPDATE mailbox SET uidnext = uidnext + ?, modseq = modseq + ?, messages = messages + ?, octets = octets + ? WHERE account = ? AND name = ? RETURNING number, uidnext, modseq`,
		g.messages, g.messages, g.messages, g.octets, int64(account), name).Scan(&g.number, &next, &modseq)
	if err == nil && next > math.MaxUint32 {
		err = errUIDs
	}
	if err != nil {
		return fmt.Errorf("allocate %d uids in mailbox %q of account %d: %w", g.messages, name, account, err)
	}
	g.uid, g.modseq = next-g.messages, modseq-g.messages+1
	return nil
}

// errUIDs says that a mailbox has no uid left.
var errUIDs = errors.New("all uids are used up; export the mailbox and import it into a new one")

// claim remembers an import and reports whether it was not known before.
func (s *Store) claim(tx db.Tx, in *incoming, number int64) (fresh bool, err error) {
	if in.taken {
		if known, err := s.known(tx, in, number); known || err != nil {
			return false, err
		}
	}
	if fresh, err = rememberKey(tx, in, number); fresh || err != nil || in.key[0] != 'u' {
		return fresh, err
	}
	if known, err := s.known(tx, in, number); known || err != nil {
		return false, err
	}
	return rememberKey(tx, in, number) // by its content: another message has the unique-id
}

// rememberKey remembers an import by its key and reports whether it was not known before.
func rememberKey(tx db.Tx, in *incoming, number int64) (fresh bool, err error) {
	n, err := tx.Exec(`INSERT INTO import_key (account, number, key, sha256) VALUES (?, ?, ?, ?) ON CONFLICT (account, number, key) DO NOTHING`,
		int64(in.entry.Account), number, in.key, in.sum[:])
	if err != nil {
		return false, fmt.Errorf("remember import: %w", err)
	}
	return n > 0, nil
}

// enterOne stores one message with what the grant gives it.
func (s *Store) enterOne(tx db.Tx, in *incoming, g *grant) error {
	e := &in.entry
	if !in.landed {
		if err := body.Insert(tx, e.Body, in.loc, 1); err != nil {
			return fmt.Errorf("insert body %s: %w", e.Body, err)
		}
	}
	e.UniqueID = in.uniqueID()
	e.Number, e.UID, e.ModSeq = g.number, UID(g.uid), g.modseq
	g.uid++
	g.modseq++
	return insertEntry(tx, e, storeUniqueID(e.UniqueID, e.Body))
}
