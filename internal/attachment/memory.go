package attachment

import (
	"context"
	"io"
	"sync"
)

// memory is what all examinations may hold at once, in octets.
type memory struct {
	mu    sync.Mutex
	total int64
	held  int64
	freed chan struct{} // closed when some was given back
	hook  func(int64)
}

func newMemory(total int64, hook func(int64)) *memory {
	return &memory{total: total, freed: make(chan struct{}), hook: hook}
}

// take takes n octets if they are free; else it returns a channel that tells when some are.
func (m *memory) take(n int64) (wait <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held+n > m.total {
		return m.freed
	}
	m.change(n)
	return nil
}

// await takes n octets, and waits for them until ctx ends. Only who holds none may wait.
func (m *memory) await(ctx context.Context, n int64) error {
	for {
		wait := m.take(n)
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memory) give(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.change(-n)
	close(m.freed)
	m.freed = make(chan struct{})
}

func (m *memory) change(n int64) {
	m.held += n
	if m.hook != nil {
		m.hook(m.held)
	}
}

// chunkOctets is the unit in which memory is taken.
const chunkOctets = 64 << 10

// spool is content in memory, in chunks so that it never moves.
type spool struct {
	chunks [][]byte
	size   int64
}

// ReadAt is io.ReaderAt's.
func (s *spool) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, io.EOF
	}
	for n < len(p) && off < s.size {
		m := copy(p[n:], s.chunks[off/chunkOctets][off%chunkOctets:])
		n += m
		off += int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// hold reads r into memory, to the examination's bound; whole says whether that was all. An
// examination that holds nothing waits for its turn, for expected octets at once; what it wants
// beyond is there or not. release gives all back.
func (x *examination) hold(r io.Reader, expected int64) (s *spool, whole bool, release func()) {
	s = new(spool)
	var taken int64
	release = func() {
		if taken > 0 {
			x.memory.give(taken)
			x.held -= taken
		}
	}
	if x.held == 0 {
		n := max(chunkOctets, min((expected/chunkOctets+1)*chunkOctets, x.config.Spool))
		if x.memory.await(x.ctx, n) != nil {
			return s, false, release
		}
		x.held, taken = n, n
	}
	for free := taken; ; free -= chunkOctets {
		if free < chunkOctets {
			if x.held+chunkOctets > x.config.Spool || x.memory.take(chunkOctets) != nil {
				return s, x.ended(r), release
			}
			x.held += chunkOctets
			taken += chunkOctets
			free += chunkOctets
		}
		chunk := make([]byte, chunkOctets)
		n, err := io.ReadFull(r, chunk)
		s.chunks = append(s.chunks, chunk[:n])
		s.size += int64(n)
		if err != nil {
			return s, endOf(err), release
		}
	}
}

// ended reports whether r has no more.
func (x *examination) ended(r io.Reader) bool {
	var one [1]byte
	n, err := io.ReadFull(r, one[:])
	return n == 0 && endOf(err)
}

// maxWindow is the largest window of LZMA that is kept, in octets: that of xz -6.
const maxWindow = 8 << 20

// window takes memory for a window of LZMA: as much as may be, at most maxWindow.
func (x *examination) window() (octets int, release func()) {
	n := min(maxWindow, x.config.Spool-x.held)
	if n <= 0 {
		return 0, func() {}
	}
	if x.held == 0 {
		if x.memory.await(x.ctx, n) != nil {
			return 0, func() {}
		}
	} else if x.memory.take(n) != nil {
		return 0, func() {}
	}
	x.held += n
	return int(n), func() { x.memory.give(n); x.held -= n }
}
