package dnslist

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"poczta.example/poczta/internal/resolver"
)

// Why a list is switched off; test with errors.Is.
var (
	ErrRefused  = errors.New("the list refuses to answer us; use a resolver of our own, or the list's paid service")
	ErrEmpty    = errors.New("the list does not name its own test entry; it may have ended")
	ErrWildcard = errors.New("the list names everything; it may have ended")
	ErrSilent   = errors.New("the list does not answer")
	ErrMadeUp   = errors.New("the answer is no list's; our resolver, or who holds the domain now, makes it up")
)

// retest is the time between tests of a list that is off.
const retest = time.Minute

// Health is what a test of a list found.
type Health struct {
	Zone string
	Kind Kind
	Off  error // why it is not asked; nil: it is
}

// Run tests the lists until ctx ends (RFC 5782 §5): at once, then in the intervals of
// Config.TestEvery.
func (l *Lists) Run(ctx context.Context) error {
	next := make([]time.Time, len(l.lists))
	tick := time.NewTicker(retest)
	defer tick.Stop()
	for {
		now := time.Now()
		for i, li := range l.lists {
			if li.NoTest || now.Before(next[i]) && !li.isOff() {
				continue
			}
			l.test(ctx, li)
			next[i] = now.Add(l.cfg.TestEvery)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Test tests all lists at once and says how they are, in their order.
func (l *Lists) Test(ctx context.Context) []Health {
	var wg sync.WaitGroup
	for _, li := range l.lists {
		if !li.NoTest {
			wg.Go(func() { l.test(ctx, li) })
		}
	}
	wg.Wait()
	return l.Health()
}

// Health says how the lists are, as of the last test.
func (l *Lists) Health() []Health {
	out := make([]Health, 0, len(l.lists))
	for _, li := range l.lists {
		li.mu.Lock()
		out = append(out, Health{li.Zone, li.Kind, li.off})
		li.mu.Unlock()
	}
	return out
}

// test looks up an entry that must be there and one that must not (RFC 5782 §5).
func (l *Lists) test(ctx context.Context, li *list) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	present, absent := "2.0.0.127", "1.0.0.127"
	if li.Kind == URI || li.Kind == Domain {
		present, absent = "test", "invalid"
	}
	if li.List.Test != "" {
		present = li.List.Test
		if ip, err := netip.ParseAddr(present); err == nil {
			present = entryOf(ip)
		}
	}
	why := l.entry(ctx, li, present, true)
	if why == nil {
		why = l.entry(ctx, li, absent, false)
	}
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return // we end; that says nothing of the list
	}
	l.turn(li, why)
}

// entry looks up one test entry.
func (l *Lists) entry(ctx context.Context, li *list, name string, present bool) error {
	ans, err := l.cfg.Resolver.Lookup(ctx, name+"."+li.Zone, resolver.A)
	absent := errors.Is(err, resolver.ErrNotFound)
	if err != nil && !absent {
		return fmt.Errorf("%w: %w", ErrSilent, err)
	}
	listed := false
	for _, r := range ans.Records {
		switch {
		case refusing.Contains(r.Addr) || present && r.Addr == neverGiven:
			return fmt.Errorf("%w (%v)", ErrRefused, r.Addr)
		case loopback.Contains(r.Addr):
			listed = true
		}
	}
	switch {
	case !listed && len(ans.Records) > 0 && ans.Records[0].Addr.IsValid():
		return fmt.Errorf("%w (%v)", ErrMadeUp, ans.Records[0].Addr)
	case present && !listed:
		return ErrEmpty
	case !present && listed:
		return ErrWildcard
	}
	return nil
}

func (li *list) isOff() bool {
	li.mu.Lock()
	defer li.mu.Unlock()
	return li.off != nil
}

// turn switches a list off, with the reason, or on, and tells of a change.
func (l *Lists) turn(li *list, why error) {
	li.mu.Lock()
	changed := (li.off == nil) != (why == nil)
	li.off, li.failures = why, 0
	li.mu.Unlock()
	if changed && l.cfg.Hooks.Health != nil {
		l.cfg.Hooks.Health(li.Zone, why)
	}
}
