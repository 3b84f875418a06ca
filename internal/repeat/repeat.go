// Package repeat knows what accounts have handed in, so that a letter that a program sends
// once more, because it never saw the final reply, makes no second copy (RFC 5321 §4.5.3.2.6
// leaves such a client no other way, and RFC 1047 describes how it comes about).
package repeat

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
)

// DefaultKeep is how long a letter is known.
const DefaultKeep = 7 * 24 * time.Hour

// sweepEvery is how often what is too old is dropped.
const sweepEvery = time.Hour

// ErrRepeated is the error of Note when another transaction has taken the letter meanwhile.
var ErrRepeated = errors.New("the same letter was taken in another transaction just now")

// Schema is this package's table. key is a hash of account, letter and recipient, or of account
// and letter alone; at is µs UTC.
var Schema = db.Component{Name: "repeat", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE repeat (
	key {blob} NOT NULL PRIMARY KEY, id {blob} NOT NULL, at {int} NOT NULL) {rowid};
CREATE INDEX repeat_at ON repeat (at)`}}}

// Config builds a Register. DB is required.
type Config struct {
	DB     db.Database
	Keep   time.Duration    // how long a letter is known; 0 is DefaultKeep
	Now    func() time.Time // nil is time.Now
	Logger *slog.Logger     // nil discards
}

// Register knows letters by the account that handed them in, their octets, and their
// recipients. It is shared by all nodes on one database. Safe for concurrent use.
type Register struct{ c Config }

// New returns a Register; it does no I/O.
func New(c Config) (*Register, error) {
	if c.DB == nil {
		return nil, errors.New("repeat: DB is required")
	}
	if c.Keep < 0 {
		return nil, fmt.Errorf("repeat: letters can't be known for %v", c.Keep)
	}
	if c.Keep == 0 {
		c.Keep = DefaultKeep
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Register{c: c}, nil
}

// Letter is what is handed in.
type Letter struct {
	Account envelope.AccountID
	SHA256  [32]byte // of the octets as they came, Message-ID among them
}

// key is the row's for one recipient, "" for the letter as such.
func (l *Letter) key(recipient string) []byte {
	b := make([]byte, 0, 8+32+len(recipient))
	b = binary.BigEndian.AppendUint64(b, uint64(l.Account))
	b = append(b, l.SHA256[:]...)
	sum := sha256.Sum256(append(b, recipient...))
	return sum[:16]
}

// Before returns for each recipient the id under which the letter was taken for it, the zero id
// when it was not. A letter that was never seen costs one look-up.
func (r *Register) Before(ctx context.Context, l Letter, recipients []string) ([]message.ID, error) {
	ids := make([]message.ID, len(recipients))
	since := db.Micros(r.c.Now().Add(-r.c.Keep))
	err := r.c.DB.View(ctx, func(tx db.Tx) error {
		if _, err := find(tx, l.key(""), since); errors.Is(err, db.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		for i, to := range recipients {
			id, err := find(tx, l.key(to), since)
			if err != nil && !errors.Is(err, db.ErrNotFound) {
				return err
			}
			ids[i] = id
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look whether the letter was taken before: %w", err)
	}
	return ids, nil
}

func find(tx db.Tx, key []byte, since int64) (id message.ID, err error) {
	var b []byte
	if err := tx.QueryRow(`SELECT id FROM repeat WHERE key = ? AND at >= ?`, key, since).Scan(&b); err != nil {
		return id, err
	}
	if copy(id[:], b) != len(id) {
		return id, fmt.Errorf("row of a letter taken before has an id of %d octets", len(b))
	}
	return id, nil
}

// Note remembers, in the transaction that takes the letter, that it is taken for the recipients
// under id. ErrRepeated when a transaction that ran beside this one was first.
func (r *Register) Note(tx db.Tx, l Letter, recipients []string, id message.ID) error {
	now := r.c.Now()
	at, old := db.Micros(now), db.Micros(now.Add(-r.c.Keep))
	if _, err := tx.Exec(`INSERT INTO repeat (key, id, at) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET at = excluded.at`, l.key(""), id[:], at); err != nil {
		return fmt.Errorf("remember letter: %w", err)
	}
	for _, to := range recipients {
		// A row that is too old is as good as none.
		n, err := tx.Exec(`INSERT INTO repeat (key, id, at) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET id = excluded.id, at = excluded.at WHERE repeat.at < ?`, l.key(to), id[:], at, old)
		if err != nil {
			return fmt.Errorf("remember letter: %w", err)
		}
		if n == 0 {
			return ErrRepeated
		}
	}
	return nil
}

// Run drops what is too old until ctx ends. Several nodes may run it.
func (r *Register) Run(ctx context.Context) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
			r.c.Logger.Warn("letters handed in long ago stay known", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (r *Register) sweep(ctx context.Context) error {
	return db.DropWhere(ctx, r.c.DB, "repeat", "key", "at < ?", db.Micros(r.c.Now().Add(-r.c.Keep)))
}
