package db

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"poczta.example/poczta/internal/disk"
)

// MaxView is how long a View of SQLite may run: a read transaction keeps the
// write-ahead log from being used anew. A View is written for it, and is stopped after
// MaxSQLiteView: a process that gets little of a busy machine is no reason to fail.
const (
	MaxView       = time.Second
	MaxSQLiteView = 5 * time.Second
)

// SQLiteConfig describes a SQLite database. Path is required.
type SQLiteConfig struct {
	// Path is the database file; it is created, readable by its owner alone, if it
	// is missing. Its folder must exist. Two more files, with -wal and -shm behind
	// the name, lie beside it while it is open and belong to it.
	Path string
	// ReadConns is how many Views run at once; 0 means twice the processors, at
	// least 4. Each connection caches up to CacheKiB/4.
	ReadConns int
	// CacheKiB is the writer's page cache in KiB; 0 means 16384.
	CacheKiB int
	// BusyTimeout is how long a lock held by another process is waited for;
	// 0 means 5 s.
	BusyTimeout time.Duration
	// CheckpointPages is the length of the write-ahead log, in pages of 4 KiB, at
	// which it is copied into the database file; 0 means 4000 (16 MiB).
	CheckpointPages int
	// SnapshotDir is where Migrate puts a copy of the database before it changes
	// the schema; "" means the folder "snapshots" beside the database.
	SnapshotDir string
	// Logger gets what an operator should know; nil discards.
	Logger *slog.Logger
	// Hooks are called for metrics; see SQLiteHooks.
	Hooks SQLiteHooks
}

// SQLiteHooks are optional functions called by the engine's goroutines. They must
// return at once and must not call the database.
type SQLiteHooks struct {
	// Batch is called after each write transaction: how many callers shared it, the
	// time their functions took and the time of the commit with its fsync.
	Batch func(callers int, run, commit time.Duration)
	// Checkpoint is called after the log was copied: its length in pages, how many
	// were copied, and how long it took.
	Checkpoint func(pages, copied int, took time.Duration)
	// View is called after each View with its duration.
	View func(took time.Duration)
}

// withDefaults fills in what is zero.
func (c SQLiteConfig) withDefaults() SQLiteConfig {
	if c.ReadConns <= 0 {
		c.ReadConns = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if c.CacheKiB <= 0 {
		c.CacheKiB = 16 << 10
	}
	if c.BusyTimeout <= 0 {
		c.BusyTimeout = 5 * time.Second
	}
	if c.CheckpointPages <= 0 {
		c.CheckpointPages = 4000
	}
	if c.SnapshotDir == "" {
		c.SnapshotDir = filepath.Join(filepath.Dir(c.Path), "snapshots")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// pragmas are run on every connection of the file.
func (c SQLiteConfig) pragmas(cacheKiB int) []string {
	return []string{
		fmt.Sprintf("busy_timeout = %d", c.BusyTimeout.Milliseconds()),
		"journal_mode = WAL",
		"synchronous = FULL",
		"foreign_keys = ON",
		"wal_autocheckpoint = 0",
		"journal_size_limit = 67108864",
		"temp_store = MEMORY",
		"trusted_schema = OFF",
		fmt.Sprintf("cache_size = -%d", cacheKiB),
	}
}

// SQLite is the embedded engine. One goroutine writes: it runs the functions of
// all waiting Update callers in one transaction, each in a savepoint, and commits
// with one fsync. Views run on connections of their own and see the last commit.
type SQLite struct {
	cfg     SQLiteConfig
	storeID string
	w       *writer
	cp      *checkpointer
	readers *readers
	joined  sync.WaitGroup
	closing sync.Once
	closed  error
}

// OpenSQLite opens the database and starts its two goroutines, which Close joins.
// Work a crash interrupted is rolled back, committed work is recovered. ctx bounds
// the opening alone.
func OpenSQLite(ctx context.Context, cfg SQLiteConfig) (*SQLite, error) {
	cfg = cfg.withDefaults()
	if cfg.Path == "" {
		return nil, errors.New("open database: SQLiteConfig.Path is empty")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var err error
	if cfg.Path, err = filepath.Abs(cfg.Path); err != nil { // SQLite gives some relative names a meaning
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := createFile(cfg.Path); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	d := &SQLite{cfg: cfg}
	wc, err := openConn(cfg.Path, cfg.pragmas(cfg.CacheKiB))
	if err != nil {
		return nil, err
	}
	if d.storeID, err = prepareStore(wc); err != nil {
		wc.close()
		return nil, fmt.Errorf("open database %s: %w", cfg.Path, err)
	}
	if err := wc.gatherLog(); err != nil {
		wc.close()
		return nil, fmt.Errorf("open database %s: %w", cfg.Path, err)
	}
	cc, err := openConn(cfg.Path, cfg.pragmas(512))
	if err != nil {
		wc.close()
		return nil, err
	}
	d.readers = newReaders(cfg)
	d.w = newWriter(wc, cfg)
	d.cp = &checkpointer{c: cc, w: d.w, cfg: cfg}
	d.joined.Go(d.w.loop)
	d.joined.Go(d.cp.loop)
	return d, nil
}

// createFile makes an empty database file, synced with its folder, if there is
// none.
func createFile(path string) (err error) {
	fsys, name, err := folder(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fsys.Close()) }()
	f, err := fsys.Create(name)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return fsys.SyncDir(".")
}

// folder opens the folder a file lies in, and returns the file's name there.
func folder(path string) (*disk.OSFS, string, error) {
	fsys, err := disk.OS(filepath.Dir(path))
	return fsys, filepath.Base(path), err
}

// prepareStore makes the engine's own tables and returns the store's id.
func prepareStore(c *conn) (string, error) {
	s, err := c.prepare("PRAGMA journal_mode")
	if err != nil {
		return "", err
	}
	var mode string
	if _, err = s.step(); err == nil {
		err = s.scan([]any{&mode})
	}
	s.reset()
	if err != nil {
		return "", err
	}
	if mode != "wal" {
		return "", fmt.Errorf("journal mode is %q, WAL is needed: is the folder on a local disk?", mode)
	}
	if err := c.run("BEGIN IMMEDIATE"); err != nil {
		return "", err
	}
	t := &sqliteTx{c: c}
	id, err := initStore(t, "sqlite")
	t.finish()
	if err == nil {
		err = c.run("COMMIT")
	}
	if err != nil && !c.autocommit() {
		err = errors.Join(err, c.run("ROLLBACK"))
	}
	return id, err
}

// initStore makes the tables both engines need, unless they are there, and
// returns the store's id.
func initStore(t Tx, engine string) (string, error) {
	for _, q := range statements(engine, storeSchema) {
		if _, err := t.Exec(q); err != nil {
			return "", err
		}
	}
	var id string
	err := t.QueryRow("SELECT id FROM store").Scan(&id)
	if !errors.Is(err, ErrNotFound) {
		return id, err
	}
	id = rand.Text()
	_, err = t.Exec("INSERT INTO store (one, id) VALUES (1, ?)", id)
	return id, err
}

// Update implements Database. fn runs on the engine's goroutine: it must not call
// the database, only its Tx.
func (d *SQLite) Update(ctx context.Context, fn func(Tx) error) error {
	return d.w.do(ctx, fn, laneHigh)
}

// UpdateLow implements Database. While Updates come, calls of UpdateLow get about
// a tenth of the time; the shorter each is, the less it delays others: see Chunks. Under load
// that never pauses a call is let in after LowPatience, so that purging cannot starve.
func (d *SQLite) UpdateLow(ctx context.Context, fn func(Tx) error) error {
	return d.w.do(ctx, fn, laneLow)
}

// Engine implements Database.
func (d *SQLite) Engine() string { return "sqlite" }

// StoreID implements Database.
func (d *SQLite) StoreID() string { return d.storeID }

// Close refuses new work, waits for what is running, empties the write-ahead log
// and closes the file. Callers still waiting get ErrClosed.
func (d *SQLite) Close() error {
	d.closing.Do(func() {
		d.w.close()
		d.joined.Wait()
		readErr := d.readers.close()
		_, _, err := d.w.c.checkpoint(sqlite3.SQLITE_CHECKPOINT_TRUNCATE)
		if err != nil { // no harm: the next start recovers the log
			d.cfg.Logger.Warn("checkpoint at close failed", "error", err)
		}
		d.closed = errors.Join(readErr, d.cp.c.close(), d.w.c.close())
	})
	return d.closed
}
