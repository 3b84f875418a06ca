package smtpclient

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"poczta.example/poczta/internal/smtp"
)

// sendChunks sends a message that is too long for one flight by BDAT (RFC 3030 §2). With
// PIPELINING a chunk is on its way while the reply to the one before is awaited; the last
// one waits for all of them, so that no server can complete a message with a hole.
func (t *transaction) sendChunks() error {
	src, err := t.m.Open()
	if err != nil {
		return t.local(StageData, err)
	}
	defer src.Close()
	f := feed{src: src, want: t.m.Size, enc: smtp.Encoder{Chunked: true}}
	began, waiting := time.Now(), 0
	for left := t.m.Size; ; {
		n := min(left, chunkOctets)
		last := n == left
		for waiting > 0 && (last || !t.s.ext.Pipelining || waiting > 1) {
			over, err := t.chunkReply()
			waiting--
			if over && err == nil {
				err = t.drain(waiting)
			}
			if over || err != nil {
				return err
			}
		}
		if waiting == 0 {
			if err := t.s.quiet(StageBody); err != nil {
				return err
			}
		}
		if err := t.chunk(&f, n, last, began); err != nil {
			return err
		}
		if last {
			return t.finish()
		}
		waiting++
		left -= n
	}
}

// chunk sends one BDAT command with n octets.
func (t *transaction) chunk(f *feed, n int64, last bool, began time.Time) error {
	t.buf = strconv.AppendInt(append(t.buf[:0], "BDAT "...), n, 10)
	if last {
		t.buf = append(t.buf, " LAST"...)
	}
	t.buf = append(t.buf, crlf...)
	t.s.cfg.Dialogue.sent(t.buf)
	t.s.cfg.Dialogue.hidden("mail data", n)
	for n > 0 {
		before := f.enc.Octets()
		var err error
		t.buf, err = f.fill(t.buf, n)
		n -= f.enc.Octets() - before
		if err == nil && (f.eof && n > 0 || last && n == 0) {
			err = t.chunksEnd(f)
		}
		if err != nil {
			return t.local(StageBody, err)
		}
		t.armBlock(began, f.enc.Octets())
		if err := t.s.write(StageBody, t.buf); err != nil {
			return t.cut(err)
		}
		t.buf = t.buf[:0]
	}
	return nil
}

// chunksEnd makes sure, before the last octets leave, that the message is whole and may
// be completed.
func (t *transaction) chunksEnd(f *feed) error {
	var more [1]byte
	for empty := 0; !f.eof; empty++ {
		n, err := f.src.Read(more[:])
		switch {
		case n > 0:
			return fmt.Errorf("%w: more than %d octets", ErrLength, f.want)
		case err == io.EOF: //nolint:errorlint // io.Reader returns it bare
			f.eof = true
		case err != nil: // a reader may find only at the end that the octets were bad
			return fmt.Errorf("read the message: %w", err)
		case empty > maxEmptyReads:
			return io.ErrNoProgress
		}
	}
	if _, err := f.end(nil); err != nil {
		return err
	}
	return t.commit()
}

// chunkReply reads the reply to a chunk that is not the last; over says that it was
// refused, which is the server's answer to the message.
func (t *transaction) chunkReply() (over bool, err error) {
	t.s.limit = time.Time{}
	r, err := t.s.reply(StageBody)
	switch {
	case err != nil:
		return true, err
	case r.Code/100 == 2:
		return false, nil
	case r.Code/100 == 3:
		return true, t.s.protocol(StageBody, r)
	}
	settle(t.out, StageBody, r, false)
	return true, nil
}

// drain reads the replies to chunks that were sent before the refusal of one was known;
// the server refuses them too (RFC 3030 §2), whatever it says.
func (t *transaction) drain(replies int) error {
	for range replies {
		if _, err := t.s.reply(StageBody); err != nil {
			return err
		}
	}
	return nil
}
