package body

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Buffers come in sizes of 4 KiB times a power of two, up to 16 MiB.
const (
	minBufferBits = 12
	bufferSizes   = 13
)

// memory lends buffers under a budget and takes them back for others. Safe for
// concurrent use.
type memory struct {
	limit int64
	used  atomic.Int64
	tell  func(octets int64) // may be nil
	pools [bufferSizes]sync.Pool
}

// buffer is a lent buffer; b has its full length.
type buffer struct {
	b    []byte
	size int // index of its pool
}

// get lends a buffer of at least n octets (at most 16 MiB) or returns ErrBudget.
func (m *memory) get(n int64) (*buffer, error) { return m.getUpTo(n, m.limit) }

// getMore is get for what could lie elsewhere. Half of the budget is out of its
// reach: a few peers that hold on to half-sent messages would keep all mail away
// with it.
func (m *memory) getMore(n int64) (*buffer, error) { return m.getUpTo(n, m.limit/2) }

func (m *memory) getUpTo(n, limit int64) (*buffer, error) {
	size := max(bits.Len64(uint64(n-1))-minBufferBits, 0)
	octets := int64(1) << (size + minBufferBits)
	used := m.used.Add(octets)
	if used > limit {
		m.used.Add(-octets)
		return nil, ErrBudget
	}
	if m.tell != nil {
		m.tell(used)
	}
	if b, ok := m.pools[size].Get().(*buffer); ok {
		return b, nil
	}
	return &buffer{b: make([]byte, octets), size: size}, nil
}

// put takes b back; nil is allowed.
func (m *memory) put(b *buffer) {
	if b == nil {
		return
	}
	used := m.used.Add(-int64(len(b.b)))
	if m.tell != nil {
		m.tell(used)
	}
	m.pools[b.size].Put(b)
}
