package keys_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/keys"
	"poczta.example/poczta/internal/resolver"
)

// zone is DNS as the operator edits it.
type zone struct {
	mu      sync.Mutex
	records map[string]string
	down    bool
}

// TXT implements dkim.Records.
func (z *zone) TXT(_ context.Context, name string) ([]string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.down {
		return nil, errors.New("SERVFAIL")
	}
	if text, ok := z.records[name]; ok {
		return []string{text}, nil
	}
	return nil, fmt.Errorf("%w: %s", dkim.ErrNoKey, name)
}

func (z *zone) set(name, text string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.records == nil {
		z.records = map[string]string{}
	}
	if z.records[name] = text; text == "" {
		delete(z.records, name)
	}
}

func (z *zone) publish(list []keys.Key) {
	for _, k := range list {
		if k.Stage != keys.Removed {
			z.set(k.Name(), k.Record)
		}
	}
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// house is a store of keys with the world around it.
type house struct {
	*keys.Keys
	zone  *zone
	clock *clock
	log   *bytes.Buffer
	t     *testing.T
}

func newHouse(t *testing.T, d db.Database, edit func(*keys.Config)) *house {
	t.Helper()
	h := &house{zone: &zone{}, clock: &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}, log: &bytes.Buffer{}, t: t}
	c := keys.Config{DB: d, Records: h.zone, Algorithms: []keys.Algorithm{keys.Ed25519}, Now: h.clock.Now, Logger: slog.New(slog.NewTextHandler(h.log, nil))}
	if edit != nil {
		edit(&c)
	}
	var err error
	if h.Keys, err = keys.New(c); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) list() []keys.Key {
	h.t.Helper()
	all, err := h.List(h.t.Context(), dom)
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// stages is the list in one line.
func (h *house) stages() string {
	h.t.Helper()
	var words []string
	for _, k := range h.list() {
		words = append(words, string(k.Algorithm)+" "+k.Stage.String())
	}
	return strings.Join(words, ", ")
}

func (h *house) wantStages(want string) {
	h.t.Helper()
	if got := h.stages(); got != want {
		h.t.Errorf("stages are %q, want %q", got, want)
	}
}

func (h *house) advance() {
	h.t.Helper()
	if err := h.Advance(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) rotate(force bool) []keys.Key {
	h.t.Helper()
	all, err := h.Rotate(h.t.Context(), dom, force)
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// selectors are those that Signer signs with now.
func (h *house) selectors() string {
	h.t.Helper()
	s, err := h.Signer(h.t.Context(), dom)
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Join(s.Selectors(), " ")
}

var dom = mustDomain("example.org")

func mustDomain(s string) address.Domain {
	d, err := address.ParseDomain(s)
	if err != nil {
		panic(err)
	}
	return d
}

func each(t *testing.T, fn func(t *testing.T, d db.Database)) {
	t.Parallel()
	dbtest.Each(t, []db.Component{keys.Schema}, fn)
}

// TestCreate: the first keys sign at once, and what they sign holds with their records.
func TestCreate(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		h := newHouse(t, d, func(c *keys.Config) { c.Algorithms = nil })
		if _, err := h.Signer(t.Context(), dom); !errors.Is(err, keys.ErrNoKey) {
			t.Fatalf("got %v before, want ErrNoKey", err)
		}
		all, err := h.Create(t.Context(), dom)
		if err != nil {
			t.Fatal(err)
		}
		h.wantStages("ed25519 active, rsa active")
		again, err := h.Create(t.Context(), dom)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(all, again, cmp.Comparer(func(a, b address.Domain) bool { return a == b })); diff != "" {
			t.Errorf("a second Create changed the keys (-want +got):\n%s", diff)
		}
		h.zone.publish(all)
		s, err := h.Signer(t.Context(), dom)
		if err != nil {
			t.Fatal(err)
		}
		const header = "From: ala@example.org\r\n"
		g := s.Begin([]byte(header), dkim.Options{})
		fields, err := g.Fields(h.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		v, err := dkim.NewVerifier(dkim.VerifierConfig{Records: h.zone})
		if err != nil {
			t.Fatal(err)
		}
		results := v.Begin(append(fields, header...)).Results(t.Context(), h.clock.Now())
		if len(results) != 2 {
			t.Fatalf("%d signatures, want 2", len(results))
		}
		for i, r := range results {
			if r.Status != dkim.Pass || r.Bits != []int{256, 2048}[i] {
				t.Errorf("%s with %d bits: %v", r.Status, r.Bits, r.Err)
			}
		}
	})
}

// TestRotation goes through all stages by the clock and DNS.
func TestRotation(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		h := newHouse(t, d, nil)
		first, err := h.Create(t.Context(), dom)
		if err != nil {
			t.Fatal(err)
		}
		h.zone.publish(first)
		old := h.selectors()

		h.rotate(false)
		h.wantStages("ed25519 prepared, ed25519 active")
		h.advance()
		h.wantStages("ed25519 prepared, ed25519 active") // DNS does not show it yet
		h.rotate(false)
		h.wantStages("ed25519 prepared, ed25519 active") // nor makes a second call a third key

		h.zone.publish(h.list())
		h.advance()
		h.wantStages("ed25519 published, ed25519 active")
		h.clock.add(59 * time.Minute)
		h.advance()
		h.wantStages("ed25519 published, ed25519 active")
		if got := h.selectors(); got != old {
			t.Errorf("%s signs before its time", got)
		}
		h.clock.add(time.Minute)
		h.advance()
		h.wantStages("ed25519 active, ed25519 retired")
		if got := h.selectors(); got == old {
			t.Errorf("%s still signs", got)
		}

		h.clock.add(7*24*time.Hour - time.Second)
		h.advance()
		h.wantStages("ed25519 active, ed25519 retired")
		h.clock.add(time.Second)
		h.advance()
		h.wantStages("ed25519 active, ed25519 removed")
		h.advance()
		h.wantStages("ed25519 active, ed25519 removed") // DNS still shows it
		h.zone.down = true
		h.advance()
		h.wantStages("ed25519 active, ed25519 removed") // an outage is no deletion
		h.zone.down = false
		h.zone.set(first[0].Name(), "v=DKIM1; k=ed25519; p=")
		h.advance()
		h.wantStages("ed25519 active")
	})
}

// TestRotateAgain: a second call does not wait for secondary name servers, nor
// does it go on with half of the records.
func TestRotateAgain(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		h := newHouse(t, d, func(c *keys.Config) { c.Algorithms = nil })
		if all := h.rotate(false); len(all) != 2 {
			t.Fatalf("a domain without keys gets %d", len(all))
		}
		h.wantStages("ed25519 active, rsa active")
		all := h.rotate(false)
		h.zone.publish(all[:1])
		h.rotate(false)
		h.wantStages("rsa prepared, ed25519 published, ed25519 active, rsa active")
		h.clock.add(24 * time.Hour)
		h.advance()
		h.wantStages("rsa prepared, ed25519 published, ed25519 active, rsa active")
		h.zone.publish(all)
		h.rotate(false)
		h.wantStages("ed25519 active, rsa active, ed25519 retired, rsa retired")
	})
}

// TestForce does not ask DNS, on the first call or a later one.
func TestForce(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		h := newHouse(t, d, nil)
		h.rotate(false)
		h.rotate(true)
		h.wantStages("ed25519 active, ed25519 retired")
		h.rotate(false)
		h.zone.down = true
		h.rotate(true)
		h.wantStages("ed25519 active, ed25519 retired, ed25519 retired")
	})
}

// TestVanished: a record that is gone again when the time is over stops the change.
func TestVanished(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		h := newHouse(t, d, nil)
		h.rotate(false)
		all := h.rotate(false)
		h.zone.publish(all)
		h.advance()
		h.zone.set(all[0].Name(), "")
		h.clock.add(2 * time.Hour)
		h.advance()
		h.wantStages("ed25519 published, ed25519 active")
	})
}

// TestPrivateKeysStay: nothing that is listed or logged holds one, and a retired
// key has none any more.
func TestPrivateKeysStay(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		h := newHouse(t, d, nil)
		all, err := h.Create(t.Context(), dom)
		if err != nil {
			t.Fatal(err)
		}
		private := func() []byte {
			var b []byte
			err := d.View(t.Context(), func(tx db.Tx) error {
				return tx.QueryRow(`SELECT private FROM dkim_key WHERE selector = ?`, all[0].Selector).Scan(&b)
			})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if len(private()) == 0 {
			t.Fatal("the active key has no private half")
		}
		secret := fmt.Sprintf("%x", private()[len(private())-32:])
		h.rotate(true)
		if n := len(private()); n != 0 {
			t.Errorf("the retired key keeps %d octets", n)
		}
		if text := fmt.Sprintf("%+v %x %s", h.list(), fmt.Sprint(h.list()), h.log); strings.Contains(text, secret) {
			t.Error("a private key is told")
		}
	})
}

// TestNodes: what one node changes, another knows after Fresh, and not before by
// guess; their changes do not mix.
func TestNodes(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		one := newHouse(t, d, nil)
		two := newHouse(t, d, func(c *keys.Config) { c.Now = one.clock.Now })
		two.clock = one.clock
		if _, err := one.Create(t.Context(), dom); err != nil {
			t.Fatal(err)
		}
		before := two.selectors()
		one.rotate(true)
		one.clock.add(5 * time.Second)
		if after := two.selectors(); after == before || after != one.selectors() {
			t.Errorf("node two signs with %s, node one with %s, before %s", after, one.selectors(), before)
		}
		var wg sync.WaitGroup
		for _, h := range []*house{one, two, one, two} {
			wg.Go(func() {
				if _, err := h.Rotate(t.Context(), dom, false); err != nil && !errors.Is(err, keys.ErrBusy) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		one.wantStages("ed25519 prepared, ed25519 active, ed25519 retired")
		if err := one.Forget(t.Context(), dom); err != nil {
			t.Fatal(err)
		}
		one.clock.add(5 * time.Second)
		for _, h := range []*house{one, two} {
			if _, err := h.Signer(t.Context(), dom); !errors.Is(err, keys.ErrNoKey) {
				t.Errorf("got %v after the keys are gone, want ErrNoKey", err)
			}
		}
		if _, err := two.Create(t.Context(), dom); err != nil {
			t.Fatal(err)
		}
		one.clock.add(5 * time.Second)
		if a, b := one.selectors(), two.selectors(); a != b {
			t.Errorf("the nodes sign with %s and %s", a, b)
		}
	})
}

// TestSignerIsCached: signing reads no key twice, and no row at all within Fresh.
func TestSignerIsCached(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{keys.Schema}); err != nil {
		t.Fatal(err)
	}
	counted := &counting{Database: d}
	h := newHouse(t, counted, nil)
	if _, err := h.Create(t.Context(), dom); err != nil {
		t.Fatal(err)
	}
	first, err := h.Signer(t.Context(), dom)
	if err != nil {
		t.Fatal(err)
	}
	views := counted.views
	for range 10 {
		if s, err := h.Signer(t.Context(), dom); err != nil || s != first {
			t.Fatalf("another signer, or %v", err)
		}
	}
	if counted.views != views {
		t.Errorf("%d reads within Fresh", counted.views-views)
	}
	h.clock.add(time.Minute)
	if s, err := h.Signer(t.Context(), dom); err != nil || s != first || counted.views != views+1 {
		t.Errorf("%d reads, another signer: %v, %v", counted.views-views, s != first, err)
	}
	counted.err = errors.New("the database is away")
	h.clock.add(time.Minute)
	if _, err := h.Signer(t.Context(), dom); !errors.Is(err, counted.err) {
		t.Errorf("got %v, want the database's error", err)
	}
}

type counting struct {
	db.Database
	views int
	err   error
}

// View implements db.Database.
func (c *counting) View(ctx context.Context, fn func(db.Tx) error) error {
	c.views++
	if c.err != nil {
		return c.err
	}
	return c.Database.View(ctx, fn)
}

func TestLook(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{keys.Schema}); err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, d, nil)
	all, err := h.Create(t.Context(), dom)
	if err != nil {
		t.Fatal(err)
	}
	name := all[0].Name()
	tests := []struct {
		name, zone string
		want       keys.Finding
	}{
		{"ours", name + `. TXT "` + all[0].Record[:20] + `" "` + all[0].Record[20:] + `"`, keys.Same},
		{"none", name + `. A 192.0.2.1`, keys.Missing},
		{"no name", `example.org. A 192.0.2.1`, keys.Missing},
		{"revoked", name + `. TXT "v=DKIM1; p="`, keys.Revoked},
		{"another", name + `. TXT "k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="`, keys.Different},
		{"malformed", name + `. TXT "hello"`, keys.Different},
		{"fault", `!servfail ` + name, keys.Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z, err := resolver.NewZone(tt.zone + "\n")
			if err != nil {
				t.Fatal(err)
			}
			got, err := keys.Look(t.Context(), keys.DNS{Resolver: z}, dom, all[0].Selector, all[0].Record)
			if got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
		})
	}
}

// TestListInPages: more keys than a page holds are listed once each, by domain.
func TestListInPages(t *testing.T) {
	each(t, func(t *testing.T, d db.Database) {
		h := newHouse(t, d, nil)
		const domains = 700
		err := d.Update(t.Context(), func(tx db.Tx) error {
			for i := range 3 * domains {
				_, err := tx.Exec(`INSERT INTO dkim_key (domain, selector, algorithm, stage, record, private, created, published, activated, retired, removed) VALUES (?, ?, 'rsa', ?, '', ?, 0, 0, 0, 0, 0)`,
					fmt.Sprintf("d%04d.example", i/3), fmt.Sprintf("s%d", i%3), int64(3+(2-i%3)%2), []byte{})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		all, err := h.List(t.Context(), address.Domain{})
		if err != nil || len(all) != 3*domains {
			t.Fatalf("%d keys (%v), want %d", len(all), err, 3*domains)
		}
		for i, k := range all {
			want := fmt.Sprintf("d%04d.example s%d", i/3, []int{0, 2, 1}[i%3])
			if got := k.Domain.String() + " " + k.Selector; got != want {
				t.Fatalf("key %d is %s, want %s", i, got, want)
			}
		}
	})
}

// TestRun: the loop looks at DNS by itself and ends with its context.
func TestRun(t *testing.T) {
	t.Parallel()
	d := dbtest.SQLite(t)
	if err := db.Migrate(t.Context(), d, []db.Component{keys.Schema}); err != nil {
		t.Fatal(err)
	}
	moved := make(chan keys.Stage, 10)
	h := newHouse(t, d, func(c *keys.Config) {
		c.Look, c.Settle = time.Millisecond, time.Nanosecond
		c.Now = time.Now
		c.Hooks.Moved = func(to keys.Stage, _ int) { moved <- to }
	})
	h.rotate(false)
	all := h.rotate(false)
	h.zone.publish(all)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	for _, want := range []keys.Stage{keys.Active, keys.Prepared, keys.Published, keys.Active} {
		if got := <-moved; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRunWaits: ten minutes lie between two looks at DNS.
func TestRunWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counting{err: errors.New("no database")}
		k, err := keys.New(keys.Config{DB: c})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Minute)
		defer cancel()
		if err := k.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if c.views != 3 {
			t.Errorf("%d looks in 35 minutes, want 3", c.views)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]keys.Config{
		"no database":       {},
		"unknown algorithm": {DB: &counting{}, Algorithms: []keys.Algorithm{"dsa"}},
		"negative time":     {DB: &counting{}, Keep: -1},
	} {
		if _, err := keys.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
