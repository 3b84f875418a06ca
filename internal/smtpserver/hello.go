package smtpserver

import (
	"fmt"
	"strings"

	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtp"
)

// hello answers EHLO, HELO and LHLO, which also end a transaction (RFC 5321 §4.1.4).
func (s *session) hello(cmd smtp.Command) error {
	name, err := smtp.ParseHello(cmd.Arg)
	if err != nil {
		return s.fault(s.replyOf(err))
	}
	s.abort()
	s.info = nil
	s.facts = sessionFacts{helo: name, esmtp: cmd.Verb != smtp.HELO, tls: s.facts.tls, certificate: s.facts.certificate, identity: s.facts.identity}
	s.setState(stateReady, nil)
	text := s.srv.cfg.Hostname
	if s.facts.esmtp {
		text = s.offer()
	}
	s.out.reply(smtp.Reply{Code: 250, Text: text}, true)
	if f := s.srv.cfg.Hooks.Replied; f != nil {
		f(s.verb, 250)
	}
	return nil
}

// offer is the text of the reply to EHLO: our name, and a line for each extension
// that is honoured here and now.
func (s *session) offer() string {
	var b strings.Builder
	cfg := &s.srv.cfg
	b.WriteString(cfg.Hostname)
	b.WriteString(s.srv.fixedOffer)
	if cfg.TLS != nil && s.facts.tls == nil {
		b.WriteString("\nSTARTTLS")
	}
	if m := s.mechanisms(); len(m) > 0 {
		b.WriteString("\nAUTH " + strings.Join(m, " "))
	}
	cfg.Extensions.offer(&b, s)
	if attrs := s.xclientAttrs(); attrs != 0 {
		b.WriteString("\nXCLIENT " + attrs.String())
	}
	return b.String()
}

// fixedOffer are the extensions that every session is offered.
func fixedOffer(l *Limits) string {
	return fmt.Sprintf("\nPIPELINING\nSIZE %d\n8BITMIME\nSMTPUTF8\nCHUNKING\nDSN\nENHANCEDSTATUSCODES\nLIMITS MAILMAX=%d RCPTMAX=%d",
		l.Message, l.Transactions, l.Recipients)
}

// extensions are those whose parameters MAIL and RCPT may carry. A client that said
// HELO may use none (RFC 5321 §3.2).
func (s *session) extensions() smtp.Extensions {
	if !s.facts.esmtp {
		return 0
	}
	ext := smtp.ExtSize | smtp.Ext8BitMIME | smtp.ExtSMTPUTF8 | smtp.ExtDSN
	if s.srv.cfg.Auth.Verifier != nil {
		ext |= smtp.ExtAuth
	}
	return ext | s.srv.cfg.Extensions.params()
}

// describe is what the Service sees of the session; made anew after a change.
func (s *session) describe() *Session {
	if s.info != nil {
		return s.info
	}
	info := &Session{Identity: s.facts.identity, TLS: s.facts.tls, Local: s.client.local}
	o := &info.Origin
	o.ConnID = s.id()
	o.Peer = s.client.peer
	o.PeerName = s.client.peerName
	o.Helo = s.facts.helo
	if s.client.helo != "" {
		o.Helo = s.client.helo
	}
	o.Protocol = s.protocol(false)
	if s.facts.tls != nil {
		o.TLS = tlsText(s.facts.tls)
	}
	o.Account = info.Identity.Account
	o.Login = info.Identity.Login
	o.Time = s.begun
	s.info = info
	return info
}

// protocol is the word of Received's "with" clause (RFC 3848, RFC 6531 §4.3).
func (s *session) protocol(utf8 bool) string {
	base := "ESMTP"
	switch {
	case s.srv.cfg.LMTP:
		base = "LMTP"
	case s.client.proto != "":
		base = s.client.proto
	case !s.facts.esmtp:
		base = "SMTP"
	}
	if base == "SMTP" {
		return base
	}
	if utf8 {
		base = "UTF8" + strings.TrimPrefix(base, "E")
	}
	if s.facts.tls != nil {
		base += "S"
	}
	if s.facts.identity != (sasl.Identity{}) {
		base += "A"
	}
	return base
}
