package db

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"modernc.org/libc"
	_ "modernc.org/sqlite" // prepares the library for use below database/sql
	sqlite3 "modernc.org/sqlite/lib"
)

// maxStatements bounds the statements a connection keeps prepared; the one unused
// for longest makes room.
const maxStatements = 512

// progressOps is how many steps of SQLite's machine lie between two looks at the
// deadline of a View: some 100 µs.
const progressOps = 10000

// conn is one connection to a SQLite file, below database/sql: a statement costs
// its work and little else. It is used by one goroutine at a time; interrupt
// alone may come from another.
type conn struct {
	tls *libc.TLS
	db  uintptr

	stmts map[string]*stmt
	clock uint64 // counts uses, for the choice of the statement to drop

	// shared is memory outside Go's heap that SQLite's callbacks get: see watch.
	shared *watch
	// log is the logFile of the connection that writes, and opened the open file
	// before which it stands; both are C memory, 0 where there is none.
	log, opened uintptr

	ctx  context.Context // of the View at work, nil when it can't be cancelled
	done <-chan struct{}
}

// watch is what the callbacks of a connection read and write. It lies in C
// memory, because its address passes through SQLite.
type watch struct {
	deadline  int64 // Unix nanoseconds at which a statement is stopped; 0: never
	walFrames int64 // frames in the write-ahead log after the last commit
}

// pointer turns an address of C memory into a pointer.
func pointer(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// callback is the address of a C-callable function f, given as pointer to a struct
// that holds it. f must be a top-level function.
func callback[F any](f F) uintptr {
	return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f}))
}

// onProgress stops a statement past its deadline.
func onProgress(_ *libc.TLS, arg uintptr) int32 {
	w := (*watch)(pointer(arg))
	if w.deadline != 0 && time.Now().UnixNano() > w.deadline {
		return 1
	}
	return 0
}

// onCommit notes how long the write-ahead log has become.
func onCommit(_ *libc.TLS, arg, _, _ uintptr, frames int32) int32 {
	(*watch)(pointer(arg)).walFrames = int64(frames)
	return sqlite3.SQLITE_OK
}

// openConn opens the database file, creating it if it is missing.
func openConn(path string, pragmas []string) (*conn, error) {
	c := &conn{tls: libc.NewTLS(), stmts: make(map[string]*stmt)}
	name, err := libc.CString(path)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	defer libc.Xfree(c.tls, name)
	out := libc.Xmalloc(c.tls, 8)
	shared := libc.Xmalloc(c.tls, libc.Tsize_t(unsafe.Sizeof(watch{})))
	if out == 0 || shared == 0 {
		return nil, fmt.Errorf("open database %s: out of memory", path)
	}
	defer libc.Xfree(c.tls, out)
	c.shared = (*watch)(pointer(shared))
	*c.shared = watch{}
	flags := int32(sqlite3.SQLITE_OPEN_READWRITE | sqlite3.SQLITE_OPEN_CREATE | sqlite3.SQLITE_OPEN_NOMUTEX)
	rc := sqlite3.Xsqlite3_open_v2(c.tls, name, out, flags, 0)
	c.db = *(*uintptr)(pointer(out))
	if rc != sqlite3.SQLITE_OK {
		err := c.error(rc, "")
		c.close()
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	sqlite3.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	sqlite3.Xsqlite3_progress_handler(c.tls, c.db, progressOps, callback(onProgress), shared)
	for _, p := range pragmas {
		if err := c.run("PRAGMA " + p); err != nil {
			c.close()
			return nil, fmt.Errorf("open database %s: %w", path, err)
		}
	}
	// after the pragmas: wal_autocheckpoint removes whatever hook is there
	sqlite3.Xsqlite3_wal_hook(c.tls, c.db, callback(onCommit), shared)
	return c, nil
}

// close finalizes every statement and closes the connection.
func (c *conn) close() error {
	for _, s := range c.stmts {
		s.finalize()
	}
	c.stmts = nil
	var err error
	if c.db != 0 {
		if rc := sqlite3.Xsqlite3_close_v2(c.tls, c.db); rc != sqlite3.SQLITE_OK {
			err = c.error(rc, "")
		}
		c.db = 0
	}
	if c.shared != nil {
		libc.Xfree(c.tls, uintptr(unsafe.Pointer(c.shared)))
		c.shared = nil
	}
	if c.log != 0 {
		libc.Xfree(c.tls, c.log)
		c.log = 0
	}
	c.tls.Close()
	return err
}

// autocommit reports whether no transaction stands.
func (c *conn) autocommit() bool { return sqlite3.Xsqlite3_get_autocommit(c.tls, c.db) != 0 }

// busyTimeout sets how long the locks of others are waited for.
func (c *conn) busyTimeout(d time.Duration) {
	sqlite3.Xsqlite3_busy_timeout(c.tls, c.db, int32(d.Milliseconds()))
}

// interrupt stops the statement at work; it may be called by any goroutine while
// the connection is open.
func (c *conn) interrupt() {
	tls := libc.NewTLS()
	defer tls.Close()
	sqlite3.Xsqlite3_interrupt(tls, c.db)
}

// stop is the error that forbids the next statement of a View: its time is up or
// its context ended.
func (c *conn) stop() error {
	if c.done != nil {
		select {
		case <-c.done:
			return context.Cause(c.ctx)
		default:
		}
	}
	if d := c.shared.deadline; d != 0 && time.Now().UnixNano() > d {
		return fmt.Errorf("%w: a View must end within %v, read in pages by key", ErrTooLong, MaxSQLiteView)
	}
	return nil
}

// run executes a statement whose rows nobody needs.
func (c *conn) run(query string) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	_, err = s.exec(nil)
	return err
}

// prepare returns the prepared statement of query, from the cache if it is there
// and not in use. A statement outside the cache is finalized when it is done.
func (c *conn) prepare(query string) (*stmt, error) {
	c.clock++
	s := c.stmts[query]
	if s != nil && !s.busy {
		s.used = c.clock
		return s, nil
	}
	fresh, err := newStmt(c, query)
	if err != nil {
		return nil, err
	}
	fresh.used = c.clock
	if s != nil {
		fresh.temporary = true
		return fresh, nil
	}
	if len(c.stmts) >= maxStatements {
		c.dropOldest()
	}
	c.stmts[fresh.query] = fresh
	return fresh, nil
}

// dropOldest finalizes the cached statement unused for longest.
func (c *conn) dropOldest() {
	var oldest *stmt
	for _, s := range c.stmts {
		if !s.busy && (oldest == nil || s.used < oldest.used) {
			oldest = s
		}
	}
	if oldest != nil {
		delete(c.stmts, oldest.query)
		oldest.finalize()
	}
}

// checkpoint copies the write-ahead log into the database file. It returns the
// frames in the log and how many of them lie in the file now.
func (c *conn) checkpoint(mode int32) (frames, copied int, err error) {
	out := libc.Xmalloc(c.tls, 8)
	if out == 0 {
		return 0, 0, errors.New("checkpoint: out of memory")
	}
	defer libc.Xfree(c.tls, out)
	rc := sqlite3.Xsqlite3_wal_checkpoint_v2(c.tls, c.db, 0, mode, out, out+4)
	n := (*[2]int32)(pointer(out))
	if rc != sqlite3.SQLITE_OK {
		return 0, 0, c.error(rc, "")
	}
	return int(n[0]), int(n[1]), nil
}

// error turns a result code into an *Error with the sentinel that fits.
func (c *conn) error(rc int32, query string) error {
	e := &Error{Engine: "sqlite", Code: strconv.Itoa(int(rc)), Query: shorten(query), Err: sqliteSentinel(rc)}
	if c.db != 0 {
		e.Message = libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db))
		if x := sqlite3.Xsqlite3_extended_errcode(c.tls, c.db); x&0xff == rc&0xff {
			e.Code = strconv.Itoa(int(x))
			e.Err = sqliteSentinel(x)
		}
	}
	if e.Message == "" {
		e.Message = libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))
	}
	return e
}

// sqliteSentinel is the package's error for an extended result code.
func sqliteSentinel(rc int32) error {
	switch rc {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return ErrConflict
	case sqlite3.SQLITE_IOERR_SHMSIZE: // the index of the log could not grow: in practice a full disk
		return ErrFull
	}
	switch rc & 0xff {
	case sqlite3.SQLITE_CONSTRAINT:
		return ErrConstraint
	case sqlite3.SQLITE_FULL:
		return ErrFull
	}
	return nil
}
