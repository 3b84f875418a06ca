package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// forwards is whether an account forwards its mail; numbers are stored.
type forwards int64

const (
	forwardsNot  forwards = 0
	forwardsAway forwards = 1 // without a copy in the mailbox
	forwardsKeep forwards = 2
)

// forwarding is what the account's row says of it.
type forwarding struct {
	how     forwards
	primary string // the account's primary address
}

// Forward is where an account's mail is forwarded to.
type Forward struct {
	Keep    bool // a copy stays in the mailbox
	Targets []ForwardTarget
}

// ForwardTarget is one of the addresses.
type ForwardTarget struct {
	Address   address.Address
	Suspended time.Time // since when it gets nothing; zero while it does
	Reason    string    // the last failure that has led to it
}

// SuspendedForward is a target of an alias or account that gets nothing.
type SuspendedForward struct {
	Source string // as Forwarder.Source
	Alias  bool
	Target ForwardTarget
}

// SetForward has an account's mail forwarded to targets, in place of those it had,
// with or without a copy in the mailbox. Targets get mail again if they were suspended.
// Errors: ErrNotFound, ErrInvalid, ErrUnknownUser (a target in a domain of ours), ErrLoop
// (a target that leads back to the account).
func (a *Accounts) SetForward(ctx context.Context, id envelope.AccountID, targets []address.Address, keep bool) error {
	if len(targets) == 0 || len(targets) > MaxForwardTargets {
		return fmt.Errorf("forward %w: give 1 to %d targets", ErrInvalid, MaxForwardTargets)
	}
	how := forwardsAway
	if keep {
		how = forwardsKeep
	}
	return a.update(ctx, func(tx db.Tx) error {
		if err := changeRow(tx, id, `forwards = ?`, int64(how)); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM account_forward WHERE account = ?`, int64(id)); err != nil {
			return err
		}
		for _, t := range targets {
			_, err := tx.Exec(`INSERT INTO account_forward (account, name, written, suspended, reason) VALUES (?, ?, ?, 0, '') ON CONFLICT (account, name) DO NOTHING`,
				int64(id), t.Key(), t.String())
			if err == nil {
				err = a.checkForward(tx, id, t)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// checkForward routes a target: what leads nowhere or back is refused while somebody is
// looking.
func (a *Accounts) checkForward(tx db.Tx, id envelope.AccountID, target address.Address) error {
	r := newRouter(a, tx)
	r.via[id] = true // its own forward is not followed: a way back ends in its mailbox
	_, err := r.resolve(target, 1, Forwarder{})
	switch {
	case r.has[id] || errors.Is(err, ErrLoop):
		return fmt.Errorf("forward to %s: it leads back to the account itself, where a copy is kept if that is asked for: %w", target, ErrLoop)
	case err != nil && !errors.Is(err, ErrDisabled):
		return fmt.Errorf("forward to %w", err)
	}
	return nil
}

// RemoveForward ends an account's forwarding: its mail stays in the mailbox. ErrNotFound.
func (a *Accounts) RemoveForward(ctx context.Context, id envelope.AccountID) error {
	return a.update(ctx, func(tx db.Tx) error {
		if err := changeRow(tx, id, `forwards = ?`, int64(forwardsNot)); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM account_forward WHERE account = ?`, int64(id))
		return err
	})
}

// ResumeForward lets suspended targets of an account get mail again, and says how many.
// ErrNotFound is an account that is not there.
func (a *Accounts) ResumeForward(ctx context.Context, id envelope.AccountID) (resumed int64, err error) {
	err = a.update(ctx, func(tx db.Tx) (err error) {
		if err := changeRow(tx, id, `version = version`); err != nil {
			return err
		}
		resumed, err = tx.Exec(`UPDATE account_forward SET suspended = 0, reason = '' WHERE account = ? AND suspended <> 0`, int64(id))
		return err
	})
	return resumed, err
}

// SuspendForward suspends a target of an alias or account, as Forwarder.Source names it.
// It reports whether there was such a target that still got mail.
func (a *Accounts) SuspendForward(ctx context.Context, source string, target address.Address, reason string) (suspended bool, err error) {
	alias, err := ParseAlias(source)
	if err != nil {
		return false, fmt.Errorf("forward of %.80q %w: %w", source, ErrInvalid, err)
	}
	now, reason := db.Micros(a.config.Now()), db.Text(reason)
	err = a.update(ctx, func(tx db.Tx) error {
		n, err := tx.Exec(`UPDATE account_target SET suspended = ?, reason = ? WHERE source = ? AND name = ? AND suspended = 0`, now, reason, alias.Key(), target.Key())
		if err == nil && n == 0 {
			n, err = tx.Exec(`UPDATE account_forward SET suspended = ?, reason = ? WHERE name = ? AND suspended = 0
				AND account = (SELECT account FROM account_name WHERE name = ? AND account <> 0)`, now, reason, target.Key(), alias.Key())
		}
		suspended = n > 0
		return err
	})
	return suspended, err
}

// Forward returns an account's forwarding; without any, no targets.
func (a *Accounts) Forward(ctx context.Context, id envelope.AccountID) (f Forward, err error) {
	err = a.db.View(ctx, func(tx db.Tx) error {
		f = Forward{}
		var how int64
		if err := tx.QueryRow(`SELECT forwards FROM account WHERE id = ?`, int64(id)).Scan(&how); err != nil {
			return notFound(err, "account %d", id)
		}
		f.Keep = forwards(how) == forwardsKeep
		return each(tx, `SELECT written, suspended, reason FROM account_forward WHERE account = ? ORDER BY name`, []any{int64(id)}, func(scan scanFunc) error {
			t, err := scanTarget(scan)
			f.Targets = append(f.Targets, t)
			return err
		})
	})
	return f, err
}

func scanTarget(scan scanFunc, before ...any) (t ForwardTarget, err error) {
	var text string
	var since int64
	if err = scan(append(before, &text, &since, &t.Reason)...); err != nil {
		return t, err
	}
	t.Suspended = db.FromMicros(since)
	t.Address, err = address.Parse(text)
	return t, err
}

// SuspendedForwards lists the targets that are suspended, n at most, for people to look at.
func (a *Accounts) SuspendedForwards(ctx context.Context, n int) (list []SuspendedForward, err error) {
	if n <= 0 || n > MaxPageRows {
		n = MaxPageRows
	}
	err = a.db.View(ctx, func(tx db.Tx) error {
		list = nil
		for _, q := range []struct {
			alias bool
			query string
		}{
			{false, `SELECT c.address, f.written, f.suspended, f.reason FROM account_forward f JOIN account c ON c.id = f.account WHERE f.suspended <> 0 ORDER BY c.address, f.name LIMIT ?`},
			{true, `SELECT n.written, t.written, t.suspended, t.reason FROM account_target t JOIN account_name n ON n.name = t.source WHERE t.suspended <> 0 ORDER BY t.source, t.name LIMIT ?`},
		} {
			err := each(tx, q.query, []any{int64(n - len(list))}, func(scan scanFunc) error {
				s := SuspendedForward{Alias: q.alias}
				var err error
				s.Target, err = scanTarget(scan, &s.Source)
				list = append(list, s)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

// liveForwards are the targets of an account that get mail.
func liveForwards(tx db.Tx, id envelope.AccountID) (targets []address.Address, err error) {
	err = each(tx, `SELECT written FROM account_forward WHERE account = ? AND suspended = 0 ORDER BY name`, []any{int64(id)}, func(scan scanFunc) error {
		var text string
		if err := scan(&text); err != nil {
			return err
		}
		t, err := address.Parse(text)
		targets = append(targets, t)
		return err
	})
	return targets, err
}
