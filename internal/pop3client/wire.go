package pop3client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"poczta.example/poczta/internal/pop3"
)

// lastWordsTimeout is how long a failed write waits for a reply that explains it.
const lastWordsTimeout = 2 * time.Second

// begin starts a call: from now on the end of ctx ends waiting. The returned end is called
// with the call's error and returns what the caller gets; it closes a session that the end
// of ctx has hit, and one whose server has sent more than was asked for.
func (s *Session) begin(ctx context.Context, command string) (end func(error) error, err error) {
	if s.broken {
		return nil, &Error{Command: command, Err: ErrClosed}
	}
	if err := ctx.Err(); err != nil {
		return nil, &Error{Command: command, Err: err}
	}
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() {
			s.cancelled.Store(true)
			_ = s.raw.SetDeadline(time.Unix(1, 0))
		})
	}
	return func(err error) error {
		if err == nil && !s.broken {
			err = s.quiet(command)
		}
		if stop() {
			return err
		}
		s.fail()
		if e, ok := errors.AsType[*Error](err); ok && !e.Refused && ctx.Err() != nil {
			e.Err = errors.Join(ctx.Err(), e.Err)
		}
		return err
	}, nil
}

// fail closes the connection: what the server says from now on has no meaning.
func (s *Session) fail() { _ = s.Close() }

// watch gives the next reply its time.
func (s *Session) watch(d time.Duration) { s.idle, s.flows, s.spent, s.came = d, false, 0, 0 }

// flow says that what comes next is of any length: each pause has its time, and all
// together what the least speed allows.
func (s *Session) flow() { s.idle, s.flows, s.spent, s.came = s.cfg.Timeouts.Idle, true, 0, 0 }

// fill reads more into the buffer, which is not full with what was not taken.
func (s *Session) fill() error {
	switch {
	case s.r == s.w:
		s.r, s.w = 0, 0
	case s.w == len(s.buf):
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
	}
	left := s.idle - s.spent
	if s.flows {
		left = min(s.idle, left+time.Duration(s.came/int64(s.cfg.Timeouts.MinRate))*time.Second)
	}
	if left <= 0 {
		return os.ErrDeadlineExceeded
	}
	before := time.Now()
	if t := before.Add(left); t.Sub(s.armed).Abs() > left/8 {
		s.armed = t
		_ = s.conn.SetReadDeadline(t) // a connection without deadlines is closed, which Read tells
		s.stopped()
	}
	n, err := s.conn.Read(s.buf[s.w:])
	s.w += n
	s.came += int64(n)
	s.spent += time.Since(before)
	switch {
	case n > 0:
		return nil
	case err == nil:
		return io.ErrNoProgress
	}
	return cause(err)
}

// stopped sets the deadline back if the context has ended meanwhile.
func (s *Session) stopped() {
	if s.cancelled.Load() {
		_ = s.raw.SetDeadline(time.Unix(1, 0))
	}
}

// line returns the next line without its line end, valid until the next call.
func (s *Session) line() ([]byte, error) {
	for from := s.r; ; {
		if i := bytes.IndexByte(s.buf[from:s.w], '\n'); i >= 0 {
			line := s.buf[s.r : from+i]
			s.r = from + i + 1
			n := len(line)
			line = bytes.TrimSuffix(line, []byte{'\r'})
			s.bareLF = len(line) == n
			return line, nil
		}
		if s.w-s.r > maxLine {
			return nil, fmt.Errorf("%w: a line of more than %d octets", ErrLimit, maxLine)
		}
		seen := s.w - s.r
		if err := s.fill(); err != nil {
			return nil, err
		}
		from = s.r + seen
	}
}

// status reads a status line. It does not allocate for +OK.
func (s *Session) status() (ok bool, line []byte, err error) {
	line, err = s.line()
	if err != nil {
		return false, nil, err
	}
	s.cfg.Dialogue.reply(line)
	return len(line) >= 3 && string(line[:3]) == "+OK" && (len(line) == 3 || line[3] == ' '), line, nil
}

// reply reads a status line as a value. An error has ended the session.
func (s *Session) reply(command string, number int) (pop3.Reply, error) {
	_, line, err := s.status()
	if err != nil {
		return pop3.Reply{}, s.lost(command, number, err)
	}
	return s.parse(command, number, line)
}

func (s *Session) parse(command string, number int, line []byte) (pop3.Reply, error) {
	r, err := pop3.ParseReply(line)
	if err != nil {
		s.fail()
		return r, &Error{Command: command, Number: number, Reply: brief(string(line[:min(len(line), MaxText)])), Err: ErrProtocol}
	}
	if r.Status != pop3.StatusChallenge {
		r.Text = brief(r.Text)
	}
	return r, nil
}

// lost ends the session over an error of the connection or of what came.
func (s *Session) lost(command string, number int, err error) error {
	s.cfg.Dialogue.note(err.Error())
	s.fail()
	return &Error{Command: command, Number: number, Err: err}
}

// positive makes an error of a reply that is not +OK.
func (s *Session) positive(command string, number int, r pop3.Reply) error {
	e := &Error{Command: command, Number: number, Reply: r.Text, Code: brief(string(r.Code)), codes: s.caps.AuthRespCode}
	switch r.Status {
	case pop3.StatusOK:
		return nil
	case pop3.StatusErr:
		e.Refused = true
		return e
	}
	s.fail()
	e.Reply, e.Err = brief(r.Text), ErrProtocol
	return e
}

// send writes whole command lines; shown is what the record may have of them.
func (s *Session) send(command, shown string, lines []byte) error {
	if err := s.quiet(command); err != nil {
		return err
	}
	return s.write(command, shown, lines)
}

// write is send while replies are awaited.
func (s *Session) write(command, shown string, lines []byte) error {
	s.cfg.Dialogue.sent(shown)
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.cfg.Timeouts.Command)) // as for reading
	s.stopped()
	n, err := s.conn.Write(lines)
	if err == nil {
		return nil
	}
	err = cause(err)
	s.cfg.Dialogue.note(fmt.Sprintf("sending failed behind %d octets: %v", n, err))
	e := &Error{Command: command, Err: err}
	if r, alert, ok := s.lastWords(); ok {
		e.Refused, e.Reply, e.Code, e.Err = true, r.Text, brief(string(r.Code)), fmt.Errorf("%w: %w", ErrUnsolicited, err)
	} else if alert != nil {
		e.Err = alert
	}
	s.fail()
	return e
}

// lastWords reads the -ERR with which a server explains that it went away, or its TLS alert:
// under TLS 1.3 a refused client certificate shows behind the handshake. Where replies were
// awaited a -ERR can't be known to be that, and the caller does not ask for it.
func (s *Session) lastWords() (r pop3.Reply, alert error, ok bool) {
	if s.cancelled.Load() || s.r != s.w {
		return r, nil, false
	}
	s.watch(lastWordsTimeout)
	good, line, err := s.status()
	if op, is := errors.AsType[*net.OpError](err); is && op.Op == "remote error" {
		return r, err, false
	}
	if good || err != nil {
		return r, nil, false
	}
	r, err = pop3.ParseReply(line)
	r.Text = brief(r.Text)
	return r, nil, err == nil && r.Status == pop3.StatusErr
}

// ask sends a command and wants +OK.
func (s *Session) ask(command string, patience time.Duration) error {
	_, err := s.exchange(command, command, command, patience)
	return err
}

// exchange sends a line and wants +OK to it.
func (s *Session) exchange(command, shown, line string, patience time.Duration) (pop3.Reply, error) {
	s.out = append(append(s.out[:0], line...), '\r', '\n')
	if err := s.send(command, shown, s.out); err != nil {
		return pop3.Reply{}, err
	}
	s.watch(patience)
	r, err := s.reply(command, 0)
	if err != nil {
		return r, err
	}
	return r, s.positive(command, 0, r)
}

// quiet makes sure that the server has sent nothing that was not asked for: a reply too
// many would be taken for that of the next command. A server that ends a session by itself
// says so in this way too, with -ERR.
func (s *Session) quiet(command string) error {
	if s.r == s.w {
		return nil
	}
	s.watch(s.cfg.Timeouts.Command)
	e := &Error{Command: command, Err: ErrUnsolicited}
	if _, line, err := s.status(); err != nil {
		e.Err = fmt.Errorf("%w: %w", ErrUnsolicited, err)
	} else if r, err := pop3.ParseReply(line); err == nil {
		e.Refused, e.Reply, e.Code = r.Status == pop3.StatusErr, brief(r.Text), brief(string(r.Code))
	}
	s.fail()
	return e
}

// lines gives the lines of a multi-line reply to take, unstuffed, at most limit of them.
func (s *Session) lines(command string, limit int, take func(line []byte) error) error {
	s.flow()
	count := 0
	for {
		line, err := s.line()
		switch {
		case err != nil:
			return s.lost(command, 0, err)
		case len(line) > 0 && line[0] == '.':
			if len(line) == 1 {
				s.cfg.Dialogue.hidden("listing", int64(count), "lines")
				return nil
			}
			line = line[1:]
		}
		if count++; count > limit {
			return s.lost(command, 0, fmt.Errorf("%w: more than %d lines", ErrLimit, limit))
		}
		if err := take(line); err != nil {
			return s.lost(command, 0, err)
		}
	}
}

// brief makes a text for people of what a server said.
func brief(text string) string {
	clean := func(r rune) rune {
		if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return ' '
		}
		return r
	}
	text = strings.Map(clean, strings.ToValidUTF8(text[:min(len(text), MaxText)], "?"))
	return strings.ToValidUTF8(text[:min(len(text), MaxText)], "")
}

// cause gives the errors of connections one form. The end of a connection is never io.EOF,
// which is the end of a message.
func cause(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return fmt.Errorf("%w (%v)", ErrHangup, err)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "read" || op.Op == "write") { // other systems have other numbers for it
		return fmt.Errorf("%w (%v)", ErrHangup, err)
	}
	return err
}

// appendCommand appends a command with a message number, and lines if it has them.
func appendCommand(b []byte, verb string, number, lines int) []byte {
	b = strconv.AppendInt(append(append(b, verb...), ' '), int64(number), 10)
	if lines >= 0 {
		b = strconv.AppendInt(append(b, ' '), int64(lines), 10)
	}
	return append(b, '\r', '\n')
}
