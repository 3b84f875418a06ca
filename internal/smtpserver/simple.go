package smtpserver

import "poczta.example/poczta/internal/smtp"

// rset answers RSET (RFC 5321 §4.1.1.5).
func (s *session) rset(cmd smtp.Command) error {
	if err := cmd.NoArgument(); err != nil {
		return s.fault(s.replyOf(err))
	}
	s.abort()
	return s.say(250, 0, 0, "Ok")
}

// noop answers NOOP, whose argument is ignored (RFC 5321 §4.1.1.9).
func (s *session) noop(smtp.Command) error { return s.say(250, 0, 0, "Ok") }

// quit answers QUIT; a transaction that is open ends without effect (RFC 5321 §4.1.1.10).
func (s *session) quit(cmd smtp.Command) error {
	if err := cmd.NoArgument(); err != nil {
		return s.fault(s.replyOf(err))
	}
	s.abort()
	_ = s.say(221, 0, 0, s.srv.cfg.Hostname+" closing connection")
	s.linger = s.in.buffered() > 0 // something behind QUIT would reset the connection
	return errClosing
}

// vrfy answers VRFY: we don't say who is here (RFC 5321 §7.3).
func (s *session) vrfy(cmd smtp.Command) error {
	if cmd.Arg == "" {
		return s.fault(smtp.Reply{Code: 501, Subject: 5, Detail: 4, Text: "VRFY needs a name"})
	}
	return s.say(252, 5, 0, "Cannot verify a user, but will take a message and attempt delivery")
}

const (
	helpSMTP = "Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT"
	helpLMTP = "Commands: LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT"
)

// help answers HELP (RFC 5321 §4.1.1.8).
func (s *session) help(smtp.Command) error {
	text := helpSMTP
	if s.srv.cfg.LMTP {
		text = helpLMTP
	}
	for _, v := range []smtp.Verb{smtp.STARTTLS, smtp.AUTH} {
		if s.srv.table[v].handler != nil {
			text += " " + v.String()
		}
	}
	if s.startsQueues() {
		text += " ETRN"
	}
	return s.say(214, 0, 0, "This is Poczta at "+s.srv.cfg.Hostname+"\n"+text+"\nFor a person's help write to <postmaster>")
}
