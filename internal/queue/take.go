package queue

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/message"
)

// Limits of taking.
const (
	MaxTake     = 500    // recipients of one Take
	MaxInFlight = 20_000 // recipients that a node has taken and neither settled nor returned
)

// Job is recipients of one message at one destination, to be tried together. A recipient whose
// State is Returning is not tried: relay returns it, with Reason.
type Job struct {
	Message     Message // without recipients
	Destination string  // "" in the jobs of Overdue, whose recipients may have several
	Recipients  []Recipient
}

// Take returns at most limit (and MaxTake) recipients of a claim that are due,
// those that an operator has returned first, then by priority and time,
// grouped by message in that order. They are in flight until Settle or Return, and not taken again
// before. Fewer than limit mean that no other is due now (MaxInFlight apart). A destination that was suspended or whose host went down
// meanwhile gives only returned ones. ErrLeaseLost when the lease or the claim is not valid.
func (n *Node) Take(ctx context.Context, c Claim, limit int) ([]Job, error) {
	return n.read(ctx, c, limit, func(tx db.Tx, want int) ([]taken, error) {
		all, err := dueRows(tx, c.unit(), Returning, math.MaxInt64, want)
		if err != nil || len(all) >= want {
			return all, err
		}
		now := n.q.micros()
		h, err := readHost(tx, c.Destination)
		if err != nil || h.blocked(now) {
			return all, err
		}
		waiting, err := dueRows(tx, c.unit(), Waiting, now, want-len(all))
		return append(all, waiting...), err
	})
}

// taken is a recipient with the id of its message.
type taken struct {
	id message.ID
	r  Recipient
}

// read runs a reading of the claim's rows and makes jobs of those that are not in flight.
func (n *Node) read(ctx context.Context, c Claim, limit int, rows func(tx db.Tx, want int) ([]taken, error)) ([]Job, error) {
	h, flying, room, err := n.begin(c)
	if err != nil {
		return nil, err
	}
	limit = min(limit, MaxTake, room)
	if limit <= 0 {
		n.end(c, h, nil, 0)
		return nil, nil
	}
	var all []taken
	facts := make(map[message.ID]Message)
	err = n.q.cfg.DB.View(ctx, func(tx db.Tx) error {
		if all, err = rows(tx, limit+flying); err != nil {
			return err
		}
		all = n.fresh(h, all, limit)
		clear(facts)
		return readFacts(tx, all, facts)
	})
	if err != nil {
		n.end(c, h, nil, 0)
		return nil, fmt.Errorf("take recipients for %s: %w", c.Destination, err)
	}
	return group(c.Destination, n.end(c, h, all, limit), facts), nil
}

// begin starts a reading of a claim's rows.
func (n *Node) begin(c Claim) (h *held, flying, room int, err error) {
	if !n.Valid() {
		return nil, 0, 0, ErrLeaseLost
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if h = n.held[c.unit()]; h == nil {
		return nil, 0, 0, fmt.Errorf("destination %s is not claimed: %w", c.Destination, ErrLeaseLost)
	}
	h.taking++
	return h, h.flying, MaxInFlight - len(n.inFlight), nil
}

// fresh leaves of all at most limit that nobody has.
func (n *Node) fresh(h *held, all []taken, limit int) []taken {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.freshLocked(h, all, limit)
}

func (n *Node) freshLocked(h *held, all []taken, limit int) []taken {
	kept := all[:0]
	for _, t := range all {
		key := rowKey{t.id, t.r.N}
		if _, flies := n.inFlight[key]; !flies && !h.settled[key] && len(kept) < limit {
			kept = append(kept, t)
		}
	}
	return kept
}

// end finishes a reading: what is still fresh is in flight from now on. What was settled while the
// rows were read is not: the reading may have seen it as it was.
func (n *Node) end(c Claim, h *held, all []taken, limit int) []taken {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held[c.unit()] != h {
		all = nil // released by another goroutine
	}
	all = n.freshLocked(h, all, limit)
	for _, t := range all {
		n.inFlight[rowKey{t.id, t.r.N}] = flight{unit: c.unit(), attempts: t.r.Attempts, fate: t.r.Fate}
	}
	h.flying += len(all)
	if h.taking--; h.taking == 0 {
		h.settled = nil
	}
	return all
}

// land ends the flight of recipients.
func (n *Node) land(keys []rowKey, settled bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, key := range keys {
		f, flies := n.inFlight[key]
		if !flies {
			continue
		}
		delete(n.inFlight, key)
		h := n.held[f.unit]
		if h == nil {
			continue
		}
		h.flying--
		if settled && h.taking > 0 {
			if h.settled == nil {
				h.settled = make(map[rowKey]bool)
			}
			h.settled[key] = true
		}
	}
}

// Return gives jobs back that were not attempted: their recipients are due as before.
func (n *Node) Return(jobs ...Job) {
	var keys []rowKey
	for i := range jobs {
		for k := range jobs[i].Recipients {
			keys = append(keys, rowKey{jobs[i].Message.ID, jobs[i].Recipients[k].N})
		}
	}
	n.land(keys, false)
}

// dueRows reads at most limit recipients of u in a state that are due until a moment,
// by priority and time. Each priority is one short walk of the index.
func dueRows(tx db.Tx, u unit, state State, until int64, limit int) ([]taken, error) {
	var all []taken
	for most := 127; len(all) < limit; {
		priority, more, err := nextPriority(tx, u, state, most)
		if err != nil || !more {
			return all, err
		}
		rows, err := tx.Query(`SELECT `+recipientColumns+` FROM queued_recipient r WHERE r.destination = ? AND r.shard = ? AND r.state = ? AND r.priority = ? AND r.next_attempt <= ?
			ORDER BY r.next_attempt, r.id, r.n LIMIT ?`, u.destination, u.shard, int64(state), int64(priority), until, limit-len(all))
		if err != nil {
			return nil, err
		}
		if all, err = scanTaken(rows, all); err != nil {
			return nil, err
		}
		most = priority - 1
	}
	return all, nil
}

// scanTaken adds the rows to all and closes them.
func scanTaken(rows db.Rows, all []taken) ([]taken, error) {
	defer rows.Close()
	for rows.Next() {
		id, r, err := scanRecipient(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, taken{id, r})
	}
	return all, rows.Err()
}

// factsAtOnce are the lengths of lists that one query asks for, so that few statements exist.
var factsAtOnce = [...]int{1, 4, 16, 64}

// readFacts reads the messages of recipients.
func readFacts(tx db.Tx, all []taken, facts map[message.ID]Message) error {
	ids := make([]message.ID, 0, len(all))
	for i := range all {
		ids = append(ids, all[i].id)
	}
	slices.SortFunc(ids, func(a, b message.ID) int { return bytes.Compare(a[:], b[:]) })
	ids = slices.Compact(ids)
	for part := range slices.Chunk(ids, factsAtOnce[len(factsAtOnce)-1]) {
		size := factsAtOnce[slices.IndexFunc(factsAtOnce[:], func(n int) bool { return n >= len(part) })]
		args := make([]any, size)
		for i := range args {
			args[i] = part[min(i, len(part)-1)][:]
		}
		rows, err := tx.Query(`SELECT `+messageColumns+` FROM queued_message m WHERE m.id IN (?`+strings.Repeat(", ?", size-1)+`)`, args...)
		if err != nil {
			return err
		}
		some, err := scanMessages(rows)
		if err != nil {
			return err
		}
		for _, m := range some {
			facts[m.ID] = m
		}
	}
	return nil
}

// group makes jobs of recipients, in order of each message's first one.
func group(destination string, all []taken, facts map[message.ID]Message) []Job {
	var jobs []Job
	at := make(map[message.ID]int, len(facts))
	for _, t := range all {
		i, there := at[t.id]
		if !there {
			i = len(jobs)
			at[t.id] = i
			jobs = append(jobs, Job{Message: facts[t.id], Destination: destination})
		}
		jobs[i].Recipients = append(jobs[i].Recipients, t.r)
	}
	return jobs
}
