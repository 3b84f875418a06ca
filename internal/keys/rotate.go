package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/dkim"
	"poczta.example/poczta/internal/resolver"
)

// Finding is what DNS shows of a key.
type Finding string

// The values of Finding.
const (
	Same      Finding = "ok"        // our record
	Missing   Finding = "missing"   // none
	Different Finding = "different" // another, or one that can't be read
	Revoked   Finding = "revoked"   // one with an empty p=
	Unknown   Finding = "unknown"   // DNS gave no answer, or is not asked
)

// Look asks DNS for a key's record. The error tells more about Different and
// Unknown; it is nil with the others.
func (k *Keys) Look(ctx context.Context, x Key) (Finding, error) {
	if k.c.Records == nil {
		return Unknown, nil
	}
	return Look(ctx, k.c.Records, x.Domain, x.Selector, x.Record)
}

// Look compares the record of a selector in DNS with what it should be.
func Look(ctx context.Context, records dkim.Records, domain address.Domain, selector, record string) (Finding, error) {
	want, err := dkim.ParseKey(record)
	if err != nil {
		return Unknown, err
	}
	got, err := dkim.Fetch(ctx, records, selector, domain)
	switch {
	case errors.Is(err, dkim.ErrNoKey):
		return Missing, nil
	case errors.Is(err, dkim.ErrKeyFetch):
		return Unknown, err
	case err != nil:
		return Different, err
	case got.Revoked:
		return Revoked, nil
	case !got.Same(want):
		return Different, nil
	}
	return Same, nil
}

// DNS finds key records through a resolver.
type DNS struct{ Resolver resolver.Resolver }

// TXT implements dkim.Records.
func (d DNS) TXT(ctx context.Context, name string) ([]string, error) {
	ans, err := d.Resolver.Lookup(ctx, name, resolver.TXT)
	if errors.Is(err, resolver.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", dkim.ErrNoKey, err)
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range ans.Records {
		out = append(out, r.Text)
	}
	return out, nil
}

// next returns the keys that wait for their turn.
func next(all []Key) []Key {
	return slices.DeleteFunc(slices.Clone(all), func(x Key) bool { return x.Stage != Prepared && x.Stage != Published })
}

// Rotate begins to change the keys of a domain, or goes on: a first call prepares
// new ones, whose records are then to be added to DNS; a later call makes them
// active if DNS shows all of them, and the old ones Retired. With force it does
// both at once, whatever DNS shows. A domain without keys gets its first, as by
// Create. It returns the domain's keys.
func (k *Keys) Rotate(ctx context.Context, domain address.Domain, force bool) ([]Key, error) {
	var made []fresh
	err := k.again(func() error {
		version, all, err := k.state(ctx, domain)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(all, func(x Key) bool { return x.Stage == Active }) && len(next(all)) == 0 {
			_, err := k.Create(ctx, domain)
			return err
		}
		if len(next(all)) > 0 {
			return k.goOn(ctx, domain, version, all, force)
		}
		if made == nil {
			if made, err = k.generate(domain); err != nil {
				return err
			}
		}
		err = k.change(ctx, domain, version, func(tx db.Tx, now int64) error {
			if err := insert(tx, made, Prepared, now); err != nil || !force {
				return err
			}
			return activate(tx, domain, now)
		})
		if err == nil && force {
			k.moved(domain, Active, len(made))
		} else if err == nil {
			k.moved(domain, Prepared, len(made))
		}
		return err
	}, "rotate keys of "+domain.String())
	if err != nil {
		return nil, err
	}
	return k.List(ctx, domain)
}

// goOn brings prepared keys on as far as DNS allows, without the time that Run
// leaves secondary name servers.
func (k *Keys) goOn(ctx context.Context, domain address.Domain, version int64, all []Key, force bool) error {
	seen, waiting := k.seen(ctx, next(all))
	if len(waiting) == 0 || force {
		err := k.change(ctx, domain, version, func(tx db.Tx, now int64) error { return activate(tx, domain, now) })
		if err == nil {
			k.moved(domain, Active, len(seen)+len(waiting))
		}
		return err
	}
	return k.publish(ctx, domain, version, seen)
}

// seen parts keys into those that DNS shows and others.
func (k *Keys) seen(ctx context.Context, keys []Key) (seen, waiting []Key) {
	for _, x := range keys {
		found, err := k.Look(ctx, x)
		if found == Same {
			seen = append(seen, x)
			continue
		}
		waiting = append(waiting, x)
		k.c.Logger.Info("signing key is not in DNS yet", "domain", x.Domain.String(), "selector", x.Selector, "finding", string(found), "error", err)
	}
	return seen, waiting
}

// publish marks prepared keys that DNS shows.
func (k *Keys) publish(ctx context.Context, domain address.Domain, version int64, seen []Key) error {
	seen = slices.DeleteFunc(seen, func(x Key) bool { return x.Stage != Prepared })
	if len(seen) == 0 {
		return nil
	}
	err := k.change(ctx, domain, version, func(tx db.Tx, now int64) error {
		for _, x := range seen {
			_, err := tx.Exec(`UPDATE dkim_key SET stage = ?, published = ? WHERE domain = ? AND selector = ? AND stage = ?`,
				int64(Published), now, domain.String(), x.Selector, int64(Prepared))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		k.moved(domain, Published, len(seen))
	}
	return err
}

// activate retires the keys that sign, without their private halves, and lets the
// waiting ones sign.
func activate(tx db.Tx, domain address.Domain, now int64) error {
	_, err := tx.Exec(`UPDATE dkim_key SET stage = ?, retired = ?, private = ? WHERE domain = ? AND stage = ?`,
		int64(Retired), now, []byte{}, domain.String(), int64(Active))
	if err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE dkim_key SET stage = ?, activated = ? WHERE domain = ? AND stage IN (?, ?)`,
		int64(Active), now, domain.String(), int64(Prepared), int64(Published))
	return err
}

// settled reports whether every waiting key has been in DNS for long enough.
func (k *Keys) settled(waiting []Key, now time.Time) bool {
	return len(waiting) > 0 && !slices.ContainsFunc(waiting, func(x Key) bool {
		return x.Stage != Published || now.Sub(x.Published) < k.c.Settle
	})
}
