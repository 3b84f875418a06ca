// Package receive decides what mail of strangers comes in: on port 25, and by
// LMTP. It takes mail for our own mailboxes and aliases, and on port 25 for the
// domains that are named for relay.
package receive

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/smtp"
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

// RelayDomains are the domains that mail of strangers is relayed for;
// *relaydomain.Domains is one. Safe for concurrent use.
type RelayDomains interface {
	// Verify judges a recipient; relayed is false when its domain is not among them. The
	// error, an *smtp.Error or temporary, refuses the recipient.
	Verify(ctx context.Context, to address.ForwardPath) (relayed bool, err error)
}

// Queues are RelayDomains whose queues some peers may have run (RFC 1985).
type Queues interface {
	// Starts reports whether peer may do so for any domain.
	Starts(peer netip.Addr) bool
	// Start is as in smtpserver.Starter.
	Start(ctx context.Context, peer netip.Addr, node smtp.Node) (waiting int, err error)
}

// Config is what a Service needs. Intake is required.
type Config struct {
	Intake *intake.Intake
	// Authenticated takes the submissions that come in on port 25; nil treats them
	// as mail of strangers. It is never asked for LMTP, which does not relay.
	Authenticated Submission
	// RelayDomains are asked about recipients that are not ours; nil relays for nobody.
	// If it is Queues too, ETRN is offered to whom it names.
	RelayDomains RelayDomains
	// Inspector looks at every message before it is taken; nil takes all.
	Inspector intake.Inspector
	// Probing knows hosts that guess recipients; nil bears with them.
	Probing Probing
	// Traps are told of recipients that do not exist; nil is not.
	Traps  Traps
	Logger *slog.Logger // nil discards
}

// Traps know addresses that nobody has, and who writes there; *filter.Filter is one. Safe for
// concurrent use.
type Traps interface {
	Unknown(ctx context.Context, peer netip.Addr, a address.Address)
}

// Probing counts what hosts ask for in vain; *reputation.Probing is one. Safe for concurrent use.
type Probing interface {
	Over(peer netip.Addr, now time.Time) bool
	Unknown(peer netip.Addr, now time.Time)
}

// Service is the receiving side. Safe for concurrent use.
type Service struct {
	c      Config
	queues Queues // nil without
}

// New checks the configuration.
func New(c Config) (*Service, error) {
	if c.Intake == nil {
		return nil, errors.New("receive: Intake is required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{c: c}
	s.queues, _ = c.RelayDomains.(Queues) // nil when they are none
	return s, nil
}

// Begin answers MAIL. Every reverse-path is taken, the null one too, with as many
// recipients as any (RFC 5321 §4.5.3.1.8): each is verified, and none of them is ever
// reported on. Recipients are judged by intake: those of other hosts are refused
// (550 5.7.1) from every peer, loopback included, unless their domain is one that we
// relay for; with LMTP all of them.
func (s *Service) Begin(ctx context.Context, session *smtpserver.Session, env envelope.Envelope) (smtpserver.Transaction, error) {
	lmtp := strings.Contains(session.Origin.Protocol, "LMTP") || strings.Contains(env.Origin.Protocol, "LMTP")
	if s.c.Authenticated != nil && !lmtp && s.c.Authenticated.Takes(session, env) {
		return s.c.Authenticated.Begin(ctx, session, env)
	}
	var rules intake.Rules
	if s.c.RelayDomains != nil && !lmtp {
		rules.Relay = func(ctx context.Context, r envelope.Recipient) error { return s.relay(ctx, &env, r) }
	}
	if s.c.Inspector != nil {
		rules.Inspect = s.c.Inspector.Inspect
	}
	t, err := s.c.Intake.Begin(env, rules)
	if err != nil {
		return nil, err
	}
	return &transaction{Transaction: t, s: s, host: session.Local.Addr().Unmap(), peer: env.Origin.Peer.Addr().Unmap()}, nil
}

// relay judges a recipient that is not ours. Other domains than those named for relay
// hear what they would hear without any. Nor is anything relayed that must come back when
// it is late (RFC 2852 §4): to a reverse-path that nobody has verified, whenever the
// stranger likes.
func (s *Service) relay(ctx context.Context, env *envelope.Envelope, r envelope.Recipient) error {
	relayed, err := s.c.RelayDomains.Verify(ctx, r.ForwardPath)
	switch {
	case err == nil && !relayed:
		return intake.Refuse(550, 7, 1, "Relaying denied", nil)
	case err == nil && env.DeliverBy.Mode == envelope.ByReturn:
		return intake.Refuse(550, 7, 1, "Mail for this domain is relayed without a time that is promised: leave BY out", nil)
	}
	return err
}

// Starts implements smtpserver.Starter.
func (s *Service) Starts(session *smtpserver.Session) bool {
	return s.queues != nil && s.queues.Starts(session.Origin.Peer.Addr())
}

// Start implements smtpserver.Starter.
func (s *Service) Start(ctx context.Context, session *smtpserver.Session, node smtp.Node) (int, error) {
	if s.queues == nil {
		return 0, smtp.Refuse(459, 7, 1, "Node "+node.String()+" not allowed")
	}
	return s.queues.Start(ctx, session.Origin.Peer.Addr(), node)
}

// transaction knows the address that the peer has reached this host by.
type transaction struct {
	*intake.Transaction
	s    *Service
	host netip.Addr // invalid on a UNIX socket
	peer netip.Addr
}

// Rcpt implements smtpserver.Transaction. The postmaster of this very host may be
// addressed by the host's address (RFC 5321 §4.5.1 and §4.1.3).
func (t *transaction) Rcpt(ctx context.Context, r envelope.Recipient) error {
	if a := r.ForwardPath.Address(); !r.ForwardPath.IsPostmaster() && strings.EqualFold(a.Local(), "postmaster") {
		if ip, ok := a.Domain().LiteralAddr(); ok && ip.Unmap() == t.host {
			r.ForwardPath = address.Postmaster()
		}
	}
	probing, traps := t.s.c.Probing, t.s.c.Traps
	if probing == nil && traps == nil || !t.peer.IsValid() {
		return t.Transaction.Rcpt(ctx, r)
	}
	now := t.s.c.Intake.Now()
	if probing != nil && probing.Over(t.peer, now) {
		return smtp.Refuse(450, 7, 1, "Your host has asked for too many mailboxes that do not exist; try again later")
	}
	err := t.Transaction.Rcpt(ctx, r)
	if e, ok := errors.AsType[*smtp.Error](err); ok && e.Reply.Code == 550 && e.Reply.Subject == 1 && e.Reply.Detail == 1 {
		if probing != nil {
			probing.Unknown(t.peer, now)
		}
		if traps != nil && !r.ForwardPath.IsPostmaster() {
			traps.Unknown(ctx, t.peer, r.ForwardPath.Address())
		}
	}
	return err
}

var (
	_ smtpserver.Service = (*Service)(nil)
	_ smtpserver.Starter = (*Service)(nil)
)
