package queue

import (
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
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
// is the domain of ForwardPath. Once the transaction has committed, the caller calls Enqueued.
func (q *Queue) Enqueue(tx db.Tx, m *Message) error {
	if len(m.Recipients) == 0 {
		return fmt.Errorf("enqueue message %s: it has no recipient", m.ID)
	}
	if err := q.insertMessage(tx, m); err != nil {
		return fmt.Errorf("enqueue message %s: %w", m.ID, err)
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if r.Destination == "" {
			r.Destination = r.ForwardPath[strings.LastIndexByte(r.ForwardPath, '@')+1:]
		}
		r.Destination = db.Text(strings.ToLower(r.Destination))
		r.Shard = q.shardOf(m, r)
		if err := insertRecipient(tx, m, r); err != nil {
			return fmt.Errorf("enqueue recipient %d of message %s: %w", r.N, m.ID, err)
		}
	}
	return nil
}

// due is when m may be tried first.
func (m *Message) due() time.Time {
	if m.HoldUntil.After(m.Queued) {
		return m.HoldUntil
	}
	return m.Queued
}

// insertMessage writes m's row. Its time to live begins when it is due.
func (q *Queue) insertMessage(tx db.Tx, m *Message) error {
	if m.Expires.IsZero() {
		m.Expires = m.due().Add(q.cfg.Lifetime)
		if by := m.DeliverBy; by.Mode == envelope.ByReturn && by.Time.Before(m.Expires) {
			m.Expires = by.Time
		}
	}
	_, err := tx.Exec(`INSERT INTO queued_message (id, queued, reverse_path, reverse_key, body_type, smtputf8, ret, envid, octets, account, login, priority, recipients,
		utf8, ours, requiretls, tls_optional, hold_until, by_mode, by_time, by_trace, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		m.ID[:], db.Micros(m.Queued), db.Text(m.ReversePath), db.Text(fold(m.ReversePath)), int64(m.Body), m.SMTPUTF8, int64(m.Return), db.Text(m.EnvelopeID),
		m.Octets, int64(m.Account), db.Text(m.Login), int64(m.Priority), int64(len(m.Recipients)),
		m.UTF8, m.Ours, m.RequireTLS, m.TLSOptional, db.Micros(m.HoldUntil), int64(m.DeliverBy.Mode), db.Micros(m.DeliverBy.Time), m.DeliverBy.Trace, db.Micros(m.Expires))
	return err
}

// insertRecipient writes a recipient's row.
func insertRecipient(tx db.Tx, m *Message, r *Recipient) error {
	state := Waiting
	if r.State == Held { // set apart by a rule, until an operator releases it
		state = Held
	}
	_, err := tx.Exec(`INSERT INTO queued_recipient (id, n, fate, forward_path, forward_key, destination, notify, orcpt_type, orcpt, state, attempts, next_attempt, priority, last_status,
		forward, reverse_path, written, shard) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?)`,
		m.ID[:], int64(r.N), int64(r.Fate), db.Text(r.ForwardPath), db.Text(fold(r.ForwardPath)), r.Destination, int64(r.Notify),
		db.Text(r.Original.Type), db.Text(r.Original.Address), int64(state), db.Micros(m.due()), int64(m.Priority), db.Text(r.LastStatus),
		db.Text(r.Forward), db.Text(r.ReversePath), db.Text(r.Written), int64(r.Shard))
	return err
}

// Enqueued is told of messages whose transaction has committed: relay wakes, and
// the metrics count them. Whoever calls Enqueue calls it after the commit.
func (q *Queue) Enqueued(messages ...*Message) {
	total := 0
	for _, m := range messages {
		due := db.Micros(m.due())
		for i := range m.Recipients {
			q.note(unit{m.Recipients[i].Destination, m.Recipients[i].Shard}, due)
		}
		total += len(m.Recipients)
	}
	q.signal()
	if q.cfg.Hooks.Enqueued != nil {
		q.cfg.Hooks.Enqueued(total)
	}
}
