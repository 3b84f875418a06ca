package trace

import (
	"context"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// How the index follows: rows are indexed once their id is indexLag old; a row
// that comes in with an id older than lateAfter (its upload was slow) brings its keys itself.
// Between the two lies the longest time that an Accept may take.
const (
	lateAfter = 5 * time.Minute
	indexLag  = 10 * time.Minute
)

// Record writes a message's facts and fates in the transaction that accepts it:
// one row for each fate. r must have a fate, numbered from 0.
func (t *Trace) Record(tx db.Tx, r *Record) error {
	if len(r.Fates) == 0 {
		return fmt.Errorf("trace message %s: it has no fate", r.ID)
	}
	if err := t.insertFirst(tx, r); err != nil {
		return fmt.Errorf("trace message %s: %w", r.ID, err)
	}
	for i := 1; i < len(r.Fates); i++ {
		f := &r.Fates[i]
		_, err := tx.Exec(`INSERT INTO trace (id, n, recipient, target, account, state, changed, detail, rkey, tkey) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			r.ID[:], int64(f.N), db.Text(f.Recipient), db.Text(f.Target), int64(f.Account), int64(f.State), db.Micros(f.Changed), clip(f.Detail),
			addressHash(f.Recipient), addressHash(f.Target))
		if err != nil {
			return fmt.Errorf("trace message %s: %w", r.ID, err)
		}
	}
	if t.cfg.Now().Sub(r.ID.Time()) > lateAfter {
		return t.recordLate(tx, r)
	}
	return nil
}

// Alone writes, in a transaction of its own, the trace of a message that is stored nowhere, with
// what happened to it.
func (t *Trace) Alone(ctx context.Context, r *Record, events ...Event) error {
	return t.cfg.DB.Update(ctx, func(tx db.Tx) error {
		if err := t.Record(tx, r); err != nil {
			return err
		}
		for _, e := range events {
			if err := t.Note(tx, r.ID, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// insertFirst writes the row of fate 0 with the message's facts.
func (t *Trace) insertFirst(tx db.Tx, r *Record) error {
	f := &r.Fates[0]
	peer := ""
	if r.Peer.IsValid() {
		peer = r.Peer.String()
	}
	_, err := tx.Exec(`INSERT INTO trace (id, n, recipient, target, account, state, changed, detail, rkey, tkey, skey, mkey, accepted, reverse_path, message_id, peer, conn_id, sender, login, octets, sha256) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.ID[:], int64(f.N), db.Text(f.Recipient), db.Text(f.Target), int64(f.Account), int64(f.State), db.Micros(f.Changed), clip(f.Detail),
		addressHash(f.Recipient), addressHash(f.Target), addressHash(r.ReversePath), messageIDHash(r.MessageID),
		db.Micros(r.Accepted), db.Text(r.ReversePath), clip(r.MessageID), peer, db.Text(r.ConnID), int64(r.Account), db.Text(r.Login), r.Octets, r.SHA256[:])
	return err
}

// recordLate indexes a message that Run may have passed already.
func (t *Trace) recordLate(tx db.Tx, r *Record) error {
	hashes := []int64{addressHash(r.ReversePath), messageIDHash(r.MessageID)}
	for i := range r.Fates {
		hashes = append(hashes, addressHash(r.Fates[i].Recipient), addressHash(r.Fates[i].Target))
	}
	for _, h := range hashes {
		if err := insertKey(tx, indexKey{dayOf(r.ID), h, r.ID}); err != nil {
			return fmt.Errorf("index message %s: %w", r.ID, err)
		}
	}
	return nil
}

// Settle changes fate n of a message in the transaction that settles it.
// ErrNotFound when the trace does not have it (any more).
func (t *Trace) Settle(tx db.Tx, id message.ID, n int, state State, detail string, at time.Time) error {
	changed, err := tx.Exec(`UPDATE trace SET state = ?, changed = ?, detail = ? WHERE id = ? AND n = ?`,
		int64(state), db.Micros(at), clip(detail), id[:], int64(n))
	if err == nil && changed == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("settle fate %d of message %s: %w", n, id, err)
	}
	return nil
}

// Note adds an event. The same kind at the same microsecond replaces the detail.
func (t *Trace) Note(tx db.Tx, id message.ID, e Event) error {
	_, err := tx.Exec(`INSERT INTO trace_event (id, happened, n, kind, detail) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id, happened, n, kind) DO UPDATE SET detail = excluded.detail`,
		id[:], db.Micros(e.At), int64(e.N), db.Text(e.Kind), clip(e.Detail))
	if err != nil {
		return fmt.Errorf("note event of message %s: %w", id, err)
	}
	return nil
}

// clip makes s fit for a column: valid, and at most MaxDetailOctets.
func clip(s string) string {
	if len(s) <= MaxDetailOctets {
		return db.Text(s)
	}
	return db.Text(strings.ToValidUTF8(s[:MaxDetailOctets], ""))
}
