package db

import (
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// hugeLog is how many times CheckpointPages the log may be before writing stops
// until its last reader has left.
const hugeLog = 16

// checkpointer copies the write-ahead log into the database file, so that the log
// can be used from its start again. Most of the copying happens beside the writer;
// only the rest, small by then, between two of its transactions.
type checkpointer struct {
	c   *conn
	w   *writer
	cfg SQLiteConfig
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
		mode := int32(sqlite3.SQLITE_CHECKPOINT_PASSIVE)
		if c.shared.walFrames > int64(hugeLog*p.cfg.CheckpointPages) {
			mode = sqlite3.SQLITE_CHECKPOINT_RESTART
		}
		p.copy(c, mode)
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
