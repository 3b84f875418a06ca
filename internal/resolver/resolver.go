// Package resolver asks the domain name system: an interface, a client of
// recursive servers (Stub), a cache before it (Cache), and a fake filled from
// zone text for tests (Zone).
// Names are absolute, in A-labels, with or without the final dot.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Errors of a Lookup; test with errors.Is. ErrNoRecords is an ErrNotFound.
var (
	ErrNotFound  = errors.New("name is not in DNS")                                // RFC 2308 §2.1, or ErrNoRecords
	ErrNoRecords = fmt.Errorf("name has no records of this type; %w", ErrNotFound) // RFC 2308 §2.2
	ErrTemporary = errors.New("DNS gave no answer; try again")                     // SERVFAIL, REFUSED, timeouts
	ErrName      = errors.New("not a name that DNS can hold")
)

// Type is a type of records, with its number of RFC 1035 §3.2.2 and its successors.
type Type uint16

// The types that we ask for.
const (
	A     Type = 1
	NS    Type = 2
	CNAME Type = 5
	SOA   Type = 6
	PTR   Type = 12
	MX    Type = 15
	TXT   Type = 16
	AAAA  Type = 28
	SRV   Type = 33
	TLSA  Type = 52
)

// Record is one record of an answer; which fields count depends on its type.
type Record struct {
	TTL        time.Duration // that of a CNAME on the way, if it is less
	Addr       netip.Addr    // A, AAAA
	Host       string        // NS, CNAME, PTR, MX, SRV, SOA (the primary server); lower case, without the final dot; "" is the root (null MX, RFC 7505)
	Preference uint16        // MX; the priority of SRV (RFC 2782)
	Weight     uint16        // SRV
	Port       uint16        // SRV
	Serial     uint32        // SOA
	Text       string        // TXT, its strings joined (RFC 7208 §3.3)
	Usage      uint8         // TLSA (RFC 6698 §2.1)
	Selector   uint8         // TLSA
	Matching   uint8         // TLSA
	Data       []byte        // TLSA
}

// Answer is what a Lookup found: at least one record.
type Answer struct {
	Name    string // the name that holds the records, after CNAMEs
	Records []Record
	// Secure tells that a validating server we trust says that the answer is
	// authentic (the AD bit, RFC 4035 §3.2.3).
	Secure bool
}

// Absent is the error of a name or of records that are not there. It is ErrNotFound,
// and ErrNoRecords too when the name exists.
type Absent struct {
	Name   string        // the name asked for, without the final dot
	NoData bool          // the name exists (RFC 2308 §2.2)
	TTL    time.Duration // how long that may be believed (RFC 2308 §5); 0: the answer did not say
	Secure bool          // as in Answer
}

// Error names what was asked for.
func (e *Absent) Error() string { return "look up " + e.Name + ": " + e.Unwrap().Error() }

// Unwrap returns ErrNoRecords or ErrNotFound.
func (e *Absent) Unwrap() error {
	if e.NoData {
		return ErrNoRecords
	}
	return ErrNotFound
}

// Resolver answers questions. The error wraps ErrNotFound, ErrTemporary or
// ErrName. Safe for concurrent use; it returns soon after ctx ends.
type Resolver interface {
	Lookup(ctx context.Context, name string, t Type) (Answer, error)
}

// Addrs returns the addresses of a host, IPv6 first. The error wraps ErrNotFound
// when it has neither A nor AAAA records.
func Addrs(ctx context.Context, r Resolver, host string) ([]netip.Addr, error) {
	var out []netip.Addr
	var absent error
	for _, t := range []Type{AAAA, A} {
		ans, err := r.Lookup(ctx, host, t)
		if errors.Is(err, ErrNotFound) {
			absent = err
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, rec := range ans.Records {
			out = append(out, rec.Addr)
		}
	}
	if len(out) == 0 {
		return nil, absent
	}
	return out, nil
}

// Exchangers returns a domain's MX records in order of preference. A domain that
// takes no mail (null MX, RFC 7505) has one record with an empty Host.
func Exchangers(ctx context.Context, r Resolver, domain string) ([]Record, error) {
	ans, err := r.Lookup(ctx, domain, MX)
	if err != nil {
		return nil, err
	}
	records := slices.Clone(ans.Records)
	slices.SortStableFunc(records, func(a, b Record) int { return int(a.Preference) - int(b.Preference) })
	return records, nil
}

// Reverse returns the names that addr's PTR records give, unverified.
func Reverse(ctx context.Context, r Resolver, addr netip.Addr) ([]string, error) {
	ans, err := r.Lookup(ctx, ReverseName(addr), PTR)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, rec := range ans.Records {
		out = append(out, rec.Host)
	}
	return out, nil
}

// VerifiedReverse returns the first reverse name of addr that leads back to it
// (RFC 8601 §2.7.3, iprev); ErrNotFound when there is none. At most ten names are tried.
func VerifiedReverse(ctx context.Context, r Resolver, addr netip.Addr) (string, error) {
	names, err := Reverse(ctx, r, addr)
	if err != nil {
		return "", err
	}
	var failed error = ErrNotFound
	for _, name := range names[:min(len(names), 10)] {
		addrs, err := Addrs(ctx, r, name)
		if slices.Contains(addrs, addr.Unmap()) {
			return name, nil
		}
		if errors.Is(err, ErrTemporary) {
			failed = err
		}
	}
	return "", failed
}

// ReverseName is the name under which addr's PTR records lie (RFC 1035 §3.5, RFC 3596 §2.5).
func ReverseName(addr netip.Addr) string {
	addr = addr.Unmap()
	var b strings.Builder
	octets := addr.AsSlice()
	slices.Reverse(octets)
	for _, o := range octets {
		if addr.Is4() {
			fmt.Fprintf(&b, "%d.", o)
		} else {
			fmt.Fprintf(&b, "%x.%x.", o&15, o>>4)
		}
	}
	if addr.Is4() {
		return b.String() + "in-addr.arpa"
	}
	return b.String() + "ip6.arpa"
}
