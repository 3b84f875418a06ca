// Package dnslist asks lists in DNS (RFC 5782) what they know of hosts and of the names in a message.
package dnslist

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/verdict"
)

// Kind says what a list is of.
type Kind uint8

// The kinds.
const (
	Block  Kind = iota // of hosts that send spam, by address
	Allow              // of hosts that do not, by address (RFC 5782 §2.2)
	URI                // of hosts that links in spam lead to: registrable domains and addresses
	Domain             // of domains that send spam, by their full names (RFC 5782 §3)
	numKinds
)

var kindNames = [numKinds]string{"block", "allow", "uri", "domain"}

// String is the kind's word in the configuration.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind reads a kind's word.
func ParseKind(s string) (Kind, error) {
	for k, name := range kindNames {
		if s == name {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("unknown kind of list %q: use block, allow, uri or domain", s)
}

// Answer says what addresses that a list answers with mean.
type Answer struct {
	Prefix netip.Prefix // within 127.0.0.0/8; zero when Mask says it
	Mask   uint8        // bits of the last octet, any of which counts (RFC 5782 §2.3)
	Label  string       // what it means, in a word or two
	Weight float64      // 0: the list's
	Ignore bool         // it is no listing that counts here
}

// List is one list.
type List struct {
	Zone   string
	Kind   Kind
	Weight float64 // scale of its evidence; 0: 1
	// Answers are looked through in order for each address of an answer; what none names is no
	// listing. Empty: every address of 127.0.0.0/8 is one.
	Answers []Answer
	Reason  bool // ask for its TXT record too, and show it
	// Test is an entry that must be there, an address or a name. Empty: that of RFC 5782 §5.
	Test   string
	NoTest bool // it has no test entries and is never switched off
}

// Outcome is what came of one question to a list.
type Outcome uint8

// The outcomes.
const (
	Absent  Outcome = iota // not listed
	Listed                 // listed
	Failed                 // the list did not answer in time, or with something that is no answer
	Refused                // the list does not answer us: too many questions, or by a public resolver
)

var outcomeNames = [...]string{"absent", "listed", "failed", "refused"}

// String is the outcome's word in metrics.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Hooks are called, where set, while Lists work; from several goroutines. They must return at once.
type Hooks struct {
	Asked   func(zone string, o Outcome, took time.Duration)
	Refused func(zone string, answer netip.Addr) // each time
	// Health tells that a list was switched off, and why, or, with nil, that it is on again.
	Health func(zone string, why error)
}

// Config is what Lists work with.
type Config struct {
	Resolver resolver.Resolver // required; put a cache before it
	Lists    []List
	Timeout  time.Duration // for all look-ups about one message together; 0: 5 s
	MaxNames int           // distinct names of one message that are asked for; 0: 20
	// TestEvery is the time between tests of a list that is on; 0: 30 min. One that is off is
	// tested every minute.
	TestEvery time.Duration
	Hooks     Hooks
}

// concurrent bounds the look-ups of one call that are under way at once.
const concurrent = 32

// maxFailures is how many questions in a row a list may leave without an answer before it is
// switched off, so that messages do not wait for it.
const maxFailures = 8

// Lists asks all lists of a Config. One that refuses us, is silent or fails its test is left alone
// until a test succeeds, for which Run must run. Safe for concurrent use.
type Lists struct {
	cfg   Config
	lists []*list
}

// list is a List with what is known of its health.
type list struct {
	List
	mu       sync.Mutex
	off      error // why it is switched off; nil: it is on
	failures int   // questions in a row without an answer
}

// New makes Lists, or names all that is wrong with the configuration.
func New(c Config) (*Lists, error) {
	var errs []error
	if c.Resolver == nil {
		errs = append(errs, errors.New("DNS lists: Resolver is missing"))
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.MaxNames <= 0 {
		c.MaxNames = 20
	}
	if c.TestEvery <= 0 {
		c.TestEvery = 30 * time.Minute
	}
	l := &Lists{cfg: c}
	for _, li := range c.Lists {
		if err := li.check(); err != nil {
			errs = append(errs, fmt.Errorf("DNS list %q: %w", li.Zone, err))
		}
		l.lists = append(l.lists, &list{List: li})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return l, nil
}

// check finishes and validates a list.
func (li *List) check() error {
	zone, err := address.ParseDomain(strings.TrimSuffix(li.Zone, "."))
	if err != nil {
		return fmt.Errorf("the zone is no domain: %w", err)
	}
	li.Zone = zone.String()
	if li.Kind >= numKinds {
		return errors.New("its kind is unknown")
	}
	if li.Weight < 0 {
		return errors.New("its weight is below 0; an allowlist has kind allow")
	}
	if li.Weight == 0 {
		li.Weight = 1
	}
	for _, a := range li.Answers {
		switch {
		case a.Prefix.IsValid() == (a.Mask != 0):
			return fmt.Errorf("answer %q: give either an address or a mask", a.Label)
		case a.Prefix.IsValid() && !(loopback.Contains(a.Prefix.Addr()) && a.Prefix.Bits() >= loopback.Bits()):
			return fmt.Errorf("answer %q: %v is not within 127.0.0.0/8", a.Label, a.Prefix)
		case a.Weight < 0:
			return fmt.Errorf("answer %q: its weight is below 0", a.Label)
		}
	}
	return nil
}

// subject is a name or an address that lists are asked about.
type subject struct {
	shown string // for people
	entry string // the name under a list's zone
}

// Host asks the lists of addresses about a host. It takes Config.Timeout at most; lists that have
// not answered by then say nothing. Addresses that are not of the open Internet are not asked for.
func (l *Lists) Host(ctx context.Context, ip netip.Addr) []verdict.Item {
	ip = ip.Unmap().WithZone("")
	if !public(ip) {
		return nil
	}
	return l.ask(ctx, []subject{{ip.String(), entryOf(ip)}}, Block, Allow)
}

// URIs asks the lists of kind URI about the hosts of a message's links: names, reduced to the domains that
// somebody registered, and addresses. The first Config.MaxNames distinct ones count.
func (l *Lists) URIs(ctx context.Context, hosts []string) []verdict.Item {
	return l.ask(ctx, l.subjects(hosts, linked), URI)
}

// Domains asks the lists of kind Domain about names that a sender uses: the reverse-path's domain, the
// HELO name, the proven domains.
func (l *Lists) Domains(ctx context.Context, names []string) []verdict.Item {
	return l.ask(ctx, l.subjects(names, named), Domain)
}

// subjects are the first distinct ones that hosts yield.
func (l *Lists) subjects(hosts []string, read func(string) (subject, bool)) []subject {
	var out []subject
	seen := map[string]bool{}
	for _, h := range hosts {
		s, ok := read(h)
		if !ok || seen[s.entry] {
			continue
		}
		seen[s.entry] = true
		if out = append(out, s); len(out) == l.cfg.MaxNames {
			break
		}
	}
	return out
}

// ask asks all lists of some kinds about all subjects at once.
func (l *Lists) ask(ctx context.Context, subjects []subject, kinds ...Kind) []verdict.Item {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	var wg sync.WaitGroup
	slots := make(chan struct{}, concurrent)
	found := make([][]listing, len(l.lists))
	for i, li := range l.lists {
		if !li.of(kinds) || li.isOff() {
			continue
		}
		found[i] = make([]listing, len(subjects))
		for j, s := range subjects {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				found[i][j] = l.lookUp(ctx, li, s)
			})
		}
	}
	wg.Wait()
	var items []verdict.Item
	for i, li := range l.lists {
		if it, ok := li.item(found[i]); ok {
			items = append(items, it)
		}
	}
	return items
}

func (li *list) of(kinds []Kind) bool {
	for _, k := range kinds {
		if li.Kind == k {
			return true
		}
	}
	return false
}

// item is the evidence of what one list names, if it names anything: one item however many names.
func (li *list) item(found []listing) (verdict.Item, bool) {
	it := verdict.Item{Name: verdict.DNSBlocked}
	switch li.Kind {
	case Allow:
		it.Name = verdict.DNSAllowed
	case URI:
		it.Name = verdict.URIBlocked
	}
	var shown []string
	var why string
	for _, f := range found {
		if !f.listed {
			continue
		}
		it.Scale = max(it.Scale, f.weight)
		if len(shown) < 3 {
			shown = append(shown, f.describe())
		}
		if why == "" {
			why = f.reason
		}
	}
	if len(shown) == 0 {
		return it, false
	}
	it.Detail = strings.Join(shown, ", ") + " listed by " + li.Zone
	if why != "" {
		it.Detail += ": " + why
	}
	it.Detail = it.Detail[:min(len(it.Detail), verdict.MaxDetailOctets)]
	return it, true
}
