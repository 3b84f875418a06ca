package db

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Limits of one write transaction.
const (
	maxBatch     = 256                  // callers
	maxBatchTime = 5 * time.Millisecond // before the commit begins
	gatherTurns  = 3                    // how often others are let run when nobody waits
)

// LowPatience is how long a call of UpdateLow waits at most for a moment without
// waiting Updates before it is let in between two transactions.
const LowPatience = 5 * time.Second

// The low lane leaves room: while Updates come, it rests for lowRest times as
// long as its last transaction took, at most maxLowRest. After lowCalm without
// any Update it need not.
const (
	lowRest    = 9
	maxLowRest = time.Second
	lowCalm    = 50 * time.Millisecond
)

// lane is where a caller waits.
type lane uint8

const (
	laneHigh lane = iota
	laneLow
)

// job is one caller of Update.
type job struct {
	fn      func(Tx) error
	since   time.Time   // low lane only
	begun   atomic.Bool // by the writer, or abandoned by the caller: whoever is first
	done    chan struct{}
	err     error
	end     ending
	panicky any // what fn panicked with
}

// ending is how fn left.
type ending uint8

const (
	endReturn ending = iota
	endPanic
	endExit // runtime.Goexit, as of testing.T.FailNow
)

// writer owns the connection that writes.
type writer struct {
	c     *conn
	cfg   SQLiteConfig
	wake  chan struct{} // holds one token when there is work
	jobs  sync.Pool
	stop  chan struct{}      // closed once the loop has ended
	tasks chan func(c *conn) // run between two transactions
	full  chan struct{}      // holds one token when the log is long

	commit func() error // ends the transaction; tests put faults here

	mu     sync.Mutex
	high   queue
	low    queue
	closed bool

	nextFull int64 // length of the log at which the checkpointer is woken

	lastHigh time.Time // end of the last transaction of Updates
	lowFrom  time.Time // the low lane's next turn

	broken error // set by a disk that failed to sync: nothing is written any more
}

func newWriter(c *conn, cfg SQLiteConfig) *writer {
	w := &writer{
		c: c, cfg: cfg,
		wake:  make(chan struct{}, 1),
		stop:  make(chan struct{}),
		tasks: make(chan func(*conn)),
		full:  make(chan struct{}, 1),
	}
	w.jobs.New = func() any { return &job{done: make(chan struct{}, 1)} }
	w.commit = func() error { return c.run("COMMIT") }
	return w
}

// do queues fn and waits for its outcome.
func (w *writer) do(ctx context.Context, fn func(Tx) error, l lane) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := w.jobs.Get().(*job)
	j.fn, j.err, j.end, j.panicky = fn, nil, endReturn, nil
	j.begun.Store(false)
	if err := w.push(j, l); err != nil {
		return err
	}
	select {
	case <-j.done:
	case <-ctx.Done():
		if j.begun.CompareAndSwap(false, true) {
			return context.Cause(ctx) // the writer drops the job when it meets it
		}
		<-j.done
	}
	err, end, panicky := j.err, j.end, j.panicky
	j.fn, j.err, j.panicky = nil, nil, nil
	w.jobs.Put(j)
	switch end {
	case endPanic:
		panic(panicky)
	case endExit:
		runtime.Goexit()
	}
	return err
}

// push queues a job and wakes the writer.
func (w *writer) push(j *job, l lane) error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return ErrClosed
	}
	if l == laneHigh {
		w.high.push(j)
	} else {
		j.since = time.Now()
		w.low.push(j)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return nil
}

// next takes the first waiting caller of the high lane whose context still stands.
func (w *writer) next() *job {
	w.mu.Lock()
	defer w.mu.Unlock()
	return claim(&w.high)
}

// await is next, but lets others run a few times before it says that nobody waits:
// callers that were answered just now, or are about to come, share a commit then.
func (w *writer) await() *job {
	for range gatherTurns {
		if j := w.next(); j != nil {
			return j
		}
		runtime.Gosched()
	}
	return w.next()
}

// nextLow takes a caller of the low lane, if it may run now.
func (w *writer) nextLow() *job {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := w.low.peek()
	if first == nil || w.high.len() > 0 && time.Since(first.since) < LowPatience || w.lowDelay() > 0 {
		return nil
	}
	return claim(&w.low)
}

// lowDelay is how long the low lane must rest now.
func (w *writer) lowDelay() time.Duration {
	from := w.lowFrom
	if calm := w.lastHigh.Add(lowCalm); calm.Before(from) {
		from = calm
	}
	return time.Until(from)
}

// claim takes the first job of q that its caller has not abandoned.
func claim(q *queue) *job {
	for {
		j := q.pop()
		if j == nil || j.begun.CompareAndSwap(false, true) {
			return j
		}
	}
}

// close makes the loop end once the transaction at work has ended.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// loop runs transactions until close. A function that ends its goroutine ends the
// loop's; then a new one goes on, and this call waits for it.
func (w *writer) loop() {
	for {
		finished := make(chan bool, 1)
		go func() {
			clean := false
			defer func() { finished <- clean }()
			w.work()
			clean = true
		}()
		if <-finished {
			break
		}
	}
	w.drain()
	close(w.stop)
}

// work runs transactions until close.
func (w *writer) work() {
	for {
		j := w.await()
		if j != nil {
			w.transaction(j, true)
		}
		if low := w.nextLow(); low != nil {
			w.transaction(low, false)
			continue
		}
		if j == nil && !w.rest() {
			return
		}
	}
}

// rest waits for work; it reports false when the writer is to end.
func (w *writer) rest() bool {
	w.mu.Lock()
	closed, high, low := w.closed, w.high.len(), w.low.len()
	w.mu.Unlock()
	if closed {
		return false
	}
	var rested <-chan time.Time
	if low > 0 {
		delay := w.lowDelay()
		if delay <= 0 {
			return true
		}
		timer := time.NewTimer(delay)
		defer timer.Stop()
		rested = timer.C
	}
	if high > 0 {
		return true
	}
	select {
	case <-w.wake:
	case <-rested:
	case task := <-w.tasks:
		task(w.c)
	}
	return true
}

// drain answers whoever came too late.
func (w *writer) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, q := range []*queue{&w.high, &w.low} {
		for j := claim(q); j != nil; j = claim(q) {
			j.err = ErrClosed
			j.done <- struct{}{}
		}
	}
}

// transaction runs first and, if it may gather, whoever else waits, commits and
// answers them. Afterwards the tasks of other goroutines get their turn.
func (w *writer) transaction(first *job, gather bool) {
	b := &batch{w: w, start: time.Now()}
	defer b.abort()
	b.run(first, gather)
	b.finish()
	now := time.Now()
	if gather {
		w.lastHigh = now
	} else {
		w.lowFrom = now.Add(min(lowRest*now.Sub(b.start), maxLowRest))
	}
	select {
	case task := <-w.tasks:
		task(w.c)
	default:
	}
	w.watchLog()
}

// watchLog wakes the checkpointer when the log has become long, and again each
// time it has grown by a quarter more, as while a long read keeps it in use.
func (w *writer) watchLog() {
	length, limit := w.c.shared.walFrames, int64(w.cfg.CheckpointPages)
	switch {
	case length < limit:
		w.nextFull = limit
	case length >= w.nextFull:
		w.nextFull = length + max(1, limit/4)
		select {
		case w.full <- struct{}{}:
		default:
		}
	}
}

// call runs fn in the transaction that stands and notes how it left. It returns
// normally also after a panic, but not after runtime.Goexit.
func (w *writer) call(j *job) {
	t := &sqliteTx{c: w.c}
	j.err, j.end = nil, endExit
	defer func() {
		t.finish()
		if j.end != endExit {
			return
		}
		if p := recover(); p != nil {
			j.end, j.panicky = endPanic, p
			j.err = fmt.Errorf("function of an Update panicked: %v", p)
			w.cfg.Logger.Error("function of an Update panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	err := j.fn(t)
	if err == nil {
		err = t.err
	}
	j.err, j.end = err, endReturn
}

// syncFailed reports whether err says that the disk did not sync: then nobody
// knows what of the file is on it.
func syncFailed(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case fmt.Sprint(sqlite3.SQLITE_IOERR_FSYNC), fmt.Sprint(sqlite3.SQLITE_IOERR_DIR_FSYNC):
		return true
	}
	return false
}
