package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	s.adding.Add(1)
	defer func() {
		s.addedAt.Store(time.Now().UnixNano())
		s.adding.Add(-1)
	}()
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
			if err := s.file(ctx, account, im, r); err != nil {
				return nil, err
			}
		}
		s.prepare(r, im.Received)
	}
	out, err := s.mailboxes.AppendWithin(ctx, account, s.cfg.Login(account), imports, func(tx db.Tx, i int, a mailbox.Appended) error {
		if !a.Duplicate {
			if err := s.insertLetter(tx, &rows[i], &a.Entry); err != nil {
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

// rankOf is where a letter of that date stands, if nobody stands there.
func rankOf(date time.Time) int64 { return max(0, date.Unix()) }

// ranks remembers where letters of one second were put, so that the next is not compared with all of them.
type ranks struct {
	mu   sync.Mutex
	last map[int64]int64 // by second
}

// maxRanks bounds what is remembered.
const maxRanks = 4096

// free finds the first rank from want on that no letter has. Its answer holds within the transaction of tx.
func (r *ranks) free(tx db.Tx, want int64) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := want
	if last, ok := r.last[want]; ok {
		at = last
	}
	for span := int64(8); ; span = min(2*span, 4096) {
		gap, err := firstGap(tx, at, span)
		if err != nil {
			return 0, err
		}
		if at = gap; gap >= 0 {
			break
		}
		at = -gap
	}
	if at != want {
		if r.last == nil || len(r.last) >= maxRanks {
			r.last = make(map[int64]int64)
		}
		r.last[want] = at
	}
	return at, nil
}

// firstGap is the first of span ranks from at on that is free, or minus the rank behind them.
func firstGap(tx db.Tx, at, span int64) (int64, error) {
	rows, err := tx.Query(`SELECT rank FROM letter INDEXED BY letter_rank WHERE rank >= ? AND rank < ? ORDER BY rank`, at, at+span)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	end := at + span
	for ; rows.Next(); at++ {
		var taken int64
		if err := rows.Scan(&taken); err != nil {
			return 0, err
		}
		if taken != at {
			return at, nil
		}
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	if at < end {
		return at, nil
	}
	return -end, nil
}

// insertLetter adds the row of an entry. Its thread is found, or begins with it.
func (s *Store) insertLetter(tx db.Tx, r *row, e *mailbox.Entry) error {
	thread, err := joinThread(tx, r)
	if err != nil {
		return fmt.Errorf("find the thread of a letter: %w", err)
	}
	rank, err := s.ranks.free(tx, rankOf(r.date))
	if err != nil {
		return fmt.Errorf("find the place of a letter: %w", err)
	}
	_, err = tx.Exec(`INSERT INTO letter (id, account, number, uid, rank, date, received, flags, octets, whole, thread, attachments, indexed, turn, counted,
		removed, trashed, base, orphan, subject, sender, recipients, message_id, unique_id, origin, snippet) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, ?, ?, ?, ?, ?, ?, ?, '', '')`,
		r.id, int64(e.Account), e.Number, int64(e.UID), rank, db.Micros(r.date), db.Micros(r.received), int64(e.Flags), e.Octets, r.whole, thread,
		r.base, r.orphan, r.head.subject, packPeople(r.head.from), packPeople(r.head.to), r.head.messageID, e.UniqueID)
	if err != nil {
		return fmt.Errorf("insert letter: %w", err)
	}
	return nil
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
				if err := forgetText(tx, []LetterID{id}); err != nil {
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
