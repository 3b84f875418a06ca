package verify

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/dkim"
)

// Rule names messages. Every kind of condition that it has must hold, and one value of each kind
// suffices. Where domains or host names are asked for, "example.com" is that name and ".example.com"
// every name below it; case does not matter.
type Rule struct {
	Name         string         // for the trace and for reports; required
	From         []string       // domains in From
	Networks     []netip.Prefix // that hold the host's address
	Hosts        []string       // verified names of the host
	ReversePaths []string       // addresses, or "@" and a domain; only when the reverse-path is proven
	Signers      []string       // d= of a DKIM signature that passes
	Lists        []string       // List-Id, which anybody can write
}

// check looks for what can't be meant.
func (r Rule) check() error {
	if r.Name == "" {
		return errors.New("verify: a rule has no name")
	}
	if len(r.From) == 0 && len(r.Lists) == 0 && !r.hard() {
		return fmt.Errorf("verify: rule %q has no condition", r.Name)
	}
	for _, names := range [][]string{r.From, r.Hosts, r.Signers} {
		for _, n := range names {
			if _, err := address.ParseDomain(strings.TrimPrefix(n, ".")); err != nil {
				return fmt.Errorf("verify: rule %q: %q is no domain", r.Name, n)
			}
		}
	}
	for _, p := range r.Networks {
		if !p.IsValid() {
			return fmt.Errorf("verify: rule %q has an invalid network", r.Name)
		}
	}
	for _, p := range r.ReversePaths {
		if domain, ok := strings.CutPrefix(p, "@"); ok {
			p = "x@" + domain
		}
		if _, err := address.Parse(p); err != nil {
			return fmt.Errorf("verify: rule %q: reverse-path %q: use local-part@domain or @domain", r.Name, p)
		}
	}
	return nil
}

// hard reports whether the rule has a condition that a stranger can't fulfil.
func (r Rule) hard() bool { return len(r.Networks)+len(r.Hosts)+len(r.ReversePaths)+len(r.Signers) > 0 }

// matches reports whether all conditions hold for a message whose authors are given.
func (r Rule) matches(m *Report, authors []Author) bool {
	if len(r.From) > 0 && !slices.ContainsFunc(authors, func(a Author) bool { return listed(r.From, a.Domain) }) {
		return false
	}
	if len(r.Networks) > 0 && !slices.ContainsFunc(r.Networks, func(p netip.Prefix) bool { return p.Contains(m.Peer) }) {
		return false
	}
	if len(r.Hosts) > 0 {
		d, err := address.ParseDomain(m.IPRev.Name)
		if m.IPRev.Status != IPRevPass || err != nil || !listed(r.Hosts, d) {
			return false
		}
	}
	if len(r.ReversePaths) > 0 && (!m.Verified || !slices.ContainsFunc(r.ReversePaths, m.isReversePath)) {
		return false
	}
	if len(r.Signers) > 0 && !slices.ContainsFunc(m.DKIM, func(d dkim.Result) bool { return d.Status == dkim.Pass && listed(r.Signers, d.Signature.Domain) }) {
		return false
	}
	return len(r.Lists) == 0 || slices.ContainsFunc(r.Lists, func(id string) bool { return slices.Contains(m.lists, strings.ToLower(id)) })
}

// isReversePath compares the reverse-path with an address or a domain behind "@".
func (r *Report) isReversePath(p string) bool {
	a := r.reversePath.Address()
	if domain, ok := strings.CutPrefix(p, "@"); ok {
		d, err := address.ParseDomain(domain)
		return err == nil && a.Domain() == d
	}
	other, err := address.Parse(p)
	return err == nil && other.Key() == a.Key()
}

// listed reports whether a domain is among names.
func listed(names []string, d address.Domain) bool {
	for _, n := range names {
		base, below := strings.CutPrefix(n, ".")
		own, err := address.ParseDomain(base)
		if err != nil {
			continue
		}
		if !below && own == d || below && strings.HasSuffix(d.String(), "."+own.String()) {
			return true
		}
	}
	return false
}
