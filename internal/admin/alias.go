package admin

import (
	"context"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/account"
	"poczta.example/poczta/internal/address"
)

// AliasRow is an alias in lists.
type AliasRow struct {
	Address string   `json:"address"` // "@domain" is the catch-all
	Targets []string `json:"targets"`
	// Suspended are targets that get nothing, since mail to them failed.
	Suspended []string `json:"suspended,omitempty"`
	Created   string   `json:"created"`
}

func parseAlias(source string, targets []string) (account.Alias, error) {
	a, err := account.ParseAlias(source)
	if err != nil {
		return account.Alias{}, fmt.Errorf("%w: %q is neither an address nor @domain: %w", ErrUsage, source, err)
	}
	for _, t := range targets {
		x, err := parseAddress(t)
		if err != nil {
			return account.Alias{}, err
		}
		a.Targets = append(a.Targets, x)
	}
	return a, nil
}

// AliasAdd lets mail for source go to the targets, beside those it has.
func (d *Desk) AliasAdd(ctx context.Context, source string, targets []string) error {
	a, err := parseAlias(source, targets)
	if err != nil {
		return err
	}
	if err := d.Rooms.Accounts.AddAlias(ctx, a); err != nil {
		return explain(err, "add alias "+source)
	}
	d.say("Mail for %s goes to %s.", source, strings.Join(targets, ", "))
	return nil
}

// AliasRemove takes targets away, or with none the whole alias.
func (d *Desk) AliasRemove(ctx context.Context, source string, targets []string) error {
	a, err := parseAlias(source, targets)
	if err != nil {
		return err
	}
	return explain(d.Rooms.Accounts.RemoveAlias(ctx, a), "remove alias "+source)
}

// AliasList lists the aliases of a domain, of all with "".
func (d *Desk) AliasList(ctx context.Context, domain string) error {
	var of address.Domain
	if domain != "" {
		var err error
		if of, err = parseDomain(domain); err != nil {
			return err
		}
	}
	var rows []AliasRow
	for after := ""; ; {
		page, err := d.Rooms.Accounts.Aliases(ctx, of, after, account.MaxPageRows)
		if err != nil {
			return explain(err, "list aliases")
		}
		for _, a := range page {
			row := AliasRow{Address: a.String(), Created: stamp(a.Created)}
			for _, t := range a.Targets {
				row.Targets = append(row.Targets, t.String())
			}
			for _, t := range a.Suspended {
				row.Suspended = append(row.Suspended, t.String())
			}
			rows = append(rows, row)
			after = a.Key()
		}
		if len(page) == 0 {
			break
		}
	}
	return table(d, rows, "ADDRESS\tTARGETS", func(r AliasRow) string { return r.Address + "\t" + strings.Join(r.Targets, ", ") })
}
