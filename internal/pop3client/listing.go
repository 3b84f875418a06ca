package pop3client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"

	"poczta.example/poczta/internal/pop3"
)

// Item is one message of the maildrop.
type Item struct {
	// Number is the message's in this session, from 1.
	Number int
	// Octets is the size that the server tells; many err a little.
	Octets int64
	// UniqueID is the server's name for the message in all sessions (RFC 1939 §7), 1 to
	// MaxUniqueID octets 0x21 to 0x7E. "" when the server has none for it.
	UniqueID string
	// Illegal is true when the server has told a unique-id that is not of that form.
	Illegal bool
	// Shared is true when another message has the same unique-id: it names neither.
	Shared bool
}

// size is what is kept of an Item, to know what to expect.
type size struct {
	number int32
	octets int64
}

// List returns the messages that are not marked as deleted, by rising number: LIST and UIDL
// joined, in one round trip where the server offers PIPELINING. A server that knows no UIDL
// is no error: the unique-ids are "". A listing that contradicts itself (a number twice or
// below 1, a unique-id for a message that is not listed, a line that is none) is ErrListing
// and ends the session, because by wrong numbers wrong messages would be deleted. The error
// is an *Error. Memory is that of the items, at most Config.MaxItems of them.
func (s *Session) List(ctx context.Context) ([]Item, error) {
	end, err := s.begin(ctx, "LIST")
	if err != nil {
		return nil, err
	}
	items, err := s.list()
	if err = end(err); err != nil {
		return nil, err
	}
	return items, nil
}

func (s *Session) list() ([]Item, error) {
	if err := s.know(); err != nil {
		return nil, err
	}
	command := "LIST\r\n"
	if s.caps.Pipelining {
		command += "UIDL\r\n"
	}
	if err := s.send("LIST", command, []byte(command)); err != nil {
		return nil, err
	}
	items, err := s.scanListing()
	if err != nil {
		return nil, err
	}
	if !s.caps.Pipelining {
		if err := s.send("UIDL", "UIDL", []byte("UIDL\r\n")); err != nil {
			return nil, err
		}
	}
	if err := s.uniqueIDs(items); err != nil {
		return nil, err
	}
	s.sizes = make([]size, len(items))
	for i, it := range items {
		s.sizes[i] = size{int32(it.Number), it.Octets}
	}
	return items, nil
}

// scanListing reads the reply to LIST.
func (s *Session) scanListing() ([]Item, error) {
	s.watch(s.cfg.Timeouts.Login)
	r, err := s.reply("LIST", 0)
	if err == nil {
		err = s.positive("LIST", 0, r)
	}
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Refused && s.caps.Pipelining {
			s.skipListing()
		}
		return nil, err
	}
	var items []Item
	sorted := true
	err = s.lines("LIST", s.cfg.MaxItems, func(line []byte) error {
		number, rest, ok := cutNumber(line)
		octets, _, ok2 := cutNumber(rest)
		if !ok || !ok2 || number < 1 || number > math.MaxInt32 {
			return fmt.Errorf("%w: line %.40q", ErrListing, line)
		}
		sorted = sorted && (len(items) == 0 || items[len(items)-1].Number < int(number))
		items = append(items, Item{Number: int(number), Octets: octets})
		return nil
	})
	if err != nil || sorted {
		return items, err
	}
	slices.SortFunc(items, func(a, b Item) int { return cmp.Compare(a.Number, b.Number) })
	for i := range items[1:] {
		if items[i].Number == items[i+1].Number {
			return nil, s.lost("LIST", 0, fmt.Errorf("%w: message %d is listed twice", ErrListing, items[i].Number))
		}
	}
	return items, nil
}

// skipListing reads the reply to a UIDL that was sent behind a LIST which is refused.
func (s *Session) skipListing() {
	s.watch(s.cfg.Timeouts.Login)
	r, err := s.reply("UIDL", 0)
	if err == nil && r.Status == pop3.StatusOK {
		_ = s.lines("UIDL", s.cfg.MaxItems, func([]byte) error { return nil }) // an error ends the session, which the caller sees
	}
}

// uniqueIDs reads the reply to UIDL into items.
func (s *Session) uniqueIDs(items []Item) error {
	s.watch(s.cfg.Timeouts.Login)
	r, err := s.reply("UIDL", 0)
	if err != nil {
		return err
	}
	if err := s.positive("UIDL", 0, r); err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Refused && !s.caps.UIDL && !r.Code.Is("SYS") && !r.Code.Is(pop3.CodeInUse) {
			return nil // there is none
		}
		return err
	}
	ids := idReader{items: items}
	if err := s.lines("UIDL", s.cfg.MaxItems, ids.take); err != nil {
		return err
	}
	ids.flush()
	markShared(items)
	return nil
}

// idReader joins the lines of UIDL with those of LIST. Unique-ids are kept in blocks, one
// allocation for many.
type idReader struct {
	items []Item
	next  int    // the item that is expected
	seen  []bool // items that had a line, made when one is out of order
	block []byte
	parts []part // of block, not yet strings
}

// part is an item's unique-id in a block.
type part struct{ item, from, to int }

const idBlockOctets = 16 << 10

func (u *idReader) take(line []byte) error {
	number, rest, ok := cutNumber(line)
	if !ok || number < 1 || number > math.MaxInt32 {
		return fmt.Errorf("%w: line %.40q", ErrListing, line)
	}
	i, err := u.find(int(number))
	if err != nil {
		return err
	}
	for len(rest) > 0 && (rest[len(rest)-1] == ' ' || rest[len(rest)-1] == '\t') {
		rest = rest[:len(rest)-1]
	}
	if !legalID(rest) {
		u.items[i].Illegal = len(rest) > 0
		return nil
	}
	if len(u.block)+len(rest) > idBlockOctets {
		u.flush()
	}
	from := len(u.block)
	u.block = append(u.block, rest...)
	u.parts = append(u.parts, part{i, from, len(u.block)})
	return nil
}

// find returns which item has the number, and that it had no line before.
func (u *idReader) find(number int) (int, error) {
	i := u.next
	if i >= len(u.items) || u.items[i].Number != number || u.seen != nil {
		if u.seen == nil {
			u.seen = make([]bool, len(u.items))
			for k := range u.next {
				u.seen[k] = true
			}
		}
		var found bool
		i, found = slices.BinarySearchFunc(u.items, number, func(it Item, n int) int { return cmp.Compare(it.Number, n) })
		switch {
		case !found:
			return 0, fmt.Errorf("%w: message %d has a unique-id and no size", ErrListing, number)
		case u.seen[i]:
			return 0, fmt.Errorf("%w: message %d has two unique-ids", ErrListing, number)
		}
		u.seen[i] = true
	}
	u.next = i + 1
	return i, nil
}

// flush makes strings of the block's parts.
func (u *idReader) flush() {
	text := string(u.block)
	for _, p := range u.parts {
		u.items[p.item].UniqueID = text[p.from:p.to]
	}
	u.block, u.parts = u.block[:0], u.parts[:0]
}

// legalID reports whether id can be a unique-id, of any length that we keep.
func legalID(id []byte) bool {
	for _, c := range id {
		if c < 0x21 || c > 0x7e {
			return false
		}
	}
	return len(id) > 0 && len(id) <= MaxUniqueID
}

// markShared marks items whose unique-id another has too.
func markShared(items []Item) {
	type hashed struct {
		hash uint64
		item int32
	}
	seed := maphash.MakeSeed() // chosen anew, so that no server can make them collide
	all := make([]hashed, 0, len(items))
	for i := range items {
		if id := items[i].UniqueID; id != "" {
			all = append(all, hashed{maphash.String(seed, id), int32(i)})
		}
	}
	slices.SortFunc(all, func(a, b hashed) int { return cmp.Compare(a.hash, b.hash) })
	for i := range all {
		for j := i + 1; j < len(all) && all[j].hash == all[i].hash; j++ {
			if a, b := &items[all[i].item], &items[all[j].item]; a.UniqueID == b.UniqueID {
				a.Shared, b.Shared = true, true
			}
			if items[all[i].item].Shared {
				break // the next one looks at its own neighbour
			}
		}
	}
}

// cutNumber reads a number off the begin of a line, with the blanks behind it.
func cutNumber(line []byte) (n int64, rest []byte, ok bool) {
	i := 0
	for i < len(line) && line[i] != ' ' && line[i] != '\t' {
		i++
	}
	n, err := pop3.ParseNumber(line[:i])
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	return n, line[i:], err == nil
}

// sizeOf returns the listed size of message n. at is where the one before was found:
// mostly messages are asked for in order.
func (s *Session) sizeOf(n int, at *int) int64 {
	i := *at
	if i >= len(s.sizes) || int(s.sizes[i].number) != n {
		var found bool
		i, found = slices.BinarySearchFunc(s.sizes, n, func(z size, n int) int { return cmp.Compare(int(z.number), n) })
		if !found {
			return unknownOctets
		}
	}
	*at = i + 1
	return min(s.sizes[i].octets, s.cfg.MaxMessageOctets)
}
