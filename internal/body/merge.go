package body

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// MergeOptions say how much Merge does.
type MergeOptions struct {
	// Rate bounds reading and writing together, in octets a second; 0 is unlimited.
	Rate int64
	// DeadShare is the least share of dead octets, 0 to 1, for which a segment is
	// rewritten; 0 is any dead octet. Run it daily with 0.25, and with 0 at least
	// every 30 days and 24 h after a purge: then purged octets are gone.
	DeadShare float64
}

// MergeResult says what Merge did.
type MergeResult struct {
	Segments int   // emptied: rewritten, or dead as a whole
	Freed    int64 // octets that return to the disk, after the grace time
	Kept     int   // segments with dead octets that can't be rewritten: pinned or damaged
}

// compactCount is how many small neighbours are merged though nothing in them is dead.
const compactCount = 8

// Merge rewrites sealed, unpinned segments with dead octets (of bodies without a
// row), and unlinks the old ones after Config.Grace: in Run, Close, or the next
// Merge. The bodies' rows follow in transactions of the low-priority lane, each
// after the copies it names are synced. Journal events are copied, too; those
// that Config.Covered allows to forget are dropped with their bodies. The segment
// being written is sealed first. Merge may use the reserve, needs Config.DB, and
// runs once at a time; cancelling ctx leaves a consistent store.
func (s *Segments) Merge(ctx context.Context, opt MergeOptions) (MergeResult, error) {
	if s.config.DB == nil {
		return MergeResult{}, errors.New("merge segments: Config.DB is not set")
	}
	s.unlinkEmptied(time.Now())
	s.merging.Lock()
	defer s.merging.Unlock()
	if err := s.rotate(); err != nil {
		return MergeResult{}, fmt.Errorf("merge segments: %w", err)
	}
	m := &merge{s: s, opt: opt, limiter: rate.NewLimiter(rate.Inf, 0)}
	if opt.Rate > 0 {
		m.limiter = rate.NewLimiter(rate.Limit(opt.Rate), maxGroupOctets)
	}
	if err := m.survey(ctx); err != nil {
		return m.result, fmt.Errorf("merge segments: %w", err)
	}
	for _, g := range m.plan() {
		if err := m.rewrite(ctx, g); err != nil {
			return m.result, fmt.Errorf("merge segments: %w", err)
		}
	}
	return m.result, nil
}

// rotate seals the active segment.
func (s *Segments) rotate() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	g := &group{seal: true}
	lead := s.enqueue(g)
	s.mu.Unlock()
	s.await(g, lead)
	return g.eventErr
}

// merge is one run of Merge.
type merge struct {
	s       *Segments
	opt     MergeOptions
	limiter *rate.Limiter
	horizon time.Time // events before it may be dropped with their bodies
	sources []source  // shared segments in the order of the log
	result  MergeResult
}

// source is a shared segment as Merge sees it.
type source struct {
	place
	free bool  // nobody writes to it or may still name it
	live int64 // octets of records that rows name
}

// dead is how many octets of bodies no row names.
func (c *source) dead() int64 { return c.info.body - c.live }

// survey finds out what is dead. First the segments that are unpinned now: for
// these every Accept is settled, so that a row which is not found afterwards
// never will be.
func (m *merge) survey(ctx context.Context) error {
	s := m.s
	if s.config.Covered != nil {
		covered, err := s.config.Covered(ctx)
		if err != nil {
			return fmt.Errorf("ask for the oldest snapshot: %w", err)
		}
		m.horizon = covered
	}
	large, err := s.list(path.Join(s.config.Folder, largeFolder), suffixLarge)
	if err != nil {
		return err
	}
	shared, err := s.list(s.config.Folder, suffixShared)
	if err != nil {
		return err
	}
	free := map[string]bool{}
	s.mu.Lock()
	for _, names := range [][]string{large, shared} {
		for _, name := range names {
			free[name] = s.pins[name] == 0 && s.emptied[name].IsZero()
		}
	}
	s.mu.Unlock()
	liveOctets := map[string]int64{}
	seed, liveLarge := maphash.MakeSeed(), map[uint64]struct{}{}
	err = eachRow(ctx, s.config.DB, func(row bodyRow) error {
		if strings.HasSuffix(row.loc.Segment, suffixLarge) {
			liveLarge[maphash.String(seed, row.loc.Segment)] = struct{}{}
		} else if row.loc.Segment != "" {
			liveOctets[row.loc.Segment] += row.loc.Stored
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range large {
		if _, live := liveLarge[maphash.String(seed, name)]; !live {
			m.dropLarge(name, free[name])
		}
	}
	return m.surveyShared(ctx, shared, free, liveOctets)
}

// surveyShared fills m.sources and empties what needs no rewriting.
func (m *merge) surveyShared(ctx context.Context, names []string, free map[string]bool, live map[string]int64) error {
	places, err := m.s.places(ctx)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, p := range places {
		seen[p.name] = true
		if strings.HasSuffix(p.name, suffixShared) {
			m.sources = append(m.sources, source{place: p, free: free[p.name], live: live[p.name]})
		}
	}
	for _, name := range names {
		switch { // what is no place of the log was taken over, or never held anything
		case seen[name] || !free[name]:
		case live[name] > 0:
			m.result.Kept++
		default:
			m.empty(name)
		}
	}
	return nil
}

// dropLarge empties the dead segment of one large body, if it is free.
func (m *merge) dropLarge(name string, free bool) {
	if free {
		m.empty(name)
	}
	// Until it is gone, events that say the body is dead must stay.
	f, err := m.s.config.FS.Open(m.s.path(name))
	if err != nil {
		return
	}
	defer f.Close()
	head, err := readSegmentHead(f)
	if !errors.Is(err, errUnborn) {
		m.lower(head.created)
	}
}

// lower moves the horizon back to t, as a segment created then keeps dead bodies.
func (m *merge) lower(t time.Time) {
	if t.Before(m.horizon) {
		m.horizon = t
	}
}

// empty notes that the segment may be unlinked after the grace time.
func (m *merge) empty(name string) {
	m.s.mu.Lock()
	m.s.emptied[name] = time.Now()
	m.s.mu.Unlock()
	m.result.Segments++
	if st, err := m.s.config.FS.Stat(m.s.path(name)); err == nil {
		m.result.Freed += st.Size
	}
}

// plan returns groups of neighbours in the log to be rewritten into one segment
// each. Only neighbours, so that events keep their order.
func (m *merge) plan() (groups [][]source) {
	var group []source
	var size int64
	var needed bool
	finish := func() {
		if needed || len(group) >= compactCount {
			groups = append(groups, group)
		}
		group, size, needed = nil, 0, false
	}
	for _, c := range m.sources {
		need := c.dead() > 0 && float64(c.dead()) >= m.opt.DeadShare*float64(c.info.body)
		if !c.free || c.err != nil || c.info.damaged {
			if c.err != nil || c.dead() > 0 {
				m.lower(c.info.head.created)
				m.result.Kept++
			}
			finish()
			continue
		}
		if !need && c.dead() > 0 {
			m.lower(c.info.head.created)
		}
		rest := c.live + c.info.events
		if !need && rest >= m.s.config.SegmentOctets/4 {
			finish()
			continue
		}
		if size+rest > m.s.config.SegmentOctets {
			finish()
		}
		group, size, needed = append(group, c), size+rest, needed || need
	}
	finish()
	return groups
}

// rewrite copies what lives in the group's segments to a new one and empties them.
func (m *merge) rewrite(ctx context.Context, group []source) error {
	created := group[0].info.head.created
	var names []string
	for i := range group {
		names = append(names, group[i].name)
		if group[i].info.head.created.Before(created) {
			created = group[i].info.head.created
		}
	}
	if whole, err := m.verify(ctx, group); err != nil || !whole {
		m.lower(created)
		return err
	}
	w, err := m.s.newWriter(flagMerged, group[0].order, created)
	if err != nil {
		return err
	}
	c := &copier{merge: m, to: w}
	for i := range group {
		if err := c.copy(ctx, &group[i]); err != nil {
			w.retire(err)
			return err
		}
	}
	end := w.end
	if err := w.seal(names); err != nil {
		return err
	}
	m.result.Freed -= end
	for _, name := range names {
		m.empty(name)
	}
	return nil
}

// verify reads the group's segments and reports whether all are whole: a damaged
// one stays as it is, for nobody knows what it holds.
func (m *merge) verify(ctx context.Context, group []source) (whole bool, err error) {
	for i := range group {
		c := &group[i]
		bad := false
		err := m.scan(ctx, c, func(p *piece) error {
			bad = bad || p.damage != nil && !p.torn
			return m.wait(ctx, p.stored)
		})
		if errors.Is(err, fs.ErrNotExist) {
			bad = true
		} else if err != nil {
			return false, err
		}
		if bad {
			m.s.config.Logger.Error("damaged segment is not merged; store check tells which bodies", "segment", c.name)
			m.result.Kept++
			return false, nil
		}
	}
	return true, nil
}

// scan calls visit for everything in a source.
func (m *merge) scan(ctx context.Context, c *source, visit func(*piece) error) error {
	f, err := m.s.config.FS.Open(m.s.path(c.name))
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	return newScanner(f, size, c.info.head.salt).run(ctx, c.info.head.first, visit)
}

// wait keeps to the rate.
func (m *merge) wait(ctx context.Context, octets int64) error {
	if m.opt.Rate <= 0 {
		return ctx.Err()
	}
	for octets > 0 {
		n := min(octets, maxGroupOctets)
		if err := m.limiter.WaitN(ctx, int(n)); err != nil {
			return err
		}
		octets -= n
	}
	return nil
}

// unlinkEmptied removes the segments that were emptied a grace time before now.
// It does nothing while a Merge or a Scan runs, or a Hold stands.
func (s *Segments) unlinkEmptied(now time.Time) {
	if !s.merging.TryLock() {
		return
	}
	defer s.merging.Unlock()
	s.mu.Lock()
	var names []string
	for name, since := range s.emptied {
		if s.holds == 0 && now.Sub(since) >= s.config.Grace {
			names = append(names, name)
		}
	}
	s.mu.Unlock()
	for _, name := range names {
		s.unlink(name)
	}
	if len(names) == 0 {
		return
	}
	for _, folder := range []string{s.config.Folder, path.Join(s.config.Folder, largeFolder)} {
		if err := s.config.FS.SyncDir(folder); err != nil {
			s.config.Logger.Warn("folder of unlinked segments could not be synced", "folder", folder, "error", err)
		}
	}
}

// unlink removes one emptied segment and the note beside it.
func (s *Segments) unlink(name string) {
	st, _ := s.config.FS.Stat(s.path(name)) // for the hook alone
	if err := s.config.FS.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.config.Logger.Warn("emptied segment could not be removed; it will be tried again", "segment", name, "error", err)
		return
	}
	if strings.HasSuffix(name, suffixShared) {
		_ = s.config.FS.Remove(s.path(name) + suffixNote) // there seldom is one
	}
	s.files.forget(name)
	s.mu.Lock()
	delete(s.emptied, name)
	delete(s.infos, name)
	s.mu.Unlock()
	if s.config.Hooks.Merged != nil {
		s.config.Hooks.Merged(st.Size)
	}
}
