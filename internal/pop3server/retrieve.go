package pop3server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"poczta.example/poczta/internal/pop3"
)

// stuffBlock is how many octets are byte-stuffed at a time. Stuffing makes at
// most one octet of each one, so a block's result fits a buffer.
const stuffBlock = 8 << 10

// errShort is a body with fewer octets than its entry says, errLong one with more.
var (
	errShort = errors.New("message has fewer octets than listed")
	errLong  = errors.New("message has more octets than listed")
)

// retrieve is RETR.
func (s *session) retrieve(ctx context.Context, cmd pop3.Command) error {
	i, err := s.trans.message(cmd.First)
	if err != nil {
		return err
	}
	return s.send(ctx, i, nil)
}

// top is TOP.
func (s *session) top(ctx context.Context, cmd pop3.Command) error {
	i, err := s.trans.message(cmd.First)
	if err != nil {
		return err
	}
	lines, err := pop3.ParseNumber(cmd.Second)
	if err != nil {
		if !digits(cmd.Second) {
			return fault(pop3.TextArguments)
		}
		lines = math.MaxInt64 // more lines than a message can have
	}
	return s.send(ctx, i, pop3.NewTopCutter(lines))
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

// send puts the reply to RETR or, with a cutter, to TOP. A message that can't be
// read is -ERR as long as nothing of the reply has left; later the connection is
// cut without the termination octet, so that no program takes a part for the whole.
func (s *session) send(ctx context.Context, i int, cut *pop3.TopCutter) error {
	octets := s.trans.drop.Octets(i)
	msg, dots, err := s.trans.drop.Read(ctx, i)
	if err != nil {
		return s.unreadable(i, err)
	}
	defer msg.Close()

	s.out.room(int(min(octets+octets/8, int64(len(buffer{})/2))) + pop3.MaxResponseOctets)
	mark, writes := s.out.n, s.out.writes
	s.head(octets, cut != nil)
	d := download{out: &s.out, msg: msg, left: octets}
	if dots || cut != nil {
		err = d.blocks(dots, cut)
	} else {
		err = d.straight()
	}
	switch {
	case s.out.err != nil:
		s.why = "peer does not read"
		return errEnd
	case err == nil:
	case s.out.writes == writes:
		s.out.drop(mark)
		return s.unreadable(i, err)
	default:
		s.logFailure(pop3.VerbRetr, fmt.Errorf("read message %d: %w", i+1, err))
		s.why = "message broke"
		s.out.drop(0)
		return errEnd
	}
	if h := s.server.config.Hooks.Retrieved; h != nil {
		h(octets-d.left, time.Since(s.command))
	}
	return nil
}

// head puts the status line.
func (s *session) head(octets int64, top bool) {
	b := append(s.out.room(pop3.MaxResponseOctets), "+OK "...)
	if top {
		b = append(b, pop3.TextFollows.In(s.lang)...)
	} else {
		b = strconv.AppendInt(b, octets, 10)
		b = append(append(b, ' '), pop3.Octets(s.lang, octets)...)
	}
	s.out.put(append(b, '\r', '\n'))
}

// unreadable is the reply for a message that can't be read.
func (s *session) unreadable(i int, err error) error {
	if _, ok := errors.AsType[*pop3.Error](err); ok {
		return err
	}
	err = fmt.Errorf("read message %d: %w", i+1, err)
	if errors.Is(err, errShort) || errors.Is(err, errLong) {
		return &refusal{code: pop3.CodeSysPerm, text: pop3.TextDamaged, err: err}
	}
	return &refusal{code: pop3.CodeSysTemp, text: pop3.TextUnreadable, err: err}
}

// download carries one message from its reader to the output.
type download struct {
	out  *output
	msg  io.Reader
	left int64 // octets of the message still to come
	stuf pop3.Stuffer
}

// straight copies a message without lines that begin with a dot: it is read
// right into the output's buffer.
func (d *download) straight() error {
	for d.left > 0 {
		if d.out.free() < 4<<10 && int64(d.out.free()) < d.left {
			d.out.flush()
		}
		if d.out.err != nil {
			return nil
		}
		b := d.out.buf[d.out.n:]
		n, err := d.read(b[:min(int64(len(b)), d.left)])
		if err != nil {
			return err
		}
		d.stuf.Skip(b[:n])
		d.out.n += n
	}
	return d.end(true)
}

// blocks copies through a second buffer, cut and stuffed.
func (d *download) blocks(dots bool, cut *pop3.TopCutter) error {
	block := d.out.pool.Get().(*buffer)
	defer d.out.pool.Put(block)
	done := false
	for d.left > 0 && !done && d.out.err == nil {
		n, err := d.read(block[:min(stuffBlock, d.left)])
		if err != nil {
			return err
		}
		p := block[:n]
		if cut != nil {
			n, done = cut.Cut(p)
			p = p[:n]
		}
		b := d.out.room(2 * len(p))
		if dots {
			b = d.stuf.Append(b, p)
		} else {
			d.stuf.Skip(p)
			b = append(b, p...)
		}
		d.out.put(b)
	}
	return d.end(!done)
}

// read reads at least one octet.
func (d *download) read(p []byte) (int, error) {
	for range 100 {
		n, err := d.msg.Read(p)
		if n > 0 {
			d.left -= int64(n)
			if err != nil && err != io.EOF {
				return n, err
			}
			return n, nil
		}
		if err == io.EOF {
			return 0, errShort
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// end closes the reply. When the whole message was wanted it reads on to the
// reader's end, because only there damage shows.
func (d *download) end(whole bool) error {
	if d.out.err != nil {
		return nil
	}
	if whole {
		n, err := io.ReadFull(d.msg, d.out.one[:])
		if n > 0 {
			return errLong
		}
		if err != io.EOF {
			return err
		}
	}
	d.out.put(d.stuf.End(d.out.room(5)))
	return nil
}
