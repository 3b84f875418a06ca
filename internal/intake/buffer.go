package intake

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"poczta.example/poczta/internal/message"
)

// bufferOctets is the first size of the buffer that header sections are read
// into and bodies pass through; larger ones are not pooled.
const bufferOctets = 16 << 10

// buffers are reused between messages; the pool holds *[]byte of bufferOctets.
var buffers = sync.Pool{New: func() any { b := make([]byte, bufferOctets); return &b }}

// budget bounds the memory of all messages that are coming in at once.
type budget struct {
	most int64
	used atomic.Int64
}

// take reserves n octets, or reports that they are not there.
func (b *budget) take(n int64) bool { return b.takeUpTo(n, b.most) }

// takeMore is take for what a message wants beyond its first buffer. Half of the
// budget is out of its reach: a few peers that hold on to long header sections
// would keep all mail away with it.
func (b *budget) takeMore(n int64) bool { return b.takeUpTo(n, b.most/2) }

func (b *budget) takeUpTo(n, most int64) bool {
	if b.used.Add(n) > most {
		b.used.Add(-n)
		return false
	}
	return true
}

// buffer is the working memory of one message, paid from a budget.
type buffer struct {
	budget *budget
	pooled *[]byte
	second *[]byte // for the body, when the header section leaves little room; else nil
	b      []byte  // pooled, or a larger one
	paid   int64
}

var errBusy = Refuse(452, 3, 1, "Too many messages at once; try again later", nil)

func (in *Intake) newBuffer() (*buffer, error) {
	if !in.budget.take(bufferOctets) {
		return nil, errBusy
	}
	p := buffers.Get().(*[]byte)
	return &buffer{budget: &in.budget, pooled: p, b: *p, paid: bufferOctets}, nil
}

// grow doubles the buffer, keeping its octets. It pays for the copy that editing
// may make, too.
func (b *buffer) grow() error {
	size := min(2*len(b.b), message.MaxHeaderOctets+bufferOctets)
	cost := int64(2*size) - b.paid
	if !b.budget.takeMore(cost) {
		return errBusy
	}
	b.paid += cost
	grown := make([]byte, size)
	copy(grown, b.b)
	b.b = grown
	return nil
}

// leastRoom is what a body passes through at least, in octets: less costs too many writes.
const leastRoom = bufferOctets / 4

// room is where the body passes through. It lies behind the header section, whose octets stay as
// they are: inspections, edits and reports look at them until the message is judged.
func (b *buffer) room(section int) ([]byte, error) {
	if free := b.b[section:]; len(free) >= leastRoom {
		return free, nil
	}
	if !b.budget.take(bufferOctets) {
		return nil, errBusy
	}
	b.paid += bufferOctets
	b.second = buffers.Get().(*[]byte)
	return *b.second, nil
}

// free gives everything back.
func (b *buffer) free() {
	b.budget.used.Add(-b.paid)
	buffers.Put(b.pooled)
	if b.second != nil {
		buffers.Put(b.second)
	}
	b.b, b.pooled, b.second = nil, nil, nil
}

// head is what readHeader found: the header section's length, how many octets
// are in the buffer, and whether the message has ended there.
type head struct {
	section, have int
	eof           bool
}

// readHeader reads until the header section is whole; one of more than most octets
// is refused. The buffer holds at most bufferOctets more than message.MaxHeaderOctets.
func (b *buffer) readHeader(msg io.Reader, most int) (head, error) {
	have := 0
	for {
		c, err := msg.Read(b.b[have:])
		from := have
		have += c
		n, complete := message.HeaderLen(b.b[:have], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return head{}, err
		}
		if n > most {
			return head{}, Refuse(552, 3, 4, "The message's header section is too large", nil)
		}
		if complete || err != nil {
			return head{n, have, err != nil}, nil
		}
		if have == len(b.b) {
			if err := b.grow(); err != nil {
				return head{}, err
			}
		}
	}
}
