package mx

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"poczta.example/poczta/internal/resolver"
)

// questions is how many look-ups for one route are under way at once.
const questions = 8

// found is what DNS says of one exchanger.
type found struct {
	v4, v6    []netip.Addr
	expanded  string
	secure    bool  // the address answers
	alias     bool  // the name is a CNAME for which DNSSEC vouches, though not for the rest
	temporary error // no answer for one family
	absent    error // no address at all
}

// addresses looks all exchangers up, some at a time, and waits for all.
func (l *Lookup) addresses(ctx context.Context, list []exchanger) []found {
	out := make([]found, len(list))
	slots := make(chan struct{}, questions)
	var wg sync.WaitGroup
	for i, x := range list {
		if x.barred != "" {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			out[i] = l.address(ctx, x.name)
			<-slots
		})
	}
	wg.Wait()
	return out
}

// address asks for one host's addresses of both families.
func (l *Lookup) address(ctx context.Context, name string) found {
	f := found{expanded: name, secure: true}
	for _, t := range []resolver.Type{resolver.AAAA, resolver.A} {
		if t == resolver.AAAA && l.cfg.NoIPv6 || t == resolver.A && l.cfg.NoIPv4 {
			continue
		}
		ans, err := l.cfg.Resolver.Lookup(ctx, name, t)
		switch {
		case errors.Is(err, resolver.ErrNotFound), errors.Is(err, resolver.ErrName):
			f.absent = err
			continue
		case err != nil:
			f.temporary = err
			continue
		}
		f.expanded, f.secure = ans.Name, f.secure && ans.Secure
		for _, r := range ans.Records {
			if t == resolver.A {
				f.v4 = append(f.v4, r.Addr)
			} else {
				f.v6 = append(f.v6, r.Addr)
			}
		}
	}
	if len(f.v4)+len(f.v6) > 0 && !f.secure && !strings.EqualFold(f.expanded, name) {
		// RFC 7672 §2.2.2: an insecure address at the end of an alias that is itself
		// secure leaves DANE to the alias.
		ans, err := l.cfg.Resolver.Lookup(ctx, name, resolver.CNAME)
		f.alias = err == nil && ans.Secure
	}
	return f
}

// assemble makes the route of what was found.
func (l *Lookup) assemble(route Route, list []exchanger, all []found) (Route, error) {
	for i, x := range list { // one of our own addresses under another name is us too
		if x.barred == "" && slices.ContainsFunc(slices.Concat(all[i].v4, all[i].v6), l.own) {
			better, err := l.above(route.Domain, list, x)
			if err != nil {
				return Route{}, err
			}
			list = better
			break
		}
	}
	var temporary error
	left := l.cfg.MaxAddrs
	for i, x := range list {
		f := all[i]
		if f.temporary != nil {
			temporary = f.temporary
		}
		addrs, why := l.order(f)
		if x.barred != "" {
			why = x.barred
		}
		if len(addrs) == 0 || x.barred != "" {
			route.Skipped = append(route.Skipped, fmt.Sprintf("%s: %s", clip(x.name), why))
			continue
		}
		addrs = addrs[:min(len(addrs), left)]
		left -= len(addrs)
		if len(addrs) > 0 {
			route.Hosts = append(route.Hosts, x.host(f, addrs))
		}
		if route.Implicit && f.expanded != x.name {
			route.CanonicalName = f.expanded
		}
	}
	if len(route.Hosts) > 0 {
		return route, nil
	}
	if temporary != nil {
		return Route{}, refuse(route.Domain, 451, 4, 3, "the addresses of the mail hosts of "+route.Domain.String()+" cannot be looked up at present", temporary)
	}
	return Route{}, refuse(route.Domain, 550, 4, 4, fmt.Sprintf("no mail host of %s has an address that mail can go to: %s",
		route.Domain, strings.Join(route.Skipped[:min(len(route.Skipped), 3)], "; ")), nil)
}

func (l *Lookup) own(a netip.Addr) bool { return slices.Contains(l.cfg.Addrs, a.Unmap()) }

// order puts addresses in order of trial: families in turn, IPv6 first. Without
// any it says why.
func (l *Lookup) order(f found) (out []netip.Addr, why string) {
	switch {
	case f.temporary != nil:
		why = f.temporary.Error()
	case f.absent != nil:
		why = f.absent.Error()
	}
	usable := func(in []netip.Addr) (list []netip.Addr) {
		for _, a := range in {
			if barred := l.Barred(a); barred != "" {
				why = barred
			} else if !slices.Contains(list, a.Unmap()) {
				list = append(list, a.Unmap())
			}
		}
		l.cfg.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list
	}
	v6, v4 := usable(f.v6), usable(f.v4)
	for i := range max(len(v6), len(v4)) {
		if i < len(v6) {
			out = append(out, v6[i])
		}
		if i < len(v4) {
			out = append(out, v4[i])
		}
	}
	return out, why
}

// host is the exchanger with what was found of it.
func (x exchanger) host(f found, addrs []netip.Addr) Host {
	h := Host{Name: x.domain, Preference: x.preference, Addrs: addrs, Expanded: f.expanded, Secure: x.secure && f.secure}
	switch {
	case !x.secure: // RFC 7672 §2.2.1: who names the host must be vouched for
	case f.secure && !strings.EqualFold(f.expanded, x.name):
		h.Bases = []string{f.expanded, x.name}
	case f.secure, f.alias:
		h.Bases = []string{x.name}
	}
	return h
}
