package db

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
)

// errMoment is returned by Updates of a Moment.
var errMoment = errors.New("a moment of a database is for reading only")

// Moment is the database as of now, for reading at leisure, whatever is written
// meanwhile: Views of what it returns all see that one instant, and Updates are refused.
// For SQLite it is a whole copy in the file scratch, which takes as much space as the
// database; Close removes it, and so does the next Moment with that name after a crash.
func (d *SQLite) Moment(ctx context.Context, scratch string) (Database, error) {
	if err := removeDatabase(scratch); err != nil {
		return nil, fmt.Errorf("copy database for reading: %w", err)
	}
	if err := d.Snapshot(ctx, scratch); err != nil {
		return nil, err
	}
	cfg := SQLiteConfig{Path: scratch, ReadConns: 2, CacheKiB: 4096, BusyTimeout: d.cfg.BusyTimeout, Logger: d.cfg.Logger}
	copied, err := OpenSQLite(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, removeDatabase(scratch))
	}
	return &sqliteMoment{copied, scratch}, nil
}

// removeDatabase removes a database's files, if they are there.
func removeDatabase(path string) (err error) {
	fsys, name, err := folder(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fsys.Close()) }()
	for _, suffix := range []string{"", "-wal", "-shm", ".part"} {
		if e := fsys.Remove(name + suffix); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// sqliteMoment is a copy for reading.
type sqliteMoment struct {
	*SQLite
	path string
}

// Update implements Database: it refuses.
func (m *sqliteMoment) Update(context.Context, func(Tx) error) error { return errMoment }

// UpdateLow implements Database: it refuses.
func (m *sqliteMoment) UpdateLow(context.Context, func(Tx) error) error { return errMoment }

// Close implements Database; the copy is removed.
func (m *sqliteMoment) Close() error {
	return errors.Join(m.SQLite.Close(), removeDatabase(m.path))
}

// Moment is the database as of now, for reading at leisure, whatever is written
// meanwhile: Views of what it returns all see that one instant, one after the other, and
// Updates are refused. For PostgreSQL it is one transaction on a connection of its own;
// as long as it stands, no dead row of the whole database is removed, so Close it soon.
// scratch is not used.
func (d *Postgres) Moment(ctx context.Context, _ string) (Database, error) {
	c, err := d.pool.begin(ctx, "begin isolation level repeatable read read only")
	if err != nil {
		return nil, err
	}
	m := &postgresMoment{Postgres: d, c: c}
	// The transaction may wait for its reader, and its instant is that of its first statement.
	err = m.View(ctx, func(tx Tx) error {
		var one string
		return tx.QueryRow("SELECT set_config('idle_in_transaction_session_timeout', '0', true)").Scan(&one)
	})
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// postgresMoment is a transaction for reading.
type postgresMoment struct {
	*Postgres
	mu     sync.Mutex
	c      *pgConn
	failed error // of a statement: then the transaction is over
}

// View implements Database. It is not limited in time.
func (m *postgresMoment) View(ctx context.Context, fn func(Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return m.failed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t := &postgresTx{d: m.Postgres, ctx: ctx, c: m.c.Conn}
	err := fn(t)
	if t.open != nil {
		t.open.Close()
	}
	m.failed = t.err
	t.finish()
	if err == nil {
		err = m.failed
	}
	return err
}

// Update implements Database: it refuses.
func (m *postgresMoment) Update(context.Context, func(Tx) error) error { return errMoment }

// UpdateLow implements Database: it refuses.
func (m *postgresMoment) UpdateLow(context.Context, func(Tx) error) error { return errMoment }

// Close implements Database: the transaction ends.
func (m *postgresMoment) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(m.failed, ErrClosed) {
		return nil
	}
	m.failed = ErrClosed
	if !m.c.IsClosed() {
		if _, err := m.c.Exec(context.Background(), "rollback"); err != nil {
			closeConn(m.c.Conn)
		}
	}
	m.pool.give(m.c)
	return nil
}

var _, _ Database = (*sqliteMoment)(nil), (*postgresMoment)(nil)
