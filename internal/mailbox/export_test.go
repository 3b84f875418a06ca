package mailbox

import "poczta.example/poczta/internal/message"

// ListingOf builds a listing of base and rows, as a refresh does, for tests.
// Each row is a column of a unique-id with a size and a surrogate's size.
func ListingOf(base *Listing, rows []ListingRow) *Listing {
	m := Mailbox{Account: 1, Number: 1, Name: Inbox}
	b := newBuilder(m, base)
	for i, r := range rows {
		uid := uint32(i + 1)
		if base != nil {
			uid += uint32(base.n)
		}
		b.add(&listed{uid: uid, octets: r.Octets, surrogate: r.Surrogate, column: columnOf(r)})
	}
	return b.finish()
}

// ListingRow is an entry for ListingOf; Text stands before ID.
type ListingRow struct {
	ID        message.ID
	Text      string
	Octets    int64
	Surrogate int64
}

func columnOf(r ListingRow) []byte {
	if r.Text != "" {
		return storeUniqueID(r.Text, message.ID{})
	}
	return r.ID[:]
}

// Cost is what a listing takes in memory.
func (l *Listing) Cost() (octets int64) {
	for _, c := range l.chunks {
		octets += c.cost()
	}
	return octets
}

// CacheOctets is what the store's cache counts, and CacheSlots how many slots it has.
func (s *Store) CacheOctets() int64 {
	s.listings.mu.Lock()
	defer s.listings.mu.Unlock()
	return s.listings.total
}

// CacheSlots is the number of slots.
func (s *Store) CacheSlots() int {
	s.listings.mu.Lock()
	defer s.listings.mu.Unlock()
	return len(s.listings.slots)
}
