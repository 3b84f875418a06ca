// Package store is a person's mail on their own disk: the server's engines (db, body,
// mailbox) in one folder, and above them what a reader needs: a summary of each letter,
// threads, full text, rules, an address book, import and export.
//
// What the engines hold is the authority; summaries, threads and full text can be made anew
// from the letters at any time. The folder is used by one process at a time.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"poczta.example/poczta/internal/body"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/mua/store/search"
)

// Names in the folder. They are the server's, so that its commands can read what lies here.
const (
	DatabaseFile   = "poczta.db"
	SegmentFolder  = "segments"
	SnapshotFolder = "snapshots"
	LockFile       = "lock"
)

// Errors that callers branch on.
var (
	ErrBusy     = errors.New("the mail folder is in use by another process")
	ErrNotFound = errors.New("no such letter, folder or rule")
	ErrQuery    = search.ErrQuery
)

// Defaults of Config.
const (
	DefaultRetention  = 30 * 24 * time.Hour
	DefaultTrashAfter = 30 * 24 * time.Hour
	maxLetterOctets   = 1 << 30
	mergeGrace        = 2 * time.Second // as the server's
)

// Config says where the store lies. Folder is required; zero means default.
type Config struct {
	Folder string
	// Components are the tables of the rooms that keep theirs in this database.
	Components []db.Component
	// Retention is how long letters stay recoverable that were removed from Trash.
	Retention time.Duration
	// TrashAfter is how long letters stay in Trash; negative: until they are removed.
	TrashAfter time.Duration
	// Login names an account in the journal, so that store rebuild can; nil names none.
	Login func(envelope.AccountID) string
	// Account finds an account by what a person wrote behind account: in a search; nil
	// knows numbers alone.
	Account func(ctx context.Context, name string) (envelope.AccountID, bool)
	// Filed is run in the transaction that files a letter which Land took with a note: id is the
	// letter's, or 0 when it was here already. It may run more than once, does SQL only, and its error
	// ends the whole. What landed before a crash is filed by Open.
	Filed  func(tx db.Tx, account envelope.AccountID, note []byte, id LetterID) error
	Now    func() time.Time
	Rand   io.Reader
	Logger *slog.Logger // nil discards
	// FS holds the segments, and what else BodyFiles holds, in place of Folder; for tests.
	FS disk.FS
}

// Store is one person's mail. Safe for concurrent use.
type Store struct {
	cfg       Config
	files     *disk.OSFS
	letters   disk.FS // where segments lie
	db        *db.SQLite
	body      *body.Segments
	mailboxes *mailbox.Store
	lastID    atomic.Int64  // of the letters that got an id
	wake      chan struct{} // one token: there is something to index
	adding    atomic.Int64  // Adds at work
	addedAt   atomic.Int64  // when the last one ended, Unix nanoseconds
	indexing  sync.Mutex    // one indexes at a time
	filing    sync.Mutex    // one files at a time
	rules     atomic.Pointer[[]*compiled]
	ruleLoad  sync.Mutex
	ranks     ranks
	closers   []func() error
}

// Open opens the folder, which it makes if need be, and takes its lock. The error wraps
// ErrBusy when another process has it. It starts nothing: see Run.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Folder == "" {
		return nil, errors.New("open mail folder: Config.Folder is empty")
	}
	s := &Store{cfg: cfg.withDefaults(), wake: make(chan struct{}, 1)}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (c Config) withDefaults() Config {
	if c.Retention == 0 {
		c.Retention = DefaultRetention
	}
	if c.TrashAfter == 0 {
		c.TrashAfter = DefaultTrashAfter
	}
	if c.Login == nil {
		c.Login = func(envelope.AccountID) string { return "" }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (s *Store) open(ctx context.Context) error {
	if err := s.lock(); err != nil {
		return err
	}
	if err := s.openDB(ctx); err != nil {
		return err
	}
	s.letters = s.files
	if s.cfg.FS != nil {
		s.letters = s.cfg.FS
	}
	segments, err := body.OpenSegments(ctx, body.Config{FS: s.letters, Folder: SegmentFolder, DB: s.db, StoreID: s.db.StoreID(),
		MaxOctets: maxLetterOctets, Grace: mergeGrace, Logger: s.cfg.Logger})
	if err != nil {
		return fmt.Errorf("open body store: %w", err)
	}
	s.body = segments
	s.closers = append(s.closers, segments.Close)
	s.mailboxes, err = mailbox.New(mailbox.Config{DB: s.db, Body: segments, Journal: segments, Retention: s.cfg.Retention,
		Now: s.cfg.Now, Rand: s.cfg.Rand, Logger: s.cfg.Logger})
	if err != nil {
		return fmt.Errorf("open mailboxes: %w", err)
	}
	if err := s.readLastID(ctx); err != nil {
		return err
	}
	if err := s.File(ctx, nil); err != nil {
		if ctx.Err() != nil {
			return err
		}
		s.cfg.Logger.Error("letters that were fetched are not listed yet; it is tried again", "error", err) // old mail can be read all the same
	}
	return nil
}

// lock makes the folder and takes its lock.
func (s *Store) lock() error {
	if err := os.MkdirAll(s.cfg.Folder, 0o700); err != nil {
		return fmt.Errorf("make mail folder: %w", err)
	}
	files, err := disk.OS(s.cfg.Folder)
	if err != nil {
		return fmt.Errorf("open mail folder: %w", err)
	}
	s.files = files
	s.closers = append(s.closers, files.Close)
	l, err := files.Lock(LockFile)
	if errors.Is(err, disk.ErrLocked) {
		return fmt.Errorf("%w: %s; end it, or wait until it is done", ErrBusy, s.cfg.Folder)
	}
	if err != nil {
		return fmt.Errorf("lock mail folder %s: %w", s.cfg.Folder, err)
	}
	s.closers = append(s.closers, l.Close)
	return nil
}

func (s *Store) openDB(ctx context.Context) error {
	if err := s.files.MkdirAll(SnapshotFolder); err != nil {
		return fmt.Errorf("make snapshot folder: %w", err)
	}
	d, err := db.OpenSQLite(ctx, db.SQLiteConfig{Path: filepath.Join(s.cfg.Folder, DatabaseFile),
		SnapshotDir: filepath.Join(s.cfg.Folder, SnapshotFolder), CacheKiB: cacheKiB, Logger: s.cfg.Logger})
	if err != nil {
		return err
	}
	s.db = d
	s.closers = append(s.closers, d.Close)
	return db.Migrate(ctx, d, append([]db.Component{body.Schema, mailbox.Schema, Schema}, s.cfg.Components...))
}

// cacheKiB is SQLite's page cache: the index of full text is larger than a server's tables.
const cacheKiB = 64 << 10

// Close closes everything and gives the lock back. Run must have ended.
func (s *Store) Close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// DB is the database, for rooms that keep tables of their own there (Config.Components).
func (s *Store) DB() db.Database { return s.db }

// Body is where letters' octets lie; Stage there what is given to Add.
func (s *Store) Body() body.Store { return s.body }

// BodyFiles is the tree in whose folder SegmentFolder letters' octets lie, for what belongs beside them and need not last.
func (s *Store) BodyFiles() disk.FS { return s.letters }

// Segments is Body as what it is.
func (s *Store) Segments() *body.Segments { return s.body }

// Mailboxes is the engine below. Letters that it is made to change behind the store's back are
// found at the next start of Run, or by Reconcile.
func (s *Store) Mailboxes() *mailbox.Store { return s.mailboxes }

// view is a View of the database that is tried again when its time was up; fn may run again.
func (s *Store) view(ctx context.Context, fn func(db.Tx) error) error {
	return db.Again(func() error { return s.db.View(ctx, fn) })
}

// Files is the folder.
func (s *Store) Files() *disk.OSFS { return s.files }
