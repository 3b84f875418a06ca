package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/store"
)

// muaRulesCmd is the rules.
type muaRulesCmd struct {
	List   muaRulesListCmd   `cmd:"" help:"List the rules in their order."`
	Add    muaRulesAddCmd    `cmd:"" help:"Add a rule behind all others."`
	Set    muaRulesSetCmd    `cmd:"" help:"Change a rule in its place."`
	Remove muaRulesRemoveCmd `cmd:"" help:"Remove rules."`
	Move   muaRulesMoveCmd   `cmd:"" help:"Put one rule in another place of the order."`
	Order  muaRulesOrderCmd  `cmd:"" help:"Put rules into an order."`
	Apply  muaRulesApplyCmd  `cmd:"" help:"File letters that are here as if they arrived now."`
}

type muaRulesListCmd struct{ asJSON }

func (c *muaRulesListCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	return d.Rules(ctx)
}

// ruleConditions say when a rule applies.
type ruleConditions struct {
	From    []string `help:"The author's name or address contains it."`
	To      []string `help:"To or Cc contains it."`
	Subject []string `help:"The subject contains it."`
	ListID  []string `name:"list-id" help:"The mailing list's name contains it."`
	Header  []string `help:"Another field contains it, as in X-Spam:yes." placeholder:"NAME:TEXT" sep:"none"`
	File    []string `help:"The name of an attachment contains it."`
	Larger  string   `help:"The letter is larger." placeholder:"SIZE"`
	When    []string `help:"Any condition, as the list shows it: from, to, subject, list-id, attachment, size or header:NAME, then contains, is, begins, ends, matches (a regular expression), exists, larger or smaller, then a text or a size; not in front turns it round. May be repeated." placeholder:"CONDITION" sep:"none"`
}

func (c *ruleConditions) conditions() (all []store.Condition, err error) {
	for _, x := range []struct {
		field string
		texts []string
	}{{"from", c.From}, {"to", c.To}, {"subject", c.Subject}, {"list-id", c.ListID}, {"attachment", c.File}} {
		for _, text := range x.texts {
			all = append(all, store.Condition{Field: x.field, Op: "contains", Value: text})
		}
	}
	for _, h := range c.Header {
		name, text, ok := strings.Cut(h, ":")
		if !ok {
			return nil, fmt.Errorf("%w: --header %q; write NAME:TEXT", mua.ErrUsage, h)
		}
		all = append(all, store.Condition{Field: "header:" + name, Op: "contains", Value: strings.TrimSpace(text)})
	}
	if c.Larger != "" {
		n, err := octets(c.Larger)
		if err != nil {
			return nil, fmt.Errorf("%w: --larger: %w", mua.ErrUsage, err)
		}
		all = append(all, store.Condition{Field: "size", Op: "larger", Octets: n})
	}
	for _, text := range c.When {
		k, err := condition(text)
		if err != nil {
			return nil, fmt.Errorf("%w: --when %q: %w", mua.ErrUsage, text, err)
		}
		all = append(all, k)
	}
	return all, nil
}

// condition reads a condition as the list of rules shows it. Whether there is such a field, and what can be
// asked of it, the store says.
func condition(text string) (k store.Condition, err error) {
	next := func() (word string) {
		word, text, _ = strings.Cut(strings.TrimSpace(text), " ")
		return word
	}
	if k.Field = next(); strings.EqualFold(k.Field, "not") {
		k.Not, k.Field = true, next()
	}
	kind, name, named := strings.Cut(k.Field, ":")
	if k.Field = strings.ToLower(kind); named { // a header field's name stays as it is written
		k.Field += ":" + name
	}
	k.Op, k.Value = strings.ToLower(next()), strings.TrimSpace(text)
	switch {
	case k.Op == "":
		return k, errors.New("write a field and what is asked of it, as in: subject begins [list]")
	case k.Op == "exists" && k.Value != "":
		return k, errors.New("exists asks only whether the field is there; nothing follows it")
	case k.Op == "larger" || k.Op == "smaller":
		k.Octets, err = octets(k.Value)
		k.Value = ""
	case k.Op == "matches" && k.Value == "":
		return k, errors.New("a regular expression follows matches")
	}
	return k, err
}

type muaRulesAddCmd struct {
	Name    string   `arg:"" help:"What you call it."`
	Account []string `help:"Only for letters of an account; may be repeated."`
	ruleConditions
	asJSON
	Any      bool   `help:"One of them is enough; else all must hold."`
	Move     string `help:"Move to a folder." placeholder:"FOLDER"`
	Flag     bool   `help:"Set a flag."`
	MarkRead bool   `help:"Mark as read."`
	Delete   bool   `help:"To Trash."`
	Stop     bool   `help:"Ask no later rule."`
}

func (c *muaRulesAddCmd) Do(ctx context.Context, d *mua.Desk) (err error) {
	d.JSON = c.JSON
	r := store.Rule{Name: c.Name, Any: c.Any, Move: c.Move, Flag: c.Flag, MarkRead: c.MarkRead, Delete: c.Delete, Stop: c.Stop}
	if r.Conditions, err = c.conditions(); err != nil {
		return err
	}
	return d.RuleAdd(ctx, r, c.Account)
}

type muaRulesSetCmd struct {
	Rule        string   `arg:"" help:"Its number or name."`
	Name        string   `help:"Call it so."`
	Account     []string `help:"Only for letters of an account; may be repeated." xor:"whose"`
	AllAccounts bool     `help:"For the letters of all accounts again." xor:"whose"`
	ruleConditions
	Without  []string `help:"Look no more at from, to, subject, list-id, attachment, size or header:NAME." placeholder:"FIELD"`
	Any      *bool    `negatable:"" help:"One of the conditions is enough; else all must hold."`
	Move     *string  `help:"Move to a folder, in place of deleting." placeholder:"FOLDER" xor:"move"`
	NoMove   bool     `help:"Move no more." xor:"move"`
	Delete   *bool    `negatable:"" help:"To Trash, in place of moving."`
	Flag     *bool    `negatable:"" help:"Set a flag."`
	MarkRead *bool    `negatable:"" help:"Mark as read."`
	Stop     *bool    `negatable:"" help:"Ask no later rule."`
	Pause    bool     `help:"Do not ask this rule for now." xor:"pause"`
	Resume   bool     `help:"Ask it again." xor:"pause"`
	asJSON
}

// Help implements kong's HelpProvider.
func (c *muaRulesSetCmd) Help() string {
	return `What is not said stays as it is. A new condition takes the place of those on the same field.

  poczta mail rules set Invoices --subject invoice --subject receipt --any
  poczta mail rules set Lists --when 'subject begins [list]' --when 'not from is boss@example.org'
  poczta mail rules set 3 --move Work/2026 --no-stop
  poczta mail rules set 3 --without from --pause`
}

func (c *muaRulesSetCmd) Do(ctx context.Context, d *mua.Desk) (err error) {
	d.JSON = c.JSON
	change := mua.RuleChange{Name: c.Name, Accounts: c.Account, AllAccounts: c.AllAccounts, Without: c.Without, Any: c.Any, Move: c.Move, Delete: c.Delete, Flag: c.Flag, MarkRead: c.MarkRead, Stop: c.Stop}
	if c.NoMove {
		change.Move = new(string)
	}
	if c.Pause || c.Resume {
		change.Disabled = &c.Pause
	}
	if change.Conditions, err = c.conditions(); err != nil {
		return err
	}
	if reflect.ValueOf(change).IsZero() {
		return fmt.Errorf("%w: say what to change; poczta mail rules set --help lists it", mua.ErrUsage)
	}
	return d.RuleSet(ctx, c.Rule, change)
}

type muaRulesMoveCmd struct {
	Rule string `arg:"" help:"Its number or name."`
	To   int    `arg:"" help:"Its new place; 1 is asked first."`
	asJSON
}

func (c *muaRulesMoveCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	return d.RuleMove(ctx, c.Rule, c.To)
}

type muaRulesRemoveCmd struct {
	Rules []string `arg:"" name:"rule" help:"Their numbers or names."`
}

func (c *muaRulesRemoveCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.RuleRemove(ctx, c.Rules)
}

type muaRulesOrderCmd struct {
	Rules []string `arg:"" name:"rule" help:"Their numbers or names, the first first; those not named follow."`
}

func (c *muaRulesOrderCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.RuleOrder(ctx, c.Rules)
}

type muaRulesApplyCmd struct{ letterFlags }

func (c *muaRulesApplyCmd) lasts() {}

func (c *muaRulesApplyCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.RulesApply(ctx, c.listing())
}
