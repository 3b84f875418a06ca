package pop3server

import (
	"net"
	"sync"
	"time"
)

// output collects replies and writes them in as few writes as possible. It
// borrows its buffer when the first reply is put in and gives it back when all
// is written. Errors stick.
type output struct {
	pool    *sync.Pool
	conn    net.Conn
	timeout time.Duration
	buf     *buffer
	n       int
	writes  int64 // how often flush wrote: tells whether something already left
	octets  int64
	renew   time.Time // when the connection's deadline is next put off
	err     error
	one     [1]byte // where a read that should find the end reads to
}

// deadlineStep is how much later than asked for a deadline may fire: so long it
// is left alone, as to put it off with each reply would cost more than to compare.
const deadlineStep = time.Second / 2

// room returns a slice of length 0 with room for at least n octets, at the
// buffer's end. The caller appends and gives the result to put.
func (o *output) room(n int) []byte {
	if o.buf == nil {
		o.buf = o.pool.Get().(*buffer)
	}
	if len(o.buf)-o.n < n {
		o.flush()
	}
	return o.buf[o.n:o.n:len(o.buf)]
}

// free is how many octets fit without a flush.
func (o *output) free() int { return len(o.buf) - o.n }

// put takes what was appended to room's slice.
func (o *output) put(b []byte) {
	if len(b) > len(o.buf)-o.n || len(b) > 0 && &b[0] != &o.buf[o.n] { // it outgrew the room
		o.flush()
		o.write(b)
		return
	}
	o.n += len(b)
}

// drop takes back everything put since mark.
func (o *output) drop(mark int) { o.n = mark }

// flush writes what is buffered; the buffer stays.
func (o *output) flush() {
	if o.n > 0 {
		n := o.n
		o.n = 0
		o.write(o.buf[:n])
	}
}

func (o *output) write(b []byte) {
	if o.err != nil {
		return
	}
	if now := time.Now(); !now.Before(o.renew) {
		if o.err = o.conn.SetWriteDeadline(now.Add(o.timeout + deadlineStep)); o.err != nil {
			return
		}
		o.renew = now.Add(deadlineStep)
	}
	var n int
	n, o.err = o.conn.Write(b)
	o.octets += int64(n)
	o.writes++
}

// release writes what is buffered and gives the buffer back.
func (o *output) release() {
	o.flush()
	if o.buf != nil {
		o.pool.Put(o.buf)
		o.buf = nil
	}
}
