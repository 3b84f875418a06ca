package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresConfig describes a PostgreSQL database. URL is required.
type PostgresConfig struct {
	// URL is a connection string or a list of keywords as libpq takes them
	// (postgres://user@host/name?sslmode=verify-full). Every node needs its own
	// session: a pooler must be in session mode, or the URL must say
	// default_query_exec_mode=exec.
	URL string
	// MaxConns bounds the connections; 0 means 16.
	MaxConns int
	// TxTimeout is how long an Update may take once it has begun, the commit
	// included; 0 means 60 s.
	TxTimeout time.Duration
	// Retries is how often an Update is run again after a serialisation failure or
	// a deadlock; 0 means 10.
	Retries int
	// Logger gets what an operator should know; nil discards.
	Logger *slog.Logger
	// Hooks are called for metrics.
	Hooks PostgresHooks
}

// PostgresHooks are optional functions. They must return at once and must not call
// the database.
type PostgresHooks struct {
	// Update is called after each Update: how long it took and how often its function ran.
	Update func(took time.Duration, runs int)
	// View is called after each View with its duration.
	View func(took time.Duration)
}

func (c PostgresConfig) withDefaults() PostgresConfig {
	if c.MaxConns <= 0 {
		c.MaxConns = 16
	}
	if c.TxTimeout <= 0 {
		c.TxTimeout = time.Minute
	}
	if c.Retries <= 0 {
		c.Retries = 10
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Postgres is the engine for many nodes. Updates run READ COMMITTED, Views in a
// snapshot of their own (REPEATABLE READ, READ ONLY).
type Postgres struct {
	cfg     PostgresConfig
	pool    *pool
	low     chan struct{} // one for each UpdateLow at work
	storeID string
	queries placeholders
	closing sync.Once
}

// minPostgres is the oldest release served, as in server_version_num.
const minPostgres = 150000

// OpenPostgres connects and makes the engine's own tables if they are missing. ctx
// bounds the opening alone. An unreachable server is an error here; later its
// connections are replaced as they fail.
func OpenPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	cfg = cfg.withDefaults()
	if cfg.URL == "" {
		return nil, errors.New("open database: PostgresConfig.URL is empty")
	}
	pc, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if pc.ConnectTimeout == 0 {
		pc.ConnectTimeout = 10 * time.Second
	}
	if pc.RuntimeParams["application_name"] == "" {
		pc.RuntimeParams["application_name"] = "poczta"
	}
	d := &Postgres{cfg: cfg, pool: newPool(pc, cfg.MaxConns), low: make(chan struct{}, max(1, cfg.MaxConns/2))}
	err = d.Update(ctx, func(tx Tx) error {
		d.storeID, err = openStore(tx)
		return err
	})
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	return d, nil
}

// maxIdle is how long PostgreSQL lets a transaction wait for its client's next statement. A node
// that is frozen with rows locked must not hold up the others for longer than a lease
// of theirs lasts. Who sets another time, in the URL or for the role, gets that.
const maxIdle = 20 * time.Second

// prepareSession sets what every connection needs. A commit must be durable when
// it is reported, whatever the server's or the role's default says; a stronger setting
// (remote_apply) stays.
func prepareSession(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `SET client_encoding = 'UTF8'; SET timezone = 'UTC';
		SELECT set_config('synchronous_commit', 'on', false)
		WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');
		SELECT set_config('idle_in_transaction_session_timeout', '`+strconv.FormatInt(maxIdle.Milliseconds(), 10)+`', false)
		WHERE current_setting('idle_in_transaction_session_timeout') = '0'`)
	return err
}

// openStore reads the store's id; on a fresh database it makes the tables, one
// node at a time.
func openStore(tx Tx) (string, error) {
	const find = "SELECT COUNT(*) FROM pg_catalog.pg_class WHERE oid = to_regclass(?) OR oid = to_regclass(?)"
	var tables int
	if err := tx.QueryRow(find, "store", "schema_step").Scan(&tables); err != nil {
		return "", err
	}
	if tables == 2 {
		var id string
		err := tx.QueryRow("SELECT id FROM store").Scan(&id)
		if !errors.Is(err, ErrNotFound) {
			return id, err
		}
	}
	if _, err := tx.Exec("SELECT pg_advisory_xact_lock(?)", migrateLock); err != nil {
		return "", err
	}
	return initStore(tx, "postgresql")
}

// Engine implements Database.
func (d *Postgres) Engine() string { return "postgresql" }

// StoreID implements Database.
func (d *Postgres) StoreID() string { return d.storeID }

// Close refuses new work, waits for what is running and closes the connections.
func (d *Postgres) Close() error {
	var err error
	d.closing.Do(func() { err = d.pool.close() })
	return err
}

// Update implements Database. fn runs again after a serialisation failure or a
// deadlock. If the connection is lost while the commit is under way the error is
// ErrUnknownOutcome.
func (d *Postgres) Update(ctx context.Context, fn func(Tx) error) error {
	return d.update(ctx, d.cfg.TxTimeout, fn)
}

// UpdateLow implements Database: as Update, while PostgreSQL shares the machine
// between transactions by itself. It leaves half of the connections to others.
func (d *Postgres) UpdateLow(ctx context.Context, fn func(Tx) error) error {
	select {
	case d.low <- struct{}{}:
		defer func() { <-d.low }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return d.update(ctx, d.cfg.TxTimeout, fn)
}

// beforeMigrate implements migrator: copies of a PostgreSQL are its operator's.
func (d *Postgres) beforeMigrate(context.Context) error { return nil }

// afterMigrate implements migrator.
func (d *Postgres) afterMigrate() {}

// updateSchema implements migrator.
func (d *Postgres) updateSchema(ctx context.Context, fn func(Tx) error) error {
	return d.update(ctx, 0, fn)
}

func (d *Postgres) update(ctx context.Context, limit time.Duration, fn func(Tx) error) error {
	start := time.Now()
	runs, err := d.repeat(ctx, limit, "begin isolation level read committed read write", fn)
	if h := d.cfg.Hooks.Update; h != nil {
		h(time.Since(start), runs)
	}
	return err
}

// repeat runs fn until its outcome is no matter of luck, and says how often.
func (d *Postgres) repeat(ctx context.Context, limit time.Duration, begin string, fn func(Tx) error) (runs int, err error) {
	for {
		runs++
		err = d.transaction(ctx, limit, begin, fn)
		if runs > d.cfg.Retries || !retryable(err) || pause(ctx, runs) != nil {
			return runs, err
		}
	}
}

// pause waits a random, growing time, so that transactions that met do not meet
// again. The context counts: nothing has begun.
func pause(ctx context.Context, run int) error {
	most := time.Millisecond << min(run, 6)
	t := time.NewTimer(rand.N(most))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// MaxPostgresView is how long a View of PostgreSQL may run, the network and a
// busy server included: it keeps dead rows from being removed. A View is written
// for MaxView all the same.
const MaxPostgresView = 10 * time.Second

// View implements Database. A View that takes longer than MaxPostgresView is
// stopped; the error is ErrTooLong.
func (d *Postgres) View(ctx context.Context, fn func(Tx) error) error {
	start := time.Now()
	_, err := d.repeat(ctx, MaxPostgresView, "begin isolation level repeatable read read only", fn)
	if h := d.cfg.Hooks.View; h != nil {
		h(time.Since(start))
	}
	return err
}

// CheckServer names what of the server forbids trusting it with mail: an error
// for each of a release before 15, fsync or full_page_writes off, a database not
// in UTF-8. nil means none.
func (d *Postgres) CheckServer(ctx context.Context) error {
	var problems []error
	err := d.View(ctx, func(tx Tx) error {
		problems = nil
		settings := make(map[string]string)
		for _, name := range []string{"server_version_num", "fsync", "full_page_writes", "server_encoding", "server_version"} {
			var v string
			if err := tx.QueryRow("SELECT current_setting(?)", name).Scan(&v); err != nil {
				return err
			}
			settings[name] = v
		}
		if n, err := strconv.Atoi(settings["server_version_num"]); err != nil || n < minPostgres {
			problems = append(problems, fmt.Errorf("PostgreSQL is release %s: 15 or later is needed", settings["server_version"]))
		}
		for _, name := range []string{"fsync", "full_page_writes"} {
			if settings[name] != "on" {
				problems = append(problems, fmt.Errorf("PostgreSQL runs with %s = %s, which loses mail when power fails: set it to on", name, settings[name]))
			}
		}
		if !strings.EqualFold(settings["server_encoding"], "UTF8") {
			problems = append(problems, fmt.Errorf("PostgreSQL's database is encoded in %s: create one with ENCODING 'UTF8'", settings["server_encoding"]))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("check PostgreSQL: %w", err)
	}
	return errors.Join(problems...)
}
