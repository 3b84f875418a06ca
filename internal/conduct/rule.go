package conduct

import (
	"errors"
	"fmt"
	"time"

	"poczta.example/poczta/internal/verdict"
)

// Action is what happens to what an account sends; numbers are stored.
type Action uint8

// The actions, the mildest first.
const (
	Allow  Action = iota
	Slow          // refuse for now: 450 4.7.1
	Hold          // take it and set it apart until an operator has looked
	Refuse        // refuse: 550 5.7.1
)

// String is the action's word.
func (a Action) String() string {
	switch a {
	case Allow:
		return "allow"
	case Slow:
		return "slow"
	case Hold:
		return "hold"
	case Refuse:
		return "refuse"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// ParseAction reads slow, hold or refuse.
func ParseAction(s string) (Action, error) {
	for a := Slow; a <= Refuse; a++ {
		if a.String() == s {
			return a, nil
		}
	}
	return 0, fmt.Errorf("unknown action %q: use slow, hold or refuse", s)
}

// Names of the rules, as stored and shown.
const (
	RuleFresh    = "new_recipients"
	RuleRefused  = "refused_recipients"
	RuleSpam     = "spam_sent"
	RuleNetworks = "login_networks"
)

// Rule is a bound within an hour and what happens beyond it. Limit 0 is the default, below 0
// switches the rule off; Action Allow is the default.
type Rule struct {
	Limit  int64
	Action Action
}

// Rules is when conduct is unlike an account. Zero fields are the defaults named.
type Rules struct {
	// Fresh bounds recipients an account never wrote to: 50, hold. Who is used to more may
	// have FreshFactor (2) times the most of an hour within 14 days, up to FreshMost (2,000).
	Fresh       Rule
	FreshFactor int64
	FreshMost   int64
	// Refused bounds refused recipients: 20, hold; they must also be RefusedPercent (30) of
	// all recipients.
	Refused        Rule
	RefusedPercent int64
	// Spam bounds messages that the filters called spam: 5, hold.
	Spam Rule
	// Networks bounds the networks that logins come from: 10, slow.
	Networks Rule
	// For is how long hold and refuse last unless released: 7 days. Slow lasts an hour.
	For time.Duration
}

// Validate reports what makes no sense.
func (r Rules) Validate() error {
	var errs []error
	if r.FreshFactor < 0 || r.FreshMost < 0 {
		errs = append(errs, errors.New("factor and ceiling of new recipients must not be negative"))
	}
	if r.RefusedPercent < 0 || r.RefusedPercent > 100 {
		errs = append(errs, fmt.Errorf("%d percent of refused recipients: use 1 to 100", r.RefusedPercent))
	}
	if r.For < 0 {
		errs = append(errs, errors.New("how long a hold lasts must not be negative"))
	}
	return errors.Join(errs...)
}

func (r Rules) withDefaults() Rules {
	for _, d := range []struct {
		rule *Rule
		def  Rule
	}{{&r.Fresh, Rule{50, Hold}}, {&r.Refused, Rule{20, Hold}}, {&r.Spam, Rule{5, Hold}}, {&r.Networks, Rule{10, Slow}}} {
		if d.rule.Limit == 0 {
			d.rule.Limit = d.def.Limit
		}
		if d.rule.Action == Allow {
			d.rule.Action = d.def.Action
		}
	}
	for _, d := range []struct {
		field *int64
		value int64
	}{{&r.FreshFactor, 2}, {&r.FreshMost, 2000}, {&r.RefusedPercent, 30}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if r.For == 0 {
		r.For = 7 * 24 * time.Hour
	}
	return r
}

// FreshLimit is how many new recipients an hour an account may have whose busiest hour within
// 14 days had usual ones.
func (r Rules) FreshLimit(usual int64) int64 {
	return max(r.Fresh.Limit, min(usual*r.FreshFactor, r.FreshMost))
}

// struck is a rule that strikes.
type struck struct {
	rule   string
	action Action
	detail string
}

// judge finds the severest rule that strikes for what an account sent within an hour.
func (r Rules) judge(s Sent, networks, usual int64) struck {
	worst := struck{}
	strike := func(rule string, a Action, format string, args ...any) {
		if a > worst.action {
			worst = struck{rule, a, fmt.Sprintf(format, args...)}
		}
	}
	if most := r.FreshLimit(usual); r.Fresh.Limit > 0 && s.Fresh > most {
		strike(RuleFresh, r.Fresh.Action, "%d recipients it never wrote to within an hour, where %d are usual and %d allowed", s.Fresh, usual, most)
	}
	if r.Refused.Limit > 0 && s.Refused >= r.Refused.Limit && s.Refused*100 >= s.Recipients*r.RefusedPercent {
		strike(RuleRefused, r.Refused.Action, "%d recipients refused of %d within an hour", s.Refused, s.Recipients)
	}
	if r.Spam.Limit > 0 && s.Spam >= r.Spam.Limit {
		strike(RuleSpam, r.Spam.Action, "%d messages within an hour look like spam", s.Spam)
	}
	if r.Networks.Limit > 0 && networks > r.Networks.Limit {
		strike(RuleNetworks, r.Networks.Action, "logins from %d networks within an hour", networks)
	}
	return worst
}

// lasts is how long a rule's action lasts.
func (r Rules) lasts(a Action) time.Duration {
	if a == Slow {
		return min(time.Hour, r.For)
	}
	return r.For
}

// Decision is what happens to what an account sends now.
type Decision struct {
	Action Action
	Trip   Trip // of an Action that is not Allow
}

// Items is the evidence of a Decision.
func (d Decision) Items() []verdict.Item {
	demand := verdict.Deliver
	switch d.Action {
	case Allow:
		return nil
	case Slow:
		demand = verdict.Defer
	case Hold:
		demand = verdict.Quarantine
	case Refuse:
		demand = verdict.Refuse
	}
	return []verdict.Item{{Name: verdict.OutOfHabit, Detail: d.Trip.Detail, Demand: demand}}
}
