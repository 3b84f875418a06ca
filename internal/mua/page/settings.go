package page

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/mua/store"
)

// settingsView is the page of the accounts' settings.
type settingsView struct {
	frame
	List    []accountView
	MayKeep bool // accounts can be set up here
}

type accountView struct {
	profile.Account
	AliasText string
	HeadersKB int64
	Problem   string
}

// settings shows the accounts.
func (v *visit) settings() error { return v.showSettings(0, "") }

func (v *visit) showSettings(wrong int64, problem string) error {
	f, err := v.full(v.t.Settings, "settings", where{})
	if err != nil {
		return err
	}
	view := settingsView{frame: f, MayKeep: v.p.cfg.Keeper != nil}
	for _, a := range f.Accounts {
		av := accountView{Account: a, AliasText: strings.Join(a.Aliases, "\n"), HeadersKB: a.Policy.HeadersAbove / 1000}
		if int64(a.ID) == wrong {
			av.Problem = problem
		}
		view.List = append(view.List, av)
	}
	return v.show("settings.html", view)
}

// settled stores an account's settings.
func (v *visit) settled() error {
	if err := v.form(); err != nil {
		return err
	}
	f := v.r.PostForm
	a, err := v.account(accountOf(f.Get("id")))
	if err != nil {
		return err
	}
	if a.Archive {
		return errRequest // it has nothing to set
	}
	problem := ""
	wrong := func(text string) {
		if problem == "" {
			problem = text
		}
	}
	number := func(name string, most int64) int64 {
		text := strings.TrimSpace(f.Get(name))
		n, err := strconv.ParseInt(text, 10, 64)
		if text != "" && (err != nil || n < 0 || n > most) {
			wrong(v.t.about(v.t.BadNumber, text))
		}
		return n
	}
	a.Name = strings.Join(strings.Fields(f.Get("name")), " ")
	a.Signature = strings.TrimRight(strings.ReplaceAll(f.Get("signature"), "\r\n", "\n"), " \n")
	a.Aliases = strings.Fields(strings.ReplaceAll(f.Get("aliases"), ",", " "))
	for _, other := range a.Aliases {
		if _, err := address.Parse(other); err != nil {
			wrong(v.t.about(v.t.BadAddress, other))
		}
	}
	a.Policy.Keep = profile.Keep(f.Get("keep"))
	a.Policy.Days = int(number("days", 1e9))
	if a.Policy.Keep != profile.Days {
		a.Policy.Days = 0
	} else if a.Policy.Days < 1 || a.Policy.Days > 36500 {
		wrong(v.t.BadDays)
	}
	a.Policy.Follow = f.Get("follow") != ""
	a.Policy.HeadersAbove = number("headers_kb", 1<<40) * 1000
	a.Policy.Every = int(number("every", 7*24*3600))
	a.Paused = f.Get("paused") != ""
	if problem == "" {
		if err := a.Validate(); err != nil { // what our form can't say
			problem = v.t.BadRequest
		} else if err := v.p.cfg.Accounts.Update(v.r.Context(), a); err != nil {
			problem = v.t.trouble(err)
		}
	}
	if problem != "" {
		v.w.WriteHeader(http.StatusUnprocessableEntity)
		return v.showSettings(int64(a.ID), problem)
	}
	v.say(flash{Text: v.t.Saved + ": " + a.Address})
	return v.redirect("/settings")
}

// ruleView is a rule in the list, or in its form.
type ruleView struct {
	store.Rule
	Summary string
	First   bool
	Lines   []conditionView
}

type conditionView struct {
	store.Condition
	N  int
	KB int64
}

type rulesView struct {
	frame
	Rules   []ruleView
	Rule    *ruleView
	Folders []string
	Fields  []choice
	Ops     []choice
	Problem string
	Tried   bool
	Found   []row
}

// choice is an entry of a list to choose from.
type choice struct{ Value, Text string }

func (v *visit) choices() (fields, ops []choice) {
	t := v.t
	return []choice{{"from", t.FieldFrom}, {"to", t.FieldTo}, {"subject", t.FieldSubject}, {"list-id", t.FieldList}, {"attachment", t.FieldAttachment}, {"size", t.FieldSize}},
		[]choice{{"contains", t.OpContains}, {"is", t.OpIs}, {"begins", t.OpBegins}, {"ends", t.OpEnds}, {"matches", t.OpMatches}, {"exists", t.OpExists}, {"larger", t.OpLarger}, {"smaller", t.OpSmaller}}
}

// rules shows the rules.
func (v *visit) rules() error {
	f, err := v.full(v.t.Rules, "rules", where{})
	if err != nil {
		return err
	}
	all, err := v.p.cfg.Store.Rules(v.r.Context())
	if err != nil {
		return err
	}
	view := rulesView{frame: f}
	for i, r := range all {
		view.Rules = append(view.Rules, ruleView{Rule: r, Summary: v.summary(r), First: i == 0})
	}
	return v.show("rules.html", view)
}

// summary says what a rule does.
func (v *visit) summary(r store.Rule) string {
	fields, ops := v.choices()
	name := func(of []choice, value string) string {
		for _, c := range of {
			if c.Value == value {
				return c.Text
			}
		}
		return value
	}
	var when, then []string
	for _, c := range r.Conditions {
		s := name(fields, c.Field) + " "
		if c.Not {
			s += v.t.RuleNot + " "
		}
		s += name(ops, c.Op) + " " + c.Value
		if c.Octets > 0 {
			s += strconv.FormatInt(c.Octets/1000, 10)
		}
		when = append(when, strings.TrimSpace(s))
	}
	if r.Move != "" {
		then = append(then, v.t.Move+": "+v.t.folder(r.Move))
	}
	for _, a := range []struct {
		does bool
		word string
	}{{r.Delete, v.t.RuleDelete}, {r.MarkRead, v.t.RuleMarkRead}, {r.Flag, v.t.RuleFlag}} {
		if a.does {
			then = append(then, a.word)
		}
	}
	return strings.Join(when, "; ") + " → " + strings.Join(then, ", ")
}

// rule shows one rule in a form; "new" is a new one.
func (v *visit) rule() error {
	var r store.Rule
	if id := v.r.PathValue("id"); id != "new" {
		all, err := v.p.cfg.Store.Rules(v.r.Context())
		if err != nil {
			return err
		}
		for _, one := range all {
			if strconv.FormatInt(one.ID, 10) == id {
				r = one
			}
		}
		if r.ID == 0 {
			return store.ErrNotFound
		}
	}
	return v.showRule(r, "", nil, false)
}

// maxConditions is how many a form offers.
const maxConditions = 20

func (v *visit) showRule(r store.Rule, problem string, found []store.Trial, tried bool) error {
	title := r.Name
	if r.ID == 0 {
		title = v.t.NewRule
	}
	f, err := v.full(title, "rules", where{})
	if err != nil {
		return err
	}
	view := rulesView{frame: f, Rule: &ruleView{Rule: r}, Folders: v.moves(), Problem: problem, Tried: tried}
	view.Fields, view.Ops = v.choices()
	lines := append(r.Conditions[:len(r.Conditions):len(r.Conditions)], store.Condition{}, store.Condition{})
	for i, c := range lines[:min(len(lines), maxConditions)] {
		if strings.HasPrefix(c.Field, "header:") {
			view.Fields = append(view.Fields, choice{c.Field, c.Field})
		}
		view.Rule.Lines = append(view.Rule.Lines, conditionView{c, i, c.Octets / 1000})
	}
	for _, t := range found {
		view.Found = append(view.Found, v.row(t.Summary, where{Folder: everywhere}))
	}
	return v.show("rule.html", view)
}

// ruled stores, tries, moves up or removes a rule.
func (v *visit) ruled() error {
	if err := v.form(); err != nil {
		return err
	}
	f, ctx := v.r.PostForm, v.r.Context()
	id, err := strconv.ParseInt(f.Get("id"), 10, 64)
	if f.Get("id") != "" && err != nil {
		return errRequest
	}
	switch f.Get("do") {
	case "remove":
		if err := v.p.cfg.Store.RemoveRule(ctx, id); err != nil {
			return err
		}
		return v.redirect("/rules")
	case "up":
		return v.up(id)
	case "apply":
		return v.applyRules()
	}
	r, err := v.ruleOf(id)
	if err != nil {
		return v.ruleProblem(r, err)
	}
	if f.Get("do") == "try" {
		found, _, err := v.p.cfg.Store.TryRule(ctx, r, store.Query{Accounts: r.Accounts, Limit: 200})
		if err != nil {
			return v.ruleProblem(r, err)
		}
		return v.showRule(r, "", found, true)
	}
	if _, err := v.p.cfg.Store.SaveRule(ctx, r); err != nil {
		return v.ruleProblem(r, err)
	}
	v.say(flash{Text: v.t.Saved + ": " + r.Name})
	return v.redirect("/rules")
}

// maxApplied bounds the pages of letters that the rules are applied to by one command.
const maxApplied = 200

// applyRules files what lies in the inboxes as if it arrived now.
func (v *visit) applyRules() error {
	changed := 0
	q := store.Query{Folder: store.Inbox, Limit: 500}
	for range maxApplied {
		n, cursor, err := v.p.cfg.Store.ApplyRules(v.r.Context(), q)
		changed += n
		if err != nil {
			return err
		}
		if q.Cursor = cursor; cursor == "" {
			break
		}
	}
	v.say(flash{Text: v.t.RulesApplied + ": " + v.t.count(changed, nounLetter)})
	return v.redirect("/rules")
}

func (v *visit) ruleProblem(r store.Rule, err error) error {
	v.w.WriteHeader(http.StatusUnprocessableEntity)
	return v.showRule(r, v.t.trouble(err), nil, false)
}

// ruleOf reads the form of a rule. What the form does not show stays as it was.
func (v *visit) ruleOf(id int64) (r store.Rule, err error) {
	if id != 0 {
		all, err := v.p.cfg.Store.Rules(v.r.Context())
		if err != nil {
			return r, err
		}
		for _, one := range all {
			if one.ID == id {
				r = one
			}
		}
	}
	f := v.r.PostForm
	r.Name, r.Any, r.Disabled, r.Move = strings.TrimSpace(f.Get("name")), f.Get("any") != "", f.Get("disabled") != "", f.Get("move")
	r.Flag, r.MarkRead, r.Delete, r.Stop = f.Get("flag") != "", f.Get("read") != "", f.Get("delete") != "", f.Get("stop") != ""
	r.Conditions = nil
	for i := range maxConditions {
		at := "." + strconv.Itoa(i)
		c := store.Condition{Field: f.Get("field" + at), Op: f.Get("op" + at), Value: strings.TrimSpace(f.Get("value" + at)), Not: f.Get("not"+at) != ""}
		if c.Field == "" || c.Value == "" && c.Op != "exists" {
			continue
		}
		if c.Op == "larger" || c.Op == "smaller" {
			kb, perr := strconv.ParseInt(c.Value, 10, 64)
			if perr != nil || kb <= 0 || kb > 1<<40 {
				err = fmt.Errorf("%w: size %q", store.ErrRule, c.Value)
			}
			c.Octets, c.Value = kb*1000, ""
		}
		r.Conditions = append(r.Conditions, c)
	}
	return r, err
}

// up moves a rule one place up.
func (v *visit) up(id int64) error {
	all, err := v.p.cfg.Store.Rules(v.r.Context())
	if err != nil {
		return err
	}
	var ids []int64
	for _, r := range all {
		if r.ID == id && len(ids) > 0 {
			ids = append(ids[:len(ids)-1:len(ids)-1], id, ids[len(ids)-1])
			continue
		}
		ids = append(ids, r.ID)
	}
	if err := v.p.cfg.Store.OrderRules(v.r.Context(), ids); err != nil {
		return err
	}
	return v.redirect("/rules")
}
