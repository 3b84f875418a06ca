package smtpserver

import (
	"errors"
	"log/slog"
	"slices"

	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtp"
)

// saslOptions is the state of the connection as mechanisms see it.
func (s *session) saslOptions() sasl.Options {
	o := sasl.Options{
		Verifier:         s.srv.cfg.Auth.Verifier,
		Peer:             sasl.Peer{Addr: s.client.peer.Addr(), Protocol: s.srv.cfg.Auth.Protocol},
		TLS:              s.facts.tls != nil,
		PlaintextAllowed: contains(s.srv.cfg.Auth.PlaintextFrom, s.client.peer),
	}
	if st := s.facts.tls; st != nil {
		o.Binding = sasl.BindingOf(st, s.facts.certificate)
		if len(st.VerifiedChains) > 0 {
			o.Cert = st.PeerCertificates[0]
		}
	}
	return o
}

// mechanisms are those on offer now: none before TLS when it is required, and none
// once the client has authenticated.
func (s *session) mechanisms() []string {
	if s.srv.cfg.Auth.Verifier == nil || s.facts.identity != (sasl.Identity{}) {
		return nil
	}
	o := s.saslOptions()
	if s.srv.cfg.Auth.RequireTLS && !o.TLS && !o.PlaintextAllowed {
		return nil
	}
	all := sasl.Mechanisms(o)
	want := s.srv.cfg.Auth.Mechanisms
	if len(want) == 0 {
		return all
	}
	var offered []string
	for _, m := range want {
		if slices.Contains(all, m) {
			offered = append(offered, m)
		}
	}
	return offered
}

// auth answers AUTH (RFC 4954).
func (s *session) auth(cmd smtp.Command) error {
	name, initial, has, err := smtp.ParseAuth(cmd.Arg)
	switch {
	case !s.facts.esmtp:
		return s.fault(smtp.Reply{Code: 503, Subject: 5, Detail: 1, Text: "AUTH needs EHLO"})
	case s.facts.identity != (sasl.Identity{}):
		return s.fault(smtp.Reply{Code: 503, Subject: 5, Detail: 1, Text: "Already authenticated"})
	case err != nil:
		return s.fault(s.replyOf(err))
	case !slices.Contains(s.mechanisms(), name):
		if s.facts.tls == nil && s.srv.cfg.TLS != nil {
			return s.fault(smtp.Reply{Code: 538, Subject: 7, Detail: 11, Text: "The mechanism is not offered without TLS, send STARTTLS first"})
		}
		return s.fault(smtp.Reply{Code: 504, Subject: 5, Detail: 4, Text: "The mechanism is not offered"})
	}
	x, err := sasl.New(name, s.saslOptions())
	if err != nil {
		return s.authFailed(name, err)
	}
	var response []byte
	if has {
		if response, err = sasl.DecodeInitial([]byte(initial)); err != nil {
			return s.authFailed(name, err)
		}
	}
	return s.exchange(name, x, response)
}

// exchange carries challenges and responses until the exchange ends.
func (s *session) exchange(name string, x sasl.Exchange, response []byte) error {
	for {
		challenge, done, err := x.Next(s.ctx, response)
		if err != nil {
			return s.authFailed(name, err)
		}
		if done {
			return s.authenticated(name, x.Identity())
		}
		s.out.challenge(sasl.EncodeChallenge(challenge))
		line, err := s.readLine()
		switch {
		case errors.Is(err, errLineTooLong):
			s.authHook(name, err)
			return s.fault(smtp.Reply{Code: 500, Subject: 5, Detail: 6, Text: "Line of the authentication exchange is too long"})
		case errors.Is(err, errLineEnd):
			s.authHook(name, err)
			return s.badLine(err)
		case err != nil:
			return err
		}
		if response, err = sasl.DecodeResponse(line); err != nil {
			return s.authFailed(name, err)
		}
	}
}

// authenticated takes the identity into the session's facts.
func (s *session) authenticated(name string, id sasl.Identity) error {
	s.facts = sessionFacts{helo: s.facts.helo, esmtp: s.facts.esmtp, tls: s.facts.tls, certificate: s.facts.certificate, identity: id}
	s.info = nil
	s.authHook(name, nil)
	s.log(slog.LevelInfo, "authenticated", slog.String("mechanism", name), slog.String("login", id.Login))
	return s.say(235, 7, 0, "Authentication succeeded")
}

// authFailed answers a failed exchange.
func (s *session) authFailed(name string, err error) error {
	s.authHook(name, err)
	r := authReply(err)
	s.log(slog.LevelInfo, "authentication failed", slog.String("mechanism", name), slog.Int("status", r.Code), slog.Any("error", err))
	if r.Code != 535 {
		return s.fault(r)
	}
	s.reply(r)
	s.counts.authFailures++
	if s.counts.authFailures >= s.srv.cfg.Limits.AuthFailures {
		return s.hangUp(421, 7, 0, "Too many failed logins, closing the connection")
	}
	return nil
}

// authReply is the reply to an error of an exchange; package sasl names it beside each error.
func authReply(err error) smtp.Reply {
	switch {
	case errors.Is(err, sasl.ErrCredentials), errors.Is(err, sasl.ErrDisabled):
		return smtp.Reply{Code: 535, Subject: 7, Detail: 8, Text: "Authentication credentials are invalid"}
	case errors.Is(err, sasl.ErrThrottled):
		return smtp.Reply{Code: 454, Subject: 7, Detail: 0, Text: "Too many failed logins, try again later"}
	case errors.Is(err, sasl.ErrCancelled):
		return smtp.Reply{Code: 501, Subject: 7, Detail: 0, Text: "Authentication was cancelled"}
	case errors.Is(err, sasl.ErrMalformed):
		return smtp.Reply{Code: 501, Subject: 5, Detail: 2, Text: "The response is malformed"}
	case errors.Is(err, sasl.ErrMechanism):
		return smtp.Reply{Code: 504, Subject: 5, Detail: 4, Text: "The mechanism is not offered"}
	}
	return smtp.Reply{Code: 454, Subject: 7, Detail: 0, Text: "Authentication is not possible now, try again later"}
}

func (s *session) authHook(name string, err error) {
	if f := s.srv.cfg.Hooks.Authenticated; f != nil {
		f(name, err)
	}
}
