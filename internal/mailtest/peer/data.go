package peer

import (
	"io"
	"strconv"

	"poczta.example/poczta/internal/smtp"
)

// data answers DATA and takes the message.
func (s *session) data() bool {
	usual := "354 go on"
	switch {
	case s.tx == nil:
		usual = "503 5.5.1 MAIL first"
	case len(s.tx.rcpts) == 0:
		usual = "554 5.5.1 no valid recipients"
	}
	begin := usual[0] == '3'
	if f := s.rule(Data, ""); f != nil {
		// A rule may say 354 where there is no recipient: the data are read all the same.
		begin = f.Usual && begin || len(f.Lines) > 0 && f.Lines[0][0] == '3'
		if !s.act(f, usual) {
			return false
		}
	} else if !s.say(usual) {
		return false
	}
	if !begin {
		return true
	}
	if s.w.Flush() != nil {
		return false
	}
	message, refused, ok := s.readData()
	if !ok {
		return false
	}
	if refused { // which was the answer
		s.tx = nil
		return true
	}
	return s.final(message, false)
}

// readData reads up to the final dot; refused says that a rule has refused in the middle.
func (s *session) readData() (message []byte, refused, ok bool) {
	var d smtp.Decoder
	out := make([]byte, 4096)
	slow, fault := false, s.rule(Body, "")
	for done := false; !done; {
		if fault != nil && d.Facts.Octets >= fault.After {
			refused = refused || fault.refuses()
			if !s.bodyFault(fault, &slow) {
				return nil, false, false
			}
		}
		in, err := s.peek(slow, fault, d.Facts.Octets)
		if err != nil {
			return nil, false, false
		}
		if slow && !s.wait(fault.Read) {
			return nil, false, false
		}
		var n, taken int
		n, taken, done = d.Decode(out, in)
		_, _ = s.r.Discard(taken)
		message = append(message, out[:n]...)
	}
	return message, refused, true
}

// bodyFault does the fault in the middle of the data, once; false ends the connection.
func (s *session) bodyFault(f *Fault, slow *bool) bool {
	if f.Read > 0 {
		*slow = true
		return true
	}
	if *slow {
		return true
	}
	once := *f
	f.After = 1 << 62
	return s.act(&once, "") && s.w.Flush() == nil
}

// peek waits for octets, behind all replies so far, and returns those that wait: one at a
// time when slow, and no more than lead up to a fault that is still to come.
func (s *session) peek(slow bool, f *Fault, octets int64) ([]byte, error) {
	if s.r.Buffered() == 0 && s.w.Flush() != nil {
		return nil, io.ErrClosedPipe
	}
	if _, err := s.r.Peek(1); err != nil {
		return nil, err
	}
	n := s.r.Buffered()
	switch {
	case slow:
		n = 1
	case f != nil && f.After > octets:
		n = int(min(int64(n), f.After-octets))
	}
	return s.r.Peek(n)
}

// bdat takes a chunk.
func (s *session) bdat(arg string) bool {
	size, last, err := smtp.ParseBDAT(arg)
	if err != nil {
		return false
	}
	f := s.rule(Body, "")
	chunk := make([]byte, 0, min(size, 1<<20))
	for int64(len(chunk)) < size {
		slow := f != nil && f.Read > 0 && int64(len(chunk)) >= f.After
		if f != nil && !slow && int64(len(chunk)) >= f.After {
			if refused := f.refuses(); !s.act(f, "") || s.w.Flush() != nil || refused {
				return refused && !f.Close && s.skip(size-int64(len(chunk)))
			}
			f = nil
		}
		in, err := s.peek(slow, f, int64(len(chunk)))
		if err != nil || slow && !s.wait(f.Read) {
			return false
		}
		in = in[:min(int64(len(in)), size-int64(len(chunk)))]
		chunk = append(chunk, in...)
		_, _ = s.r.Discard(len(in))
	}
	switch {
	case s.tx == nil || len(s.tx.rcpts) == 0:
		return s.say("503 5.5.1 MAIL and RCPT first")
	case s.tx.broken:
		return s.say("503 5.5.1 RSET first")
	}
	s.tx.chunked = true
	s.tx.chunks = append(s.tx.chunks, chunk...)
	if !last {
		yes, ok := s.decide(Final, arg, "250 2.0.0 chunk taken")
		s.tx.broken = !yes
		return ok
	}
	return s.final(s.tx.chunks, true)
}

// skip reads the rest of a chunk that was refused in its middle; further chunks need RSET.
func (s *session) skip(n int64) bool {
	if s.tx != nil {
		s.tx.broken = true
	}
	_, err := io.CopyN(io.Discard, s.r, n)
	return err == nil
}

// final answers a whole message, and records it unless it is refused.
func (s *session) final(data []byte, chunked bool) bool {
	tx := s.tx
	if tx == nil {
		tx = &transaction{}
	}
	m := Message{Conn: s.n, Helo: s.helo, TLS: s.tls != nil, Login: s.login, From: tx.from, Params: tx.params, Chunked: chunked,
		Size: int64(len(data)), Data: data}
	s.tx = nil
	if s.p.cfg.LMTP {
		return s.finalEach(tx, m)
	}
	f := s.rule(Final, "")
	m.Rcpts, m.Claimed = tx.rcpts, f.positive()
	if !f.refuses() {
		s.p.record(m)
	} else if chunked {
		tx.broken = true
		s.tx = tx
	}
	if f == nil {
		return s.say("250 2.0.0 taken as " + strconv.Itoa(s.mail))
	}
	return s.act(f, "250 2.0.0 taken as "+strconv.Itoa(s.mail))
}

// finalEach answers for each recipient (RFC 2033 §4.2).
func (s *session) finalEach(tx *transaction, m Message) bool {
	m.Claimed = true
	var faults []*Fault
	for i, r := range tx.rcpts {
		f := s.p.rule(moment{stage: Final, conn: s.n, mail: s.mail, rcpt: i + 1, arg: r.Path})
		faults = append(faults, f)
		if !f.refuses() {
			m.Rcpts = append(m.Rcpts, r)
		}
		m.Claimed = m.Claimed && f.positive()
	}
	if len(m.Rcpts) > 0 {
		s.p.record(m)
	}
	for _, f := range faults {
		switch {
		case f == nil:
			if !s.say("250 2.0.0 taken") {
				return false
			}
		case !s.act(f, "250 2.0.0 taken"):
			return false
		}
	}
	return true
}
