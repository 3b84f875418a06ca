package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Native asks by the system's own functions, for systems that have no file that names their
// servers. It knows A, AAAA, MX, SRV and TXT, tells no TTL and nothing is Secure. Safe for
// concurrent use.
type Native struct{ r *net.Resolver }

// NewNative makes a Native; nil is the system's
func NewNative(r *net.Resolver) *Native {
	if r == nil {
		r = net.DefaultResolver
	}
	return &Native{r: r}
}

// Lookup implements Resolver.
func (n *Native) Lookup(ctx context.Context, name string, t Type) (a Answer, err error) {
	name = bare(name)
	a.Name = name
	switch t {
	case A, AAAA:
		network := "ip4"
		if t == AAAA {
			network = "ip6"
		}
		addrs, lerr := n.r.LookupNetIP(ctx, network, name+".")
		err = lerr
		for _, addr := range addrs {
			a.Records = append(a.Records, Record{Addr: addr.Unmap()})
		}
	case MX:
		list, lerr := n.r.LookupMX(ctx, name+".")
		err = lerr
		for _, m := range list {
			a.Records = append(a.Records, Record{Host: bare(m.Host), Preference: m.Pref})
		}
	case SRV:
		_, list, lerr := n.r.LookupSRV(ctx, "", "", name+".")
		err = lerr
		for _, s := range list {
			a.Records = append(a.Records, Record{Host: bare(s.Target), Preference: s.Priority, Weight: s.Weight, Port: s.Port})
		}
	case TXT:
		list, lerr := n.r.LookupTXT(ctx, name+".")
		err = lerr
		for _, text := range list {
			a.Records = append(a.Records, Record{Text: text})
		}
	default:
		return a, fmt.Errorf("look up %s: %w", name, ErrNoRecords)
	}
	if len(a.Records) > 0 {
		return a, nil // some of several may have been malformed
	}
	if d, ok := errors.AsType[*net.DNSError](err); err == nil || ok && d.IsNotFound {
		return a, fmt.Errorf("look up %s: %w", name, ErrNotFound)
	}
	return a, fmt.Errorf("look up %s: %w (%w)", name, ErrTemporary, err)
}

func bare(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }
