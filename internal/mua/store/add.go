package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
)

// Within is what else is written in the transaction that adds letter i of a batch; for one that
// was there already, a says so. It may run more than once, does SQL only, and its error ends the whole.
type Within func(tx db.Tx, i int, a mailbox.Appended) error

// Partial is a letter of which only the beginning is here, as TOP gives it.
type Partial struct {
	mailbox.Import
	Whole int64 // octets of the whole letter, as LIST said
}

// row is a letter on its way into the table.
type row struct {
	id       int64
	head     header
	received time.Time
	date     time.Time
	whole    int64
	base     int64
	orphan   bool
	keys     []int64 // of its Message-IDs, its own first
}

// Add stores at most mailbox.MaxAppend letters durably. With an import's Mailbox empty the
// letter has just arrived: the rules file it, or it goes to INBOX; else it goes where it
// says, and no rule is asked. What was added before is a duplicate, as mailbox.Append says. They are listed when Add
// returns; their text follows (Run). Add sets UTF8 itself and does not discard what is staged.
func (s *Store) Add(ctx context.Context, account envelope.AccountID, batch []mailbox.Import, within Within) ([]mailbox.Appended, error) {
	return s.add(ctx, account, batch, nil, within)
}

// AddPartial is Add for letters of which only the beginning is here: see Complete.
func (s *Store) AddPartial(ctx context.Context, account envelope.AccountID, batch []Partial, within Within) ([]mailbox.Appended, error) {
	imports, whole := make([]mailbox.Import, len(batch)), make([]int64, len(batch))
	for i, p := range batch {
		imports[i], whole[i] = p.Import, max(1, p.Whole)
	}
	return s.add(ctx, account, imports, whole, within)
}

func (s *Store) add(ctx context.Context, account envelope.AccountID, batch []mailbox.Import, whole []int64, within Within) ([]mailbox.Appended, error) {
	defer s.busy()()
	imports, rows := make([]mailbox.Import, len(batch)), make([]row, len(batch))
	for i := range batch {
		imports[i] = batch[i]
		im, r := &imports[i], &rows[i]
		var err error
		if r.head, err = readHeader(im.Staged, im.Staged.Octets()); err != nil {
			return nil, fmt.Errorf("read header section of letter %d: %w", i+1, err)
		}
		if im.Received.IsZero() {
			im.Received = s.cfg.Now()
		}
		im.UTF8 = r.head.utf8
		if whole != nil {
			r.whole = whole[i]
		}
		if im.Mailbox == "" {
			if err := s.sort(ctx, account, im, r, im.Staged, im.Staged.Octets()); err != nil {
				return nil, err
			}
		}
		s.prepare(r, im.Received)
	}
	var in *entering
	out, err := s.mailboxes.AppendWithin(ctx, account, s.cfg.Login(account), imports, func(tx db.Tx, i int, a mailbox.Appended) (err error) {
		if i == 0 {
			if in, err = s.enter(tx, rows); err != nil {
				return err
			}
		}
		if !a.Duplicate {
			if err := in.insert(&rows[i], &a.Entry); err != nil {
				return err
			}
		}
		if within != nil {
			return within(tx, i, a)
		}
		return nil
	})
	if err == nil {
		s.wakeIndex()
	}
	return out, err
}

// prepare fills what follows from the header section, and gives the letter its id.
func (s *Store) prepare(r *row, received time.Time) {
	r.id = s.lastID.Add(1)
	r.received = received
	r.date = dateOf(&r.head, received)
	base, reply := baseSubject(r.head.subject)
	r.base = subjectKey(base)
	r.orphan = reply && r.base != 0 && len(r.head.references) == 0
	r.keys = threadKeys(&r.head)
}

// readLastID reads the highest id that was ever given.
func (s *Store) readLastID(ctx context.Context) error {
	var last int64
	err := s.view(ctx, func(tx db.Tx) error {
		err := tx.QueryRow(`SELECT seq FROM sqlite_sequence WHERE name = 'letter'`).Scan(&last)
		if errors.Is(err, db.ErrNotFound) {
			err = nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read the last letter's number: %w", err)
	}
	s.lastID.Store(last)
	return nil
}

// LetterOf finds, within tx, the letter of an entry, as in a Within. ErrNotFound.
func (s *Store) LetterOf(tx db.Tx, account envelope.AccountID, number int64, uid mailbox.UID) (LetterID, error) {
	var id int64
	err := tx.QueryRow(`SELECT id FROM letter WHERE account = ? AND number = ? AND uid = ?`, int64(account), number, int64(uid)).Scan(&id)
	return LetterID(id), notFound(err)
}

// Complete puts the whole letter in the place of a partial one: id, flags, folder and unique-id
// stay. within, which may be nil, is run in the same transaction. Completing a letter that is
// whole replaces it. ErrNotFound when it is in no folder (any more).
func (s *Store) Complete(ctx context.Context, id LetterID, staged body.Staged, within func(tx db.Tx) error) error {
	h, err := readHeader(staged, staged.Octets())
	if err != nil {
		return fmt.Errorf("read header section of letter %d: %w", id, err)
	}
	for range moveTries {
		at, err := s.place(ctx, id)
		if err == nil && at.removed {
			err = ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("complete letter %d: %w", id, err)
		}
		_, err = s.mailboxes.Replace(ctx, mailbox.Replacement{Account: at.account, Login: s.cfg.Login(at.account), Mailbox: at.folder, UID: at.uid, UTF8: h.utf8, Staged: staged,
			Within: func(tx db.Tx, is mailbox.Entry) error {
				if err := forgetText(tx, located{id, at}); err != nil {
					return err
				}
				_, err := tx.Exec(`UPDATE letter SET octets = ?, whole = 0, indexed = 0, turn = turn + 1 WHERE id = ?`, is.Octets, int64(id))
				if err == nil && within != nil {
					err = within(tx)
				}
				return err
			}})
		if errors.Is(err, mailbox.ErrNotFound) {
			continue // it was moved meanwhile
		}
		if err != nil {
			return fmt.Errorf("complete letter %d: %w", id, err)
		}
		s.wakeIndex()
		return nil
	}
	return fmt.Errorf("complete letter %d: %w", id, ErrNotFound)
}

// moveTries is how often a letter is looked for that moves about.
const moveTries = 5

// notFound turns what the engines say into ErrNotFound.
func notFound(err error) error {
	if errors.Is(err, db.ErrNotFound) || errors.Is(err, mailbox.ErrNotFound) {
		return ErrNotFound
	}
	return err
}
