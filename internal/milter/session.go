package milter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/smtp"
)

// stage is a part of the dialogue.
type stage uint8

const (
	stageConnect stage = iota
	stageHello
	stageMail
	stageRcpt
	stageData
	stageHeader
	stageEOH
	stageBody
	stageEnd
	numStages
)

var stageNames = [numStages]string{"connect", "hello", "mail", "recipient", "data", "header", "end of header", "body", "end of message"}

// stages says for each what a milter may leave out or take in silence. The macro stage counts
// only where told is set.
var stages = [numStages]struct {
	cmd     byte
	no      step
	quiet   step
	told    bool
	macros  macroStage
	minimum int // protocol version
}{
	stageConnect: {cmd: cmdConnect, no: noConnect, quiet: quietConnect, told: true, macros: macrosConnect},
	stageHello:   {cmd: cmdHello, no: noHello, quiet: quietHello, told: true, macros: macrosHello},
	stageMail:    {cmd: cmdMail, no: noMail, quiet: quietMail, told: true, macros: macrosMail},
	stageRcpt:    {cmd: cmdRcpt, no: noRcpt, quiet: quietRcpt, told: true, macros: macrosRcpt},
	stageData:    {cmd: cmdData, no: noData, quiet: quietData, told: true, macros: macrosData, minimum: 4},
	stageHeader:  {cmd: cmdHeader, no: noHeaders, quiet: quietHeader},
	stageEOH:     {cmd: cmdEOH, no: noEOH, quiet: quietEOH, told: true, macros: macrosEOH},
	stageBody:    {cmd: cmdBody, no: noBody, quiet: quietBody},
	stageEnd:     {cmd: cmdEnd, told: true, macros: macrosEnd},
}

// maxProgress bounds the packets that say nothing but "wait".
const maxProgress = 1000

// session is one message on its way through a milter.
type session struct {
	c   *Client
	k   *conn
	m   Message
	ctx context.Context // of this one call of Filter

	macros   map[string]string
	buf      []byte
	progress int
	result   Result
	skip     bool // no more of the body, please
	whole    bool // the milter has heard all and said "continue"

	headerOctets int
	body         Spool
	bodyOctets   int64
	repair       *repairer
}

// run takes the message through the stages until the milter has decided.
func (s *session) run() (Result, error) {
	s.macros = s.c.macrosOf(s.m)
	for at, f := range [...]func() (bool, error){s.connect, s.hello, s.mail, s.rcpt, s.data, s.header, s.eoh, s.content} {
		done, err := f()
		if err != nil {
			return Result{}, s.at(stage(at), err)
		}
		if done {
			s.result.Stage = stageNames[at]
			return s.result, nil
		}
	}
	if err := s.end(); err != nil {
		return Result{}, s.at(stageEnd, err)
	}
	s.result.Stage = stageNames[stageEnd]
	return s.result, nil
}

func (s *session) at(st stage, err error) error { return fmt.Errorf("at %s: %w", stageNames[st], err) }

func (s *session) connect() (bool, error) { return s.simple(stageConnect, connectData(s.m)) }

func (s *session) hello() (bool, error) {
	if s.m.Origin.Helo == "" {
		return false, nil
	}
	return s.simple(stageHello, appendString(nil, s.m.Origin.Helo))
}

func (s *session) mail() (bool, error) {
	b := appendString(nil, s.m.Envelope.ReversePath.String())
	for _, p := range mailParams(s.m.Envelope) {
		b = appendString(b, p)
	}
	return s.simple(stageMail, b)
}

// rcpt asks about each recipient. One that is refused alone is noted; when all are, the message is.
func (s *session) rcpt() (bool, error) {
	var last Refused
	for i, r := range s.m.Envelope.Recipients {
		s.macros["{rcpt_addr}"] = strings.Trim(r.ForwardPath.String(), "<>")
		s.macros["{rcpt_host}"] = r.ForwardPath.Address().Domain().String()
		s.macros["{rcpt_mailer}"] = "smtp"
		if given := s.m.Macros["{rcpt_mailer}"]; given != "" {
			s.macros["{rcpt_mailer}"] = given
		}
		b := appendString(nil, r.ForwardPath.String())
		for _, p := range rcptParams(r) {
			b = appendString(b, p)
		}
		done, err := s.simple(stageRcpt, b)
		if err != nil {
			return false, err
		}
		if !done {
			continue
		}
		if s.result.Action != Reject && s.result.Action != TempFail {
			return true, nil
		}
		last = Refused{Index: i, Action: s.result.Action, Reply: s.result.Reply}
		s.result.Recipients = append(s.result.Recipients, last)
		s.result.Action, s.result.Reply = Accept, smtp.Reply{}
	}
	if n := len(s.result.Recipients); n > 0 && n == len(s.m.Envelope.Recipients) {
		s.result.Action, s.result.Reply = last.Action, last.Reply
		return true, nil
	}
	return false, nil
}

func (s *session) data() (bool, error) { return s.simple(stageData, nil) }

// header sends field after field. Lines that are no fields can't be said in this protocol and
// are left out. Folded values go with LF alone, as milters expect them.
func (s *session) header() (bool, error) {
	for f := range message.Fields(s.m.Header) {
		if f.Malformed() {
			continue
		}
		if err := s.ctx.Err(); err != nil {
			return false, err
		}
		value := bytes.TrimRight(f.Body(), "\r\n")
		if s.k.steps&leadSpace == 0 && len(value) > 0 && (value[0] == ' ' || value[0] == '\t') {
			value = value[1:]
		}
		b := appendString(nil, f.Name())
		b = appendString(b, string(bytes.ReplaceAll(value, []byte("\r\n"), []byte("\n"))))
		if done, err := s.simple(stageHeader, b); done || err != nil {
			return done, err
		}
	}
	return false, nil
}

func (s *session) eoh() (bool, error) { return s.simple(stageEOH, nil) }

// content sends the body in pieces until its end or until the milter has seen enough.
func (s *session) content() (bool, error) {
	if s.m.Body == nil || s.k.steps&noBody != 0 {
		return false, nil
	}
	chunk := make([]byte, min(int64(s.k.chunk), max(s.m.Size, 0)))
	for at := int64(0); at < s.m.Size && !s.skip; {
		n, err := s.m.Body.ReadAt(chunk[:min(int64(len(chunk)), s.m.Size-at)], at)
		if n == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return false, fmt.Errorf("reading the message: %w", err)
		}
		at += int64(n)
		if done, err := s.simple(stageBody, chunk[:n]); done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// simple is a stage that is a command and its reply. done means that the milter has decided.
func (s *session) simple(at stage, data []byte) (done bool, err error) {
	d := stages[at]
	if s.k.steps&d.no != 0 || s.k.version < d.minimum {
		return false, nil
	}
	s.k.deadline(s.ctx, time.Now().Add(s.c.cfg.Reply))
	s.say(at, data)
	if d.quiet != 0 && s.k.steps&d.quiet != 0 {
		return false, s.written()
	}
	cmd, reply, err := s.hear(s.c.cfg.Reply)
	if err != nil {
		return false, err
	}
	if cmd == rplSkip && at == stageBody {
		s.skip = true
		return false, nil
	}
	return s.decided(cmd, reply)
}

// say writes a command with its macros; what can't be written shows when the reply is read.
func (s *session) say(at stage, data []byte) {
	d := stages[at]
	if d.told {
		s.buf = s.k.appendMacros(s.buf[:0], d.macros, d.cmd, s.macros)
		if len(s.buf) > 1 {
			writePacket(s.k.w, cmdMacro, s.buf)
		}
	}
	writePacket(s.k.w, d.cmd, data)
}

// written reports an error of earlier writes, so that a message is not formed in vain.
func (s *session) written() error {
	if _, err := s.k.w.Write(nil); err != nil {
		return ioError(err)
	}
	return nil
}

// hear sends what was said and reads a reply that is not "wait".
func (s *session) hear(limit time.Duration) (byte, []byte, error) {
	if err := s.k.w.Flush(); err != nil {
		return 0, nil, ioError(err)
	}
	for {
		s.k.deadline(s.ctx, time.Now().Add(limit))
		cmd, data, err := readPacket(s.k.r, s.c.cfg.MaxPacket)
		if err != nil {
			return 0, nil, ioError(err)
		}
		s.k.heard = true
		if cmd != rplProgress {
			return cmd, data, nil
		}
		if s.progress++; s.progress > maxProgress {
			return 0, nil, fmt.Errorf("%w: it asks for patience %d times", ErrProtocol, s.progress)
		}
	}
}

// decided reads a reply that is none of a change. done means that it ends the dialogue.
func (s *session) decided(cmd byte, data []byte) (done bool, err error) {
	switch cmd {
	case rplContinue:
		return false, nil
	case rplAccept:
		s.result.Action = Accept
	case rplDiscard:
		s.result.Action = Discard
	case rplReject:
		s.result.Action, s.result.Reply = Reject, defaultReply(Reject)
	case rplTempFail:
		s.result.Action, s.result.Reply = TempFail, defaultReply(TempFail)
	case rplShutdown: // the milter wants the session closed with 421; the message waits
		s.result.Action, s.result.Reply = TempFail, defaultReply(TempFail)
	case rplReplyCode:
		text, err := stringsOf(data, 1, 1)
		if err != nil {
			return false, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if s.result.Reply, err = parseReply(text[0]); err != nil {
			return false, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		s.result.Action = Reject
		if s.result.Reply.Temporary() {
			s.result.Action = TempFail
		}
	default:
		return false, fmt.Errorf("%w: it answers %s", ErrProtocol, quoteCmd(cmd))
	}
	return true, nil
}

// mailParams are the ESMTP parameters of MAIL, as a client would write them.
func mailParams(e envelope.Envelope) []string {
	var p []string
	if e.Size > 0 {
		p = append(p, "SIZE="+strconv.FormatInt(e.Size, 10))
	}
	switch e.Body {
	case envelope.Body7Bit:
		p = append(p, "BODY=7BIT")
	case envelope.Body8BitMIME:
		p = append(p, "BODY=8BITMIME")
	case envelope.BodyUndeclared:
	}
	if e.SMTPUTF8 {
		p = append(p, "SMTPUTF8")
	}
	switch e.Return {
	case envelope.ReturnHeaders:
		p = append(p, "RET=HDRS")
	case envelope.ReturnFull:
		p = append(p, "RET=FULL")
	case envelope.ReturnUndeclared:
	}
	if e.EnvelopeID != "" {
		p = append(p, "ENVID="+smtp.EncodeXtext(e.EnvelopeID))
	}
	if e.RequireTLS {
		p = append(p, "REQUIRETLS")
	}
	return p
}

// rcptParams are the ESMTP parameters of RCPT.
func rcptParams(r envelope.Recipient) []string {
	var p, n []string
	for _, w := range []struct {
		bit  envelope.Notify
		word string
	}{{envelope.NotifyNever, "NEVER"}, {envelope.NotifySuccess, "SUCCESS"}, {envelope.NotifyFailure, "FAILURE"}, {envelope.NotifyDelay, "DELAY"}} {
		if r.Notify&w.bit != 0 {
			n = append(n, w.word)
		}
	}
	if len(n) > 0 {
		p = append(p, "NOTIFY="+strings.Join(n, ","))
	}
	if r.Original.Address != "" {
		p = append(p, "ORCPT="+r.Original.Type+";"+smtp.EncodeXtext(r.Original.Address))
	}
	return p
}
