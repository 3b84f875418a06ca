// Package spf asks DNS whether a host may send mail for a domain (SPF, RFC 7208).
package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
)

// Status is a result of check_host (RFC 7208 §2.6).
type Status uint8

// The results.
const (
	None      Status = iota // no record, or no domain that could have one
	Neutral                 // the domain says nothing of the host
	Pass                    // the host may send for the domain
	Fail                    // it may not
	SoftFail                // it probably may not
	TempError               // DNS gave no answer; another try may
	PermError               // the domain's records can't be interpreted
)

var statusNames = [...]string{"none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"}

// String is the result's word in Authentication-Results (RFC 8601 §2.7.2).
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// The limits of one check.
const (
	DefaultMaxLookups   = 10               // terms that ask DNS (RFC 7208 §4.6.4)
	DefaultMaxVoid      = 2                // terms whose question finds nothing (RFC 7208 §4.6.4)
	DefaultTimeout      = 20 * time.Second // RFC 7208 §4.6.4
	MaxNames            = 10               // MX and PTR names whose addresses one term asks for (RFC 7208 §4.6.4)
	MaxRecordOctets     = 16 << 10         // a longer record is a permerror; RFC 7208 §3.4 asks for 512 at most
	MaxExplanation      = 400              // octets of an explanation, which must fit in a reply
	maxIdentity         = 512              // octets of a HELO name or a sender that are looked at; RFC 5321 §4.5.3.1 has less
	maxMechanismOctets  = 120              // of a term that is shown
	maxTextRecordOctets = 4096             // of an explanation before its macros are expanded
)

// Config is what a Checker works with.
type Config struct {
	Resolver   resolver.Resolver // required; put a cache before it
	MaxLookups int               // 0: DefaultMaxLookups
	MaxVoid    int               // 0: DefaultMaxVoid; negative: none
	Timeout    time.Duration     // for a whole check; 0: DefaultTimeout
	Now        func() time.Time  // for the macro %{t}; nil: time.Now
}

// Request is what a check is about (RFC 7208 §4.1).
type Request struct {
	IP netip.Addr // of the host; IPv4-mapped IPv6 counts as IPv4
	// Helo is the name it greeted with, for the macro %{h}.
	Helo string
	// Sender is the reverse-path's mailbox; empty is postmaster at Helo, and so is the
	// local-part when it is missing (RFC 7208 §2.4, §4.3).
	Sender string
	Domain string // whose record is asked; empty: Sender's domain
	// Receiver is our name, for the macro %{r}; empty: "unknown".
	Receiver string
}

// Result is what came of a check.
type Result struct {
	Status Status
	Domain string // whose record was asked, in A-labels, in lower case; empty when there was none to ask
	// Mechanism is the term that decided, as written; with " of DOMAIN" when it stands in another
	// domain's record. "default" when none matched. Empty for None and the errors.
	Mechanism string
	// Explanation is what the domain says to a Fail: printable ASCII, at most MaxExplanation
	// octets, and a stranger's words (RFC 7208 §6.2). Mostly empty.
	Explanation string
	Err         error // why, for TempError and PermError
	Lookups     int   // terms that asked DNS
	Voids       int   // terms whose question found nothing
}

// Checker checks hosts. It keeps nothing between checks. Safe for concurrent use.
type Checker struct{ cfg Config }

// New makes a Checker.
func New(c Config) (*Checker, error) {
	if c.Resolver == nil {
		return nil, errors.New("spf: Resolver is missing")
	}
	if c.MaxLookups <= 0 {
		c.MaxLookups = DefaultMaxLookups
	}
	if c.MaxVoid == 0 {
		c.MaxVoid = DefaultMaxVoid
	}
	c.MaxVoid = max(0, c.MaxVoid)
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Checker{cfg: c}, nil
}

// Check runs check_host (RFC 7208 §4). It returns soon after ctx or Config.Timeout ends, then
// with TempError. However the records are made, it asks at most
// (Config.MaxLookups + 1) * (MaxNames + 1) + 1 questions.
func (c *Checker) Check(ctx context.Context, q Request) Result {
	e := c.begin(q)
	if !e.ip.IsValid() || !lookable(e.top) {
		return Result{} // RFC 7208 §4.3
	}
	res := Result{Domain: e.top}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	out, err := e.checkHost(ctx, e.top)
	res.Status, res.Mechanism, res.Err = out.status, out.mechanism, err
	if err != nil {
		res.Status, res.Mechanism = statusOf(err), ""
	}
	res.Lookups, res.Voids = e.lookups, e.voids
	if res.Status == Fail && out.record.exp != "" {
		res.Explanation = e.explain(ctx, out)
	}
	return res
}

// begin fills in what the request leaves out.
func (c *Checker) begin(q Request) *evaluation {
	e := &evaluation{cfg: &c.cfg, ip: q.IP.Unmap().WithZone(""), helo: clip(q.Helo, maxIdentity), receiver: q.Receiver}
	sender := clip(q.Sender, maxIdentity)
	if sender == "" {
		sender = "postmaster@" + e.helo // RFC 7208 §2.4
	}
	e.local, e.senderDomain = "postmaster", sender
	if at := strings.LastIndexByte(sender, '@'); at >= 0 {
		e.senderDomain = sender[at+1:]
		if at > 0 {
			e.local = sender[:at]
		}
	}
	e.senderDomain = aLabels(e.senderDomain)
	e.top = e.senderDomain
	if q.Domain != "" {
		e.top = aLabels(q.Domain)
	}
	e.top = strings.ToLower(strings.TrimSuffix(e.top, "."))
	if e.receiver == "" {
		e.receiver = "unknown" // RFC 7208 §7.3
	}
	return e
}

// aLabels writes a domain in A-labels (RFC 7208 §4.3, RFC 8616 §4); what is no domain stays.
func aLabels(s string) string {
	for i := range len(s) {
		if s[i] >= 0x80 {
			if d, err := address.ParseDomain(s); err == nil {
				return d.String()
			}
			return s
		}
	}
	return s
}

// lookable reports whether a domain is one to begin a check with: of several labels, all
// well-formed (RFC 7208 §4.3), and no address.
func lookable(domain string) bool {
	dot := strings.LastIndexByte(domain, '.')
	if dot < 0 || !wellFormed(domain) || strings.ContainsAny(domain, `[]\@"`) {
		return false
	}
	for i := range len(domain) {
		if domain[i] <= ' ' || domain[i] > '~' {
			return false
		}
	}
	return strings.Trim(domain[dot+1:], "0123456789") != "" // RFC 3696 §2: an IPv4 address as it seems
}

// wellFormed reports whether DNS can hold a name: labels of 1 to 63 octets, 253 in all.
func wellFormed(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	n := 0
	for i := range len(name) {
		if name[i] != '.' {
			n++
			continue
		}
		if n == 0 || n > 63 {
			return false
		}
		n = 0
	}
	return n > 0 && n <= 63
}

func clip(s string, n int) string { return s[:min(len(s), n)] }
