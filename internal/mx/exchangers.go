package mx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
)

// exchanger is one host to look up.
type exchanger struct {
	name       string // as in DNS; "" is the root
	domain     address.Domain
	preference uint16
	secure     bool   // what named it
	barred     string // why it is left out, or ""
}

// exchangers asks for a domain's MX records, and falls back to the domain itself
// only if there are none at all.
func (l *Lookup) exchangers(ctx context.Context, domain address.Domain) (Route, []exchanger, error) {
	route := Route{Domain: domain}
	ans, err := l.cfg.Resolver.Lookup(ctx, domain.String(), resolver.MX)
	absent, _ := errors.AsType[*resolver.Absent](err)
	switch {
	case errors.Is(err, resolver.ErrNoRecords):
		// RFC 5321 §5.1: "as if it was associated with an implicit MX RR, with a preference of 0".
		route.Implicit, route.Secure = true, absent != nil && absent.Secure
		own := exchanger{name: domain.String(), domain: domain, secure: route.Secure, barred: l.barredName(domain)}
		return route, []exchanger{own}, nil
	case errors.Is(err, resolver.ErrNotFound), errors.Is(err, resolver.ErrName):
		return Route{}, nil, refuse(domain, 550, 1, 2, "the domain "+domain.String()+" does not exist", err)
	case err != nil:
		return Route{}, nil, refuse(domain, 451, 4, 3, "the mail hosts of "+domain.String()+" cannot be looked up at present", err)
	}
	route.Secure = ans.Secure
	if !strings.EqualFold(ans.Name, domain.String()) {
		route.CanonicalName = ans.Name
	}
	list, err := l.read(domain, ans)
	return route, list, err
}

// read judges MX records and puts them in order of trial.
func (l *Lookup) read(domain address.Domain, ans resolver.Answer) ([]exchanger, error) {
	if !slices.ContainsFunc(ans.Records, func(r resolver.Record) bool { return r.Host != "" }) {
		// RFC 7505 §3: a single record with the root. Several of them can mean nothing else.
		return nil, refuse(domain, 556, 1, 10, "the domain "+domain.String()+" takes no mail (null MX)", nil)
	}
	var list []exchanger
	seen := map[string]bool{}
	for _, r := range ans.Records {
		x := exchanger{name: r.Host, preference: r.Preference, secure: ans.Secure}
		var err error
		switch x.domain, err = address.ParseDomain(r.Host); {
		case r.Host == "":
			x.barred = "an MX record with the root beside others (RFC 7505 §3)"
		case err != nil || x.domain.IsLiteral():
			x.barred = fmt.Sprintf("%q is not a host name", clip(r.Host))
		default:
			x.barred = l.barredName(x.domain)
		}
		list = append(list, x)
	}
	l.cfg.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	slices.SortStableFunc(list, func(a, b exchanger) int { return cmp.Compare(a.preference, b.preference) })
	return slices.DeleteFunc(list, func(x exchanger) bool { // the best preference of a host counts
		again := seen[x.name]
		seen[x.name] = true
		return again
	}), nil
}

// barredName says why a name can be nobody's host, or "".
func (l *Lookup) barredName(d address.Domain) string {
	last := d.String()[strings.LastIndexByte(d.String(), '.')+1:]
	switch {
	case strings.Trim(last, "0123456789") == "": // RFC 3696 §2: no top-level domain is all numbers
		return d.String() + " is an address, not a host name"
	case last == "localhost" && !l.cfg.AllowLoopback: // RFC 6761 §6.3
		return d.String() + " is this host's own name"
	case last == "invalid":
		return d.String() + " cannot exist" // RFC 6761 §6.4
	}
	return ""
}

// cut leaves out hosts at and below our own preference, and what exceeds the
// bound. If we are the best host ourselves, mail would go in a circle.
func (l *Lookup) cut(domain address.Domain, list []exchanger) ([]exchanger, error) {
	for _, x := range list {
		if slices.Contains(l.cfg.Names, x.domain) && !x.domain.IsZero() {
			return l.above(domain, list, x)
		}
	}
	return list[:min(len(list), l.cfg.MaxHosts)], nil
}

// above is what of list is better than own, which is us (RFC 5321 §5.1).
func (l *Lookup) above(domain address.Domain, list []exchanger, own exchanger) ([]exchanger, error) {
	var better []exchanger
	for _, x := range list {
		if x.preference < own.preference {
			better = append(better, x)
		}
	}
	if len(better) == 0 {
		return nil, refuse(domain, 550, 4, 6, fmt.Sprintf("mail for %s would come back to this host: its best mail host is %s, which is us", domain, own.name), nil)
	}
	return better[:min(len(better), l.cfg.MaxHosts)], nil
}

func clip(s string) string { return s[:min(len(s), 80)] }
