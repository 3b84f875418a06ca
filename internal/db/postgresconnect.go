package db

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrConnect: PostgreSQL took no connection: it is not there, or refused the user,
// the password or the database.
var ErrConnect = errors.New("PostgreSQL takes no connection")

// connectError is why no connection came about, on one line. It says nothing of
// the password.
type connectError struct {
	user, database string
	err            error
}

func newConnectError(cfg *pgx.ConnConfig, err error) error {
	return &connectError{user: cfg.User, database: cfg.Database, err: err}
}

// Error names each cause once: the driver tries every address, with and without TLS.
func (e *connectError) Error() string {
	var causes []string
	for _, c := range connectCauses(e.err, nil) {
		if c = strings.Join(strings.Fields(c), " "); !slices.Contains(causes, c) {
			causes = append(causes, c)
		}
	}
	return fmt.Sprintf("%v for user %q to database %q: %s", ErrConnect, e.user, e.database, strings.Join(causes, "; "))
}

// Unwrap gives ErrConnect and the driver's error.
func (e *connectError) Unwrap() []error { return []error{ErrConnect, e.err} }

// connectCauses appends the causes that lie below the driver's wrapping.
func connectCauses(err error, to []string) []string {
	if op, ok := err.(*net.OpError); ok && op.Addr != nil {
		return append(to, fmt.Sprintf("%v: %v", op.Addr, rootCause(op.Err)))
	}
	switch err := err.(type) {
	case *pgconn.PgError:
		return append(to, err.Error())
	case *net.DNSError:
		return append(to, fmt.Sprintf("look up %s: %s", err.Name, err.Err))
	case interface{ Unwrap() []error }:
		for _, e := range err.Unwrap() {
			to = connectCauses(e, to)
		}
		return to
	case interface{ Unwrap() error }:
		if inner := err.Unwrap(); inner != nil {
			return connectCauses(inner, to)
		}
	}
	return append(to, err.Error())
}

// rootCause is the innermost error: "connection refused" without the system call.
func rootCause(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}
