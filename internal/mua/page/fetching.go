package page

import (
	"slices"
	"strconv"
	"strings"

	"poczta.example/poczta/internal/mua/fetch"
	"poczta.example/poczta/internal/mua/profile"
)

// fetching tells our script how far fetches are; it asks often while one runs.
func (v *visit) fetching() error {
	f := v.bare(v.t.Mail)
	accounts, err := v.known()
	if err != nil {
		return err
	}
	f.Fetching = v.fetches(accounts)
	return v.show("fetching", f)
}

// fetches say how far fetches are that run, a sentence or two each.
func (v *visit) fetches(accounts []profile.Account) (all []string) {
	if v.p.cfg.Fetching == nil {
		return nil
	}
	for _, p := range v.p.cfg.Fetching() {
		i := slices.IndexFunc(accounts, func(a profile.Account) bool { return a.ID == p.Account })
		if i >= 0 {
			all = append(all, v.t.fetch(accounts[i].Address, p))
		}
	}
	return all
}

// fetch says how far a fetch is.
func (t *words) fetch(address string, p fetch.Progress) string {
	text := t.about(t.Fetching, address)
	if p.TotalLetters > 0 {
		text = t.about(t.about(t.about(t.FetchingOf, address), t.number(p.Letters)), t.number(p.TotalLetters))
	}
	if p.Filing > 0 {
		text += " " + t.about(t.FetchingFiled, t.number(p.Filing))
	}
	if p.Deleting > 0 {
		text += " " + t.about(t.FetchingDeleted, t.number(p.Deleting))
	}
	return text
}

// number writes a count with its thousands apart.
func (t *words) number(n int) string {
	s, apart := strconv.Itoa(n), ","
	if t.Lang == polish.Lang {
		apart = "\u00a0"
	}
	var out []string
	for len(s) > 3 {
		out = append(out, s[len(s)-3:])
		s = s[:len(s)-3]
	}
	out = append(out, s)
	slices.Reverse(out)
	return strings.Join(out, apart)
}
