package db

import (
	"context"
	"errors"
	"sync"
	"time"
)

// readers is the pool of connections for Views. The connection used last is
// handed out first: its page cache is warm, and idle ones stay small.
type readers struct {
	cfg   SQLiteConfig
	slots chan struct{} // one for each View at work

	mu     sync.Mutex
	idle   []*conn
	closed bool
	gone   chan struct{} // closed by close
}

func newReaders(cfg SQLiteConfig) *readers {
	return &readers{cfg: cfg, slots: make(chan struct{}, cfg.ReadConns), gone: make(chan struct{})}
}

// take waits for a free connection, opening one if need be.
func (r *readers) take(ctx context.Context) (*conn, error) {
	select {
	case r.slots <- struct{}{}:
	default:
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-r.gone:
			return nil, ErrClosed
		}
	}
	c, err := r.pop()
	if err != nil {
		<-r.slots
	}
	return c, err
}

// pop takes an idle connection or opens a new one.
func (r *readers) pop() (*conn, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, ErrClosed
	}
	if n := len(r.idle); n > 0 {
		c := r.idle[n-1]
		r.idle = r.idle[:n-1]
		r.mu.Unlock()
		return c, nil
	}
	r.mu.Unlock()
	return openConn(r.cfg.Path, append(r.cfg.pragmas(r.cfg.CacheKiB/4), "query_only = ON"))
}

// give returns a connection. One whose transaction could not be ended is closed.
func (r *readers) give(c *conn) {
	if !c.autocommit() {
		r.cfg.Logger.Error("read transaction could not be ended, its connection is closed")
		c.close()
	} else {
		r.mu.Lock()
		r.idle = append(r.idle, c)
		r.mu.Unlock()
	}
	<-r.slots
}

// close waits for the Views at work and closes every connection.
func (r *readers) close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	close(r.gone)
	for range cap(r.slots) {
		r.slots <- struct{}{}
	}
	var err error
	for _, c := range r.idle {
		err = errors.Join(err, c.close())
	}
	return err
}

// View implements Database. A statement that runs past MaxSQLiteView is stopped, the
// error is ErrTooLong. The end of ctx is seen at the next statement or row.
func (d *SQLite) View(ctx context.Context, fn func(Tx) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := d.readers.take(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	defer func() {
		c.shared.deadline, c.ctx, c.done = 0, nil, nil
		if end := c.run("COMMIT"); end != nil && err == nil {
			err = end
		}
		d.readers.give(c)
		if h := d.cfg.Hooks.View; h != nil {
			h(time.Since(start))
		}
	}()
	if err := c.run("BEGIN"); err != nil {
		return err
	}
	c.shared.deadline = start.Add(MaxSQLiteView).UnixNano()
	if c.done = ctx.Done(); c.done != nil {
		c.ctx = ctx
	}
	t := &sqliteTx{c: c}
	defer t.finish()
	if err := fn(t); err != nil {
		return err
	}
	return t.err
}
