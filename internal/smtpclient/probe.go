package smtpclient

import (
	"context"

	"poczta.example/poczta/internal/smtp"
)

// Probe asks whether the server would take a message from reversePath for
// forwardPath, by MAIL and RCPT; no message is sent. The outcome is RCPT's reply, or
// MAIL's when that was refused. A path beyond ASCII needs SMTPUTF8 and is
// *Unsupported without. Other errors are as those of Send. The transaction stays
// open until the next, which says RSET first, or until Quit.
func (s *Session) Probe(ctx context.Context, reversePath, forwardPath string) (RecipientOutcome, error) {
	utf8 := reversePath != "" && !printable(reversePath) || !printable(forwardPath)
	if !s.pathFits(reversePath, utf8, true) || !s.pathFits(forwardPath, utf8, false) {
		return RecipientOutcome{}, &Error{Stage: StageMail, Local: true, Err: ErrArgument}
	}
	if utf8 && !s.ext.SMTPUTF8 {
		return RecipientOutcome{}, &Unsupported{Extension: "SMTPUTF8", Need: "the address"}
	}
	end, err := s.begin(ctx, StageMail)
	if err != nil {
		return RecipientOutcome{}, err
	}
	out, err := s.probe(reversePath, forwardPath, utf8)
	return out, end(err)
}

func (s *Session) probe(reversePath, forwardPath string, utf8 bool) (RecipientOutcome, error) {
	if s.reset {
		r, err := s.ask(StageReset, "RSET")
		if err == nil {
			err = s.tookReset(r)
		}
		if err != nil {
			return RecipientOutcome{}, err
		}
	}
	mail := "MAIL FROM:<" + reversePath + ">"
	if utf8 {
		mail += " SMTPUTF8"
	}
	r, err := s.step(StageMail, mail)
	if err != nil || r.Code/100 != 2 {
		return RecipientOutcome{Reply: r, Stage: StageMail}, err
	}
	s.mails++
	s.reset = true
	r, err = s.step(StageRcpt, "RCPT TO:<"+forwardPath+">")
	return RecipientOutcome{Reply: r, Stage: StageRcpt, Accepted: err == nil && r.Code/100 == 2}, err
}

// step is ask for a command that class 3 is no answer to.
func (s *Session) step(stage Stage, command string) (smtp.Reply, error) {
	r, err := s.ask(stage, command)
	if err == nil && r.Code/100 == 3 {
		err = s.protocol(stage, r)
	}
	return r, err
}
