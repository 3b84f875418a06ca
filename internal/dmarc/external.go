package dmarc

import (
	"context"
	"errors"
	"fmt"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
)

// Errors of Destination; test with errors.Is.
var (
	// ErrUnauthorized: the place has not said that it takes reports about the domain.
	ErrUnauthorized = errors.New("the destination does not take reports about the domain")
	// ErrScheme: the place is not one of mail.
	ErrScheme = errors.New("reports go by mail only")
)

// Destination says where reports about a policy domain go that asks for them at u: to u, or to
// those that its host names instead. A host of another organization must have
// agreed by a record at POLICYDOMAIN._report._dmarc.HOST (RFC 7489 §7.1, RFC 9990 §3). The
// error is ErrScheme, wraps ErrUnauthorized, or is temporary.
func (e *Evaluator) Destination(ctx context.Context, policyDomain address.Domain, u URI) ([]URI, error) {
	if u.Address.IsZero() {
		return nil, ErrScheme
	}
	host := u.Address.Domain()
	if host.IsLiteral() {
		return nil, fmt.Errorf("%w: %s is an address", ErrUnauthorized, host)
	}
	if host == policyDomain {
		return []URI{u}, nil
	}
	if shareTop(host.String(), policyDomain.String()) {
		w := newWalker(e.cfg.Records)
		ours, err := e.organization(ctx, w, policyDomain.String())
		if err != nil {
			return nil, err
		}
		theirs, err := e.organization(ctx, w, host.String())
		if err != nil {
			return nil, err
		}
		if ours == theirs {
			return []URI{u}, nil
		}
	}
	return e.external(ctx, policyDomain, u)
}

// external asks the host of another organization.
func (e *Evaluator) external(ctx context.Context, policyDomain address.Domain, u URI) ([]URI, error) {
	host := u.Address.Domain()
	name := policyDomain.String() + "._report._dmarc." + host.String()
	texts, err := e.cfg.Records.TXT(ctx, name)
	if errors.Is(err, resolver.ErrNotFound) || errors.Is(err, resolver.ErrName) {
		return nil, fmt.Errorf("%w: %s is not in DNS", ErrUnauthorized, name)
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", name, err)
	}
	agreed, replaced := false, []URI(nil)
	for _, text := range texts {
		tags, bad, err := parseTags(text)
		if err != nil || bad {
			continue
		}
		agreed = true
		for _, t := range tags {
			if t.name == "rua" {
				replaced = append(replaced, parseURIs(t.value)...)
			}
		}
	}
	if !agreed {
		return nil, fmt.Errorf("%w: %s does not begin with v=DMARC1, or is malformed", ErrUnauthorized, name)
	}
	if len(replaced) == 0 {
		return []URI{u}, nil
	}
	for _, r := range replaced { // "to prevent loops or indirect abuse"
		if r.Address.IsZero() || r.Address.Domain() != host {
			return nil, fmt.Errorf("%w: it names another host instead", ErrUnauthorized)
		}
	}
	return replaced[:min(len(replaced), MaxURIs)], nil
}
