package dmarc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
)

// Records are the TXT records of DNS. The error wraps resolver.ErrNotFound when the name
// or the records are not there (resolver.ErrNoRecords when the name is), and is temporary
// otherwise. Safe for concurrent use.
type Records interface {
	TXT(ctx context.Context, name string) ([]string, error)
}

// FromResolver asks r.
func FromResolver(r resolver.Resolver) Records { return asker{r} }

type asker struct{ r resolver.Resolver }

// TXT implements Records.
func (a asker) TXT(ctx context.Context, name string) ([]string, error) {
	ans, err := a.r.Lookup(ctx, name, resolver.TXT)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, rec := range ans.Records {
		out = append(out, rec.Text)
	}
	return out, nil
}

// Limits of look-ups.
const (
	// maxWalk is the most look-ups of one tree walk (RFC 9989 §4.10).
	maxWalk = 8
	// maxWalks bounds the domains of one message for which a walk is made.
	maxWalks = 8
)

// found is what _dmarc.DOMAIN holds.
type found struct {
	record *Record // nil: none that can be used
	many   bool    // several records that begin with v=DMARC1
	exists bool    // the name _dmarc.DOMAIN exists, so DOMAIN does (RFC 8020)
	// broken is why the only record can't be used.
	broken error
}

// walker looks names up, each once for one message.
type walker struct {
	records Records
	memo    map[string]found
	walks   int
}

func newWalker(r Records) *walker { return &walker{records: r, memo: map[string]found{}} }

// at looks up a domain's record. The error is temporary.
func (w *walker) at(ctx context.Context, domain string) (found, error) {
	if f, ok := w.memo[domain]; ok {
		return f, nil
	}
	f, err := w.lookup(ctx, domain)
	if err == nil {
		w.memo[domain] = f
	}
	return f, err
}

func (w *walker) lookup(ctx context.Context, domain string) (found, error) {
	name := "_dmarc." + domain
	if len(name) > 253 {
		return found{}, nil // no such name can be in DNS
	}
	texts, err := w.records.TXT(ctx, name)
	switch {
	case errors.Is(err, resolver.ErrNoRecords):
		return found{exists: true}, nil
	case errors.Is(err, resolver.ErrNotFound), errors.Is(err, resolver.ErrName):
		return found{}, nil
	case err != nil:
		return found{}, fmt.Errorf("look up the DMARC record of %s: %w", domain, err)
	}
	f := found{exists: true}
	n := 0
	for _, text := range texts {
		rec, err := ParseRecord(text)
		if errors.Is(err, ErrNotDMARC) {
			continue
		}
		n++
		f.record, f.broken = rec, err
	}
	if n > 1 { // RFC 9989 §4.10 step 6: they are all discarded
		f.record, f.broken, f.many = nil, nil, true
	}
	return f, nil
}

// step is a domain of a walk whose record can be used.
type step struct {
	domain string
	record *Record
}

// walk climbs the tree from a domain (RFC 9989 §4.10). What it returns is from the longest
// domain to the shortest. The error is temporary.
func (w *walker) walk(ctx context.Context, start string) ([]step, error) {
	var out []step
	for _, target := range targets(start) {
		f, err := w.at(ctx, target)
		if err != nil {
			return nil, err
		}
		if f.record == nil {
			continue
		}
		out = append(out, step{target, f.record})
		if f.record.PSD != PSDUnknown {
			break
		}
	}
	return out, nil
}

// targets are the domains whose records a walk asks for: the start, then, from the seventh
// label on, each parent (RFC 9989 §4.10 steps 1, 3 and 7); eight at most.
func targets(start string) []string {
	out := []string{start}
	labels := strings.Split(start, ".")
	rest := labels[1:]
	if len(labels) > maxWalk {
		rest = labels[len(labels)-(maxWalk-1):]
	}
	for ; len(rest) > 0; rest = rest[1:] {
		out = append(out, strings.Join(rest, "."))
	}
	return out
}

// organizational selects the organizational domain of a walk's start (RFC 9989 §4.10.2).
func organizational(start string, steps []step) string {
	for _, s := range steps {
		switch {
		case s.record.PSD == PSDNo:
			return s.domain
		case s.record.PSD == PSDYes && s.domain != start:
			return oneBelow(start, s.domain)
		}
	}
	if len(steps) > 0 {
		return steps[len(steps)-1].domain
	}
	return start
}

// oneBelow is the domain one label below parent on the way to child.
func oneBelow(child, parent string) string {
	rest := strings.TrimSuffix(child, "."+parent)
	return rest[strings.LastIndexByte(rest, '.')+1:] + "." + parent
}

// under reports whether child is parent or a subdomain of it.
func under(child, parent string) bool {
	return child == parent || strings.HasSuffix(child, "."+parent)
}

// suffixOrganization is the organizational domain by a public suffix list (RFC 7489 §3.2).
func suffixOrganization(domain string, suffixes func(string) string) string {
	suffix := suffixes(domain)
	if suffix == "" || suffix == domain || !under(domain, suffix) {
		return domain
	}
	return oneBelow(domain, suffix)
}

// toDomain makes a name of a walk a domain again: it is a tail of one.
func toDomain(name string) address.Domain {
	d, err := address.ParseDomain(name)
	if err != nil {
		return address.Domain{}
	}
	return d
}
