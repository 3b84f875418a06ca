package mailbox

import (
	"poczta.example/poczta/internal/message"
)

// chunkEntries is how many entries share one chunk of a Listing.
const chunkEntries = 4096

// Listing is an immutable compact list of a mailbox's entries in order of uid, 32
// octets an entry (more when its unique-id is imported text). Sessions share it.
// Safe for concurrent use.
type Listing struct {
	mailbox Mailbox // the row it was read under
	chunks  []*chunk
	n       int
	octets  int64 // of all messages
	ascii   int64 // the same with surrogates in place of messages that need one

	// Under the cache's lock:
	refs   int  // sessions
	cached bool // the cache holds it
}

// chunk is up to chunkEntries entries as arrays. Once it is full, or its listing
// published, it never changes.
type chunk struct {
	uids   []uint32
	flags  []uint32
	octets []int64
	ids    []message.ID // unique-ids; nil when texts are in use
	ends   []uint32     // ends of the columns in texts
	texts  []byte       // unique-ids as columns, one behind the other
	alts   map[int32]int64

	refs int // listings that hold it; under the cache's lock
}

// cost is what the chunk takes in memory, in octets.
func (c *chunk) cost() int64 {
	const fixed = 256
	return fixed + int64(cap(c.uids)*4+cap(c.flags)*4+cap(c.octets)*8+cap(c.ids)*16+cap(c.ends)*4+cap(c.texts)+len(c.alts)*48)
}

// Len is the number of entries.
func (l *Listing) Len() int { return l.n }

// Mailbox is the mailbox's row as the listing was read.
func (l *Listing) Mailbox() Mailbox { return l.mailbox }

// TotalOctets is the sum over all messages, of their surrogates with utf8 false.
func (l *Listing) TotalOctets(utf8 bool) int64 {
	if utf8 {
		return l.octets
	}
	return l.ascii
}

func (l *Listing) at(i int) (*chunk, int) { return l.chunks[i/chunkEntries], i % chunkEntries }

// UID returns the uid of entry i.
func (l *Listing) UID(i int) UID {
	c, j := l.at(i)
	return UID(c.uids[j])
}

// Flags returns the flags of entry i.
func (l *Listing) Flags(i int) Flags {
	c, j := l.at(i)
	return Flags(c.flags[j])
}

// Octets returns the size of entry i, of its surrogate with utf8 false.
func (l *Listing) Octets(i int, utf8 bool) int64 {
	c, j := l.at(i)
	if !utf8 && c.alts != nil {
		if alt, ok := c.alts[int32(j)]; ok {
			return alt
		}
	}
	return c.octets[j]
}

// AppendUniqueID appends the unique-id of entry i to b.
func (l *Listing) AppendUniqueID(b []byte, i int) []byte {
	c, j := l.at(i)
	if c.ids != nil {
		return c.ids[j].AppendTo(b)
	}
	var from uint32
	if j > 0 {
		from = c.ends[j-1]
	}
	return appendUniqueID(b, c.texts[from:c.ends[j]], message.ID{})
}

// listed is one row on its way into a Listing. column is never empty: the body's
// id stands for an entry without a unique-id of its own.
type listed struct {
	uid       uint32
	flags     uint32
	octets    int64
	surrogate int64
	column    []byte
}

// builder makes a Listing, beginning with the chunks of an older one.
type builder struct {
	l    *Listing
	open *chunk   // the last chunk while it grows
	page []listed // memory of readPage
}

// row returns entry i as it was added.
func (l *Listing) row(i int) listed {
	c, j := l.at(i)
	e := listed{uid: c.uids[j], flags: c.flags[j], octets: c.octets[j], surrogate: c.alts[int32(j)]}
	if c.ids != nil {
		e.column = c.ids[j][:]
		return e
	}
	var from uint32
	if j > 0 {
		from = c.ends[j-1]
	}
	e.column = c.texts[from:c.ends[j]]
	return e
}

// without returns a listing under the same row less the entries whose uids are gone.
func (l *Listing) without(gone map[uint32]bool) *Listing {
	b := newBuilder(l.mailbox, nil)
	for i := range l.n {
		if e := l.row(i); !gone[e.uid] {
			b.add(&e)
		}
	}
	return b.finish()
}

// newBuilder begins a listing under the row m with all entries of base, which
// may be nil. A full chunk is shared, the last one copied.
func newBuilder(m Mailbox, base *Listing) *builder {
	b := &builder{l: &Listing{mailbox: m}}
	if base == nil {
		return b
	}
	b.l.n, b.l.octets, b.l.ascii = base.n, base.octets, base.ascii
	full := base.n / chunkEntries
	b.l.chunks = append(b.l.chunks, base.chunks[:full]...)
	if full < len(base.chunks) {
		b.open = base.chunks[full].clone()
	}
	return b
}

// clone copies a chunk for a builder that will add to it.
func (c *chunk) clone() *chunk {
	n := &chunk{uids: append([]uint32(nil), c.uids...), flags: append([]uint32(nil), c.flags...), octets: append([]int64(nil), c.octets...)}
	if c.ids != nil {
		n.ids = append([]message.ID(nil), c.ids...)
	} else {
		n.ends, n.texts = append([]uint32(nil), c.ends...), append([]byte(nil), c.texts...)
	}
	for i, alt := range c.alts {
		n.setAlt(i, alt)
	}
	return n
}

func (c *chunk) setAlt(i int32, octets int64) {
	if c.alts == nil {
		c.alts = make(map[int32]int64)
	}
	c.alts[i] = octets
}

// add appends an entry.
func (b *builder) add(e *listed) {
	if b.open == nil {
		b.open = &chunk{ids: []message.ID{}}
	}
	c := b.open
	if e.surrogate > 0 {
		c.setAlt(int32(len(c.uids)), e.surrogate)
		b.l.ascii += e.surrogate
	} else {
		b.l.ascii += e.octets
	}
	b.l.octets += e.octets
	b.l.n++
	c.uids = append(c.uids, e.uid)
	c.flags = append(c.flags, e.flags)
	c.octets = append(c.octets, e.octets)
	c.addUniqueID(e.column)
	if len(c.uids) == chunkEntries {
		b.seal()
	}
}

// addUniqueID keeps ids as long as all are ids and turns to texts at the first text.
func (c *chunk) addUniqueID(column []byte) {
	if c.ids != nil {
		if column[0] != textMark {
			c.ids = append(c.ids, message.ID(column))
			return
		}
		for i := range c.ids {
			c.texts = append(c.texts, c.ids[i][:]...)
			c.ends = append(c.ends, uint32(len(c.texts)))
		}
		c.ids = nil
	}
	c.texts = append(c.texts, column...)
	c.ends = append(c.ends, uint32(len(c.texts)))
}

// seal closes the growing chunk and gives back what it has too much.
func (b *builder) seal() {
	c := b.open
	c.uids, c.flags, c.octets = clip(c.uids), clip(c.flags), clip(c.octets)
	if c.ids != nil {
		c.ids = clip(c.ids)
	}
	c.ends, c.texts = clip(c.ends), clip(c.texts)
	b.l.chunks = append(b.l.chunks, c)
	b.open = nil
}

// clip returns s without spare capacity.
func clip[T any](s []T) []T {
	if s == nil || cap(s) == len(s) {
		return s
	}
	return append(make([]T, 0, len(s)), s...)
}

// finish returns the listing.
func (b *builder) finish() *Listing {
	if b.open != nil {
		b.seal()
	}
	return b.l
}
