package quarantine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/trace"
)

// Release moves the selected messages into the INBOX, as new and unread, so that every program
// fetches them; what is on hold in the queue goes on its way. by names who releases, for the
// trace. The account learns that such mail is wanted, and reputations are put right. It returns how
// many it released, also with an error; none is no error.
func (r *Room) Release(ctx context.Context, f Filter, by string) (int, error) {
	return r.each(ctx, f, func(w *row) (bool, error) {
		if w.Kind == Queue {
			n, err := r.cfg.Queue.Release(ctx, queue.Filter{ID: w.ID, ForwardPath: w.Recipient, State: queue.Held})
			return n > 0, err
		}
		_, err := r.Move(ctx, Move{Account: w.Account, Login: w.Login, From: w.Kind.Folder(), UID: w.UID, To: mailbox.Inbox, By: by})
		return done(err)
	}, r.cfg.Hooks.Released)
}

// Delete puts the selected messages into retention, from which they can be restored for a while;
// what is on hold in the queue is removed for good. With spam the account learns that such mail
// is spam. It returns how many it deleted, also with an error.
func (r *Room) Delete(ctx context.Context, f Filter, by string, spam bool) (int, error) {
	return r.each(ctx, f, func(w *row) (bool, error) {
		if w.Kind == Queue {
			n, err := r.cfg.Queue.Remove(ctx, queue.Filter{ID: w.ID, ForwardPath: w.Recipient, State: queue.Held}, "deleted by "+by)
			return n > 0, err
		}
		if spam {
			r.learn(ctx, mailbox.Entry{Account: w.Account, Number: w.Number, UID: w.UID}, true)
		}
		return r.remove(ctx, w, "deleted by "+by)
	}, r.cfg.Hooks.Deleted)
}

// done makes of an entry that is gone no error.
func done(err error) (bool, error) {
	if errors.Is(err, mailbox.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// remove puts a row's entry into retention.
func (r *Room) remove(ctx context.Context, w *row, how string) (bool, error) {
	now := r.cfg.Now()
	n, err := r.cfg.Mailboxes.RemoveWithin(ctx, w.Account, w.Login, w.Kind.Folder(), []mailbox.UID{w.UID}, func(tx db.Tx) error {
		was, err := takeAt(tx, w)
		if err != nil || was == nil {
			return err
		}
		_, err = r.cfg.Mailboxes.Entry(tx, w.Account, w.Number, w.UID)
		if there, err := done(err); !there {
			return err // its owner has done something with it already
		}
		return r.settle(tx, was, trace.Quarantined, was.Kind.Folder()+": "+how, now)
	})
	if errors.Is(err, mailbox.ErrNotFound) {
		err = nil
	}
	return n > 0, err
}

// each runs a verb on the selected items, page by page.
func (r *Room) each(ctx context.Context, f Filter, do func(*row) (bool, error), hook func(Kind)) (int, error) {
	if f.isZero() && !f.All {
		return 0, ErrEmptyFilter
	}
	total := 0
	for after := ""; ; {
		page, next, err := r.list(ctx, f, after, MaxPage)
		if err != nil {
			return total, err
		}
		for i := range page {
			ok, err := do(&page[i])
			if ok {
				total++
				if hook != nil {
					hook(page[i].Kind)
				}
			}
			if err != nil {
				return total, fmt.Errorf("message %s: %w", page[i].ID, err)
			}
		}
		if after = next; after == "" {
			return total, nil
		}
	}
}

// Move is the way of a message from one of an account's folders to another.
type Move struct {
	Account  envelope.AccountID
	Login    string
	From, To string // mailboxes
	UID      mailbox.UID
	By       string // who moves it, for the trace
}

// Move moves a message as its owner wishes and learns from it: out of Quarantine or Junk into
// another folder it is wanted, into them from another it is spam. A message taken out is unread
// again. mailbox.ErrNotFound when it is not there. That learning failed is logged, no error.
func (r *Room) Move(ctx context.Context, m Move) (mailbox.Entry, error) {
	now := r.cfg.Now()
	out, in := mailbox.SetApart(m.From) && !mailbox.SetApart(m.To), mailbox.SetApart(m.To) && !mailbox.SetApart(m.From)
	mv := mailbox.Move{Account: m.Account, Login: m.Login, From: m.From, UID: m.UID, To: m.To}
	if out {
		mv.Flags = func(f mailbox.Flags) mailbox.Flags { return f &^ (mailbox.Seen | mailbox.Deleted) }
	}
	var had *row
	mv.Within = func(tx db.Tx, was, is mailbox.Entry) (err error) {
		if had, err = take(tx, m.Account, is.Body, was.Number, was.UID); err != nil {
			return err
		}
		switch {
		case mailbox.SetApart(m.To):
			return r.moved(tx, had, &is, m.By, now)
		case had != nil:
			return r.settle(tx, had, trace.Delivered, m.To+": released by "+m.By, now)
		}
		return nil
	}
	is, err := r.cfg.Mailboxes.Move(ctx, mv)
	if err != nil || !in && !out {
		return is, err
	}
	r.learn(ctx, is, in)
	r.correct(ctx, is, had, in)
	return is, nil
}

// moved keeps what a person put into a folder of what is set apart; no digest tells of it.
func (r *Room) moved(tx db.Tx, had *row, is *mailbox.Entry, by string, now time.Time) error {
	sender, _ := message.Get(is.Prefix, "Return-Path")
	w := row{Item: Item{ID: is.Body, Account: is.Account, Login: is.Login, Rule: "moved by " + by, Sender: strings.Trim(sender, "<>")}}
	if had != nil {
		w = *had
	}
	w.Kind, w.Number, w.UID, w.Noted, w.Told = kindOf(is.Mailbox), is.Number, is.UID, now, now
	if err := insert(tx, &w); err != nil {
		return err
	}
	return r.settle(tx, &w, trace.Quarantined, is.Mailbox+": moved by "+by, now)
}

// take removes and returns the row of an entry, nil when it has none. A row that tells of another
// place is what is left of an entry that is gone, and goes too.
func take(tx db.Tx, account envelope.AccountID, id message.ID, number int64, uid mailbox.UID) (*row, error) {
	w, err := scan(tx.QueryRow(`DELETE FROM set_apart WHERE account = ? AND id = ? RETURNING `+columns, int64(account), id[:]))
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if w.Number != number || w.UID != uid {
		return nil, nil
	}
	return &w, nil
}

// takeAt removes and returns a row that was listed, nil when it is gone or tells of another place by now: its entry
// was moved there meanwhile, and stays listed.
func takeAt(tx db.Tx, w *row) (*row, error) {
	was, err := scan(tx.QueryRow(`DELETE FROM set_apart WHERE account = ? AND id = ? AND number = ? AND uid = ? RETURNING `+columns,
		int64(w.Account), w.ID[:], w.Number, int64(w.UID)))
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	return &was, err
}

// settle tells the trace; what it has dropped already is no error.
func (r *Room) settle(tx db.Tx, w *row, state trace.State, detail string, at time.Time) error {
	for _, n := range w.fates {
		if err := r.cfg.Trace.Settle(tx, w.ID, n, state, detail, at); err != nil && !errors.Is(err, trace.ErrNotFound) {
			return err
		}
	}
	return nil
}

// learn teaches the Learner an entry.
func (r *Room) learn(ctx context.Context, e mailbox.Entry, spam bool) {
	if r.cfg.Learner == nil {
		return
	}
	octets, err := r.head(ctx, &e, maxLearn)
	if err == nil {
		err = r.cfg.Learner.Learn(ctx, e.Account, bytes.NewReader(octets), int64(len(octets)), spam)
	}
	if err != nil {
		r.cfg.Logger.Warn("could not learn from a message that was moved", "account", int64(e.Account), "spam", spam, "error", err)
	}
}

// head reads the beginning of an entry.
func (r *Room) head(ctx context.Context, e *mailbox.Entry, most int64) ([]byte, error) {
	in, err := r.cfg.Mailboxes.OpenEntry(ctx, e)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(io.LimitReader(in, most))
}

// correct puts reputations right: those that were noted with the message, or else those that its
// header section, which we wrote, and the trace name.
func (r *Room) correct(ctx context.Context, e mailbox.Entry, had *row, spam bool) {
	if r.cfg.Reputation == nil {
		return
	}
	var sub reputation.Subject
	if had != nil {
		sub = had.subject
	}
	if sub == (reputation.Subject{}) {
		sub = r.subject(ctx, &e)
	}
	if sub != (reputation.Subject{}) {
		r.cfg.Reputation.Correct(ctx, sub, spam)
	}
}
