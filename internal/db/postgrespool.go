package db

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// How long connections are kept.
const (
	maxConnIdle = 5 * time.Minute
	maxConnLife = time.Hour // then the name of the server is looked up again
	connTrusted = time.Second
)

// pool is the connections of a Postgres. The one used last is handed out first.
type pool struct {
	cfg   *pgx.ConnConfig
	slots chan struct{} // one for each connection in use
	gone  chan struct{} // closed by close

	mu     sync.Mutex
	idle   []*pgConn
	closed bool
}

// pgConn is one connection.
type pgConn struct {
	*pgx.Conn
	born time.Time
	used time.Time
}

func newPool(cfg *pgx.ConnConfig, size int) *pool {
	return &pool{cfg: cfg, slots: make(chan struct{}, size), gone: make(chan struct{})}
}

// take waits for a free connection; fresh says that it was opened just now.
func (p *pool) take(ctx context.Context) (c *pgConn, fresh bool, err error) {
	select {
	case <-p.gone:
		return nil, false, ErrClosed
	default:
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	case <-p.gone:
		return nil, false, ErrClosed
	}
	select {
	case <-p.gone:
		<-p.slots
		return nil, false, ErrClosed
	default:
	}
	if c = p.pop(); c != nil {
		return c, false, nil
	}
	if c, err = p.dial(ctx); err != nil {
		<-p.slots
	}
	return c, true, err
}

// pop takes the idle connection used last, if one is alive, and closes those that
// have become too old.
func (p *pool) pop() *pgConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for len(p.idle) > 0 && now.Sub(p.idle[0].used) > maxConnIdle {
		closeConn(p.idle[0].Conn)
		p.idle = p.idle[1:]
	}
	for n := len(p.idle); n > 0; n = len(p.idle) {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		//lint:ignore SA1019 a round trip for each use costs more than a rare dead connection
		alive := now.Sub(c.used) < connTrusted || c.PgConn().CheckConn() == nil
		if alive && now.Sub(c.born) < maxConnLife {
			return c
		}
		closeConn(c.Conn)
	}
	return nil
}

// dial opens a connection and prepares its session.
func (p *pool) dial(ctx context.Context) (*pgConn, error) {
	c, err := pgx.ConnectConfig(ctx, p.cfg)
	if err != nil {
		return nil, newConnectError(p.cfg, err)
	}
	if err := prepareSession(ctx, c); err != nil {
		closeConn(c)
		return nil, newConnectError(p.cfg, err)
	}
	return &pgConn{Conn: c, born: time.Now()}, nil
}

// give returns a connection; one that is not between transactions is closed.
func (p *pool) give(c *pgConn) {
	defer func() { <-p.slots }()
	if c.IsClosed() || c.PgConn().TxStatus() != 'I' {
		closeConn(c.Conn)
		return
	}
	c.used = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
}

// forget closes the idle connections: one of them was found dead, as after a
// restart of the server.
func (p *pool) forget() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		closeConn(c.Conn)
	}
}

// begin takes a connection and begins a transaction on it. While connections
// kept from before turn out to be dead, it takes others: nothing has begun.
func (p *pool) begin(ctx context.Context, query string) (*pgConn, error) {
	for {
		c, fresh, err := p.take(ctx)
		if err != nil {
			return nil, err
		}
		if _, err = c.Exec(ctx, query); err == nil {
			return c, nil
		}
		dead := c.IsClosed()
		p.give(c)
		if fresh || !dead || ctx.Err() != nil {
			return nil, postgresError(err, query)
		}
		p.forget()
	}
}

// close waits for the connections in use and closes all.
func (p *pool) close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return errors.New("pool is closed already")
	}
	p.closed = true
	p.mu.Unlock()
	close(p.gone)
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	p.forget()
	return nil
}
