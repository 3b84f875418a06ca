package body

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"time"

	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/message"
)

// Defaults of Config.
const (
	DefaultFolder        = "body"
	DefaultSegmentOctets = 256 << 20
	DefaultLargeOctets   = 1 << 20
	DefaultMaxOctets     = 1 << 30
	DefaultMemoryOctets  = 64 << 20
	DefaultGrace         = time.Minute
	DefaultFlushEvery    = time.Second
	DefaultOpenFiles     = 128
)

// Config is what Segments need. FS and one of DB and Locate are required.
type Config struct {
	// FS is where the segments lie; nobody else may write to Folder, and only one
	// process at a time may have it open (the daemon holds data/lock).
	FS disk.FS
	// Folder holds the segments. "" is DefaultFolder.
	Folder string
	// DB holds the table body. Merge and the rows part of Check need it.
	DB db.Database
	// Locate says where a body lies; ErrNotFound when nothing is known of it. nil
	// is Lookup in DB.
	Locate func(context.Context, message.ID) (Location, error)
	// StoreID is db.Database.StoreID. It is written into a new folder and compared
	// with an old one; "" is not compared (store rebuild).
	StoreID string
	// SegmentOctets is the size at which a segment is sealed and a new one begins.
	SegmentOctets int64
	// LargeOctets is the size from which a message becomes a segment of its own,
	// at most 16 MiB.
	LargeOctets int64
	// MaxOctets is the largest message that Stage takes; more is ErrTooLarge.
	MaxOctets int64
	// MemoryOctets bounds the memory of all staged messages; more is ErrBudget. Half
	// of it is for the first 64 KiB of each: beyond, messages go to files.
	MemoryOctets int64
	// Reserve is the free space, in octets, below which Commit and Stage of large
	// messages answer ErrFull. The journal and Merge may use it.
	Reserve int64
	// Grace is how long an emptied segment stays for readers that know it.
	Grace time.Duration
	// FlushEvery is the longest time a journal event waits for a group to carry it.
	FlushEvery time.Duration
	// OpenFiles is how many segments are kept open for reading.
	OpenFiles int
	// Covered returns the time of the oldest snapshot that store rebuild may start
	// from: Merge drops older events of bodies that are gone. nil keeps every event.
	Covered func(context.Context) (time.Time, error)
	// Random is the source of salts and names, safe for concurrent use; nil is
	// crypto/rand.
	Random io.Reader
	Logger *slog.Logger // nil discards
	Hooks  Hooks
}

// Hooks are optional functions called when something happened. They must not
// block and may be called concurrently.
type Hooks struct {
	// Flushed tells of a group made durable: its records, their octets, and how long it took.
	Flushed func(records int, octets int64, took time.Duration)
	// Staged tells how much memory staged messages hold, in octets.
	Staged func(octets int64)
	// Failed tells of a segment that is never written again, and why.
	Failed func(segment string, err error)
	// Merged tells of octets that Merge has given back to the disk.
	Merged func(octets int64)
}

// maxLarge bounds Config.LargeOctets: what is smaller is held in memory.
const maxLarge = 16 << 20

// withDefaults fills what is zero.
func (c Config) withDefaults() Config {
	setDefault(&c.SegmentOctets, DefaultSegmentOctets)
	setDefault(&c.LargeOctets, DefaultLargeOctets)
	setDefault(&c.MaxOctets, DefaultMaxOctets)
	setDefault(&c.MemoryOctets, DefaultMemoryOctets)
	setDefault(&c.Grace, DefaultGrace)
	setDefault(&c.FlushEvery, DefaultFlushEvery)
	setDefault(&c.OpenFiles, DefaultOpenFiles)
	setDefault(&c.Folder, DefaultFolder)
	c.Folder = path.Clean(c.Folder)
	if c.Locate == nil && c.DB != nil {
		c.Locate = locateIn(c.DB)
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// setDefault sets *p to value if it is zero.
func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// validate reports all problems of a configuration with its defaults filled in.
func (c Config) validate() error {
	var errs []error
	if c.FS == nil {
		errs = append(errs, errors.New("body: Config.FS is required"))
	}
	if c.Locate == nil {
		errs = append(errs, errors.New("body: Config.DB or Config.Locate is required"))
	}
	for name, value := range map[string]int64{
		"SegmentOctets": c.SegmentOctets, "LargeOctets": c.LargeOctets, "MaxOctets": c.MaxOctets,
		"MemoryOctets": c.MemoryOctets, "OpenFiles": int64(c.OpenFiles),
		"Grace": int64(c.Grace), "FlushEvery": int64(c.FlushEvery),
	} {
		if value < 0 {
			errs = append(errs, fmt.Errorf("body: Config.%s is negative", name))
		}
	}
	if c.LargeOctets > maxLarge {
		errs = append(errs, fmt.Errorf("body: Config.LargeOctets is %d, at most %d", c.LargeOctets, maxLarge))
	}
	if c.Reserve < 0 {
		errs = append(errs, errors.New("body: Config.Reserve is negative"))
	}
	return errors.Join(errs...)
}
