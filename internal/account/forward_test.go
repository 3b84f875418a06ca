package account_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/db/dbtest"
)

// forward sets a forwarding.
func forward(t testing.TB, a *account.Accounts, of account.Account, keep bool, targets ...string) error {
	t.Helper()
	var list []address.Address
	for _, s := range targets {
		list = append(list, mustAddr(t, s))
	}
	return a.SetForward(context.Background(), of.ID, list, keep)
}

func TestForward(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		a := open(t, d, nil)
		addDomain(t, a, "example.org")
		all := map[string]account.Account{}
		for _, name := range []string{"keep", "away", "to-away", "ring1", "ring2", "off"} {
			all[name] = add(t, a, name+"@example.org", "", "")
		}
		if err := a.AddAddress(ctx, all["keep"].ID, mustAddr(t, "second@example.org")); err != nil {
			t.Fatal(err)
		}
		for _, f := range []struct {
			of      string
			keep    bool
			targets []string
		}{
			{"keep", true, []string{"far@example.com"}},
			{"away", false, []string{"far@example.com", "near@example.com"}},
			{"to-away", false, []string{"away@example.org"}},
			{"ring1", false, []string{"ring2@example.org"}},
		} {
			if err := forward(t, a, all[f.of], f.keep, f.targets...); err != nil {
				t.Fatal(err)
			}
		}
		addAlias(t, a, "team@example.org", "keep@example.org", "far@example.com")
		addAlias(t, a, "out@example.org", "far@example.com")
		for _, tc := range [][2]string{
			{"keep@example.org", "address: keep@example.org | far@example.com"},
			{"keep+x@example.org", "subaddress: keep@example.org(x) | far@example.com"},
			{"second@example.org", "address: keep@example.org | far@example.com"},
			{"away@example.org", "address:  | far@example.com near@example.com"},
			{"to-away@example.org", "address:  | far@example.com near@example.com"},
			{"ring1@example.org", "address: ring2@example.org"},
			{"team@example.org", "alias: keep@example.org | far@example.com"},
			{"postmaster@example.org", "postmaster: keep@example.org | far@example.com"},
		} {
			if got := route(t, a, tc[0]); got != tc[1] {
				t.Errorf("%s: got %q, want %q", tc[0], got, tc[1])
			}
		}
		r, err := a.Route(ctx, address.NewForwardPath(mustAddr(t, "second@example.org")))
		want := []account.Forwarder{{Source: "keep@example.org", Domain: mustDomain(t, "example.org"), Account: all["keep"].ID}}
		if diff := cmp.Diff(want, r.Forwarders, cmp.Comparer(func(a, b address.Domain) bool { return a == b })); err != nil || diff != "" {
			t.Error(err, diff)
		}
		home, err := a.Home(ctx, address.NewForwardPath(mustAddr(t, "away@example.org")))
		if got := routeText(t, home, err); got != "address: away@example.org" {
			t.Errorf("Home: %q", got)
		}
		mayBe(t, a, all["away"], "away@example.org", true)
		mayBe(t, a, all["away"], "to-away@example.org", false)
		mayBe(t, a, all["ring2"], "ring1@example.org", false)

		for name, err := range map[string]error{
			"itself":            forward(t, a, all["off"], true, "off@example.org"),
			"its subaddress":    forward(t, a, all["off"], true, "off+x@example.org"),
			"the way back":      forward(t, a, all["ring2"], false, "ring1@example.org"),
			"nobody here":       forward(t, a, all["off"], true, "nobody@example.org"),
			"no target":         forward(t, a, all["off"], true),
			"an account absent": forward(t, a, account.Account{ID: 999}, true, "far@example.com"),
		} {
			if err == nil {
				t.Errorf("forward to %s is taken", name)
			}
		}
		if got := route(t, a, "off@example.org"); got != "address: off@example.org" {
			t.Errorf("a forward that was refused counts: %q", got)
		}
		suspend(t, a, all["away"])
		if err := a.RemoveForward(ctx, all["keep"].ID); err != nil {
			t.Fatal(err)
		}
		if got := route(t, a, "keep@example.org"); got != "address: keep@example.org" {
			t.Errorf("after RemoveForward: %q", got)
		}
		if err := a.Remove(ctx, all["away"].ID); err != nil {
			t.Fatal(err)
		}
		if f, err := a.Forward(ctx, all["away"].ID); err != nil || len(f.Targets) != 0 {
			t.Errorf("a removed account forwards: %v, %v", f, err)
		}
	})
}

func mayBe(t *testing.T, a *account.Accounts, who account.Account, as string, want bool) {
	t.Helper()
	got, err := a.MaySend(context.Background(), who.ID, mustAddr(t, as))
	if err != nil || got != want {
		t.Errorf("%s as %s: %v, %v, want %v", who.Login, as, got, err, want)
	}
}

// suspend: away forwards to far and near, out is an alias to far alone.
func suspend(t *testing.T, a *account.Accounts, away account.Account) {
	t.Helper()
	ctx := context.Background()
	step := func(source, target string, want bool, routed, then string) {
		t.Helper()
		got, err := a.SuspendForward(ctx, source, mustAddr(t, target), "550 5.1.1 gone")
		if err != nil || got != want {
			t.Errorf("suspend %s of %s: %v, %v", target, source, got, err)
		}
		if got := route(t, a, routed); got != then {
			t.Errorf("%s after suspending %s of %s: %q, want %q", routed, target, source, got, then)
		}
	}
	step("away@example.org", "FAR@example.com", true, "away@example.org", "address:  | near@example.com")
	step("away@example.org", "far@example.com", false, "away@example.org", "address:  | near@example.com")
	step("away@example.org", "near@example.com", true, "away@example.org", "address: away@example.org")
	step("out@example.org", "far@example.com", true, "out@example.org", "disabled")
	step("nobody@example.org", "far@example.com", false, "away@example.org", "address: away@example.org")
	list, err := a.SuspendedForwards(ctx, 0)
	var text []string
	for _, s := range list {
		if s.Target.Suspended.IsZero() || s.Target.Reason != "550 5.1.1 gone" {
			t.Errorf("%+v", s)
		}
		text = append(text, s.Source+" "+s.Target.Address.String())
	}
	if diff := cmp.Diff([]string{"away@example.org far@example.com", "away@example.org near@example.com", "out@example.org far@example.com"}, text); err != nil || diff != "" {
		t.Error(err, diff)
	}
	aliases, err := a.Aliases(ctx, address.Domain{}, "out", 1)
	if err != nil || len(aliases) != 1 || len(aliases[0].Suspended) != 1 {
		t.Errorf("aliases %v, %v", aliases, err)
	}
	if n, err := a.ResumeForward(ctx, away.ID); n != 2 || err != nil {
		t.Errorf("%d resumed, %v", n, err)
	}
	addAlias(t, a, "out@example.org", "far@example.com")
	if got := route(t, a, "out@example.org") + ", " + route(t, a, "away@example.org"); got != "alias:  | far@example.com, address:  | far@example.com near@example.com" {
		t.Errorf("after resuming: %s", got)
	}
}

func TestVacation(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, components, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		now := time.Date(2026, 11, 23, 3, 35, 9, 0, time.UTC)
		a := open(t, d, func(c *account.Config) { c.Now = func() time.Time { return now } })
		addDomain(t, a, "example.org")
		ala := add(t, a, "ala@example.org", "", "")
		vacation := func() bool {
			t.Helper()
			r, err := a.Route(ctx, address.NewForwardPath(ala.Address))
			if err != nil {
				t.Fatal(err)
			}
			return r.Locals[0].Vacation
		}
		if _, err := a.Vacation(ctx, ala.ID); !errors.Is(err, account.ErrNotFound) || vacation() {
			t.Errorf("before any: %v", err)
		}
		for name, v := range map[string]account.Vacation{
			"days":         {Days: 61},
			"no time":      {From: now, Until: now},
			"long":         {Text: strings.Repeat("a", account.MaxVacationTextOctets+1)},
			"subject line": {Subject: "a\r\nBcc: b"},
			"controls":     {Text: "a\x00"},
			"no UTF-8":     {Text: "\xff"},
		} {
			if err := a.SetVacation(ctx, ala.ID, v); !errors.Is(err, account.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		want := account.Vacation{From: now, Until: now.Add(time.Hour), Subject: "Urlop", Text: "Wracam\r\njutro.\n", Days: 3}
		if err := a.SetVacation(ctx, ala.ID, want); err != nil {
			t.Fatal(err)
		}
		want.Text, want.Changed = "Wracam\njutro.\n", now
		got, err := a.Vacation(ctx, ala.ID)
		if diff := cmp.Diff(want, got); err != nil || diff != "" || !vacation() {
			t.Error(err, diff)
		}
		for _, tt := range []struct {
			at   time.Time
			want bool
		}{{now.Add(-1), false}, {now, true}, {now.Add(time.Hour - 1), true}, {now.Add(time.Hour), false}} {
			if got.Active(tt.at) != tt.want {
				t.Errorf("active at %v: %v", tt.at, !tt.want)
			}
		}
		if !(account.Vacation{}).Active(now) {
			t.Error("without bounds it is not active")
		}
		if err := a.RemoveVacation(ctx, ala.ID); err != nil || vacation() {
			t.Errorf("after removal: %v", err)
		}
	})
}

// TestUpgrade: accounts and aliases of the first schema route as before, and can forward.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	first := account.Component()
	first.Steps = first.Steps[:1]
	dbtest.Each(t, []db.Component{first}, func(t *testing.T, d db.Database) {
		ctx := context.Background()
		err := d.Update(ctx, func(tx db.Tx) error {
			for _, q := range []string{
				`INSERT INTO account_domain (name, postmaster, created) VALUES ('example.org', 0, 1)`,
				`INSERT INTO account (login, address, domain, name, language, quota, state, version, salt, iterations, stored_key, server_key, foreign_hash, created, removed)
					VALUES ('ala@example.org', 'ala@example.org', 'example.org', '', 'en', 0, 0, 1, '', 0, '', '', '', 1, 0)`,
				`INSERT INTO account_name (name, kind, account, domain, written, created) VALUES ('ala@example.org', 3, 1, 'example.org', 'ala@example.org', 1)`,
				`INSERT INTO account_name (name, kind, account, domain, written, created) VALUES ('out@example.org', 4, 0, 'example.org', 'out@example.org', 1)`,
				`INSERT INTO account_target (source, name, written) VALUES ('out@example.org', 'far@example.com', 'far@example.com')`,
			} {
				if d.Engine() == "sqlite" {
					q = strings.ReplaceAll(q, "1, '', 0, '', '', '', 1, 0)", "1, X'', 0, X'', X'', '', 1, 0)")
				}
				if _, err := tx.Exec(q); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			err = db.Migrate(ctx, d, components)
		}
		if err != nil {
			t.Fatal(err)
		}
		a := open(t, d, nil)
		ala, err := a.Get(ctx, "ala@example.org")
		if err != nil {
			t.Fatal(err)
		}
		if got := route(t, a, "ala@example.org") + ", " + route(t, a, "out@example.org"); got != "address: ala@example.org, alias:  | far@example.com" {
			t.Errorf("after the upgrade: %s", got)
		}
		if err := forward(t, a, ala, true, "far@example.com"); err != nil {
			t.Fatal(err)
		}
		if got := route(t, a, "ala@example.org"); got != "address: ala@example.org | far@example.com" {
			t.Errorf("with a forward: %s", got)
		}
	})
}
