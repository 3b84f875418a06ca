package db

// sqliteTx is the hand of one function in a transaction on a connection.
type sqliteTx struct {
	c    *conn
	err  error // the first failure; every later statement returns it
	open *sqliteRows
}

// begin prepares a statement, after making sure that one may be run.
func (t *sqliteTx) begin(query string) (*stmt, error) {
	if t.err != nil {
		return nil, t.err
	}
	if t.open != nil {
		return nil, t.fail(errOpenRows)
	}
	if t.c.shared.deadline != 0 {
		if err := t.c.stop(); err != nil {
			return nil, t.fail(err)
		}
	}
	s, err := t.c.prepare(query)
	if err == nil && s.forbidden {
		err = forbiddenError(query)
	}
	if err != nil {
		return nil, t.fail(err)
	}
	return s, nil
}

// fail notes the first failure of the transaction.
func (t *sqliteTx) fail(err error) error {
	if t.err == nil {
		t.err = err
	}
	return err
}

// finish ends the hand: what its function left open is closed.
func (t *sqliteTx) finish() {
	if t.open != nil {
		t.open.Close()
	}
	if t.err == nil {
		t.err = errFinished
	}
}

// Exec implements Tx.
func (t *sqliteTx) Exec(query string, args ...any) (int64, error) {
	s, err := t.begin(query)
	if err != nil {
		return 0, err
	}
	n, err := s.exec(args)
	if err != nil {
		return 0, t.fail(err)
	}
	return n, nil
}

// QueryRow implements Tx.
func (t *sqliteTx) QueryRow(query string, args ...any) Row {
	rows, err := t.Query(query, args...)
	if err != nil {
		return &sqliteRow{err: err}
	}
	return &sqliteRow{rows: rows.(*sqliteRows)}
}

// Query implements Tx.
func (t *sqliteTx) Query(query string, args ...any) (Rows, error) {
	s, err := t.begin(query)
	if err != nil {
		return nil, err
	}
	if err := s.bind(args); err != nil {
		return nil, t.fail(err)
	}
	s.busy = true
	t.open = &sqliteRows{t: t, s: s}
	return t.open, nil
}

// sqliteRow is a row that is read when Scan is called, or never.
type sqliteRow struct {
	rows *sqliteRows
	err  error
}

// Scan implements Row. It reads on to the end, so that a statement with RETURNING
// has done all its work.
func (r *sqliteRow) Scan(dest ...any) error {
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
	return r.rows.Scan(dest...)
}

// sqliteRows is a cursor.
type sqliteRows struct {
	t   *sqliteTx
	s   *stmt // nil once closed
	row bool  // a row is present
	n   int   // rows read
	err error
}

// stopEvery is how many rows of a View pass between two looks at its deadline.
const stopEvery = 32

// Next implements Rows.
func (r *sqliteRows) Next() bool {
	if r.s == nil {
		return false
	}
	if r.n++; r.n%stopEvery == 0 && r.t.c.shared.deadline != 0 {
		r.err = r.t.c.stop()
	}
	more, err := false, r.err
	if err == nil {
		more, err = r.s.step()
	}
	if err != nil {
		r.err = r.t.fail(err)
	}
	r.row = more
	if !more {
		r.release()
	}
	return more
}

// Scan implements Rows.
func (r *sqliteRows) Scan(dest ...any) error {
	if r.s == nil || !r.row {
		return errNoRow
	}
	if err := r.s.scan(dest); err != nil {
		return r.t.fail(err)
	}
	return nil
}

// Err implements Rows.
func (r *sqliteRows) Err() error { return r.err }

// Close implements Rows.
func (r *sqliteRows) Close() error {
	r.release()
	return nil
}

// release ends the statement, once.
func (r *sqliteRows) release() {
	if r.s == nil {
		return
	}
	r.s.reset()
	r.s, r.row = nil, false
	r.t.open = nil
}
