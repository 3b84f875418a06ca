package pop3server

import (
	"context"
	"fmt"
	"math/bits"
	"strconv"
	"time"

	"poczta.example/poczta/internal/pop3"
)

// transaction is the data of the TRANSACTION state.
type transaction struct {
	drop    Maildrop
	keeper  Keeper // drop, if it is one
	len     int
	stood   time.Time // when the identity was last found to stand
	deleted marks
	octets  int64 // of marked messages
}

// marks is a set of message indexes; it takes memory with the first one.
type marks struct {
	bits []uint64
	n    int
}

func (m *marks) has(i int) bool { return m.n > 0 && m.bits[i/64]&(1<<(i%64)) != 0 }

// set adds i to a set of indexes under size.
func (m *marks) set(i, size int) {
	if m.bits == nil {
		m.bits = make([]uint64, (size+63)/64)
	}
	m.bits[i/64] |= 1 << (i % 64)
	m.n++
}

// all returns the indexes in order.
func (m *marks) all() []int {
	indexes := make([]int, 0, m.n)
	for w, word := range m.bits {
		for ; word != 0; word &= word - 1 {
			indexes = append(indexes, w*64+bits.TrailingZeros64(word))
		}
	}
	return indexes
}

// message finds the message that a number names. Message numbers count from 1;
// one that is marked as deleted may not be named (RFC 1939 §5).
func (t *transaction) message(arg []byte) (int, error) {
	n, err := pop3.ParseNumber(arg)
	switch {
	case err != nil:
		return 0, fault(pop3.TextArguments)
	case n < 1 || n > int64(t.len):
		return 0, refuse(pop3.TextNoMessage)
	case t.deleted.has(int(n - 1)):
		return 0, refuse(pop3.TextDeleted)
	}
	return int(n - 1), nil
}

// stat is STAT: the drop listing. Marked messages do not count.
func (s *session) stat(context.Context, pop3.Command) error {
	t := s.trans
	b := append(s.out.room(pop3.MaxResponseOctets), "+OK "...)
	b = strconv.AppendInt(b, int64(t.len-t.deleted.n), 10)
	b = strconv.AppendInt(append(b, ' '), t.drop.TotalOctets()-t.octets, 10)
	s.out.put(append(b, '\r', '\n'))
	return nil
}

// maxListLine is the longest line of a listing in octets: number, space,
// unique-id or size, CRLF.
const maxListLine = 20 + 1 + pop3.MaxUniqueIDOctets + 2

// list is LIST: one scan listing, or all.
func (s *session) list(_ context.Context, cmd pop3.Command) error {
	return s.listing(cmd, func(b []byte, d Maildrop, i int) []byte { return strconv.AppendInt(b, d.Octets(i), 10) })
}

// uidl is UIDL: one unique-id listing, or all.
func (s *session) uidl(_ context.Context, cmd pop3.Command) error {
	return s.listing(cmd, func(b []byte, d Maildrop, i int) []byte { return d.AppendUniqueID(b, i) })
}

// listing puts a reply to LIST or UIDL; item appends what is told of message i.
func (s *session) listing(cmd pop3.Command, item func([]byte, Maildrop, int) []byte) error {
	t := s.trans
	if cmd.First != nil {
		i, err := t.message(cmd.First)
		if err != nil {
			return err
		}
		b := strconv.AppendInt(append(s.out.room(pop3.MaxResponseOctets), "+OK "...), int64(i+1), 10)
		s.out.put(append(item(append(b, ' '), t.drop, i), '\r', '\n'))
		return nil
	}
	n := int64(t.len - t.deleted.n)
	b := strconv.AppendInt(append(s.out.room(pop3.MaxResponseOctets), "+OK "...), n, 10)
	b = append(append(b, ' '), pop3.Messages(s.lang, n)...)
	s.out.put(append(b, '\r', '\n'))
	b = s.out.room(maxListLine)
	for i := range t.len {
		if t.deleted.has(i) {
			continue
		}
		if cap(b)-len(b) < maxListLine {
			s.out.put(b)
			b = s.out.room(maxListLine)
			if s.out.err != nil {
				break
			}
		}
		b = strconv.AppendInt(b, int64(i+1), 10)
		b = append(item(append(b, ' '), t.drop, i), '\r', '\n')
	}
	s.out.put(append(b, ".\r\n"...))
	return nil
}

// remove is DELE: it marks.
func (s *session) remove(_ context.Context, cmd pop3.Command) error {
	i, err := s.trans.message(cmd.First)
	if err != nil {
		return err
	}
	s.trans.deleted.set(i, s.trans.len)
	s.trans.octets += s.trans.drop.Octets(i)
	s.okReply(pop3.TextMarked.In(s.lang))
	return nil
}

// reset is RSET: it takes all marks away.
func (s *session) reset(context.Context, pop3.Command) error {
	s.trans = &transaction{drop: s.trans.drop, keeper: s.trans.keeper, len: s.trans.len, stood: s.trans.stood}
	s.okReply(pop3.TextReset.In(s.lang))
	return nil
}

// quit is QUIT. In the TRANSACTION state it enters UPDATE and deletes what is
// marked, all or nothing (RFC 1939 §6).
func (s *session) quit(ctx context.Context, _ pop3.Command) error {
	s.why = "quit"
	text := pop3.TextBye
	if t := s.trans; t != nil && t.deleted.n > 0 {
		err := t.drop.Remove(ctx, t.deleted.all())
		if h := s.server.config.Hooks.Removed; h != nil {
			h(t.deleted.n, err)
		}
		if err != nil {
			err = fmt.Errorf("remove %d messages: %w", t.deleted.n, err)
			return &refusal{code: pop3.CodeSysTemp, text: pop3.TextRemoveFailed, err: err, end: true}
		}
		text = pop3.TextByeRemoved
	}
	s.enter(stateUpdate, nil)
	s.okReply(text.In(s.lang))
	return errEnd
}
