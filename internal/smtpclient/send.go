package smtpclient

import (
	"context"
	"sync"
	"time"

	"poczta.example/poczta/internal/smtp"
)

const (
	// maxFlight is how many octets of commands are sent before their replies are read. It
	// is less than any server's window, so that neither side waits for the other's reading
	// (RFC 2920 §3.1).
	maxFlight = 8 << 10
	// blockOctets is the size of one block of mail data.
	blockOctets = 32 << 10
	// maxInline is the longest message that goes out by BDAT together with its commands.
	maxInline = blockOctets - maxFlight - 4<<10
	// chunkOctets is the size of a BDAT chunk of a longer message.
	chunkOctets = 1 << 20
)

// blockPool holds buffers for flights and blocks.
var blockPool = sync.Pool{New: func() any { b := make([]byte, 0, blockOctets); return &b }}

// transaction is one Send.
type transaction struct {
	s   *Session
	m   *Message
	out []RecipientOutcome
	buf []byte // what is to be sent; pooled

	ask      int // recipients that are asked for: those beyond are settled
	accepted int // recipients whose RCPT was accepted
	mailOK   bool
	go354    bool // DATA was answered with 354
	chunked  bool // BDAT
	inline   bool // BDAT together with the commands
}

// Send runs one mail transaction (RFC 5321 §3.3). With PIPELINING its commands leave in as
// few writes as possible, and a small message joins them where CHUNKING is offered too.
//
// The Outcome has an entry for each recipient also when there is an error: who was
// refused before the connection ended, is refused. The error is an *Unsupported or an
// *Error; see the package comment. A mail transaction that ends with replies to all
// leaves no error, and a session that can take the next, unless Usable says otherwise.
// When ctx ends, the connection is closed.
//
// In a session that waited, the server may have hung up meanwhile, or said too much. What
// of it has arrived is noticed before anything is sent, on sockets of UNIX. Where a network
// between has lost the connection nothing arrives, and a message that goes out in one
// flight is then Lost, though it was hardly delivered: ask Reset first after a long wait.
// What can't be noticed is a server that answers one command twice in such a flight, as
// no 354 stands between the replies; none is known that does.
func (s *Session) Send(ctx context.Context, m *Message) (Outcome, error) {
	if err := s.check(m); err != nil {
		return Outcome{Recipients: make([]RecipientOutcome, len(m.Recipients))}, err
	}
	out := make([]RecipientOutcome, len(m.Recipients))
	if s.limits(m, out) {
		return Outcome{out}, nil
	}
	end, err := s.begin(ctx, StageMail)
	if err != nil {
		return Outcome{out}, err
	}
	pooled := blockPool.Get().(*[]byte)
	t := &transaction{s: s, m: m, out: out, buf: (*pooled)[:0], ask: len(out)}
	if n := s.ext.RcptMax; n > 0 {
		t.ask = min(t.ask, n)
	}
	s.limit = time.Now().Add(s.cfg.Timeouts.Transaction)
	err = t.run()
	s.limit = time.Time{}
	if cap(t.buf) <= 2*blockOctets {
		*pooled = t.buf[:0]
		blockPool.Put(pooled)
	}
	return Outcome{out}, end(err)
}

// run sends the commands and the data.
func (t *transaction) run() error {
	ext := &t.s.ext
	t.chunked = ext.Chunking && !t.s.cfg.LMTP && t.m.Size > 0
	t.inline = t.chunked && ext.Pipelining && t.m.Size <= maxInline
	if err := t.s.quiet(StageMail); err != nil {
		return err
	}
	if t.inline {
		return t.sendInline()
	}
	if err := t.commands(t.withData()); err != nil {
		return err
	}
	switch {
	case t.go354 && t.accepted == 0:
		return t.loneDot()
	case t.accepted == 0 || !t.s.Usable():
		return nil
	case t.chunked:
		return t.sendChunks()
	}
	if !t.go354 && !t.withData() {
		if err := t.commandAt(stepData); err != nil {
			return err
		}
	}
	if !t.go354 {
		return nil
	}
	return t.sendData()
}

// withData reports whether DATA joins the commands. Not in LMTP: were all recipients
// refused and DATA answered with 354, nobody knows whether a reply follows the dot.
func (t *transaction) withData() bool { return t.s.ext.Pipelining && !t.chunked && !t.s.cfg.LMTP }

// step is one command of a transaction: a recipient's index, or one of these.
type step int

const (
	stepReset step = -2
	stepMail  step = -1
	stepData  step = 1 << 30
)

// commands sends RSET where needed, MAIL, all RCPT and perhaps DATA, and reads the
// replies: in flights with PIPELINING (RFC 2920 §3.1), else one by one.
func (t *transaction) commands(data bool) error {
	steps := make([]step, 0, 8)
	flush := func() error {
		err := t.flight(steps)
		steps = steps[:0]
		return err
	}
	next := stepMail
	if t.s.reset {
		next = stepReset
	}
	for ; int(next) < t.ask; next++ {
		t.append(next)
		steps = append(steps, next)
		if t.s.ext.Pipelining && len(t.buf) < maxFlight {
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		if next >= stepMail && !t.mailOK {
			return nil
		}
	}
	if data && (t.accepted > 0 || len(steps) > 0) {
		t.append(stepData)
		steps = append(steps, stepData)
	}
	if len(steps) == 0 {
		return nil
	}
	return flush()
}

// commandAt sends one command and reads its reply.
func (t *transaction) commandAt(at step) error {
	t.append(at)
	return t.flight([]step{at})
}

// append appends a command to what is to be sent.
func (t *transaction) append(at step) {
	switch at {
	case stepReset:
		t.buf = append(t.buf, "RSET\r\n"...)
	case stepMail:
		t.buf = appendMail(t.buf, t.m, &t.s.ext)
	case stepData:
		t.buf = append(t.buf, "DATA\r\n"...)
	default:
		t.buf = appendRcpt(t.buf, &t.m.Recipients[at], &t.s.ext, t.m.SMTPUTF8)
	}
}

// flight sends what is to be sent and reads the reply of each step.
func (t *transaction) flight(steps []step) error {
	t.s.cfg.Dialogue.sent(t.buf)
	if err := t.write(steps); err != nil {
		return err
	}
	return t.replies(steps)
}

func (t *transaction) write(steps []step) error {
	stage := steps[0].stage()
	t.s.arm(stage)
	err := t.s.write(stage, t.buf)
	t.buf = t.buf[:0]
	if e, ok := err.(*Error); ok && steps[0] != stepReset && e.Reply != nil && e.Reply.Code != 421 { //nolint:errorlint // made by write itself
		_ = t.take(steps[0], *e.Reply) // it is the first command's reply; of the others it says nothing
		e.Reply = nil
	}
	return err
}

func (t *transaction) replies(steps []step) error {
	for _, at := range steps {
		r, err := t.s.reply(at.stage())
		if err == nil {
			err = t.take(at, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (at step) stage() Stage {
	switch at {
	case stepReset:
		return StageReset
	case stepMail:
		return StageMail
	case stepData:
		return StageData
	}
	return StageRcpt
}

// take judges a step's reply.
func (t *transaction) take(at step, r smtp.Reply) error {
	class := r.Code / 100
	switch {
	case at == stepReset:
		return t.s.tookReset(r)
	case at == stepData && class == 3:
		t.go354 = true
		if !t.mailOK { // a dot might send an empty message to somebody
			t.s.fail()
		}
		return nil
	case at == stepData && class == 2, at != stepData && class == 3:
		return t.s.protocol(at.stage(), r)
	case at == stepData:
		settle(t.out, StageData, r, false)
	case at == stepMail && class == 2:
		t.mailOK, t.s.reset = true, true
		t.s.mails++
	case at == stepMail:
		settle(t.out[:t.ask], StageMail, r, false)
	case !t.mailOK: // MAIL's reply has decided
	case class == 2:
		t.accepted++
	default:
		t.out[at] = RecipientOutcome{Reply: r, Stage: StageRcpt}
	}
	return nil
}

// loneDot ends a transaction in which DATA was accepted but no recipient: the server
// waits for the dot (RFC 2920 §3.1). Its answer decides nothing.
func (t *transaction) loneDot() error {
	if !t.s.Usable() {
		return nil
	}
	t.s.cfg.Dialogue.sent([]byte(".\r\n"))
	t.s.arm(StageFinal)
	if err := t.s.write(StageFinal, []byte(".\r\n")); err != nil {
		return err
	}
	_, err := t.s.reply(StageFinal)
	if err == nil {
		t.s.reset = false
	}
	return err
}

// finish reads the replies to the whole message. Until they are there it may or may not
// have been delivered.
func (t *transaction) finish() error {
	t.s.limit = time.Time{}
	t.s.arm(StageFinal)
	if t.s.cfg.LMTP {
		return t.finishEach()
	}
	r, err := t.s.reply(StageFinal)
	if err != nil {
		return lost(err)
	}
	if r.Code/100 == 3 {
		return lost(t.s.protocol(StageFinal, r))
	}
	t.s.reset = t.chunked && r.Code/100 != 2 // RFC 3030 §2: a failed BDAT leaves the transaction to RSET
	for i := range t.out {
		if !t.out[i].Settled() {
			t.out[i] = RecipientOutcome{Reply: r, Stage: StageFinal, Accepted: r.Code/100 == 2}
		}
	}
	return nil
}

// finishEach reads a reply for each accepted recipient, in their order (RFC 2033 §4.2).
func (t *transaction) finishEach() error {
	for i := range t.out {
		if t.out[i].Settled() {
			continue
		}
		r, err := t.s.reply(StageFinal)
		if err == nil && r.Code/100 == 3 {
			err = t.s.protocol(StageFinal, r)
		}
		if err != nil {
			return t.lostEach(i, r, lost(err))
		}
		t.out[i] = RecipientOutcome{Reply: r, Stage: StageFinal, Accepted: r.Code/100 == 2}
	}
	t.s.reset = false
	return nil
}

// lostEach judges the end of the replies at recipient i: a 421 is that recipient's
// answer, while those behind it may have the message.
func (t *transaction) lostEach(i int, r smtp.Reply, err error) error {
	if r.Code != 421 {
		return err
	}
	t.out[i] = RecipientOutcome{Reply: r, Stage: StageFinal}
	e := &Error{Stage: StageFinal, Reply: &r}
	for _, o := range t.out[i:] {
		e.Lost = e.Lost || !o.Settled()
	}
	return e
}

// lost marks the error of a reply that did not come, or that does not say no.
func lost(err error) error {
	if e, ok := err.(*Error); ok && (e.Reply == nil || e.Reply.Code < 400) { //nolint:errorlint // made by reply itself
		e.Lost = true
	}
	return err
}
