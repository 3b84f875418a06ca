package smtpserver

import (
	"strconv"

	"poczta.example/poczta/internal/smtp"
)

// starterOf is the Service as far as ETRN goes; nil when there is none, as with LMTP.
func starterOf(cfg *Config) Starter {
	if cfg.LMTP {
		return nil
	}
	s, _ := cfg.Service.(Starter) // nil when the Service is no Starter
	return s
}

// startsQueues reports whether the session may use ETRN.
func (s *session) startsQueues() bool {
	return s.srv.starter != nil && s.srv.starter.Starts(s.describe())
}

// etrn answers ETRN (RFC 1985 §5.1). Whoever is not offered it learns nothing of
// which domains there are.
func (s *session) etrn(cmd smtp.Command) error {
	if !s.startsQueues() {
		return s.fault(smtp.Reply{Code: 502, Subject: 5, Detail: 1, Text: "ETRN is not offered here"})
	}
	node, err := smtp.ParseETRN(cmd.Arg)
	if err != nil {
		return s.fault(s.replyOf(err))
	}
	waiting, err := s.srv.starter.Start(s.ctx, s.describe(), node)
	switch {
	case err != nil:
		return s.refuse(err)
	case waiting < 0:
		return s.say(250, 0, 0, "OK, queuing for node "+node.String()+" started")
	case waiting == 0:
		return s.say(251, 0, 0, "OK, no messages waiting for node "+node.String())
	}
	return s.say(253, 0, 0, "OK, "+strconv.Itoa(waiting)+" pending messages for node "+node.String()+" started")
}
