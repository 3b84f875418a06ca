package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// Limits of a Vacation.
const (
	MaxVacationSubjectOctets = 200
	MaxVacationTextOctets    = 8 << 10
	DefaultVacationDays      = 7
	MaxVacationDays          = 60
)

// Vacation is an account's out-of-office reply.
type Vacation struct {
	From, Until time.Time // when replies are sent; zero is without a bound
	Subject     string    // "" is "Auto: " and the subject of the message
	Text        string    // lines end with LF; "" is a text of ours in the account's language
	Days        int       // within which a sender gets one reply; 0 is DefaultVacationDays
	Changed     time.Time // by SetVacation, which fills it in
}

// Active reports whether replies are sent at now.
func (v Vacation) Active(now time.Time) bool {
	return (v.From.IsZero() || !now.Before(v.From)) && (v.Until.IsZero() || now.Before(v.Until))
}

func (v *Vacation) check() error {
	if v.Days == 0 {
		v.Days = DefaultVacationDays
	}
	var errs []error
	complain := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("vacation %w: "+format, append([]any{ErrInvalid}, args...)...))
		}
	}
	complain(v.Days < 1 || v.Days > MaxVacationDays, "give 1 to %d days", MaxVacationDays)
	complain(!v.Until.IsZero() && !v.From.Before(v.Until), "it ends before it begins")
	complain(len(v.Text) > MaxVacationTextOctets, "the text has %d octets, at most %d are allowed", len(v.Text), MaxVacationTextOctets)
	complain(db.Text(v.Text) != v.Text, "the text is not UTF-8")
	v.Text = strings.ReplaceAll(v.Text, "\r\n", "\n")
	complain(strings.ContainsFunc(v.Text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f }), "the text holds control characters")
	errs = append(errs, checkText("subject", v.Subject, MaxVacationSubjectOctets))
	return errors.Join(errs...)
}

// SetVacation sets an account's out-of-office reply in place of the one it had. Errors:
// ErrNotFound, ErrInvalid.
func (a *Accounts) SetVacation(ctx context.Context, id envelope.AccountID, v Vacation) error {
	if err := v.check(); err != nil {
		return err
	}
	return a.update(ctx, func(tx db.Tx) error {
		if err := changeRow(tx, id, `vacation = 1`); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO account_vacation (account, starts, ends, subject, body, days, changed) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (account) DO UPDATE SET starts = excluded.starts, ends = excluded.ends, subject = excluded.subject, body = excluded.body, days = excluded.days, changed = excluded.changed`,
			int64(id), db.Micros(v.From), db.Micros(v.Until), v.Subject, v.Text, int64(v.Days), db.Micros(a.config.Now()))
		return err
	})
}

// RemoveVacation ends out-of-office replies. ErrNotFound.
func (a *Accounts) RemoveVacation(ctx context.Context, id envelope.AccountID) error {
	return a.update(ctx, func(tx db.Tx) error {
		if err := changeRow(tx, id, `vacation = 0`); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM account_vacation WHERE account = ?`, int64(id))
		return err
	})
}

// Vacation returns an account's out-of-office reply. ErrNotFound when none is set up.
func (a *Accounts) Vacation(ctx context.Context, id envelope.AccountID) (v Vacation, err error) {
	err = a.db.View(ctx, func(tx db.Tx) error {
		var from, until, days, changed int64
		err := tx.QueryRow(`SELECT starts, ends, subject, body, days, changed FROM account_vacation WHERE account = ?`, int64(id)).
			Scan(&from, &until, &v.Subject, &v.Text, &days, &changed)
		v.From, v.Until, v.Days, v.Changed = db.FromMicros(from), db.FromMicros(until), int(days), db.FromMicros(changed)
		return notFound(err, "out-of-office reply of account %d", id)
	})
	return v, err
}
