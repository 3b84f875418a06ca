package smtpserver

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

const (
	// inputOctets is the size of the buffer that a session holds while octets of its
	// peer wait in it. It holds the longest line of an AUTH exchange.
	inputOctets = 16 << 10
	// maxSwallow is how many octets of one over-long line are read before the peer is given up.
	maxSwallow = 64 << 10
)

var (
	errLineTooLong = errors.New("line is too long")
	errLineEnd     = errors.New("line ends without CR")
	errFlood       = errors.New("line does not end")
)

var inputPool = sync.Pool{New: func() any { return new([inputOctets]byte) }}

// input reads a connection. It holds a buffer only while something waits in it, so
// that an idle session costs little: where the connection is a descriptor, the
// buffer is taken when octets have come; elsewhere one octet is waited for.
type input struct {
	conn   net.Conn
	raw    syscall.RawConn // nil for connections without a descriptor, as TLS is
	onRead func(fd uintptr) bool
	before func() error // called before each wait: replies must leave first

	buf  *[inputOctets]byte
	r, w int // buf[r:w] waits
	one  [1]byte
	n    int   // result of onRead
	err  error // result of onRead
}

// reset makes in read conn; nothing may wait in it.
func (in *input) reset(conn net.Conn) {
	in.release()
	in.conn, in.raw = conn, nil
	if sc, ok := conn.(syscall.Conn); ok && rawReads {
		if raw, err := sc.SyscallConn(); err == nil {
			in.raw = raw
		}
	}
	if in.onRead == nil {
		in.onRead = in.tryRead
	}
}

// buffered returns how many octets wait.
func (in *input) buffered() int { return in.w - in.r }

// bytes returns what waits; valid until the next call.
func (in *input) bytes() []byte {
	if in.buf == nil {
		return nil
	}
	return in.buf[in.r:in.w]
}

// discard drops n octets of what waits.
func (in *input) discard(n int) { in.r += n }

// drop forgets what waits.
func (in *input) drop() { in.r = in.w }

// release gives the buffer back when nothing waits in it.
func (in *input) release() {
	if in.buf != nil && in.r == in.w {
		inputPool.Put(in.buf)
		in.buf, in.r, in.w = nil, 0, 0
	}
}

// preload puts octets in front that were read before; at most inputOctets.
func (in *input) preload(b []byte) {
	if len(b) > 0 {
		in.buf = inputPool.Get().(*[inputOctets]byte)
		in.r, in.w = 0, copy(in.buf[:], b)
	}
}

// tryRead is called by the runtime when octets may have come.
func (in *input) tryRead(fd uintptr) bool {
	buf := inputPool.Get().(*[inputOctets]byte)
	n, err := readFD(fd, buf[:])
	if n <= 0 || err != nil {
		inputPool.Put(buf)
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err == nil {
			err = io.EOF
		}
		in.n, in.err = 0, err
		return true
	}
	in.buf, in.r, in.w = buf, 0, n
	in.n, in.err = n, nil
	return true
}

// fill waits for at least one more octet, until the connection's read deadline. With
// hold it waits with a buffer, as is right where many octets are to come.
func (in *input) fill(hold bool) error {
	in.release()
	if err := in.before(); err != nil {
		return err
	}
	if in.buf == nil && (in.raw != nil || !hold) {
		return in.first()
	}
	if in.buf == nil {
		in.buf = inputPool.Get().(*[inputOctets]byte)
	}
	if in.w == inputOctets {
		in.w = copy(in.buf[:], in.buf[in.r:in.w])
		in.r = 0
	}
	if in.w == inputOctets {
		return errLineTooLong
	}
	n, err := in.conn.Read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		return nil
	}
	return noProgress(err)
}

// first waits without a buffer.
func (in *input) first() error {
	if in.raw != nil {
		if err := in.raw.Read(in.onRead); err != nil {
			return err
		}
		return in.err
	}
	n, err := in.conn.Read(in.one[:])
	if n == 0 {
		return noProgress(err)
	}
	in.buf = inputPool.Get().(*[inputOctets]byte)
	in.buf[0], in.r, in.w = in.one[0], 0, 1
	return nil
}

func noProgress(err error) error {
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// line returns the next line without its CRLF; valid until the next call. A line
// of more than limit octets with CRLF is errLineTooLong, one without CR errLineEnd; both
// are taken off the input, and the session may go on. What begins like a TLS handshake is
// returned as it is.
func (in *input) line(limit int) ([]byte, error) {
	for seen := 0; ; {
		b := in.bytes()
		if i := bytes.IndexByte(b[seen:], '\n'); i >= 0 {
			i += seen
			in.r += i + 1
			switch {
			case i+1 > limit:
				return nil, errLineTooLong
			case i == 0 || b[i-1] != '\r':
				return nil, errLineEnd
			}
			return b[:i-1], nil
		}
		if len(b) > 1 && b[0] == 0x16 && b[1] == 0x03 {
			in.drop()
			return b, nil
		}
		seen = len(b)
		if seen >= limit {
			return nil, in.swallowLine()
		}
		if err := in.fill(false); err != nil {
			return nil, err
		}
	}
}

// swallowLine takes the rest of an over-long line off the input.
func (in *input) swallowLine() error {
	for total := 0; total < maxSwallow; {
		b := in.bytes()
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			in.r += i + 1
			return errLineTooLong
		}
		total += len(b)
		in.drop()
		if err := in.fill(true); err != nil {
			return err
		}
	}
	return errFlood
}
