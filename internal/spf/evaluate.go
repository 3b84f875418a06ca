package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"poczta.example/poczta/internal/resolver"
)

// evaluation is one check under way.
type evaluation struct {
	cfg          *Config
	ip           netip.Addr
	helo         string
	local        string // of the sender
	senderDomain string
	receiver     string
	top          string // the domain whose record is asked first

	lookups, voids int
	ptr            []string // names that lead back to ip, once asked for
	ptrAsked       bool
}

// outcome is what a record says of the host.
type outcome struct {
	status    Status
	mechanism string
	record    *Record // in which that stands
	domain    string  // whose record it is
}

// failure is an error that ends the whole check.
type failure struct {
	status Status // TempError or PermError
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func permanent(format string, args ...any) error {
	return &failure{PermError, fmt.Errorf(format, args...)}
}

func temporary(err error) error { return &failure{TempError, err} }

func statusOf(err error) Status {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.status
	}
	return TempError
}

// errNowhere says that a target-name is none that DNS could hold: its term does not match.
var errNowhere = errors.New("the domain it leads to is malformed")

// checkHost evaluates domain's record (RFC 7208 §4). The depth of recursion is bounded by the
// look-ups.
func (e *evaluation) checkHost(ctx context.Context, domain string) (outcome, error) {
	rec, err := e.fetch(ctx, domain)
	if err != nil || rec == nil {
		return outcome{status: None}, err
	}
	for i := range rec.terms {
		t := &rec.terms[i]
		matched, mechanism, err := e.match(ctx, t, domain)
		if err != nil {
			return outcome{}, err
		}
		if matched {
			if mechanism == "" || t.result != Pass {
				mechanism = e.label(t.text, domain)
			}
			return outcome{t.result, mechanism, rec, domain}, nil
		}
	}
	if rec.redirect == "" {
		return outcome{Neutral, "default", rec, domain}, nil // RFC 7208 §4.7
	}
	return e.follow(ctx, rec.redirect, domain)
}

// follow goes where a redirect leads (RFC 7208 §6.1).
func (e *evaluation) follow(ctx context.Context, spec, domain string) (outcome, error) {
	if err := e.count(); err != nil {
		return outcome{}, err
	}
	target, err := e.target(ctx, spec, domain)
	if errors.Is(err, errNowhere) {
		return outcome{}, permanent("the SPF record of %s redirects: %w", printable(domain), err)
	}
	if err != nil {
		return outcome{}, err
	}
	out, err := e.checkHost(ctx, target)
	if err == nil && out.status == None {
		err = permanent("the SPF record of %s redirects to %s, which has none", printable(domain), printable(target))
	}
	return out, err
}

// label writes a term for people.
func (e *evaluation) label(text, domain string) string {
	text = clip(text, maxMechanismOctets)
	if domain == e.top {
		return text
	}
	return text + " of " + printable(domain)
}

// match tells whether a term matches (RFC 7208 §5), and for include which term did.
func (e *evaluation) match(ctx context.Context, t *term, domain string) (bool, string, error) {
	switch t.kind {
	case kindAll:
		return true, "", nil
	case kindIP4, kindIP6:
		return t.prefix.Contains(e.ip), "", nil
	}
	if err := e.count(); err != nil {
		return false, "", err
	}
	target, err := domain, error(nil)
	if t.domain != "" {
		target, err = e.target(ctx, t.domain, domain)
	}
	if t.kind == kindInclude {
		return e.include(ctx, target, domain, err)
	}
	if errors.Is(err, errNowhere) {
		return false, "", nil // RFC 7208 §4.8 leaves it open
	}
	if err != nil {
		return false, "", err
	}
	var matched bool
	switch t.kind {
	case kindA:
		matched, err = e.matchAddr(ctx, target, t, true)
	case kindMX:
		matched, err = e.matchMX(ctx, target, t)
	case kindPTR:
		matched, err = e.matchPTR(ctx, target)
	case kindExists:
		var answer []resolver.Record
		answer, err = e.ask(ctx, target, resolver.A, true) // also for IPv6 (RFC 7208 §5.7)
		matched = len(answer) > 0
	}
	return matched, "", err
}

// include evaluates another domain's record (RFC 7208 §5.2).
func (e *evaluation) include(ctx context.Context, target, domain string, err error) (bool, string, error) {
	if errors.Is(err, errNowhere) {
		return false, "", permanent("the SPF record of %s includes another: %w", printable(domain), err)
	}
	if err != nil {
		return false, "", err
	}
	out, err := e.checkHost(ctx, target)
	if err != nil {
		return false, "", err
	}
	if out.status == None {
		return false, "", permanent("the SPF record of %s includes that of %s, which has none", printable(domain), printable(target))
	}
	return out.status == Pass, out.mechanism, nil
}

// matchAddr looks for the host among a name's addresses, of its own family alone (RFC 7208 §5).
func (e *evaluation) matchAddr(ctx context.Context, name string, t *term, void bool) (bool, error) {
	family, bits := resolver.A, int(t.bits4)
	if e.ip.Is6() {
		family, bits = resolver.AAAA, int(t.bits6)
	}
	answer, err := e.ask(ctx, name, family, void)
	if err != nil {
		return false, err
	}
	for _, r := range answer {
		if r.Addr.BitLen() != e.ip.BitLen() {
			continue
		}
		if p, err := r.Addr.Prefix(bits); err == nil && p.Contains(e.ip) {
			return true, nil
		}
	}
	return false, nil
}

// matchMX looks for the host among a domain's mail hosts (RFC 7208 §5.4).
func (e *evaluation) matchMX(ctx context.Context, name string, t *term) (bool, error) {
	answer, err := e.ask(ctx, name, resolver.MX, true)
	if err != nil {
		return false, err
	}
	if len(answer) > MaxNames {
		return false, permanent("%s has %d MX records; SPF allows %d", printable(name), len(answer), MaxNames) // RFC 7208 §4.6.4
	}
	for _, r := range answer {
		if !isHost(r.Host) {
			continue
		}
		if ok, err := e.matchAddr(ctx, r.Host, t, false); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// matchPTR looks for a name of the host at or below target (RFC 7208 §5.5).
func (e *evaluation) matchPTR(ctx context.Context, target string) (bool, error) {
	names, err := e.names(ctx)
	if err != nil {
		return false, err
	}
	for _, n := range names {
		if within(n, target) {
			return true, nil
		}
	}
	return false, nil
}

// isHost reports whether what an answer leads to could be a host; DNS escapes odd octets.
func isHost(name string) bool { return wellFormed(name) && strings.IndexByte(name, '\\') < 0 }

// within reports whether name is domain or below it.
func within(name, domain string) bool {
	if len(name) == len(domain) {
		return strings.EqualFold(name, domain)
	}
	cut := len(name) - len(domain)
	return cut > 0 && name[cut-1] == '.' && strings.EqualFold(name[cut:], domain)
}

// names are the reverse names of the host that lead back to it (RFC 7208 §5.5), asked for once.
// An error of DNS is no name; the error returned is that of too many voids.
func (e *evaluation) names(ctx context.Context) ([]string, error) {
	if e.ptrAsked {
		return e.ptr, nil
	}
	e.ptrAsked = true
	answer, err := e.ask(ctx, resolver.ReverseName(e.ip), resolver.PTR, true)
	if statusOf(err) == PermError && err != nil {
		return nil, err
	}
	whole := &term{bits4: 32, bits6: 128}
	for _, r := range answer[:min(len(answer), MaxNames)] {
		if !isHost(r.Host) {
			continue
		}
		if ok, err := e.matchAddr(ctx, r.Host, whole, false); ok && err == nil {
			e.ptr = append(e.ptr, r.Host)
		}
	}
	return e.ptr, nil
}

// validatedName is the macro %{p}: domain itself, else a name below it, else any (RFC 7208 §7.3).
func (e *evaluation) validatedName(ctx context.Context, domain string) (string, error) {
	if !e.ptrAsked {
		if err := e.count(); err != nil {
			return "", err
		}
	}
	names, err := e.names(ctx)
	if err != nil {
		return "", err
	}
	best := "unknown"
	for i, n := range names {
		switch {
		case strings.EqualFold(n, domain):
			return n, nil
		case within(n, domain) && !within(best, domain), i == 0:
			best = n
		}
	}
	return best, nil
}

// explain fetches and expands the explanation of a Fail (RFC 7208 §6.2). Whatever is wrong
// with it, there is none.
func (e *evaluation) explain(ctx context.Context, out outcome) string {
	name, err := e.target(ctx, out.record.exp, out.domain)
	if err != nil {
		return ""
	}
	answer, err := e.ask(ctx, name, resolver.TXT, false)
	if err != nil || len(answer) != 1 {
		return ""
	}
	text := answer[0].Text
	if len(text) > maxTextRecordOctets || checkMacros(strings.ReplaceAll(text, " ", "_"), true) != nil {
		return ""
	}
	text, err = e.expand(ctx, text, out.domain, true, false)
	if err != nil || printable(text) != text {
		return ""
	}
	return clip(text, MaxExplanation)
}
