// Package receive decides what mail of strangers comes in: on port 25, and by
// LMTP. It takes mail for our own mailboxes and aliases and never relays.
package receive

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/smtpserver"
)

// Submission is the submission side, for what reaches port 25 and is its matter;
// *submit.Service is one.
type Submission interface {
	smtpserver.Service
	// Takes reports whether a transaction is a submission: the session has
	// authenticated, or comes from a named device that writes as itself.
	Takes(session *smtpserver.Session, env envelope.Envelope) bool
}

// Config is what a Service needs. Intake is required.
type Config struct {
	Intake *intake.Intake
	// Authenticated takes the submissions that come in on port 25; nil treats them
	// as mail of strangers. It is never asked for LMTP, which does not relay.
	Authenticated Submission
	Logger        *slog.Logger // nil discards
}

// Service is the receiving side. Safe for concurrent use.
type Service struct{ c Config }

// New checks the configuration.
func New(c Config) (*Service, error) {
	if c.Intake == nil {
		return nil, errors.New("receive: Intake is required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{c: c}, nil
}

// Begin answers MAIL. Every reverse-path is taken, the null one too. Recipients
// are then judged by intake: those of other hosts are refused (550 5.7.1), from
// every peer, loopback and LMTP included.
func (s *Service) Begin(ctx context.Context, session *smtpserver.Session, env envelope.Envelope) (smtpserver.Transaction, error) {
	lmtp := strings.Contains(session.Origin.Protocol, "LMTP") || strings.Contains(env.Origin.Protocol, "LMTP")
	if s.c.Authenticated != nil && !lmtp && s.c.Authenticated.Takes(session, env) {
		return s.c.Authenticated.Begin(ctx, session, env)
	}
	t, err := s.c.Intake.Begin(env, intake.Rules{})
	if err != nil {
		return nil, err
	}
	return &transaction{Transaction: t, host: session.Local.Addr().Unmap()}, nil
}

// transaction knows the address that the peer has reached this host by.
type transaction struct {
	*intake.Transaction
	host netip.Addr // invalid on a UNIX socket
}

// Rcpt implements smtpserver.Transaction. The postmaster of this very host may be
// addressed by the host's address (RFC 5321 §4.5.1 and §4.1.3).
func (t *transaction) Rcpt(ctx context.Context, r envelope.Recipient) error {
	if a := r.ForwardPath.Address(); !r.ForwardPath.IsPostmaster() && strings.EqualFold(a.Local(), "postmaster") {
		if ip, ok := a.Domain().LiteralAddr(); ok && ip.Unmap() == t.host {
			r.ForwardPath = address.Postmaster()
		}
	}
	return t.Transaction.Rcpt(ctx, r)
}

var _ smtpserver.Service = (*Service)(nil)
