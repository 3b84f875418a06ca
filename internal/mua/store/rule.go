package store

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mailbox"
	"poczta.example/poczta/internal/message"
	"poczta.example/poczta/internal/mime"
	"poczta.example/poczta/internal/mua/store/extract"
	"poczta.example/poczta/internal/mua/store/search"
)

// ErrRule is wrapped by the errors of rules that can't be carried out.
var ErrRule = errors.New("the rule can't be carried out")

// Rule files letters that arrive. Rules are asked in their order until one with Stop applies.
type Rule struct {
	ID         int64                `json:"id"` // 0 for a new one
	Name       string               `json:"name"`
	Accounts   []envelope.AccountID `json:"accounts,omitempty"` // none is all
	Disabled   bool                 `json:"disabled,omitempty"`
	Any        bool                 `json:"any,omitempty"` // one condition is enough; else all must hold
	Conditions []Condition          `json:"conditions"`    // none: every letter
	Move       string               `json:"move,omitempty"`
	Flag       bool                 `json:"flag,omitempty"`
	MarkRead   bool                 `json:"mark_read,omitempty"`
	Delete     bool                 `json:"delete,omitempty"` // to Trash
	Stop       bool                 `json:"stop,omitempty"`   // no later rule is asked
}

// Condition is one thing that a rule looks at. Texts are compared without case and diacritics.
type Condition struct {
	// Field is from, to (with Cc), subject, list-id, attachment (a name; every attachment has one,
	// maybe ""), size (of the whole letter, octets), or header:NAME.
	Field string `json:"field"`
	// Op is contains, is, begins, ends, matches (RE2, of the text as it is), exists; of size
	// larger or smaller.
	Op     string `json:"op"`
	Value  string `json:"value,omitempty"`
	Octets int64  `json:"octets,omitempty"` // for larger and smaller
	Not    bool   `json:"not,omitempty"`
}

// Bounds of a rule.
const (
	maxConditions = 50
	maxValue      = 1000
	maxRules      = 1000
)

// compiled is a rule ready to be asked.
type compiled struct {
	Rule
	match []*regexp.Regexp // of conditions that match, else nil
	words []string         // folded values
}

// compile checks a rule.
func (r Rule) compile() (*compiled, error) {
	fail := func(format string, args ...any) (*compiled, error) {
		return nil, fmt.Errorf("%w: %s", ErrRule, fmt.Sprintf(format, args...))
	}
	c := &compiled{Rule: r, match: make([]*regexp.Regexp, len(r.Conditions)), words: make([]string, len(r.Conditions))}
	switch {
	case strings.TrimSpace(r.Name) == "" || len(r.Name) > 200:
		return fail("give it a name of at most 200 octets")
	case len(r.Conditions) > maxConditions:
		return fail("more than %d conditions", maxConditions)
	case r.Move == "" && !r.Flag && !r.MarkRead && !r.Delete && !r.Stop:
		return fail("it does nothing: give it a folder, a flag, or say delete or stop")
	case r.Move != "" && r.Delete:
		return fail("a letter can't be both moved and deleted")
	}
	if r.Move != "" {
		name, err := mailbox.CheckName(r.Move)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRule, err)
		}
		c.Move = name
	}
	for i, k := range r.Conditions {
		if len(k.Value) > maxValue {
			return fail("a value is longer than %d octets", maxValue)
		}
		name, isHeader := strings.CutPrefix(k.Field, "header:")
		switch {
		case isHeader && name != "" && !strings.ContainsAny(name, ": \r\n\t"):
		case slices.Contains([]string{"from", "to", "subject", "list-id", "attachment", "size"}, k.Field):
		default:
			return fail("%q is no field; from, to, subject, list-id, attachment, size and header:NAME are", k.Field)
		}
		ops := []string{"contains", "is", "begins", "ends", "matches", "exists"}
		if k.Field == "size" {
			ops = []string{"larger", "smaller"}
		}
		if !slices.Contains(ops, k.Op) {
			return fail("%s %q is unknown; %s are known", k.Field, k.Op, strings.Join(ops, ", "))
		}
		if k.Op == "matches" {
			re, err := regexp.Compile(k.Value)
			if err != nil {
				return fail("%v", err)
			}
			c.match[i] = re
		} else if c.words[i] = foldLine(k.Value); c.words[i] == "" && slices.Contains([]string{"contains", "is", "begins", "ends"}, k.Op) {
			return fail("the condition on %s says nothing to look for", k.Field)
		}
	}
	return c, nil
}

// foldLine folds a text for comparing; unlike in the index, what is no letter stays.
func foldLine(s string) string {
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() < 8<<10; {
		j := i
		for j < len(s) && (s[j] >= 0x80 || s[j] >= '0' && s[j] <= '9' || s[j]|0x20 >= 'a' && s[j]|0x20 <= 'z') {
			j++
		}
		if j > i {
			b.WriteString(search.Fold(s[i:j], 8<<10))
			i = j
			continue
		}
		if s[i] > ' ' {
			b.WriteByte(s[i])
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), " ") {
			b.WriteByte(' ')
		}
		i++
	}
	return strings.TrimSpace(b.String())
}

// subject is a letter as rules see it. What costs something is read when a rule asks for it.
type candidate struct {
	account envelope.AccountID
	head    *header
	r       io.ReaderAt
	size    int64 // octets of r
	whole   int64 // octets of the whole letter
	files   []string
	read    bool
	err     error
}

// attachments are the names of the attachments.
func (c *candidate) attachments() []string {
	if c.read {
		return c.files
	}
	c.read = true
	root, err := mime.Parse(c.r, c.size, mime.Limits{})
	if err != nil {
		c.err = err
		return nil
	}
	for p := range root.All() {
		if extract.Attachment(p) {
			c.files = append(c.files, p.Filename)
		}
	}
	return c.files
}

// values are the texts that a condition on a field looks at.
func (c *candidate) values(field string) []string {
	switch field {
	case "from":
		return peopleValues(c.head.from)
	case "to":
		return peopleValues(c.head.all)
	case "subject":
		return []string{c.head.subject}
	case "attachment":
		return c.attachments()
	}
	name := strings.TrimPrefix(field, "header:")
	var all []string
	for f := range message.Fields(c.head.raw) {
		if f.Is(name) && len(all) < 100 {
			all = append(all, mime.DecodeWords(f.Value()))
		}
	}
	return all
}

// peopleValues are people as text, and their addresses for "is".
func peopleValues(all []Address) []string {
	var values []string
	for _, a := range all {
		values = append(values, a.Address)
		if a.Name != "" {
			values = append(values, a.Name+" <"+a.Address+">", a.Name)
		}
	}
	return values
}

// applies reports whether the rule concerns the letter.
func (r *compiled) applies(c *candidate) bool {
	if r.Disabled || len(r.Accounts) > 0 && !slices.Contains(r.Accounts, c.account) {
		return false
	}
	for i := range r.Conditions {
		holds := r.holds(i, c)
		if holds && r.Any {
			return true
		}
		if !holds && !r.Any {
			return false
		}
	}
	return !r.Any || len(r.Conditions) == 0
}

// holds reports whether a condition holds.
func (r *compiled) holds(i int, c *candidate) bool {
	k := &r.Conditions[i]
	var holds bool
	switch k.Op {
	case "larger":
		holds = c.whole > k.Octets
	case "smaller":
		holds = c.whole < k.Octets
	case "exists":
		holds = len(c.values(k.Field)) > 0
	default:
		holds = slices.ContainsFunc(c.values(k.Field), func(v string) bool { return r.compare(i, v) })
	}
	return holds != k.Not
}

// compare holds a value against a condition.
func (r *compiled) compare(i int, value string) bool {
	if r.match[i] != nil {
		return r.match[i].MatchString(value)
	}
	value = foldLine(value)
	switch want := r.words[i]; r.Conditions[i].Op {
	case "is":
		return value == want
	case "begins":
		return strings.HasPrefix(value, want)
	case "ends":
		return strings.HasSuffix(value, want)
	default:
		return strings.Contains(value, want)
	}
}

// Filing is what rules make of a letter.
type Filing struct {
	Rules  []string // names of those that applied, in order
	Folder string   // "" when none moved it
	Flags  mailbox.Flags
}

// fileBy asks the rules in their order. The last rule that says where a letter goes decides.
func fileBy(rules []*compiled, c *candidate) Filing {
	var f Filing
	for _, r := range rules {
		if !r.applies(c) {
			continue
		}
		f.Rules = append(f.Rules, r.Name)
		if r.Move != "" {
			f.Folder = r.Move
		}
		if r.Delete {
			f.Folder = Trash
		}
		if r.Flag {
			f.Flags |= mailbox.Flagged
		}
		if r.MarkRead {
			f.Flags |= mailbox.Seen
		}
		if r.Stop {
			break
		}
	}
	return f
}
