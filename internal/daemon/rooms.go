package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/forward"
	"poczta.example/poczta/internal/keys"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/queue"
	"poczta.example/poczta/internal/rebuild"
	"poczta.example/poczta/internal/repeat"
	"poczta.example/poczta/internal/tlspolicy"
	"poczta.example/poczta/internal/trace"
	"poczta.example/poczta/internal/vacation"
)

// Names in the data folder.
const (
	DatabaseFile   = "poczta.db"
	SegmentFolder  = "segments"
	SnapshotFolder = "snapshots"
	tlsFolder      = "tls"
	lockFile       = "lock"
	restoringFile  = "restoring" // while a restore makes the database
	snapshotForm   = "20060102T150405.000Z.db"
)

// ErrBusy is returned when another process holds the data folder.
var ErrBusy = errors.New("the data folder is in use by another process")

// Components are the tables of all rooms, in the order of migration.
func Components() []db.Component {
	rooms := []db.Component{account.Component(), body.Schema, mailbox.Schema, queue.Schema, trace.Schema, rebuild.Schema, settings, keys.Schema, tlspolicy.Schema, forward.Schema, vacation.Schema, repeat.Schema}
	return append(rooms, filterComponents()...)
}

// Rooms are the engines that hold state, opened once for a process: a server,
// or a command while no server runs.
type Rooms struct {
	Config     *config.Config
	ConfigFile string     // where Config was read from, for backups; "" when it is not known
	Files      *disk.OSFS // the data folder
	DB         db.Database
	Body       body.Store
	Segments   *body.Segments // nil when bodies are rows
	Journal    body.Journal
	Accounts   *account.Accounts
	Keys       *keys.Keys
	Mailboxes  *mailbox.Store
	Queue      *queue.Queue
	Trace      *trace.Trace
	Post       *post.Post
	FilterRooms

	// Gateway is the address that nearly all connections of the running server come
	// from, if there is one; nil outside a server.
	Gateway func() (netip.Addr, bool)
	// Listening is where the running server listens; nil outside a server.
	Listening []Listening
	// Blocked tells that port 25 seems to be blocked on its way out; nil as Gateway is.
	Blocked func() bool

	backing sync.Mutex     // held while a backup is made
	closers []func() error // in the order of opening
}

// RoomOptions says how rooms are opened. Zero fields are defaults.
type RoomOptions struct {
	Logger  *slog.Logger
	Metrics *obs.Metrics // nil makes one that nobody reads
	// File is the configuration's file, for backups.
	File string
	// Migrate brings PostgreSQL's schema up to this program; SQLite's is always.
	Migrate bool
	// Beside opens PostgreSQL with bodies in rows without the data folder's lock,
	// as commands do while servers run. For other stores it is ignored.
	Beside bool
}

// OpenRooms opens the data folder, which it makes if need be, takes its lock, and
// opens everything in it. The error wraps ErrBusy when another process has it.
func OpenRooms(ctx context.Context, c *config.Config, o RoomOptions) (*Rooms, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = obs.NewMetrics()
	}
	r := &Rooms{Config: c, ConfigFile: o.File}
	if err := r.open(ctx, o); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Rooms) open(ctx context.Context, o RoomOptions) error {
	if err := r.lock(o.Beside && r.Config.Store.Engine == "postgresql" && !r.Config.BodiesInSegments()); err != nil {
		return err
	}
	for _, step := range []func(context.Context, RoomOptions) error{r.openDB, r.openBody, r.openDomain} {
		if err := step(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// lock makes the folder and takes its lock, unless the caller works beside others.
func (r *Rooms) lock(beside bool) error {
	if err := os.MkdirAll(r.Config.Data, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	files, err := disk.OS(r.Config.Data)
	if err != nil {
		return fmt.Errorf("open data folder: %w", err)
	}
	r.Files = files
	r.closers = append(r.closers, files.Close)
	if beside {
		return nil
	}
	l, err := files.Lock(lockFile)
	if errors.Is(err, disk.ErrLocked) {
		return fmt.Errorf("%w: %s; end it, or wait until it is done", ErrBusy, r.Config.Data)
	}
	if err != nil {
		return fmt.Errorf("lock data folder %s: %w", r.Config.Data, err)
	}
	r.closers = append(r.closers, l.Close)
	return nil
}

func (r *Rooms) openDB(ctx context.Context, o RoomOptions) error {
	if r.Config.Store.Engine == "postgresql" {
		return r.openPostgres(ctx, o)
	}
	if err := r.unfinished(); err != nil {
		return err
	}
	if err := r.Files.MkdirAll(SnapshotFolder); err != nil {
		return fmt.Errorf("make snapshot folder: %w", err)
	}
	if old, err := rebuild.Finish(r.Files, DatabaseFile); err != nil {
		return fmt.Errorf("finish store rebuild: %w", err)
	} else if old != "" {
		o.Logger.Warn("an interrupted store rebuild is finished", "old_database", old)
	}
	if err := r.dropMoment(); err != nil {
		return err
	}
	d, err := db.OpenSQLite(ctx, db.SQLiteConfig{Path: r.Config.Sub(DatabaseFile), ReadConns: r.Config.Store.Connections,
		SnapshotDir: r.Config.Sub(SnapshotFolder), Logger: o.Logger})
	if err != nil {
		return err
	}
	r.DB = d
	r.closers = append(r.closers, d.Close)
	if err := holdings.Unfinished(ctx, d); err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	return db.Migrate(ctx, d, Components())
}

func (r *Rooms) openPostgres(ctx context.Context, o RoomOptions) error {
	d, err := db.OpenPostgres(ctx, db.PostgresConfig{URL: r.Config.Store.URL, MaxConns: r.Config.Store.Connections, Logger: o.Logger, Hooks: o.Metrics.Postgres()})
	if errors.Is(err, db.ErrConnect) {
		return fmt.Errorf("%w; make it answer there, or correct store.url, then run the same command again", err)
	}
	if err != nil {
		return err
	}
	r.DB = d
	r.closers = append(r.closers, d.Close)
	if err := d.CheckServer(ctx); err != nil {
		return fmt.Errorf("PostgreSQL can't be trusted with mail: %w", err)
	}
	if err := holdings.Unfinished(ctx, d); err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if o.Migrate {
		return db.Migrate(ctx, d, Components())
	}
	if err := db.Check(ctx, d, Components()); err != nil {
		return fmt.Errorf("check database: %w; run: poczta store migrate", err)
	}
	return nil
}

func (r *Rooms) openDomain(_ context.Context, o RoomOptions) error {
	var err error
	if r.Accounts, err = account.New(r.accountConfig(o)); err != nil {
		return err
	}
	if r.Keys, err = newKeys(r.DB, r.Config, o); err != nil {
		return fmt.Errorf("open signing keys: %w", err)
	}
	retention := r.Config.Store.Retention.Duration()
	if retention == 0 {
		retention = mailbox.NoRetention
	}
	r.Mailboxes, err = mailbox.New(mailbox.Config{DB: r.DB, Body: r.Body, Journal: r.Journal, Retention: retention, Quota: r.quota,
		ListingBudget: int64(r.Config.Limits.Memory) / 4, Exclusive: r.Config.POP3.Exclusive, Logger: o.Logger, Hooks: o.Metrics.Mailboxes()})
	if err != nil {
		return fmt.Errorf("open mailboxes: %w", err)
	}
	r.Trace, err = trace.New(trace.Config{DB: r.DB, KeepEvents: r.Config.Store.TraceKept.Duration(), KeepFates: r.Config.Store.FatesKept.Duration(), Logger: o.Logger})
	if err != nil {
		return fmt.Errorf("open trace: %w", err)
	}
	r.Queue, err = queue.New(queue.Config{DB: r.DB, Trace: r.Trace, Finished: r.finished(o.Logger), Lifetime: r.Config.Relay.Lifetime.Duration(), Logger: o.Logger, Hooks: o.Metrics.Queue()})
	if err != nil {
		return fmt.Errorf("open queue: %w", err)
	}
	r.Post, err = post.New(post.Config{DB: r.DB, Body: r.Body, Mailboxes: r.Mailboxes, Queue: r.Queue, Trace: r.Trace,
		Logger: o.Logger, Hooks: o.Metrics.Post()})
	if err != nil {
		return fmt.Errorf("open post: %w", err)
	}
	return r.openFilters(o)
}

func (r *Rooms) accountConfig(o RoomOptions) account.Config {
	c := account.Config{DB: r.DB, Logger: o.Logger, Hooks: o.Metrics.Accounts(), Separator: r.Config.SMTP.SubaddressSplitter, Iterations: r.Config.Auth.Iterations}
	if c.Separator == "" {
		c.Separator = "none"
	}
	if a, err := address.Parse(r.Config.Accounts.Postmaster); err == nil {
		c.Postmaster = a
	}
	return c
}

// quota is an account's quota in octets, the common one when it has none; 0 is no limit.
func (r *Rooms) quota(ctx context.Context, id envelope.AccountID) (int64, error) {
	a, err := r.Accounts.ByID(ctx, id)
	if err != nil {
		return 0, err
	}
	return r.QuotaOf(a.Quota), nil
}

// QuotaOf is the quota that holds for an account whose own is q octets.
func (r *Rooms) QuotaOf(q int64) int64 {
	if q == 0 {
		return int64(r.Config.Accounts.Quota)
	}
	return q
}

// finished tells the journal and the body store of messages that left the queue.
func (r *Rooms) finished(log *slog.Logger) func(finished, dead []message.ID) {
	return func(finished, dead []message.ID) {
		events := make([]body.Event, len(finished))
		for i, id := range finished {
			events[i] = body.Event{Kind: body.EventFinished, ID: id, Time: time.Now()}
		}
		r.Journal.Append(events...)
		if len(dead) == 0 {
			return
		}
		if err := r.Body.Remove(context.Background(), dead); err != nil {
			log.Error("remove bodies", "error", err)
		}
	}
}

// Snapshot writes a copy of SQLite's database into the folder of snapshots and
// returns its file. Its name sorts by time.
func (r *Rooms) Snapshot(ctx context.Context, now time.Time) (string, error) {
	d, ok := r.DB.(*db.SQLite)
	if !ok {
		return "", errors.New("make snapshot: PostgreSQL makes its own; use pg_basebackup or pg_dump")
	}
	if r.Segments != nil { // where a rebuild goes on from
		if err := rebuild.Mark(ctx, r.DB, r.Segments.Settled()); err != nil {
			return "", fmt.Errorf("make snapshot: %w", err)
		}
	}
	path := r.Config.Sub(SnapshotFolder, now.UTC().Format(snapshotForm))
	if err := d.Snapshot(ctx, path); err != nil {
		return "", fmt.Errorf("make snapshot: %w", err)
	}
	return path, nil
}

// Snapshots returns the snapshots' files, the oldest first.
func (r *Rooms) Snapshots() ([]string, error) {
	names, err := r.Files.List(SnapshotFolder)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var out []string
	for _, n := range names {
		if _, err := time.Parse(snapshotForm, n); err == nil { // others are copies made before a migration
			out = append(out, filepath.Join(r.Config.Sub(SnapshotFolder), n))
		}
	}
	return out, nil
}

// newestSnapshot is the time of the newest snapshot; zero when there is none.
func (r *Rooms) newestSnapshot() (time.Time, error) {
	files, err := r.Snapshots()
	if err != nil || len(files) == 0 {
		return time.Time{}, err
	}
	return snapshotTime(files[len(files)-1])
}

// snapshotTime reads the time from a snapshot's name.
func snapshotTime(file string) (time.Time, error) {
	t, err := time.Parse(snapshotForm, filepath.Base(file))
	if err != nil {
		return time.Time{}, fmt.Errorf("read time of snapshot %s: %w", file, err)
	}
	return t, nil
}

// dropSnapshots removes all but the newest n.
func (r *Rooms) dropSnapshots(n int) error {
	files, err := r.Snapshots()
	if err != nil {
		return err
	}
	for _, f := range files[:max(0, len(files)-n)] {
		if err := r.Files.Remove(SnapshotFolder + "/" + filepath.Base(f)); err != nil {
			return fmt.Errorf("remove snapshot: %w", err)
		}
	}
	return r.Files.SyncDir(SnapshotFolder)
}

// Close closes everything in the opposite order and gives the lock back.
func (r *Rooms) Close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}

var _ io.Closer = (*Rooms)(nil)
