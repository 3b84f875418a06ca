package body

// Hold keeps every segment that holds a body now, until release is called: a merge goes
// on, but what it empties is unlinked only afterwards. So whoever reads the table body
// after Hold finds all that it names, by OpenAt, though it be purged and merged
// meanwhile. Several may hold at once; calling release twice is harmless. The
// octets of purged bodies stay on the disk as long: do not hold for longer than a backup
// takes.
func (s *Segments) Hold() (release func()) {
	// What is emptied already is not waited for: no row names it any more.
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds++
	held := true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if held {
			held = false
			s.holds--
		}
	}
}
