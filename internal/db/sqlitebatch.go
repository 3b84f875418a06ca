package db

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// errLost is the state of a batch whose transaction SQLite rolled back by itself.
var errLost = errors.New("transaction was rolled back")

// batch is one write transaction with the callers that share it.
type batch struct {
	w       *writer
	start   time.Time
	ran     []*job // whose functions ran in the transaction that stands
	again   []*job // that must run again after the transaction was lost
	settled []*job // whose outcome no commit will change
	now     *job   // whose function runs at this moment
	open    bool   // a transaction stands
	wrote   bool   // a function that succeeded ran in it
	runtime time.Duration
}

// run gathers callers until nobody waits, or the batch is as large as it may be.
func (b *batch) run(first *job, gather bool) {
	for j := first; j != nil; {
		b.one(j)
		if !gather || len(b.ran) >= maxBatch || time.Since(b.start) >= maxBatchTime {
			break
		}
		j = b.w.await()
	}
	b.runtime = time.Since(b.start)
}

// one runs j in the transaction; if that breaks the transaction, whoever ran
// before runs again, each in a transaction of its own if it breaks once more.
func (b *batch) one(j *job) {
	if b.try(j) != errLost {
		return
	}
	b.blame(j)
	for len(b.again) > 0 {
		k := b.again[0]
		b.again = b.again[1:]
		if b.try(k) == errLost {
			b.blame(k)
			b.alone()
		}
	}
}

// blame settles the job that broke the transaction; the others are to run again.
func (b *batch) blame(j *job) {
	b.settled = append(b.settled, j)
	b.again = append(b.ran, b.again...)
	b.ran, b.wrote = nil, false
}

// alone runs each job again and commits it by itself.
func (b *batch) alone() {
	for len(b.again) > 0 {
		k := b.again[0]
		b.again = b.again[1:]
		if b.try(k) == errLost {
			b.blame(k)
			continue
		}
		b.end()
	}
}

// try runs j and undoes its work if it failed. errLost says that the transaction
// is gone, with the work of all who ran in it; the cause is in j.err.
func (b *batch) try(j *job) error {
	c, w := b.w.c, b.w
	if w.broken != nil {
		j.err = w.broken
		b.settled = append(b.settled, j)
		return nil
	}
	if err := b.begin(); err != nil {
		j.err = err
		return b.lost()
	}
	nested := len(b.ran) > 0
	if nested {
		if err := c.run("SAVEPOINT s"); err != nil {
			j.err = err
			return b.lost()
		}
	}
	b.now = j
	w.call(j)
	b.now = nil
	if c.autocommit() {
		if j.err == nil {
			j.err = errors.New("function of an Update ended the transaction itself: it must not run COMMIT or ROLLBACK")
		}
		b.open = false
		return errLost
	}
	if err := b.close(j, nested); err != nil {
		j.err = errors.Join(j.err, err)
		return b.lost()
	}
	return nil
}

// close ends the part of j in the transaction.
func (b *batch) close(j *job, nested bool) error {
	c := b.w.c
	switch {
	case j.err != nil && nested:
		if err := c.run("ROLLBACK TO s"); err != nil {
			return err
		}
		fallthrough
	case j.err == nil && nested:
		if err := c.run("RELEASE s"); err != nil {
			return err
		}
	case j.err != nil: // the first of the batch: nobody else's work is undone
		b.open = false
		if err := c.run("ROLLBACK"); err != nil {
			return err
		}
		b.settled = append(b.settled, j)
		return nil
	}
	b.ran = append(b.ran, j)
	b.wrote = b.wrote || j.err == nil
	return nil
}

// begin starts the transaction unless it stands.
func (b *batch) begin() error {
	if b.open {
		return nil
	}
	if err := b.w.c.run("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin write transaction: %w", err)
	}
	b.open = true
	return nil
}

// lost makes sure that no transaction stands.
func (b *batch) lost() error {
	if !b.w.c.autocommit() {
		if err := b.w.c.run("ROLLBACK"); err != nil {
			b.w.cfg.Logger.Error("roll back write transaction", "error", err)
		}
	}
	b.open = false
	return errLost
}

// end commits the transaction. If that fails nothing of it is stored, and all who
// ran in it get the error: also those who failed, for what they saw is undone.
func (b *batch) end() {
	if !b.open {
		return
	}
	var err error
	if b.wrote {
		err = b.w.commit()
	}
	if err != nil || !b.wrote {
		b.lost()
	}
	if err != nil {
		b.w.cfg.Logger.Error("commit write transaction", "callers", len(b.ran), "error", err)
		err = fmt.Errorf("commit: %w", err)
		if syncFailed(err) {
			err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
			b.w.broken = fmt.Errorf("database takes no more changes, its disk failed to sync: replace the disk and restart: %w", err)
		}
		for _, j := range b.ran {
			j.err = err
		}
	}
	b.open, b.wrote = false, false
	b.settled = append(b.settled, b.ran...)
	b.ran = nil
}

// finish commits and answers every caller.
func (b *batch) finish() {
	before := time.Now()
	callers := len(b.ran) + len(b.settled)
	b.end()
	if h := b.w.cfg.Hooks.Batch; h != nil {
		h(callers, b.runtime, time.Since(before))
	}
	b.answer()
}

func (b *batch) answer() {
	for _, j := range b.settled {
		j.done <- struct{}{}
	}
	b.settled = nil
}

// abort is deferred for the case that a function ended this goroutine: its work
// is undone with the whole transaction, and the others are queued once more.
func (b *batch) abort() {
	if b.now == nil {
		return
	}
	b.lost()
	b.settled = append(b.settled, b.now)
	b.w.requeue(append(b.ran, b.again...))
	b.ran, b.again, b.now = nil, nil, nil
	b.answer()
}

// requeue puts jobs in front of the others. Nothing of them is stored, so that
// their callers may leave until they run again.
func (w *writer) requeue(jobs []*job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, j := range jobs {
		j.begun.Store(false)
	}
	w.high.jobs = append(slices.Clone(jobs), w.high.jobs[w.high.head:]...)
	w.high.head = 0
}
