package smtpserver

import (
	"errors"
	"strconv"
	"time"

	"poczta.example/poczta/internal/smtp"
)

// bdat answers BDAT (RFC 3030). The octets that follow the command are read in every case,
// as they can't be told from commands otherwise.
func (s *session) bdat(cmd smtp.Command) error {
	size, last, err := s.parseChunk(cmd)
	if err != nil {
		return err
	}
	switch {
	case s.tx == nil || !s.facts.esmtp:
		if err := s.swallow(size); err != nil {
			return err
		}
		text := "BDAT needs EHLO"
		if s.facts.esmtp {
			text = "Send MAIL first"
		}
		return s.fault(smtp.Reply{Code: 503, Subject: 5, Detail: 1, Text: text})
	case s.tx.failed != nil:
		return s.failedChunk(size, last)
	case s.tx.accepted == 0:
		if err := s.swallow(size); err != nil {
			return err
		}
		return s.noRecipients()
	}
	s.setState(stateChunks, s.tx)
	d := &mailData{s: s, begun: time.Now()}
	d.dec.Chunked = true
	d.begin(size, last)
	outcome, err := s.hand(d)
	switch {
	case errors.Is(d.lost, errAborted):
		s.setState(stateReady, nil)
		return nil // the command that ended it is answered next
	case d.lost != nil:
		return d.lost
	case d.ended:
		s.answer(d, outcome, err)
		return nil
	}
	return s.failChunks(d, err)
}

// parseChunk reads BDAT's argument. A malformed one ends the session: nobody knows
// where the next command begins.
func (s *session) parseChunk(cmd smtp.Command) (int64, bool, error) {
	size, last, err := smtp.ParseBDAT(cmd.Arg)
	if err != nil {
		s.reply(s.replyOf(err))
		return 0, false, s.hangUp(421, 5, 4, "Chunks can't be told from commands any more, closing the connection")
	}
	return size, last, nil
}

// failChunks answers the chunk in which the message failed.
func (s *session) failChunks(d *mailData, err error) error {
	if lost := s.swallow(d.left); lost != nil {
		return lost
	}
	if d.last {
		s.answer(d, Outcome{}, err)
		return nil
	}
	r := s.replyOf(err)
	s.tx.failed = &r
	s.reply(r)
	if f := s.srv.cfg.Hooks.Message; f != nil {
		f(d.dec.Facts.Octets, r.Code, time.Since(d.begun))
	}
	return nil
}

// failedChunk answers a chunk behind the one that failed: it is swallowed, and the
// last one ends the transaction.
func (s *session) failedChunk(size int64, last bool) error {
	if err := s.swallow(size); err != nil {
		return err
	}
	r, n := *s.tx.failed, 1
	if last {
		if s.srv.cfg.LMTP {
			n = s.tx.accepted
		}
		s.setState(stateReady, nil)
	}
	for range n {
		s.reply(r)
	}
	return nil
}

// swallow reads and drops n octets that follow a BDAT command.
func (s *session) swallow(n int64) error {
	if n > s.drainLimit() {
		return s.tooMuch()
	}
	d := &mailData{s: s, begun: time.Now(), left: n}
	d.dec.Chunked = true
	for d.left > 0 {
		src, err := d.wait()
		if err != nil {
			return err
		}
		d.take(len(src))
	}
	return nil
}

// begin takes up a chunk.
func (d *mailData) begin(size int64, last bool) {
	d.chunk, d.left, d.last = size, size, last
	if d.dec.Facts.Octets+size > d.s.srv.cfg.Limits.Message {
		d.refusal = smtp.Refuse(552, 3, 4, "Message is larger than this server takes")
	}
}

// nextChunk acknowledges the chunk that was read and waits for the next, answering
// commands in between. A command that ends the transaction is left for the session.
func (d *mailData) nextChunk() error {
	s := d.s
	s.verb = smtp.BDAT
	_ = s.say(250, 0, 0, strconv.FormatInt(d.chunk, 10)+" octets received")
	for {
		if d.spare() <= 0 { // chunks that come too slowly, or bring nothing
			return d.tooSlow()
		}
		cmd, err := s.next()
		if err != nil {
			if err = s.badLine(err); err != nil {
				return err
			}
			continue
		}
		switch cmd.Verb {
		case smtp.BDAT:
			s.verb = smtp.BDAT
			size, last, err := s.parseChunk(cmd)
			if err != nil {
				return err
			}
			if size == 0 && !last {
				if err := s.idleCommand(); err != nil {
					return err
				}
			}
			d.begin(size, last)
			return nil
		case smtp.RSET, smtp.QUIT, smtp.EHLO, smtp.HELO, smtp.LHLO:
			s.pending = &cmd
			return errAborted
		default:
			if err := s.dispatch(cmd); err != nil {
				return err
			}
		}
	}
}
