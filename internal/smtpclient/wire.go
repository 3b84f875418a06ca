package smtpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"poczta.example/poczta/internal/smtp"
)

// lastWordsTimeout is how long a failed write waits for a reply that explains it.
const lastWordsTimeout = 2 * time.Second

// MaxText is how many octets of a reply's text are kept, but for EHLO's offer and AUTH's challenges.
const MaxText = 2048

// begin starts a call: from now on the end of ctx ends waiting. The returned end is
// called with the call's error and returns what the caller gets; it closes a session
// that the end of ctx has hit.
func (s *Session) begin(ctx context.Context, stage Stage) (end func(error) error, err error) {
	if s.broken {
		return nil, &Error{Stage: stage, Err: ErrClosed}
	}
	if err := ctx.Err(); err != nil {
		return nil, &Error{Stage: stage, Local: true, Err: err}
	}
	if ctx.Done() == nil {
		return func(err error) error { return err }, nil
	}
	stop := context.AfterFunc(ctx, func() {
		s.cancelled.Store(true)
		_ = s.raw.SetDeadline(time.Unix(1, 0))
	})
	return func(err error) error {
		if stop() {
			return err
		}
		s.fail()
		if e, ok := errors.AsType[*Error](err); ok && e.Reply == nil && ctx.Err() != nil {
			e.Err = fmt.Errorf("%w: %w", ctx.Err(), e.Err)
		}
		return err
	}, nil
}

// fail closes the connection: what the server says from now on has no meaning.
func (s *Session) fail() { _ = s.Close() }

// arm gives the stage its time, from now, for writing and for the first reply.
func (s *Session) arm(stage Stage) { s.armUntil(time.Now().Add(s.cfg.Timeouts.of(stage))) }

func (s *Session) armUntil(t time.Time) {
	if !s.limit.IsZero() && s.limit.Before(t) {
		t = s.limit
	}
	s.armed = t
	_ = s.conn.SetDeadline(t) // a connection without deadlines is closed, which the next call tells
	if s.cancelled.Load() {   // the context ended meanwhile
		_ = s.raw.SetDeadline(time.Unix(1, 0))
	}
}

// rearm gives a further reply of a flight its time when the deadline in force is far from it.
func (s *Session) rearm(stage Stage) {
	d := s.cfg.Timeouts.of(stage)
	t := time.Now().Add(d)
	if diff := t.Sub(s.armed).Abs(); diff > d/8 && (s.limit.IsZero() || s.armed.Before(s.limit)) {
		s.armUntil(t)
	}
}

// write sends b, which ends with a whole line. The deadline is set before.
func (s *Session) write(stage Stage, b []byte) error {
	n, err := s.conn.Write(b)
	if err == nil {
		return nil
	}
	s.cfg.Dialogue.note(fmt.Sprintf("sending failed behind %d octets: %v", n, cause(err)))
	e := &Error{Stage: stage, Err: cause(err)}
	if r, ok := s.lastWords(); ok {
		e.Reply = &r
	}
	s.fail()
	return e
}

// lastWords reads the reply with which a server explains that it went away: one that
// refuses. The session ends in any case.
func (s *Session) lastWords() (smtp.Reply, bool) {
	if s.cancelled.Load() {
		return smtp.Reply{}, false
	}
	s.limit = time.Time{}
	s.armUntil(time.Now().Add(lastWordsTimeout))
	r, err := s.read(StageNone)
	if err != nil || r.Code < 400 {
		return smtp.Reply{}, false
	}
	s.cfg.Dialogue.reply(&r)
	r.Text = brief(r.Text)
	return r, true
}

// ask sends one command and waits for its reply.
func (s *Session) ask(stage Stage, command string) (smtp.Reply, error) {
	b := make([]byte, 0, 64)
	return s.send(stage, append(append(b, command...), crlf...))
}

// send is ask for a line with its CRLF.
func (s *Session) send(stage Stage, line []byte) (smtp.Reply, error) {
	if err := s.quiet(stage); err != nil {
		return smtp.Reply{}, err
	}
	if stage == StageAuth {
		s.cfg.Dialogue.hidden("credentials", int64(len(line)))
	} else {
		s.cfg.Dialogue.sent(line)
	}
	s.arm(stage)
	if err := s.write(stage, line); err != nil {
		return smtp.Reply{}, err
	}
	return s.reply(stage)
}

// quiet makes sure that the server has sent nothing that was not asked for, except the
// 421 with which it may leave at any time (RFC 5321 §3.8). A reply too many would be
// taken for that of the next command. What has arrived is looked at, nothing is waited
// for: a reply that comes a moment later is not noticed until replies don't fit.
func (s *Session) quiet(stage Stage) error {
	if err := s.look(stage); err != nil || s.r == s.w {
		return err
	}
	s.arm(stage)
	r, err := s.reply(stage)
	if err != nil {
		return err
	}
	s.fail()
	return &Error{Stage: stage, Reply: &r, Err: ErrUnsolicited}
}

// arrivals is a connection that knows whether a read would wait.
type arrivals interface{ Arrived() bool }

// lookTimeout is how long look waits for the rest of a TLS record of which a part has
// arrived, or for octets behind one that is none of ours, as with a session ticket.
const lookTimeout = time.Millisecond

// look takes in what has arrived and was not read. It finds a server that hung up before
// a message is sent to it, which could not be told from a delivered one later. Behind a
// handshake, where tickets arrive, it leaves that to the reply.
func (s *Session) look(stage Stage) error {
	if s.r != s.w || stage == StageHello || s.came == nil || !s.came.Arrived() {
		return nil
	}
	s.arm(stage)
	for s.r == s.w && s.came.Arrived() && time.Now().Before(s.armed) { // again when the time was up before it was tried
		_ = s.conn.SetReadDeadline(time.Now().Add(lookTimeout)) // as in armUntil
		if s.cancelled.Load() {
			_ = s.raw.SetDeadline(time.Unix(1, 0))
			return nil // what is sent next tells
		}
		n, err := s.conn.Read(s.buf[:])
		s.r, s.w = 0, n
		if n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			err = cause(err)
			s.cfg.Dialogue.note(err.Error())
			s.fail()
			return &Error{Stage: stage, Err: err}
		}
	}
	return nil
}

// reply waits for a reply. A 421 is an error and ends the session: the server closes the
// connection (RFC 5321 §3.8).
func (s *Session) reply(stage Stage) (smtp.Reply, error) {
	r, err := s.read(stage)
	if err != nil {
		s.cfg.Dialogue.note(err.Error())
		s.fail()
		return smtp.Reply{}, &Error{Stage: stage, Err: err}
	}
	s.cfg.Dialogue.reply(&r)
	if class := r.Code / 100; !(stage == StageHello && class == 2 || stage == StageAuth && class == 3) { // their texts are for programs
		r.Text = brief(r.Text)
	}
	if r.Code == 421 {
		s.fail()
		last := r // r itself stays off the heap
		return r, &Error{Stage: stage, Reply: &last}
	}
	return r, nil
}

// brief cuts a text that is for people: it is kept for each recipient, in memory, the
// queue and reports. What is cut off is not kept alive by what is left.
func brief(text string) string {
	if len(text) <= MaxText {
		return text
	}
	return strings.ToValidUTF8(strings.Clone(text[:MaxText]), "")
}

// read waits for a reply, the first time until the deadline in force.
func (s *Session) read(stage Stage) (smtp.Reply, error) {
	waited := stage == StageNone
	for {
		if s.r < s.w {
			n, done, err := s.parser.Feed(s.buf[s.r:s.w])
			s.r += n
			if err != nil {
				return smtp.Reply{}, err
			}
			if done {
				return s.parser.Reply(), nil
			}
		}
		if !waited { // octets of one reply don't prolong its time
			s.rearm(stage)
			waited = true
		}
		n, err := s.conn.Read(s.buf[:])
		s.r, s.w = 0, n
		if n == 0 && err != nil {
			return smtp.Reply{}, cause(err)
		}
	}
}

// refused makes the error of a reply that refuses a step and leaves the session usable.
func (s *Session) refused(stage Stage, r smtp.Reply) error {
	if r.Code < 400 {
		return s.protocol(stage, r)
	}
	return &Error{Stage: stage, Reply: &r}
}

// protocol ends the session over a reply of a class that the command does not have.
func (s *Session) protocol(stage Stage, r smtp.Reply) error {
	s.fail()
	return &Error{Stage: stage, Reply: &r, Err: ErrProtocol}
}

// cause gives the errors of connections one form.
func cause(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%w (%w)", ErrHangup, err)
	}
	return err
}
