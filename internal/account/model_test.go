package account_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/sasl"
)

// model is what routing should say, written as plainly as can be: accounts by
// address, aliases by source, and a search.
type model struct {
	accounts map[string]*modelAccount // by address key
	aliases  map[string][]string      // by source key or "@domain"
}

type modelAccount struct {
	id       envelope.AccountID
	login    string
	disabled bool
}

var modelDomains = []string{"a.example", "b.example"}

// reach adds the accounts and remote addresses that addr leads to.
func (m *model) reach(addr string, depth int, way []string, into map[string]bool) {
	local, domain, _ := strings.Cut(addr, "@")
	if !slices.Contains(modelDomains, domain) {
		into["remote "+addr] = true
		return
	}
	if depth > 10 || slices.Contains(way, addr) {
		return
	}
	way = append(slices.Clone(way), addr)
	user, _, sub := strings.Cut(local, "+")
	names := []string{addr}
	if sub && user != "" {
		names = append(names, user+"@"+domain)
	}
	for _, name := range names {
		if acc := m.accounts[name]; acc != nil {
			if !acc.disabled {
				into[acc.login] = true
			}
			return
		}
	}
	for _, name := range append(names, "@"+domain) {
		if targets, ok := m.aliases[name]; ok {
			for _, t := range targets {
				m.reach(t, depth+1, way, into)
			}
			return
		}
	}
}

// TestModel runs random changes against the model and compares every route after
// each of them. With SQLite this also proves that no cached answer is stale.
func TestModel(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		a := open(t, d, func(c *account.Config) { c.CacheEntries = 64 }) // small: eviction works too
		addDomain(t, a, modelDomains...)
		m := &model{accounts: map[string]*modelAccount{}, aliases: map[string][]string{}}
		rnd := rand.New(rand.NewPCG(1, 2))
		locals := []string{"u", "v", "u+x", "w", "v+y", "z"}
		pick := func() string { return locals[rnd.IntN(len(locals))] + "@" + modelDomains[rnd.IntN(2)] }
		steps := 300
		if d.Engine() != "sqlite" {
			steps = 60 // nothing is cached there, and every route is a round trip
		}
		for step := range steps {
			what := m.change(t, a, rnd, pick)
			for _, local := range append(locals, "u+q", "w+q", "n") {
				for _, domain := range append(modelDomains, "remote.example") {
					m.compare(t, a, fmt.Sprintf("step %d, %s", step, what), local+"@"+domain)
				}
			}
			if t.Failed() {
				return
			}
		}
	})
}

func (m *model) compare(t *testing.T, a *account.Accounts, when, addr string) {
	t.Helper()
	r, err := a.Route(context.Background(), address.NewForwardPath(mustAddr(t, addr)))
	want := map[string]bool{}
	if !strings.HasSuffix(addr, "@remote.example") {
		m.reach(addr, 0, nil, want)
	}
	got := map[string]bool{}
	for _, l := range r.Locals {
		got[l.Login] = true
	}
	for _, x := range r.Remotes {
		got["remote "+x.String()] = true
	}
	if len(got) != len(r.Locals)+len(r.Remotes) {
		t.Errorf("%s: %s leads twice to one place: %+v", when, addr, r)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || (err == nil) != (len(want) > 0) {
		t.Errorf("%s: %s: got %v, %v; want %v", when, addr, got, err, want)
	}
}

// change makes one random change to both; refusals must leave both as they were.
func (m *model) change(t *testing.T, a *account.Accounts, rnd *rand.Rand, pick func() string) string {
	t.Helper()
	ctx := context.Background()
	addr := pick()
	switch op := rnd.IntN(10); {
	case op < 3:
		acc, err := a.Add(ctx, account.NewAccount{Address: mustAddr(t, addr)})
		if taken := m.accounts[addr] != nil || m.aliases[addr] != nil; taken != errors.Is(err, account.ErrExists) {
			t.Fatalf("add %s: %v, taken %v", addr, err, taken)
		} else if !taken {
			m.accounts[addr] = &modelAccount{id: acc.ID, login: acc.Login}
		}
		return "add " + addr
	case op < 7:
		source, targets := addr, []string{pick()}
		if rnd.IntN(5) == 0 {
			source = "@" + modelDomains[rnd.IntN(2)]
		}
		if rnd.IntN(3) == 0 {
			targets = append(targets, "far@remote.example")
		}
		if err := a.AddAlias(ctx, alias(t, source, targets...)); err == nil {
			for _, target := range targets {
				if !slices.Contains(m.aliases[source], target) {
					m.aliases[source] = append(m.aliases[source], target)
				}
			}
		} else if !errors.Is(err, account.ErrExists) && !errors.Is(err, account.ErrUnknownUser) && !errors.Is(err, account.ErrLoop) {
			t.Fatal(err)
		}
		return fmt.Sprint("alias ", source, targets)
	case op < 8:
		for source := range m.aliases {
			if err := a.RemoveAlias(ctx, alias(t, source)); err != nil {
				t.Fatal(err)
			}
			delete(m.aliases, source)
			return "remove alias " + source
		}
	default:
		if acc := m.accounts[addr]; acc != nil {
			return m.changeAccount(t, a, rnd, addr, acc)
		}
	}
	return "nothing"
}

func (m *model) changeAccount(t *testing.T, a *account.Accounts, rnd *rand.Rand, addr string, acc *modelAccount) string {
	t.Helper()
	ctx := context.Background()
	if rnd.IntN(2) == 0 {
		if err := a.Remove(ctx, acc.id); err != nil {
			t.Fatal(err)
		}
		delete(m.accounts, addr)
		return "remove " + addr
	}
	set := a.Disable
	if acc.disabled {
		set = a.Enable
	}
	if err := set(ctx, acc.id); err != nil {
		t.Fatal(err)
	}
	acc.disabled = !acc.disabled
	return "switch " + addr
}

// TestConcurrent lets many sessions log in and be routed while passwords, states
// and aliases change: a change counts from its return on, for everybody.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, func(c *account.Config) { c.HashQueue = 10_000 })
		addDomain(t, a, "a.example")
		var workers sync.WaitGroup
		for w := range 6 {
			workers.Go(func() {
				user := fmt.Sprintf("u%d@a.example", w)
				acc, err := a.Add(ctx, account.NewAccount{Address: mustAddr(t, user), Password: "password-0"})
				if err != nil {
					t.Error(err)
					return
				}
				for i := range 12 {
					old, now := fmt.Sprintf("password-%d", i), fmt.Sprintf("password-%d", i+1)
					_, err1 := a.VerifyPlain(ctx, peer, "", user, old)
					err2 := a.SetPassword(ctx, acc.ID, now)
					_, err3 := a.VerifyPlain(ctx, peer, "", user, old)
					_, err4 := a.VerifyPlain(ctx, peer, "", user, now)
					_, err5 := a.VerifyPlain(ctx, peer, "", user, now)
					if err := errors.Join(err1, err2, err4, err5); err != nil || !errors.Is(err3, sasl.ErrCredentials) {
						t.Errorf("%s, round %d: %v; old password: %v", user, i, err, err3)
						return
					}
					list := fmt.Sprintf("list%d@a.example", w)
					if err := a.AddAlias(ctx, alias(t, list, user)); err != nil {
						t.Error(err)
					}
					if got := route(t, a, list); got != "alias: "+user {
						t.Errorf("after AddAlias: got %q", got)
					}
					if err := a.RemoveAlias(ctx, alias(t, list)); err != nil {
						t.Error(err)
					}
					if got := route(t, a, list); got != "unknown" {
						t.Errorf("after RemoveAlias: got %q", got)
					}
				}
			})
		}
		workers.Wait()
	})
}

// TestTwoNodes: on PostgreSQL what one node changes holds at once on the other.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := dbtest.Postgres(t)
	if err := db.Migrate(ctx, d, components); err != nil {
		t.Fatal(err)
	}
	a, b := open(t, d, nil), open(t, d, nil)
	addDomain(t, a, "a.example")
	acc := add(t, a, "ala@a.example", "", "password-0")
	for i := range 5 {
		old, now := fmt.Sprintf("password-%d", i), fmt.Sprintf("password-%d", i+1)
		for range 2 {
			if _, err := b.VerifyPlain(ctx, peer, "", "ala@a.example", old); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.SetPassword(ctx, acc.ID, now); err != nil {
			t.Fatal(err)
		}
		_, err := b.VerifyPlain(ctx, peer, "", "ala@a.example", old)
		wantErr(t, "old password on the other node", err, sasl.ErrCredentials)
		if err := a.Disable(ctx, acc.ID); err != nil {
			t.Fatal(err)
		}
		if got := route(t, b, "ala@a.example"); got != "disabled" {
			t.Errorf("got %q", got)
		}
		if err := a.Enable(ctx, acc.ID); err != nil {
			t.Fatal(err)
		}
	}
}
