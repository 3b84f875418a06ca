// Package pgtest starts a real PostgreSQL for tests, on a UNIX socket in a folder
// of its own. One server serves a test binary; each test gets a fresh database. The
// server ends with the binary, however that ends.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// RequireEnv is the variable that, set to 1, makes a missing PostgreSQL a failure
// instead of a reason to skip: continuous integration sets it.
const RequireEnv = "POCZTA_REQUIRE_SERVICES"

// Options choose the server.
type Options struct {
	// NoSync turns fsync off, which is faster and enough where a test is about
	// logic. Tests of durability and speed leave it on.
	NoSync bool
}

// ErrMissing means that this machine has no PostgreSQL.
var ErrMissing = errors.New("no PostgreSQL found in /usr/lib/postgresql/*/bin or PATH: install the package postgresql")

// The servers shared by the tests of a binary, started when first needed. They
// cannot be a test's own: a start costs more than most tests.
var (
	durable = sync.OnceValues(func() (*Server, error) { return start(Options{}) })
	fast    = sync.OnceValues(func() (*Server, error) { return start(Options{NoSync: true}) })
)

// URL makes an empty database for the test and returns its connection string. It
// is dropped when the test ends. The test is skipped when there is no PostgreSQL,
// and fails if RequireEnv is 1.
func URL(tb testing.TB, o Options) string {
	tb.Helper()
	get := durable
	if o.NoSync {
		get = fast
	}
	s, err := get()
	if err != nil {
		unavailable(tb, err)
	}
	return s.Database(tb)
}

// Start starts a server for one test alone, which may stop it. It is stopped when
// the test ends.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	s, err := start(o)
	if err != nil {
		unavailable(tb, err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// unavailable skips or fails the test.
func unavailable(tb testing.TB, err error) {
	tb.Helper()
	if errors.Is(err, ErrMissing) && os.Getenv(RequireEnv) != "1" {
		tb.Skipf("skipped: %v", err)
	}
	tb.Fatalf("start PostgreSQL: %v", err)
}

// Server is a running PostgreSQL.
type Server struct {
	dir   string   // of the data and the socket
	alive *os.File // the server ends when this end of a pipe is closed
	done  chan struct{}
	stop  sync.Once
	next  atomic.Int64
}

// URL is the connection string of a database on the server.
func (s *Server) URL(database string) string {
	return "postgres:///" + database + "?user=postgres&host=" + s.dir
}

// Stop ends the server at once, without asking its sessions, as a crash would, and
// removes its data. It may be called more than once.
func (s *Server) Stop() {
	s.stop.Do(func() { s.alive.Close() })
	<-s.done
}

// Database makes an empty database that is dropped when the test ends, and
// returns its connection string.
func (s *Server) Database(tb testing.TB) string {
	tb.Helper()
	name := "t" + strconv.FormatInt(s.next.Add(1), 10)
	if err := s.admin("CREATE DATABASE " + name + " TEMPLATE template0 ENCODING 'UTF8'"); err != nil {
		tb.Fatalf("create database for the test: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.admin("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			tb.Logf("drop database of the test: %v", err)
		}
	})
	return s.URL(name)
}

// admin runs one statement in the database postgres.
func (s *Server) admin(query string) error {
	select {
	case <-s.done:
		return nil // stopped, and its data with it
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, query)
	return err
}

// findBin is the folder of the newest PostgreSQL's programs.
func findBin() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	slices.SortFunc(found, func(a, b string) int { return release(a) - release(b) })
	if n := len(found); n > 0 {
		return filepath.Dir(found[n-1]), nil
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir, nil
		}
	}
	return "", ErrMissing
}

// release is the number in /usr/lib/postgresql/15/bin/initdb.
func release(path string) int {
	n, _ := strconv.Atoi(strings.Split(path, "/")[4])
	return n
}

// waitReady returns when the server answers, with its log if it never does.
func (s *Server) waitReady() error {
	limit := time.After(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		c, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			c.Close(ctx)
		}
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.done:
			return fmt.Errorf("server ended at once")
		case <-limit:
			log, _ := os.ReadFile(filepath.Join(s.dir, "data", "log"))
			return fmt.Errorf("no answer within two minutes: %w; its log: %s", err, log)
		}
	}
}
