package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/backup"
	"poczta.example/poczta/internal/backup/holdings"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/preference"
)

// readd makes an account of a server's backup anew, with all that was its own: docs/backup.md
// lists it.
func (d *Desk) readd(ctx context.Context, r *backup.Repository, s *backup.Snapshot, who string) (account.Account, error) {
	f := &formerReader{r: r, s: s}
	a, err := holdings.FindAccount(ctx, r, s, who)
	if err != nil {
		return account.Account{}, err
	}
	f.id = a.ID
	if err := f.read(ctx); errors.Is(err, backup.ErrNotFound) {
		return account.Account{}, fmt.Errorf("the backup is of a %s's store, which says nothing of accounts here; make %s first: poczta account add", s.Kind, who)
	} else if err != nil {
		return account.Account{}, fmt.Errorf("read account %s from the backup: %w", who, err)
	}
	made, leftOut, err := d.Rooms.Accounts.Readd(ctx, f.former, func(tx db.Tx, id envelope.AccountID) error {
		if !f.wishes {
			return nil
		}
		return d.Rooms.Preferences.Adopt(tx, id, f.settings, f.entries)
	})
	if err != nil {
		return made, fmt.Errorf("make account %s anew: %w", who, explain(err, ""))
	}
	state := ""
	if f.former.Disabled {
		state = "; it is disabled, as it was"
	}
	fmt.Fprintf(d.Err, "Account %s is made anew, with its password and all that was its own%s.\n", Printable(made.Login), state)
	for _, l := range leftOut {
		fmt.Fprintf(d.Err, "Left out: %s.\n", Printable(l))
	}
	return made, nil
}

// formerReader reads what a backup says of an account.
type formerReader struct {
	r        *backup.Repository
	s        *backup.Snapshot
	id       envelope.AccountID
	former   account.Former
	names    map[string]bool // keys of its addresses
	wishes   bool            // it has settings or entries
	settings preference.Settings
	entries  []preference.Entry
}

// values is a row of a table; what is missing or of another kind is zero.
type values map[string]any

func (v values) text(name string) string    { s, _ := v[name].(string); return s }
func (v values) number(name string) int64   { n, _ := v[name].(int64); return n }
func (v values) octets(name string) []byte  { b, _ := v[name].([]byte); return b }
func (v values) time(name string) time.Time { return db.FromMicros(v.number(name)) }

func (f *formerReader) read(ctx context.Context) error {
	if err := f.rowsOf(ctx, "account", f.account); err != nil {
		return err
	}
	if f.former.Address.IsZero() {
		return backup.ErrNotFound
	}
	for _, step := range []func(context.Context) error{f.own, f.readNames, f.readAliases, f.readApps} {
		if err := step(ctx); err != nil && !errors.Is(err, backup.ErrNotFound) { // an older backup has fewer tables
			return err
		}
	}
	return nil
}

// rowsOf reads the account's rows of a table whose key begins with its number.
func (f *formerReader) rowsOf(ctx context.Context, table string, fn func(values) error) error {
	return holdings.RowsOf(ctx, f.r, f.s, table, f.id, func(v map[string]any) error { return fn(v) })
}

// rows reads the rows of a table that name the account in a column.
func (f *formerReader) rows(ctx context.Context, table, column string, fn func(values) error) error {
	return holdings.Rows(ctx, f.r, f.s, table, func(v map[string]any) error {
		if values(v).number(column) != int64(f.id) {
			return nil
		}
		return fn(v)
	})
}

func (f *formerReader) account(v values) (err error) {
	t := &f.former
	t.Login, t.Name, t.Language, t.Quota = v.text("login"), v.text("name"), v.text("language"), v.number("quota")
	t.Salt, t.StoredKey, t.ServerKey = v.octets("salt"), v.octets("stored_key"), v.octets("server_key")
	t.Iterations, t.ForeignHash = int(v.number("iterations")), v.text("foreign_hash")
	t.Disabled = account.State(v.number("state")) == account.Disabled
	t.Forward.Keep = v.number("forwards") == account.FormerForwardsKeep
	t.Address, err = address.Parse(v.text("address"))
	return err
}

// own reads what stands in tables of the account's own number.
func (f *formerReader) own(ctx context.Context) error {
	t := &f.former
	for _, read := range []struct {
		table string
		fn    func(values) error
	}{
		{"account_send_as", func(v values) error {
			g, err := account.ParseSendAs(v.text("written"))
			t.SendAs = append(t.SendAs, g)
			return err
		}},
		{"account_forward", func(v values) error {
			a, err := address.Parse(v.text("written"))
			t.Forward.Targets = append(t.Forward.Targets, account.ForwardTarget{Address: a, Suspended: v.time("suspended"), Reason: v.text("reason")})
			return err
		}},
		{"account_vacation", func(v values) error {
			t.Vacation = &account.Vacation{From: v.time("starts"), Until: v.time("ends"), Subject: v.text("subject"), Text: v.text("body"), Days: int(v.number("days")), Changed: v.time("changed")}
			return nil
		}},
		{"preference_account", func(v values) error {
			f.wishes = true
			f.settings = preference.Settings{Level: preference.Level(v.text("level")), Wish: preference.Wish(v.text("wish")), Digest: preference.Choice(v.text("digest")),
				Language: v.text("language"), Bulk: preference.Choice(v.text("bulk"))}
			return nil
		}},
		{"preference_entry", func(v values) error {
			f.wishes = true
			f.entries = append(f.entries, preference.Entry{Pattern: v.text("pattern"), Allow: v.number("allow") != 0, Note: v.text("note"), Added: v.time("added")})
			return nil
		}},
	} {
		if err := f.rowsOf(ctx, read.table, read.fn); err != nil && !errors.Is(err, backup.ErrNotFound) {
			return fmt.Errorf("table %s: %w", read.table, err)
		}
	}
	return nil
}

// readNames reads its addresses, and the domains whose postmaster it is.
func (f *formerReader) readNames(ctx context.Context) error {
	f.names = map[string]bool{f.former.Address.Key(): true}
	err := f.rows(ctx, "account_name", "account", func(v values) error {
		if v["domain"] == nil {
			return nil // a login that is no address
		}
		a, err := address.Parse(v.text("written"))
		f.former.Addresses = append(f.former.Addresses, a)
		f.names[a.Key()] = true
		return err
	})
	if err != nil {
		return err
	}
	return f.rows(ctx, "account_domain", "postmaster", func(v values) error {
		d, err := address.ParseDomain(v.text("name"))
		f.former.Postmaster = append(f.former.Postmaster, d)
		return err
	})
}

// readAliases finds the aliases that lead to one of its addresses.
func (f *formerReader) readAliases(ctx context.Context) error {
	written := map[string]string{} // how an alias is written, by its key
	targets := map[string][]address.Address{}
	err := holdings.Rows(ctx, f.r, f.s, "account_target", func(row map[string]any) error {
		v := values(row)
		if !f.names[v.text("name")] {
			return nil
		}
		a, err := address.Parse(v.text("written"))
		targets[v.text("source")] = append(targets[v.text("source")], a)
		return err
	})
	if err != nil || len(targets) == 0 {
		return err
	}
	err = holdings.Rows(ctx, f.r, f.s, "account_name", func(row map[string]any) error {
		v := values(row)
		if name := v.text("name"); targets[name] != nil {
			written[name] = v.text("written")
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, source := range slices.Sorted(maps.Keys(targets)) {
		alias, err := account.ParseAlias(written[source])
		if err != nil {
			return err
		}
		alias.Targets = targets[source]
		f.former.Aliases = append(f.former.Aliases, alias)
	}
	return nil
}

// readApps reads app passwords and certificates.
func (f *formerReader) readApps(ctx context.Context) error {
	var secret []byte
	err := holdings.Rows(ctx, f.r, f.s, "account_secret", func(v map[string]any) error {
		if values(v).text("name") == account.FormerSecret {
			secret = values(v).octets("octets")
		}
		return nil
	})
	if err == nil {
		err = f.rows(ctx, "account_app", "account", func(v values) error {
			f.former.Apps = append(f.former.Apps, account.FormerApp{Label: v.text("label"), Quick: v.octets("quick"), QuickSalt: account.FormerAppSalt(secret, f.id),
				Salt: v.octets("salt"), Iterations: int(v.number("iterations")), StoredKey: v.octets("stored_key"), ServerKey: v.octets("server_key"), Created: v.time("created")})
			return nil
		})
	}
	if err != nil {
		return err
	}
	return f.rows(ctx, "account_cert", "account", func(v values) error {
		if print := v.octets("fingerprint"); len(print) == 32 {
			f.former.Certificates = append(f.former.Certificates, [32]byte(print))
		}
		return nil
	})
}
