package db

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// transaction runs fn once. ctx counts until the transaction has begun; an Update
// that has begun is waited for, limited by its own time; a View also ends with ctx.
func (d *Postgres) transaction(ctx context.Context, limit time.Duration, begin string, fn func(Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	pc, err := d.pool.begin(ctx, begin)
	if err != nil {
		return err
	}
	defer d.pool.give(pc)
	view := strings.HasSuffix(begin, "read only")
	run := ctx
	if !view {
		run = context.WithoutCancel(ctx)
	}
	if limit > 0 {
		var cancel context.CancelFunc
		run, cancel = context.WithTimeout(run, limit)
		defer cancel()
	}
	err = d.run(run, pc, fn)
	if err == nil {
		err = d.commit(run, pc, view)
	}
	return d.broken(ctx, run, view, err)
}

// broken gives an error of time its name.
func (d *Postgres) broken(ctx, run context.Context, view bool, err error) error {
	if err == nil || run.Err() == nil || errors.Is(err, ErrUnknownOutcome) {
		return err
	}
	if ctx.Err() != nil && view {
		return context.Cause(ctx)
	}
	if view {
		return fmt.Errorf("%w: a View must end within %v, read in pages by key", ErrTooLong, MaxPostgresView)
	}
	return fmt.Errorf("transaction took longer than %v: %w", d.cfg.TxTimeout, err)
}

// run calls fn and rolls back unless it succeeded. A function that panics or ends
// its goroutine is rolled back too.
func (d *Postgres) run(ctx context.Context, pc *pgConn, fn func(Tx) error) (err error) {
	t := &postgresTx{d: d, ctx: ctx, c: pc.Conn}
	good := false
	defer func() {
		t.finish()
		if !good && !t.c.IsClosed() {
			if _, e := t.c.Exec(ctx, "rollback"); e != nil {
				closeConn(t.c)
			}
		}
	}()
	if err = fn(t); err == nil {
		err = t.err
	}
	good = err == nil
	return err
}

// closeConn gives up a connection whose state is unknown; the pool replaces it.
func closeConn(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c.Close(ctx)
}

// commit ends the transaction. When no answer comes nobody knows what became of it.
func (d *Postgres) commit(ctx context.Context, pc *pgConn, view bool) error {
	tag, err := pc.Exec(ctx, "commit")
	if err == nil {
		if tag.String() != "COMMIT" {
			return errors.New("transaction was rolled back instead of committed")
		}
		return nil
	}
	err = fmt.Errorf("commit: %w", postgresError(err, ""))
	if !view && !answered(err) {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return err
}

// answered reports whether the server itself said that the commit failed. A
// server that is shutting down or losing the connection may have committed.
func answered(err error) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return false
	}
	return !strings.HasPrefix(pe.Code, "57P") && !strings.HasPrefix(pe.Code, "08")
}

// postgresError adds the sentinel that fits.
func postgresError(err error, query string) error {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		if query == "" {
			return err
		}
		return fmt.Errorf("%w in %s", err, shorten(query))
	}
	return &Error{
		Engine: "postgresql", Code: pe.Code, Message: pe.Message, Query: shorten(query),
		Err: &refusal{sentinel: postgresSentinel(pe.Code), cause: pe},
	}
}

// refusal is the sentinel and the driver's error behind an *Error.
type refusal struct {
	sentinel error
	cause    *pgconn.PgError
}

func (r *refusal) Error() string {
	if r.sentinel != nil {
		return r.sentinel.Error()
	}
	return "refused"
}

func (r *refusal) Unwrap() []error {
	if r.sentinel == nil {
		return []error{r.cause}
	}
	return []error{r.sentinel, r.cause}
}

// postgresSentinel is the package's error for an SQLSTATE.
func postgresSentinel(code string) error {
	switch code {
	case "23505":
		return ErrConflict
	case "53100", "53000": // disk_full, insufficient_resources
		return ErrFull
	case "42P01": // undefined_table
		return ErrSchema
	}
	if strings.HasPrefix(code, "23") {
		return ErrConstraint
	}
	return nil
}

// retryable reports whether running fn again may succeed where it failed: a
// serialisation failure, a deadlock, or a plan made before a change of schema.
func retryable(err error) bool {
	var pe *pgconn.PgError
	if err == nil || errors.Is(err, ErrUnknownOutcome) || !errors.As(err, &pe) {
		return false
	}
	switch pe.Code {
	case "40001", "40P01":
		return true
	case "0A000":
		return strings.Contains(pe.Message, "cached plan")
	}
	return false
}

// postgresTx is the hand of one function in a transaction.
type postgresTx struct {
	d    *Postgres
	ctx  context.Context // of the transaction; a Tx lives no longer
	c    *pgx.Conn
	err  error
	open *postgresRows
}

// begin prepares the parameters and the text of a statement.
func (t *postgresTx) begin(query string, args []any) (string, []any, error) {
	if t.err != nil {
		return "", nil, t.err
	}
	if t.open != nil {
		return "", nil, t.fail(errOpenRows)
	}
	plain, err := plainArgs(args)
	if err != nil {
		return "", nil, t.fail(fmt.Errorf("bind parameters: %w: %s", err, shorten(query)))
	}
	n := t.d.queries.number(query)
	switch {
	case n.forbidden:
		return "", nil, t.fail(forbiddenError(query))
	case n.params != len(args):
		return "", nil, t.fail(fmt.Errorf("bind parameters: statement has %d, got %d: %s", n.params, len(args), shorten(query)))
	}
	return n.query, plain, nil
}

func (t *postgresTx) fail(err error) error {
	if t.err == nil {
		t.err = err
	}
	return err
}

// finish ends the hand.
func (t *postgresTx) finish() {
	if t.open != nil {
		t.open.Close()
	}
	if t.err == nil {
		t.err = errFinished
	}
}

// Exec implements Tx.
func (t *postgresTx) Exec(query string, args ...any) (int64, error) {
	numbered, plain, err := t.begin(query, args)
	if err != nil {
		return 0, err
	}
	tag, err := t.c.Exec(t.ctx, numbered, plain...)
	if err != nil {
		return 0, t.fail(postgresError(err, query))
	}
	if tag.Select() {
		return 0, nil
	}
	return tag.RowsAffected(), nil
}

// QueryRow implements Tx.
func (t *postgresTx) QueryRow(query string, args ...any) Row {
	rows, err := t.Query(query, args...)
	if err != nil {
		return &postgresRow{err: err}
	}
	return &postgresRow{rows: rows.(*postgresRows)}
}

// Query implements Tx.
func (t *postgresTx) Query(query string, args ...any) (Rows, error) {
	numbered, plain, err := t.begin(query, args)
	if err != nil {
		return nil, err
	}
	rows, err := t.c.Query(t.ctx, numbered, plain...)
	if err != nil {
		return nil, t.fail(postgresError(err, query))
	}
	t.open = &postgresRows{t: t, rows: rows, query: query}
	return t.open, nil
}

// postgresRow is at most one row.
type postgresRow struct {
	rows *postgresRows
	err  error
}

// Scan implements Row.
func (r *postgresRow) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if r.rows.err != nil {
			return r.rows.err
		}
		return ErrNotFound
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.err
}

// postgresRows is a cursor.
type postgresRows struct {
	t      *postgresTx
	rows   pgx.Rows
	query  string
	closed bool
	row    bool
	err    error
}

// Next implements Rows.
func (r *postgresRows) Next() bool {
	if r.closed {
		return false
	}
	r.row = r.rows.Next()
	if !r.row {
		r.Close()
	}
	return r.row
}

// Scan implements Rows.
func (r *postgresRows) Scan(dest ...any) error {
	if r.closed || !r.row {
		return errNoRow
	}
	fields, raw := r.rows.FieldDescriptions(), r.rows.RawValues()
	if len(dest) != len(raw) {
		return r.t.fail(fmt.Errorf("scan row: %d columns, %d destinations: %s", len(raw), len(dest), shorten(r.query)))
	}
	for i, d := range dest {
		v, err := decode(fields[i], raw[i])
		if err == nil {
			err = assign(d, v, i+1)
		}
		if err != nil {
			return r.t.fail(fmt.Errorf("%w: %s", err, shorten(r.query)))
		}
	}
	return nil
}

// Err implements Rows.
func (r *postgresRows) Err() error { return r.err }

// Close implements Rows. Rows not read yet are passed over.
func (r *postgresRows) Close() error {
	if r.closed {
		return nil
	}
	r.closed, r.row = true, false
	r.rows.Close()
	r.t.open = nil
	if err := r.rows.Err(); err != nil {
		r.err = r.t.fail(postgresError(err, r.query))
	}
	return nil
}
