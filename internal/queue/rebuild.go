package queue

import (
	"fmt"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// HoldAll puts every recipient on hold until an operator releases it, in
// the caller's transaction, and returns how many. It is for store rebuild, which
// can't tell what was sent since.
func (q *Queue) HoldAll(tx db.Tx) (int64, error) {
	n, err := tx.Exec(`UPDATE queued_recipient SET state = ? WHERE state <> ?`, int64(Held), int64(Held))
	if err != nil {
		return 0, fmt.Errorf("hold queue: %w", err)
	}
	return n, nil
}

// Forget takes a message that was finished from the queue, whatever its
// recipients are, and reports whether it was there. The caller releases its body.
func (q *Queue) Forget(tx db.Tx, id message.ID) (bool, error) {
	if _, err := tx.Exec(`DELETE FROM queued_recipient WHERE id = ?`, id[:]); err != nil {
		return false, fmt.Errorf("forget queued message %s: %w", id, err)
	}
	n, err := tx.Exec(`DELETE FROM queued_message WHERE id = ?`, id[:])
	if err != nil {
		return false, fmt.Errorf("forget queued message %s: %w", id, err)
	}
	return n > 0, nil
}
