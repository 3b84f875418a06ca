package body

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"poczta.example/poczta/internal/disk"
	"poczta.example/poczta/internal/message"
)

// ErrClosed is returned by a store after Close.
var ErrClosed = errors.New("body store is closed")

// OpenerAt is the ability to open a body whose row the caller has read already.
// Segments and Rows have it.
type OpenerAt interface {
	// OpenAt is Store.Open without the lookup. A segment that is gone (a merge
	// moved the body since) is looked up once more.
	OpenAt(ctx context.Context, id message.ID, loc Location, from, n int64) (io.ReadCloser, error)
}

var (
	_ Store    = (*Segments)(nil)
	_ Journal  = (*Segments)(nil)
	_ OpenerAt = (*Segments)(nil)
)

// Suffixes of the names of segments, and of the note of where one that was never
// sealed ends.
const (
	suffixShared = ".seg"
	suffixLarge  = ".big"
	suffixNote   = ".end"
)

// largeFolder, below Config.Folder, holds the segments of one large body each.
const largeFolder = "large"

// storeFile, in Config.Folder, holds the store id.
const storeFile = "store"

// Segments keeps bodies in append-only files and is the Journal beside them. It
// implements Store, Journal and OpenerAt, and is safe for concurrent use.
//
// Concurrent Commits share one write and one fdatasync: the first becomes the
// leader of its group and writes it, those that come meanwhile gather in the next
// group. A message over Config.LargeOctets has a segment of its own.
type Segments struct {
	config   Config
	mem      *memory
	larges   atomic.Int64 // files of messages that are not committed yet
	instance string
	files    *handles
	kick     chan struct{} // wakes Run when events wait
	merging  sync.Mutex    // one Merge at a time

	mu       sync.Mutex
	counter  int
	queue    []*group // gathering, in order; the last takes newcomers
	flushing bool     // some leader is at work
	events   []byte   // encoded, for the next group
	pins     map[string]int
	infos    map[string]segmentInfo // of segments that nobody writes
	emptied  map[string]time.Time   // segments to unlink, since when
	holds    int                    // Holds that are not released: nothing is unlinked
	end      Position
	closed   bool

	flusher flusher // the leader's
}

// OpenSegments opens the store in config.Folder, which it makes if need be. It
// compares the store id and verifies segments that an earlier process left
// without a seal: what is torn behind their last good record is ignored, damage
// before it is logged. Call Run to have journal events flushed, Close at the end.
func OpenSegments(ctx context.Context, config Config) (*Segments, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	s := &Segments{
		config:  config,
		mem:     &memory{limit: config.MemoryOctets, tell: config.Hooks.Staged},
		kick:    make(chan struct{}, 1),
		pins:    map[string]int{},
		infos:   map[string]segmentInfo{},
		emptied: map[string]time.Time{},
	}
	s.files = newHandles(config.OpenFiles, s.openForReading)
	if err := config.FS.MkdirAll(path.Join(config.Folder, largeFolder)); err != nil {
		return nil, fmt.Errorf("make body folder %s: %w", config.Folder, err)
	}
	if err := s.compareStoreID(); err != nil {
		return nil, err
	}
	names, err := s.list(config.Folder, suffixShared)
	if err != nil {
		return nil, err
	}
	if err := s.nameInstance(names); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := s.recover(ctx, name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// compareStoreID refuses a folder that belongs to another database.
func (s *Segments) compareStoreID() error {
	name := path.Join(s.config.Folder, storeFile)
	b, err := disk.ReadFile(s.config.FS, name, 4096)
	if err == nil {
		if have := strings.TrimSpace(string(b)); s.config.StoreID != "" && have != s.config.StoreID {
			return fmt.Errorf("open bodies in %s: they belong to store %s and the database to store %s; put the right folder in place, or run store rebuild", s.config.Folder, have, s.config.StoreID)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read store id: %w", err)
	}
	if s.config.StoreID == "" {
		return nil
	}
	if err := disk.WriteFile(s.config.FS, name, []byte(s.config.StoreID+"\n")); err != nil {
		return fmt.Errorf("write store id: %w", err)
	}
	return nil
}

// StoreID returns the id written in the folder, "" if there is none.
func (s *Segments) StoreID() string {
	b, err := disk.ReadFile(s.config.FS, path.Join(s.config.Folder, storeFile), 4096)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// nameInstance chooses the name of this process' segments so that they follow
// those of names in the log, even if the clock went back.
func (s *Segments) nameInstance(names []string) error {
	now := time.Now()
	if len(names) > 0 {
		last, err := message.ParseID(names[len(names)-1][:message.IDLength])
		if err != nil {
			return fmt.Errorf("read segment name %s: %w", names[len(names)-1], err)
		}
		if !now.After(last.Time().Add(time.Millisecond)) {
			now = last.Time().Add(time.Millisecond)
		}
	}
	id, err := message.NewID(now, s.config.Random)
	if err != nil {
		return fmt.Errorf("name body segments: %w", err)
	}
	s.instance = id.String()
	return nil
}

// newName returns the name of a new segment, pinned once.
func (s *Segments) newName(suffix string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counter++
	name := fmt.Sprintf("%s-%08d%s", s.instance, s.counter, suffix)
	s.pins[name]++
	return name
}

// nameLength is the length of a segment's name.
const nameLength = message.IDLength + 1 + 8 + len(suffixShared)

// isSegment reports whether name is that of a segment with the suffix. Nothing
// else is opened, so a strange location in a row leads to no other file.
func isSegment(name, suffix string) bool {
	if len(name) != nameLength || name[message.IDLength] != '-' || !strings.HasSuffix(name, suffix) {
		return false
	}
	for _, c := range name[message.IDLength+1 : nameLength-len(suffix)] {
		if c < '0' || c > '9' {
			return false
		}
	}
	_, err := message.ParseID(name[:message.IDLength])
	return err == nil
}

// openForReading opens the segment that a row names.
func (s *Segments) openForReading(name string) (disk.File, error) {
	if !isSegment(name, suffixShared) && !isSegment(name, suffixLarge) {
		return nil, fmt.Errorf("%q is no segment: %w", name, ErrDamaged)
	}
	return s.config.FS.Open(s.path(name))
}

// path returns where the segment with that name lies.
func (s *Segments) path(name string) string {
	if strings.HasSuffix(name, suffixLarge) {
		return path.Join(s.config.Folder, largeFolder, name)
	}
	return path.Join(s.config.Folder, name)
}

// list returns the sorted names of the segments with suffix in folder.
func (s *Segments) list(folder, suffix string) ([]string, error) {
	all, err := s.config.FS.List(folder)
	if err != nil {
		return nil, fmt.Errorf("list segments in %s: %w", folder, err)
	}
	names := all[:0]
	for _, name := range all {
		if isSegment(name, suffix) {
			names = append(names, name)
		}
	}
	return names, nil
}

// unpin takes one pin from each segment named.
func (s *Segments) unpin(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if s.pins[name]--; s.pins[name] <= 0 {
			delete(s.pins, name)
		}
	}
}

// Position is where the log ends now: what is stored later lies behind it.
func (s *Segments) Position() Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// short reports whether less than the reserve is free.
func (s *Segments) short() bool {
	if s.config.Reserve == 0 {
		return false
	}
	free, err := s.config.FS.Free()
	return err == nil && free < s.config.Reserve
}

// Remove implements Store. The rows are gone already, and Merge finds the dead
// octets by that; nothing is left to do.
func (s *Segments) Remove(context.Context, []message.ID) error { return nil }

// Run flushes waiting journal events every Config.FlushEvery and unlinks emptied
// segments after their grace time, until ctx is done. It returns nil then.
func (s *Segments) Run(ctx context.Context) error {
	grace := time.NewTicker(max(s.config.Grace, time.Second))
	defer grace.Stop()
	flush := time.NewTimer(s.config.FlushEvery)
	flush.Stop()
	defer flush.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.kick:
			flush.Reset(s.config.FlushEvery)
		case <-flush.C:
			if err := s.Flush(ctx); err != nil {
				s.config.Logger.Error("flush of journal events failed; it will be tried again", "error", err)
				s.wake()
			}
		case <-grace.C:
			s.unlinkEmptied(time.Now())
		}
	}
}

// wake tells Run that events wait.
func (s *Segments) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Close flushes the journal, seals the segment and closes every file. Commits
// under way are waited for, later ones get ErrClosed; so do later reads.
func (s *Segments) Close() error {
	g := &group{seal: true}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	err := s.join(g)
	s.unlinkEmptied(time.Now())
	s.files.close()
	return err
}
