package fetch

import (
	"context"
	"errors"
	"fmt"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/store"
)

// Schema is the journal, for Config.Components of the store. key is 'u' and the unique-id, or for
// letters without one 'h' and their header's digest, or 's' and their hash. octets is the size that
// the server told; digest is of the header section and sha256 of all octets as they were fetched.
// compared says that sha256 is known to be of the whole letter on the server under this key.
// deleted and absent are µs UTC: when the server confirmed a deletion, and when the letter was first
// missing from the server's list.
var Schema = db.Component{Name: "mua-fetch", Steps: []db.Step{{Number: 1, SQL: `
CREATE TABLE fetched (
	account {int} NOT NULL, key {text} NOT NULL, octets {int} NOT NULL, letter {int} NOT NULL,
	at {int} NOT NULL, digest {blob} NOT NULL, sha256 {blob} NOT NULL, odd {int} NOT NULL,
	compared {int} NOT NULL, partial {int} NOT NULL, deleted {int} NOT NULL, absent {int} NOT NULL,
	PRIMARY KEY (account, key)) {rowid};
CREATE INDEX fetched_letter ON fetched (letter)`}}}

// row is what the journal knows of a letter on the server.
type row struct {
	key      string
	octets   int64
	letter   store.LetterID // 0 when it is not known
	at       int64          // when it was fetched
	digest   [16]byte
	sha256   [32]byte
	odd      bool // another number of octets came than the server told
	compared bool
	partial  bool // only its header section is here
	deleted  int64
	absent   int64
	fresh    bool // made in this fetch; not stored
}

// missing reports a letter that lies here and that the server does not list any more, though we
// did not delete it there.
func (w *row) missing() bool { return w.absent != 0 && w.deleted == 0 && w.letter != 0 }

type journal struct{ db db.Database }

// page is how many rows are read at once, and viewTries how often it is tried in half as many each time when its
// time was up, as when the machine stood still.
const (
	page      = 2000
	viewTries = 5
)

const columns = `key, octets, letter, at, digest, sha256, odd, compared, partial, deleted, absent`

// load reads the rows of an account.
func (j journal) load(ctx context.Context, account envelope.AccountID) (map[string]*row, error) {
	all := map[string]*row{}
	after, limit := "", page
	for slow := 0; ; {
		got, err := j.page(ctx, account, after, limit)
		if errors.Is(err, db.ErrTooLong) && slow < viewTries {
			slow, limit = slow+1, limit/2
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		for _, r := range got {
			all[r.key] = r
			after = r.key
		}
		if len(got) < limit {
			return all, nil
		}
	}
}

// page reads the rows that follow a key.
func (j journal) page(ctx context.Context, account envelope.AccountID, after string, limit int) (got []*row, err error) {
	err = j.db.View(ctx, func(tx db.Tx) error {
		got = got[:0]
		rows, err := tx.Query(`SELECT `+columns+` FROM fetched WHERE account = ? AND key > ? ORDER BY key LIMIT ?`, int64(account), after, int64(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r, err := scan(rows)
			if err != nil {
				return err
			}
			got = append(got, r)
		}
		return rows.Err()
	})
	return got, err
}

func scan(s db.Row) (*row, error) {
	r := &row{}
	var letter int64
	var digest, sum []byte
	if err := s.Scan(&r.key, &r.octets, &letter, &r.at, &digest, &sum, &r.odd, &r.compared, &r.partial, &r.deleted, &r.absent); err != nil {
		return nil, err
	}
	r.letter = store.LetterID(letter)
	copy(r.digest[:], digest)
	copy(r.sha256[:], sum)
	return r, nil
}

// ofLetter finds the row of a letter.
func (j journal) ofLetter(ctx context.Context, account envelope.AccountID, id store.LetterID) (r *row, err error) {
	err = j.db.View(ctx, func(tx db.Tx) error {
		r, err = scan(tx.QueryRow(`SELECT `+columns+` FROM fetched WHERE letter = ? AND account = ?`, int64(id), int64(account)))
		return err
	})
	if errors.Is(err, db.ErrNotFound) {
		return nil, fmt.Errorf("letter %d was not fetched for this account: %w", id, store.ErrNotFound)
	}
	return r, err
}

func (journal) put(tx db.Tx, account envelope.AccountID, r *row) error {
	_, err := tx.Exec(`INSERT INTO fetched (account, `+columns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, key) DO UPDATE SET octets = excluded.octets, letter = excluded.letter, at = excluded.at, digest = excluded.digest, sha256 = excluded.sha256,
		odd = excluded.odd, compared = excluded.compared, partial = excluded.partial, deleted = excluded.deleted, absent = excluded.absent`,
		int64(account), r.key, r.octets, int64(r.letter), r.at, r.digest[:], r.sha256[:], r.odd, r.compared, r.partial, r.deleted, r.absent)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func (journal) drop(tx db.Tx, account envelope.AccountID, key string) error {
	if _, err := tx.Exec(`DELETE FROM fetched WHERE account = ? AND key = ?`, int64(account), key); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// forget drops the rows of an account.
func (j journal) forget(ctx context.Context, account envelope.AccountID) error {
	return db.DropWhere(ctx, j.db, "fetched", "key", "account = ?", int64(account))
}
