package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// Filter selects recipients; set fields must all match. The zero Filter matches all.
type Filter struct {
	ID          message.ID
	ReversePath string // exact, compared without case; "<>" is null
	ForwardPath string // exact, compared without case
	Destination string // routing domain
	Account     envelope.AccountID
	State       State
	Before      time.Time // queued before
	All         bool      // operator's verbs: an otherwise empty filter is meant

	nextAfter time.Time // the next attempt lies after
}

// Page is a piece of a list: what follows After in order of id, at most Limit
// messages (0 is 100, at most MaxPage).
type Page struct {
	After message.ID
	Limit int
}

// defaultPage is how many messages List returns when nothing else is asked for.
const defaultPage = 100

// isZero reports whether f matches everything.
func (f *Filter) isZero() bool {
	g := *f
	g.All = false
	return g == Filter{}
}

// where returns the condition on queued_message m and queued_recipient r.
func (f *Filter) where() (string, []any) {
	cond, args := "1 = 1", []any(nil)
	add := func(c string, arg any) {
		cond += " AND " + c
		args = append(args, arg)
	}
	if !f.ID.IsZero() {
		add("m.id = ?", f.ID[:])
	}
	switch f.ReversePath {
	case "":
	case "<>":
		add("m.reverse_path = ?", "")
	default:
		add("m.reverse_key = ?", db.Text(fold(strings.Trim(f.ReversePath, "<>"))))
	}
	if f.ForwardPath != "" {
		add("r.forward_key = ?", db.Text(fold(strings.Trim(f.ForwardPath, "<>"))))
	}
	if f.Destination != "" {
		add("r.destination = ?", db.Text(strings.ToLower(f.Destination)))
	}
	if f.Account != 0 {
		add("m.account = ?", int64(f.Account))
	}
	if f.State != 0 {
		add("r.state = ?", int64(f.State))
	}
	if !f.Before.IsZero() {
		add("m.queued < ?", db.Micros(f.Before))
	}
	if !f.nextAfter.IsZero() {
		add("r.next_attempt > ?", db.Micros(f.nextAfter))
	}
	return cond, args
}

// List returns the messages that have a recipient matching f, with their
// matching recipients, in order of id.
func (q *Queue) List(ctx context.Context, f Filter, p Page) ([]Message, error) {
	if p.Limit <= 0 {
		p.Limit = defaultPage
	}
	p.Limit = min(p.Limit, MaxPage)
	var all []Message
	for after, more := p.After, true; more && len(all) < p.Limit; {
		var some []Message
		err := q.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
			var until message.ID
			if until, more, err = window(tx, after); err != nil {
				return err
			}
			if some, err = list(tx, f, after, until, p.Limit-len(all)); err == nil {
				after = until
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list queue: %w", err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// windowRows is through how many messages one view of List looks: a filter that nobody
// matches must not make it long.
const windowRows = 20_000

// window is the last id of a view's messages, and whether there may be more behind it.
func window(tx db.Tx, after message.ID) (until message.ID, more bool, err error) {
	var raw []byte
	err = tx.QueryRow(`SELECT id FROM queued_message WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?`, after[:], windowRows-1).Scan(&raw)
	if errors.Is(err, db.ErrNotFound) {
		for i := range until {
			until[i] = 0xff
		}
		return until, false, nil
	}
	if err == nil {
		until, err = messageID(raw)
	}
	return until, true, err
}

// messageID makes an id of stored octets.
func messageID(raw []byte) (id message.ID, err error) {
	if copy(id[:], raw) != len(raw) || len(raw) != len(id) {
		err = fmt.Errorf("message id of %d octets in the database, want %d", len(raw), len(id))
	}
	return id, err
}

// list runs List's two queries: which messages, then their recipients.
func list(tx db.Tx, f Filter, after, until message.ID, limit int) ([]Message, error) {
	cond, args := f.where()
	rows, err := tx.Query(`SELECT `+messageColumns+` FROM queued_message m WHERE m.id > ? AND m.id <= ? AND EXISTS (SELECT 1 FROM queued_recipient r WHERE r.id = m.id AND `+cond+`) ORDER BY m.id LIMIT ?`,
		append(append([]any{after[:], until[:]}, args...), int64(limit))...)
	if err != nil {
		return nil, err
	}
	all, err := scanMessages(rows)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Recipients, err = recipients(tx, all[i].ID, cond, args); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// messageColumns are what scanMessages reads of queued_message m.
const messageColumns = `m.id, m.queued, m.reverse_path, m.body_type, m.smtputf8, m.ret, m.envid, m.octets, m.account, m.login, m.utf8, m.ours, m.requiretls, m.tls_optional, m.priority, m.hold_until, m.by_mode, m.by_time, m.by_trace, m.expires`

// recipientColumns are what scanRecipient reads of queued_recipient r.
const recipientColumns = `r.id, r.n, r.fate, r.forward_path, r.destination, r.notify, r.orcpt_type, r.orcpt, r.state, r.attempts, r.next_attempt, r.last_status, r.forward, r.reverse_path, r.written, r.warned, r.reason, r.shard`

func scanMessages(rows db.Rows) ([]Message, error) {
	defer rows.Close()
	var all []Message
	for rows.Next() {
		var m Message
		var id []byte
		var queued, bodyType, ret, account, priority, hold, byMode, byTime, expires int64
		err := rows.Scan(&id, &queued, &m.ReversePath, &bodyType, &m.SMTPUTF8, &ret, &m.EnvelopeID, &m.Octets, &account, &m.Login,
			&m.UTF8, &m.Ours, &m.RequireTLS, &m.TLSOptional, &priority, &hold, &byMode, &byTime, &m.DeliverBy.Trace, &expires)
		if err != nil {
			return nil, err
		}
		if m.ID, err = messageID(id); err != nil {
			return nil, err
		}
		m.Queued, m.Body, m.Return, m.Account = db.FromMicros(queued), envelope.Body(bodyType), envelope.Return(ret), envelope.AccountID(account)
		m.Priority, m.HoldUntil, m.Expires = int(priority), db.FromMicros(hold), db.FromMicros(expires)
		m.DeliverBy.Mode, m.DeliverBy.Time = envelope.ByMode(byMode), db.FromMicros(byTime)
		all = append(all, m)
	}
	return all, rows.Err()
}

// recipients reads the recipients of a message that match.
func recipients(tx db.Tx, id message.ID, cond string, args []any) ([]Recipient, error) {
	rows, err := tx.Query(`SELECT `+recipientColumns+` FROM queued_recipient r JOIN queued_message m ON m.id = r.id WHERE r.id = ? AND `+cond+` ORDER BY r.n`,
		append([]any{id[:]}, args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Recipient
	for rows.Next() {
		_, r, err := scanRecipient(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// scanRecipient reads a row of recipientColumns.
func scanRecipient(rows db.Rows) (id message.ID, r Recipient, err error) {
	var n, fate, notify, state, attempts, next, shard int64
	var raw []byte
	err = rows.Scan(&raw, &n, &fate, &r.ForwardPath, &r.Destination, &notify, &r.Original.Type, &r.Original.Address, &state, &attempts, &next, &r.LastStatus,
		&r.Forward, &r.ReversePath, &r.Written, &r.Warned, &r.Reason, &shard)
	if err == nil {
		id, err = messageID(raw)
	}
	r.N, r.Fate, r.Notify, r.State, r.Attempts, r.NextAttempt = int(n), int(fate), envelope.Notify(notify), State(state), int(attempts), db.FromMicros(next)
	r.Shard = int(shard)
	return id, r, err
}

// Show returns one message with all its recipients, or ErrNotFound.
func (q *Queue) Show(ctx context.Context, id message.ID) (Message, error) {
	if id.IsZero() {
		return Message{}, fmt.Errorf("show message: %w", ErrNotFound)
	}
	all, err := q.List(ctx, Filter{ID: id}, Page{Limit: 1})
	if err != nil {
		return Message{}, err
	}
	if len(all) == 0 {
		return Message{}, fmt.Errorf("show message %s: %w", id, ErrNotFound)
	}
	return all[0], nil
}

// Count returns how many messages and recipients the queue holds.
func (q *Queue) Count(ctx context.Context) (messages, recipients int64, err error) {
	err = q.cfg.DB.View(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*), CAST(COALESCE(SUM(recipients), 0) AS BIGINT) FROM queued_message`).Scan(&messages, &recipients)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count queue: %w", err)
	}
	return messages, recipients, nil
}
