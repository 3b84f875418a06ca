package main

import (
	"context"
	"fmt"
	"strings"

	"poczta.example/poczta/internal/mua"
	"poczta.example/poczta/internal/mua/store"
)

// muaRulesCmd is the rules.
type muaRulesCmd struct {
	List   muaRulesListCmd   `cmd:"" help:"List the rules in their order."`
	Add    muaRulesAddCmd    `cmd:"" help:"Add a rule behind all others."`
	Remove muaRulesRemoveCmd `cmd:"" help:"Remove rules."`
	Order  muaRulesOrderCmd  `cmd:"" help:"Put rules into an order."`
	Apply  muaRulesApplyCmd  `cmd:"" help:"File letters that are here as if they arrived now."`
}

type muaRulesListCmd struct{ asJSON }

func (c *muaRulesListCmd) Do(ctx context.Context, d *mua.Desk) error {
	d.JSON = c.JSON
	return d.Rules(ctx)
}

type muaRulesAddCmd struct {
	Name     string   `arg:"" help:"What you call it."`
	Account  []string `help:"Only for letters of an account; may be repeated."`
	From     []string `help:"The author's name or address contains it."`
	To       []string `help:"To or Cc contains it."`
	Subject  []string `help:"The subject contains it."`
	ListID   []string `name:"list-id" help:"The mailing list's name contains it."`
	Header   []string `help:"Another field contains it, as in X-Spam:yes." placeholder:"NAME:TEXT" sep:"none"`
	File     []string `help:"The name of an attachment contains it."`
	Larger   string   `help:"The letter is larger." placeholder:"SIZE"`
	Any      bool     `help:"One of them is enough; else all must hold."`
	Move     string   `help:"Move to a folder." placeholder:"FOLDER"`
	Flag     bool     `help:"Set a flag."`
	MarkRead bool     `help:"Mark as read."`
	Delete   bool     `help:"To Trash."`
	Stop     bool     `help:"Ask no later rule."`
}

func (c *muaRulesAddCmd) Do(ctx context.Context, d *mua.Desk) error {
	r := store.Rule{Name: c.Name, Any: c.Any, Move: c.Move, Flag: c.Flag, MarkRead: c.MarkRead, Delete: c.Delete, Stop: c.Stop}
	for _, x := range []struct {
		field string
		texts []string
	}{{"from", c.From}, {"to", c.To}, {"subject", c.Subject}, {"list-id", c.ListID}, {"attachment", c.File}} {
		for _, text := range x.texts {
			r.Conditions = append(r.Conditions, store.Condition{Field: x.field, Op: "contains", Value: text})
		}
	}
	for _, h := range c.Header {
		name, text, ok := strings.Cut(h, ":")
		if !ok {
			return fmt.Errorf("%w: --header %q; write NAME:TEXT", mua.ErrUsage, h)
		}
		r.Conditions = append(r.Conditions, store.Condition{Field: "header:" + name, Op: "contains", Value: strings.TrimSpace(text)})
	}
	if c.Larger != "" {
		n, err := octets(c.Larger)
		if err != nil {
			return fmt.Errorf("%w: --larger: %w", mua.ErrUsage, err)
		}
		r.Conditions = append(r.Conditions, store.Condition{Field: "size", Op: "larger", Octets: n})
	}
	return d.RuleAdd(ctx, r, c.Account)
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
