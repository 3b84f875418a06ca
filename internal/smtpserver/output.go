package smtpserver

import (
	"net"
	"sync"
	"time"

	"poczta.example/poczta/internal/smtp"
)

// outputOctets is how many octets of replies are gathered before they are written
// although the peer has sent more commands.
const outputOctets = 4 << 10

var outputPool = sync.Pool{New: func() any { b := make([]byte, 0, outputOctets); return &b }}

// output gathers replies, so that those of pipelined commands leave together
// (RFC 2920 §3.2). It holds a buffer only while something waits in it.
type output struct {
	conn    net.Conn
	timeout time.Duration
	buf     *[]byte
	until   time.Time // the write deadline that is set
	err     error     // the first failed write
}

// reset makes out write to conn; nothing may wait in it.
func (out *output) reset(conn net.Conn) {
	out.conn = conn
	out.until = time.Time{}
}

// reply adds a reply; plain leaves out the enhanced status code.
func (out *output) reply(r smtp.Reply, plain bool) {
	if out.buf == nil {
		out.buf = outputPool.Get().(*[]byte)
	}
	if plain {
		*out.buf = r.AppendPlain(*out.buf)
	} else {
		*out.buf = r.AppendTo(*out.buf)
	}
	if len(*out.buf) > outputOctets-smtp.MaxReplyLine {
		out.err = out.flush()
	}
}

// flush writes what waits, and gives the buffer back.
func (out *output) flush() error {
	if out.buf == nil || out.err != nil {
		out.drop()
		return out.err
	}
	if now := time.Now(); out.until.Sub(now) < out.timeout/2 { // renewing it each time costs more than the write's own bookkeeping
		out.until = now.Add(out.timeout)
		if out.err = out.conn.SetWriteDeadline(out.until); out.err != nil {
			out.drop()
			return out.err
		}
	}
	_, out.err = out.conn.Write(*out.buf)
	out.drop()
	return out.err
}

// drop gives the buffer back, unless it has grown beyond what should be kept.
func (out *output) drop() {
	if out.buf == nil {
		return
	}
	if cap(*out.buf) <= 2*outputOctets {
		*out.buf = (*out.buf)[:0]
		outputPool.Put(out.buf)
	}
	out.buf = nil
}

// challenge adds a 334 reply of an AUTH exchange, whose text is base64 and may be
// longer than a reply line (RFC 4954 §4).
func (out *output) challenge(text string) {
	if out.buf == nil {
		out.buf = outputPool.Get().(*[]byte)
	}
	*out.buf = append(*out.buf, "334 "...)
	*out.buf = append(*out.buf, text...)
	*out.buf = append(*out.buf, '\r', '\n')
}
