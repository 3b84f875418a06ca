package mua

import (
	"context"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/mua/store"
)

// Rules lists the rules in their order.
func (d *Desk) Rules(ctx context.Context) error {
	list, err := d.Mail.Store.Rules(ctx)
	if err != nil {
		return err
	}
	return table(d, list, "ID\tNAME\tWHEN\tTHEN", func(r store.Rule) string {
		when := make([]string, 0, len(r.Conditions))
		for _, c := range r.Conditions {
			text := c.Field + " " + c.Op + " " + c.Value
			if c.Field == "size" {
				text = c.Field + " " + c.Op + " " + size(c.Octets)
			}
			if c.Not {
				text = "not " + text
			}
			when = append(when, flat(text))
		}
		join := " and "
		if r.Any {
			join = " or "
		}
		text := strings.Join(when, join)
		if text == "" {
			text = "always"
		}
		return fmt.Sprintf("%d\t%s\t%s\t%s", r.ID, flat(r.Name), text, actions(r))
	})
}

func actions(r store.Rule) string {
	var out []string
	add := func(on bool, text string) {
		if on {
			out = append(out, text)
		}
	}
	add(r.Disabled, "(disabled)")
	add(r.Move != "", "move to "+flat(r.Move))
	add(r.Flag, "flag")
	add(r.MarkRead, "mark as read")
	add(r.Delete, "to Trash")
	add(r.Stop, "stop")
	return strings.Join(out, ", ")
}

// RuleAdd saves a new rule behind all others.
func (d *Desk) RuleAdd(ctx context.Context, r store.Rule, accounts []string) (err error) {
	if r.Accounts, err = d.numbers(ctx, accounts); err != nil {
		return err
	}
	id, err := d.Mail.Store.SaveRule(ctx, r)
	if err != nil {
		return err
	}
	d.say("Rule %d is saved; it files letters that come from now on. Those that are here: poczta mail rules apply", id)
	return nil
}

// RuleRemove removes rules.
func (d *Desk) RuleRemove(ctx context.Context, numbers []int64) error {
	for _, n := range numbers {
		if err := d.Mail.Store.RemoveRule(ctx, n); err != nil {
			return fmt.Errorf("rule %d: %w", n, err)
		}
		d.say("Rule %d is removed.", n)
	}
	return nil
}

// RuleOrder puts rules into an order; those not named follow.
func (d *Desk) RuleOrder(ctx context.Context, numbers []int64) error {
	return d.Mail.Store.OrderRules(ctx, numbers)
}

// RulesApply files the letters of a folder as if they arrived now.
func (d *Desk) RulesApply(ctx context.Context, l Listing) error {
	q, err := d.query(ctx, l)
	if err != nil {
		return err
	}
	q.Limit = maxPage
	total := 0
	for {
		n, cursor, err := d.Mail.Store.ApplyRules(ctx, q)
		total += n
		if err != nil {
			return err
		}
		if q.Cursor = cursor; cursor == "" {
			return d.did(1, total, "moved or flagged", nil, nil)
		}
	}
}
