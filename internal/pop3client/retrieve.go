package pop3client

import (
	"context"
	"errors"
	"io"
	"strings"
)

// The window of commands that are sent before their replies have come (RFC 2449 §6.8).
const (
	// windowCommandOctets bounds the commands on the way: they must fit what lies between
	// us and a server that waits for us to read, or both would wait for ever. Sockets hold
	// 64 KiB and more in each direction.
	windowCommandOctets = 16 << 10
	// windowOctets bounds what is expected to come; one message beyond it may be on the way.
	windowOctets = 8 << 20
	// unknownOctets is what is expected of a message whose size was not listed.
	unknownOctets = 16 << 10
	// replyOctets is what is expected of a reply of one line.
	replyOctets = 64
	// drainOctets is how much is read and thrown away for a session to go on when fn has
	// failed; where more is expected the session ends.
	drainOctets = 1 << 20
)

// Retrieve asks for messages by RETR, the next ones while the first are coming where the
// server offers PIPELINING, and calls fn for each in the order of numbers. r has the
// message's octets without dot-stuffing; it ends with io.EOF only if the whole message has
// come, else with an error that wraps io.ErrUnexpectedEOF. It is valid until fn returns,
// also implements io.WriterTo, and what fn leaves of it is thrown away. Sizes are not
// checked against the listing, because servers err there.
//
// A text that begins with a status line shows that replies and messages are out of step: it
// is ErrUnsolicited and ends the session. A message that really begins so can be had by
// asking for it alone.
//
// Messages that the server refuses are skipped and returned as *Refused. An error of fn is
// returned as it is; then nothing more is asked for, and the session ends if more than 1 MiB
// is still to come. Other errors are *Error and end the session.
func (s *Session) Retrieve(ctx context.Context, numbers []int, fn func(number int, r io.Reader) error) error {
	return s.each(ctx, &flight{verb: "RETR", lines: -1, numbers: numbers, fn: fn})
}

// Top is Retrieve with TOP: the header section, the blank line and so many lines of the
// body (RFC 1939 §7). The error is *Unsupported when the server's CAPA has no TOP; a server
// without CAPA shows by *Refused that it has none.
func (s *Session) Top(ctx context.Context, numbers []int, lines int, fn func(number int, r io.Reader) error) error {
	if s.caps.Known && !s.caps.TOP {
		return &Unsupported{Extension: "TOP", Need: "reading headers alone"}
	}
	return s.each(ctx, &flight{verb: "TOP", lines: max(lines, 0), numbers: numbers, fn: fn})
}

// Delete marks messages as deleted; only Quit removes them. Messages that the server refuses
// to mark are returned as *Refused, the others are marked. Another error ends the session:
// nothing is marked.
func (s *Session) Delete(ctx context.Context, numbers []int) error {
	return s.each(ctx, &flight{verb: "DELE", lines: -1, numbers: numbers})
}

// flight is one command for many messages, several of them on the way at a time.
type flight struct {
	verb    string
	lines   int // of TOP; -1 for none
	numbers []int
	fn      func(number int, r io.Reader) error // nil where a reply is one line

	sent     int   // how many of numbers
	commands int   // octets on the way
	expected int64 // octets to come
	refused  Refused
	at       int // where the sizes of sent and answered ones are looked up
	atSent   int
}

func (s *Session) each(ctx context.Context, f *flight) error {
	end, err := s.begin(ctx, f.verb)
	if err != nil {
		return err
	}
	for _, n := range f.numbers {
		if n <= 0 {
			return end(&Error{Command: f.verb, Number: n, Err: ErrArgument})
		}
	}
	if err := s.know(); err != nil {
		return end(err)
	}
	if err := s.quiet(f.verb); err != nil {
		return end(err)
	}
	for i, n := range f.numbers {
		if err := s.ahead(f, i); err != nil {
			return end(err)
		}
		if err := s.answer(f, n); err != nil {
			if s.broken {
				return end(err)
			}
			return s.giveUp(end, f, i, err)
		}
	}
	if err := end(nil); err != nil || len(f.refused.Numbers) == 0 {
		return err
	}
	return &f.refused
}

// ahead sends commands when few are on the way; i of them are answered.
func (s *Session) ahead(f *flight, i int) error {
	onWay := f.sent - i
	if onWay > 0 && (!s.caps.Pipelining || f.commands > windowCommandOctets*3/4 || f.expected > windowOctets*3/4) {
		return nil
	}
	s.out = s.out[:0]
	before := f.sent
	for f.sent < len(f.numbers) && (onWay == 0 || s.caps.Pipelining && f.commands < windowCommandOctets && f.expected < windowOctets) {
		n, from := f.numbers[f.sent], len(s.out)
		s.out = appendCommand(s.out, f.verb, n, f.lines)
		f.commands += len(s.out) - from
		f.expected += f.expect(s, n, &f.atSent)
		f.sent++
		onWay++
	}
	if f.sent == before {
		return nil
	}
	shown := ""
	if s.cfg.Dialogue != nil {
		shown = string(s.out)
	}
	return s.write(f.verb, shown, s.out)
}

// expect returns how many octets the reply for message n may have.
func (f *flight) expect(s *Session, n int, at *int) int64 {
	switch f.verb {
	case "DELE":
		return replyOctets
	case "TOP":
		return min(s.sizeOf(n, at), 2048+int64(min(f.lines, 1<<20))*80)
	}
	return s.sizeOf(n, at)
}

// answer takes the reply for message n.
func (s *Session) answer(f *flight, n int) error {
	s.watch(s.cfg.Timeouts.Command)
	ok, line, err := s.status()
	if err != nil {
		return f.named(s.lost(f.verb, n, err))
	}
	f.commands -= commandOctets(f.verb, n, f.lines)
	f.expected -= f.expect(s, n, &f.at)
	if !ok {
		return f.negative(s, n, line)
	}
	if f.fn == nil {
		s.marked++
		return nil
	}
	b := &s.body
	b.begin(len(f.numbers) > 1)
	failed := f.fn(n, b)
	if failed == nil {
		_ = b.drain(-1) // b.err tells
	}
	if b.failure() != nil {
		return f.named(&Error{Command: f.verb, Number: n, Err: b.err})
	}
	if failed == nil && s.cfg.Dialogue != nil {
		s.cfg.Dialogue.hidden("message", b.octets, "octets")
	}
	return failed
}

// negative notes a reply that is not +OK.
func (f *flight) negative(s *Session, n int, line []byte) error {
	r, err := s.parse(f.verb, n, line)
	if err == nil {
		err = s.positive(f.verb, n, r)
	}
	e, _ := errors.AsType[*Error](f.named(err))
	if e.Refused {
		f.refused.add(n, e)
		return nil
	}
	return e
}

// named gives an error the whole command.
func (f *flight) named(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Number > 0 {
		e.Command = strings.TrimSuffix(string(appendCommand(nil, f.verb, e.Number, f.lines)), "\r\n")
	}
	return err
}

// giveUp ends a flight whose fn has failed at message i: what was asked for is read and
// thrown away if it is little.
func (s *Session) giveUp(end func(error) error, f *flight, i int, failed error) error {
	s.body.pending = nil
	if s.body.err == nil {
		if rest := f.expect(s, f.numbers[i], new(int)) - s.body.octets; rest+f.expected > drainOctets || s.body.drain(2*drainOctets) != nil {
			s.fail()
			return end(failed)
		}
	}
	if f.expected > drainOctets {
		s.fail()
		return end(failed)
	}
	f.fn = func(_ int, r io.Reader) error { return r.(*body).drain(2 * drainOctets) }
	for j := i + 1; j < f.sent; j++ {
		if s.answer(f, f.numbers[j]) != nil {
			s.fail()
			break
		}
	}
	return end(failed)
}

func commandOctets(verb string, number, lines int) int {
	n := len(verb) + 1 + digits(number) + 2
	if lines >= 0 {
		n += 1 + digits(lines)
	}
	return n
}

func digits(n int) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}
