package dmarc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/net/publicsuffix"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
)

// Mode is the standard that is followed.
type Mode uint8

// The modes.
const (
	RFC9989 Mode = iota // tree walk, np, t
	RFC7489             // public suffix list, pct
)

// Status is what an evaluation comes to, in the words of RFC 8601 §2.7.
type Status uint8

// The statuses.
const (
	None      Status = iota // the domain publishes no policy
	Pass                    // SPF or DKIM proves the domain in From
	Fail                    // nothing proves it
	TempError               // DNS did not answer
	PermError               // the policy record can't be used
)

var statusNames = [...]string{"none", "pass", "fail", "temperror", "permerror"}

// String is the status' word in Authentication-Results.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// Proof is an identifier that SPF or DKIM has looked at.
type Proof struct {
	Domain   address.Domain
	Pass     bool   // others prove nothing
	Selector string // of DKIM; for reports
	// TempError: DNS did not answer, so that it might have passed. A message that nothing else proves is
	// then neither pass nor fail, if the domain is aligned (RFC 9989 §5.3.6).
	TempError bool
}

// Proofs are the identifiers of a message.
type Proofs struct {
	SPF  []Proof // MAIL FROM's domain; HELO's when the reverse-path is null (RFC 9989 §4.4.2)
	DKIM []Proof // the signing domain of each signature
}

// Result is what an evaluation came to.
type Result struct {
	Status Status
	// Policy is what the owner asks for a message of this From that nothing proves: p, sp or np.
	// np is looked at when the message fails only, as it costs another question.
	Policy Policy
	// Applied is the policy to act by: PolicyNone unless Status is Fail; one level below Policy when
	// the owner is testing (t=y), or when the message is not among pct.
	Applied Policy

	Record       *Record        // nil when there is none that can be used
	PolicyDomain address.Domain // where Record was found
	// OrgDomain is the organizational domain of From's, where it had to be found out; else zero.
	OrgDomain   address.Domain
	AlignedSPF  bool
	AlignedDKIM bool
	Subdomain   bool // Record is that of a domain above From's
	NonExistent bool // From's domain is not in DNS
	Testing     bool // Applied is lower than Policy because of t=y
	SampledOut  bool // Applied is lower than Policy because of pct (RFC 7489)

	// Err is why Status is TempError, PermError, or None in spite of records.
	Err error
}

// ErrMany: several policy records stand at one name, so that none counts.
var ErrMany = errors.New("several DMARC records stand at one name")

// Config is what an Evaluator needs. Records is required.
type Config struct {
	Records Records
	Mode    Mode
	// Suffixes returns the public suffix of a domain, for RFC7489; nil is the list that is built in.
	Suffixes func(domain string) string
	// Rand returns a number from 0 to 99, for pct; nil is a random one. Safe for concurrent use.
	Rand func() int
}

// Evaluator evaluates messages. Safe for concurrent use.
type Evaluator struct{ cfg Config }

// New makes an Evaluator.
func New(c Config) (*Evaluator, error) {
	if c.Records == nil {
		return nil, errors.New("dmarc: Records is needed")
	}
	if c.Mode > RFC7489 {
		return nil, fmt.Errorf("dmarc: unknown mode %d", c.Mode)
	}
	if c.Suffixes == nil {
		c.Suffixes = func(domain string) string {
			s, _ := publicsuffix.PublicSuffix(domain)
			return s
		}
	}
	if c.Rand == nil {
		c.Rand = func() int { return rand.IntN(100) }
	}
	return &Evaluator{cfg: c}, nil
}

// Evaluate looks up the policy for a message whose From has the domain from, and says whether a
// proof is aligned with it (RFC 9989 §5.3). It asks DNS one question when From's domain
// has a record and proofs are of that domain; at most eight for each domain whose
// organizational domain matters, and one for np. It returns soon after ctx ends.
func (e *Evaluator) Evaluate(ctx context.Context, from address.Domain, proofs Proofs) Result {
	if from.IsZero() || from.IsLiteral() {
		return Result{}
	}
	w := newWalker(e.cfg.Records)
	r := e.discover(ctx, w, from.String())
	if r.Record == nil {
		return r
	}
	a := alignment{e: e, w: w, author: from.String(), org: r.OrgDomain.String()}
	var errSPF, errDKIM error
	r.AlignedSPF, errSPF = a.any(ctx, proofs.SPF, r.Record.StrictSPF, passed)
	r.AlignedDKIM, errDKIM = a.any(ctx, proofs.DKIM, r.Record.StrictDKIM, passed)
	if r.OrgDomain.IsZero() && a.org != "" {
		r.OrgDomain = toDomain(a.org)
	}
	r.Policy = r.Record.Policy
	if r.Subdomain {
		r.Policy = r.Record.Subdomain
	}
	if r.AlignedSPF || r.AlignedDKIM {
		r.Status = Pass
		return r
	}
	err := errors.Join(errSPF, errDKIM)
	if err == nil {
		err = a.unknown(ctx, proofs, r.Record)
	}
	if err != nil {
		r.Status, r.Err = TempError, err
		return r
	}
	return e.fail(ctx, w, from.String(), r)
}

func passed(p Proof) bool  { return p.Pass }
func unknown(p Proof) bool { return p.TempError && !p.Pass }

// errUnknown: an aligned identifier might have passed.
var errUnknown = errors.New("DNS did not answer about an identifier of the domain in From")

// unknown is the error of a message that might have passed.
func (a *alignment) unknown(ctx context.Context, proofs Proofs, r *Record) error {
	spf, errSPF := a.any(ctx, proofs.SPF, r.StrictSPF, unknown)
	dkim, errDKIM := a.any(ctx, proofs.DKIM, r.StrictDKIM, unknown)
	if spf || dkim {
		return errUnknown
	}
	return errors.Join(errSPF, errDKIM)
}

// fail completes the result of a message that nothing proves.
func (e *Evaluator) fail(ctx context.Context, w *walker, from string, r Result) Result {
	if r.Subdomain && e.cfg.Mode == RFC9989 && r.Record.NonExistent != r.Record.Subdomain {
		exists, err := e.exists(ctx, w, from)
		if err != nil {
			r.Status, r.Err = TempError, err
			return r
		}
		if !exists {
			r.NonExistent, r.Policy = true, r.Record.NonExistent
		}
	}
	r.Status, r.Applied = Fail, r.Policy
	if r.Policy == PolicyNone {
		return r
	}
	switch {
	case e.cfg.Mode == RFC9989 && r.Record.Testing: // RFC 9989 §4.7
		r.Testing, r.Applied = true, r.Policy.below()
	case e.cfg.Mode == RFC7489 && e.cfg.Rand() >= r.Record.Percent: // RFC 7489 §6.6.4
		r.SampledOut, r.Applied = true, r.Policy.below()
	}
	return r
}

// exists asks whether a domain is in DNS at all (RFC 9989 §3.2.13). The error is temporary.
func (e *Evaluator) exists(ctx context.Context, w *walker, domain string) (bool, error) {
	if w.memo[domain].exists {
		return true, nil
	}
	_, err := e.cfg.Records.TXT(ctx, domain)
	switch {
	case err == nil, errors.Is(err, resolver.ErrNoRecords):
		return true, nil
	case errors.Is(err, resolver.ErrNotFound), errors.Is(err, resolver.ErrName):
		return false, nil
	}
	return false, fmt.Errorf("look up %s: %w", domain, err)
}

// discover finds the record that applies (RFC 9989 §4.10.1, RFC 7489 §6.6.3).
func (e *Evaluator) discover(ctx context.Context, w *walker, author string) Result {
	own, err := w.at(ctx, author)
	if err != nil {
		return Result{Status: TempError, Err: err}
	}
	r := Result{Record: own.record, PolicyDomain: toDomain(author)}
	if own.record != nil {
		return r
	}
	r.PolicyDomain = address.Domain{}
	switch {
	case own.broken != nil:
		return Result{Status: PermError, PolicyDomain: toDomain(author), Err: own.broken}
	case e.cfg.Mode == RFC7489:
		return e.discoverBySuffix(ctx, w, author, own)
	}
	if own.many {
		r.Err = ErrMany
	}
	steps, err := w.walk(ctx, author)
	if err != nil {
		return Result{Status: TempError, Err: err}
	}
	org := organizational(author, steps)
	r.OrgDomain = toDomain(org)
	for _, s := range steps { // the organizational domain's record, else that of the suffix above it
		if s.domain == org || s.record.PSD == PSDYes {
			r.Record, r.PolicyDomain, r.Subdomain, r.Err = s.record, toDomain(s.domain), true, nil
			break
		}
	}
	return r
}

// discoverBySuffix is discover behind its first question, by RFC 7489 §6.6.3.
func (e *Evaluator) discoverBySuffix(ctx context.Context, w *walker, author string, own found) Result {
	if own.many {
		return Result{Err: ErrMany}
	}
	org := suffixOrganization(author, e.cfg.Suffixes)
	r := Result{OrgDomain: toDomain(org)}
	if org == author {
		return r
	}
	f, err := w.at(ctx, org)
	switch {
	case err != nil:
		return Result{Status: TempError, Err: err}
	case f.broken != nil:
		r.Status, r.PolicyDomain, r.Err = PermError, r.OrgDomain, f.broken
	case f.many:
		r.Err = ErrMany
	case f.record != nil:
		r.Record, r.PolicyDomain, r.Subdomain = f.record, r.OrgDomain, true
	}
	return r
}

// ErrNoRecord: a domain itself publishes no record.
var ErrNoRecord = errors.New("the domain publishes no DMARC record")

// Record looks up the record of a domain itself, not that of those above it. The error is
// ErrNoRecord, ErrMany, wraps ErrSyntax, or is temporary.
func (e *Evaluator) Record(ctx context.Context, d address.Domain) (*Record, error) {
	f, err := newWalker(e.cfg.Records).at(ctx, d.String())
	switch {
	case err != nil:
		return nil, err
	case f.broken != nil:
		return nil, f.broken
	case f.many:
		return nil, ErrMany
	case f.record == nil:
		return nil, ErrNoRecord
	}
	return f.record, nil
}

// Mode is the standard that the Evaluator follows.
func (e *Evaluator) Mode() Mode { return e.cfg.Mode }

// Organizational finds a domain's organizational domain (RFC 9989 §4.10.2, RFC 7489 §3.2).
// The error is temporary.
func (e *Evaluator) Organizational(ctx context.Context, d address.Domain) (address.Domain, error) {
	if d.IsZero() || d.IsLiteral() {
		return d, nil
	}
	org, err := e.organization(ctx, newWalker(e.cfg.Records), d.String())
	if err != nil {
		return address.Domain{}, err
	}
	return toDomain(org), nil
}

func (e *Evaluator) organization(ctx context.Context, w *walker, domain string) (string, error) {
	if e.cfg.Mode == RFC7489 {
		return suffixOrganization(domain, e.cfg.Suffixes), nil
	}
	steps, err := w.walk(ctx, domain)
	if err != nil {
		return "", err
	}
	return organizational(domain, steps), nil
}

// alignment compares proofs with the author domain.
type alignment struct {
	e      *Evaluator
	w      *walker
	author string
	org    string // author's organizational domain; "" is not found out yet
}

// any reports whether one of the proofs that count is aligned (RFC 9989 §4.10.2). The error is
// temporary and counts only if none is.
func (a *alignment) any(ctx context.Context, proofs []Proof, strict bool, counts func(Proof) bool) (bool, error) {
	var others []string
	for _, p := range proofs {
		switch d := p.Domain.String(); {
		case !counts(p) || p.Domain.IsZero() || p.Domain.IsLiteral():
		case d == a.author:
			return true, nil
		default:
			others = append(others, d)
		}
	}
	if strict {
		return false, nil
	}
	var failed error
	for _, d := range others {
		ok, err := a.same(ctx, d)
		if ok {
			return true, nil
		}
		failed = errors.Join(failed, err)
	}
	return false, failed
}

// same reports whether the domains have one organizational domain. Without a question it says
// no where the tails of the names rule it out.
func (a *alignment) same(ctx context.Context, domain string) (bool, error) {
	if !shareTop(a.author, domain) {
		return false, nil
	}
	if a.org == "" {
		org, err := a.e.organization(ctx, a.w, a.author)
		if err != nil {
			return false, err
		}
		a.org = org
	}
	if !under(domain, a.org) {
		return false, nil
	}
	if a.w.walks++; a.w.walks > maxWalks {
		return false, nil
	}
	org, err := a.e.organization(ctx, a.w, domain)
	return org == a.org && err == nil, err
}

// shareTop reports whether two names end in the same label.
func shareTop(a, b string) bool { return a[topAt(a):] == b[topAt(b):] }

func topAt(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '.' {
			return i + 1
		}
	}
	return 0
}
