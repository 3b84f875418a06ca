package dnslist

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
)

// Addresses that lists answer with.
var (
	loopback   = netip.MustParsePrefix("127.0.0.0/8")      // a listing (RFC 5782 §2.1)
	refusing   = netip.MustParsePrefix("127.255.255.0/24") // of Spamhaus and others: an error, no listing
	neverGiven = netip.MustParseAddr("127.0.0.1")          // URIBL and SURBL refuse with it; no list lists with it
	overQuota  = netip.MustParseAddr("127.0.0.255")        // of dnswl.org
)

// listing is what one list says of one subject.
type listing struct {
	listed bool
	shown  string
	labels []string
	weight float64
	reason string
}

func (f listing) describe() string {
	if len(f.labels) == 0 {
		return f.shown
	}
	return f.shown + " (" + strings.Join(f.labels, ", ") + ")"
}

// lookUp asks one list about one subject.
func (l *Lists) lookUp(ctx context.Context, li *list, s subject) listing {
	begun := time.Now()
	f := listing{shown: s.shown}
	name := s.entry + "." + li.Zone
	ans, err := l.cfg.Resolver.Lookup(ctx, name, resolver.A)
	out := Failed
	switch {
	case errors.Is(err, resolver.ErrNotFound), errors.Is(err, resolver.ErrName):
		out = Absent
	case err == nil:
		var refused netip.Addr
		out, refused = li.weigh(&f, ans.Records)
		if out == Refused {
			l.refused(li, refused)
		}
	}
	if !errors.Is(ctx.Err(), context.Canceled) { // else it is the asker who had no patience
		l.heard(li, err, out)
	}
	if l.cfg.Hooks.Asked != nil {
		l.cfg.Hooks.Asked(li.Zone, out, time.Since(begun))
	}
	if f.listed = out == Listed; f.listed && li.Reason {
		f.reason = l.reason(ctx, name)
	}
	return f
}

// weigh says what a list's answer means.
func (li *List) weigh(f *listing, records []resolver.Record) (Outcome, netip.Addr) {
	out, inside := Failed, false
	for _, r := range records {
		switch a := r.Addr; {
		case !loopback.Contains(a): // a parked domain, or a name server that makes up answers
			continue
		case refusing.Contains(a), a == neverGiven, a == overQuota && li.Kind == Allow:
			return Refused, a
		case len(li.Answers) == 0:
			out, f.weight = Listed, li.Weight
		case li.matches(f, a):
			out = Listed
		}
		inside = true
	}
	if inside && out == Failed {
		out = Absent // listed for something that does not count here
	}
	return out, netip.Addr{}
}

// matches adds what one address of an answer means.
func (li *List) matches(f *listing, a netip.Addr) bool {
	counts := false
	for _, m := range li.Answers {
		bits := a.As4()[3]&m.Mask != 0
		if !bits && !(m.Prefix.IsValid() && m.Prefix.Contains(a)) {
			continue
		}
		if !m.Ignore {
			counts = true
			weight := m.Weight
			if weight == 0 {
				weight = li.Weight
			}
			f.weight = max(f.weight, weight)
			if m.Label != "" {
				f.labels = append(f.labels, m.Label)
			}
		}
		if !bits {
			break // an address means one thing, its bits many
		}
	}
	return counts
}

// reason is a list's own words on an entry (RFC 5782 §2.1), printable ASCII, or "".
func (l *Lists) reason(ctx context.Context, name string) string {
	ans, err := l.cfg.Resolver.Lookup(ctx, name, resolver.TXT)
	if err != nil || len(ans.Records) == 0 {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, ans.Records[0].Text[:min(len(ans.Records[0].Text), 120)])
}

// heard counts the questions in a row that a list leaves without an answer.
func (l *Lists) heard(li *list, err error, out Outcome) {
	li.mu.Lock()
	if err == nil || out != Failed {
		li.failures = 0
	} else {
		li.failures++
	}
	silent := li.failures >= maxFailures
	li.mu.Unlock()
	if silent && !li.NoTest {
		l.turn(li, fmt.Errorf("%w: %w", ErrSilent, err))
	}
}

// refused tells of a list that does not answer us, and leaves it alone until its test succeeds.
func (l *Lists) refused(li *list, answer netip.Addr) {
	if l.cfg.Hooks.Refused != nil {
		l.cfg.Hooks.Refused(li.Zone, answer)
	}
	if !li.NoTest {
		l.turn(li, fmt.Errorf("%w (%v)", ErrRefused, answer))
	}
}

// entryOf is an address under a list's zone: its octets, or half octets, in reverse (RFC 5782 §2.1, §2.4).
func entryOf(ip netip.Addr) string {
	name := resolver.ReverseName(ip)
	name = strings.TrimSuffix(name, ".in-addr.arpa")
	return strings.TrimSuffix(name, ".ip6.arpa")
}

// public reports whether an address is one of the open Internet, which lists may know.
func public(ip netip.Addr) bool {
	return ip.IsValid() && ip.IsGlobalUnicast() && !ip.IsPrivate()
}

// linked reads the host of a link.
func linked(host string) (subject, bool) {
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		ip = ip.Unmap().WithZone("")
		return subject{ip.String(), entryOf(ip)}, public(ip)
	}
	s, ok := named(host)
	if !ok {
		return s, false
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(s.entry)
	return subject{domain, domain}, err == nil
}

// named reads a domain.
func named(name string) (subject, bool) {
	d, err := address.ParseDomain(strings.TrimSuffix(name, "."))
	if err != nil || d.IsLiteral() || !strings.Contains(d.String(), ".") {
		return subject{}, false
	}
	entry := strings.ToLower(d.String())
	if _, err := netip.ParseAddr(entry); err == nil {
		return subject{}, false
	}
	return subject{entry, entry}, true
}
