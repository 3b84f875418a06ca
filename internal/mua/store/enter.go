package store

import (
	"fmt"
	"sync"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/mailbox"
)

// entering is letters that get their rows in one transaction. What their threads need to know
// is asked for all of them at once.
type entering struct {
	s       *Store
	tx      db.Tx
	known   map[int64]int64 // the threads of keys
	orphans map[int64]bool  // subjects of which there is a reply without references
}

// enter begins it; only these rows may be inserted.
func (s *Store) enter(tx db.Tx, rows []row) (*entering, error) {
	in := &entering{s: s, tx: tx, orphans: map[int64]bool{}}
	var keys, bases []int64
	for i := range rows {
		keys = append(keys, rows[i].keys...)
		if rows[i].base != 0 {
			bases = append(bases, rows[i].base)
		}
	}
	var err error
	if in.known, err = lookUp(tx, keyIn, keys); err != nil {
		return nil, fmt.Errorf("find the threads of %d letters: %w", len(rows), err)
	}
	found, err := lookUp(tx, orphanIn, bases)
	if err != nil {
		return nil, fmt.Errorf("find the replies to %d letters: %w", len(rows), err)
	}
	for base := range found {
		in.orphans[base] = true
	}
	return in, nil
}

// insert adds the row of an entry. Its thread is found, or begins with it.
func (in *entering) insert(r *row, e *mailbox.Entry) error {
	thread, err := in.join(r)
	if err != nil {
		return fmt.Errorf("find the thread of a letter: %w", err)
	}
	rank, err := in.s.ranks.free(in.tx, rankOf(r.date))
	if err != nil {
		return fmt.Errorf("find the place of a letter: %w", err)
	}
	_, err = in.tx.Exec(`INSERT INTO letter (id, account, number, uid, rank, date, received, flags, octets, whole, thread, attachments, indexed, turn, counted,
		removed, trashed, base, orphan, subject, sender, recipients, message_id, unique_id, origin, snippet) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, ?, ?, ?, ?, ?, ?, ?, '', '')`,
		r.id, int64(e.Account), e.Number, int64(e.UID), rank, db.Micros(r.date), db.Micros(r.received), int64(e.Flags), e.Octets, r.whole, thread,
		r.base, r.orphan, r.head.subject, packPeople(r.head.from), packPeople(r.head.to), r.head.messageID, e.UniqueID)
	if err != nil {
		return fmt.Errorf("insert letter: %w", err)
	}
	return nil
}

// rankOf is where a letter of that date stands, if nobody stands there.
func rankOf(date time.Time) int64 { return max(0, date.Unix()) }

// ranks remembers where letters of one second were put, so that the next is not compared with all of them.
type ranks struct {
	mu   sync.Mutex
	last map[int64]int64 // by second
	top  int64           // no letter stands behind it
	read bool            // top was read
}

// maxRanks bounds what is remembered.
const maxRanks = 4096

// free finds the first rank from want on that no letter has. Its answer holds within the transaction of tx.
func (r *ranks) free(tx db.Tx, want int64) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.read {
		if err := tx.QueryRow(`SELECT COALESCE(MAX(rank), -1) FROM letter`).Scan(&r.top); err != nil {
			return 0, err
		}
		r.read = true
	}
	at := want
	if last, ok := r.last[want]; ok {
		at = last
		if last == r.top {
			at++
		}
	}
	for span := int64(8); at <= r.top; span = min(2*span, 4096) {
		gap, err := firstGap(tx, at, span)
		if err != nil {
			return 0, err
		}
		if at = gap; gap >= 0 {
			break
		}
		at = -gap
	}
	r.top = max(r.top, at) // too high after a rollback, which costs a look and no more
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
