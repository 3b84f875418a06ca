package mua

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"poczta.example/poczta/internal/mua/store"
)

// RuleChange is what RuleSet changes; nil or nothing leaves a thing as it is.
type RuleChange struct {
	Name        string
	Accounts    []string // only for letters of these
	AllAccounts bool     // for those of all again
	// Conditions take the place of those on the same fields.
	Conditions []store.Condition
	Without    []string // fields whose conditions go
	Any        *bool
	// Move is a folder; "" moves no more. It and Delete take each other's place.
	Move                                   *string
	Delete, Flag, MarkRead, Stop, Disabled *bool
}

// RuleSet changes a rule, named as for RuleRemove, in place; what is not said stays.
func (d *Desk) RuleSet(ctx context.Context, word string, c RuleChange) error {
	found, err := d.rulesNamed(ctx, []string{word})
	if err != nil {
		return err
	}
	r := found[0]
	for _, f := range c.Without {
		if !slices.ContainsFunc(r.Conditions, func(k store.Condition) bool { return strings.EqualFold(k.Field, f) }) {
			return fmt.Errorf("%w: "+d.choose("rule %d, %s, has no condition on %s, which could go; poczta mail rules list shows what it looks at",
				"reguła %d, %s, nie ma warunku dla %s, który można by usunąć; poczta mail rules list pokazuje, na co patrzy"), ErrUsage, r.ID, r.Name, f)
		}
	}
	c.apply(&r)
	if len(c.Accounts) > 0 || c.AllAccounts {
		if r.Accounts, err = d.numbers(ctx, c.Accounts); err != nil {
			return err
		}
	}
	if _, err := d.Mail.Store.SaveRule(ctx, r); err != nil {
		return err
	}
	if d.JSON {
		return d.encodeRule(ctx, r)
	}
	rows, err := d.ruleRows(ctx, []store.Rule{r})
	if err != nil {
		return err
	}
	d.say(d.choose("Rule %d, %s, is changed: %s → %s. It files letters that come from now on; those that are here: poczta mail rules apply",
		"Reguła %d, %s, jest zmieniona: %s → %s. Układa listy, które odtąd przyjdą; te, które już tu są: poczta mail rules apply"), r.ID, flat(r.Name), conditions(rows[0]), actions(r))
	return nil
}

// apply puts a change over a rule.
func (c *RuleChange) apply(r *store.Rule) {
	gone := slices.Clone(c.Without)
	for _, k := range c.Conditions {
		gone = append(gone, k.Field)
	}
	kept := slices.DeleteFunc(slices.Clone(r.Conditions), func(k store.Condition) bool {
		return slices.ContainsFunc(gone, func(f string) bool { return strings.EqualFold(f, k.Field) })
	})
	r.Conditions = append(kept, c.Conditions...)
	if c.Name != "" {
		r.Name = c.Name
	}
	if c.Move != nil {
		r.Move = *c.Move
		r.Delete = r.Delete && r.Move == ""
	}
	for _, x := range []struct {
		to  *bool
		now *bool
	}{{&r.Any, c.Any}, {&r.Delete, c.Delete}, {&r.Flag, c.Flag}, {&r.MarkRead, c.MarkRead}, {&r.Stop, c.Stop}, {&r.Disabled, c.Disabled}} {
		if x.now != nil {
			*x.to = *x.now
		}
	}
	if c.Delete != nil && *c.Delete && c.Move == nil {
		r.Move = ""
	}
}

// RuleMove puts a rule, named as for RuleRemove, in a place of the order: 1 is asked first.
func (d *Desk) RuleMove(ctx context.Context, word string, to int) error {
	found, err := d.rulesNamed(ctx, []string{word})
	if err != nil {
		return err
	}
	all, err := d.Mail.Store.Rules(ctx)
	if err != nil {
		return err
	}
	if to < 1 || to > len(all) {
		return fmt.Errorf("%w: "+d.choose("there is no place %d in the order of %d rules; 1 is the first", "w kolejności nie ma miejsca %d; reguł jest %d, a 1 to pierwsza"), ErrUsage, to, len(all))
	}
	order := make([]int64, 0, len(all))
	for _, r := range all {
		if r.ID != found[0].ID {
			order = append(order, r.ID)
		}
	}
	if err := d.Mail.Store.OrderRules(ctx, slices.Insert(order, min(to-1, len(order)), found[0].ID)); err != nil {
		return err
	}
	if d.JSON {
		return d.Rules(ctx)
	}
	d.say(d.choose("Rule %d, %s, is now in place %d of %d.", "Reguła %d, %s, stoi teraz na miejscu %d z %d."), found[0].ID, flat(found[0].Name), to, len(all))
	return nil
}
