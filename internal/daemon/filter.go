package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/attachment"
	"poczta.example/poczta/internal/clamd"
	"poczta.example/poczta/internal/config"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/dnslist"
	"poczta.example/poczta/internal/filter"
	"poczta.example/poczta/internal/greeting"
	"poczta.example/poczta/internal/hook"
	"poczta.example/poczta/internal/milter"
	"poczta.example/poczta/internal/obs"
	"poczta.example/poczta/internal/post"
	"poczta.example/poczta/internal/preference"
	"poczta.example/poczta/internal/quarantine"
	"poczta.example/poczta/internal/reputation"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/rspamd"
	"poczta.example/poczta/internal/verdict"
	"poczta.example/poczta/internal/verify"
)

// Filters is the filter of a server, or of a command that explains it, with what works for it.
type Filters struct {
	Filter  *filter.Filter // nil when the configuration turns everything off
	Clamd   *clamd.Client  // nil when there is none, as the others
	Lists   *dnslist.Lists
	Probing *reputation.Probing

	reports *reports // nil outside a server
	runs    []run
	own     localDomain
}

// run is a loop that the server owns.
type run struct {
	name string
	loop func(context.Context) error
}

// NewFilters builds the filter of the configuration, without what only a server does: it counts
// and sends no reports. dns should have a cache.
func NewFilters(r *Rooms, dns resolver.Resolver, metrics *obs.Metrics, log *slog.Logger) (*Filters, error) {
	f := &Filters{}
	c, err := f.config(r, dns, metrics, log)
	if err != nil || c == nil {
		return f, err
	}
	f.Filter, err = filter.New(*c)
	return f, err
}

// newServerFilters builds the filter with its reports and loops.
func newServerFilters(ctx context.Context, r *Rooms, o *outbound, metrics *obs.Metrics, log *slog.Logger) (*Filters, error) {
	f := &Filters{}
	c, err := f.config(r, o.dns, metrics, log)
	if err != nil {
		return nil, err
	}
	f.loop("classifier", r.Classifier.Run)
	f.loop("reputation", r.Reputation.Run)
	f.loop("greylist", r.Greylist.Run)
	f.loop("conduct", r.Conduct.Run)
	f.loop("quarantine", r.Quarantine.Run)
	f.loop("received TLS reports", r.TLSReports.Run)
	if f.Lists != nil {
		f.loop("DNS lists", f.Lists.Run)
	}
	if f.reports, err = newReports(ctx, r, o, metrics, log); err != nil {
		return nil, err
	}
	f.loop("DMARC reports", r.DMARCReports.Run)
	for range reportReaders {
		f.loop("report reader", f.reports.read)
	}
	if c == nil {
		return f, nil
	}
	c.Hooks.Verified = f.reports.verified
	c.Hooks.Arriving = f.reports.arriving
	f.Filter, err = filter.New(*c)
	return f, err
}

func (f *Filters) loop(name string, loop func(context.Context) error) {
	f.runs = append(f.runs, run{name, loop})
}

// config gathers what the filter works with; nil when everything is off.
func (f *Filters) config(r *Rooms, dns resolver.Resolver, metrics *obs.Metrics, log *slog.Logger) (*filter.Config, error) {
	c := r.Config
	host, err := address.ParseDomain(c.Hostname)
	if err != nil {
		return nil, fmt.Errorf("hostname %q: %w", c.Hostname, err)
	}
	fc := &filter.Config{Hostname: host, Preferences: r.Preferences, Trace: r.Trace, NoScore: !c.Spam.Enabled, Settings: settingsOf(&c.Spam),
		SetApart: setApart(r.Quarantine), Hooks: metrics.Filter(), Logger: log}
	f.own = r.localDomain()
	fc.Own = func(ctx context.Context, d address.Domain) bool {
		own, err := f.own(ctx, d)
		return err == nil && own
	}
	fc.Nobody = func(ctx context.Context, a address.Address) bool {
		route, err := r.Accounts.Route(ctx, address.NewForwardPath(a))
		return err == nil && route.Match == account.MatchCatchAll || errors.Is(err, account.ErrUnknownUser)
	}
	if c.Spam.Wish != string(preference.WishJunk) { // which goes by the thresholds
		fc.Wish = preference.Wish(c.Spam.Wish)
	}
	fc.Trusted = config.Prefixes(c.Verify.Trusted)
	if c.Verify.Unavailable == "defer" {
		fc.Unavailable = verdict.Defer
	}
	if c.Verify.Enabled {
		if fc.Verifier, err = f.newVerifier(r, host, dns, metrics, log); err != nil {
			return nil, err
		}
	}
	if err := f.stateful(fc, r, host, dns, metrics); err != nil {
		return nil, err
	}
	if c.Attachments.Enabled {
		if fc.Attachments, err = newInspector(&c.Attachments, metrics); err != nil {
			return nil, err
		}
	}
	if err := f.outside(fc, r, metrics, log); err != nil {
		return nil, err
	}
	if fc.Verifier == nil && fc.NoScore && fc.Conduct == nil && fc.Attachments == nil && fc.Clamd == nil && fc.Rspamd == nil && fc.Milters == nil && fc.Hook == nil {
		return nil, nil
	}
	return fc, nil
}

// settingsOf are the thresholds and weights.
func settingsOf(s *config.Spam) verdict.Settings {
	out := verdict.Settings{Thresholds: verdict.Thresholds{Tag: float64(s.Tag), Junk: float64(s.Junk), Quarantine: float64(s.Quarantine),
		Refuse: float64(s.Refuse), Grey: float64(s.Grey), Second: float64(s.Second)}}
	for _, w := range s.Weights {
		if out.Weights == nil {
			out.Weights = map[verdict.Name]float64{}
		}
		out.Weights[verdict.Name(w.Name)] = float64(w.Points)
	}
	return out
}

// setApart notes copies in the quarantine.
func setApart(room *quarantine.Room) func(*post.Delivery, []filter.SetApart) func(db.Tx) error {
	return func(d *post.Delivery, copies []filter.SetApart) func(tx db.Tx) error {
		notes := make([]quarantine.Note, len(copies))
		for i, c := range copies {
			notes[i] = quarantine.Note{Local: c.Local, Rule: c.Rule, Score: c.Score, Subject: c.Subject}
		}
		return room.Within(d, notes...)
	}
}

// newVerifier builds the verification of senders.
func (f *Filters) newVerifier(r *Rooms, host address.Domain, dns resolver.Resolver, metrics *obs.Metrics, log *slog.Logger) (*verify.Verifier, error) {
	v := &r.Config.Verify
	v2, err := verify.New(verify.Config{Resolver: dns, Hostname: host, DMARC: dmarcMode(v), MinRSABits: v.MinRSABits, AcceptLength: v.AcceptLength,
		TrustedSealers: v.TrustedSealers, Own: f.own, Exceptions: verifyRules(v.Exceptions), Overrides: verifyRules(v.Overrides),
		Timeout: v.Timeout.Duration(), Hooks: metrics.Verify(), Logger: log})
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	return v2, nil
}

// dmarcMode is the standard of DMARC.
func dmarcMode(v *config.Verify) dmarc.Mode {
	if v.DMARC == "rfc7489" {
		return dmarc.RFC7489
	}
	return dmarc.RFC9989
}

func verifyRules(list []config.VerifyRule) []verify.Rule {
	var out []verify.Rule
	for _, l := range list {
		out = append(out, verify.Rule{Name: l.Name, From: l.From, Networks: config.Prefixes(l.Networks), Hosts: l.Hosts,
			ReversePaths: l.ReversePaths, Signers: l.Signers, Lists: l.Lists})
	}
	return out
}

// stateful adds the rooms that remember and those that ask DNS.
func (f *Filters) stateful(fc *filter.Config, r *Rooms, host address.Domain, dns resolver.Resolver, metrics *obs.Metrics) error {
	c := r.Config
	if c.Conduct.Enabled {
		fc.Conduct = r.Conduct
	}
	if c.Spam.Enabled && c.Spam.Reputation || c.Conduct.Enabled { // conduct asks it for strangers
		fc.Reputation = r.Reputation
	}
	if !c.Spam.Enabled {
		return nil
	}
	if c.Spam.Classifier {
		fc.Classifier = r.Classifier
	}
	if c.Spam.Greylist {
		fc.Greylist = r.Greylist
	}
	var err error
	if c.Spam.Probing {
		if f.Probing, err = reputation.NewProbing(reputation.ProbingConfig{}); err != nil {
			return err
		}
		fc.Probing = f.Probing
	}
	fc.Greeting, err = greeting.New(greeting.Config{Resolver: dns, Names: []address.Domain{host}, Addrs: ownAddresses(), Own: f.own})
	if err != nil || len(c.Spam.Lists) == 0 {
		return err
	}
	lists, err := DNSLists(c.Spam.Lists)
	if err != nil {
		return err
	}
	if f.Lists, err = dnslist.New(dnslist.Config{Resolver: dns, Lists: lists, Hooks: metrics.Lists()}); err != nil {
		return fmt.Errorf("spam.list: %w", err)
	}
	fc.Lists = f.Lists
	return nil
}

// DNSLists are the DNS lists of the configuration.
func DNSLists(list []config.SpamList) ([]dnslist.List, error) {
	var out []dnslist.List
	for _, l := range list {
		kind, err := dnslist.ParseKind(l.Kind)
		if err != nil {
			return nil, fmt.Errorf("spam.list %s: %w", l.Zone, err)
		}
		d := dnslist.List{Zone: l.Zone, Kind: kind, Weight: float64(l.Weight), Reason: l.Reason, Test: l.Test, NoTest: l.NoTest}
		for _, a := range l.Answers {
			d.Answers = append(d.Answers, dnslist.Answer{Prefix: a.Network.Prefix, Label: a.Label, Weight: float64(a.Weight), Ignore: a.Ignore})
		}
		out = append(out, d)
	}
	return out, nil
}

// newInspector builds the look at attachments.
func newInspector(c *config.Attachments, metrics *obs.Metrics) (*attachment.Inspector, error) {
	i, err := attachment.New(attachment.Config{Forbidden: extensionsOf(c.Forbidden), Suspicious: extensionsOf(c.Suspicious), Depth: c.Depth,
		Files: c.Files, Unpacked: int64(c.Unpacked), Bomb: bombs(c.Bomb), Hooks: metrics.Attachments()})
	if err != nil {
		return nil, fmt.Errorf("attachments: %w", err)
	}
	return i, nil
}

// bombs is the action of attachments.uninspected.
func bombs(word string) verdict.Action {
	switch word {
	case "quarantine":
		return verdict.Quarantine
	case "refuse":
		return verdict.Refuse
	}
	return verdict.Deliver
}

// extensionsOf are the extensions of a list: nil is the default, not nil and empty is none.
func extensionsOf(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	out := []string{}
	for _, s := range list {
		if s != "-" {
			out = append(out, strings.TrimPrefix(s, "."))
		}
	}
	return out
}

// outside adds the filters that are other programs.
func (f *Filters) outside(fc *filter.Config, r *Rooms, metrics *obs.Metrics, log *slog.Logger) error {
	c := r.Config
	if k := &c.Clamd; k.Address != "" {
		network, target := "tcp", k.Address
		if path, ok := strings.CutPrefix(target, "unix:"); ok {
			network, target = "unix", path
		}
		client, err := clamd.New(clamd.Config{Network: network, Address: target, Scans: k.Scans, Timeout: k.Timeout.Duration(), MaxOctets: int64(k.MaxSize), Hooks: metrics.Clamd()})
		if err != nil {
			return fmt.Errorf("clamd: %w", err)
		}
		f.Clamd = client
		fc.Clamd = &filter.Clamd{Client: client, Use: useOf(k.Incoming, k.Outgoing, k.WhenDown, k.WhenLarge)}
	}
	if s := &c.Rspamd; s.URL != "" {
		client, err := newRspamd(c, metrics, log)
		if err != nil {
			return err
		}
		fc.Rspamd = &filter.Rspamd{Client: client, Use: useOf(s.Incoming, s.Outgoing, s.WhenDown, s.WhenLarge), Scale: float64(s.Scale)}
	}
	for i := range c.Milters {
		m := &c.Milters[i]
		client, err := milter.New(milter.Config{Name: m.Name, Address: m.Address, Hostname: c.Hostname, Daemon: "poczta", Software: "Poczta",
			Connect: m.Connect.Duration(), Reply: m.Reply.Duration(), End: m.End.Duration(), Total: m.Total.Duration(),
			MaxBody: int64(c.SMTP.MaxSize), Spool: spoolIn(c.Data), Logger: log, Hooks: metrics.Milter(m.Name)})
		if err != nil {
			return fmt.Errorf("milter %s: %w", m.Name, err)
		}
		fc.Milters = append(fc.Milters, filter.Milter{Client: client, Use: useOf(m.Incoming, m.Outgoing, m.WhenDown, m.WhenDown)})
	}
	if h := &c.Hook; h.URL != "" {
		client, err := newHook(h, metrics, log)
		if err != nil {
			return err
		}
		fc.Hook = &filter.Hook{Client: client, Use: useOf(h.Incoming, h.Outgoing, h.WhenDown, h.WhenLarge)}
	}
	return nil
}

// useOf says when a filter is asked, and what happens when it can't look.
func useOf(incoming, outgoing bool, down, large string) filter.Use {
	return filter.Use{Incoming: incoming, Outgoing: outgoing, Down: instead(down), Large: instead(large)}
}

// instead is the action of when_down and when_large.
func instead(word string) verdict.Action {
	switch word {
	case "defer":
		return verdict.Defer
	case "quarantine":
		return verdict.Quarantine
	}
	return verdict.Deliver
}

// newRspamd makes the client of Rspamd.
func newRspamd(c *config.Config, metrics *obs.Metrics, log *slog.Logger) (*rspamd.Client, error) {
	s := &c.Rspamd
	rc := rspamd.Config{URL: s.URL, Controller: s.Controller, Hostname: c.Hostname, Obey: s.Obey, Timeout: s.Timeout.Duration(), MaxSize: int64(s.MaxSize),
		Logger: log, Hooks: metrics.Rspamd()}
	var err error
	if s.PasswordFile != "" {
		if rc.Password, err = firstLineOf(s.PasswordFile); err != nil {
			return nil, fmt.Errorf("rspamd.password_file: %w", err)
		}
	}
	client, err := rspamd.New(rc)
	if err != nil {
		return nil, fmt.Errorf("rspamd: %w", err)
	}
	return client, nil
}

// newHook makes the client of the HTTP hook.
func newHook(h *config.Hook, metrics *obs.Metrics, log *slog.Logger) (*hook.Client, error) {
	sends := []string{"facts", "header", "message"} // in the order of hook.Send
	hc := hook.Config{Name: "hook", URL: h.URL, Send: hook.Send(max(0, slices.Index(sends, h.Send))), Timeout: h.Timeout.Duration(), MaxSize: int64(h.MaxSize),
		Logger: log, Hooks: metrics.Hook()}
	if h.SecretFile != "" {
		secret, err := firstLineOf(h.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("hook.secret_file: %w", err)
		}
		hc.Secret = []byte(secret)
	}
	client, err := hook.New(hc)
	if err != nil {
		return nil, fmt.Errorf("hook: %w", err)
	}
	return client, nil
}

// spoolIn makes files for bodies that milters write anew. A file has no name any more when it is
// handed out, and goes when nobody holds it.
func spoolIn(folder string) func(context.Context) (milter.Spool, error) {
	return func(context.Context) (milter.Spool, error) {
		f, err := os.CreateTemp(folder, "milter-*")
		if err != nil {
			return nil, fmt.Errorf("spool body: %w", err)
		}
		if err := os.Remove(f.Name()); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("spool body: %w", err)
		}
		return f, nil // an os.File that nobody holds is closed by the runtime
	}
}
