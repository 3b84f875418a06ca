// Package submit decides what our own people may send: mail submission on ports
// 587 and 465 (RFC 6409, RFC 8314), by accounts that have authenticated and by
// named devices that can't.
package submit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/intake"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/sasl"
	"poczta.example/poczta/internal/smtpserver"
)

// Senders knows the addresses that an account may send as; *account.Accounts is one.
type Senders interface {
	MaySend(ctx context.Context, account envelope.AccountID, as address.Address) (bool, error)
	// Stands reports whether an identity that was proved before still could be: the
	// account is active, and its credentials are the same.
	Stands(ctx context.Context, id sasl.Identity) (bool, error)
}

// Host is a device that can't authenticate.
type Host struct {
	From      []netip.Prefix    // its networks
	Addresses []address.Address // what it may use as reverse-path and in From
	Domains   []address.Domain  // domains of which it may use every address
	PerHour   int               // recipients an hour; 0 is 100
}

// defaultHostPerHour bounds a device whose configuration says nothing.
const defaultHostPerHour = 100

// Config is what a Service needs. Intake and Senders are required.
type Config struct {
	Intake     *intake.Intake
	Senders    Senders
	Hosts      []Host
	PerHour    int  // recipients an account may write to in an hour; 0 for no limit
	PerDay     int  // and in a day
	ShowClient bool // write the client's name and address into Received
	// Signers sign what is sent; nil leaves it unsigned.
	Signers Signers
	// Inspector looks at every message before it is taken; nil takes all.
	Inspector intake.Inspector
	// Repeats knows what accounts have handed in before; nil takes every message as new.
	Repeats intake.Repeats
	Logger  *slog.Logger // nil discards
	Hooks   Hooks
}

// Hooks are called as things happen; nil functions are skipped. They must be
// quick and safe for concurrent use.
type Hooks struct {
	// Signed is called for each message that is taken with Config.Signers, with false
	// when no domain it could be signed for has a key.
	Signed func(signed bool)
}

// Service is the submission side. Safe for concurrent use.
type Service struct {
	c      Config
	hourly *limit.Buckets[envelope.AccountID]
	daily  *limit.Buckets[envelope.AccountID]
	rates  []*limit.Buckets[int] // one for each of Config.Hosts

	keyless warned
}

// New checks the configuration; it reports every problem.
func New(c Config) (*Service, error) {
	var errs []error
	if c.Intake == nil {
		errs = append(errs, errors.New("submit: Intake is required"))
	}
	if c.Senders == nil {
		errs = append(errs, errors.New("submit: Senders is required"))
	}
	if c.PerHour < 0 || c.PerDay < 0 {
		errs = append(errs, errors.New("submit: a limit is negative"))
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{c: c}
	var err error
	if s.hourly, err = limit.NewBuckets[envelope.AccountID](limit.PerHour(c.PerHour), 0); err != nil {
		errs = append(errs, fmt.Errorf("submit: hourly limit: %w", err))
	}
	if s.daily, err = limit.NewBuckets[envelope.AccountID](perDay(c.PerDay), 0); err != nil {
		errs = append(errs, fmt.Errorf("submit: daily limit: %w", err))
	}
	for i, h := range c.Hosts {
		if len(h.From) == 0 || len(h.Addresses)+len(h.Domains) == 0 {
			errs = append(errs, fmt.Errorf("submit: host %d needs networks, and addresses or domains that it may use", i+1))
		}
		if h.PerHour == 0 {
			h.PerHour = defaultHostPerHour
		}
		rate, err := limit.NewBuckets[int](limit.PerHour(h.PerHour), 1)
		if err != nil {
			errs = append(errs, fmt.Errorf("submit: hourly limit of host %d: %w", i+1, err))
		}
		s.rates = append(s.rates, rate)
	}
	return s, errors.Join(errs...)
}

// perDay is the rate of n events a day, all of which may come at once.
func perDay(n int) limit.Rate {
	r := limit.PerHour(n)
	r.Every *= 24
	return r
}

// sender is who submits: an account, or a device.
type sender struct {
	account envelope.AccountID
	login   string
	host    int // index into Config.Hosts, -1 for an account
}

// Begin answers MAIL: 530 5.7.0 for who has not authenticated and is no named
// device, 421 4.7.0 for an account that was disabled or got another password
// since it logged in, 550 5.7.1 for a reverse-path that is not the sender's.
func (s *Service) Begin(ctx context.Context, session *smtpserver.Session, env envelope.Envelope) (smtpserver.Transaction, error) {
	who, err := s.identify(session)
	if err != nil {
		return nil, err
	}
	if who.account != 0 {
		ok, err := s.c.Senders.Stands(ctx, session.Identity)
		if err != nil {
			return nil, fmt.Errorf("judge account %s: %w", who.login, err)
		}
		if !ok { // whoever stole a password must not go on after it was changed
			return nil, intake.Refuse(421, 7, 0, "Your account has changed since you logged in; connect and log in again", nil)
		}
	}
	if !env.ReversePath.IsNull() {
		if err := s.mayUse(ctx, who, env.ReversePath.Address(), "reverse-path"); err != nil {
			return nil, err
		}
	}
	if err := s.c.Intake.CheckVERP(ctx, &env); err != nil {
		return nil, err
	}
	rules := intake.Rules{
		Relay:      relayable,
		Count:      func(_ context.Context, _ envelope.Recipient) error { return s.count(who) },
		Judge:      func(ctx context.Context, d *intake.Draft) error { return s.judge(ctx, who, d) },
		HideClient: !s.c.ShowClient,
		StripBcc:   true,
		Ours:       true,
		Sign:       func(ctx context.Context, d *intake.Draft) (intake.Signing, error) { return s.sign(ctx, who, d) },
	}
	if who.account != 0 { // a device is not told apart from others that send the same
		rules.Repeats = s.c.Repeats
	}
	if s.c.Inspector != nil {
		rules.Inspect = s.c.Inspector.Inspect
	}
	t, err := s.c.Intake.Begin(env, rules)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// identify finds out who submits.
func (s *Service) identify(session *smtpserver.Session) (sender, error) {
	if id := session.Identity; id.Account != 0 {
		return sender{account: id.Account, login: id.Login, host: -1}, nil
	}
	if i := s.hostOf(session.Origin.Peer.Addr().Unmap()); i >= 0 {
		return sender{host: i}, nil
	}
	return sender{}, intake.Refuse(530, 7, 0, "Authentication required", nil)
}

// Takes reports whether a transaction that reached port 25 is a submission: the
// session has authenticated, or it comes from a named device whose reverse-path
// is one of the device's own. Other mail from a device's network is a stranger's.
func (s *Service) Takes(session *smtpserver.Session, env envelope.Envelope) bool {
	if session.Identity.Account != 0 {
		return true
	}
	i := s.hostOf(session.Origin.Peer.Addr().Unmap())
	return i >= 0 && !env.ReversePath.IsNull() && s.c.Hosts[i].owns(env.ReversePath.Address())
}

// hostOf returns the device of an address, -1 when there is none. The longest
// prefix wins.
func (s *Service) hostOf(peer netip.Addr) int {
	found, bits := -1, -1
	for i, h := range s.c.Hosts {
		for _, p := range h.From {
			if peer.IsValid() && p.Contains(peer) && p.Bits() > bits {
				found, bits = i, p.Bits()
			}
		}
	}
	return found
}

// mayUse judges an address that the sender uses as what.
func (s *Service) mayUse(ctx context.Context, who sender, a address.Address, what string) error {
	if who.host >= 0 {
		if s.c.Hosts[who.host].owns(a) {
			return nil
		}
		return intake.Refuse(550, 7, 1, fmt.Sprintf("%s is not allowed in the %s for this host; its administrator can add it under [submission] host", a.Unicode(), what), nil)
	}
	ok, err := s.c.Senders.MaySend(ctx, who.account, a)
	if err != nil {
		return fmt.Errorf("look up whether %s may send as %s: %w", who.login, a, err)
	}
	if ok {
		return nil
	}
	return intake.Refuse(550, 7, 1, fmt.Sprintf("%s in the %s does not belong to the account %s; send from an address of your own, or have it granted (poczta account send-as)", a.Unicode(), what, who.login), nil)
}

func (h *Host) owns(a address.Address) bool {
	for _, d := range h.Domains {
		if a.Domain() == d {
			return true
		}
	}
	for _, own := range h.Addresses {
		if own.Key() == a.Key() {
			return true
		}
	}
	return false
}

// count takes one recipient from the sender's limits.
func (s *Service) count(who sender) error {
	now := s.c.Intake.Now()
	if who.host >= 0 {
		if s.rates[who.host].Allow(0, now) {
			return nil
		}
		return intake.Refuse(450, 7, 1, "This host has written to too many recipients in an hour; try again later", nil)
	}
	if s.c.PerHour > 0 && !s.hourly.Allow(who.account, now) {
		return intake.Refuse(450, 7, 1, fmt.Sprintf("Too many recipients: %d an hour are allowed; try again later", s.c.PerHour), nil)
	}
	if s.c.PerDay > 0 && !s.daily.Allow(who.account, now) {
		if s.c.PerHour > 0 {
			s.hourly.Refund(who.account, now)
		}
		return intake.Refuse(450, 7, 1, fmt.Sprintf("Too many recipients: %d a day are allowed; try again later", s.c.PerDay), nil)
	}
	return nil
}

var _ smtpserver.Service = (*Service)(nil)
