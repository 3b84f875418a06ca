package db

import "strconv"

// OnWriter runs fn between two transactions, with the means to run SQL on the
// connection that writes.
func (d *SQLite) OnWriter(fn func(run func(query string) error)) {
	done := make(chan struct{})
	d.w.tasks <- func(c *conn) {
		defer close(done)
		fn(c.run)
	}
	<-done
}

// SetCommit puts a fault in place of the commit, or none if fault is nil.
func (d *SQLite) SetCommit(fault func(commit func() error) error) {
	d.OnWriter(func(run func(string) error) {
		commit := func() error { return run("COMMIT") }
		d.w.commit = commit
		if fault != nil {
			d.w.commit = func() error { return fault(commit) }
		}
	})
}

// LogPages is the length of the write-ahead log after the last commit.
func (d *SQLite) LogPages() (n int64) {
	d.OnWriter(func(func(string) error) { n = d.w.c.shared.walFrames })
	return n
}

// SettleLog writes nothing new, but makes the log be used from its start if it is
// longer than pages: it returns when no checkpoint is under way.
func (d *SQLite) SettleLog(pages int64) {
	d.OnWriter(func(func(string) error) {
		if d.w.c.shared.walFrames > pages {
			d.w.c.checkpoint(2) // SQLITE_CHECKPOINT_RESTART
		}
	})
}

// Waiting is how many callers of Update wait for the writer.
func (d *SQLite) Waiting() int {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	return d.w.high.len()
}

// NumberPlaceholders is the PostgreSQL form of query.
func NumberPlaceholders(query string) (string, int) {
	n := numberPlaceholders(query)
	return n.query, n.params
}

// DecodeNumeric reads PostgreSQL's binary NUMERIC.
func DecodeNumeric(raw []byte) (int64, error) {
	v, err := decodeNumeric(raw)
	return v.i, err
}

// ErrSyncFailed is what SQLite says when fsync failed.
func ErrSyncFailed() error {
	return &Error{Engine: "sqlite", Code: strconv.Itoa(1034), Message: "disk I/O error"}
}

// Statements parts a step.
var Statements = statements
