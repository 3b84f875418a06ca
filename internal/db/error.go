package db

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Error is a statement or a commit that the engine refused. It unwraps to one of
// the package's sentinels where one fits. The values of parameters are never part
// of it, so that it may be logged.
type Error struct {
	Engine  string // "sqlite" or "postgresql"
	Code    string // SQLite's extended result code or PostgreSQL's SQLSTATE
	Message string // the engine's own words
	Query   string // the statement, shortened; empty for a connection's error
	Err     error  // ErrConflict, ErrFull … or nil
}

// Error names the cause first, then the engine's words and the statement.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Err != nil {
		b.WriteString(e.Err.Error())
		b.WriteString(": ")
	}
	b.WriteString(e.Engine)
	b.WriteByte(' ')
	b.WriteString(e.Code)
	b.WriteString(": ")
	b.WriteString(e.Message)
	if e.Query != "" {
		b.WriteString(" in ")
		b.WriteString(e.Query)
	}
	return b.String()
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }

// errOpenRows is the error of a statement begun while Rows are open.
var errOpenRows = errors.New("statement begun while Rows are open: close them first")

// errNoRow is the error of Scan without a row: before Next, or after it was false.
var errNoRow = errors.New("scan row: Next has not been called or was false")

// errFinished is the error of a Tx used after its function returned.
var errFinished = errors.New("transaction used after its function returned")

// forbidden reports whether query begins with a word that only the engines may
// say: what begins and ends transactions, and what changes a connection.
func forbidden(query string) bool {
	for {
		query = strings.TrimLeft(query, " \t\r\n;(")
		switch {
		case strings.HasPrefix(query, "--"):
			query = query[skipPast(query, 2, "\n"):]
			continue
		case strings.HasPrefix(query, "/*"):
			query = query[skipPast(query, 2, "*/"):]
			continue
		}
		break
	}
	end := strings.IndexFunc(query, func(r rune) bool { return !unicode.IsLetter(r) })
	if end < 0 {
		end = len(query)
	}
	switch strings.ToUpper(query[:end]) {
	case "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "PREPARE",
		"ATTACH", "DETACH", "PRAGMA", "VACUUM", "SET", "RESET", "DISCARD", "LISTEN", "UNLISTEN", "COPY":
		return true
	}
	return false
}

func forbiddenError(query string) error {
	return fmt.Errorf("statement is not for functions of a transaction: %s", shorten(query))
}

// maxErrorQuery is how much of a statement an Error repeats, in octets.
const maxErrorQuery = 200

// shorten is query on one line and at most maxErrorQuery octets long.
func shorten(query string) string {
	query = strings.Join(strings.Fields(query), " ")
	if len(query) > maxErrorQuery {
		query = strings.ToValidUTF8(query[:maxErrorQuery], "") + "…"
	}
	return query
}
