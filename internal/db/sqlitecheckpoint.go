package db

import (
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// hugeLog is how many times CheckpointPages the log may be before writing stops
// until its last reader has left: for restartWait at most, and not again before
// restartPause. While a snapshot is taken the log may grow further.
const (
	hugeLog      = 16
	restartWait  = MaxView + 200*time.Millisecond
	restartPause = time.Minute
)

// checkpointer copies the write-ahead log into the database file, so that the log
// can be used from its start again. Most of the copying happens beside the writer;
// only the rest, small by then, between two of its transactions.
type checkpointer struct {
	c    *conn
	w    *writer
	cfg  SQLiteConfig
	next time.Time // before which writing is not stopped

	snapshots atomic.Int64 // at work
}

// loop works until the writer has ended.
func (p *checkpointer) loop() {
	for {
		select {
		case <-p.w.full:
			p.round()
		case <-p.w.stop:
			return
		}
	}
}

// round copies the whole log, as far as readers allow.
func (p *checkpointer) round() {
	small := max(64, p.cfg.CheckpointPages/16)
	for range 4 {
		pages, copied, err := p.copy(p.c, sqlite3.SQLITE_CHECKPOINT_PASSIVE)
		if err != nil {
			return
		}
		if pages-copied <= small {
			break
		}
	}
	finished := make(chan struct{})
	last := func(c *conn) {
		defer close(finished)
		if c.shared.walFrames <= int64(hugeLog*p.cfg.CheckpointPages) || p.snapshots.Load() > 0 || time.Now().Before(p.next) {
			p.copy(c, sqlite3.SQLITE_CHECKPOINT_PASSIVE)
			return
		}
		c.busyTimeout(restartWait)
		defer c.busyTimeout(p.cfg.BusyTimeout)
		if _, _, err := p.copy(c, sqlite3.SQLITE_CHECKPOINT_RESTART); err != nil {
			p.next = time.Now().Add(restartPause)
		}
	}
	select {
	case p.w.tasks <- last:
		<-finished
	case <-p.w.stop:
	}
}

// copy runs one checkpoint and reports it.
func (p *checkpointer) copy(c *conn, mode int32) (pages, copied int, err error) {
	start := time.Now()
	pages, copied, err = c.checkpoint(mode)
	if err != nil {
		p.cfg.Logger.Warn("checkpoint failed, the write-ahead log grows until one succeeds", "error", err)
		return 0, 0, err
	}
	if h := p.cfg.Hooks.Checkpoint; h != nil {
		h(pages, copied, time.Since(start))
	}
	return pages, copied, nil
}
