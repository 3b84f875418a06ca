package tlspolicy_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/mailtest/certtest"
	"poczta.example/poczta/internal/mtasts"
	"poczta.example/poczta/internal/mx"
	"poczta.example/poczta/internal/resolver"
	"poczta.example/poczta/internal/tlspolicy"
)

// fetcher is a Fetcher of policies in memory.
type fetcher struct {
	mu       sync.Mutex
	policies map[string]mtasts.Policy
	n        int
	wait     chan struct{} // if not nil, fetches wait until it is closed
	begun    chan struct{} // gets one for each fetch that waits
}

func (f *fetcher) Fetch(ctx context.Context, d address.Domain) (mtasts.Policy, error) {
	f.mu.Lock()
	f.n++
	p, ok := f.policies[d.String()]
	wait := f.wait
	f.mu.Unlock()
	if wait != nil {
		f.begun <- struct{}{}
		select {
		case <-wait:
		case <-ctx.Done():
			return mtasts.Policy{}, fmt.Errorf("%w: %w", mtasts.ErrFetch, ctx.Err())
		}
	}
	if !ok {
		return mtasts.Policy{}, fmt.Errorf("%w: the policy host answers 500", mtasts.ErrFetch)
	}
	return p, nil
}

func (f *fetcher) set(domain string, p mtasts.Policy) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.policies[domain] = p
}

func (f *fetcher) fail(domain string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.policies, domain)
}

func (f *fetcher) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// world is a Store with all it needs.
type world struct {
	t     *testing.T
	db    db.Database
	store *tlspolicy.Store
	fetch *fetcher
	ca    *certtest.CA

	mu   sync.Mutex
	now  time.Time
	zone resolver.Resolver
}

func (w *world) Lookup(ctx context.Context, name string, t resolver.Type) (resolver.Answer, error) {
	w.mu.Lock()
	z := w.zone
	w.mu.Unlock()
	return z.Lookup(ctx, name, t)
}

// dns replaces the zone.
func (w *world) dns(text string) {
	w.t.Helper()
	z, err := resolver.NewZone(text)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.zone = z
}

func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// open makes a Store on d; change adapts its Config.
func open(t *testing.T, d db.Database, zone string, change func(*tlspolicy.Config)) *world {
	t.Helper()
	w := &world{t: t, db: d, fetch: &fetcher{policies: map[string]mtasts.Policy{}}, ca: certtest.New(t), now: time.Now().Truncate(time.Second)}
	w.dns(zone)
	w.store = w.another(change)
	return w
}

// another is a second node's Store.
func (w *world) another(change func(*tlspolicy.Config)) *tlspolicy.Store {
	w.t.Helper()
	c := tlspolicy.Config{DB: w.db, Resolver: w, Fetcher: w.fetch, Roots: w.ca.Pool(), Now: w.clock}
	if change != nil {
		change(&c)
	}
	s, err := tlspolicy.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func each(t *testing.T, fn func(t *testing.T, d db.Database)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, []db.Component{tlspolicy.Schema}, fn)
}

func domain(t *testing.T, s string) address.Domain {
	t.Helper()
	d, err := address.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// plan routes and plans for a domain.
func (w *world) plan(name string) (*tlspolicy.Plan, mx.Route) {
	w.t.Helper()
	l, err := mx.New(mx.Config{Resolver: w, Shuffle: func(int, func(i, j int)) {}})
	if err != nil {
		w.t.Fatal(err)
	}
	d := domain(w.t, name)
	route, err := l.Hosts(w.t.Context(), d)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := w.store.Plan(w.t.Context(), d, route)
	if err != nil {
		w.t.Fatal(err)
	}
	return p, route
}

// require is the requirement of a domain's first host.
func (w *world) require(name string) tlspolicy.Requirement {
	w.t.Helper()
	p, route := w.plan(name)
	r, err := p.Host(w.t.Context(), route.Hosts[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// mode is the MTA-STS mode that holds for a domain.
func (w *world) mode(name string) string {
	w.t.Helper()
	p, _ := w.plan(name)
	return p.Policy.Mode.String() + " " + p.PolicyID
}

// state is a session's with a certificate.
func state(c tls.Certificate) *tls.ConnectionState {
	cs := &tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13}
	for _, raw := range c.Certificate {
		parsed, err := x509.ParseCertificate(raw)
		if err != nil {
			panic(err)
		}
		cs.PeerCertificates = append(cs.PeerCertificates, parsed)
	}
	return cs
}

// ee is a TLSA record's data for a certificate's key.
func ee(c tls.Certificate) string {
	sum := sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo)
	return "3 1 1 " + hex.EncodeToString(sum[:])
}

// policy is one for patterns.
func policy(mode mtasts.Mode, age time.Duration, mx ...string) mtasts.Policy {
	return mtasts.Policy{Mode: mode, MX: mx, MaxAge: age}
}

// show is a requirement in one line, or its error.
func show(r tlspolicy.Requirement, err error) string {
	if e, ok := errors.AsType[*tlspolicy.HostError](err); ok {
		return "left out: " + string(e.Result)
	}
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s (%s) sni=%s names=%s tlsa=%d testing=%v trusted=%v", r.Level, r.Source, r.ServerName, strings.Join(r.Names, ","), len(r.TLSA), r.Testing, r.Trusted)
}
