package smtpclient

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"poczta.example/poczta/internal/smtp"
)

// tailOctets is the room a block keeps for what closes the data.
const tailOctets = 8

// maxEmptyReads is how many reads without octets and error a message may give in a row.
const maxEmptyReads = 100

// local ends the session over a failure of our own while the server waits for data: the
// message can't be completed any more, and closing is how it is withdrawn.
func (t *transaction) local(stage Stage, err error) error {
	t.s.cfg.Dialogue.note("the message is withdrawn: " + err.Error())
	t.s.fail()
	return &Error{Stage: stage, Local: true, Err: err}
}

// feed reads a message into the blocks that are sent.
type feed struct {
	src  io.Reader
	enc  smtp.Encoder
	want int64  // octets that must come; 0 for unknown
	copy []byte // holds octets among which a dot must be added
	eof  bool
}

// fill appends encoded octets to buf until it is full or the message ends, taking at most
// most octets of the message.
func (f *feed) fill(buf []byte, most int64) ([]byte, error) {
	empty := 0
	for !f.eof && most > 0 && len(buf) < blockOctets-tailOctets {
		room := buf[len(buf) : blockOctets-tailOctets]
		room = room[:min(int64(len(room)), most)]
		n, err := f.src.Read(room)
		if n > 0 {
			buf = f.take(buf, room[:n])
			most -= int64(n)
			empty = 0
		} else if empty++; err == nil && empty > maxEmptyReads {
			return buf, io.ErrNoProgress
		}
		switch {
		case err == io.EOF: //nolint:errorlint // io.Reader returns it bare
			f.eof = true
		case err != nil:
			return buf, fmt.Errorf("read the message: %w", err)
		}
	}
	if f.want > 0 && f.enc.Octets() > f.want {
		return buf, fmt.Errorf("%w: more than %d octets", ErrLength, f.want)
	}
	return buf, nil
}

// take encodes octets that lie behind buf already.
func (f *feed) take(buf, p []byte) []byte {
	before := f.enc
	if !f.enc.Scan(p) {
		return buf[:len(buf)+len(p)]
	}
	f.enc = before
	f.copy = append(f.copy[:0], p...)
	return f.enc.Append(buf, f.copy)
}

// end appends what closes the data, after making sure that they are fit to be completed.
func (f *feed) end(buf []byte) ([]byte, error) {
	switch {
	case f.enc.Bare():
		return buf, ErrBareLineEnd
	case f.want > 0 && f.enc.Octets() != f.want:
		return buf, fmt.Errorf("%w: %d octets instead of %d", ErrLength, f.enc.Octets(), f.want)
	}
	return f.enc.End(buf), nil
}

// commit asks the caller whether the message may be completed.
func (t *transaction) commit() error {
	if t.m.Commit == nil {
		return nil
	}
	return t.m.Commit()
}

// armBlock gives a block its time: Timeouts.Block, but no more than the least speed
// allows for all octets so far. began is when the first was sent.
func (t *transaction) armBlock(began time.Time, octets int64) {
	times := &t.s.cfg.Timeouts
	t.s.limit = began.Add(times.Block + time.Duration(float64(octets)/float64(times.MinRate)*float64(time.Second)))
	t.s.arm(StageBody)
}

// sendData sends the message behind 354, and reads what the server says to it.
func (t *transaction) sendData() error {
	if err := t.s.quiet(StageData); err != nil { // a reply too many would be taken for that to the message
		return err
	}
	src, err := t.m.Open()
	if err != nil {
		return t.local(StageData, err)
	}
	defer src.Close()
	f := feed{src: src, want: t.m.Size}
	began, sent := time.Now(), int64(0)
	for {
		if t.buf, err = f.fill(t.buf[:0], 1<<62); err == nil && f.eof {
			t.buf, err = f.end(t.buf)
		}
		if err == nil && f.eof {
			err = t.commit()
		}
		if err != nil {
			return t.local(StageBody, err)
		}
		sent += int64(len(t.buf))
		t.armBlock(began, sent)
		if f.eof {
			t.s.cfg.Dialogue.hidden("mail data", sent)
		}
		if err := t.s.write(StageBody, t.buf); err != nil {
			return t.cut(err)
		}
		if f.eof {
			return t.finish()
		}
	}
}

// cut judges a connection that failed in the middle of the data: when the server said why,
// that is its reply to the message, unless it is on its way out (421).
func (t *transaction) cut(err error) error {
	e, ok := err.(*Error) //nolint:errorlint // made by write itself
	if !ok || e.Reply == nil || e.Reply.Code == 421 || t.s.cfg.LMTP {
		return err
	}
	settle(t.out, StageBody, *e.Reply, false)
	return nil
}

// sendInline sends the commands and the message in one flight: MAIL, RCPT and BDAT LAST
// (RFC 3030 §4.2). Commands that are too many for it go in flights before.
func (t *transaction) sendInline() error {
	src, err := t.m.Open()
	if err != nil {
		return &Error{Stage: StageMail, Local: true, Err: err}
	}
	defer src.Close()
	pooled := blockPool.Get().(*[]byte)
	defer blockPool.Put(pooled)
	f := feed{src: src, want: t.m.Size, enc: smtp.Encoder{Chunked: true}}
	body, err := f.fill((*pooled)[:0], t.m.Size+1)
	for err == nil && !f.eof && f.enc.Octets() <= t.m.Size {
		body, err = f.fill(body, t.m.Size+1-f.enc.Octets())
	}
	if err == nil {
		body, err = f.end(body)
	}
	if err != nil {
		return &Error{Stage: StageMail, Local: true, Err: err}
	}
	return t.flightWith(body)
}

// flightWith sends the commands and, in the last flight, the message.
func (t *transaction) flightWith(body []byte) error {
	steps := make([]step, 0, 8)
	at := stepMail
	if t.s.reset {
		at = stepReset
	}
	for ; int(at) < t.ask; at++ {
		if len(t.buf) >= maxFlight {
			if err := t.flight(steps); err != nil || !t.mailOK {
				return err
			}
			steps = steps[:0]
		}
		t.append(at)
		steps = append(steps, at)
	}
	t.buf = append(strconv.AppendInt(append(t.buf, "BDAT "...), int64(len(body)), 10), " LAST\r\n"...)
	t.s.cfg.Dialogue.sent(t.buf)
	t.s.cfg.Dialogue.hidden("mail data", int64(len(body)))
	t.buf = append(t.buf, body...)
	if err := t.commit(); err != nil {
		return t.local(StageMail, err)
	}
	if err := t.write(steps); err != nil {
		return err
	}
	if err := t.replies(steps); err != nil {
		if t.accepted > 0 || t.undecided(steps) {
			return lost(err)
		}
		return err
	}
	return t.inlineEnd()
}

// undecided reports whether recipients of the last flight may have been accepted, so that
// the message in the same flight may have reached them.
func (t *transaction) undecided(steps []step) bool {
	for _, at := range steps {
		if at >= 0 && !t.out[at].Settled() {
			return true
		}
	}
	return false
}

// inlineEnd reads BDAT's reply; with no recipient accepted it only has to be out of the way.
func (t *transaction) inlineEnd() error {
	if t.accepted > 0 {
		return t.finish()
	}
	_, err := t.s.reply(StageFinal)
	t.s.reset = true
	return err
}
