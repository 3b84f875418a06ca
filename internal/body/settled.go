package body

import "fmt"

// Settled is a position of the log that every Accept whose body stands before it
// has left behind: its transaction has ended, and so it is known, or known to have
// failed, to whoever reads the database afterwards. Events appended from now on
// stand behind the position. It is the begin of the oldest segment still in use.
func (s *Segments) Settled() Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := Position{Segment: fmt.Sprintf("%s-%08d", s.instance, s.counter+1)}
	for name := range s.pins {
		if name < at.Segment {
			at.Segment = name
		}
	}
	return at
}
