package account_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/limit"
	"poczta.example/poczta/internal/sasl"
)

// iterations keeps tests quick; the cost is a parameter of the same code.
const iterations = 4096

var components = []db.Component{account.Component()}

var peer = sasl.Peer{Addr: netip.MustParseAddr("192.0.2.7"), Protocol: "pop3"}

func open(t testing.TB, d db.Database, change func(*account.Config)) *account.Accounts {
	t.Helper()
	c := account.Config{DB: d, Iterations: iterations, FailureDelay: -1}
	c.Failures.Address = limit.Rate{Burst: 1000, Every: time.Second}
	c.Failures.Network = c.Failures.Address
	if change != nil {
		change(&c)
	}
	a, err := account.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mustAddr(t testing.TB, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mustDomain(t testing.TB, s string) address.Domain {
	t.Helper()
	d, err := address.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func addDomain(t testing.TB, a *account.Accounts, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := a.AddDomain(context.Background(), mustDomain(t, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func add(t testing.TB, a *account.Accounts, addr, login, password string) account.Account {
	t.Helper()
	acc, err := a.Add(context.Background(), account.NewAccount{Address: mustAddr(t, addr), Login: login, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return acc
}

func addAlias(t testing.TB, a *account.Accounts, source string, targets ...string) {
	t.Helper()
	if err := a.AddAlias(context.Background(), alias(t, source, targets...)); err != nil {
		t.Fatal(err)
	}
}

func alias(t testing.TB, source string, targets ...string) account.Alias {
	t.Helper()
	s, err := account.ParseAlias(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		s.Targets = append(s.Targets, mustAddr(t, target))
	}
	return s
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || (want == nil && got != nil) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func TestDomains(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		addDomain(t, a, "example.org", "żółw.example")
		wantErr(t, "second time", a.AddDomain(ctx, mustDomain(t, "EXAMPLE.org")), account.ErrExists)
		acc := add(t, a, "ala@example.org", "", "")
		addAlias(t, a, "info@example.org", "ala@example.org")
		wantErr(t, "domain in use", a.RemoveDomain(ctx, mustDomain(t, "example.org")), account.ErrNotEmpty)
		wantErr(t, "absent domain", a.RemoveDomain(ctx, mustDomain(t, "example.net")), account.ErrNotFound)

		domains, err := a.Domains(ctx)
		if err != nil || len(domains) != 2 {
			t.Fatalf("got domains %v, %v", domains, err)
		}
		if got := domains[0]; got.Name.String() != "example.org" || got.Accounts != 1 || got.Aliases != 1 {
			t.Errorf("got %+v", got)
		}
		if got := domains[1].Name.String(); got != "xn--w-uga1v8h.example" {
			t.Errorf("got %s for a U-label", got)
		}
		if err := a.RemoveAlias(ctx, alias(t, "info@example.org")); err != nil {
			t.Fatal(err)
		}
		if err := a.Remove(ctx, acc.ID); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "empty domain", a.RemoveDomain(ctx, mustDomain(t, "example.org")), nil)
		local, err := a.IsLocal(ctx, mustDomain(t, "example.org"))
		if err != nil || local {
			t.Errorf("removed domain is local: %v, %v", local, err)
		}
		local, err = a.IsLocal(ctx, mustDomain(t, "żółw.example"))
		if err != nil || !local {
			t.Errorf("domain without accounts is local: %v, %v", local, err)
		}
	})
}

func TestIsLocalFollowsDomains(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		is := func(what string, want bool) {
			t.Helper()
			for range 2 { // read, and remembered
				if got, err := a.IsLocal(ctx, mustDomain(t, "example.org")); err != nil || got != want {
					t.Errorf("%s: local is %v, %v", what, got, err)
				}
			}
		}
		is("before it is added", false)
		addDomain(t, a, "example.org")
		is("added", true)
		if err := a.RemoveDomain(ctx, mustDomain(t, "example.org")); err != nil {
			t.Fatal(err)
		}
		is("removed", false)
	})
}

func TestAccountsLifecycle(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		addDomain(t, a, "example.org")
		ala := add(t, a, "Ala@Example.org", "ala.kot", "korek-butelka")
		if ala.Login != "ala.kot" || ala.Address.String() != "Ala@example.org" || !ala.HasPassword || ala.Language != "en" {
			t.Errorf("got %+v", ala)
		}
		for name, n := range map[string]account.NewAccount{
			"address taken":              {Address: mustAddr(t, "ALA@example.org")},
			"login taken":                {Address: mustAddr(t, "x@example.org"), Login: "ALA.kot"},
			"login is another's address": {Address: mustAddr(t, "y@example.org"), Login: "ala@example.org"},
		} {
			_, err := a.Add(ctx, n)
			wantErr(t, name, err, account.ErrExists)
		}
		for name, n := range map[string]account.NewAccount{
			"short password":   {Address: mustAddr(t, "x@example.org"), Password: "krótkie"},
			"control":          {Address: mustAddr(t, "x@example.org"), Password: "with\tcontrol characters"},
			"language":         {Address: mustAddr(t, "x@example.org"), Language: "de"},
			"login with space": {Address: mustAddr(t, "x@example.org"), Login: "a b"},
			"quota":            {Address: mustAddr(t, "x@example.org"), Quota: -1},
			"name":             {Address: mustAddr(t, "x@example.org"), Name: "a\x00b"},
			"no address":       {},
		} {
			_, err := a.Add(ctx, n)
			wantErr(t, name, err, account.ErrInvalid)
		}
		_, err := a.Add(ctx, account.NewAccount{Address: mustAddr(t, "x@elsewhere.example")})
		wantErr(t, "foreign domain", err, account.ErrNotLocal)

		if err := a.AddAddress(ctx, ala.ID, mustAddr(t, "alicja@example.org")); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "primary", a.RemoveAddress(ctx, ala.ID, mustAddr(t, "ala@example.org")), account.ErrNotEmpty)
		for _, name := range []string{"ALA.KOT", "ala@example.org", "alicja@EXAMPLE.ORG"} {
			got, err := a.Get(ctx, name)
			if err != nil || got.ID != ala.ID || len(got.Addresses) != 2 {
				t.Errorf("Get(%q): %+v, %v", name, got, err)
			}
		}
		if err := a.RemoveAddress(ctx, ala.ID, mustAddr(t, "alicja@example.org")); err != nil {
			t.Fatal(err)
		}
		_, err = a.Get(ctx, "alicja@example.org")
		wantErr(t, "removed address", err, account.ErrNotFound)
		if err := errors.Join(a.SetQuota(ctx, ala.ID, 1<<40), a.SetName(ctx, ala.ID, "Ala Łąka", "pl")); err != nil {
			t.Fatal(err)
		}
		got, err := a.ByID(ctx, ala.ID)
		if err != nil || got.Quota != 1<<40 || got.Name != "Ala Łąka" || got.Language != "pl" {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

// TestRemovedAccount: an id is never used again, and names are free at once.
func TestRemovedAccount(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		addDomain(t, a, "example.org")
		first := add(t, a, "ala@example.org", "ala", "korek-butelka")
		if _, _, err := a.AddAppPassword(ctx, first.ID, "phone"); err != nil {
			t.Fatal(err)
		}
		if err := a.Remove(ctx, first.ID); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "twice", a.Remove(ctx, first.ID), account.ErrNotFound)
		wantErr(t, "password of a removed account", a.SetPassword(ctx, first.ID, "inny-korek"), account.ErrNotFound)
		wantErr(t, "enable a removed account", a.Enable(ctx, first.ID), account.ErrNotFound)
		second := add(t, a, "ala@example.org", "ala", "korek-butelka")
		if second.ID <= first.ID {
			t.Errorf("id %d after %d", second.ID, first.ID)
		}
		old, err := a.ByID(ctx, first.ID)
		if err != nil || old.State != account.Removed || old.HasPassword || old.Removed.IsZero() {
			t.Errorf("got %+v, %v", old, err)
		}
		gone, err := a.List(ctx, account.Filter{Removed: true})
		if err != nil || len(gone) != 1 || gone[0].ID != first.ID {
			t.Errorf("got %+v, %v", gone, err)
		}
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		addDomain(t, a, "a.example", "b.example")
		for _, s := range []string{"jan@a.example", "ewa_1@a.example", "ewax1@a.example", "jan@b.example"} {
			add(t, a, s, "", "")
		}
		for name, tc := range map[string]struct {
			filter account.Filter
			want   int
		}{
			"all":         {account.Filter{}, 4},
			"domain":      {account.Filter{Domain: mustDomain(t, "a.example")}, 3},
			"search":      {account.Filter{Search: "JAN"}, 2},
			"no wildcard": {account.Filter{Search: "ewa_"}, 1},
			"percent":     {account.Filter{Search: "%"}, 0},
			"both":        {account.Filter{Search: "jan", Domain: mustDomain(t, "b.example")}, 1},
		} {
			got, err := a.List(ctx, tc.filter)
			if err != nil || len(got) != tc.want {
				t.Errorf("%s: got %d accounts, %v; want %d", name, len(got), err, tc.want)
			}
		}
		var after envelope.AccountID
		seen := 0
		for {
			page, err := a.List(ctx, account.Filter{After: after, Limit: 3})
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			seen += len(page)
			after = page[len(page)-1].ID
		}
		if seen != 4 {
			t.Errorf("pages hold %d accounts, want 4", seen)
		}
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*account.Config){
		"no database": func(c *account.Config) { c.DB = nil },
		"separator":   func(c *account.Config) { c.Separator = "++" },
		"at":          func(c *account.Config) { c.Separator = "@" },
		"iterations":  func(c *account.Config) { c.Iterations = 1000 },
		"queue":       func(c *account.Config) { c.HashQueue = -1 },
	} {
		c := account.Config{DB: engineOnly{}}
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := (account.Config{DB: engineOnly{}}).Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

// engineOnly is a database that must not be used.
type engineOnly struct{ db.Database }

func (engineOnly) Engine() string { return "sqlite" }

// clock is a time that tests move.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }
