package mtasts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"poczta.example/poczta/internal/address"
)

// Limits of a policy (RFC 8461 §3.2, §3.3).
const (
	MaxPolicyOctets = 64 << 10
	MaxAge          = 31557600 * time.Second
)

// Mode says what happens when a policy is not met (RFC 8461 §5).
type Mode uint8

// The modes.
const (
	None    Mode = iota // as if there were no policy
	Testing             // deliver, and report
	Enforce             // don't deliver
)

// String returns the mode as policies spell it.
func (m Mode) String() string {
	switch m {
	case Testing:
		return "testing"
	case Enforce:
		return "enforce"
	}
	return "none"
}

// ParseMode reads a mode.
func ParseMode(s string) (Mode, bool) {
	for _, m := range []Mode{None, Testing, Enforce} {
		if s == m.String() {
			return m, true
		}
	}
	return None, false
}

// Policy is the file at https://mta-sts.DOMAIN/.well-known/mta-sts.txt (RFC 8461 §3.2).
type Policy struct {
	Mode   Mode
	MX     []string      // patterns in lower case: mail.example.com or *.example.net
	MaxAge time.Duration // at most MaxAge
}

// ParsePolicy reads a policy. Lines end in CRLF or LF. Unknown keys are passed
// over; of keys other than mx that come twice the first counts. A max_age over
// the maximum is the maximum. The error wraps ErrSyntax.
func ParsePolicy(text string) (Policy, error) {
	if len(text) > MaxPolicyOctets {
		return Policy{}, fmt.Errorf("%w: the policy has more than %d octets", ErrSyntax, MaxPolicyOctets)
	}
	var r policyReader
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if err := r.line(strings.TrimRight(strings.TrimSuffix(line, "\r"), " \t")); err != nil {
			return Policy{}, err
		}
	}
	switch {
	case !r.seen["version"]:
		return Policy{}, fmt.Errorf("%w: the policy has no version", ErrSyntax)
	case !r.seen["mode"]:
		return Policy{}, fmt.Errorf("%w: the policy has no mode", ErrSyntax)
	case !r.seen["max_age"]:
		return Policy{}, fmt.Errorf("%w: the policy has no max_age", ErrSyntax)
	case r.p.Mode != None && len(r.p.MX) == 0:
		return Policy{}, fmt.Errorf("%w: the policy names no mx", ErrSyntax)
	}
	return r.p, nil
}

// policyReader reads a policy line by line.
type policyReader struct {
	p    Policy
	seen map[string]bool
}

func (r *policyReader) line(line string) error {
	key, value, ok := strings.Cut(line, ":")
	value = strings.TrimLeft(value, " \t")
	if !ok || !isExtensionName(key) || !isPolicyValue(value) {
		return fmt.Errorf("%w: %q is no line of a policy", ErrSyntax, clip(line))
	}
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	if r.seen[key] && key != "mx" {
		return nil
	}
	if key == "version" || key == "mode" || key == "max_age" {
		r.seen[key] = true
	}
	switch key {
	case "version":
		ok = value == "STSv1"
	case "mode":
		r.p.Mode, ok = ParseMode(value)
	case "max_age":
		r.p.MaxAge, ok = parseAge(value)
	case "mx":
		value, ok = parsePattern(value)
		r.p.MX = append(r.p.MX, value)
	}
	if !ok {
		return fmt.Errorf("%w: %q is no valid %s", ErrSyntax, clip(value), key)
	}
	return nil
}

// isPolicyValue: sts-policy-ext-value of RFC 8461 §3.2, which the other values satisfy.
func isPolicyValue(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

func parseAge(s string) (time.Duration, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || len(s) > 10 || s[0] == '+' {
		return 0, false
	}
	return time.Duration(min(n, uint64(MaxAge/time.Second))) * time.Second, true
}

func parsePattern(s string) (string, bool) {
	host, wild := strings.CutPrefix(s, "*.")
	for i := range len(host) {
		if host[i] >= 0x80 { // A-labels only
			return "", false
		}
	}
	d, err := address.ParseDomain(host)
	if err != nil || d.IsLiteral() {
		return "", false
	}
	if wild {
		return "*." + d.String(), true
	}
	return d.String(), true
}

// String returns the policy as a file, with CRLF.
func (p Policy) String() string {
	var b strings.Builder
	for _, line := range p.Lines() {
		b.WriteString(line + "\r\n")
	}
	return b.String()
}

// Lines returns the policy's lines, as reports of RFC 8460 quote them.
func (p Policy) Lines() []string {
	lines := []string{"version: STSv1", "mode: " + p.Mode.String()}
	for _, mx := range p.MX {
		lines = append(lines, "mx: "+mx)
	}
	return append(lines, "max_age: "+strconv.FormatInt(int64(p.MaxAge/time.Second), 10))
}

// ID returns an id for our own record that changes with the policy.
func (p Policy) ID() string {
	sum := sha256.Sum256([]byte(p.String()))
	return hex.EncodeToString(sum[:10])
}

// Matches reports whether one of the policy's patterns is for an MX host. A
// wildcard stands for exactly one label (RFC 8461 §4.1).
func (p Policy) Matches(host address.Domain) bool {
	_, parent, _ := strings.Cut(host.String(), ".")
	for _, pattern := range p.MX {
		if suffix, wild := strings.CutPrefix(pattern, "*."); wild && suffix == parent || pattern == host.String() {
			return true
		}
	}
	return false
}
