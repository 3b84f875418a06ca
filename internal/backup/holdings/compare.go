package holdings

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// Compared is what Compare found.
type Compared struct {
	Messages  int64 `json:"messages"` // bodies read and found as they were
	Octets    int64 `json:"octets"`
	Missing   int64 `json:"missing"`    // in the backup, but not in the store
	Different int64 `json:"different"`  // with another hash
	Rows      int64 `json:"rows"`       // of tables, in the backup
	RowsShort int64 `json:"rows_short"` // how many fewer the store has
}

// Compare reads a store that was restored from a snapshot, and that nobody has used
// since, and compares the hash of each message and the number of rows of each table
// with the snapshot. What the backup itself has not is not counted.
func Compare(ctx context.Context, r *backup.Repository, s *backup.Snapshot, d db.Database, b body.Store) (done Compared, err error) {
	f, err := readFacts(s)
	if err != nil {
		return done, err
	}
	lost := false
	buf := make([]byte, 64<<10)
	err = r.Items(ctx, s, sectionBodies, nil, nil, func(it backup.Stored) error {
		if lost = lost || it.Lost; it.Lost || len(it.Key) != len(message.ID{}) {
			return nil
		}
		sum, n, err := hash(ctx, b, message.ID(it.Key), buf)
		switch {
		case errors.Is(err, body.ErrNotFound):
			done.Missing++
		case errors.Is(err, body.ErrDamaged) || err == nil && sum != it.SHA256:
			done.Different++
		case err != nil:
			return err
		default:
			done.Messages++
			done.Octets += n
		}
		return nil
	})
	here, herr := db.Tables(ctx, d)
	err = errors.Join(err, herr)
	for _, t := range f.Tables {
		if err != nil {
			break
		}
		if _, err = knownTable(here, t); err != nil {
			break
		}
		want, _ := s.Items(tablePrefix + t.Name)
		var got int64
		err = d.View(ctx, func(tx db.Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM ` + t.Name).Scan(&got) })
		done.Rows += want
		if done.RowsShort += max(0, want-got); lost && want > got { // entries of lost messages are dropped
			done.RowsShort -= want - got
		}
	}
	if err != nil {
		return done, fmt.Errorf("compare restored store with backup %s: %w", s.ID, err)
	}
	return done, nil
}

func hash(ctx context.Context, b body.Store, id message.ID, buf []byte) (sum [32]byte, n int64, err error) {
	rd, err := b.Open(ctx, id, 0, -1)
	if err != nil {
		return sum, 0, err
	}
	defer rd.Close()
	h := sha256.New()
	n, err = io.CopyBuffer(h, struct{ io.Reader }{rd}, buf)
	return [32]byte(h.Sum(nil)), n, err
}
