// Package verify finds out who sends a message: the host's name (iprev), SPF for both identities,
// DKIM, ARC, DMARC, and whether somebody outside uses our own domains. It returns what it found
// as values and as evidence (verdict.Item), and decides nothing.
//
// What can begin before the body has come does: the host's name and SPF, and the keys of signatures,
// are looked up beside it. The body is read once for all signatures.
package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/arc"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/dmarc"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/spf"
)

// Message is what is known of a message before its body comes.
type Message struct {
	// Origin says who delivers it. Without a valid Peer there is no iprev and no SPF. A PeerName
	// counts as verified and is not looked up again. With an Account the message is one of our own
	// people's, and its From is not held against Config.Own.
	Origin      envelope.Origin
	ReversePath address.ReversePath
	Recipients  []envelope.Recipient // for Report.Direct; nil knows none
	// Header is the header section as it came, before any edit, without the empty line. It must not change
	// until Results or Abort.
	Header []byte
}

// Config is what a Verifier needs. Resolver and Hostname are required.
type Config struct {
	Resolver resolver.Resolver // put a cache before it
	Hostname address.Domain    // our authserv-id, and %{r} of SPF

	DMARC dmarc.Mode
	// MinRSABits is the shortest RSA key whose signature counts; 0 is 1024, the least (RFC 8301 §3.2).
	MinRSABits int
	// AcceptLength lets DKIM signatures count that leave out a part of the body (l=); otherwise
	// they are 'policy' as soon as there is such a part, since anybody may have added it.
	AcceptLength bool
	// MaxSignatures is how many DKIM signatures are checked, from the top; 0 is 10.
	MaxSignatures int

	// TrustedSealers are the domains whose word on the sender is believed when they seal last (ARC):
	// "example.com", or ".example.com" for what is below it.
	TrustedSealers []string
	// Own reports whether a domain is one of ours, whose use in From by strangers needs a proof. Nil:
	// none is. An error counts as DNS that does not answer. Safe for concurrent use.
	Own func(ctx context.Context, d address.Domain) (bool, error)
	// Exceptions may use our domains without a proof: services that send in our name. Each needs a
	// Networks, Hosts, ReversePaths or Signers.
	Exceptions []Rule
	// Overrides keep DMARC policies from being applied.
	Overrides []Rule

	// Timeout bounds all look-ups beside the body, and those after it once more; 0 is 20 s.
	Timeout time.Duration
	Hooks   Hooks
	Logger  *slog.Logger     // nil discards
	Now     func() time.Time // nil is time.Now
}

// Hooks are called, where set, while a Verifier works. They must return at once.
type Hooks struct {
	Result func(method, result string) // "iprev", "spf", "dkim", "dmarc" or "arc", with its word of Authentication-Results
	Waited func(d time.Duration)       // how long Results took, behind the end of the body
}

// Verifier verifies messages. Safe for concurrent use.
type Verifier struct {
	c     Config
	spf   *spf.Checker
	dkim  *dkim.Verifier
	arc   *arc.Validator
	dmarc *dmarc.Evaluator
}

// New checks the configuration, with all its faults in one error, and fills in defaults.
func New(c Config) (*Verifier, error) {
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Resolver == nil {
		return nil, errors.New("verify: Resolver is required")
	}
	v := &Verifier{c: c}
	var faults [4]error
	v.spf, faults[0] = spf.New(spf.Config{Resolver: c.Resolver, Timeout: c.Timeout, Now: c.Now})
	v.dkim, faults[1] = dkim.NewVerifier(dkim.VerifierConfig{Records: keyRecords{c.Resolver}, MaxSignatures: c.MaxSignatures, MinRSABits: c.MinRSABits, RefusePartial: !c.AcceptLength})
	v.dmarc, faults[2] = dmarc.New(dmarc.Config{Records: dmarc.FromResolver(c.Resolver), Mode: c.DMARC})
	if v.dkim != nil {
		v.arc, faults[3] = arc.New(arc.Config{Keys: v.dkim, MinRSABits: c.MinRSABits})
	}
	return v, errors.Join(append(faults[:], c.check())...)
}

// check looks at what is not handed on to other packages.
func (c *Config) check() error {
	var faults []error
	if c.Hostname.IsZero() {
		faults = append(faults, errors.New("verify: Hostname is required"))
	}
	if c.Timeout < 0 {
		faults = append(faults, errors.New("verify: Timeout is negative"))
	}
	for _, s := range c.TrustedSealers {
		if _, err := address.ParseDomain(strings.TrimPrefix(s, ".")); err != nil {
			faults = append(faults, fmt.Errorf("verify: trusted sealer %q is no domain", s))
		}
	}
	for _, r := range c.Exceptions {
		if err := r.check(); err != nil {
			faults = append(faults, err)
		} else if !r.hard() {
			faults = append(faults, fmt.Errorf("verify: exception %q would let anybody use our domains: name networks, hosts, reverse-paths or signers", r.Name))
		}
	}
	for _, r := range c.Overrides {
		if err := r.check(); err != nil {
			faults = append(faults, err)
		} else if len(r.Lists) > 0 && !r.hard() {
			faults = append(faults, fmt.Errorf("verify: override %q rests on List-Id, which anybody can write: name networks, hosts, reverse-paths or signers too", r.Name))
		}
	}
	return errors.Join(faults...)
}

// keyRecords finds key records through a resolver.
type keyRecords struct{ r resolver.Resolver }

// TXT implements dkim.Records.
func (k keyRecords) TXT(ctx context.Context, name string) ([]string, error) {
	ans, err := k.r.Lookup(ctx, name, resolver.TXT)
	if errors.Is(err, resolver.ErrNotFound) || errors.Is(err, resolver.ErrName) {
		return nil, fmt.Errorf("%w: %s", dkim.ErrNoKey, name)
	}
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(ans.Records))
	for _, rec := range ans.Records {
		out = append(out, rec.Text)
	}
	return out, nil
}

// Verification is one message being verified. It is an io.Writer for the body, the octets behind the
// empty line. Used by one goroutine; ended by Results or Abort, one of which must be called.
type Verification struct {
	v      *Verifier
	m      *dkim.Message
	dkim   *dkim.Verification
	arc    *arc.Validation
	report *Report
	header []byte
	to     []envelope.Recipient
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Begin starts to verify a message. Three goroutines at most, and those that look up the keys of
// several signatures, work beside the body; they end when ctx does, at Config.Timeout, and in any
// case before Results or Abort returns.
func (v *Verifier) Begin(ctx context.Context, m Message) *Verification {
	ctx, cancel := context.WithTimeout(ctx, v.c.Timeout)
	c := &Verification{v: v, m: dkim.NewMessage(m.Header), cancel: cancel, report: newReport(v, m), header: m.Header, to: m.Recipients}
	c.report.readAuthors(c.m.Fields())
	c.report.readLists(c.m.Fields())
	c.dkim = v.dkim.BeginMessage(c.m)
	c.arc = v.arc.BeginMessage(c.m)
	r := c.report
	if r.Peer.IsValid() {
		c.wg.Go(func() {
			r.IPRev = v.reverse(ctx, m.Origin)
			for _, a := range r.Authors[:min(len(r.Authors), maxAuthors)] { // so that it is in the cache
				_, _ = v.c.Resolver.Lookup(ctx, "_dmarc."+a.Domain.String(), resolver.TXT)
			}
		})
		c.wg.Go(func() { v.askSPF(ctx, r) })
	}
	if n, _ := c.dkim.Signatures(); n > 0 || c.arc.Whole() {
		c.wg.Go(func() {
			c.dkim.LookUp(ctx)
			c.arc.LookUp(ctx)
		})
	}
	return c
}

// Write takes the next octets of the body; it never fails.
func (c *Verification) Write(p []byte) (int, error) { return c.m.Write(p) }

// Abort ends a verification whose message does not come. It waits for the goroutines, which end at
// once. After Results it does nothing.
func (c *Verification) Abort() {
	c.cancel()
	c.wg.Wait()
}

// Results ends the body and says what was found. It waits for look-ups, until ctx ends or at most twice
// Config.Timeout; what is not known by then is a temporary error. It is called once. The Report is the
// caller's.
func (c *Verification) Results(ctx context.Context) *Report {
	began := c.v.c.Now()
	stop := context.AfterFunc(ctx, c.cancel)
	c.wg.Wait()
	stop()
	c.cancel()
	ctx, cancel := context.WithTimeout(ctx, c.v.c.Timeout)
	defer cancel()
	r := c.report
	r.DKIM = c.dkim.Results(ctx, began)
	_, r.IgnoredSignatures = c.dkim.Signatures()
	r.ARC = c.arc.Results(ctx, began)
	c.v.judge(ctx, r)
	r.Direct = r.direct(c.header, c.to, began)
	c.v.observe(ctx, r)
	if c.v.c.Hooks.Waited != nil {
		c.v.c.Hooks.Waited(c.v.c.Now().Sub(began))
	}
	return r
}

// observe tells the hooks and the log.
func (v *Verifier) observe(ctx context.Context, r *Report) {
	if v.c.Hooks.Result != nil {
		for _, res := range r.Field().Results {
			v.c.Hooks.Result(res.Method, res.Value)
		}
	}
	if !v.c.Logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	v.c.Logger.DebugContext(ctx, "message verified", "conn_id", r.origin.ConnID, "peer", r.Peer, "reverse_path", r.reversePath.String(), "spf", r.MailFrom.Status.String(),
		"dmarc", r.DMARC.Status.String(), "arc", r.ARC.Status.String(), "from", r.From.String())
}

// reverse finds the host's verified name (RFC 8601 §2.7.3).
func (v *Verifier) reverse(ctx context.Context, o envelope.Origin) IPRev {
	if o.PeerName != "" {
		return IPRev{Status: IPRevPass, Name: o.PeerName}
	}
	name, err := resolver.VerifiedReverse(ctx, v.c.Resolver, o.Peer.Addr().Unmap())
	switch {
	case err == nil:
		return IPRev{Status: IPRevPass, Name: name}
	case !errors.Is(err, resolver.ErrNotFound):
		return IPRev{Status: IPRevTempError, Err: err}
	}
	if _, none := errors.AsType[*resolver.Absent](err); none {
		return IPRev{Status: IPRevPermError, Err: err}
	}
	return IPRev{Status: IPRevFail, Err: err}
}

// askSPF checks both identities (RFC 7208 §2.3, §2.4). With a null reverse-path they are one.
func (v *Verifier) askSPF(ctx context.Context, r *Report) {
	q := spf.Request{IP: r.Peer, Helo: r.origin.Helo, Receiver: v.c.Hostname.String()}
	if !r.helo.IsZero() {
		q.Domain = r.helo.String()
		q.Sender = "postmaster@" + q.Domain
		r.HELO = v.spf.Check(ctx, q)
	}
	switch a := r.reversePath.Address(); {
	case r.reversePath.IsNull():
		r.MailFrom = r.HELO
	case !a.Domain().IsLiteral():
		q.Domain, q.Sender = a.Domain().String(), a.String()
		r.MailFrom = v.spf.Check(ctx, q)
	}
}
