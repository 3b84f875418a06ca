// Package verdict weighs what is known of a message and says what to do with it. Evidence,
// score and action are three steps: other packages find Items, Weigh gives each its points by
// one table (Rows), and Decide turns them into an Action with the rule that decided. Values
// only; no clock, network or store.
package verdict

import (
	"fmt"
	"slices"
)

// Action is what happens to a message for one recipient; a later one outweighs those before.
type Action uint8

// The actions.
const (
	Deliver    Action = iota // into the INBOX
	Tag                      // into the INBOX, marked by header fields
	Junk                     // into the junk folder
	Quarantine               // set apart; released by its recipient or an operator
	Defer                    // refused for now (451 4.7.1): greylisting, or a filter that could not look
	Refuse                   // refused for good (550 5.7.1)
	Discard                  // taken and dropped, by a named rule alone
	numActions
)

var actionNames = [numActions]string{"deliver", "tag", "junk", "quarantine", "defer", "refuse", "discard"}

// String is the action's word in the trace, in JSON and in the configuration.
func (a Action) String() string {
	if a < numActions {
		return actionNames[a]
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// ParseAction reads an action's word.
func ParseAction(s string) (Action, error) {
	if i := slices.Index(actionNames[:], s); i >= 0 {
		return Action(i), nil
	}
	return 0, fmt.Errorf("unknown action %q: use deliver, tag, junk, quarantine, defer, refuse or discard", s)
}

// Item is one piece of evidence.
type Item struct {
	Name Name
	// Detail says in plain words what was found, as in "192.0.2.1 is not allowed to send for
	// example.com"; without content, at most MaxDetailOctets count.
	Detail string
	// Scale multiplies the row's weight, for evidence with a degree; 0 is 1.
	Scale float64
	// Demand raises the row's demand, as a filter's own verdict does.
	Demand Action
}

// MaxDetailOctets bounds an Item's Detail.
const MaxDetailOctets = 200

// Weighed is an Item with its points.
type Weighed struct {
	Item
	Points float64 // towards spam when positive
	Demand Action  // least action because of this item alone
}

// Settings are what a decision depends on beside the evidence.
type Settings struct {
	Thresholds Thresholds
	Weights    map[Name]float64 // in place of the table's; nil changes nothing
	// Role is a recipient such as postmaster@ or abuse@, who gets everything but what is
	// dangerous (RFC 5321 §4.5.1, RFC 2142).
	Role bool
}

// Thresholds are the points from which on an action is taken.
type Thresholds struct {
	Tag, Junk, Quarantine, Refuse float64
	// Grey is from which on a stranger is asked to come again; Decide leaves it to its caller.
	Grey float64
	// Second is how many points evidence of other kinds must have so that p=reject refuses
	// instead of setting apart (RFC 9989 §5.4: a policy alone must not refuse).
	Second float64
}

// DefaultThresholds are those of a server whose configuration says nothing.
func DefaultThresholds() Thresholds {
	return Thresholds{Tag: 3, Grey: 4, Junk: 6, Quarantine: 10, Refuse: 15, Second: 3}
}

// Verdict is a decision and what it rests on.
type Verdict struct {
	Action Action
	Score  float64
	Rule   string // the rule that decided, in words
	Items  []Weighed
}

// Weigh gives each item its points. Items of an unknown name have none, and say so.
func Weigh(items []Item, weights map[Name]float64) []Weighed {
	out := make([]Weighed, 0, len(items))
	for _, it := range items {
		row := Rows[it.Name]
		points, changed := weights[it.Name]
		if !changed {
			points = row.Weight
		}
		if it.Scale != 0 {
			points *= it.Scale
		}
		if len(it.Detail) > MaxDetailOctets {
			it.Detail = it.Detail[:MaxDetailOctets]
		}
		out = append(out, Weighed{Item: it, Points: points, Demand: max(row.Demand, it.Demand)})
	}
	return out
}

// Decide weighs the items of one recipient and says what to do.
func Decide(items []Item, s Settings) Verdict {
	v := Verdict{Items: Weigh(items, s.Weights)}
	for _, w := range v.Items {
		v.Score += w.Points
	}
	v.Action, v.Rule = byScore(v.Score, s.Thresholds)
	for _, w := range v.Items {
		if a := demanded(w, v.Items, s.Thresholds); a > v.Action {
			v.Action, v.Rule = a, string(w.Name)
		}
	}
	return v.limited(s)
}

// byScore is the action of a sum of points.
func byScore(score float64, t Thresholds) (Action, string) {
	for _, step := range []struct {
		from   float64
		action Action
	}{{t.Refuse, Refuse}, {t.Quarantine, Quarantine}, {t.Junk, Junk}, {t.Tag, Tag}} {
		if step.from > 0 && score >= step.from {
			return step.action, fmt.Sprintf("score %.1f is at least %.1f", score, step.from)
		}
	}
	return Deliver, fmt.Sprintf("score %.1f is below %.1f", score, t.Tag)
}

// Apart is the rule by which a copy is set apart: the danger that keeps it there whatever the
// score, since people must not release that by themselves, or else Rule.
func (v Verdict) Apart() string {
	most, rule := Junk, v.Rule
	for _, w := range v.Items {
		if Rows[w.Name].Group == Danger && w.Demand > most {
			most, rule = w.Demand, string(w.Name)
		}
	}
	return rule
}

// demanded is what an item asks for by itself. The policy p=reject sets apart, and refuses
// when there is a reason of another kind (RFC 9989 §5.4).
func demanded(w Weighed, all []Weighed, t Thresholds) Action {
	if w.Name != DMARCReject {
		return w.Demand
	}
	others := 0.0
	for _, o := range all {
		if Rows[o.Name].Group != Authentication {
			others += max(0, o.Points)
			if o.Demand >= Quarantine {
				return Refuse
			}
		}
	}
	if t.Second > 0 && others >= t.Second {
		return Refuse
	}
	return w.Demand
}

// limited bounds the action by what recipients and roles are owed. What is dangerous, or what
// a rule of the operator says, stands in any case.
func (v Verdict) limited(s Settings) Verdict {
	least, rule, blocked, allowed := Deliver, "", false, Name("")
	for _, w := range v.Items {
		switch Rows[w.Name].Group {
		case Danger, Operator:
			if w.Demand > least {
				least, rule = w.Demand, string(w.Name)
			}
		case Preference:
			if w.Demand > Deliver {
				blocked = true
			} else if Rows[w.Name].Pardons {
				allowed = w.Name
			}
		}
	}
	switch {
	case s.Role && least > Tag:
		v.Action, v.Rule = least, rule
	case s.Role && v.Action > Tag:
		v.Action, v.Rule = Tag, "role address"
	case allowed != "" && !blocked && v.Action > least:
		v.Action, v.Rule = least, string(allowed)
		if least > Deliver {
			v.Rule = rule
		}
	}
	return v
}
