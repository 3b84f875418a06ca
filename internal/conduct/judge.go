package conduct

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Trip is a rule that has struck.
type Trip struct {
	Account envelope.AccountID
	Rule    string
	Detail  string // in plain words
	Action  Action
	Since   time.Time
	Until   time.Time // when it ends by itself
}

// view is what the database knows of an account.
type view struct {
	sent     Sent // within the hour
	networks int64
	usual    Sent // the most of an hour within habitDays: messages, recipients, fresh
	trip     Trip
	quiet    time.Time // until when no rule strikes
}

// Habit is what an account sent within the hour, and is used to.
type Habit struct {
	Sent     Sent // within the hour
	Networks int64
	Usual    Sent // Messages, Recipients and Fresh: the most of an hour within 14 days
	Fresh    int64
	Quiet    time.Time // until when no rule strikes; zero is none
}

// Habit tells what is known of an account. Fresh is how many new recipients an hour it may have.
func (w *Watch) Habit(ctx context.Context, account envelope.AccountID) (Habit, error) {
	v, sent, err := w.hour(ctx, account)
	if err != nil {
		return Habit{}, err
	}
	return Habit{Sent: sent, Networks: v.networks, Usual: v.usual, Fresh: w.cfg.Rules.FreshLimit(v.usual.Fresh), Quiet: v.quiet}, nil
}

// Judge decides about what an account is about to send, together with what it sent before; Count
// it when it was taken. It costs at most one small read, and a write when a rule strikes that
// had not. On an error Decision is Allow.
func (w *Watch) Judge(ctx context.Context, account envelope.AccountID, next Sent) (Decision, error) {
	if account == 0 {
		return Decision{}, nil
	}
	v, sent, err := w.hour(ctx, account)
	if err != nil {
		return Decision{}, err
	}
	now := w.cfg.Now()
	d := Decision{}
	if now.Before(v.trip.Until) {
		d = Decision{v.trip.Action, v.trip}
	}
	if !now.Before(v.quiet) {
		if s := w.cfg.Rules.judge(sent.plus(next), v.networks, v.usual.Fresh); s.action > d.Action {
			if d, err = w.strike(ctx, account, s, now); err != nil {
				return Decision{}, err
			}
		}
	}
	if w.cfg.Hooks.Judged != nil {
		w.cfg.Hooks.Judged(d.Action)
	}
	return d, nil
}

// Foresee tells what Judge would decide about what an account is about to send, and leaves no trace.
func (w *Watch) Foresee(ctx context.Context, account envelope.AccountID, next Sent) (Decision, error) {
	if account == 0 {
		return Decision{}, nil
	}
	v, sent, err := w.hour(ctx, account)
	if err != nil {
		return Decision{}, err
	}
	now, d := w.cfg.Now(), Decision{}
	if now.Before(v.trip.Until) {
		d = Decision{v.trip.Action, v.trip}
	}
	if s := w.cfg.Rules.judge(sent.plus(next), v.networks, v.usual.Fresh); !now.Before(v.quiet) && s.action > d.Action {
		d = Decision{s.action, Trip{Account: account, Rule: s.rule, Detail: s.detail, Action: s.action, Since: now, Until: now.Add(w.cfg.Rules.lasts(s.action))}}
	}
	return d, nil
}

// hour returns what is known of an account, and what it sent within the hour, written or not.
func (w *Watch) hour(ctx context.Context, account envelope.AccountID) (view, Sent, error) {
	w.flushing.RLock()
	defer w.flushing.RUnlock()
	v, err := w.view(ctx, account)
	if err != nil {
		return view{}, Sent{}, err
	}
	sent, now := v.sent, slot(w.cfg.Now())
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range int64(hourSlots) {
		sent = sent.plus(w.sent[slotKey{account, now - i}])
	}
	return v, sent, nil
}

// view returns what the database knows of an account, as of cachedFor ago at most. The caller
// holds flushing.
func (w *Watch) view(ctx context.Context, account envelope.AccountID) (view, error) {
	now := w.cfg.Now()
	if v, fresh := w.cached.Get(account, now); fresh {
		return v, nil
	}
	v := view{}
	err := w.cfg.DB.View(ctx, func(tx db.Tx) (err error) {
		v = view{}
		if v.sent, err = readSent(tx, account, now); err != nil {
			return err
		}
		err = tx.QueryRow(`SELECT COUNT(*) FROM conduct_network WHERE account = ? AND seen > ?`, int64(account), db.Micros(now.Add(-time.Hour))).Scan(&v.networks)
		if err != nil {
			return err
		}
		err = tx.QueryRow(`SELECT COALESCE(MAX(messages), 0), COALESCE(MAX(recipients), 0), COALESCE(MAX(fresh), 0) FROM conduct_habit
			WHERE account = ? AND day >= ? AND day < ? AND void = 0`, int64(account), day(now)-habitDays, day(now)).
			Scan(&v.usual.Messages, &v.usual.Recipients, &v.usual.Fresh)
		if err != nil {
			return err
		}
		v.trip, v.quiet, err = readTrip(tx, account)
		return err
	})
	if err != nil {
		return view{}, fmt.Errorf("read conduct of account %d: %w", account, err)
	}
	w.cached.Put(account, v, now)
	return v, nil
}

// readSent sums the slots of the hour.
func readSent(tx db.Tx, account envelope.AccountID, now time.Time) (s Sent, err error) {
	rows, err := tx.Query(`SELECT messages, recipients, fresh, refused, spam FROM conduct_slot WHERE account = ? AND slot > ? AND slot <= ?`,
		int64(account), slot(now)-hourSlots, slot(now))
	if err != nil {
		return s, err
	}
	defer rows.Close()
	for rows.Next() {
		var o Sent
		if err := rows.Scan(&o.Messages, &o.Recipients, &o.Fresh, &o.Refused, &o.Spam); err != nil {
			return s, err
		}
		s = s.plus(o)
	}
	return s, rows.Err()
}

func readTrip(tx db.Tx, account envelope.AccountID) (t Trip, quiet time.Time, err error) {
	var action, since, until, q int64
	t.Account = account
	err = tx.QueryRow(`SELECT rule, detail, action, since, until, quiet FROM conduct_trip WHERE account = ?`, int64(account)).
		Scan(&t.Rule, &t.Detail, &action, &since, &until, &q)
	if errors.Is(err, db.ErrNotFound) {
		return Trip{}, time.Time{}, nil
	}
	t.Action, t.Since, t.Until = Action(action), db.FromMicros(since), db.FromMicros(until)
	return t, db.FromMicros(q), err
}

// strike stores that a rule strikes, unless another node did, or an operator just released the
// account: then what stands in the database counts.
func (w *Watch) strike(ctx context.Context, account envelope.AccountID, s struck, now time.Time) (Decision, error) {
	var trip Trip
	var quiet time.Time
	var changed int64
	err := w.cfg.DB.Update(ctx, func(tx db.Tx) (err error) {
		changed, err = tx.Exec(`INSERT INTO conduct_trip (account, rule, detail, action, since, until, quiet) VALUES (?, ?, ?, ?, ?, ?, 0)
			ON CONFLICT (account) DO UPDATE SET rule = excluded.rule, detail = excluded.detail, action = excluded.action, since = excluded.since, until = excluded.until
			WHERE conduct_trip.quiet <= excluded.since AND (conduct_trip.until <= excluded.since OR conduct_trip.action < excluded.action)`,
			int64(account), s.rule, db.Text(s.detail), int64(s.action), db.Micros(now), db.Micros(now.Add(w.cfg.Rules.lasts(s.action))))
		if err != nil {
			return err
		}
		if trip, quiet, err = readTrip(tx, account); err != nil || changed == 0 || s.action < Hold {
			return err
		}
		_, err = tx.Exec(`INSERT INTO conduct_habit (account, day, messages, recipients, fresh, void) VALUES (?, ?, 0, 0, 0, 1)
			ON CONFLICT (account, day) DO UPDATE SET void = 1`, int64(account), day(now))
		return err
	})
	w.cached.Forget(account)
	if err != nil {
		return Decision{}, fmt.Errorf("store that account %d sends unlike itself: %w", account, err)
	}
	if now.Before(quiet) || !now.Before(trip.Until) {
		return Decision{}, nil
	}
	if changed > 0 {
		w.cfg.Logger.Warn("account sends unlike itself", "account", int64(account), "rule", trip.Rule, "detail", trip.Detail, "action", trip.Action.String())
		if w.cfg.Hooks.Tripped != nil {
			w.cfg.Hooks.Tripped(trip)
		}
	}
	return Decision{trip.Action, trip}, nil
}

// Release ends what a rule did to an account, forgets what it sent within the hour, and lets no
// rule strike for a time (at least a minute). What it sends then, and sent on the days since the rule struck, is
// learned as its habit. It may be called before a rule strikes. Other nodes follow within ten seconds.
func (w *Watch) Release(ctx context.Context, account envelope.AccountID, quiet time.Duration) error {
	now := w.cfg.Now()
	until := now.Add(max(quiet, leastQuiet))
	w.flushing.Lock() // or counts from before would be written after
	defer w.flushing.Unlock()
	err := w.cfg.DB.Update(ctx, func(tx db.Tx) error {
		trip, _, err := readTrip(tx, account)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO conduct_trip (account, rule, detail, action, since, until, quiet) VALUES (?, '', '', 0, ?, ?, ?)
			ON CONFLICT (account) DO UPDATE SET until = excluded.until, quiet = excluded.quiet`,
			int64(account), db.Micros(now), db.Micros(now), db.Micros(until))
		if err != nil {
			return err
		}
		if !trip.Since.IsZero() {
			if _, err := tx.Exec(`UPDATE conduct_habit SET void = 0 WHERE account = ? AND day >= ?`, int64(account), day(trip.Since)); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`DELETE FROM conduct_slot WHERE account = ?`, int64(account)); err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM conduct_network WHERE account = ?`, int64(account))
		return err
	})
	w.Forget(account)
	if err != nil {
		return fmt.Errorf("release account %d: %w", account, err)
	}
	return nil
}

// Forget drops what memory holds of an account.
func (w *Watch) Forget(account envelope.AccountID) {
	w.mu.Lock()
	for k := range w.sent {
		if k.account == account {
			delete(w.sent, k)
		}
	}
	for k := range w.networks {
		if k.account == account {
			delete(w.networks, k)
		}
	}
	w.mu.Unlock()
	w.logins.ForgetAll(func(k networkKey) bool { return k.account == account })
	w.cached.Forget(account)
}

// Purge removes all of an account within tx, as when the account is removed; Forget follows
// after the commit.
func (w *Watch) Purge(tx db.Tx, account envelope.AccountID) error {
	for _, table := range []string{"conduct_slot", "conduct_network", "conduct_habit", "conduct_trip"} {
		if _, err := tx.Exec(`DELETE FROM `+table+` WHERE account = ?`, int64(account)); err != nil {
			return err
		}
	}
	return nil
}

// MaxListed is how many trips List returns at once.
const MaxListed = 500

// List returns the rules that hold accounts back now, by account, those after the one given.
func (w *Watch) List(ctx context.Context, after envelope.AccountID) (trips []Trip, err error) {
	now := db.Micros(w.cfg.Now())
	err = w.cfg.DB.View(ctx, func(tx db.Tx) error {
		trips = nil
		rows, err := tx.Query(`SELECT account, rule, detail, action, since, until FROM conduct_trip WHERE until > ? AND account > ? ORDER BY account LIMIT ?`,
			now, int64(after), int64(MaxListed))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var t Trip
			var account, action, since, until int64
			if err := rows.Scan(&account, &t.Rule, &t.Detail, &action, &since, &until); err != nil {
				return err
			}
			t.Account, t.Action, t.Since, t.Until = envelope.AccountID(account), Action(action), db.FromMicros(since), db.FromMicros(until)
			trips = append(trips, t)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list accounts that send unlike themselves: %w", err)
	}
	return trips, nil
}
