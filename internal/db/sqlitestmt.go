package db

import (
	"fmt"
	"strings"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// maxArena is how much memory for parameters a statement keeps between uses, in
// octets.
const maxArena = 64 << 10

// stmt is a prepared statement of one connection.
type stmt struct {
	c         *conn
	p         uintptr // sqlite3_stmt
	query     string
	params    int
	columns   int
	used      uint64
	busy      bool // between its first step and reset
	temporary bool // not in the cache
	forbidden bool // to functions: see forbidden

	arena    uintptr // C memory with the text and octets bound
	arenaCap int
}

// newStmt compiles query, which must be one statement.
func newStmt(c *conn, query string) (*stmt, error) {
	text, err := libc.CString(query)
	if err != nil {
		return nil, fmt.Errorf("prepare statement: %w", err)
	}
	defer libc.Xfree(c.tls, text)
	out := libc.Xmalloc(c.tls, 16)
	if out == 0 {
		return nil, fmt.Errorf("prepare statement: out of memory")
	}
	defer libc.Xfree(c.tls, out)
	res := (*[2]uintptr)(pointer(out))
	*res = [2]uintptr{}
	rc := sqlite3.Xsqlite3_prepare_v3(c.tls, c.db, text, int32(len(query)+1), sqlite3.SQLITE_PREPARE_PERSISTENT, out, out+8)
	if rc != sqlite3.SQLITE_OK {
		return nil, c.error(rc, query)
	}
	if res[0] == 0 {
		return nil, fmt.Errorf("prepare statement: %q holds no SQL", shorten(query))
	}
	s := &stmt{c: c, p: res[0], query: strings.Clone(query), forbidden: forbidden(query)}
	if tail := query[res[1]-text:]; !blank(tail) {
		s.finalize()
		return nil, fmt.Errorf("prepare statement: more than one statement in %q", shorten(query))
	}
	s.params = int(sqlite3.Xsqlite3_bind_parameter_count(c.tls, s.p))
	s.columns = int(sqlite3.Xsqlite3_column_count(c.tls, s.p))
	return s, nil
}

// blank reports whether nothing but white space and semicolons is left of s.
func blank(s string) bool {
	for i := range len(s) {
		switch s[i] {
		case ' ', '\t', '\r', '\n', ';':
		default:
			return false
		}
	}
	return true
}

// finalize frees the statement.
func (s *stmt) finalize() {
	sqlite3.Xsqlite3_finalize(s.c.tls, s.p)
	if s.arena != 0 {
		libc.Xfree(s.c.tls, s.arena)
	}
	s.p, s.arena, s.arenaCap = 0, 0, 0
}

// bind gives the statement its parameters. Text and octets are copied into the
// arena, which the statement refers to until the next bind.
func (s *stmt) bind(args []any) error {
	if len(args) != s.params {
		return fmt.Errorf("bind parameters: statement has %d, got %d: %s", s.params, len(args), shorten(s.query))
	}
	var fixed [16]value
	values := fixed[:0]
	if len(args) > len(fixed) {
		values = make([]value, 0, len(args))
	}
	size := 1
	for i, a := range args {
		v, err := toValue(a, i+1)
		if err != nil {
			return fmt.Errorf("bind parameters: %w: %s", err, shorten(s.query))
		}
		values = append(values, v)
		size += len(v.b)
	}
	if err := s.reserve(size); err != nil {
		return err
	}
	at := s.arena
	for i := range values {
		v := &values[i]
		if rc := s.bindOne(int32(i+1), v, at); rc != sqlite3.SQLITE_OK {
			return s.c.error(rc, s.query)
		}
		at += uintptr(len(v.b))
	}
	return nil
}

// bindOne binds parameter i, its octets copied to the address at.
func (s *stmt) bindOne(i int32, v *value, at uintptr) int32 {
	tls := s.c.tls
	if len(v.b) > 0 {
		copy(unsafe.Slice((*byte)(pointer(at)), len(v.b)), v.b)
	}
	switch v.kind {
	case kindInt:
		return sqlite3.Xsqlite3_bind_int64(tls, s.p, i, v.i)
	case kindText:
		return sqlite3.Xsqlite3_bind_text(tls, s.p, i, at, int32(len(v.b)), 0)
	case kindBlob:
		return sqlite3.Xsqlite3_bind_blob(tls, s.p, i, at, int32(len(v.b)), 0)
	}
	return sqlite3.Xsqlite3_bind_null(tls, s.p, i)
}

// maxParameters bounds the octets of one statement's parameters.
const maxParameters = 512 << 20

// reserve makes the arena at least size octets large.
func (s *stmt) reserve(size int) error {
	if size <= s.arenaCap {
		return nil
	}
	if size > maxParameters {
		return fmt.Errorf("bind parameters: %d octets are more than the %d allowed", size, maxParameters)
	}
	if s.arena != 0 {
		sqlite3.Xsqlite3_clear_bindings(s.c.tls, s.p)
		libc.Xfree(s.c.tls, s.arena)
	}
	s.arenaCap = max(256, size)
	if s.arena = libc.Xmalloc(s.c.tls, libc.Tsize_t(s.arenaCap)); s.arena == 0 {
		s.arenaCap = 0
		return fmt.Errorf("bind parameters: out of memory for %d octets", size)
	}
	return nil
}

// step runs to the next row and reports whether there is one. After an error or
// the last row the statement is reset.
func (s *stmt) step() (bool, error) {
	s.busy = true
	rc := sqlite3.Xsqlite3_step(s.c.tls, s.p)
	switch rc {
	case sqlite3.SQLITE_ROW:
		return true, nil
	case sqlite3.SQLITE_DONE:
		return false, nil
	}
	err := s.c.error(rc, s.query)
	if rc&0xff == sqlite3.SQLITE_INTERRUPT {
		if cause := s.c.stop(); cause != nil {
			err = cause
		}
	}
	return false, err
}

// reset ends the statement's run and makes it ready for the next.
func (s *stmt) reset() {
	if s.p == 0 {
		return
	}
	sqlite3.Xsqlite3_reset(s.c.tls, s.p)
	s.busy = false
	if s.temporary {
		s.finalize()
		return
	}
	if s.arenaCap > maxArena {
		sqlite3.Xsqlite3_clear_bindings(s.c.tls, s.p)
		libc.Xfree(s.c.tls, s.arena)
		s.arena, s.arenaCap = 0, 0
	}
}

// exec binds, runs to the end and returns the number of rows changed, which is
// 0 for a statement that only reads.
func (s *stmt) exec(args []any) (int64, error) {
	if s.params > 0 || len(args) > 0 {
		if err := s.bind(args); err != nil {
			return 0, err
		}
	}
	defer s.reset()
	before := sqlite3.Xsqlite3_total_changes64(s.c.tls, s.c.db)
	for {
		more, err := s.step()
		if err != nil {
			return 0, err
		}
		if !more {
			break
		}
	}
	if sqlite3.Xsqlite3_total_changes64(s.c.tls, s.c.db) == before {
		return 0, nil
	}
	return sqlite3.Xsqlite3_changes64(s.c.tls, s.c.db), nil
}

// column is column i (from 0) of the present row. Its octets are valid until the
// next step.
func (s *stmt) column(i int) value {
	tls, n := s.c.tls, int32(i)
	switch sqlite3.Xsqlite3_column_type(tls, s.p, n) {
	case sqlite3.SQLITE_NULL:
		return value{}
	case sqlite3.SQLITE_INTEGER:
		return value{kind: kindInt, i: sqlite3.Xsqlite3_column_int64(tls, s.p, n)}
	case sqlite3.SQLITE_TEXT:
		p := sqlite3.Xsqlite3_column_text(tls, s.p, n)
		return value{kind: kindText, b: s.octets(p, n)}
	case sqlite3.SQLITE_BLOB:
		p := sqlite3.Xsqlite3_column_blob(tls, s.p, n)
		return value{kind: kindBlob, b: s.octets(p, n)}
	}
	return value{kind: kindOther}
}

func (s *stmt) octets(p uintptr, n int32) []byte {
	size := sqlite3.Xsqlite3_column_bytes(s.c.tls, s.p, n)
	if p == 0 || size == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(pointer(p)), int(size))
}

// scan stores the present row in dest.
func (s *stmt) scan(dest []any) error {
	if len(dest) != s.columns {
		return fmt.Errorf("scan row: %d columns, %d destinations: %s", s.columns, len(dest), shorten(s.query))
	}
	for i, d := range dest {
		if err := assign(d, s.column(i), i+1); err != nil {
			return fmt.Errorf("%w: %s", err, shorten(s.query))
		}
	}
	return nil
}
