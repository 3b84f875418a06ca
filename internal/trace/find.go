package trace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// tailRows is how many rows that are not indexed yet one view looks through.
const tailRows = 20_000

// Find returns the messages that match, newest first, as the viewer may see
// them. No match is an empty list; by ID it is ErrNotFound.
func (t *Trace) Find(ctx context.Context, v Viewer, q Query) ([]Record, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	q.Limit = min(q.Limit, MaxFindResults)
	if !q.ID.IsZero() {
		r, err := t.load(ctx, q.ID)
		if err != nil {
			return nil, err
		}
		if r, ok := v.restrict(r); ok {
			return []Record{r}, nil
		}
		return nil, fmt.Errorf("trace message %s: %w", q.ID, ErrNotFound)
	}
	hash := messageIDHash(q.MessageID)
	if q.Address != "" {
		if a, err := address.Parse(q.Address); err == nil {
			q.Address = a.String()
		}
		hash = addressHash(q.Address)
	}
	if hash == 0 {
		return nil, errors.New("trace: give an address, a Message-ID or a queue-id")
	}
	s := search{t: t, v: v, q: q, hash: hash}
	if err := s.tail(ctx); err != nil {
		return nil, fmt.Errorf("search trace: %w", err)
	}
	if err := s.index(ctx); err != nil {
		return nil, fmt.Errorf("search trace: %w", err)
	}
	slices.SortFunc(s.found, func(a, b Record) int { return bytes.Compare(b.ID[:], a.ID[:]) })
	return s.found, nil
}

// search is one Find by a hash.
type search struct {
	t     *Trace
	v     Viewer
	q     Query
	hash  int64
	seen  map[message.ID]bool
	found []Record
}

// full reports whether the limit is reached.
func (s *search) full() bool { return len(s.found) >= s.q.Limit }

// add loads candidates and keeps what the viewer may see and the query means.
func (s *search) add(ctx context.Context, ids []message.ID) error {
	if s.seen == nil {
		s.seen = make(map[message.ID]bool)
	}
	for _, id := range ids {
		if s.seen[id] || s.full() {
			continue
		}
		s.seen[id] = true
		r, err := s.t.load(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue // dropped since
		}
		if err != nil {
			return err
		}
		if r, ok := s.v.restrict(r); ok && s.q.matches(&r) {
			s.found = append(s.found, r)
		}
	}
	return nil
}

// matches looks at what the viewer sees, so that nobody learns of a hidden
// address by asking for it.
func (q *Query) matches(r *Record) bool {
	if q.Address == "" {
		return trimMessageID(q.MessageID) == trimMessageID(r.MessageID)
	}
	key := addressKey(q.Address)
	return r.ReversePath != "" && addressKey(r.ReversePath) == key || slices.ContainsFunc(r.Fates, func(f Fate) bool {
		return addressKey(f.Recipient) == key || f.Target != "" && addressKey(f.Target) == key
	})
}

// tail looks through the rows that are not indexed yet, newest first.
func (s *search) tail(ctx context.Context) error {
	upper := bytes.Repeat([]byte{0xff}, len(message.ID{}))
	for !s.full() {
		var ids []message.ID
		var lower []byte
		done := false
		err := s.t.cfg.DB.View(ctx, func(tx db.Tx) error {
			mark, err := readPlace(tx, "indexed")
			if err != nil {
				return err
			}
			lower, done = mark.id[:], true
			var id []byte
			err = tx.QueryRow(`SELECT id FROM trace WHERE id < ? AND id >= ? ORDER BY id DESC, n DESC LIMIT 1 OFFSET ?`, upper, lower, int64(tailRows)).Scan(&id)
			if err == nil {
				lower, done = id, false
			} else if !errors.Is(err, db.ErrNotFound) {
				return err
			}
			ids, err = readIDs(tx, `SELECT DISTINCT id FROM trace WHERE id < ? AND id >= ? AND (rkey = ? OR tkey = ? OR skey = ? OR mkey = ?) ORDER BY id DESC LIMIT ?`,
				upper, lower, s.hash, s.hash, s.hash, s.hash, int64(2*MaxFindResults))
			return err
		})
		if err != nil {
			return err
		}
		if err := s.add(ctx, ids); err != nil {
			return err
		}
		if done || bytes.Equal(upper, lower) {
			return nil
		}
		upper = lower
	}
	return nil
}

// index looks through the index, day by day, newest first.
func (s *search) index(ctx context.Context) error {
	today := s.t.cfg.Now().Unix()/86400 + 1
	oldest := s.t.cfg.Now().Add(-s.t.cfg.KeepFates).Unix() / 86400
	for day := today; day >= oldest && !s.full(); day-- {
		var ids []message.ID
		err := s.t.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
			ids, err = readIDs(tx, `SELECT id FROM trace_key WHERE day = ? AND hash = ? ORDER BY id DESC LIMIT ?`, day, s.hash, int64(2*MaxFindResults))
			return err
		})
		if err != nil {
			return err
		}
		if err := s.add(ctx, ids); err != nil {
			return err
		}
	}
	return nil
}

func readIDs(tx db.Tx, query string, args ...any) ([]message.ID, error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []message.ID
	for rows.Next() {
		var id []byte
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		if len(id) != len(message.ID{}) {
			return nil, fmt.Errorf("id of %d octets in the database, want 16", len(id))
		}
		ids = append(ids, message.ID(id))
	}
	return ids, rows.Err()
}

// load reads one message with its fates, or ErrNotFound.
func (t *Trace) load(ctx context.Context, id message.ID) (Record, error) {
	var r Record
	err := t.cfg.DB.View(ctx, func(tx db.Tx) error {
		r = Record{ID: id}
		rows, err := tx.Query(`SELECT n, recipient, target, account, state, changed, detail, accepted, reverse_path, message_id, peer, conn_id, sender, login, octets, sha256 FROM trace WHERE id = ? ORDER BY n`, id[:])
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := r.scanRow(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return Record{}, fmt.Errorf("trace message %s: %w", id, err)
	}
	if len(r.Fates) == 0 {
		return Record{}, fmt.Errorf("trace message %s: %w", id, ErrNotFound)
	}
	return r, nil
}

// scanRow adds a row to r.
func (r *Record) scanRow(rows db.Rows) error {
	var f Fate
	var m Record
	var n, account, sender, state, changed, accepted int64
	var peer string
	var sum []byte
	err := rows.Scan(&n, &f.Recipient, &f.Target, &account, &state, &changed, &f.Detail, &accepted, &m.ReversePath, &m.MessageID, &peer, &m.ConnID, &sender, &m.Login, &m.Octets, &sum)
	if err != nil {
		return err
	}
	f.N, f.Account, f.State, f.Changed = int(n), envelope.AccountID(account), State(state), db.FromMicros(changed)
	if n == 0 {
		m.ID, m.Fates, m.Account, m.Accepted = r.ID, r.Fates, envelope.AccountID(sender), db.FromMicros(accepted)
		m.Peer, _ = netip.ParseAddr(peer)
		copy(m.SHA256[:], sum)
		*r = m
	}
	r.Fates = append(r.Fates, f)
	return nil
}

// Events returns a message's events in order of time. A Viewer that is no
// operator gets ErrNotFound: events name hosts and addresses of others.
func (t *Trace) Events(ctx context.Context, v Viewer, id message.ID) ([]Event, error) {
	if !v.Operator {
		return nil, fmt.Errorf("events of message %s: %w", id, ErrNotFound)
	}
	var all []Event
	err := t.cfg.DB.View(ctx, func(tx db.Tx) error {
		all = all[:0]
		rows, err := tx.Query(`SELECT happened, n, kind, detail FROM trace_event WHERE id = ? ORDER BY happened, n, kind`, id[:])
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e Event
			var at, n int64
			if err := rows.Scan(&at, &n, &e.Kind, &e.Detail); err != nil {
				return err
			}
			e.At, e.N = db.FromMicros(at), int(n)
			all = append(all, e)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("events of message %s: %w", id, err)
	}
	return all, nil
}

// restrict returns what the viewer may see of r; false is nothing.
func (v Viewer) restrict(r Record) (Record, bool) {
	if v.Operator {
		return r, true
	}
	if v.Account == 0 {
		return Record{}, false
	}
	sender := r.Account == v.Account
	var own []Fate
	for _, f := range r.Fates {
		if f.Account == v.Account {
			own = append(own, f)
		}
	}
	if sender {
		r.Fates = mergeOwn(senderFates(r.Fates), own)
		return r, true
	}
	// A recipient: its own fate, and of the rest what its copy tells.
	r.Fates, r.Peer, r.ConnID, r.Login, r.Account = own, netip.Addr{}, "", "", 0
	return r, len(own) > 0
}

// senderFates is one fate for each recipient as the sender wrote it: what lies
// behind an alias, and mailboxes' names, stay hidden.
func senderFates(fates []Fate) []Fate {
	var out []Fate
	at := make(map[string]int)
	for _, f := range fates {
		if f.Target != "" || f.Account != 0 {
			f.Detail = ""
		}
		f.Target, f.Account = "", 0
		i, ok := at[f.Recipient]
		if !ok {
			at[f.Recipient] = len(out)
			out = append(out, f)
			continue
		}
		if weight(f.State) > weight(out[i].State) {
			out[i].State = f.State
		}
		if f.Changed.After(out[i].Changed) {
			out[i].Changed = f.Changed
		}
		out[i].Detail = ""
	}
	return out
}

// weight orders states by what a sender must know first.
func weight(s State) int {
	switch s {
	case Bounced:
		return 4
	case Held:
		return 3
	case Queued:
		return 2
	case Removed, Discarded:
		return 1
	}
	return 0
}

// mergeOwn puts the viewer's own fates in place of what a sender sees of them.
func mergeOwn(fates, own []Fate) []Fate {
	for _, f := range own {
		i := slices.IndexFunc(fates, func(g Fate) bool { return g.Recipient == f.Recipient })
		if i >= 0 && fates[i].N == f.N {
			fates[i] = f
		}
	}
	return fates
}
