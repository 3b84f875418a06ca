package account_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
)

// route prints what Route says, as "match: logins | remotes" or the error's name.
func route(t testing.TB, a *account.Accounts, s string) string {
	t.Helper()
	path := address.Postmaster()
	if s != "" {
		path = address.NewForwardPath(mustAddr(t, s))
	}
	r, err := a.Route(context.Background(), path)
	return routeText(t, r, err)
}

func routeText(t testing.TB, r account.Route, err error) string {
	t.Helper()
	switch {
	case errors.Is(err, account.ErrNotLocal):
		return "not local"
	case errors.Is(err, account.ErrUnknownUser):
		return "unknown"
	case errors.Is(err, account.ErrDisabled):
		return "disabled"
	case errors.Is(err, account.ErrLoop):
		return "loop"
	case err != nil:
		t.Fatal(err)
	}
	var locals, remotes []string
	for _, l := range r.Locals {
		text := l.Login
		if l.Detail != "" {
			text += "(" + l.Detail + ")"
		}
		locals = append(locals, text)
	}
	for _, m := range r.Remotes {
		remotes = append(remotes, m.String())
	}
	match := [...]string{"", "address", "subaddress", "alias", "catch-all", "postmaster"}[r.Match]
	out := match + ": " + strings.Join(locals, " ")
	if len(remotes) > 0 {
		out += " | " + strings.Join(remotes, " ")
	}
	if len(r.Skipped) > 0 {
		out += fmt.Sprintf(" ! %d", len(r.Skipped))
	}
	return out
}

func TestRoute(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		addDomain(t, a, "example.org", "all.example", "empty.example", "łąka.example")
		add(t, a, "ala@example.org", "", "")
		add(t, a, "ola@example.org", "login-of-ola@example.org", "")
		add(t, a, "a+b@example.org", "", "")
		add(t, a, "żółw@łąka.example", "zolw", "")
		off := add(t, a, "off@example.org", "", "")
		if err := a.Disable(ctx, off.ID); err != nil {
			t.Fatal(err)
		}
		addAlias(t, a, "team@example.org", "ala@example.org", "ola@example.org", "ola+team@example.org")
		addAlias(t, a, "boss@example.org", "team@example.org", "Jan@Remote.example", "JAN@remote.example")
		addAlias(t, a, "away@example.org", "off@example.org")
		addAlias(t, a, "mixed@example.org", "off@example.org", "ala@example.org")
		addAlias(t, a, "@all.example", "ala@example.org")
		addAlias(t, a, "abuse@example.org", "ola@example.org")
		addAlias(t, a, "postmaster@all.example", "off@example.org")

		for _, tc := range [][2]string{
			{"ala@example.org", "address: ala@example.org"},
			{"ALA@EXAMPLE.ORG", "address: ala@example.org"},
			{"ala+shop@example.org", "subaddress: ala@example.org(shop)"},
			{"ala+shop+x@example.org", "subaddress: ala@example.org(shop+x)"},
			{"ala+@example.org", "subaddress: ala@example.org"},
			{"+ala@example.org", "unknown"},
			{"a+b@example.org", "address: a+b@example.org"},
			{"a+b+c@example.org", "unknown"}, // the first separator counts
			{"login-of-ola@example.org", "unknown"},
			{"ŻÓŁW@ŁĄKA.example", "address: zolw"},
			{"żółw@łąka.example", "address: zolw"}, // decomposed
			{"żółw@xn--ka-ola7v.example", "address: zolw"},
			{"team@example.org", "alias: ala@example.org login-of-ola@example.org(team)"},
			{"team+x@example.org", "alias: ala@example.org login-of-ola@example.org(team)"},
			{"boss@example.org", "alias: ala@example.org login-of-ola@example.org(team) | Jan@remote.example"},
			{"off@example.org", "disabled"},
			{"away@example.org", "disabled"},
			{"mixed@example.org", "alias: ala@example.org ! 1"},
			{"nobody@example.org", "unknown"},
			{"nobody@all.example", "catch-all: ala@example.org"},
			{"postmaster@all.example", "postmaster: ala@example.org ! 1"}, // its alias is disabled
			{"postmaster@example.org", "postmaster: ala@example.org"},
			{"ABUSE@example.org", "alias: login-of-ola@example.org"},
			{"PostMaster@łąka.example", "postmaster: zolw"},
			{"abuse@empty.example", "postmaster: ala@example.org"},
			{"postmaster+x@example.org", "unknown"},
			{"", "postmaster: ala@example.org"},
			{"ala@remote.example", "not local"},
			{"ala@sub.example.org", "not local"},
			{"postmaster@[192.0.2.1]", "not local"},
		} {
			for range 2 { // from the store, then from the cache
				if got := route(t, a, tc[0]); got != tc[1] {
					t.Errorf("%q: got %q, want %q", tc[0], got, tc[1])
				}
			}
		}
	})
}

func TestRoutePostmaster(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, func(c *account.Config) { c.Postmaster = mustAddr(t, "boss@b.example") })
		addDomain(t, a, "a.example", "b.example", "c.example")
		check := func(when, path, want string) {
			t.Helper()
			if got := route(t, a, path); got != want {
				t.Errorf("%s: %q: got %q, want %q", when, path, got, want)
			}
		}
		check("no account", "", "unknown")
		check("no account", "postmaster@a.example", "unknown")
		first := add(t, a, "first@a.example", "", "")
		second := add(t, a, "second@a.example", "", "")
		check("no boss", "", "postmaster: first@a.example")
		add(t, a, "boss@b.example", "", "")
		check("boss", "", "postmaster: boss@b.example")
		check("boss", "abuse@c.example", "postmaster: boss@b.example")
		check("first of the domain", "postmaster@a.example", "postmaster: first@a.example")
		if err := a.SetPostmaster(ctx, mustDomain(t, "a.example"), second.ID); err != nil {
			t.Fatal(err)
		}
		check("named", "postmaster@a.example", "postmaster: second@a.example")
		if err := a.Remove(ctx, second.ID); err != nil {
			t.Fatal(err)
		}
		check("named one removed", "postmaster@a.example", "postmaster: first@a.example")
		if err := a.Disable(ctx, first.ID); err != nil {
			t.Fatal(err)
		}
		check("domain's disabled", "postmaster@a.example", "postmaster: boss@b.example")
		wantErr(t, "absent account", a.SetPostmaster(ctx, mustDomain(t, "a.example"), 999), account.ErrNotFound)
	})
}

func TestAliasRules(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		addDomain(t, a, "example.org", "all.example")
		add(t, a, "ala@example.org", "", "")
		addAlias(t, a, "one@example.org", "ala@example.org")
		addAlias(t, a, "two@example.org", "one@example.org")
		for name, tc := range map[string]struct {
			alias account.Alias
			want  error
		}{
			"address of an account": {alias(t, "ala@example.org", "one@example.org"), account.ErrExists},
			"subaddress":            {alias(t, "ala+x@example.org", "one@example.org"), account.ErrExists},
			"foreign domain":        {alias(t, "x@remote.example", "ala@example.org"), account.ErrNotLocal},
			"unknown target":        {alias(t, "x@example.org", "nobody@example.org"), account.ErrUnknownUser},
			"itself":                {alias(t, "x@example.org", "x@example.org"), account.ErrLoop},
			"circle":                {alias(t, "one@example.org", "two@example.org"), account.ErrLoop},
			"catch-all to itself":   {alias(t, "@all.example", "nobody@all.example"), account.ErrLoop},
			"no target":             {alias(t, "x@example.org"), account.ErrInvalid},
		} {
			wantErr(t, name, a.AddAlias(ctx, tc.alias), tc.want)
		}
		if _, err := a.Add(ctx, account.NewAccount{Address: mustAddr(t, "one@example.org")}); !errors.Is(err, account.ErrExists) {
			t.Errorf("account at an alias: %v", err)
		}
		if got := route(t, a, "two@example.org"); got != "alias: ala@example.org" {
			t.Errorf("after refusals: got %q", got)
		}
		addAlias(t, a, "one@example.org", "b@remote.example", "ala@example.org")
		list, err := a.Aliases(ctx, mustDomain(t, "example.org"), "", 0)
		if err != nil || len(list) != 2 || list[0].String() != "one@example.org" || len(list[0].Targets) != 2 {
			t.Errorf("got %+v, %v", list, err)
		}
		wantErr(t, "absent target", a.RemoveAlias(ctx, alias(t, "one@example.org", "c@remote.example")), account.ErrNotFound)
		wantErr(t, "a target", a.RemoveAlias(ctx, alias(t, "one@example.org", "ala@example.org")), nil)
		if got := route(t, a, "one@example.org"); got != "alias:  | b@remote.example" {
			t.Errorf("got %q", got)
		}
		wantErr(t, "the last target", a.RemoveAlias(ctx, alias(t, "one@example.org", "b@remote.example")), nil)
		wantErr(t, "absent alias", a.RemoveAlias(ctx, alias(t, "one@example.org")), account.ErrNotFound)
		if got := route(t, a, "two@example.org"); got != "unknown" {
			t.Errorf("dead target: got %q", got)
		}
	})
}

// TestRouteLimits writes circles and chains past AddAlias's checks, as two nodes
// at once could.
func TestRouteLimits(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		a := open(t, d, nil)
		addDomain(t, a, "x.example")
		add(t, a, "ala@x.example", "", "")
		raw := func(source string, targets ...string) {
			t.Helper()
			err := d.Update(context.Background(), func(tx db.Tx) error {
				_, err := tx.Exec(`INSERT INTO account_name (name, kind, account, domain, written, created) VALUES (?, 4, 0, 'x.example', ?, 0)`, source, source)
				for _, target := range targets {
					if err == nil {
						_, err = tx.Exec(`INSERT INTO account_target (source, name, written) VALUES (?, ?, ?)`, source, target, target)
					}
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		raw("a@x.example", "b@x.example")
		raw("b@x.example", "c@x.example")
		raw("c@x.example", "a@x.example")
		raw("d@x.example", "a@x.example", "ala@x.example")
		raw("self@x.example", "self@x.example")
		for i := range 13 {
			raw(fmt.Sprintf("c%02d@x.example", i), fmt.Sprintf("c%02d@x.example", i+1))
		}
		raw("c13@x.example", "ala@x.example")
		var many []string
		for i := range 600 {
			many = append(many, fmt.Sprintf("m%d@remote.example", i))
		}
		raw("many@x.example", many...)
		raw("half@x.example", append(slices.Clone(many[:400]), "many@x.example")...)
		for i := range many {
			many[i] = strings.Replace(many[i], "m", "n", 1)
		}
		raw("more@x.example", append(many, "half@x.example")...)
		for _, tc := range [][2]string{
			{"a@x.example", "loop"},
			{"self@x.example", "loop"},
			{"d@x.example", "alias: ala@x.example ! 1"},
			{"c00@x.example", "loop"},
			{"c05@x.example", "alias: ala@x.example"},
			{"more@x.example", "loop"},
		} {
			if got := route(t, a, tc[0]); got != tc[1] {
				t.Errorf("%s: got %.80q, want %q", tc[0], got, tc[1])
			}
		}
		r, err := a.Route(context.Background(), address.NewForwardPath(mustAddr(t, "half@x.example")))
		if !errors.Is(err, account.ErrLoop) {
			t.Errorf("1,001 targets: got %d remotes, %v; want ErrLoop", len(r.Remotes), err)
		}
		r, err = a.Route(context.Background(), address.NewForwardPath(mustAddr(t, "many@x.example")))
		if err != nil || len(r.Remotes) != 600 {
			t.Errorf("600 targets: got %d remotes, %v", len(r.Remotes), err)
		}
	})
}

func TestMaySend(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		addDomain(t, a, "example.org", "all.example")
		ala := add(t, a, "ala@example.org", "login@example.org", "")
		ola := add(t, a, "ola@example.org", "", "")
		addAlias(t, a, "team@example.org", "inner@remote.example", "ola@example.org")
		addAlias(t, a, "outer@example.org", "team@example.org")
		addAlias(t, a, "@all.example", "ola@example.org")
		grant := func(s string) account.SendAs {
			g, err := account.ParseSendAs(s)
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		for _, s := range []string{"ala@gmail.example", "@vanity.example", "ola@example.org"} {
			if err := a.AddSendAs(ctx, ala.ID, grant(s)); err != nil {
				t.Fatal(err)
			}
		}
		check := func(acc account.Account, addr string, want bool) {
			t.Helper()
			for range 2 {
				got, err := a.MaySend(ctx, acc.ID, mustAddr(t, addr))
				if err != nil || got != want {
					t.Errorf("%s as %s: got %v, %v; want %v", acc.Login, addr, got, err, want)
				}
			}
		}
		check(ala, "ALA@example.org", true)
		check(ala, "ala+x@example.org", true)
		check(ala, "login@example.org", false) // a login name is no address
		check(ala, "team@example.org", false)
		check(ala, "ala@gmail.example", true)
		check(ala, "ala+x@gmail.example", true)
		check(ala, "x@gmail.example", false)
		check(ala, "whoever@vanity.example", true)
		check(ala, "ola@example.org", true)
		check(ala, "postmaster@example.org", false) // gets its mail, but was not named
		check(ola, "team@example.org", true)
		check(ola, "outer@example.org", true)
		check(ola, "ala@example.org", false)
		check(ola, "anything@all.example", true)
		check(account.Account{}, "ala@example.org", false)

		list, err := a.SendAs(ctx, ala.ID)
		if err != nil || len(list) != 3 || list[0].String() != "@vanity.example" {
			t.Errorf("got %v, %v", list, err)
		}
		if err := a.RemoveSendAs(ctx, ala.ID, grant("ola@example.org")); err != nil {
			t.Fatal(err)
		}
		check(ala, "ola@example.org", false)
		if err := a.Disable(ctx, ala.ID); err != nil {
			t.Fatal(err)
		}
		check(ala, "ala@example.org", false)
		check(ala, "ala@gmail.example", false)
	})
}
