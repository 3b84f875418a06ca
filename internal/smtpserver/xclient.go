package smtpserver

import (
	"log/slog"
	"net/netip"

	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtp"
)

// xclientAttrs are the attributes of XCLIENT this peer may use; none for strangers.
// The peer is judged by its address before any XCLIENT.
func (s *session) xclientAttrs() smtp.XClientAttrs {
	if !contains(s.srv.cfg.XClientFrom, s.trusted) {
		return 0
	}
	attrs := smtp.XClientName | smtp.XClientAddr | smtp.XClientPort | smtp.XClientProto | smtp.XClientHelo |
		smtp.XClientDestAddr | smtp.XClientDestPort
	if s.srv.cfg.LoginIdentity != nil {
		attrs |= smtp.XClientLogin
	}
	return attrs
}

// xclient answers XCLIENT: a named peer tells whose session it carries. The session
// begins anew with those facts, and with a new greeting; TLS stays. HELO counts in
// place of the argument of the EHLO that follows.
func (s *session) xclient(cmd smtp.Command) error {
	allowed := s.xclientAttrs()
	if allowed == 0 {
		return s.fault(smtp.Reply{Code: 550, Subject: 7, Detail: 0, Text: "XCLIENT is not for you"})
	}
	x, err := smtp.ParseXClient(cmd.Arg, allowed)
	if err != nil {
		return s.fault(s.replyOf(err))
	}
	next := s.client
	if x.Has&smtp.XClientLogin != 0 {
		next.identity = sasl.Identity{}
		if x.Login != "" {
			if next.identity, err = s.srv.cfg.LoginIdentity(s.ctx, x.Login); err != nil {
				s.log(slog.LevelWarn, "login of XCLIENT refused", slog.String("login", x.Login), slog.Any("error", err))
				return s.fault(authReply(err))
			}
		}
	}
	next.take(x)
	s.client = next
	s.facts = sessionFacts{tls: s.facts.tls, certificate: s.facts.certificate, identity: next.identity}
	s.info = nil
	s.log(slog.LevelDebug, "xclient")
	s.greet()
	return nil
}

// take takes the attributes that were given.
func (c *connFacts) take(x smtp.XClient) {
	if x.Has&smtp.XClientName != 0 {
		c.peerName = x.Name
	}
	c.peer = mergeAddr(c.peer, x.Addr, x.Port, x.Has&smtp.XClientAddr != 0, x.Has&smtp.XClientPort != 0)
	c.local = mergeAddr(c.local, x.DestAddr, x.DestPort, x.Has&smtp.XClientDestAddr != 0, x.Has&smtp.XClientDestPort != 0)
	if x.Has&smtp.XClientHelo != 0 {
		c.helo = x.Helo
	}
	if x.Has&smtp.XClientProto != 0 {
		c.proto = "SMTP"
		if x.ESMTP {
			c.proto = "ESMTP"
		}
	}
}

// mergeAddr replaces what was given of an address. A new address without a port has port 0.
func mergeAddr(old netip.AddrPort, addr netip.Addr, port uint16, hasAddr, hasPort bool) netip.AddrPort {
	if !hasAddr {
		addr = old.Addr()
	}
	if !hasPort && !hasAddr {
		port = old.Port()
	}
	return netip.AddrPortFrom(addr, port)
}
