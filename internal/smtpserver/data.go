package smtpserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"poczta.example/poczta/internal/smtp"
)

// drainFactor and drainExtra bound how much of a refused message is read to its end
// before the connection is closed instead: the limit of a message times the factor,
// and the extra octets.
const (
	drainFactor = 2
	drainExtra  = 1 << 20
)

var errAborted = errors.New("client ended the transaction before the last chunk")

// mailData is the reader of one message: of what follows DATA, un-stuffed, or of
// the chunks of a BDAT sequence. It judges as it reads; after a refusal it gives
// out nothing more.
type mailData struct {
	s     *session
	begun time.Time
	dec   smtp.Decoder
	wire  int64 // octets taken off the connection

	chunk int64 // octets of the chunk at hand, with Chunked
	left  int64 // of them to come
	last  bool  // this is the last chunk
	tail  string

	ended   bool        // the end of the data was read
	refusal *smtp.Error // the data can't be taken
	lost    error       // the connection or the transaction ended before the data
}

// Read implements io.Reader. The error is io.EOF, an *smtp.Error for data that
// can't be taken, or says that the client is gone.
func (d *mailData) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case d.lost != nil:
			return 0, d.lost
		case d.refusal != nil:
			return 0, d.refusal
		case d.tail != "":
			n := copy(p, d.tail)
			d.tail = d.tail[n:]
			return n, nil
		case d.ended:
			return 0, io.EOF
		}
		n, err := d.pull(p)
		if err != nil {
			d.lost = err
			if errors.Is(err, io.EOF) { // to a Service io.EOF would be the message's end
				d.lost = io.ErrUnexpectedEOF
			}
			continue
		}
		if n > 0 && d.refusal == nil {
			return n, nil
		}
	}
}

// pull decodes what the peer sends next into p.
func (d *mailData) pull(p []byte) (int, error) {
	if d.dec.Chunked && d.left == 0 {
		if !d.last {
			return 0, d.nextChunk()
		}
		d.tail = d.dec.Finish()
		d.ended = true
		d.judge()
		return 0, nil
	}
	src, err := d.wait()
	if err != nil {
		return 0, err
	}
	n, m, done := d.dec.Decode(p, src)
	d.take(m)
	d.ended = done
	d.judge()
	if done {
		d.s.in.release() // what follows may take long: the message becoming durable
	}
	return n, nil
}

// wait returns octets of the mail data, as they come over the wire.
func (d *mailData) wait() ([]byte, error) {
	in := &d.s.in
	if in.buffered() == 0 {
		if err := d.arm(); err != nil {
			return nil, err
		}
		if err := in.fill(true); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("read mail data: %w", err)
		}
	}
	src := in.bytes()
	if d.dec.Chunked && int64(len(src)) > d.left {
		src = src[:d.left]
	}
	return src, nil
}

// take drops n octets that were used.
func (d *mailData) take(n int) {
	d.s.in.discard(n)
	d.wire += int64(n)
	if d.dec.Chunked {
		d.left -= int64(n)
	}
}

// arm sets the deadline for the next octets: Limits.Data, and after DataGrace what
// Limits.Rate demands of the whole.
func (d *mailData) arm() error {
	spare := d.spare()
	if spare <= 0 {
		return d.tooSlow()
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return d.s.setReadDeadline(min(d.s.srv.cfg.Limits.Data, spare))
}

// spare is the time that is left for what came so far.
func (d *mailData) spare() time.Duration {
	l := &d.s.srv.cfg.Limits
	return l.DataGrace + time.Duration(d.wire/int64(l.Rate))*time.Second - time.Since(d.begun)
}

func (d *mailData) tooSlow() error {
	return fmt.Errorf("read mail data: slower than %d octets a second: %w", d.s.srv.cfg.Limits.Rate, os.ErrDeadlineExceeded)
}

// judge looks at what was noticed so far. The first reason for a refusal stays.
func (d *mailData) judge() {
	if d.refusal != nil {
		return
	}
	f, strict := &d.dec.Facts, &d.s.srv.cfg.Strict
	switch d.refusal = f.Refusal(); {
	case d.refusal != nil:
	case f.Octets > d.s.srv.cfg.Limits.Message:
		d.refusal = smtp.Refuse(552, 3, 4, "Message is larger than this server takes")
	case strict.NUL && f.NUL:
		d.refusal = smtp.Refuse(550, 6, 0, "Message has a NUL octet (RFC 5321 section 2.3.7)")
	case strict.LongLines && f.LongestLine > smtp.MaxTextLine:
		d.refusal = smtp.Refuse(550, 6, 0, "Message has a line of more than 998 octets (RFC 5321 section 4.5.3.1.6)")
	case strict.Undeclared8Bit && f.EightBit && !d.s.tx.eightBit:
		d.refusal = smtp.Refuse(550, 6, 3, "Message has 8-bit data that BODY=8BITMIME did not declare (RFC 6152)")
	}
}

// drain reads what the Service left, up to the final dot. The error ends the session.
func (d *mailData) drain() error {
	if d.ended || d.lost != nil {
		return d.lost
	}
	buf := inputPool.Get().(*[inputOctets]byte)
	defer inputPool.Put(buf)
	for most := d.wire + d.s.drainLimit(); d.wire < most; {
		src, err := d.wait()
		if err != nil {
			return err
		}
		_, n, done := d.dec.Decode(buf[:], src)
		d.take(n)
		if done {
			d.ended = true
			return nil
		}
	}
	return d.s.tooMuch()
}

// drainLimit is how many octets of refused data are read.
func (s *session) drainLimit() int64 { return drainFactor*s.srv.cfg.Limits.Message + drainExtra }

// tooMuch gives up a peer that goes on sending a message which is refused anyway.
func (s *session) tooMuch() error {
	s.abort()
	return s.hangUp(552, 3, 4, "Message is far larger than this server takes, closing the connection")
}
