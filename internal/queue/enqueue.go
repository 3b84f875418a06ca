package queue

import (
	"fmt"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
)

// fold is how paths are compared: by address.Key where they are addresses.
func fold(path string) string {
	if a, err := address.Parse(path); err == nil {
		return a.Key()
	}
	return strings.ToLower(path)
}

// Enqueue adds m in the transaction that accepts it; the recipients are Waiting
// and due at once. The body's row must count one reference for the message.
// Recipients are numbered from 0 without gaps; Destination may be empty, then it
// is the domain of ForwardPath.
func (q *Queue) Enqueue(tx db.Tx, m *Message) error {
	if len(m.Recipients) == 0 {
		return fmt.Errorf("enqueue message %s: it has no recipient", m.ID)
	}
	queued := db.Micros(m.Queued)
	_, err := tx.Exec(`INSERT INTO queued_message (id, queued, reverse_path, reverse_key, body_type, smtputf8, ret, envid, octets, account, login, priority, recipients) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)`,
		m.ID[:], queued, db.Text(m.ReversePath), db.Text(fold(m.ReversePath)), int64(m.Body), m.SMTPUTF8, int64(m.Return), db.Text(m.EnvelopeID),
		m.Octets, int64(m.Account), db.Text(m.Login), int64(len(m.Recipients)))
	if err != nil {
		return fmt.Errorf("enqueue message %s: %w", m.ID, err)
	}
	var names []string
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if r.Destination == "" {
			r.Destination = strings.ToLower(r.ForwardPath[strings.LastIndexByte(r.ForwardPath, '@')+1:])
		}
		_, err := tx.Exec(`INSERT INTO queued_recipient (id, n, fate, forward_path, forward_key, destination, notify, orcpt_type, orcpt, state, attempts, next_attempt, priority, last_status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0, '')`,
			m.ID[:], int64(r.N), int64(r.Fate), db.Text(r.ForwardPath), db.Text(fold(r.ForwardPath)), db.Text(r.Destination), int64(r.Notify),
			db.Text(r.Original.Type), db.Text(r.Original.Address), int64(Waiting), queued)
		if err != nil {
			return fmt.Errorf("enqueue recipient %d of message %s: %w", r.N, m.ID, err)
		}
		names = append(names, db.Text(r.Destination))
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		_, err := tx.Exec(`INSERT INTO destination (name, next_due, concurrency, rate, suspended, tls, node, incarnation) VALUES (?, ?, 0, 0, 0, '', 0, 0) ON CONFLICT (name) DO NOTHING`, name, queued)
		if err != nil {
			return fmt.Errorf("enqueue for destination %s: %w", name, err)
		}
	}
	return nil
}

// Enqueued tells the metrics of recipients whose transaction has committed.
func (q *Queue) Enqueued(recipients int) {
	if q.cfg.Hooks.Enqueued != nil {
		q.cfg.Hooks.Enqueued(recipients)
	}
}
