package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/pop3server"
	"poczta.example/poczta/internal/receive"
	"poczta.example/poczta/internal/repeat"
	"poczta.example/poczta/internal/report"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtpserver"
	"poczta.example/poczta/internal/submit"
	"poczta.example/poczta/internal/tlsconf"
)

// mail is what decides about messages.
type mail struct {
	receive smtpserver.Service
	submit  *submission
	out     *outbound
	filters *Filters
	offices *offices
	repeats *repeat.Register // nil when it is off
}

// quotaRooms gives accounts without a quota the common one.
type quotaRooms struct {
	*mailbox.Store
	rooms *Rooms
}

// Reserve implements intake.Rooms.
func (q quotaRooms) Reserve(ctx context.Context, id envelope.AccountID, quota, size int64) (func(), error) {
	return q.Store.Reserve(ctx, id, q.rooms.QuotaOf(quota), size)
}

// newMail builds the services above the rooms.
func newMail(ctx context.Context, r *Rooms, metrics *obs.Metrics, log *slog.Logger) (*mail, error) {
	c := r.Config
	host, err := address.ParseDomain(c.Hostname)
	if err != nil {
		return nil, fmt.Errorf("hostname %q: %w", c.Hostname, err)
	}
	submitSigners, reportSigners := signers(r)
	rep, err := report.New(report.Config{Hostname: host, Accepter: r.Post, Router: r.Accounts, Signers: reportSigners, Language: c.Language, Logger: log})
	if err != nil {
		return nil, err
	}
	on, err := newOnward(r, host, rep, metrics, log)
	if err != nil {
		return nil, err
	}
	desks, err := newOffices(r, host, rep, metrics, log)
	if err != nil {
		return nil, err
	}
	in, err := intake.New(intake.Config{Offices: []intake.Office{desks}, Hostname: host, Accepter: r.Post, Router: r.Accounts, Rooms: quotaRooms{r.Mailboxes, r},
		Reporter: rep, Forwarding: on.forward, Answers: on.answers, Returns: on.returns, Separator: c.SMTP.SubaddressSplitter, MaxOctets: int64(c.SMTP.MaxSize), Memory: int64(c.Limits.Memory) / 8, Logger: log})
	if err != nil {
		return nil, err
	}
	out, err := newOutbound(ctx, r, in, rep, on.forward, metrics, log)
	if err != nil {
		return nil, err
	}
	filters, err := newServerFilters(ctx, r, out, metrics, log)
	if err != nil {
		return nil, err
	}
	sc := submit.Config{Intake: in, Senders: r.Accounts, Signers: submitSigners, Logger: log, Hooks: metrics.Submission()}
	rc := receive.Config{Intake: in, RelayDomains: out.domains, Logger: log}
	if filters.Filter != nil { // an interface that holds nil is not nil
		sc.Inspector, rc.Inspector, rc.Traps = filters.Filter, filters.Filter, filters.Filter
	}
	repeats, err := newRepeats(r, log)
	if err != nil {
		return nil, err
	}
	if repeats != nil {
		sc.Repeats = repeats
	}
	if filters.Probing != nil {
		rc.Probing = filters.Probing
	}
	sub, err := newSubmission(sc, c.Submission)
	if err != nil {
		return nil, err
	}
	rc.Authenticated = sub
	rec, err := receive.New(rc)
	if err != nil {
		return nil, err
	}
	return &mail{receive: rec, submit: sub, out: out, filters: filters, offices: desks, repeats: repeats}, nil
}

// newRepeats builds what knows letters that were handed in before; nil when it is off.
func newRepeats(r *Rooms, log *slog.Logger) (*repeat.Register, error) {
	keep := r.Config.Submission.Repeats.Duration()
	if keep == 0 {
		return nil, nil
	}
	return repeat.New(repeat.Config{DB: r.DB, Keep: keep, Logger: log})
}

// endpoints are the protocol servers by service.
type endpoints struct {
	smtp map[string]*smtpserver.Server // smtp, submission, submissions, lmtp
	pop3 *pop3server.Server
}

// newEndpoints builds the servers above the services.
func newEndpoints(r *Rooms, m *mail, certs *tlsconf.Certs, g *gate, metrics *obs.Metrics, log *slog.Logger) (*endpoints, error) {
	c := r.Config
	e := &endpoints{smtp: map[string]*smtpserver.Server{}}
	base := smtpserver.Config{
		Hostname: c.Hostname, Admit: g.smtp, ProxyFrom: config.Prefixes(c.Proxy.From), XClientFrom: config.Prefixes(c.XClient.From),
		LoginIdentity: loginIdentity(r.Accounts), Logger: log,
		Strict: smtpserver.Strict{LongLines: c.SMTP.RefuseLongLines, NUL: c.SMTP.RefuseNUL, Undeclared8Bit: c.SMTP.RefuseUndeclared8},
		Limits: smtpserver.Limits{Message: int64(c.SMTP.MaxSize), Recipients: c.SMTP.MaxRecipients, Errors: c.SMTP.MaxErrors,
			Command: c.SMTP.CommandTimeout.Duration(), Data: c.SMTP.DataTimeout.Duration()},
	}
	auth := smtpserver.Auth{Verifier: watchLogins(r, r.Accounts), Mechanisms: c.Auth.Mechanisms, PlaintextFrom: config.Prefixes(c.Auth.PlaintextFrom)}
	people := certs.Server(tlsconf.People)
	relayed, submitted := extensions(c)
	if m.repeats != nil {
		submitted.Repeats = c.Submission.Repeats.Duration().Truncate(time.Second)
	}
	kinds := map[string]func(*smtpserver.Config){
		"smtp": func(s *smtpserver.Config) {
			s.Service, s.TLS, s.Extensions = m.receive, certs.Server(tlsconf.MTA), relayed
			if c.SMTP.Auth {
				s.Auth = auth
			}
		},
		"submission": func(s *smtpserver.Config) {
			s.Service, s.TLS, s.Auth, s.Extensions = m.submit, people, auth, submitted
			s.Auth.Protocol = "submission"
		},
		"submissions": func(s *smtpserver.Config) {
			s.Service, s.TLS, s.ImplicitTLS, s.Auth, s.Extensions = m.submit, people, true, auth, submitted
			s.Auth.Protocol = "submission"
		},
		"lmtp": func(s *smtpserver.Config) {
			s.Service, s.TLS, s.LMTP = m.receive, certs.Server(tlsconf.MTA), true
			s.Admit, s.XClientFrom = g.lmtp(config.Prefixes(c.Listen.LMTPFrom)), nil
		},
	}
	for name, adapt := range kinds {
		s := base
		s.Hooks = metrics.SMTP(name)
		s.Logger = log.With("service", name)
		adapt(&s)
		server, err := smtpserver.New(s)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", name, err)
		}
		e.smtp[name] = server
	}
	var err error
	e.pop3, err = newPOP3(r, people, g, metrics, log)
	return e, err
}

// Bounds of extensions.
const (
	longestHold   = 30 * 24 * time.Hour // FUTURERELEASE
	leastDelivery = time.Minute         // DELIVERBY, where the message comes back
	// highestPriority is what people may ask for: above it is the postmaster's (RFC 6710 §5).
	highestPriority = 4
)

// extensions are those that need the relay: on port 25, and for submission.
func extensions(c *config.Config) (relayed, submitted smtpserver.Extensions) {
	if !c.Relay.Enabled {
		return relayed, submitted
	}
	relayed = smtpserver.Extensions{RequireTLS: true, DeliverBy: true, MinDeliverBy: leastDelivery, Priority: true, HighestPriority: highestPriority}
	submitted = relayed
	submitted.FutureRelease, submitted.XVERP = longestHold, true
	return relayed, submitted
}

func newPOP3(r *Rooms, t *tls.Config, g *gate, metrics *obs.Metrics, log *slog.Logger) (*pop3server.Server, error) {
	c := r.Config
	return pop3server.New(pop3server.Config{
		Maildrops: r.Mailboxes, Verifier: watchLogins(r, r.Accounts), Identities: r.Accounts, Hostname: c.Hostname, Mechanisms: c.Auth.Mechanisms, TLS: t,
		PlaintextFrom: config.Prefixes(c.Auth.PlaintextFrom), ProxyFrom: config.Prefixes(c.Proxy.From),
		IdleTimeout: c.POP3.Timeout.Duration(), LoginDelay: c.POP3.LoginDelay.Duration(), Expire: time.Duration(c.POP3.Expire) * 24 * time.Hour,
		Implementation: "Poczta", Language: c.Language, Admit: g.pop3, Logger: log.With("service", "pop3"), Hooks: metrics.POP3("pop3"),
	})
}

// loginIdentity finds the identity that an XCLIENT peer vouches for.
func loginIdentity(a *account.Accounts) func(context.Context, string) (sasl.Identity, error) {
	return func(ctx context.Context, login string) (sasl.Identity, error) {
		acc, err := a.Get(ctx, login)
		if err != nil {
			return sasl.Identity{}, err
		}
		if acc.State != account.Active {
			return sasl.Identity{}, sasl.ErrDisabled
		}
		return sasl.Identity{Account: acc.ID, Login: acc.Login, Version: acc.Version}, nil
	}
}
