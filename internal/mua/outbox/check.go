package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"poczta.example/poczta/internal/address"
	"poczta.example/poczta/internal/db"
	"poczta.example/poczta/internal/envelope"
	"poczta.example/poczta/internal/mua/profile"
	"poczta.example/poczta/internal/resolver"
)

// checkTimeout bounds what DNS may take for one letter; a slow answer is none.
const checkTimeout = 10 * time.Second

// Problem is a recipient whom a letter can't reach.
type Problem struct {
	Address string `json:"address"`
	Text    string `json:"text"` // a sentence
}

// Check says which recipients a letter of an account can't reach: what is no address, and domains
// that DNS says take no mail. Where DNS does not answer, nothing is said. The account's own domain is
// its server's matter; an account that is not there has none.
func (o *Outbox) Check(ctx context.Context, id envelope.AccountID, recipients []string) ([]Problem, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	a, err := o.account(ctx, id)
	if err != nil && !errors.Is(err, profile.ErrNotFound) {
		return nil, err
	}
	var all []Problem
	said := map[string]string{ownDomain(&a): ""}
	for _, s := range recipients {
		a, err := address.Parse(strings.TrimSpace(s))
		if err != nil {
			all = append(all, Problem{Address: s, Text: fmt.Sprintf("%q is no e-mail address.", s)})
			continue
		}
		d := a.Domain().String()
		if _, asked := said[d]; !asked {
			said[d] = o.refuses(ctx, a.Domain())
		}
		if said[d] != "" {
			all = append(all, Problem{Address: s, Text: said[d]})
		}
	}
	return all, nil
}

// ownDomain is the domain of an account's address, "" for none.
func ownDomain(a *profile.Account) string {
	own, err := address.Parse(a.Address)
	if err != nil {
		return ""
	}
	return own.Domain().String()
}

// refuses says why a domain takes no mail, "" when it does or when that is not known.
func (o *Outbox) refuses(ctx context.Context, d address.Domain) string {
	if o.c.Resolver == nil || d.IsLiteral() {
		return ""
	}
	hosts, err := resolver.Exchangers(ctx, o.c.Resolver, d.String())
	switch {
	case err == nil && len(hosts) == 1 && hosts[0].Host == "": // RFC 7505
		return fmt.Sprintf("The domain %s says that it takes no mail.", d.Unicode())
	case errors.Is(err, resolver.ErrName):
		return fmt.Sprintf("There can't be a domain named %s; is it spelled right?", d.Unicode())
	case !errors.Is(err, resolver.ErrNotFound):
		return ""
	case !errors.Is(err, resolver.ErrNoRecords):
		return fmt.Sprintf("There is no domain %s; is it spelled right?", d.Unicode())
	}
	if _, err := resolver.Addrs(ctx, o.c.Resolver, d.String()); errors.Is(err, resolver.ErrNotFound) { // RFC 5321 §5.1
		return fmt.Sprintf("The domain %s has no server that takes mail; is it spelled right?", d.Unicode())
	}
	return ""
}

// refuseDomains refuses the recipients whose domains take no mail. The account's own domain is its
// server's matter.
func (o *Outbox) refuseDomains(ctx context.Context, a *profile.Account, r *row) {
	if o.c.Resolver == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	said := map[string]string{ownDomain(a): ""}
	for i := range r.recipients {
		p := &r.recipients[i]
		to, err := address.Parse(p.path)
		if err != nil || p.state != isWaiting || p.again {
			continue
		}
		d := to.Domain().String()
		why, asked := said[d]
		if !asked {
			why = o.refuses(ctx, to.Domain())
			said[d] = why
		}
		if why != "" {
			p.state, p.code, p.status, p.reply, p.at = isRefused, 0, "5.1.2", db.Text(why), o.micros()
		}
	}
}
