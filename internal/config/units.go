package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time, written as Go's durations are, and with d for
// days of 24 hours: 90s, 1h30m, 14d.
type Duration time.Duration

// UnmarshalText reads a duration; negative ones are refused.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	var days int64
	if head, rest, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseInt(head, 10, 32)
		if err != nil || n < 0 {
			return errDuration(s)
		}
		days, s = n, rest
	}
	var rest time.Duration
	if s != "" || len(text) == 0 {
		var err error
		if rest, err = time.ParseDuration(s); err != nil || rest < 0 {
			return errDuration(string(text))
		}
	}
	sum := time.Duration(days)*24*time.Hour + rest
	if days > 100*365 || sum < 0 {
		return fmt.Errorf("%q is longer than 100 years", text)
	}
	*d = Duration(sum)
	return nil
}

func errDuration(s string) error {
	return fmt.Errorf(`%q is not a duration; write as in "30s", "1h30m" or "14d"`, s)
}

// String writes d so that UnmarshalText reads it.
func (d Duration) String() string {
	t := time.Duration(d)
	if t > 0 && t%(24*time.Hour) == 0 {
		return strconv.FormatInt(int64(t/(24*time.Hour)), 10) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Duration returns d as the standard library has it.
func (d Duration) Duration() time.Duration { return time.Duration(d) }

// Size is a number of octets, written with a unit of 1024s or none: 25MiB, 512.
type Size int64

var sizeUnits = []struct {
	name  string
	shift uint
}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}}

// UnmarshalText reads a size. Units are KiB, MiB, GiB, TiB; MB and the like are
// refused, since it would be a guess which thousand they mean.
func (s *Size) UnmarshalText(text []byte) error {
	t := strings.TrimSpace(string(text))
	shift := uint(0)
	for _, u := range sizeUnits {
		if head, ok := strings.CutSuffix(t, u.name); ok {
			t, shift = strings.TrimSpace(head), u.shift
			break
		}
	}
	n, err := strconv.ParseInt(t, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || n < 0 {
		return fmt.Errorf(`%q is not a size; write octets or a unit of KiB, MiB, GiB or TiB, as in "25MiB"`, text)
	}
	if err != nil || n > (1<<62)>>shift {
		return fmt.Errorf("%q is too large a size", text)
	}
	*s = Size(n << shift)
	return nil
}

// String writes s in the largest unit that loses nothing.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s > 0 && s%(1<<u.shift) == 0 {
			return strconv.FormatInt(int64(s>>u.shift), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Points is a number that may have a fraction: a score, or a factor of one.
type Points float64

// Prefix is a network, or one address as a network of its own.
type Prefix struct{ netip.Prefix }

// UnmarshalText reads 192.0.2.0/24, 2001:db8::/32, or a single address.
func (p *Prefix) UnmarshalText(text []byte) error {
	s := string(text)
	if strings.Contains(s, "/") {
		v, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("%q is not a network; write as in 192.0.2.0/24 or 2001:db8::/32", s)
		}
		if v != v.Masked() {
			return fmt.Errorf("%q has bits set behind its length; write %s", s, v.Masked())
		}
		p.Prefix = v
		return nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return fmt.Errorf("%q is not an address or a network; write as in 192.0.2.17 or 192.0.2.0/24", s)
	}
	p.Prefix = netip.PrefixFrom(a, a.BitLen())
	return nil
}

// Prefixes returns the networks as the standard library has them.
func Prefixes(list []Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, p := range list {
		out[i] = p.Prefix
	}
	return out
}
