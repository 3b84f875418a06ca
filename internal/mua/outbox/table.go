package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/store"
)

// States of entries and recipients as they are stored.
const (
	active  = 1
	settled = 2
	asks    = 3
	undone  = 4
	held    = 5
	// 6: refused, and put away by the person

	isWaiting = 1
	isLeaving = 2
	isSent    = 3
	isRefused = 4
	isPerhaps = 5
)

// row is an entry.
type row struct {
	id                                       ID
	account                                  envelope.AccountID
	letter, draft                            store.LetterID
	state                                    int64
	reverse, envelopeID                      string
	giveBack                                 envelope.Return
	notify                                   envelope.Notify
	octets                                   int64
	eightBit, utf8, unchecked                bool
	created, sendAt, next, failures, settled int64
	filed                                    bool
	messageID, answers, subject, reason      string
	recipients                               []copyRow
	stored                                   []copyRow // recipients as they were read, or last written
}

// copyRow is one recipient.
type copyRow struct {
	place         int64
	path          string
	state         int64
	again         bool // it left before, and the server recognises it
	left, keep    int64
	server        string
	code          int64
	status, reply string
	at            int64
}

type table struct{ db db.Database }

const columns = `id, account, letter, draft, state, reverse_path, envelope_id, give_back, notify, octets, eight_bit, utf8, unchecked,
	created, send_at, next, failures, settled, filed, message_id, answers, subject, reason`

func scan(s db.Row) (r row, err error) {
	var give, notify int64
	err = s.Scan(&r.id, &r.account, &r.letter, &r.draft, &r.state, &r.reverse, &r.envelopeID, &give, &notify, &r.octets, &r.eightBit, &r.utf8, &r.unchecked,
		&r.created, &r.sendAt, &r.next, &r.failures, &r.settled, &r.filed, &r.messageID, &r.answers, &r.subject, &r.reason)
	r.giveBack, r.notify = envelope.Return(give), envelope.Notify(notify)
	return r, err
}

// insert writes an entry with its recipients and returns its id.
func insert(tx db.Tx, r *row) (ID, error) {
	var id ID
	err := tx.QueryRow(`INSERT INTO outgoing (account, letter, draft, state, reverse_path, envelope_id, give_back, notify, octets, eight_bit, utf8, unchecked,
		created, send_at, next, failures, settled, filed, message_id, answers, subject, reason)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, ?, ?, ?, '') RETURNING id`,
		int64(r.account), int64(r.letter), int64(r.draft), int64(active), r.reverse, r.envelopeID, int64(r.giveBack), int64(r.notify), r.octets, r.eightBit, r.utf8, r.unchecked,
		r.created, r.sendAt, r.next, r.messageID, r.answers, r.subject).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("write outbox: %w", err)
	}
	for i, c := range r.recipients {
		if _, err := tx.Exec(`INSERT INTO outgoing_recipient (outgoing, place, path, state, again, left_at, keep, server, code, status, reply, at)
			VALUES (?, ?, ?, ?, 0, 0, 0, '', 0, '', '', 0)`, int64(id), i, c.path, int64(isWaiting)); err != nil {
			return 0, fmt.Errorf("write outbox: %w", err)
		}
	}
	return id, nil
}

// read returns an entry with its recipients. ErrNotFound.
func (t table) read(ctx context.Context, id ID) (r row, err error) {
	err = t.db.View(ctx, func(tx db.Tx) error {
		r, err = readRow(tx, id)
		return err
	})
	return r, err
}

func readRow(tx db.Tx, id ID) (row, error) {
	r, err := scan(tx.QueryRow(`SELECT `+columns+` FROM outgoing WHERE id = ?`, int64(id)))
	if errors.Is(err, db.ErrNotFound) {
		return r, ErrNotFound
	}
	if err == nil {
		r.recipients, err = readCopies(tx, id)
		r.stored = slices.Clone(r.recipients)
	}
	if err != nil {
		return r, fmt.Errorf("read outbox: %w", err)
	}
	return r, nil
}

func readCopies(tx db.Tx, id ID) ([]copyRow, error) {
	rows, err := tx.Query(`SELECT place, path, state, again, left_at, keep, server, code, status, reply, at FROM outgoing_recipient WHERE outgoing = ? ORDER BY place`, int64(id))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []copyRow
	for rows.Next() {
		var c copyRow
		if err := rows.Scan(&c.place, &c.path, &c.state, &c.again, &c.left, &c.keep, &c.server, &c.code, &c.status, &c.reply, &c.at); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

// maxItems bounds what one look at the outbox reads.
const maxItems = 1000

// rows reads entries by a condition, oldest first, at most maxItems of them.
func (t table) rows(ctx context.Context, where string, args ...any) ([]row, error) {
	var ids []ID
	err := t.db.View(ctx, func(tx db.Tx) error {
		ids = ids[:0]
		rows, err := tx.Query(`SELECT id FROM outgoing WHERE `+where+` LIMIT ?`, append(args, maxItems)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id ID
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	all := make([]row, 0, len(ids))
	for _, id := range ids {
		r, err := t.read(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// merge is the recipients of an entry as they are stored, with what changed in r since it was read: a
// person may have stopped, decided or tried again meanwhile what was not on its way.
func merge(tx db.Tx, r *row) ([]copyRow, error) {
	all, err := readCopies(tx, r.id)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	for i := range all {
		mine, was := r.recipients[i], r.stored[i]
		if mine != was && (was.state == isLeaving || all[i].state == isWaiting) {
			all[i] = mine
		}
	}
	return all, nil
}

// took notes what was written of the recipients.
func (r *row) took(all []copyRow) { r.recipients, r.stored = all, slices.Clone(all) }

// putCopies writes the recipients of an entry.
func putCopies(tx db.Tx, id ID, copies []copyRow) error {
	for _, c := range copies {
		if _, err := tx.Exec(`UPDATE outgoing_recipient SET state = ?, again = ?, left_at = ?, keep = ?, server = ?, code = ?, status = ?, reply = ?, at = ? WHERE outgoing = ? AND place = ?`,
			c.state, c.again, c.left, c.keep, c.server, c.code, c.status, c.reply, c.at, int64(id), c.place); err != nil {
			return fmt.Errorf("write outbox: %w", err)
		}
	}
	return nil
}

// standing is the state of an entry by its recipients.
func standing(copies []copyRow) int64 {
	state := int64(settled)
	for _, c := range copies {
		switch {
		case c.state == isWaiting || c.state == isLeaving:
			return active
		case c.state == isPerhaps:
			state = asks
		}
	}
	return state
}

// item is a row as people see it.
func (o *Outbox) item(r *row) Item {
	it := Item{ID: r.id, Account: r.account, Letter: r.letter, MessageID: r.messageID, Subject: r.subject, Octets: r.octets,
		Created: db.FromMicros(r.created), SendAt: db.FromMicros(r.sendAt), Settled: db.FromMicros(r.settled), Reason: r.reason, Failures: int(r.failures)}
	o.mu.Lock()
	sending := o.sending[r.id]
	o.mu.Unlock()
	count := map[State]int{}
	for _, c := range r.recipients {
		p := Recipient{Address: shown(c.path), Code: int(c.code), Status: c.status, Reply: c.reply, At: db.FromMicros(c.at)}
		switch c.state {
		case isWaiting, isLeaving:
			if p.State = Waiting; sending {
				p.State = Sending
			} else if c.state == isLeaving {
				p.State = Perhaps
			}
		case isSent:
			p.State = Sent
		case isRefused:
			p.State = Refused
		default:
			p.State = Perhaps
		}
		count[p.State]++
		it.Recipients = append(it.Recipients, p)
	}
	switch {
	case r.state == undone:
		it.State = Undone
	case r.state == held:
		it.State = Held
	case count[Sending] > 0:
		it.State = Sending
	case count[Perhaps] > 0:
		it.State = Perhaps
	case count[Waiting] > 0:
		it.State = Waiting
		it.Next = db.FromMicros(max(r.next, r.sendAt))
	case count[Refused] == 0:
		it.State = Sent
	case count[Sent] == 0:
		it.State = Refused
	default:
		it.State = Partly
	}
	return it
}

// shown is an address for people.
func shown(path string) string {
	if a, err := address.Parse(path); err == nil {
		return a.Unicode()
	}
	return path
}

func (o *Outbox) micros() int64 { return db.Micros(o.c.Now()) }

// later is a moment as stored.
func later(now int64, d time.Duration) int64 { return now + d.Microseconds() }
