package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
)

func accountID(n int64) envelope.AccountID { return envelope.AccountID(n) }

// Filter selects items; set fields must all match.
type Filter struct {
	ID      message.ID
	Account envelope.AccountID // then nothing of the queue is meant
	Kind    Kind
	Before  time.Time // set apart before
	Rule    string    // part of the rule, without regard to case of ASCII
	Sender  string    // reverse-path, without regard to case of ASCII; "<>" is null
	All     bool      // of Release and Delete: an otherwise empty filter is meant

	untold bool
}

func (f Filter) isZero() bool {
	f.All = false
	return f == Filter{}
}

// where is the condition on set_apart.
func (f *Filter) where() (string, []any) {
	cond, args := "1 = 1", []any(nil)
	add := func(c string, arg ...any) { cond, args = cond+" AND "+c, append(args, arg...) }
	if !f.ID.IsZero() {
		add("id = ?", f.ID[:])
	}
	if f.Account != 0 {
		add("account = ?", int64(f.Account))
	}
	if f.Kind != "" {
		add("kind = ?", string(f.Kind))
	}
	if !f.Before.IsZero() {
		add("noted < ?", db.Micros(f.Before))
	}
	if f.untold {
		add("told = 0")
	}
	return cond, args
}

// matches looks at what where does not.
func (f *Filter) matches(it *Item) bool {
	if f.Rule != "" && !strings.Contains(strings.ToLower(it.Rule), strings.ToLower(f.Rule)) {
		return false
	}
	sender := strings.Trim(f.Sender, "<>")
	return f.Sender == "" || strings.EqualFold(sender, it.Sender)
}

// List returns at most limit items (0 is 100, at most MaxPage) that follow the cursor ("" begins):
// those in mailboxes by account and id, then those on hold in the queue. next is "" at the end; a
// page may be short, or empty, though more follows. What its owner moved or deleted is not listed.
func (r *Room) List(ctx context.Context, f Filter, after string, limit int) (items []Item, next string, err error) {
	rows, next, err := r.list(ctx, f, after, limit)
	for i := range rows {
		items = append(items, rows[i].Item)
	}
	return items, next, err
}

// cursor is a place in the list: "a.ACCOUNT.ID" in mailboxes, "q.ID" in the queue.
type cursor struct {
	queue   bool
	account int64
	id      message.ID
}

func parseCursor(s string) (c cursor, err error) {
	if s == "" {
		return cursor{account: -1 << 62}, nil
	}
	parts := strings.Split(s, ".")
	switch {
	case len(parts) == 3 && parts[0] == "a":
		c.account, err = strconv.ParseInt(parts[1], 10, 64)
	case len(parts) == 2 && parts[0] == "q":
		c.queue = true
		if parts[1] == "" {
			return c, nil
		}
	default:
		err = errors.New("malformed")
	}
	if err == nil {
		c.id, err = message.ParseID(parts[len(parts)-1])
	}
	if err != nil {
		return c, fmt.Errorf("list what is set apart: cursor %.80q is not one that an earlier list returned", s)
	}
	return c, nil
}

func (r *Room) list(ctx context.Context, f Filter, after string, limit int) (found []row, next string, err error) {
	c, err := parseCursor(after)
	if err != nil {
		return nil, "", err
	}
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, MaxPage)
	if !c.queue && f.Kind != Queue {
		return r.listApart(ctx, f, c, limit)
	}
	return r.listHeld(ctx, f, c, limit)
}

// listApart lists what lies in mailboxes.
func (r *Room) listApart(ctx context.Context, f Filter, c cursor, limit int) (found []row, next string, err error) {
	cond, args := f.where()
	seen := 0
	err = r.cfg.DB.View(ctx, func(tx db.Tx) error {
		all, err := query(tx, cond+` AND (account, id) > (?, ?) ORDER BY account, id LIMIT ?`, append(args, c.account, c.id[:], int64(limit))...)
		if err != nil {
			return err
		}
		found, seen, next = found[:0], len(all), ""
		for i := range all {
			w := &all[i]
			next = fmt.Sprintf("a.%d.%s", int64(w.Account), w.ID)
			if !f.matches(&w.Item) {
				continue
			}
			e, err := r.cfg.Mailboxes.Entry(tx, w.Account, w.Number, w.UID)
			if errors.Is(err, mailbox.ErrNotFound) {
				continue // moved or removed by its owner
			}
			if err != nil {
				return err
			}
			w.Octets = e.Octets
			found = append(found, *w)
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("list what is set apart: %w", err)
	}
	if seen == limit {
		return found, next, nil
	}
	if f.Account == 0 && f.Kind == "" && !f.untold && r.cfg.Queue != nil {
		return found, "q.", nil
	}
	return found, "", nil
}

func query(tx db.Tx, where string, args ...any) ([]row, error) {
	rows, err := tx.Query(`SELECT `+columns+` FROM set_apart WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []row
	for rows.Next() {
		w, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, rows.Err()
}

// listHeld lists recipients on hold.
func (r *Room) listHeld(ctx context.Context, f Filter, c cursor, limit int) (found []row, next string, err error) {
	if r.cfg.Queue == nil || f.Account != 0 {
		return nil, "", nil
	}
	all, err := r.cfg.Queue.List(ctx, queue.Filter{ID: f.ID, State: queue.Held, Before: f.Before}, queue.Page{After: c.id, Limit: limit})
	if err != nil {
		return nil, "", err
	}
	for i := range all {
		m := &all[i]
		for j := range m.Recipients {
			to := &m.Recipients[j]
			rule, ours := strings.CutPrefix(to.Reason, HeldReason)
			if !ours && to.Reason == "" { // as accepted: post.Remote.Held
				rule, ours = strings.CutPrefix(to.LastStatus, HeldReason)
			}
			it := Item{Kind: Queue, ID: m.ID, Recipient: to.ForwardPath, Rule: rule, Noted: m.Queued, Sender: m.ReversePath, Octets: m.Octets}
			if ours && f.matches(&it) {
				found = append(found, row{Item: it})
			}
		}
	}
	if len(all) == limit {
		next = "q." + all[limit-1].ID.String()
	}
	return found, next, nil
}

// Show returns one item of an account; ErrNotFound also when its owner moved or deleted it.
func (r *Room) Show(ctx context.Context, account envelope.AccountID, id message.ID) (Item, error) {
	if account == 0 || id.IsZero() {
		return Item{}, ErrNotFound
	}
	items, _, err := r.List(ctx, Filter{Account: account, ID: id}, "", 1)
	if err == nil && len(items) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Item{}, err
	}
	return items[0], nil
}

// Open returns the octets of an item in a mailbox. ErrNotFound for one on hold in the queue, whose
// octets `queue show` has.
func (r *Room) Open(ctx context.Context, it Item) (io.ReadCloser, error) {
	if it.Account == 0 {
		return nil, ErrNotFound
	}
	return r.cfg.Mailboxes.OpenEntry(ctx, &mailbox.Entry{Account: it.Account, Number: it.Number, UID: it.UID})
}

// Untold returns an account's items set apart before a moment of which no digest has told, oldest
// first, at most limit (at most MaxPage), and about how many there are in all. The moment must lie back
// longer than an Accept takes, so that no item comes in behind it.
func (r *Room) Untold(ctx context.Context, account envelope.AccountID, before time.Time, limit int) (items []Item, total int64, err error) {
	limit = max(1, min(limit, MaxPage))
	for after := ""; ; {
		page, next, err := r.List(ctx, Filter{Account: account, Before: before, untold: true}, after, limit)
		if err != nil {
			return nil, 0, err
		}
		if items = append(items, page...); next == "" && len(items) <= limit {
			return items, int64(len(items)), nil
		}
		if len(items) >= limit {
			items = items[:limit]
			break
		}
		after = next
	}
	err = r.cfg.DB.View(ctx, func(tx db.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM set_apart WHERE account = ? AND told = 0 AND noted < ?`, int64(account), db.Micros(before)).Scan(&total)
	})
	return items, total, err
}

// Owing returns up to limit accounts above after that have items of which no digest has told.
func (r *Room) Owing(ctx context.Context, after envelope.AccountID, limit int) (accounts []envelope.AccountID, err error) {
	err = r.cfg.DB.View(ctx, func(tx db.Tx) error {
		accounts = accounts[:0]
		rows, err := tx.Query(`SELECT DISTINCT account FROM set_apart WHERE told = 0 AND account > ? ORDER BY account LIMIT ?`, int64(after), int64(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				return err
			}
			accounts = append(accounts, envelope.AccountID(n))
		}
		return rows.Err()
	})
	return accounts, err
}

// Tell marks, within tx, what was set apart for an account before a moment as told of at now. It
// returns how many items that were.
func (r *Room) Tell(tx db.Tx, account envelope.AccountID, before, now time.Time) (int64, error) {
	return tx.Exec(`UPDATE set_apart SET told = ? WHERE account = ? AND told = 0 AND noted < ?`, db.Micros(now), int64(account), db.Micros(before))
}

// Purge removes an account's rows within tx, as when the account is removed.
func (r *Room) Purge(tx db.Tx, account envelope.AccountID) error {
	_, err := tx.Exec(`DELETE FROM set_apart WHERE account = ?`, int64(account))
	return err
}
