package body

import "context"

// Bounds of the events in memory.
const (
	flushEvents = 1 << 20  // Append flushes by itself above it
	maxEvents   = 16 << 20 // above it, when the disk takes none, events are lost to rebuild
)

// Append implements Journal. The events are durable after the next Commit or
// Flush; Run sees to one within Config.FlushEvery. Append waits for the disk only
// when more than 1 MiB of events wait already. Events whose write failed are
// written again, so a replay must bear repeated ones.
func (s *Segments) Append(events ...Event) {
	if len(events) == 0 {
		return
	}
	lost := 0
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.config.Logger.Error("journal events came after the body store was closed; they are lost to store rebuild", "events", len(events))
		return
	}
	for i := range events {
		if len(s.events) > maxEvents {
			lost = len(events) - i
			break
		}
		s.events = appendEvent(s.events, &events[i])
	}
	g, lead, full := (*group)(nil), false, len(s.events) > flushEvents
	if full {
		g, lead = s.gather(0)
	}
	s.mu.Unlock()
	if lost > 0 {
		s.config.Logger.Error("journal events are lost to store rebuild: the disk takes none; free some space", "events", lost)
	}
	if full {
		s.await(g, lead)
		return
	}
	s.wake()
}

// Flush makes the events appended so far durable.
func (s *Segments) Flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if len(s.events) == 0 && !s.flushing {
		s.mu.Unlock()
		return nil
	}
	g, lead := s.gather(0)
	s.mu.Unlock()
	s.await(g, lead)
	return g.eventErr
}

// returnEvents puts events whose write failed in front of those that came since.
func (s *Segments) returnEvents(events []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(events, s.events...)
}
