package body

import (
	"errors"
	"fmt"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// Release takes one reference from a body in the caller's transaction. dead
// reports that it was the last: the row is gone, and after the commit the caller
// tells Store.Remove. A body without a row is not an error and not dead. Callers
// that release several bodies in one transaction do so in order of id.
func Release(tx db.Tx, id message.ID) (dead bool, err error) {
	const drop = `DELETE FROM body WHERE id = ? AND refs <= 1`
	n, err := tx.Exec(drop, id[:])
	if err != nil || n > 0 {
		return n > 0, wrapRelease(id, err)
	}
	var refs int64
	err = tx.QueryRow(`UPDATE body SET refs = refs - 1 WHERE id = ? RETURNING refs`, id[:]).Scan(&refs)
	if errors.Is(err, db.ErrNotFound) {
		return false, nil
	}
	if err != nil || refs > 0 {
		return false, wrapRelease(id, err)
	}
	// Another transaction released it between the two statements.
	n, err = tx.Exec(drop, id[:])
	return n > 0, wrapRelease(id, err)
}

func wrapRelease(id message.ID, err error) error {
	if err != nil {
		return fmt.Errorf("release body %s: %w", id, err)
	}
	return nil
}
