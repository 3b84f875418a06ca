package resolver

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// Zone is a Resolver that answers from text, for tests. It never changes.
type Zone struct {
	records map[string][]dns.RR // by name in lower case with its final dot
	names   map[string]bool     // every name that exists, empty non-terminals included (RFC 8020)
	faults  map[string]string   // name → "servfail" or "timeout"
	secure  []string            // names at and below which answers are authentic
}

// NewZone reads records in the form of RFC 1035 §5.1, with absolute names or
// under $ORIGIN, and these lines beside:
//
//	!servfail NAME   lookups of NAME fail
//	!timeout NAME    lookups of NAME wait until their context ends
//	!secure NAME     answers at and below NAME are Secure
func NewZone(text string) (*Zone, error) {
	z := &Zone{records: map[string][]dns.RR{}, names: map[string]bool{}, faults: map[string]string{}}
	var plain strings.Builder
	for line := range strings.Lines(text) {
		directive, ok := strings.CutPrefix(strings.TrimSpace(line), "!")
		if !ok {
			plain.WriteString(line)
			continue
		}
		plain.WriteString("\n") // keeps line numbers in errors
		f := strings.Fields(directive)
		if len(f) != 2 {
			return nil, fmt.Errorf("read zone: %q: want !servfail, !timeout or !secure with a name", directive)
		}
		name := strings.ToLower(dns.Fqdn(f[1]))
		switch f[0] {
		case "servfail", "timeout":
			z.faults[name] = f[0]
		case "secure":
			z.secure = append(z.secure, name)
		default:
			return nil, fmt.Errorf("read zone: unknown directive !%s", f[0])
		}
	}
	p := dns.NewZoneParser(strings.NewReader(plain.String()), ".", "zone")
	p.SetDefaultTTL(3600)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		name := strings.ToLower(rr.Header().Name)
		z.records[name] = append(z.records[name], rr)
		for i, end := 0, false; !end; i, end = dns.NextLabel(name, i) {
			z.names[name[i:]] = true
		}
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("read zone: %w", err)
	}
	return z, nil
}

// Lookup implements Resolver.
func (z *Zone) Lookup(ctx context.Context, name string, t Type) (Answer, error) {
	fqdn, err := question(name)
	if err != nil {
		return Answer{}, err
	}
	m := &dns.Msg{}
	at := fqdn
	secure := true
	for range maxAliases {
		switch z.faults[at] {
		case "servfail":
			m.Rcode = dns.RcodeServerFailure
			return read(m, fqdn, t)
		case "timeout":
			<-ctx.Done()
			return Answer{}, fmt.Errorf("look up %s: %w: %w", name, ErrTemporary, ctx.Err())
		}
		secure = secure && z.isSecure(at)
		if !z.names[at] {
			m.Rcode = dns.RcodeNameError
		}
		alias := ""
		for _, rr := range z.records[at] {
			m.Answer = append(m.Answer, rr)
			if c, ok := rr.(*dns.CNAME); ok && t != CNAME {
				alias = strings.ToLower(c.Target)
			}
		}
		if alias == "" {
			break
		}
		at = alias
	}
	m.AuthenticatedData = secure
	for i, end := 0, false; !end; i, end = dns.NextLabel(at, i) {
		for _, rr := range z.records[at[i:]] {
			if soa, ok := rr.(*dns.SOA); ok && len(m.Ns) == 0 {
				m.Ns = append(m.Ns, soa)
			}
		}
	}
	return read(m, fqdn, t)
}

func (z *Zone) isSecure(name string) bool {
	for _, s := range z.secure {
		if dns.IsSubDomain(s, name) {
			return true
		}
	}
	return false
}

// hexOctets reads the hexadecimal form that the DNS library has checked already.
func hexOctets(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}
