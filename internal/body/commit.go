package body

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// Bounds of a group: what one write carries.
const (
	maxGroupOctets = 4 << 20
	keepBuffer     = 8 << 20 // a larger buffer is given back after the group
	gatherTurns    = 3       // how often a leader lets others run, and join, before it writes
)

// entry is one small record on its way into a group.
type entry struct {
	record *Record
	staged *staged
	meta   []byte
	loc    Location
}

// group is what one write and one sync make durable.
type group struct {
	entries []*entry
	octets  int64
	seal    bool // the segment is sealed after it

	lead     chan struct{} // makes one waiter the leader; capacity 1
	done     chan struct{} // closed when err and eventErr are set
	err      error         // of the entries
	eventErr error         // of the journal
}

// flusher belongs to the leader of the moment.
type flusher struct {
	active *writer
	buf    []byte
}

// modestOctets is how much of a message stays in memory while less than half of
// Config.MemoryOctets is free; more goes to a file, whose buffer is as long.
const modestOctets = largeBuffer

// Stage implements Store. Messages over Config.LargeOctets, or whose hint is, go
// to a file; while memory is short, shorter ones too. Errors: ErrBudget, ErrTooLarge, ErrFull, ErrFailed; Write returns
// the same.
func (s *Segments) Stage(ctx context.Context, hint int64) (Staged, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return newStaged(staging{s.mem, modestOctets, s.config.LargeOctets, s.config.MaxOctets, func() (overflow, error) {
		return s.newLarge(largeGap)
	}}, hint)
}

// Commit implements Store. It waits for the disk even if ctx ends meanwhile; a
// context that has ended before is refused. On success the memory of the stagings
// is given back. Errors: ErrFull, ErrFailed, ErrClosed, ErrTooLarge (metadata).
func (s *Segments) Commit(ctx context.Context, recs []Record) ([]Location, func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	var small []*entry
	var all []*entry
	for i := range recs {
		e, err := s.prepare(&recs[i])
		if err != nil {
			return nil, nil, err
		}
		all = append(all, e)
		if e.staged.over == nil {
			small = append(small, e)
		}
	}
	pinned, err := s.commitLarge(all)
	if err == nil && len(small) > 0 {
		var names []string
		names, err = s.commitSmall(small)
		pinned = append(pinned, names...)
	}
	if err != nil {
		for _, e := range all {
			s.undoLarge(e)
		}
		return nil, nil, err
	}
	locs := make([]Location, len(all))
	for i, e := range all {
		locs[i] = e.loc
		e.staged.Discard()
	}
	return locs, s.releaser(pinned), nil
}

// releaser returns a function that takes the pins away once.
func (s *Segments) releaser(names []string) func() {
	return func() {
		s.unpin(names...)
		names = nil
	}
}

// prepare checks a record and encodes its metadata.
func (s *Segments) prepare(rec *Record) (*entry, error) {
	st, err := stagedFor(rec, s.mem)
	if err != nil {
		return nil, err
	}
	e := &entry{record: rec, staged: st, loc: Location{
		Octets: int64(len(rec.Head)) + st.octets,
		SHA256: st.SHA256(),
		Dots:   st.dots,
	}}
	meta := bodyMeta{Meta: rec.Meta, head: int64(len(rec.Head)), sha256: e.loc.SHA256}
	e.meta = meta.appendTo(make([]byte, 0, 256))
	if len(e.meta) > MaxMetaOctets {
		return nil, fmt.Errorf("commit body %s: metadata of %d octets, at most %d: %w", rec.ID, len(e.meta), MaxMetaOctets, ErrTooLarge)
	}
	e.loc.Stored = recordHeaderLen + int64(len(e.meta)) + e.loc.Octets + recordTrailer
	return e, nil
}

// head returns the record header of e at offset, written when everything before
// synced was durable.
func (e *entry) head(offset, synced int64) recordHead {
	h := recordHead{kind: kindBody, offset: offset, stored: e.loc.Stored, octets: e.loc.Octets, meta: int64(len(e.meta)), id: e.record.ID, synced: synced}
	if e.loc.Dots {
		h.flags = flagDots
	}
	return h
}

// commitSmall has a group carry the entries and returns the segment it pinned.
func (s *Segments) commitSmall(entries []*entry) ([]string, error) {
	var octets int64
	for _, e := range entries {
		octets += e.loc.Stored
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	g, lead := s.gather(octets)
	g.entries = append(g.entries, entries...)
	g.octets += octets
	s.mu.Unlock()
	s.await(g, lead)
	if g.err != nil {
		return nil, g.err
	}
	// The group pinned its segment once for every entry.
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.loc.Segment
	}
	return names, nil
}

// gather returns the group for so many more octets, and whether the caller is to
// lead it. s.mu is held.
func (s *Segments) gather(octets int64) (g *group, lead bool) {
	if n := len(s.queue); n > 0 {
		if last := s.queue[n-1]; !last.seal && (last.octets == 0 || last.octets+octets <= maxGroupOctets) {
			return last, false
		}
	}
	g = &group{}
	return g, s.enqueue(g)
}

// enqueue puts a new group behind the others and reports whether the caller is to
// lead it. s.mu is held.
func (s *Segments) enqueue(g *group) (lead bool) {
	g.lead, g.done = make(chan struct{}, 1), make(chan struct{})
	s.queue = append(s.queue, g)
	lead = !s.flushing
	s.flushing = true
	return lead
}

// join puts g into the queue, closed or not, and returns the journal's outcome.
func (s *Segments) join(g *group) error {
	s.mu.Lock()
	lead := s.enqueue(g)
	s.mu.Unlock()
	s.await(g, lead)
	return g.eventErr
}

// await waits until g is done. The leader, whom enqueue or the leader before
// names, writes it and names the next one.
func (s *Segments) await(g *group, lead bool) {
	if !lead {
		select {
		case <-g.done:
			return
		case <-g.lead:
		}
	}
	for range gatherTurns { // a sync costs more than the turns of whoever has work to do
		runtime.Gosched()
	}
	s.mu.Lock()
	s.queue = s.queue[1:]
	events := s.events
	s.events = nil
	s.mu.Unlock()

	s.flush(g, events)

	s.mu.Lock()
	if len(s.queue) > 0 {
		s.queue[0].lead <- struct{}{}
	} else {
		s.queue, s.flushing = nil, false
	}
	s.mu.Unlock()
	close(g.done)
}

// flush writes a group and the waiting events. The caller is the leader.
func (s *Segments) flush(g *group, events []byte) {
	begin := time.Now()
	if s.short() && len(g.entries) > 0 {
		g.err = fmt.Errorf("commit bodies: less than %d octets are free: %w", s.config.Reserve, ErrFull)
	}
	entries := g.entries
	if g.err != nil {
		entries = nil
	}
	if len(entries) > 0 || len(events) > 0 {
		if err := s.write(entries, events); err != nil {
			if len(entries) > 0 {
				g.err = err
			}
			if len(events) > 0 {
				g.eventErr = err
				s.returnEvents(events)
			}
		} else if s.config.Hooks.Flushed != nil {
			s.config.Hooks.Flushed(len(entries), g.octets, time.Since(begin))
		}
	}
	if g.seal && s.flusher.active != nil {
		if err := s.flusher.active.seal(nil); err != nil && g.eventErr == nil {
			g.eventErr = err
		}
		s.flusher.active = nil
	}
}

// write makes entries and events durable in the active segment.
func (s *Segments) write(entries []*entry, events []byte) error {
	w, err := s.writable()
	if err != nil {
		return err
	}
	var need int64
	for _, e := range entries {
		need += e.loc.Stored
	}
	buf := slices.Grow(s.flusher.buf[:0], len(events)+int(need)) // at once, not by doublings
	if len(events) > 0 {
		h := recordHead{kind: kindEvents, offset: w.end, synced: w.end}
		buf = appendRecord(buf, &h, &w.head.salt, nil, events)
	}
	eventOctets := int64(len(buf))
	for _, e := range entries {
		e.loc.Segment, e.loc.Offset = w.name, w.end+int64(len(buf))
		h := e.head(e.loc.Offset, w.end)
		buf = appendRecord(buf, &h, &w.head.salt, e.meta, e.record.Head, e.staged.buf.b[:e.staged.octets])
	}
	if cap(buf) <= keepBuffer {
		s.flusher.buf = buf
	}
	if broken, err := w.append(buf); err != nil {
		if broken {
			w.retire(err)
			s.flusher.active = nil
		}
		return err
	}
	w.events += eventOctets
	w.body += int64(len(buf)) - eventOctets
	s.mu.Lock()
	s.end = Position{Segment: w.name, Offset: w.end}
	if len(entries) > 0 {
		s.pins[w.name] += len(entries)
	}
	s.mu.Unlock()
	return nil
}

// writable returns the active segment, a new one when the old is full.
func (s *Segments) writable() (*writer, error) {
	if w := s.flusher.active; w != nil {
		if w.end < s.config.SegmentOctets {
			return w, nil
		}
		s.flusher.active = nil
		// An unsealed segment is as good as a sealed one, but takes a scan: seal logs why.
		_ = w.seal(nil)
	}
	w, err := s.newWriter(0, "", time.Time{})
	if err != nil {
		return nil, err
	}
	s.flusher.active = w
	return w, nil
}
