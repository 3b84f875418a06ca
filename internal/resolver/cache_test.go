package resolver_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"poczta.example/poczta/internal/resolver"
)

// counted is a Resolver that counts questions.
type counted struct {
	resolver.Resolver
	n atomic.Int64
}

func (c *counted) Lookup(ctx context.Context, name string, t resolver.Type) (resolver.Answer, error) {
	c.n.Add(1)
	return c.Resolver.Lookup(ctx, name, t)
}

// funcResolver is a Resolver of one function.
type funcResolver func(ctx context.Context, name string) (resolver.Answer, error)

func (f funcResolver) Lookup(ctx context.Context, name string, _ resolver.Type) (resolver.Answer, error) {
	return f(ctx, name)
}

func cache(t *testing.T, c resolver.CacheConfig) *resolver.Cache {
	t.Helper()
	r, err := resolver.NewCache(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const cacheZone = `
example.org. SOA ns.example.org. host.example.org. 1 2 3 4 900
a.example.org. 60 A 192.0.2.1
long.example.org. 9999999 A 192.0.2.2
short.example.org. 0 A 192.0.2.3
alias.example.org. 5 CNAME a.example.org.
no-soa.example. A 192.0.2.9
!servfail broken.example.org
`

func TestCacheLifetimes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		t    resolver.Type
		kept time.Duration // asked again after this, and not a second before
		want error
	}{
		{"a.example.org", resolver.A, time.Minute, nil},
		{"A.Example.ORG.", resolver.A, time.Minute, nil},
		{"long.example.org", resolver.A, 24 * time.Hour, nil},
		{"short.example.org", resolver.A, time.Second, nil},
		{"alias.example.org", resolver.A, 5 * time.Second, nil},
		{"absent.example.org", resolver.A, 15 * time.Minute, resolver.ErrNotFound},
		{"a.example.org", resolver.MX, 15 * time.Minute, resolver.ErrNoRecords},
		{"broken.example.org", resolver.A, 5 * time.Second, resolver.ErrTemporary},
		{"no-soa.example", resolver.MX, 0, resolver.ErrNoRecords},
	} {
		t.Run(fmt.Sprint(c.name, c.t), func(t *testing.T) {
			t.Parallel()
			z, err := resolver.NewZone(cacheZone)
			if err != nil {
				t.Fatal(err)
			}
			now := time.Unix(1e9, 0)
			src := &counted{Resolver: z}
			r := cache(t, resolver.CacheConfig{Resolver: src, Now: func() time.Time { return now }})
			ask := func(asked int64) {
				t.Helper()
				_, err := r.Lookup(t.Context(), c.name, c.t)
				if !errors.Is(err, c.want) || c.want == nil && err != nil {
					t.Errorf("got %v, want %v", err, c.want)
				}
				if src.n.Load() != asked {
					t.Errorf("at %v: asked %d times, want %d", now.Unix()-1e9, src.n.Load(), asked)
				}
			}
			ask(1)
			if c.kept > 0 {
				now = now.Add(c.kept - time.Millisecond)
				ask(1)
				now = now.Add(time.Millisecond)
			}
			ask(2)
			now = time.Unix(0, 0) // a clock that went back keeps nothing for ever
			ask(3)
		})
	}
}

func TestCacheTTLFallsAndAnswersAreCopies(t *testing.T) {
	t.Parallel()
	z, _ := resolver.NewZone(cacheZone)
	now := time.Unix(1e9, 0)
	r := cache(t, resolver.CacheConfig{Resolver: z, Now: func() time.Time { return now }})
	first, _ := r.Lookup(t.Context(), "a.example.org", resolver.A)
	first.Records[0].Text = "scribbled"
	now = now.Add(20 * time.Second)
	second, err := r.Lookup(t.Context(), "a.example.org", resolver.A)
	if err != nil || second.Records[0].TTL != 40*time.Second || second.Records[0].Text != "" {
		t.Errorf("got %+v, %v; want 40 s left and nobody's scribble", second, err)
	}
	_, err = r.Lookup(t.Context(), "gone.example.org", resolver.A)
	now = now.Add(100 * time.Second)
	_, err2 := r.Lookup(t.Context(), "gone.example.org", resolver.A)
	a, _ := errors.AsType[*resolver.Absent](err)
	b, ok := errors.AsType[*resolver.Absent](err2)
	if !ok || a.TTL-b.TTL != 100*time.Second || b.NoData || b.Secure {
		t.Errorf("got %+v then %+v", a, b)
	}
}

func TestCacheBounds(t *testing.T) {
	t.Parallel()
	src := &counted{Resolver: funcResolver(func(_ context.Context, name string) (resolver.Answer, error) {
		ans := resolver.Answer{Name: name, Records: []resolver.Record{{TTL: time.Hour}}}
		if name == "giant" {
			ans.Records = make([]resolver.Record, 4000)
			for i := range ans.Records {
				ans.Records[i].TTL = time.Hour
			}
		}
		return ans, nil
	})}
	r := cache(t, resolver.CacheConfig{Resolver: src, MaxEntries: 100, MaxOctets: 1 << 20})
	ask := func(name string) { _, _ = r.Lookup(t.Context(), name, resolver.A) }
	for i := range 1000 {
		ask(fmt.Sprintf("h%d", i))
		ask("h0") // used all the time: stays
	}
	if n, _ := r.Len(); n != 100 || src.n.Load() != 1000 {
		t.Errorf("got %d entries after %d questions, want 100 after 1000", n, src.n.Load())
	}
	ask("giant")
	if n, octets := r.Len(); n != 100 || octets > 1<<20 {
		t.Errorf("a giant answer was kept: %d entries, %d octets", n, octets)
	}
	small := cache(t, resolver.CacheConfig{Resolver: src, MaxOctets: 100_000})
	for i := range 1000 {
		_, _ = small.Lookup(t.Context(), fmt.Sprintf("h%d", i), resolver.A)
	}
	if n, octets := small.Len(); octets > 100_000 || n < 50 {
		t.Errorf("got %d entries, %d octets", n, octets)
	}
}

// TestCacheJoins has askers of one question; some leave, the rest get its answer.
func TestCacheJoins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		src := &counted{Resolver: funcResolver(func(ctx context.Context, name string) (resolver.Answer, error) {
			select {
			case <-release:
				return resolver.Answer{Name: name, Records: []resolver.Record{{TTL: time.Hour}}}, nil
			case <-ctx.Done():
				return resolver.Answer{}, fmt.Errorf("%w: %w", resolver.ErrTemporary, ctx.Err())
			}
		})}
		r := cache(t, resolver.CacheConfig{Resolver: src})
		first, leave := context.WithCancel(t.Context())
		errs := make([]error, 10)
		var wg sync.WaitGroup
		for i := range errs {
			ctx := t.Context()
			if i%2 == 0 {
				ctx = first
			}
			wg.Go(func() { _, errs[i] = r.Lookup(ctx, "h", resolver.A) })
			synctest.Wait()
		}
		leave()
		synctest.Wait()
		close(release)
		wg.Wait()
		for i, err := range errs {
			if left := i%2 == 0; left != errors.Is(err, context.Canceled) || !left && err != nil {
				t.Errorf("asker %d: %v", i, err)
			}
		}
		if src.n.Load() != 1 {
			t.Errorf("asked %d times", src.n.Load())
		}
	})
}

// TestCacheAbandons has everybody leave: the question ends, and nothing of it is kept.
func TestCacheAbandons(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := &counted{Resolver: funcResolver(func(ctx context.Context, _ string) (resolver.Answer, error) {
			<-ctx.Done()
			return resolver.Answer{}, fmt.Errorf("%w: %w", resolver.ErrTemporary, ctx.Err())
		})}
		r := cache(t, resolver.CacheConfig{Resolver: src})
		for i := range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := r.Lookup(ctx, "h", resolver.A)
			cancel()
			if !errors.Is(err, resolver.ErrTemporary) || !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if src.n.Load() != int64(i+1) {
				t.Errorf("asked %d times, want %d", src.n.Load(), i+1)
			}
		}
	})
}

// TestCacheUnderLoad has goroutines that ask, give up and drive entries out; each
// answer must be of the name asked for.
func TestCacheUnderLoad(t *testing.T) {
	t.Parallel()
	src := funcResolver(func(ctx context.Context, name string) (resolver.Answer, error) {
		if ctx.Err() != nil {
			return resolver.Answer{}, fmt.Errorf("%w: %w", resolver.ErrTemporary, ctx.Err())
		}
		if name[len(name)-1] == '7' {
			return resolver.Answer{}, &resolver.Absent{Name: name, TTL: time.Hour}
		}
		return resolver.Answer{Name: name, Records: []resolver.Record{{TTL: time.Hour, Text: name}}}, nil
	})
	r := cache(t, resolver.CacheConfig{Resolver: src, MaxEntries: 20})
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 2000 {
				name := fmt.Sprintf("h%d", (i*(g+3))%50)
				ctx, cancel := context.WithCancel(t.Context())
				if i%5 == 0 {
					cancel()
				}
				ans, err := r.Lookup(ctx, name, resolver.TXT)
				switch absent, _ := errors.AsType[*resolver.Absent](err); {
				case err == nil && ans.Records[0].Text != name, absent != nil && absent.Name != name, absent == nil && err != nil && ctx.Err() == nil:
					t.Errorf("%s: got %+v, %v", name, ans, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if n, _ := r.Len(); n > 20 {
		t.Errorf("%d entries", n)
	}
}
