package pop3server

import (
	"context"

	"poczta.example/poczta/internal/pop3"
)

// capa is CAPA. RFC 2449 §5
func (s *session) capa(context.Context, pop3.Command) error {
	c := &s.server.config
	b := pop3.AppendOK(s.out.room(4096), pop3.TextCapa.In(s.lang))
	s.out.put(pop3.AppendCapa(b, pop3.Capabilities{
		User:           s.plaintextAllowed(),
		SASL:           s.mechanisms(s.saslOptions()),
		STLS:           c.TLS != nil && s.tls == nil && !s.auth.utf8 && s.state == stateAuthorization,
		LoginDelay:     c.LoginDelay,
		Expire:         c.Expire,
		Implementation: c.Implementation,
	}))
	return nil
}

// utf8 is UTF8. RFC 6856 §2.1
func (s *session) utf8(context.Context, pop3.Command) error {
	if s.auth.utf8 {
		return refuse(pop3.TextUTF8Twice)
	}
	s.auth.utf8 = true
	s.okReply(pop3.TextUTF8.In(s.lang))
	return nil
}

// setLang is LANG. RFC 6856 §3.2
func (s *session) setLang(_ context.Context, cmd pop3.Command) error {
	if cmd.First == nil {
		b := pop3.AppendOK(s.out.room(2048), pop3.TextLanguages.In(s.lang))
		s.out.put(pop3.AppendLanguages(b))
		return nil
	}
	wanted := string(cmd.First)
	if wanted == "*" {
		wanted = s.server.config.Language
	}
	l, tag, ok := pop3.MatchLanguage(wanted)
	if !ok {
		return refuse(pop3.TextNoLanguage)
	}
	s.lang = l
	s.okReply(tag + " " + pop3.TextLanguage.In(l))
	return nil
}

// noop is NOOP.
func (s *session) noop(context.Context, pop3.Command) error {
	s.okReply(pop3.TextNoop.In(s.lang))
	return nil
}
