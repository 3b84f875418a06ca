package mua

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/mua/store"
)

// RuleRow is a rule in lists.
type RuleRow struct {
	store.Rule
	Accounts []string `json:"accounts,omitempty"` // their addresses, in place of the Rule's numbers
}

// ruleRows are rules as lists show them.
func (d *Desk) ruleRows(ctx context.Context, list []store.Rule) ([]RuleRow, error) {
	name, err := d.names(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]RuleRow, 0, len(list))
	for _, r := range list {
		row := RuleRow{Rule: r}
		for _, id := range r.Accounts {
			row.Accounts = append(row.Accounts, name(id))
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Rules lists the rules in their order.
func (d *Desk) Rules(ctx context.Context) error {
	list, err := d.Mail.Store.Rules(ctx)
	if err != nil {
		return err
	}
	rows, err := d.ruleRows(ctx, list)
	if err != nil {
		return err
	}
	return table(d, rows, "ID\tNAME\tWHEN\tTHEN", func(r RuleRow) string {
		return fmt.Sprintf("%d\t%s\t%s\t%s", r.ID, flat(r.Name), conditions(r), actions(r.Rule))
	})
}

// conditions say when a rule applies.
func conditions(r RuleRow) string {
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
	if len(r.Accounts) > 0 {
		text = "for " + flat(strings.Join(r.Accounts, ", ")) + ": " + text
	}
	return text
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
	if r.ID, err = d.Mail.Store.SaveRule(ctx, r); err != nil {
		return err
	}
	if d.JSON {
		return d.encodeRule(ctx, r)
	}
	d.say(d.choose("Rule %d is saved; it files letters that come from now on. Those that are here: poczta mail rules apply",
		"Reguła %d jest zapisana; układa listy, które odtąd przyjdą. Te, które już tu są: poczta mail rules apply"), r.ID)
	return nil
}

func (d *Desk) encodeRule(ctx context.Context, r store.Rule) error {
	rows, err := d.ruleRows(ctx, []store.Rule{r})
	if err != nil {
		return err
	}
	return d.encode(rows[0])
}

// RuleRemove removes rules, each named by its number or its name.
func (d *Desk) RuleRemove(ctx context.Context, words []string) error {
	found, err := d.rulesNamed(ctx, words)
	if err != nil {
		return err
	}
	for _, r := range found {
		if err := d.Mail.Store.RemoveRule(ctx, r.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("rule %d: %w", r.ID, err)
		}
		d.say(d.choose("Rule %d, %s, is removed.", "Reguła %d, %s, jest usunięta."), r.ID, r.Name)
	}
	return nil
}

// RuleOrder puts rules, named as for RuleRemove, into an order; those not named follow.
func (d *Desk) RuleOrder(ctx context.Context, words []string) error {
	found, err := d.rulesNamed(ctx, words)
	if err != nil {
		return err
	}
	numbers := make([]int64, len(found))
	for i, r := range found {
		numbers[i] = r.ID
	}
	return d.Mail.Store.OrderRules(ctx, numbers)
}

// rulesNamed finds rules by their numbers or names, each once.
func (d *Desk) rulesNamed(ctx context.Context, words []string) ([]store.Rule, error) {
	all, err := d.Mail.Store.Rules(ctx)
	if err != nil {
		return nil, err
	}
	var found []store.Rule
	for _, w := range words {
		n, _ := strconv.ParseInt(strings.TrimPrefix(w, "#"), 10, 64)
		var named []store.Rule
		for _, r := range all {
			if r.ID == n {
				named = []store.Rule{r}
				break
			}
			if strings.EqualFold(r.Name, w) {
				named = append(named, r)
			}
		}
		switch {
		case len(named) == 0:
			return nil, &explained{fmt.Sprintf(d.choose("there is no rule %s; poczta mail rules list shows them", "nie ma reguły %s; poczta mail rules list pokazuje wszystkie"), w), store.ErrNotFound}
		case len(named) > 1:
			return nil, fmt.Errorf("%w: "+d.choose("%d rules are named %s; name one by its number, as poczta mail rules list shows it", "tyle reguł (%d) nazywa się %s; podaj numer jednej z nich, jak w poczta mail rules list"), ErrUsage, len(named), w)
		case !slices.ContainsFunc(found, func(r store.Rule) bool { return r.ID == named[0].ID }):
			found = append(found, named[0])
		}
	}
	return found, nil
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
			return d.did(1, total, d.choose("{} moved or flagged.", "Przeniesiono albo oznaczono {}."), nil, nil)
		}
	}
}
