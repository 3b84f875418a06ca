package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// retriever drives the sessions of a RETR load from one thread by epoll: one
// read and one write a message, and no wakening of goroutines. It is that bare
// because load and server share the cores: what the load saves, the server shows.
type retriever struct {
	load     popLoad
	epoll    int
	messages int
	logins   int
	until    time.Time // no login begins after it
	buf      []byte
	sessions map[int32]*retrieval // by file descriptor
}

// retrieval is one session: greeting, USER, PASS, STAT, RETR of every message, QUIT.
type retrieval struct {
	fd     int
	index  int // which of the load's sessions
	awaits reply
	next   int    // message whose reply is read, from 1
	text   bool   // within the text of a message
	kept   []byte // read but not understood yet: part of a status line, or of the end
	again  bool   // not the first login of its index
	left   int64  // octets of a large message that are not looked at, of those still to come
}

// reply is the reply that a session waits for.
type reply int

const (
	toGreeting reply = iota
	toUser
	toPass
	toStat
	toRetr
	toQuit
)

const (
	bufferOctets = 256 << 10 // what one read takes
	largeOctets  = 64 << 10  // the size from which messages are not looked at again
)

// endOfText is where the text of a message ends; its first two octets are the text's.
var endOfText = []byte("\r\n.\r\n")

// retrieveAll runs a RETR load; every session logs in once at least.
func (l popLoad) retrieveAll(ctx context.Context, lasting time.Duration) (totals, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return totals{}, fmt.Errorf("create epoll: %w", err)
	}
	begin := time.Now()
	r := &retriever{load: l, epoll: epoll, until: begin.Add(lasting), buf: make([]byte, bufferOctets), sessions: map[int32]*retrieval{}}
	defer r.close()
	for i := range l.sessions {
		if err := r.open(i, false); err != nil {
			return totals{}, err
		}
	}
	if err := r.loop(ctx); err != nil {
		return totals{}, err
	}
	took := time.Since(begin)
	return totals{float64(r.logins) / took.Seconds(), float64(r.messages) / took.Seconds(), took}, nil
}

// close closes what an error left open.
func (r *retriever) close() {
	for fd := range r.sessions {
		_ = syscall.Close(int(fd))
	}
	_ = syscall.Close(r.epoll)
}

// open connects session i; again when it has logged in before.
func (r *retriever) open(i int, again bool) error {
	addr, err := netip.ParseAddrPort(r.load.addr)
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	r.sessions[int32(fd)] = &retrieval{fd: fd, index: i, again: again}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		return fmt.Errorf("connect to %s: %w", r.load.addr, err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("set TCP_NODELAY: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	return syscall.EpollCtl(r.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
}

// loop serves what is readable until all sessions have ended.
func (r *retriever) loop(ctx context.Context) error {
	events := make([]syscall.EpollEvent, 64)
	for len(r.sessions) > 0 {
		n, err := syscall.EpollWait(r.epoll, events, 60_000)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for replies: %w", err)
		case n == 0:
			return errors.New("no reply for a minute")
		case ctx.Err() != nil:
			return ctx.Err()
		}
		for _, e := range events[:n] {
			if err := r.readable(r.sessions[e.Fd]); err != nil {
				return err
			}
		}
	}
	return nil
}

// readable reads once and goes on with the session.
func (r *retriever) readable(s *retrieval) error {
	kept := copy(r.buf, s.kept)
	var n int
	var err error
	if s.left > 0 {
		n, _, err = syscall.Recvfrom(s.fd, r.buf[:min(s.left, bufferOctets)], syscall.MSG_TRUNC) // tcp(7): dropped, not copied
		s.left -= int64(max(n, 0))
		if n > 0 {
			return nil
		}
	} else {
		n, err = syscall.Read(s.fd, r.buf[kept:])
	}
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read replies: %w", err)
	case n == 0:
		return fmt.Errorf("server closed the session: %w", io.ErrUnexpectedEOF)
	}
	rest, err := r.replies(s, r.buf[:kept+n])
	s.kept = append(s.kept[:0], rest...)
	return err
}

// replies takes whole replies off b and sends what follows on them; it returns
// what is no whole line yet, or may be part of a text's end.
func (r *retriever) replies(s *retrieval, b []byte) ([]byte, error) {
	for {
		if s.text {
			i := bytes.Index(b, endOfText)
			if i < 0 {
				return b[max(0, len(b)-len(endOfText)+1):], nil
			}
			b, s.text = b[i+len(endOfText):], false
			r.messages++
			if err := r.advance(s); err != nil {
				return nil, err
			}
			continue
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return b, nil
		}
		line := b[:i]
		b = b[i+1:]
		if err := r.status(s, line); err != nil {
			return nil, err
		}
		if r.sessions[int32(s.fd)] != s {
			return nil, nil
		}
		if s.text && s.again {
			b = s.skip(line, b)
		}
	}
}

// status takes a status line and sends what follows on it.
func (r *retriever) status(s *retrieval, line []byte) error {
	if !bytes.HasPrefix(line, []byte("+OK")) {
		return errors.New("server said " + string(bytes.TrimSpace(line)))
	}
	awaited := s.awaits
	if awaited < toRetr {
		s.awaits++
	}
	switch awaited {
	case toGreeting:
		return s.send(fmt.Appendf(nil, "USER "+r.load.user+"\r\n", s.index%r.load.users+1))
	case toUser:
		return s.send([]byte("PASS " + password + "\r\n"))
	case toPass:
		return s.send([]byte("STAT\r\n"))
	case toStat:
		if f := bytes.Fields(line); len(f) < 3 || string(f[1]) != strconv.Itoa(r.load.messages) {
			return fmt.Errorf("maildrop should hold %d messages, server said %s", r.load.messages, bytes.TrimSpace(line))
		}
		if r.load.pipeline {
			s.next = 1
			return s.send(r.load.batch())
		}
		return r.advance(s)
	case toRetr:
		s.text = true
		return nil
	}
	return r.ended(s)
}

// skip leaves the octets of a large message to the kernel, all but the end of the
// last line: whether a peer's own copying is fast is not what is measured. The
// first login of each session looks at everything. b is what came behind the
// status line; it returns what is left of it.
func (s *retrieval) skip(line, b []byte) []byte {
	f := bytes.Fields(line)
	if len(f) < 2 {
		return b
	}
	octets, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil || octets < largeOctets || octets-2 <= int64(len(b)) {
		return b
	}
	s.left = octets - int64(len(b)) - 2
	return nil
}

// batch is all commands of a session that pipelines.
func (l popLoad) batch() []byte {
	var b []byte
	for i := range l.messages {
		b = fmt.Appendf(b, "RETR %d\r\n", i+1)
	}
	return b
}

// advance goes on to the next message, or ends the session.
func (r *retriever) advance(s *retrieval) error {
	s.next++
	switch {
	case s.next > r.load.messages:
		s.awaits = toQuit
		return s.send([]byte("QUIT\r\n"))
	case r.load.pipeline:
		return nil
	}
	b := strconv.AppendInt(append(make([]byte, 0, 32), "RETR "...), int64(s.next), 10)
	return s.send(append(b, '\r', '\n'))
}

// send writes commands; they are far shorter than what a socket takes at once.
func (s *retrieval) send(b []byte) error {
	n, err := syscall.Write(s.fd, b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("send %q: %w", bytes.TrimSpace(b), err)
	}
	return nil
}

// ended closes a session and begins the next one, if there is time.
func (r *retriever) ended(s *retrieval) error {
	delete(r.sessions, int32(s.fd))
	if err := syscall.Close(s.fd); err != nil {
		return err
	}
	r.logins++
	if time.Now().Before(r.until) {
		return r.open(s.index, true)
	}
	return nil
}
