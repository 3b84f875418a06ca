package queue

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/trace"
)

// Outcome is what became of an attempt for one recipient.
type Outcome uint8

// The outcomes. Relayed, Returned and Dropped are final.
const (
	Relayed  Outcome = 1 + iota // a remote MTA took it
	Returned                    // given up; a report was made, or none may be
	Dropped                     // discarded by a named rule
	Deferred                    // to be tried again at Next
	Warned                      // a delay was reported; all else stays as it is
)

// String returns the outcome's word, as in metrics.
func (o Outcome) String() string {
	switch o {
	case Relayed:
		return "relayed"
	case Returned:
		return "returned"
	case Dropped:
		return "dropped"
	case Deferred:
		return "deferred"
	case Warned:
		return "warned"
	}
	return "unknown"
}

// fate is the state of the trace that an outcome leads to; 0 for none.
func (o Outcome) fate() trace.State {
	switch o {
	case Relayed:
		return trace.Relayed
	case Returned:
		return trace.Bounced
	case Dropped:
		return trace.Discarded
	}
	return 0
}

// Result is the outcome for one recipient of a job.
type Result struct {
	ID       message.ID
	N        int
	Outcome  Outcome
	At       time.Time // when it became known
	Next     time.Time // Deferred: the next attempt
	Status   string    // the reply as text, or our own words
	Host     string    // the host that gave it, "" for none
	TLS      string    // as in "TLS1.3 DANE", "" for plaintext
	Dialogue []byte    // of a failed attempt, as trace.PackDialogue makes it; nil for none
}

// detail is the result in a line of the trace.
func (r *Result) detail() string {
	return trace.Attempt{Host: r.Host, TLS: r.TLS, Status: r.Status}.Detail()
}

// NotAppliedError is returned by SettleTx for results whose recipients are settled
// already or are not this node's any more: what was to be said about them must not be said.
type NotAppliedError struct{ Results []Result }

// Error names how many and the first.
func (e *NotAppliedError) Error() string {
	return fmt.Sprintf("%d recipients are settled already or no longer this node's, the first is %d of message %s", len(e.Results), e.Results[0].N, e.Results[0].ID)
}

// settleRows is how many results one transaction of Settle takes.
const settleRows = 200

// check refuses a number that is no outcome.
func (o Outcome) check() error {
	if o < Relayed || o > Warned {
		return fmt.Errorf("settle: outcome %d is none", uint8(o))
	}
	return nil
}

// Settle writes results of jobs in few transactions, ends the flight of their recipients,
// and releases the bodies of messages whose last recipient has left. It may be called
// again with the same results after an error: what was applied is passed over. A result
// is not applied when the recipient is settled already or, except for Relayed, when another
// node has taken the destination over; a late Relayed of a recipient that is gone is kept as
// an event of the trace.
func (n *Node) Settle(ctx context.Context, results []Result) error {
	for part := range slices.Chunk(sorted(results), settleRows) {
		var done *settlement
		err := n.q.cfg.DB.Update(ctx, func(tx db.Tx) (err error) {
			done, err = n.apply(tx, part)
			return err
		})
		if err != nil {
			return fmt.Errorf("settle %d recipients: %w", len(part), err)
		}
		done.committed()
	}
	return nil
}

// SettleTx is Settle inside another's transaction, as a report's Accept is. It may run
// more than once. A result that can't be applied is a *NotAppliedError, which ends
// that transaction; the caller gives Settle the rest. after is called once the transaction has committed.
func (n *Node) SettleTx(tx db.Tx, results []Result) (after func(), err error) {
	done, err := n.apply(tx, sorted(results))
	if err != nil {
		return nil, err
	}
	if len(done.passed) > 0 {
		return nil, &NotAppliedError{Results: done.passed}
	}
	return done.committed, nil
}

// sorted is the results in order of recipients, as rows are locked.
func sorted(results []Result) []Result {
	results = slices.Clone(results)
	slices.SortStableFunc(results, func(a, b Result) int {
		return cmp.Or(bytes.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.N, b.N))
	})
	return results
}

// settlement is what one transaction has done.
type settlement struct {
	n       *Node
	landed  []rowKey
	counts  [Warned + 1]int
	passed  []Result // not applied
	removal removal
}

// committed tells the others.
func (s *settlement) committed() {
	s.n.land(s.landed, true)
	s.n.q.left(&s.removal)
	if hook := s.n.q.cfg.Hooks.Settled; hook != nil {
		for o, count := range s.counts {
			if count > 0 {
				hook(Outcome(o), count)
			}
		}
	}
	if len(s.passed) > 0 {
		s.n.q.cfg.Logger.Warn("results of recipients that are settled already or taken over", "count", len(s.passed), "queue_id", s.passed[0].ID.String())
	}
}

// apply writes results, which are in order.
func (n *Node) apply(tx db.Tx, results []Result) (*settlement, error) {
	s := &settlement{n: n}
	for i := 0; i < len(results); {
		id, gone := results[i].ID, 0
		for ; i < len(results) && results[i].ID == id; i++ {
			r := &results[i]
			applied, err := n.applyOne(tx, r)
			if err != nil {
				return nil, fmt.Errorf("settle recipient %d of message %s: %w", r.N, id, err)
			}
			if r.Outcome != Warned {
				s.landed = append(s.landed, rowKey{id, r.N})
			}
			switch {
			case !applied:
				s.passed = append(s.passed, *r)
				continue
			case r.Outcome.fate() != 0:
				gone++
			}
			s.counts[r.Outcome]++
		}
		if err := leave(tx, id, gone, &s.removal); err != nil {
			return nil, fmt.Errorf("settle message %s: %w", id, err)
		}
	}
	return s, nil
}

// ours is the condition that the recipient's shard is on lease to an incarnation.
const ours = ` AND EXISTS (SELECT 1 FROM queued_shard s WHERE s.destination = queued_recipient.destination AND s.shard = queued_recipient.shard AND s.incarnation = ?)`

// applyOne writes one result and reports whether the recipient was there to be changed.
func (n *Node) applyOne(tx db.Tx, r *Result) (bool, error) {
	if err := r.Outcome.check(); err != nil {
		return false, err
	}
	if r.Outcome == Warned {
		return n.warn(tx, r)
	}
	n.mu.Lock()
	f, flies := n.inFlight[rowKey{r.ID, r.N}]
	n.mu.Unlock()
	if !flies {
		return false, nil
	}
	if r.Outcome == Deferred {
		changed, err := tx.Exec(`UPDATE queued_recipient SET attempts = attempts + 1, next_attempt = ?, last_status = ? WHERE id = ? AND n = ? AND attempts = ?`+ours,
			db.Micros(r.Next), db.Text(r.Status), r.ID[:], r.N, f.attempts, n.incarnation)
		if err != nil || changed == 0 {
			return false, err
		}
		return true, n.record(tx, r, f.fate)
	}
	if r.Outcome == Relayed {
		changed, err := tx.Exec(`DELETE FROM queued_recipient WHERE id = ? AND n = ?`, r.ID[:], r.N)
		if err == nil && changed == 0 {
			return false, n.event(tx, r, f.fate) // it went out nevertheless
		}
		if err != nil {
			return false, err
		}
	} else {
		changed, err := tx.Exec(`DELETE FROM queued_recipient WHERE id = ? AND n = ?`+ours, r.ID[:], r.N, n.incarnation)
		if err != nil || changed == 0 {
			return false, err
		}
	}
	return true, n.record(tx, r, f.fate)
}

// warn marks a recipient whose delay was reported.
func (n *Node) warn(tx db.Tx, r *Result) (bool, error) {
	var fate int64
	err := tx.QueryRow(`UPDATE queued_recipient SET warned = 1 WHERE id = ? AND n = ? AND warned = 0 RETURNING fate`, r.ID[:], r.N).Scan(&fate)
	if errors.Is(err, db.ErrNotFound) {
		return false, nil
	}
	if err != nil || n.q.cfg.Trace == nil {
		return err == nil, err
	}
	return true, n.q.cfg.Trace.Note(tx, r.ID, trace.Event{At: r.At, N: int(fate), Kind: "delay", Detail: r.detail()})
}

// record writes the fate of a final outcome, or the event of an attempt, and the dialogue.
func (n *Node) record(tx db.Tx, r *Result, fate int) error {
	if n.q.cfg.Trace == nil {
		return nil
	}
	var err error
	if state := r.Outcome.fate(); state != 0 {
		err = n.q.settleFate(tx, r.ID, fate, state, r.detail(), r.At)
	} else {
		err = n.event(tx, r, fate)
	}
	if err == nil && len(r.Dialogue) > 0 {
		err = n.q.cfg.Trace.NoteDialogue(tx, r.ID, fate, r.At, r.Dialogue)
	}
	return err
}

// event notes an attempt.
func (n *Node) event(tx db.Tx, r *Result, fate int) error {
	if n.q.cfg.Trace == nil {
		return nil
	}
	return n.q.cfg.Trace.Note(tx, r.ID, trace.Event{At: r.At, N: fate, Kind: trace.KindAttempt, Detail: r.detail()})
}

// settleFate writes a fate; a message that the trace has dropped already is no error.
func (q *Queue) settleFate(tx db.Tx, id message.ID, fate int, state trace.State, detail string, at time.Time) error {
	if q.cfg.Trace == nil {
		return nil
	}
	err := q.cfg.Trace.Settle(tx, id, fate, state, detail, at)
	if errors.Is(err, trace.ErrNotFound) {
		return nil
	}
	return err
}

// removal is what one transaction has taken from the queue.
type removal struct {
	recipients     int
	finished, dead []message.ID
}

// left tells, after the commit, of messages that left.
func (q *Queue) left(r *removal) {
	if len(r.finished) > 0 {
		q.cfg.Finished(r.finished, r.dead)
	}
}

// leave takes gone recipients off a message's count, and with the last one its row and its
// reference to the body. Recipients' rows are deleted by the caller, in the same transaction.
func leave(tx db.Tx, id message.ID, gone int, done *removal) error {
	if gone == 0 {
		return nil
	}
	done.recipients += gone
	last, err := tx.Exec(`DELETE FROM queued_message WHERE id = ? AND recipients <= ?`, id[:], gone)
	if err != nil {
		return err
	}
	if last == 0 {
		var left int64
		err = tx.QueryRow(`UPDATE queued_message SET recipients = recipients - ? WHERE id = ? RETURNING recipients`, gone, id[:]).Scan(&left)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil || left > 0 {
			return err
		}
		// Another transaction took the others between the two statements.
		if _, err := tx.Exec(`DELETE FROM queued_message WHERE id = ? AND recipients <= 0`, id[:]); err != nil {
			return err
		}
	}
	dead, err := body.Release(tx, id)
	if err != nil {
		return err
	}
	done.finished = append(done.finished, id)
	if dead {
		done.dead = append(done.dead, id)
	}
	return nil
}
