// Package vacation is what out-of-office replies need: to whom they may go, whom one
// went to and when, and their text (RFC 3834, RFC 5230 §4). What an account has set up is
// in package account; how a reply is sent is package report's matter.
package vacation

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
)

// MaxPerDay is how many replies an account sends within 24 hours.
const MaxPerDay = 100

// Away is a recipient of a message whose account has out-of-office replies set up.
type Away struct {
	Recipient envelope.Recipient // as the sender wrote it
	Local     account.Local
	// Personal says that the recipient's address leads to this account alone, and to what it
	// forwards to itself, and is no catch-all.
	Personal bool
}

// Schema is the tables of this package: the last reply of an account to a sender, whose
// address is hashed. Rows older than account.MaxVacationDays are removed as others come,
// so that there are MaxPerDay × MaxVacationDays of an account at most.
var Schema = db.Component{Name: "vacation", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE vacation_answer (
	account {int} NOT NULL, sender {blob} NOT NULL, answered {int} NOT NULL,
	PRIMARY KEY (account, sender)) {rowid};
CREATE INDEX vacation_answered ON vacation_answer (answered);
CREATE INDEX vacation_answered_by ON vacation_answer (account, answered)`}}}

// Config builds a Memory. DB is required.
type Config struct {
	DB  db.Database
	Now func() time.Time // default time.Now
}

// Memory knows who was answered when. Safe for concurrent use, by several nodes too.
type Memory struct{ c Config }

// New returns a Memory; it does no I/O.
func New(c Config) (*Memory, error) {
	if c.DB == nil {
		return nil, errors.New("vacation: DB is required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Memory{c: c}, nil
}

// Claim reports whether an account is to answer a sender now, and remembers that it did:
// once in v.Days and since v was set up, and MaxPerDay times a day to all together. Of
// callers at the same time one is told so.
func (m *Memory) Claim(ctx context.Context, id envelope.AccountID, to address.Address, v account.Vacation) (yes bool, err error) {
	now := m.c.Now()
	before := now.Add(-time.Duration(v.Days) * 24 * time.Hour)
	if v.Changed.After(before) {
		before = v.Changed
	}
	sum := sha256.Sum256([]byte(to.Key()))
	err = m.c.DB.Update(ctx, func(tx db.Tx) error {
		if _, err := tx.Exec(`DELETE FROM vacation_answer WHERE answered < ?`, db.Micros(now.Add(-account.MaxVacationDays*24*time.Hour))); err != nil {
			return err
		}
		var today int64
		err := tx.QueryRow(`SELECT COUNT(*) FROM vacation_answer WHERE account = ? AND answered > ?`, int64(id), db.Micros(now.Add(-24*time.Hour))).Scan(&today)
		if yes = false; err != nil || today >= MaxPerDay {
			return err
		}
		n, err := tx.Exec(`INSERT INTO vacation_answer (account, sender, answered) VALUES (?, ?, ?)
			ON CONFLICT (account, sender) DO UPDATE SET answered = excluded.answered WHERE vacation_answer.answered < ?`,
			int64(id), sum[:16], db.Micros(now), db.Micros(before))
		yes = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("remember reply of account %d: %w", id, err)
	}
	return yes, nil
}
