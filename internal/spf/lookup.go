package spf

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/resolver"
)

// count counts a term that asks DNS (RFC 7208 §4.6.4).
func (e *evaluation) count() error {
	if e.lookups >= e.cfg.MaxLookups {
		return permanent("the SPF records of %s need more than %d look-ups", e.top, e.cfg.MaxLookups)
	}
	e.lookups++
	return nil
}

// fetch gets and reads a domain's record; nil when it has none (RFC 7208 §4.4, §4.5).
func (e *evaluation) fetch(ctx context.Context, domain string) (*Record, error) {
	answer, err := e.ask(ctx, domain, resolver.TXT, false)
	if err != nil {
		return nil, err
	}
	found, text := 0, ""
	for _, r := range answer {
		if isRecord(r.Text) {
			found, text = found+1, r.Text
		}
	}
	switch found {
	case 0:
		return nil, nil
	case 1:
	default:
		return nil, permanent("%s has %d SPF records; only one may be there", printable(domain), found)
	}
	rec, err := ParseRecord(text)
	if err != nil {
		return nil, permanent("%s: %w", printable(domain), err)
	}
	return rec, nil
}

// target expands a domain-spec into the name it leads to (RFC 7208 §4.8). The error is
// errNowhere or ends the check.
func (e *evaluation) target(ctx context.Context, spec, domain string) (string, error) {
	if !isASCII(e.local) && usesLocal(spec) {
		return "", errNowhere // RFC 8616 §4
	}
	name, err := e.expand(ctx, spec, domain, false, true)
	if err != nil {
		return "", err
	}
	name = strings.TrimSuffix(name, ".")
	for len(name) > 253 { // RFC 7208 §7.3
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			return "", errNowhere
		}
		name = rest
	}
	if !wellFormed(name) {
		return "", errNowhere
	}
	return name, nil
}

// usesLocal reports whether a domain-spec has the macro %{s} or %{l}.
func usesLocal(spec string) bool {
	for {
		i := strings.IndexByte(spec, '%')
		if i < 0 {
			return false
		}
		m, _, rest, err := cutMacro(spec[i:], false)
		if err != nil || m.letter == 's' || m.letter == 'l' {
			return err == nil
		}
		spec = rest
	}
}

// ask puts a question. That nothing is there is an empty answer, which counts as void when
// void is set (RFC 7208 §4.6.4); an error is of DNS, or of too many voids.
func (e *evaluation) ask(ctx context.Context, name string, t resolver.Type, void bool) ([]resolver.Record, error) {
	answer, err := e.cfg.Resolver.Lookup(ctx, presentation(name), t)
	switch {
	case errors.Is(err, resolver.ErrName):
		return nil, nil
	case errors.Is(err, resolver.ErrNotFound):
		if void {
			if e.voids++; e.voids > e.cfg.MaxVoid {
				return nil, permanent("the SPF records of %s ask for more than %d names that are not there", e.top, e.cfg.MaxVoid)
			}
		}
		return nil, nil
	case err != nil:
		return nil, temporary(fmt.Errorf("SPF of %s: %w", e.top, err))
	}
	return answer.Records, nil
}

// presentation escapes a name's odd octets as RFC 1035 §5.1 has it, since macros can put any
// octet into a label.
func presentation(name string) string {
	odd := func(c byte) bool { return c < '!' || c > '~' || strings.IndexByte(`'@;()"\`, c) >= 0 }
	i := 0
	for i < len(name) && !odd(name[i]) {
		i++
	}
	if i == len(name) {
		return name
	}
	b := append(make([]byte, 0, len(name)+16), name[:i]...)
	for ; i < len(name); i++ {
		switch c := name[i]; {
		case !odd(c):
			b = append(b, c)
		case c < ' ' || c > '~':
			b = fmt.Appendf(b, `\%03d`, c)
		default:
			b = append(b, '\\', c)
		}
	}
	return string(b)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// printable is s with a question mark for each octet that is not printable ASCII.
func printable(s string) string {
	odd := func(c byte) bool { return c < ' ' || c > '~' }
	for i := range len(s) {
		if odd(s[i]) {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if odd(b[j]) {
					b[j] = '?'
				}
			}
			return string(b)
		}
	}
	return s
}
